//! Records in one file of this machine, kept by the engine redb.
//!
//! Reading order: `layout` (bytes), `tables` (what a transaction does), `medium` and `overlay` (where the bytes are),
//! `engine` (open, failed, opened again), `writer` (the one thread that writes), `check` and
//! `salvage` (for `switchyard store`).
//! Always: the promises of [`Records`]; nothing is made before the first write.
//!
//! **Reads leave the async threads.** A read of a page in memory takes a few microseconds, but nobody knows beforehand
//! whether the page is there, and a read that waits for a sick disk would stop every call of its thread (F49). The way to
//! a thread that may block costs about 20 µs, and is taken by requests about tasks alone.

mod cause;
mod check;

mod engine;
mod failpoint;
#[cfg(test)]
mod faults;
mod layout;
mod medium;
mod overlay;
mod salvage;
mod tables;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use redb::ReadTransaction;
use tokio::sync::Semaphore;

pub use check::{Finding, Repaired, check, repair};
pub(super) use medium::sync_folder;

use self::cause::Cause;
use self::engine::{Engine, PAUSE};
use self::medium::{Medium, OnDisk};
use self::writer::{Done, Work, Writer};
use super::clock::Clock;
use super::error::{StoreError, WriteError};
use super::records::{Kept, Page, Position, Records, Space, Write};

/// Reads at the same time; each has a thread.
const READERS: usize = 16;
/// For how long a read may wait for one of them.
const PATIENCE: Duration = Duration::from_secs(1);

/// [`Records`] in a file. Needs a tokio runtime where it is used; real time, not paused, as the disk has its own.
#[derive(Debug)]
pub struct Embedded {
    clock: Clock,
    engine: Arc<Engine>,
    writer: Writer,
    readers: Arc<Semaphore>,
}

impl Embedded {
    /// Opens the store in the file `path` if it is there; else the first write makes it, after `before`. With
    /// `may_forget`, memory takes the place of a store that another process has open. Blocks.
    pub fn open(
        path: PathBuf,
        before: impl Fn() -> io::Result<()> + Send + Sync + 'static,
        may_forget: bool,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        Embedded::on(Box::new(OnDisk::new(path, before)), may_forget, PAUSE, clock)
    }

    /// On no disk at all, with the rest as it is.
    #[cfg(test)]
    pub(super) fn in_memory(clock: Clock) -> Self {
        Embedded::on(Box::new(medium::InMemory), false, PAUSE, clock).expect("memory opens")
    }

    fn on(
        medium: Box<dyn Medium>,
        may_forget: bool,
        pause: Duration,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let engine = Arc::new(Engine::open(medium, may_forget, pause)?);
        let writer =
            Writer::start(Arc::clone(&engine)).map_err(|error| StoreError::Io(error.to_string().into()))?;
        Ok(Embedded { clock, engine, writer, readers: Arc::new(Semaphore::new(READERS)) })
    }

    /// Reads in a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        nothing: T,
        read: impl Fn(&ReadTransaction) -> Result<T, Cause> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = match Arc::clone(&self.readers).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => tokio::time::timeout(PATIENCE, Arc::clone(&self.readers).acquire_owned())
                .await
                .map_err(|_| StoreError::Busy)?
                .map_err(|_| StoreError::Closed)?,
        };
        let engine = Arc::clone(&self.engine);
        let reading = tokio::task::spawn_blocking(move || {
            // Kept by the thread, also when nobody waits for it any more.
            let _place = place;
            engine.read(nothing, read)
        });
        reading.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn page(
        &self,
        position: Position<'_>,
        read: impl Fn(&ReadTransaction, Position<'_>) -> Result<Page, Cause> + Send + 'static,
    ) -> Result<Page, StoreError> {
        let (backwards, from) = match position {
            Position::First => (false, None),
            Position::After(key) => (false, Some(key.to_vec())),
            Position::Last => (true, None),
            Position::Before(key) => (true, Some(key.to_vec())),
        };
        self.read(Page::default(), move |snapshot| {
            let position = match (backwards, &from) {
                (false, None) => Position::First,
                (false, Some(key)) => Position::After(key),
                (true, None) => Position::Last,
                (true, Some(key)) => Position::Before(key),
            };
            read(snapshot, position)
        })
        .await
    }
}

/// An answer to another question than was asked: cannot be, and is no reason to end the process.
fn mixed_up() -> StoreError {
    StoreError::Io("the writer answered another question".into())
}

impl Records for Embedded {
    fn get<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        let (key, now_ms) = (key.to_vec(), self.clock.now_ms());
        self.read(None, move |snapshot| tables::get(snapshot, space, &key, now_ms)).boxed()
    }

    fn write(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<u64>, WriteError>> {
        async move {
            match self.writer.work(Work::Write(writes), self.clock.now_ms()).await? {
                Done::Versions(versions) => Ok(versions),
                _ => Err(mixed_up().into()),
            }
        }
        .boxed()
    }

    fn take<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        async move {
            match self.writer.work(Work::Take(space, key.to_vec()), self.clock.now_ms()).await {
                Ok(Done::Taken(kept)) => Ok(kept),
                Err(WriteError::Store(error)) => Err(error),
                _ => Err(mixed_up()),
            }
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        space: Space,
        owner: &'a str,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        let (owner, now_ms) = (owner.to_owned(), self.clock.now_ms());
        let read = move |snapshot: &ReadTransaction, position: Position<'_>| {
            tables::list(snapshot, space, &owner, (position, limit), now_ms)
        };
        self.page(position, read).boxed()
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        let now_ms = self.clock.now_ms();
        let read = move |snapshot: &ReadTransaction, position: Position<'_>| {
            tables::scan(snapshot, space, (position, limit), now_ms)
        };
        self.page(position, read).boxed()
    }

    fn purge(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        async move {
            match self.writer.work(Work::Purge(limit), self.clock.now_ms()).await {
                Ok(Done::Purged(count)) => Ok(count),
                Err(WriteError::Store(error)) => Err(error),
                _ => Err(mixed_up()),
            }
        }
        .boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.writer.close().boxed()
    }
}
