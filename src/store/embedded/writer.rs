//! The one thread that writes: what waits is written together and synced once, then everyone is told.
//!
//! Always: nobody is told of success before the sync; what was shed was not written and will not be (F49). There is no
//! waiting for company: while one transaction is being synced the next one gathers, so that a lone write is not delayed
//! and many share their syncs. Not here: what a transaction does (`tables`), failures of the disk (`engine`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::engine::Engine;
use super::tables::Changes;
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Kept, Space, Write};

/// Jobs that may wait for the thread.
const QUEUE: usize = 1024;
/// Jobs and bytes of one transaction, and the time to gather them.
const TOGETHER: usize = 256;
const TOGETHER_BYTES: usize = 16 * 1024 * 1024;
const GATHERING: Duration = Duration::from_millis(5);
/// For how long a job may wait before it is shed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Work {
    Write(Vec<Write>),
    Take(Space, Vec<u8>),
    Purge(usize),
}

/// What was done.
#[derive(Debug, Clone)]
pub(super) enum Done {
    Versions(Vec<u64>),
    Taken(Option<Kept>),
    Purged(usize),
}

type Outcome = Result<Done, WriteError>;

#[derive(Debug)]
struct Job {
    work: Work,
    now_ms: u64,
    /// Set by whoever is first: the thread that begins it, or the one that gives it up.
    begun: Arc<AtomicBool>,
    answer: oneshot::Sender<Outcome>,
}

/// Hands jobs to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    ended: tokio::sync::watch::Receiver<()>,
    closing: tokio_util::sync::CancellationToken,
}

impl Writer {
    /// Starts the thread; it ends, and closes the engine, when the writer is dropped or closed.
    pub(super) fn start(engine: Arc<Engine>) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel(QUEUE);
        let (end, ended) = tokio::sync::watch::channel(());
        let closing = tokio_util::sync::CancellationToken::new();
        let told = closing.clone();
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            loop {
                // Before each wait, not when it is woken: what was sent to wake it may have been gathered with a batch.
                if told.is_cancelled() {
                    queue.close();
                }
                let Some(first) = queue.blocking_recv() else { break };
                write_together(&engine, gather(first, &mut queue));
            }
            engine.close();
            drop(end);
        })?;
        Ok(Writer { jobs, ended, closing })
    }

    /// Has the work done. Sheds it if it was not begun in time; once begun, waits for the truth.
    pub(super) async fn work(&self, work: Work, now_ms: u64) -> Outcome {
        if self.closing.is_cancelled() {
            return Err(StoreError::Closed.into());
        }
        let (answer, mut answered) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let since = Instant::now();
        let job = Job { work, now_ms, begun: Arc::clone(&begun), answer };
        match self.jobs.send_timeout(job, PATIENCE).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(StoreError::Busy.into()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(StoreError::Closed.into()),
        }
        let outcome = match timeout(PATIENCE.saturating_sub(since.elapsed()), &mut answered).await {
            Ok(outcome) => outcome,
            Err(_) if !begun.swap(true, Ordering::AcqRel) => return Err(StoreError::Busy.into()),
            Err(_) => answered.await,
        };
        outcome.unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Has everything finished that waits, and the engine closed.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        // Wakes the thread; if the queue is full it is awake.
        let nothing = Job {
            work: Work::Purge(0),
            now_ms: 0,
            begun: Arc::new(AtomicBool::new(true)),
            answer: oneshot::channel().0,
        };
        let _ = self.jobs.try_send(nothing);
        let mut ended = self.ended.clone();
        let _ = ended.changed().await;
    }
}

/// The first job and what waits behind it.
fn gather(first: Job, queue: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let since = Instant::now();
    let mut bytes = first.work.bytes();
    let mut jobs = vec![first];
    while jobs.len() < TOGETHER && bytes < TOGETHER_BYTES && since.elapsed() < GATHERING {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.work.bytes();
        jobs.push(next);
    }
    jobs.retain(|job| !job.begun.swap(true, Ordering::AcqRel));
    jobs
}

impl Work {
    fn bytes(&self) -> usize {
        let Work::Write(writes) = self else { return 0 };
        let sizes = writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key, .. } => key.len(),
        });
        sizes.sum()
    }

    /// Whether it can do anything to a store that was never written.
    fn is_for_the_absent(&self) -> bool {
        matches!(self, Work::Write(_))
    }

    fn done_to_nothing(&self) -> Done {
        match self {
            Work::Write(_) => Done::Versions(Vec::new()),
            Work::Take(..) => Done::Taken(None),
            Work::Purge(_) => Done::Purged(0),
        }
    }
}

/// One transaction for all, in their order; each alone is all or nothing.
fn write_together(engine: &Engine, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    if engine.is_absent() && !jobs.iter().any(|job| job.work.is_for_the_absent()) {
        for job in jobs {
            let done = job.work.done_to_nothing();
            let _ = job.answer.send(Ok(done));
        }
        return;
    }
    let outcomes = engine.change_all(|transaction| {
        let mut changes = Changes::begin(transaction)?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let changes = changes.at(job.now_ms);
            outcomes.push(match &job.work {
                Work::Write(writes) => changes.write(writes)?.map(Done::Versions),
                Work::Take(space, key) => {
                    changes.take(*space, key)?.map(Done::Taken).map_err(WriteError::from)
                }
                Work::Purge(limit) => Ok(Done::Purged(changes.purge(*limit)?)),
            });
        }
        changes.finish().map(|changed| (changed, outcomes))
    });
    match outcomes {
        Ok(outcomes) => {
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                let _ = job.answer.send(outcome);
            }
        }
        Err(error) => {
            for job in jobs {
                let _ = job.answer.send(Err(error.clone().into()));
            }
        }
    }
}
