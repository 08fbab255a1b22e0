//! One stream towards a client: what was sent on it, what still waits, and who reads.
//!
//! Always: events come out in the order in which they went in, each once per reader; a new reader ends the one before
//! it; a writer never waits for a reader, and what waits is bounded in bytes (S-HTTPS-17). Not here: which stream a
//! message belongs to (`state`, `downstream`), event ids, HTTP.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use crate::store::event_log::Weight;
use crate::store::event_log::{EventLog, LoggedEvent, MemoryLog};

/// Passing events that wait on a stream which nobody reads.
const UNATTENDED: usize = 64;

/// Bytes kept for a session and for all sessions together.
#[derive(Debug)]
pub(super) struct Ledger {
    session: AtomicUsize,
    total: Arc<AtomicUsize>,
}

impl Ledger {
    pub(super) fn new(total: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Ledger { session: AtomicUsize::new(0), total })
    }

    fn change(&self, before: usize, after: usize) {
        for sum in [&self.session, &*self.total] {
            if after >= before {
                sum.fetch_add(after - before, Ordering::Relaxed);
            } else {
                sum.fetch_sub(before - after, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn session(&self) -> usize {
        self.session.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// See the module head.
#[derive(Debug)]
pub struct Stream {
    number: u64,
    /// Bytes that may wait.
    limit: usize,
    /// Bytes that are kept after they were read.
    keep: usize,
    ledger: Arc<Ledger>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: MemoryLog,
    /// Number of the last event that a reader took.
    taken: u64,
    /// Bytes of events that no reader took.
    waiting: usize,
    /// Passing events among them.
    passing: usize,
    /// The newest event that mattered and is gone though it may not have arrived.
    lost: u64,
    /// Events that found no place.
    dropped: u64,
    end: Option<End>,
    /// When nothing more could come.
    ended_at: Option<Instant>,
    /// Which reader is the present one.
    reader: u64,
    attended: bool,
    waker: Option<Waker>,
}

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything was said.
    Finished,
    /// The session is over.
    Closed,
    /// Another reader took over.
    Replaced,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// An event and its number.
    Event(u64, Bytes),
    /// Nothing more.
    End(End),
}

/// The event found no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Stream {
    pub(super) fn new(number: u64, limit: usize, keep: usize, ledger: Arc<Ledger>) -> Arc<Stream> {
        Arc::new(Stream { number, limit, keep, ledger, inner: Mutex::default() })
    }

    /// A stream that belongs to no session: nothing of it outlives its reader.
    pub fn alone(limit: usize) -> Arc<Stream> {
        Stream::new(0, limit, 0, Ledger::new(Arc::default()))
    }

    /// Its number in its session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Puts a message on the stream. An answer always finds a place; what matters less gives way to what matters more.
    pub fn push(&self, text: Bytes, weight: Weight) -> Result<(), Full> {
        self.change(|inner| {
            if inner.end.is_some() || !inner.make_room(text.len(), weight, self.limit) {
                inner.dropped += 1;
                return Err(Full);
            }
            inner.waiting += text.len();
            inner.passing += usize::from(weight == Weight::Passing);
            inner.log.append(LoggedEvent { text, weight });
            Ok(())
        })
    }

    /// Everything was said.
    pub fn finish(&self) {
        self.end(End::Finished);
    }

    pub(super) fn end(&self, end: End) {
        self.change(|inner| {
            inner.end.get_or_insert(end);
            inner.ended_at.get_or_insert_with(Instant::now);
        });
    }

    /// Reads from the first event that nobody took.
    pub fn read(self: &Arc<Self>) -> StreamReader {
        self.read_after(None)
    }

    /// Reads again from behind `position`, or from the first event that nobody took.
    pub(super) fn read_after(self: &Arc<Self>, position: Option<u64>) -> StreamReader {
        let mut inner = self.lock();
        inner.reader += 1;
        inner.attended = true;
        if let Some(waker) = inner.waker.take() {
            // The reader before this one finds out that it was replaced.
            waker.wake();
        }
        let position = position.unwrap_or(inner.taken);
        StreamReader { stream: Arc::clone(self), position, turn: inner.reader }
    }

    /// Bytes on it that nobody took yet.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Whether somebody reads it.
    pub fn is_attended(&self) -> bool {
        self.lock().attended
    }

    /// Whether something that mattered after `position` is gone.
    pub(super) fn has_lost_since(&self, position: u64) -> bool {
        self.lock().lost > position
    }

    /// Whether `position` was ever reached.
    pub(super) fn has_reached(&self, position: u64) -> bool {
        position <= self.lock().log.last()
    }

    /// How long ago the last could have been said on it.
    pub(super) fn ended_for(&self) -> Option<Duration> {
        self.lock().ended_at.map(|at| at.elapsed())
    }

    /// Forgets what readers took already.
    pub(super) fn forget_history(&self) {
        self.change(|inner| inner.forget_taken(0));
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        self.change(|inner| {
            inner.lost = inner.log.last();
            inner.log = MemoryLog::default();
            (inner.waiting, inner.passing) = (0, 0);
        });
    }

    /// Changes the stream, keeps the ledger, and wakes the reader.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let before = inner.log.bytes();
        let result = change(&mut inner);
        self.ledger.change(before, inner.log.bytes());
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.ledger.change(inner.log.bytes(), 0);
    }
}

impl Inner {
    fn make_room(&mut self, length: usize, weight: Weight, limit: usize) -> bool {
        let fits = |inner: &Inner| {
            let unattended = weight == Weight::Passing && !inner.attended && inner.passing >= UNATTENDED;
            inner.waiting + length <= limit && !unattended
        };
        if weight == Weight::Answer || fits(self) {
            return true;
        }
        // The newest of what merely passes tells enough: older ones give way.
        while self.passing > 0 && !fits(self) {
            self.remove_oldest_passing();
        }
        fits(self)
    }

    fn remove_oldest_passing(&mut self) {
        let (taken, mut found) = (self.taken, None);
        self.log.remove(&mut |number, event| {
            let oldest = found.is_none() && number > taken && event.weight == Weight::Passing;
            if oldest {
                found = Some(event.text.len());
            }
            oldest
        });
        self.passing = self.passing.saturating_sub(1);
        self.waiting = self.waiting.saturating_sub(found.unwrap_or(0));
        self.dropped += 1;
    }

    /// Keeps at most `limit` bytes of what was taken, the newest.
    fn forget_taken(&mut self, limit: usize) {
        let mut excess = (self.log.bytes() - self.waiting).saturating_sub(limit);
        if excess == 0 {
            return;
        }
        let (taken, mut lost) = (self.taken, self.lost);
        self.log.remove(&mut |number, event| {
            let leaves = excess > 0 && number <= taken;
            if leaves {
                excess = excess.saturating_sub(event.text.len());
                if event.weight != Weight::Passing {
                    lost = number;
                }
            }
            leaves
        });
        self.lost = lost;
    }
}

/// Reads one stream. Dropping it leaves the stream to the next reader.
#[derive(Debug)]
pub struct StreamReader {
    stream: Arc<Stream>,
    position: u64,
    turn: u64,
}

impl StreamReader {
    /// The stream it reads.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Number of the last event that came out of this reader, or the place it began at.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next event, as soon as there is one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut inner = self.stream.lock();
        if inner.reader != self.turn {
            return Poll::Ready(Next::End(End::Replaced));
        }
        let next = inner.log.after(self.position).map(|(number, event)| (number, event.clone()));
        let Some((number, event)) = next else {
            return match inner.end {
                Some(end) => Poll::Ready(Next::End(end)),
                None => {
                    inner.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        self.position = number;
        if number > inner.taken {
            inner.taken = number;
            inner.waiting -= event.text.len();
            inner.passing -= usize::from(event.weight == Weight::Passing);
            let before = inner.log.bytes();
            inner.forget_taken(self.stream.keep);
            self.stream.ledger.change(before, inner.log.bytes());
        }
        Poll::Ready(Next::Event(number, event.text))
    }

    /// As [`StreamReader::poll_next`].
    pub async fn next(&mut self) -> Next {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        let mut inner = self.stream.lock();
        if inner.reader == self.turn {
            inner.attended = false;
            inner.waker = None;
        }
    }
}
