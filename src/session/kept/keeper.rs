//! Who writes what sessions keep: one for all of them, so that what happens at the same time is synced together.
//!
//! Always: while one transaction is written the next one gathers; a session whose part alone cannot be written lapses,
//! and no other. Not here: what there is to write (`journal`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::journal::{Batch, Journal, delete};
use super::rows::{EVENTS, SESSIONS, STREAMS, SessionRow, session_key};
use crate::names::SessionId;
use crate::store::clock::Clock;
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Position, Records};

/// Bytes after which a transaction is written.
const TOGETHER: usize = 4 * 1024 * 1024;
/// How often a store that is busy is asked; each time it takes a second to say so.
const ATTEMPTS: usize = 5;
/// Between attempts to remove what could not be removed.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });
/// Records removed at once.
const REMOVED: usize = 64;
/// Time for the next gateway to be there.
const RESTART: Duration = Duration::from_secs(60);

/// See the module head.
#[derive(Debug)]
pub struct Keeper {
    pub(super) records: Arc<dyn Records>,
    clock: Clock,
    /// Of a session, without use.
    idle: Duration,
    queue: Mutex<Queue>,
    queued: Notify,
    is_stopping: AtomicBool,
    /// Sessions whose records go.
    ended: Mutex<VecDeque<SessionId>>,
    has_ended: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    journals: Vec<Arc<Journal>>,
    is_writing: bool,
}

impl Keeper {
    /// Of sessions that end when they are not used for `idle`. Somebody has to let it [`run`](Keeper::run).
    pub fn new(records: Arc<dyn Records>, clock: Clock, idle: Duration) -> Arc<Self> {
        Arc::new(Keeper {
            records,
            clock,
            idle,
            queue: Mutex::default(),
            queued: Notify::new(),
            is_stopping: AtomicBool::new(false),
            ended: Mutex::default(),
            has_ended: Notify::new(),
        })
    }

    /// The journal of a session.
    pub(in crate::session) fn journal(self: &Arc<Self>, session: SessionId, row: SessionRow) -> Arc<Journal> {
        Journal::new(session, row, Arc::clone(self))
    }

    /// Writes, as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.write_on(), self.remove_on());
    }

    /// Removes everything that is kept: an earlier gateway was asked to, and this one is not.
    pub async fn clear(&self) {
        match self.read().await {
            Ok(kept) => {
                for kept in kept {
                    if let Err(why) = self.remove_all_of(kept.session).await {
                        tracing::debug!(session = ?kept.session, %why, "what is kept of a session stays for now");
                    }
                }
            }
            Err(why) => tracing::debug!(%why, "sessions that were kept cannot be read"),
        }
    }

    /// From now on sessions end because the gateway does: what is kept of them stays.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Whether everything is written.
    pub fn is_idle(&self) -> bool {
        let queue = self.lock();
        queue.journals.is_empty() && !queue.is_writing
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// For how long a record lasts: until its session would be idle, however late it is renewed, and a restart more.
    pub(super) fn lease_ms(&self) -> u64 {
        millis(self.idle.saturating_mul(3) / 2).saturating_add(millis(RESTART))
    }

    /// After how long it is renewed if the session was used since; sessions are looked at as often at least.
    pub(super) fn renewal_ms(&self) -> u64 {
        millis(self.idle / 4)
    }

    pub(super) fn queue(&self, journal: Arc<Journal>) {
        self.lock().journals.push(journal);
        self.queued.notify_one();
    }

    /// The records of this session go, sooner or later: without the first of them the others mean nothing.
    pub(in crate::session) fn remove(&self, session: SessionId) {
        self.ended().push_back(session);
        self.has_ended.notify_one();
    }

    async fn write_on(&self) {
        loop {
            let journals = {
                let mut queue = self.lock();
                queue.is_writing = !queue.journals.is_empty();
                std::mem::take(&mut queue.journals)
            };
            if journals.is_empty() {
                self.queued.notified().await;
                continue;
            }
            let mut together = Vec::new();
            let mut bytes = 0;
            for journal in journals {
                let Some(batch) = journal.take() else { continue };
                bytes += batch.bytes();
                together.push((journal, batch));
                if bytes > TOGETHER {
                    bytes = 0;
                    self.write_together(std::mem::take(&mut together)).await;
                }
            }
            self.write_together(together).await;
        }
    }

    async fn write_together(&self, together: Vec<(Arc<Journal>, Batch)>) {
        if together.len() > 1 && self.write(together.iter().map(|(_, batch)| batch)).await.is_ok() {
            together.into_iter().for_each(|(journal, batch)| self.written(&journal, batch));
            return;
        }
        for (journal, batch) in together {
            match self.write(std::iter::once(&batch)).await {
                Ok(()) => self.written(&journal, batch),
                Err(why) => {
                    if why != WriteError::Store(StoreError::Closed) {
                        tracing::warn!(session = ?batch.session, %why, "a session cannot be kept, and will end with the gateway");
                    }
                    journal.lapse();
                    self.remove(batch.session);
                }
            }
        }
    }

    fn written(&self, journal: &Journal, batch: Batch) {
        if batch.is_end {
            self.remove(batch.session);
        }
        journal.settle(batch);
    }

    async fn write(&self, batches: impl Iterator<Item = &Batch> + Clone) -> Result<(), WriteError> {
        let mut attempt = 1;
        loop {
            let writes: Vec<_> = batches.clone().flat_map(|batch| batch.writes.iter().cloned()).collect();
            if writes.is_empty() {
                return Ok(());
            }
            match self.records.write(writes).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Store(why)) if why.may_retry() && attempt < ATTEMPTS => attempt += 1,
                Err(why) => return Err(why),
            }
        }
    }

    async fn remove_on(&self) {
        loop {
            let next = self.ended().front().copied();
            let Some(session) = next else {
                self.has_ended.notified().await;
                continue;
            };
            match self.remove_all_of(session).await {
                Ok(()) | Err(WriteError::Store(StoreError::Closed)) => {
                    self.ended().pop_front();
                }
                Err(why) => {
                    tracing::debug!(?session, %why, "what is kept of a session stays for now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn remove_all_of(&self, session: SessionId) -> Result<(), WriteError> {
        let prefix = session_key(session);
        self.records.write(vec![delete(SESSIONS, prefix.clone())]).await?;
        for space in [EVENTS, STREAMS] {
            let mut after = prefix.clone();
            loop {
                let page = self.records.scan(space, Position::After(&after), REMOVED).await?;
                let keys = page.items.into_iter().map(|(key, _)| key).chain(page.damaged);
                let keys = keys.filter(|key| key.starts_with(&prefix));
                let deletes: Vec<_> = keys.map(|key| delete(space, key)).collect();
                if !deletes.is_empty() {
                    self.records.write(deletes).await?;
                }
                match page.next.filter(|next| next.starts_with(&prefix)) {
                    Some(next) => after = next,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Both are held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, VecDeque<SessionId>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
