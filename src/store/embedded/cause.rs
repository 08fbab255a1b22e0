//! What the engine's errors mean for the store.

use std::io;

use crate::store::error::StoreError;

/// Why a transaction or an opening failed.
#[derive(Debug)]
pub(super) enum Cause {
    /// The store's own word.
    Store(StoreError),
    /// The engine's word. After it the engine answers nothing more until it is opened again.
    Engine(redb::Error),
}

impl Cause {
    /// Whether the engine has to be opened again before it answers anything.
    pub(super) fn breaks(&self) -> bool {
        matches!(self, Cause::Engine(_))
    }

    /// Whether it only tells that something failed before.
    pub(super) fn is_echo(&self) -> bool {
        matches!(self, Cause::Engine(redb::Error::PreviousIo | redb::Error::DatabaseClosed))
    }
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        Cause::Store(error)
    }
}

macro_rules! of_the_engine {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for Cause {
            fn from(error: redb::$error) -> Self {
                Cause::Engine(error.into())
            }
        })+
    };
}
of_the_engine!(CommitError, DatabaseError, StorageError, TableError, TransactionError);

impl From<Cause> for StoreError {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Store(error) => error,
            Cause::Engine(redb::Error::Io(error)) => of_disk(&error),
            Cause::Engine(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => {
                StoreError::Locked
            }
            Cause::Engine(error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed)) => {
                StoreError::Io(error.to_string().into())
            }
            Cause::Engine(error) => StoreError::Corrupt(error.to_string().into()),
        }
    }
}

/// What an error of the disk means.
pub(super) fn of_disk(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full
        }
        // Another process made what this one was about to make.
        io::ErrorKind::AlreadyExists => StoreError::Locked,
        // How the engine tells that a file is none of its own.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            StoreError::Corrupt(error.to_string().into())
        }
        _ => StoreError::Io(error.to_string().into()),
    }
}
