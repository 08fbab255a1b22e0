//! Why the store did not do what it was asked.

use std::sync::Arc;

use super::records::Space;

/// Why the store did not answer or did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space is left: nothing was written; reads go on, and writes do when there is space again (F48).
    #[error("no space left for the store")]
    Full,
    /// The disk failed. A write may or may not be there later; it was not acknowledged.
    #[error("the store's disk failed: {0}")]
    Io(Arc<str>),
    /// This record does not verify; others do.
    #[error("a record of {} in the store is damaged", .0.text())]
    Damaged(Space),
    /// The store as a whole does not verify.
    #[error("the store is damaged ({0}); `switchyard store repair` saves what can be read")]
    Corrupt(Arc<str>),
    /// More is asked of the store than it can do now: nothing was written, try again (F49).
    #[error("the store is busy")]
    Busy,
    /// Another process has it open.
    #[error("the store is in use by another process")]
    Locked,
    /// A newer release wrote it.
    #[error("the store has format {found}, and this release knows formats up to {known}")]
    Newer {
        /// Format of the store.
        found: u32,
        /// The newest format that this release knows.
        known: u32,
    },
    /// A key, owner or value is longer than records can be.
    #[error("too long for a record")]
    TooLong,
    /// The store was closed: the gateway ends.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same may well be answered a little later.
    pub fn may_retry(&self) -> bool {
        matches!(self, StoreError::Busy)
    }
}

/// Why a transaction was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// What the change of this index expected was not there; nothing was written.
    #[error("the record was changed meanwhile")]
    Conflict(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
