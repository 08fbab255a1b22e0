//! Records in memory: for tests, and for a gateway that is told to keep nothing.
//!
//! Always: the promises of [`Records`], but that all of it ends with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::clock::Clock;
use super::error::{StoreError, WriteError};
use super::records::{KEY_LIMIT, Kept, Page, Position, Records, Space, Write};
use super::rules::{Found, check_lengths, is_expected, is_there, page};

type Key = (&'static str, Vec<u8>);

/// [`Records`] that end with the process.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    kept: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    sequence: u64,
    records: BTreeMap<Key, Kept>,
    /// Space, owner, key.
    owners: BTreeSet<(&'static str, String, Vec<u8>)>,
    /// End, space, key.
    ends: BTreeSet<(u64, &'static str, Vec<u8>)>,
}

impl Memory {
    /// Nothing yet.
    pub fn new(clock: Clock) -> Self {
        Memory { clock, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Tables> {
        // No code below panics between two changes that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn there(&self, space: Space, key: &[u8], now_ms: u64) -> Option<&Kept> {
        self.records.get(&(space.text(), key.to_vec())).filter(|kept| is_there(kept, now_ms))
    }

    fn found(&self, space: Space, key: &[u8], now_ms: u64) -> Found {
        self.there(space, key, now_ms).cloned().map_or(Found::Gone, Found::Here)
    }

    fn remove(&mut self, space: &'static str, key: &[u8]) -> Option<Kept> {
        let kept = self.records.remove(&(space, key.to_vec()))?;
        if let Some(owner) = &kept.owner {
            self.owners.remove(&(space, owner.clone(), key.to_vec()));
        }
        if let Some(end) = kept.expires {
            self.ends.remove(&(end, space, key.to_vec()));
        }
        Some(kept)
    }

    fn put(&mut self, space: &'static str, key: Vec<u8>, kept: Kept) {
        self.remove(space, &key);
        if let Some(owner) = &kept.owner {
            self.owners.insert((space, owner.clone(), key.clone()));
        }
        if let Some(end) = kept.expires {
            self.ends.insert((end, space, key.clone()));
        }
        self.records.insert((space, key), kept);
    }

    fn write(&mut self, writes: Vec<Write>, now_ms: u64) -> Result<Vec<u64>, WriteError> {
        check_lengths(&writes)?;
        let conflict = writes.iter().position(|write| {
            let (Write::Put { space, key, expect, .. } | Write::Delete { space, key, expect }) = write;
            !is_expected(*expect, self.there(*space, key, now_ms))
        });
        if let Some(index) = conflict {
            return Err(WriteError::Conflict(index));
        }
        let mut versions = Vec::with_capacity(writes.len());
        for write in writes {
            self.sequence += 1;
            versions.push(self.sequence);
            match write {
                Write::Put { space, key, value, owner, expires, .. } => {
                    self.put(space.text(), key, Kept { version: self.sequence, value, owner, expires });
                }
                Write::Delete { space, key, .. } => drop(self.remove(space.text(), &key)),
            }
        }
        Ok(versions)
    }

    fn take(&mut self, space: Space, key: &[u8], now_ms: u64) -> Option<Kept> {
        self.there(space, key, now_ms)?;
        self.remove(space.text(), key)
    }

    fn list(&self, space: Space, owner: &str, position: Position<'_>, limit: usize, now_ms: u64) -> Page {
        let place = |key: &[u8]| (space.text(), owner.to_owned(), key.to_vec());
        let below = |entry: &&(&'static str, String, Vec<u8>)| entry.0 == space.text() && entry.1 == owner;
        let entry = |entry: &(&'static str, String, Vec<u8>)| {
            Ok((entry.2.clone(), self.found(space, &entry.2, now_ms)))
        };
        let filled = match position {
            Position::First => page(limit, self.owners.range(place(&[])..).take_while(below).map(entry)),
            Position::After(key) => {
                let range = (Bound::Excluded(place(key)), Bound::Unbounded);
                page(limit, self.owners.range(range).take_while(below).map(entry))
            }
            Position::Last => {
                // The smallest owner after this one.
                let end = (space.text(), format!("{owner}\0"), Vec::new());
                page(limit, self.owners.range(..end).rev().take_while(below).map(entry))
            }
            Position::Before(key) => {
                page(limit, self.owners.range(..place(key)).rev().take_while(below).map(entry))
            }
        };
        filled.unwrap_or_else(|never: Infallible| match never {})
    }

    fn scan(&self, space: Space, position: Position<'_>, limit: usize, now_ms: u64) -> Page {
        let place = |key: &[u8]| (space.text(), key.to_vec());
        let below = |(key, _): &(&Key, &Kept)| key.0 == space.text();
        let entry = |(key, kept): (&Key, &Kept)| {
            let found = if is_there(kept, now_ms) { Found::Here(kept.clone()) } else { Found::Gone };
            Ok((key.1.clone(), found))
        };
        let filled = match position {
            Position::First => page(limit, self.records.range(place(&[])..).take_while(below).map(entry)),
            Position::After(key) => {
                let range = (Bound::Excluded(place(key)), Bound::Unbounded);
                page(limit, self.records.range(range).take_while(below).map(entry))
            }
            Position::Last => {
                // No key is so long.
                let end = place(&[u8::MAX; KEY_LIMIT + 1]);
                page(limit, self.records.range(..end).rev().take_while(below).map(entry))
            }
            Position::Before(key) => {
                page(limit, self.records.range(..place(key)).rev().take_while(below).map(entry))
            }
        };
        filled.unwrap_or_else(|never: Infallible| match never {})
    }

    fn purge(&mut self, limit: usize, now_ms: u64) -> usize {
        let due = (now_ms.saturating_add(1), "", Vec::new());
        let expired: Vec<_> = self.ends.range(..due).take(limit).cloned().collect();
        for (_, space, key) in &expired {
            self.remove(space, key);
        }
        expired.len()
    }
}

impl Records for Memory {
    fn get<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        async move { Ok(self.kept().there(space, key, self.clock.now_ms()).cloned()) }.boxed()
    }

    fn write(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<u64>, WriteError>> {
        async move { self.kept().write(writes, self.clock.now_ms()) }.boxed()
    }

    fn take<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        async move { Ok(self.kept().take(space, key, self.clock.now_ms())) }.boxed()
    }

    fn list<'a>(
        &'a self,
        space: Space,
        owner: &'a str,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move { Ok(self.kept().list(space, owner, position, limit, self.clock.now_ms())) }.boxed()
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        async move { Ok(self.kept().scan(space, position, limit, self.clock.now_ms())) }.boxed()
    }

    fn purge(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        async move { Ok(self.kept().purge(limit, self.clock.now_ms())) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}
