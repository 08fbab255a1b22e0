//! Records of a store whose tables cannot be read in order: its pages are searched one by one.
//!
//! Always: what is given verifies below its key, and is the newest of its key that was found. A page that the engine had
//! given up may still be there, so that a removed record can come back: only a search that finds more than the tables
//! give is worth that. The form of a leaf is that of redb's file format 3.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::check::Records;
use super::layout::{split_record_key, unframe};

const PAGE: usize = 4096;
/// First byte of a leaf.
const LEAF: u8 = 1;
const HEAD: usize = 4;
/// Longest stretch that is read for one leaf: a page of the engine is as long as its largest record asks for.
const LONGEST: usize = crate::store::records::VALUE_LIMIT + PAGE;

/// Adds what the pages hold and `records` does not have, or has of an older version.
pub(super) fn search(path: &Path, records: &mut Records) -> io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = vec![0; PAGE];
    let mut at = 0;
    while at < length {
        let here = usize::try_from(length - at).unwrap_or(usize::MAX);
        let page = &mut head[..here.min(PAGE)];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(page)?;
        if let Some(end) = end_of_leaf(page).filter(|end| *end <= here.min(LONGEST)) {
            let mut leaf = page[..end.min(page.len())].to_vec();
            if end > leaf.len() {
                let start = leaf.len();
                leaf.resize(end, 0);
                file.read_exact(&mut leaf[start..])?;
            }
            pairs(&leaf).for_each(|(record, frame)| add(records, record, frame));
        }
        at += PAGE as u64;
    }
    Ok(())
}

fn add(records: &mut Records, record: &[u8], frame: &[u8]) {
    if split_record_key(record).is_none() {
        return;
    }
    let Some(kept) = unframe(record, frame) else { return };
    if records.get(record).is_none_or(|known| known.version < kept.version) {
        records.insert(record.to_vec(), kept);
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

fn count(page: &[u8]) -> Option<usize> {
    let two = page.get(2..HEAD)?.try_into().ok()?;
    (page[0] == LEAF).then(|| usize::from(u16::from_le_bytes(two))).filter(|count| *count > 0)
}

/// Where the last value of a leaf ends, if this is one.
fn end_of_leaf(page: &[u8]) -> Option<usize> {
    let count = count(page)?;
    number(page, HEAD + 4 * (2 * count - 1))
}

/// Keys and values of a leaf, as far as its numbers make sense.
fn pairs(leaf: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let count = count(leaf).unwrap_or_default();
    let ends = HEAD + 8 * count;
    let key_end = move |index: usize| number(leaf, HEAD + 4 * index);
    let value_end = move |index: usize| number(leaf, HEAD + 4 * (count + index));
    (0..count).filter_map(move |index| {
        let key_start = if index == 0 { ends } else { key_end(index - 1)? };
        let value_start = if index == 0 { key_end(count - 1)? } else { value_end(index - 1)? };
        Some((leaf.get(key_start..key_end(index)?)?, leaf.get(value_start..value_end(index)?)?))
    })
}
