//! Looking at a store that nobody has open, and saving what can be read of a damaged one.
//!
//! Always: looking changes nothing; repairing writes a new file and keeps the old one beside it; a record is saved only if
//! its checksum holds below its key. Blocks. Not here: the engine's own recovery after a crash, which needs no command.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadTransaction, ReadableDatabase as _};
use serde::Serialize;

use super::cause::{Cause, of_disk};
use super::engine::{builder, founded, guarded, verify};
use super::layout::{split_record_key, unframe};
use super::medium::{Disk, create, sync_folder};
use super::overlay::Overlay;
use super::salvage;
use super::tables::{self, Changes};
use crate::store::error::StoreError;
use crate::store::records::Kept;

/// What a look at a store found.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct Finding {
    /// Whole records of each space, expired ones included.
    pub records: BTreeMap<String, usize>,
    /// Spaces and keys (as hexadecimal digits) of records that do not verify.
    pub damaged: Vec<String>,
    /// What is wrong with the store as a whole; then nothing else can be told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl Finding {
    /// Whether there is nothing to repair.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.broken.is_none()
    }
}

/// What a repair did.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Repaired {
    /// What was wrong.
    pub found: Finding,
    /// Saved records of each space.
    pub saved: BTreeMap<String, usize>,
    /// Whether pages had to be searched one by one: then records that had been removed may be back.
    pub searched: bool,
    /// Where the damaged store was put.
    pub kept_as: PathBuf,
}

/// Looks at a store: at the file, or at the one in a directory. An error if it cannot be looked at: it is not there, in
/// use, or of a newer release.
pub fn check(path: &Path) -> Result<Finding, StoreError> {
    let path = file_of(path);
    match guarded(|| look(&open_above(&path, &builder())?)) {
        Ok(finding) => Ok(finding),
        Err(cause) => match StoreError::from(cause) {
            StoreError::Corrupt(why) => Ok(Finding { broken: Some(why.to_string()), ..Finding::default() }),
            error => Err(error),
        },
    }
}

/// Saves every record that verifies into a new file, which takes the place of the old one; `None`: nothing is damaged.
pub fn repair(path: &Path) -> Result<Option<Repaired>, StoreError> {
    let path = file_of(path);
    let found = check(&path)?;
    if found.is_whole() {
        return Ok(None);
    }
    let mut records = Records::new();
    // Without a look at the engine's own checksums: of what they refuse, much may be readable.
    let read = guarded(|| {
        let engine = open_above(&path, &Builder::new())?;
        let snapshot = engine.begin_read()?;
        // From both ends, if there is a gap that cannot be crossed.
        let in_order = guarded(|| collect(&snapshot, false, &mut records));
        if in_order.is_err() {
            let _ = guarded(|| collect(&snapshot, true, &mut records));
        }
        in_order
    });
    let searched = read.is_err();
    if searched {
        salvage::search(&path, &mut records).map_err(|error| of_disk(&error))?;
    }
    let mut saved = BTreeMap::new();
    for record in records.keys() {
        *saved.entry(space_of(record)).or_insert(0) += 1;
    }
    let kept_as = replace(&path, &records)?;
    Ok(Some(Repaired { found, saved, searched, kept_as }))
}

/// Whole records by their keys.
pub(super) type Records = BTreeMap<Vec<u8>, Kept>;

fn file_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(crate::store::STORE_FILE) } else { path.to_owned() }
}

/// Opens a file so that nothing of it changes.
fn open_above(path: &Path, builder: &Builder) -> Result<Database, Cause> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| Cause::from(of_disk(&error)))?;
    let above = Overlay::over(FileBackend::new(file)?).map_err(|error| Cause::from(of_disk(&error)))?;
    let engine = builder.create_with_backend(above)?;
    verify(&engine)?;
    Ok(engine)
}

fn look(engine: &Database) -> Result<Finding, Cause> {
    let mut finding = Finding::default();
    tables::each(&engine.begin_read()?, false, |record, frame| {
        if unframe(record, frame).is_some() {
            *finding.records.entry(space_of(record)).or_default() += 1;
        } else {
            let key = split_record_key(record).map_or(record, |(_, key)| key);
            let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            finding.damaged.push(format!("{} {digits}", space_of(record)));
        }
    })?;
    Ok(finding)
}

fn collect(snapshot: &ReadTransaction, backwards: bool, records: &mut Records) -> Result<(), Cause> {
    tables::each(snapshot, backwards, |record, frame| {
        if let Some(kept) = unframe(record, frame) {
            records.insert(record.to_vec(), kept);
        }
    })
}

fn space_of(record: &[u8]) -> String {
    split_record_key(record).map_or_else(|| "?".to_owned(), |(word, _)| word.to_owned())
}

/// Puts a new store with these records in the place of the old one, which stays beside it. At no moment is there none.
fn replace(path: &Path, records: &Records) -> Result<PathBuf, StoreError> {
    let draft = path.with_extension("repaired");
    guarded(|| {
        let of_disk = |error: io::Error| Cause::from(of_disk(&error));
        let new = || create(&draft).and_then(Disk::of).map_err(of_disk);
        founded(new()?)?;
        let engine = builder().open(&draft)?;
        let transaction = engine.begin_write()?;
        let mut changes = Changes::begin(&transaction)?;
        for (record, kept) in records {
            changes.put(record, kept)?;
        }
        changes.skip_versions();
        changes.finish()?;
        transaction.commit()?;
        Ok(engine.close()?)
    })
    .map_err(StoreError::from)?;
    let swapped = || {
        let kept_as = aside(path)?;
        std::fs::hard_link(path, &kept_as)?;
        std::fs::rename(&draft, path)?;
        sync_folder(path)?;
        Ok(kept_as)
    };
    swapped().map_err(|error: io::Error| of_disk(&error))
}

/// A name beside the store that nothing has.
fn aside(path: &Path) -> io::Result<PathBuf> {
    let names = (1..=999).map(|number| path.with_extension(format!("damaged-{number}")));
    let free = names.into_iter().find(|name| matches!(name.try_exists(), Ok(false)));
    free.ok_or_else(|| io::Error::other("there are too many damaged stores beside it"))
}
