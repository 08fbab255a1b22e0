//! The tables of the store, and what is done to them within one transaction.
//!
//! Always: entries of owners and ends are written with the record they point to; one without its record is passed over,
//! so that a damaged record can be replaced though nobody knows its old entries. Not here: threads, files, recovery.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::cause::Cause;
use super::layout::{after_all, end_key, frame, owner_key, owner_prefix, record_key, split_end_key, unframe};
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Expect, Kept, Page, Position, Space, Write};
use crate::store::rules::{Found, check_lengths, is_expected, is_there, page};

type Raw = &'static [u8];
pub(super) const RECORDS: TableDefinition<'static, Raw, Raw> = TableDefinition::new("records");
const OWNERS: TableDefinition<'static, Raw, ()> = TableDefinition::new("owners");
const ENDS: TableDefinition<'static, Raw, ()> = TableDefinition::new("ends");
const NUMBERS: TableDefinition<'static, &'static str, u64> = TableDefinition::new("numbers");

/// The format of the tables; a store of a larger one is left alone.
pub(super) const FORMAT: u32 = 1;
const FORMAT_KEY: &str = "format";
const SEQUENCE_KEY: &str = "sequence";

/// The format of a store; `None`: nothing was ever written to it.
pub(super) fn format(transaction: &ReadTransaction) -> Result<Option<u64>, Cause> {
    match transaction.open_table(NUMBERS) {
        Ok(numbers) => Ok(numbers.get(FORMAT_KEY)?.map(|found| found.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether there is any table.
pub(super) fn is_empty(transaction: &ReadTransaction) -> Result<bool, Cause> {
    Ok(transaction.list_tables()?.next().is_none())
}

/// Makes the tables of an empty store, in one transaction.
pub(super) fn found(transaction: &WriteTransaction) -> Result<(), Cause> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(OWNERS)?;
    transaction.open_table(ENDS)?;
    transaction.open_table(NUMBERS)?.insert(FORMAT_KEY, u64::from(FORMAT))?;
    Ok(())
}

/// The record below a key: its own, a damaged one, or none.
fn found_in(records: &impl ReadableTable<Raw, Raw>, record: &[u8], now_ms: u64) -> Result<Found, Cause> {
    let Some(bytes) = records.get(record)? else { return Ok(Found::Gone) };
    Ok(match unframe(record, bytes.value()) {
        None => Found::Damaged,
        Some(kept) if is_there(&kept, now_ms) => Found::Here(kept),
        Some(_) => Found::Gone,
    })
}

/// The record of a key.
pub(super) fn get(
    transaction: &ReadTransaction,
    space: Space,
    key: &[u8],
    now_ms: u64,
) -> Result<Option<Kept>, Cause> {
    match found_in(&transaction.open_table(RECORDS)?, &record_key(space, key), now_ms)? {
        Found::Here(kept) => Ok(Some(kept)),
        Found::Gone => Ok(None),
        Found::Damaged => Err(StoreError::Damaged(space).into()),
    }
}

type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A stretch of a table below a prefix, and whether it is gone through backwards.
fn stretch(prefix: &[u8], position: Position<'_>) -> (Bounds, bool) {
    let start = Bound::Included(prefix.to_vec());
    let end = Bound::Excluded(after_all(prefix));
    let at = |key: &[u8]| Bound::Excluded([prefix, key].concat());
    match position {
        Position::First => ((start, end), false),
        Position::After(key) => ((at(key), end), false),
        Position::Last => ((start, end), true),
        Position::Before(key) => ((start, at(key)), true),
    }
}

/// Records of one owner, in order of their keys.
pub(super) fn list(
    transaction: &ReadTransaction,
    space: Space,
    owner: &str,
    (position, limit): (Position<'_>, usize),
    now_ms: u64,
) -> Result<Page, Cause> {
    let records = transaction.open_table(RECORDS)?;
    let owners = transaction.open_table(OWNERS)?;
    let prefix = owner_prefix(space, owner);
    let ((start, end), backwards) = stretch(&prefix, position);
    let mut range = owners.range::<&[u8]>((as_slice(&start), as_slice(&end)))?;
    let entries = std::iter::from_fn(|| if backwards { range.next_back() } else { range.next() });
    page(
        limit,
        entries.map(|entry| {
            let (entry, ()) = entry.map(|(key, _)| (key, ()))?;
            let key = entry.value()[prefix.len()..].to_vec();
            let found = match found_in(&records, &record_key(space, &key), now_ms)? {
                Found::Here(kept) if kept.owner.as_deref() != Some(owner) => Found::Gone,
                found => found,
            };
            Ok((key, found))
        }),
    )
}

/// Records of a space, in order of their keys.
pub(super) fn scan(
    transaction: &ReadTransaction,
    space: Space,
    (position, limit): (Position<'_>, usize),
    now_ms: u64,
) -> Result<Page, Cause> {
    let records = transaction.open_table(RECORDS)?;
    let prefix = record_key(space, &[]);
    let ((start, end), backwards) = stretch(&prefix, position);
    let mut range = records.range::<&[u8]>((as_slice(&start), as_slice(&end)))?;
    let entries = std::iter::from_fn(|| if backwards { range.next_back() } else { range.next() });
    page(
        limit,
        entries.map(|entry| {
            let (record, bytes) = entry?;
            let found = match unframe(record.value(), bytes.value()) {
                None => Found::Damaged,
                Some(kept) if is_there(&kept, now_ms) => Found::Here(kept),
                Some(_) => Found::Gone,
            };
            Ok((record.value()[prefix.len()..].to_vec(), found))
        }),
    )
}

/// Every record and its frame, whole or not; those that were seen before an error were seen.
pub(super) fn each(
    transaction: &ReadTransaction,
    backwards: bool,
    mut see: impl FnMut(&[u8], &[u8]),
) -> Result<(), Cause> {
    let records = transaction.open_table(RECORDS)?;
    let mut range = records.iter()?;
    while let Some(entry) = if backwards { range.next_back() } else { range.next() } {
        let (record, frame) = entry?;
        see(record.value(), frame.value());
    }
    Ok(())
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// The tables, open for changes.
pub(super) struct Changes<'t> {
    records: Table<'t, Raw, Raw>,
    owners: Table<'t, Raw, ()>,
    ends: Table<'t, Raw, ()>,
    numbers: Table<'t, &'static str, u64>,
    sequence: u64,
    is_changed: bool,
    now_ms: u64,
}

impl<'t> Changes<'t> {
    /// Opens them.
    pub(super) fn begin(transaction: &'t WriteTransaction) -> Result<Self, Cause> {
        let numbers = transaction.open_table(NUMBERS)?;
        let sequence = numbers.get(SEQUENCE_KEY)?.map_or(0, |found| found.value());
        Ok(Changes {
            records: transaction.open_table(RECORDS)?,
            owners: transaction.open_table(OWNERS)?,
            ends: transaction.open_table(ENDS)?,
            numbers,
            sequence,
            is_changed: false,
            now_ms: 0,
        })
    }

    /// What follows happens at this time.
    pub(super) fn at(&mut self, now_ms: u64) -> &mut Self {
        self.now_ms = now_ms;
        self
    }

    /// Leaves out as many versions as may have been given to records that are lost.
    pub(super) fn skip_versions(&mut self) {
        (self.sequence, self.is_changed) = (self.sequence + (1 << 32), true);
    }

    /// Keeps the number of the last change; the tables are closed then, and the transaction can be committed.
    /// Tells whether there was any change.
    pub(super) fn finish(mut self) -> Result<bool, Cause> {
        if self.is_changed {
            self.numbers.insert(SEQUENCE_KEY, self.sequence)?;
        }
        Ok(self.is_changed)
    }

    /// Makes the changes if all expectations hold; the outer error is that of the whole transaction.
    pub(super) fn write(&mut self, writes: &[Write]) -> Result<Result<Vec<u64>, WriteError>, Cause> {
        if let Err(error) = check_lengths(writes) {
            return Ok(Err(error.into()));
        }
        for (index, write) in writes.iter().enumerate() {
            let (Write::Put { space, key, expect, .. } | Write::Delete { space, key, expect }) = write;
            let there = match found_in(&self.records, &record_key(*space, key), self.now_ms)? {
                Found::Here(kept) => Some(kept),
                Found::Gone => None,
                Found::Damaged => match expect {
                    Expect::Any => None,
                    Expect::Absent => return Ok(Err(WriteError::Conflict(index))),
                    Expect::Version(_) => return Ok(Err(StoreError::Damaged(*space).into())),
                },
            };
            if !is_expected(*expect, there.as_ref()) {
                return Ok(Err(WriteError::Conflict(index)));
            }
        }
        let versions = writes.iter().map(|write| self.apply(write));
        Ok(Ok(versions.collect::<Result<_, _>>()?))
    }

    fn apply(&mut self, write: &Write) -> Result<u64, Cause> {
        (self.sequence, self.is_changed) = (self.sequence + 1, true);
        let version = self.sequence;
        match write {
            Write::Delete { space, key, .. } => self.remove(&record_key(*space, key))?,
            Write::Put { space, key, value, owner, expires, .. } => {
                let record = record_key(*space, key);
                let kept = Kept { version, value: value.clone(), owner: owner.clone(), expires: *expires };
                self.put(&record, &kept)?;
            }
        }
        Ok(version)
    }

    /// Puts a record as it is, its version included.
    pub(super) fn put(&mut self, record: &[u8], kept: &Kept) -> Result<(), Cause> {
        self.remove(record)?;
        (self.sequence, self.is_changed) = (self.sequence.max(kept.version), true);
        self.records.insert(record, frame(record, kept).as_slice())?;
        if let Some(owner) = kept.owner.as_deref().and_then(|owner| owner_key(record, owner)) {
            self.owners.insert(owner.as_slice(), ())?;
        }
        if let Some(end) = kept.expires {
            self.ends.insert(end_key(end, record).as_slice(), ())?;
        }
        Ok(())
    }

    fn remove(&mut self, record: &[u8]) -> Result<(), Cause> {
        let old = self.records.remove(record)?.and_then(|bytes| unframe(record, bytes.value()));
        let Some(old) = old else { return Ok(()) };
        if let Some(owner) = old.owner.as_deref().and_then(|owner| owner_key(record, owner)) {
            self.owners.remove(owner.as_slice())?;
        }
        if let Some(end) = old.expires {
            self.ends.remove(end_key(end, record).as_slice())?;
        }
        Ok(())
    }

    /// Removes a record and gives it.
    pub(super) fn take(
        &mut self,
        space: Space,
        key: &[u8],
    ) -> Result<Result<Option<Kept>, StoreError>, Cause> {
        let record = record_key(space, key);
        Ok(match found_in(&self.records, &record, self.now_ms)? {
            Found::Gone => Ok(None),
            Found::Damaged => Err(StoreError::Damaged(space)),
            Found::Here(kept) => {
                self.remove(&record)?;
                self.is_changed = true;
                Ok(Some(kept))
            }
        })
    }

    /// Removes at most `limit` records whose end has come, and tells of how many.
    pub(super) fn purge(&mut self, limit: usize) -> Result<usize, Cause> {
        let due = self.now_ms.saturating_add(1).to_be_bytes();
        let mut entries = Vec::new();
        for entry in self.ends.range::<&[u8]>(..&due[..])?.take(limit) {
            entries.push(entry?.0.value().to_vec());
        }
        for entry in &entries {
            self.ends.remove(entry.as_slice())?;
            let Some((end, record)) = split_end_key(entry) else { continue };
            let is_its = self.records.get(record)?.is_some_and(|bytes| {
                unframe(record, bytes.value()).is_some_and(|kept| kept.expires == Some(end))
            });
            if is_its {
                self.remove(record)?;
            }
        }
        self.is_changed |= !entries.is_empty();
        Ok(entries.len())
    }
}
