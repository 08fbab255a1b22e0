//! The engine, open or not: made at the first write, opened again after its disk failed, never believed when it does not
//! verify.
//!
//! Always: one engine is open at a time; a reader that it was closed under reads again; after a failure reads go on as
//! soon as the file can be read, writes as soon as it can be written. Not here: who waits for whom (`writer`), what is in
//! the tables (`tables`). Everything here blocks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use redb::{Builder, Database, ReadTransaction, ReadableDatabase as _, StorageBackend, WriteTransaction};
use tokio::time::Instant;

use super::cause::Cause;
use super::failpoint::{Point, pass};
use super::medium::{InMemory, Medium};
use super::tables;
use crate::store::error::StoreError;

/// Memory for pages; the system caches the file as well.
const CACHE: usize = 32 * 1024 * 1024;

/// For how long a failed write is not tried again.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// The engine and where it keeps its bytes.
#[derive(Debug)]
pub(super) struct Engine {
    medium: Box<dyn Medium>,
    /// A store in use elsewhere is replaced by memory.
    may_forget: bool,
    /// For how long a failed write is not tried again.
    pause: Duration,
    state: RwLock<Open>,
}

/// The open engine.
#[derive(Debug)]
struct Open {
    /// Grows with every opening: so nobody mends what was mended meanwhile.
    generation: u64,
    state: State,
    /// When that was.
    since: Instant,
    /// Why writes are refused for a while.
    refused: Option<(StoreError, Instant)>,
}

enum State {
    /// Nothing was ever written.
    Absent,
    Ready(Database),
    /// The file can be read and not be written.
    Frozen(Database),
    Down(StoreError),
    Closed,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Absent => "absent",
            State::Ready(_) => "ready",
            State::Frozen(_) => "frozen",
            State::Down(_) => "down",
            State::Closed => "closed",
        })
    }
}

impl Engine {
    /// Opens what is there. With `may_forget`, memory takes the place of a store that another process has open.
    pub(super) fn open(
        medium: Box<dyn Medium>,
        may_forget: bool,
        pause: Duration,
    ) -> Result<Self, StoreError> {
        let state = if medium.is_there() {
            match open_checked(&*medium) {
                Err(StoreError::Locked) if may_forget => {
                    warn_of_forgetting();
                    State::Ready(forgetful()?)
                }
                opened => State::Ready(opened?),
            }
        } else {
            State::Absent
        };
        let state = RwLock::new(Open { generation: 0, since: Instant::now(), state, refused: None });
        Ok(Engine { medium, may_forget, pause, state })
    }

    fn state(&self) -> RwLockReadGuard<'_, Open> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Open> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from one snapshot; `nothing` is the answer of a store that was never written.
    pub(super) fn read<T>(
        &self,
        nothing: T,
        read: impl Fn(&ReadTransaction) -> Result<T, Cause>,
    ) -> Result<T, StoreError> {
        let mut tries = 0;
        loop {
            let (generation, snapshot) = {
                let open = self.state();
                let snapshot = match &open.state {
                    State::Absent => return Ok(nothing),
                    State::Down(why) => Err(Cause::Store(why.clone())),
                    State::Closed => return Err(StoreError::Closed),
                    State::Ready(engine) | State::Frozen(engine) => engine.begin_read().map_err(Cause::from),
                };
                (open.generation, snapshot)
            };
            let outcome = snapshot.and_then(|snapshot| guarded(|| read(&snapshot)));
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(cause) => {
                    tries += 1;
                    let is_down = matches!(self.state().state, State::Down(_));
                    if tries == 3 || !(cause.breaks() || is_down) {
                        return Err(cause.into());
                    }
                    self.mend(generation, cause, None);
                }
            }
        }
    }

    /// Whether nothing was ever written.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state().state, State::Absent)
    }

    /// Makes one transaction; the store is made first if there is none. `change` tells whether anything was changed, and
    /// what came of it; a transaction without change costs no sync.
    pub(super) fn change_all<T>(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<(bool, T), Cause>,
    ) -> Result<T, StoreError> {
        let mut tries = 0;
        loop {
            let (generation, transaction) = match self.begin_write()? {
                Some(begun) => begun,
                None => continue,
            };
            let outcome = transaction.and_then(|transaction| {
                guarded(AssertUnwindSafe(|| {
                    let (is_changed, outcome) = change(&transaction)?;
                    if is_changed {
                        pass(Point::BeforeCommit);
                        transaction.commit()?;
                        pass(Point::AfterCommit);
                    } else {
                        transaction.abort()?;
                    }
                    Ok(outcome)
                }))
            });
            match outcome {
                Ok(outcome) => return Ok(outcome),
                Err(cause) if !cause.breaks() => return Err(cause.into()),
                Err(cause) => {
                    tries += 1;
                    // A read broke the engine before anything was written: the write has not had its try.
                    let was_tried = !cause.is_echo() || tries == 3;
                    let why = self.mend(generation, cause, Some(self.pause));
                    if was_tried {
                        return Err(why);
                    }
                }
            }
        }
    }

    /// `None`: the state was changed, and is to be looked at again.
    #[expect(clippy::type_complexity, reason = "a generation, and a transaction or why there is none")]
    fn begin_write(&self) -> Result<Option<(u64, Result<WriteTransaction, Cause>)>, StoreError> {
        let open = self.state();
        if let Some((why, until)) = &open.refused
            && Instant::now() < *until
        {
            return Err(why.clone());
        }
        let generation = open.generation;
        match &open.state {
            State::Closed => Err(StoreError::Closed),
            State::Ready(engine) => Ok(Some((generation, engine.begin_write().map_err(Cause::from)))),
            State::Absent | State::Down(_) | State::Frozen(_) => {
                drop(open);
                self.open_for_writing()?;
                Ok(None)
            }
        }
    }

    /// Opens the store for writing, from whichever state; makes it if there is none.
    fn open_for_writing(&self) -> Result<(), StoreError> {
        let mut open = self.change();
        if !matches!(open.state, State::Absent) {
            // The old view holds the file's lock.
            close(&mut open.state);
        }
        (open.generation, open.since) = (open.generation + 1, Instant::now());
        let made =
            if self.medium.is_there() { Ok(()) } else { self.medium.prepare().map_err(StoreError::from) };
        let was_absent = matches!(open.state, State::Absent);
        match made.and_then(|()| open_checked(&*self.medium)) {
            Ok(engine) => open.state = State::Ready(engine),
            Err(StoreError::Locked) if self.may_forget && was_absent => {
                warn_of_forgetting();
                open.state = State::Ready(forgetful()?);
            }
            Err(why) => {
                open.refused = Some((why.clone(), Instant::now() + self.pause));
                if !was_absent {
                    open.state = self.frozen(&why);
                }
                return Err(why);
            }
        }
        open.refused = None;
        Ok(())
    }

    /// Opens the engine again after `cause`, unless somebody did; writes are refused for `pause`. Gives why it broke.
    fn mend(&self, generation: u64, cause: Cause, pause: Option<Duration>) -> StoreError {
        let mut open = self.change();
        let why = match (&open.refused, cause.is_echo()) {
            (Some((why, _)), true) => why.clone(),
            _ => StoreError::from(cause),
        };
        if matches!(open.state, State::Closed) {
            return why;
        }
        if let Some(pause) = pause {
            open.refused = Some((why.clone(), Instant::now() + pause));
        }
        let is_too_early = matches!(open.state, State::Down(_)) && open.since.elapsed() < self.pause;
        if open.generation != generation || is_too_early {
            return why;
        }
        tracing::error!(why = %why, "the store failed and is opened again");
        close(&mut open.state);
        (open.generation, open.since) = (open.generation + 1, Instant::now());
        open.state = match open_checked(&*self.medium) {
            Ok(engine) => State::Ready(engine),
            Err(error) => self.frozen(&error),
        };
        why
    }

    /// The file as it can be read when it cannot be written.
    fn frozen(&self, why: &StoreError) -> State {
        match why {
            StoreError::Full | StoreError::Io(_) => {
                let frozen = guarded(|| {
                    let engine = self.medium.open_frozen(&builder())?;
                    verify(&engine)?;
                    Ok(engine)
                });
                frozen.map_or_else(|_| State::Down(why.clone()), State::Frozen)
            }
            _ => State::Down(why.clone()),
        }
    }

    /// Closes it for good.
    pub(super) fn close(&self) {
        let mut open = self.change();
        close(&mut open.state);
        open.state = State::Closed;
    }
}

/// Closes what is open, so that another engine can open the file.
fn close(state: &mut State) {
    if let State::Ready(engine) | State::Frozen(engine) =
        std::mem::replace(state, State::Down(StoreError::Io("it is being opened again".into())))
        && let Err(error) = engine.close()
    {
        tracing::debug!(%error, "the store did not close cleanly; it is checked when it is opened");
    }
}

/// The engine panics on some damage that its checksums do not show; such a store does not verify.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let why = redb::Error::Corrupted("its pages contradict each other".to_owned());
        Err(Cause::Engine(why))
    })
}

/// How stores are opened: every checksum of every page is looked at, for what is not looked at may be misread later.
pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

fn open_checked(medium: &dyn Medium) -> Result<Database, StoreError> {
    let opened = guarded(|| {
        let engine = medium.open(&builder())?;
        verify(&engine)?;
        Ok(engine)
    });
    Ok(opened?)
}

/// A store without records, whole and closed.
pub(super) fn founded(place: impl StorageBackend) -> Result<(), Cause> {
    guarded(|| {
        let engine = builder().create_with_backend(place)?;
        verify(&engine)?;
        Ok(engine.close()?)
    })
}

fn warn_of_forgetting() {
    tracing::warn!("the state is in use by another process: this one keeps its own in memory, until it ends");
}

fn forgetful() -> Result<Database, StoreError> {
    open_checked(&InMemory)
}

/// Refuses a store of another format, and founds an empty one.
pub(super) fn verify(engine: &Database) -> Result<(), Cause> {
    let snapshot = engine.begin_read()?;
    match tables::format(&snapshot)? {
        Some(format) if format == u64::from(tables::FORMAT) => Ok(()),
        Some(format) if format > u64::from(tables::FORMAT) => {
            let found = u32::try_from(format).unwrap_or(u32::MAX);
            Err(StoreError::Newer { found, known: tables::FORMAT }.into())
        }
        None if tables::is_empty(&snapshot)? => {
            let transaction = engine.begin_write()?;
            tables::found(&transaction)?;
            transaction.commit()?;
            Ok(())
        }
        _ => Err(StoreError::Corrupt("it is no store of this program".into()).into()),
    }
}
