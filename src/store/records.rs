//! Records: the one kind of durable state. A key in a space has a value, a version, perhaps an owner and an end.
//!
//! Always, whatever keeps them: a write is all or nothing, and has reached the disk when it resolves (where there is one);
//! a version is never used twice, not even by another key; an expired record is not there, also before it is purged; what
//! does not verify is an error for its key, never another value. Not here: what values mean, who may see them.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::error::{StoreError, WriteError};

/// A kind of record: one word of at most 64 bytes, chosen by the module that owns the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space(&'static str);

impl Space {
    /// A kind of record.
    pub const fn new(word: &'static str) -> Self {
        assert!(!word.is_empty() && word.len() <= 64, "a space is one short word");
        Space(word)
    }

    /// Its word.
    pub fn text(self) -> &'static str {
        self.0
    }
}

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Larger than that of every write before it, of whatever key; what [`Expect::Version`] names.
    pub version: u64,
    /// What was put.
    pub value: Bytes,
    /// Below whom it is listed.
    pub owner: Option<String>,
    /// Milliseconds since 1970 from which on it is not there any more.
    pub expires: Option<u64>,
}

/// What a write expects of its key, before the whole transaction. An expired record is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Absent,
    /// The record of this version is there.
    Version(u64),
}

/// One change. Of two changes of one key in a transaction the later one stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts a record, in place of what was there.
    Put {
        /// Kind of record.
        space: Space,
        /// At most [`KEY_LIMIT`] bytes.
        key: Vec<u8>,
        /// At most [`VALUE_LIMIT`] bytes.
        value: Bytes,
        /// Below whom it is listed; at most [`KEY_LIMIT`] bytes.
        owner: Option<String>,
        /// Milliseconds since 1970 from which on it is not there any more.
        expires: Option<u64>,
        /// What has to be there before.
        expect: Expect,
    },
    /// Removes a record; one that is not there is no error under [`Expect::Any`].
    Delete {
        /// Kind of record.
        space: Space,
        /// Its key.
        key: Vec<u8>,
        /// What has to be there before.
        expect: Expect,
    },
}

/// Longest key and longest owner, bytes.
pub const KEY_LIMIT: usize = 1024;

/// Longest value, bytes.
pub const VALUE_LIMIT: usize = 64 * 1024 * 1024;

/// From where a list goes on, and in which direction. Positions are keys, and need not be there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position<'a> {
    /// From the smallest key on.
    First,
    /// Keys larger than this one, growing.
    After(&'a [u8]),
    /// From the largest key down.
    Last,
    /// Keys smaller than this one, falling.
    Before(&'a [u8]),
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and records, in the order asked for. May be fewer than asked for, even none, while more follow.
    pub items: Vec<(Vec<u8>, Kept)>,
    /// Keys of records on this stretch that do not verify: told, for they are neither absent nor known.
    pub damaged: Vec<Vec<u8>>,
    /// Where the next page goes on, in the same direction; `None`: nothing follows.
    pub next: Option<Vec<u8>>,
}

/// The records of one store. Dropping a future of a write leaves open whether it is written.
pub trait Records: Send + Sync + Debug {
    /// The record of a key.
    fn get<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>>;

    /// Makes all changes, in one transaction, or none; resolves when they are on the disk, with the version of each (of a
    /// removal: the version under which it happened).
    fn write(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<u64>, WriteError>>;

    /// Removes a record and gives it: to one of all that ask at the same time.
    fn take<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>>;

    /// Records of one owner in order of their keys; a page costs the same however many there are.
    fn list<'a>(
        &'a self,
        space: Space,
        owner: &'a str,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// Records of a space in order of their keys, whoever owns them.
    fn scan<'a>(
        &'a self,
        space: Space,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// Removes at most `limit` of the records that have expired, and tells how many.
    fn purge(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Finishes what was begun; what comes later is answered with [`StoreError::Closed`] where there is anything to close.
    fn close(&self) -> BoxFuture<'_, ()>;
}
