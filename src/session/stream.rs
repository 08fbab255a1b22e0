//! One stream towards a client: what is kept of it, and who reads.
//!
//! Always: events come out in the order in which they went in, each once per reader; a new reader ends the one before
//! it; a writer never waits for a reader (S-HTTPS-17). Not here: what finds a place (`backlog`), which stream a message
//! belongs to (`state`, `downstream`), event ids, HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::backlog::Backlog;
use super::kept::Mark;
use super::ledger::{Held, Ledger};
pub use crate::store::event_log::{LoggedEvent, Weight};
use crate::upstream::events::Readership;

/// See the module head.
#[derive(Debug)]
pub struct Stream {
    number: u64,
    /// Bytes that may wait.
    limit: usize,
    /// Bytes that are kept after they were read.
    keep: usize,
    ledger: Arc<Ledger>,
    /// What of it may be shown, where it is to outlive the gateway.
    mark: Option<Arc<Mark>>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    backlog: Backlog,
    end: Option<End>,
    /// When nothing more could come.
    ended_at: Option<Instant>,
    /// Which reader is the present one.
    reader: u64,
    attended: bool,
    waker: Option<Waker>,
}

impl Inner {
    fn held(&self) -> Held {
        let kept = self.backlog.bytes();
        match self.attended {
            true => Held {
                kept: kept - self.backlog.waiting_bytes(),
                flowing: self.backlog.waiting_before_answers(),
            },
            false => Held { kept, flowing: 0 },
        }
    }

    fn is_left(&self) -> bool {
        self.end.is_some() && !self.attended
    }
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
        Arc::new(Stream { number, limit, keep, ledger, mark: None, inner: Mutex::default() })
    }

    /// One that outlives the gateway: what `backlog` holds is shown as far as `mark` says.
    pub(super) fn kept(
        number: u64,
        (limit, keep): (usize, usize),
        ledger: Arc<Ledger>,
        backlog: Backlog,
        mark: Arc<Mark>,
    ) -> Arc<Stream> {
        let inner = Inner { backlog, ..Inner::default() };
        ledger.change(Held::default(), inner.held());
        Arc::new(Stream { number, limit, keep, ledger, mark: Some(mark), inner: Mutex::new(inner) })
    }

    /// A stream that belongs to no session: nothing of it outlives its reader.
    pub fn alone(limit: usize) -> Arc<Stream> {
        Stream::new(0, limit, 0, Arc::default())
    }

    /// A stream in the place of one that is no longer kept, under its number.
    pub fn in_place_of(number: u64) -> Arc<Stream> {
        Stream::new(number, 0, 0, Arc::default())
    }

    /// Its number in its session.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes on it that nobody took yet.
    pub fn waiting(&self) -> usize {
        self.lock().backlog.waiting_bytes()
    }

    /// Puts a message on the stream and gives its number there. An answer always finds a place; what matters less gives way to what matters more.
    pub fn push(&self, text: Bytes, weight: Weight) -> Result<u64, Full> {
        self.push_event(LoggedEvent::new(text, weight))
    }

    /// As [`Stream::push`]. Who asks a question that found a place and was lost behind it learns so when that matters:
    /// before a reader took it at once, else when a client comes back that has not seen it.
    pub fn push_event(&self, event: LoggedEvent) -> Result<u64, Full> {
        self.change(|inner| {
            let has_room = inner.end.is_none() && self.has_room(inner, &event);
            let attended = inner.attended;
            has_room.then(|| inner.backlog.push(event, self.limit, attended)).flatten().ok_or(Full)
        })
    }

    /// Whether its session may hold more. A reader who keeps up is not made to suffer for what others leave unread: one
    /// message at a time it always gets.
    fn has_room(&self, inner: &mut Inner, event: &LoggedEvent) -> bool {
        if event.weight == Weight::Answer {
            return true;
        }
        if !inner.attended {
            // Nor does a large question that nobody reads take the place of all others.
            let length = event.text.len();
            return self.ledger.excess() == 0 && (length <= self.limit || length <= self.ledger.limit() / 2);
        }
        if self.ledger.is_crowded() {
            inner.backlog.forget_passing();
            return inner.backlog.waiting_before_answers() == 0;
        }
        true
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
        // The reader before this one is woken and finds out that it was replaced.
        let (position, turn) = self.change(|inner| {
            inner.reader += 1;
            inner.attended = true;
            inner.backlog.was_had(position.unwrap_or_default());
            (position.unwrap_or(inner.backlog.taken()), inner.reader)
        });
        StreamReader { stream: Arc::clone(self), position, turn }
    }

    /// Whether somebody reads it.
    pub fn is_attended(&self) -> bool {
        self.lock().attended
    }

    /// Whether everything was said and nobody reads it.
    pub(super) fn is_left(&self) -> bool {
        self.lock().is_left()
    }

    /// Whether something that mattered after `position` is gone.
    pub(super) fn has_lost_since(&self, position: u64) -> bool {
        self.lock().backlog.has_lost_since(position)
    }

    /// Whether an answer after `position` is gone.
    pub(super) fn has_lost_answer_since(&self, position: u64) -> bool {
        self.lock().backlog.has_lost_answer_since(position)
    }

    /// A client has got no further than `position`: who asked what it can no longer be given learns that.
    pub(super) fn tell_lost_since(&self, position: u64) {
        self.lock().backlog.tell_lost_since(position);
    }

    /// Whether `position` was ever reached.
    pub(super) fn has_reached(&self, position: u64) -> bool {
        position <= self.lock().backlog.last()
    }

    /// How long ago the last could have been said on it.
    pub(super) fn ended_for(&self) -> Option<Duration> {
        self.lock().ended_at.map(|at| at.elapsed())
    }

    /// Forgets what was taken longer ago than `age`.
    pub(super) fn forget_older(&self, age: Duration) {
        self.change(|inner| inner.backlog.forget_older(age));
    }

    /// Forgets the oldest of what was taken, so many bytes if it can.
    pub(super) fn shed(&self, bytes: usize) {
        self.change(|inner| inner.backlog.shed(bytes));
    }

    /// Whether its session keeps more than this.
    pub(super) fn keeps_more_than(&self, share: usize) -> bool {
        self.ledger.kept() > share
    }

    /// Whether it keeps anything, everything was said, and nobody reads it.
    pub(super) fn can_be_let_go(&self) -> bool {
        let inner = self.lock();
        inner.is_left() && inner.backlog.bytes() > 0
    }

    /// Whether this event waits for a reader.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        self.lock().backlog.is_waiting(number)
    }

    /// Forgets the oldest news that wait for nobody, so many bytes if it can.
    pub(super) fn forget_news(&self, bytes: usize) {
        self.change(|inner| {
            if !inner.attended {
                inner.backlog.forget_news(bytes);
            }
        });
    }

    /// Forgets what merely passes and waits for nobody.
    pub(super) fn forget_unattended(&self) {
        self.change(|inner| {
            if !inner.attended {
                inner.backlog.forget_passing();
            }
        });
    }

    /// Forgets everything, unless somebody reads it or may still write to it; says whether it did.
    pub(super) fn forget_if_left(&self) -> bool {
        self.change(|inner| {
            let left = inner.is_left();
            if left {
                inner.backlog.forget();
            }
            left
        })
    }

    /// More of it may be shown.
    pub(super) fn wake(&self) {
        self.change(|_| ());
    }

    /// Changes the stream, keeps the ledger, and wakes the reader.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let before = inner.held();
        let result = change(&mut inner);
        if !inner.attended {
            // What alone is more than its session may keep is not kept at the cost of what else there is.
            inner.backlog.fit(self.ledger.limit());
        }
        self.ledger.change(before, inner.held());
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

impl Readership for Stream {
    fn is_attended(&self) -> bool {
        Stream::is_attended(self)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.ledger.change(inner.held(), Held::default());
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

    /// Ready when a client may know of the stream: at once, but where it is to outlive the gateway (F26).
    pub fn poll_shown(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mark) = self.stream.mark.as_ref().filter(|mark| !mark.is_shown()) else {
            return Poll::Ready(());
        };
        self.stream.lock().waker = Some(cx.waker().clone());
        // Whoever says so wakes afterwards.
        if mark.is_shown() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The next event, as soon as there is one.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut inner = self.stream.lock();
        if inner.reader != self.turn {
            return Poll::Ready(Next::End(End::Replaced));
        }
        let before = inner.held();
        let Some((number, text)) = inner.backlog.take_after(self.position) else {
            return match inner.end {
                // What may not be shown yet comes before the end.
                Some(end) if self.stream.mark.is_none() || !inner.backlog.has_more(self.position) => {
                    Poll::Ready(Next::End(end))
                }
                _ => {
                    inner.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        self.position = number;
        inner.backlog.trim(self.stream.keep);
        self.stream.ledger.change(before, inner.held());
        Poll::Ready(Next::Event(number, text))
    }

    /// As [`StreamReader::poll_next`].
    pub async fn next(&mut self) -> Next {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.stream.change(|inner| {
            if inner.reader == self.turn {
                inner.attended = false;
                inner.waker = None;
            }
        });
    }
}
