//! What of one session is not on the disk yet.
//!
//! Always: it is bounded by what the session keeps in memory: what is gone there before it was written is not written;
//! what is taken to be written is a state that the session was in, whole. A reader is woken when its events are written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::watch;

use super::keeper::Keeper;
use super::rows::{
    EVENTS, Kind, SESSIONS, STREAMS, SessionRow, StreamRow, event_key, session_key, stream_key,
};
use crate::names::SessionId;
use crate::protocol::frame::RequestId;
use crate::session::stream::Stream;
use crate::store::records::{Expect, Space, Write};

/// How much of a stream may be shown to its client.
#[derive(Debug, Default)]
pub(in crate::session) struct Mark {
    /// That it is there.
    itself: AtomicBool,
    /// Its events up to this one.
    event: AtomicU64,
}

impl Mark {
    /// All of what was read from the disk.
    pub(super) fn up_to(number: u64) -> Arc<Self> {
        Arc::new(Mark { itself: true.into(), event: number.into() })
    }

    /// Whether the stream itself may be shown.
    pub(in crate::session) fn is_shown(&self) -> bool {
        self.itself.load(Ordering::Acquire)
    }

    /// The newest event that may be shown.
    pub(super) fn event(&self) -> u64 {
        self.event.load(Ordering::Acquire)
    }

    fn show(&self, number: u64) {
        self.event.fetch_max(number, Ordering::AcqRel);
        self.itself.store(true, Ordering::Release);
    }
}

/// See the module head.
#[derive(Debug)]
pub(in crate::session) struct Journal {
    session: SessionId,
    keeper: Arc<Keeper>,
    inner: Mutex<Inner>,
    /// How many changes are written.
    settled: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    phase: Phase,
    row: SessionRow,
    row_changed: bool,
    /// When it was last put, by the store's clock.
    put_at: u64,
    streams: HashMap<u64, Tracked>,
    streams_changed: BTreeSet<u64>,
    streams_forgotten: BTreeSet<u64>,
    events: BTreeMap<(u64, u64), Change>,
    changes: u64,
    is_queued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Kept,
    /// The session has ended.
    Over,
    /// It cannot be written.
    Lapsed,
}

#[derive(Debug)]
struct Tracked {
    row: StreamRow,
    mark: Arc<Mark>,
    stream: Weak<Stream>,
}

/// Of an event: its text, or that it goes.
#[derive(Debug)]
struct Change {
    kind: Kind,
    text: Option<Bytes>,
}

/// What is to be written of a session at once.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) session: SessionId,
    pub(super) writes: Vec<Write>,
    /// Whether it is the session's end.
    pub(super) is_end: bool,
    changes: u64,
    shown: Vec<(Arc<Mark>, u64, Weak<Stream>)>,
}

impl Batch {
    /// Roughly.
    pub(super) fn bytes(&self) -> usize {
        let sizes = self.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key, .. } => key.len(),
        });
        sizes.sum()
    }
}

impl Journal {
    /// Of a session that is to be written.
    pub(super) fn new(session: SessionId, row: SessionRow, keeper: Arc<Keeper>) -> Arc<Self> {
        let inner = Inner {
            phase: Phase::Kept,
            row,
            row_changed: false,
            put_at: 0,
            streams: HashMap::new(),
            streams_changed: BTreeSet::new(),
            streams_forgotten: BTreeSet::new(),
            events: BTreeMap::new(),
            changes: 0,
            is_queued: false,
        };
        Arc::new(Journal { session, keeper, inner: Mutex::new(inner), settled: watch::Sender::new(0) })
    }

    /// Notes what has become of the session.
    pub(in crate::session) fn change(self: &Arc<Self>, change: impl FnOnce(&mut SessionRow)) {
        self.note(|inner| {
            change(&mut inner.row);
            inner.row_changed = true;
        });
    }

    /// Puts the session's record again if it would expire otherwise; `used_ms` ago it was used.
    pub(in crate::session) fn renew(self: &Arc<Self>, used_ms: u64) {
        let (now, renewal) = (self.keeper.now_ms(), self.keeper.renewal_ms());
        let put_at = self.lock().put_at;
        if now.saturating_sub(used_ms) > put_at && now.saturating_sub(put_at) > renewal {
            self.change(|_| {});
        }
    }

    /// Whether the client is subscribed to that resource.
    pub(in crate::session) fn follows(&self, public: &str) -> bool {
        self.lock().row.subscriptions.contains_key(public)
    }

    /// A stream of these requests was opened; `stream` is read when that is written.
    pub(in crate::session) fn opened(
        self: &Arc<Self>,
        stream: &Arc<Stream>,
        mark: &Arc<Mark>,
        requests: &[RequestId],
    ) {
        let text = |id: &RequestId| String::from_utf8_lossy(id.as_bytes()).into_owned();
        let row = StreamRow { requests: requests.iter().map(text).collect(), ..StreamRow::default() };
        self.track(stream, mark, row);
        self.note(|inner| inner.put_stream(stream.number()));
    }

    /// A stream that is there already.
    pub(super) fn track(&self, stream: &Arc<Stream>, mark: &Arc<Mark>, row: StreamRow) {
        let mut inner = self.lock();
        if inner.phase != Phase::Kept {
            mark.show(u64::MAX);
            return;
        }
        let tracked = Tracked { row, mark: Arc::clone(mark), stream: Arc::downgrade(stream) };
        inner.streams.insert(stream.number(), tracked);
    }

    /// Everything was said on a stream.
    pub(in crate::session) fn stream_ended(self: &Arc<Self>, stream: u64) {
        self.change_stream(stream, |row| row.has_ended = true);
    }

    /// A stream is no longer kept.
    pub(in crate::session) fn stream_gone(self: &Arc<Self>, stream: u64) {
        self.change_stream(stream, |row| row.is_gone = true);
    }

    /// Nor that it was there.
    pub(in crate::session) fn stream_forgotten(self: &Arc<Self>, stream: u64) {
        self.note(|inner| {
            inner.streams.remove(&stream);
            inner.streams_changed.remove(&stream);
            inner.streams_forgotten.insert(stream);
        });
    }

    /// An event of a stream was taken.
    pub(super) fn taken(self: &Arc<Self>, stream: u64, number: u64) {
        self.change_stream(stream, |row| row.taken = number);
    }

    fn change_stream(self: &Arc<Self>, stream: u64, change: impl FnOnce(&mut StreamRow)) {
        self.note(|inner| {
            if let Some(tracked) = inner.streams.get_mut(&stream) {
                change(&mut tracked.row);
                inner.put_stream(stream);
            }
        });
    }

    /// An event was said.
    pub(super) fn said(self: &Arc<Self>, stream: u64, number: u64, kind: Kind, text: Bytes) {
        self.note(|inner| {
            inner.events.insert((stream, number), Change { kind, text: Some(text) });
        });
    }

    /// An event is gone.
    pub(super) fn gone(self: &Arc<Self>, stream: u64, number: u64, kind: Kind) {
        self.note(|inner| {
            let tracked = inner.streams.get_mut(&stream);
            if tracked.is_some_and(|tracked| tracked.row.lose(number, kind)) {
                inner.put_stream(stream);
            }
            let unwritten = inner.events.remove(&(stream, number));
            if unwritten.is_none_or(|change| change.text.is_none()) {
                inner.events.insert((stream, number), Change { kind, text: None });
            }
        });
    }

    /// The session has ended for good: nothing of it stays. What is still said on its streams is shown at once.
    pub(in crate::session) fn end(self: &Arc<Self>) {
        let mut woken = Vec::new();
        self.note(|inner| woken = inner.leave(Phase::Over));
        wake(&woken);
    }

    /// It cannot be written: it goes on without.
    pub(super) fn lapse(&self) {
        let woken = {
            let mut inner = self.lock();
            if inner.phase == Phase::Lapsed {
                return;
            }
            inner.leave(Phase::Lapsed)
        };
        self.settled.send_replace(u64::MAX);
        wake(&woken);
    }

    /// Whether the gateway is about to stop: what ends now goes on in the next one.
    pub(in crate::session) fn is_stopping(&self) -> bool {
        self.keeper.is_stopping()
    }

    /// Resolves when everything up to now is written, or never will be.
    pub(in crate::session) async fn until_written(&self) {
        let changes = self.lock().changes;
        let mut settled = self.settled.subscribe();
        // The sender is a part of this.
        let _ = settled.wait_for(|settled| *settled >= changes).await;
    }

    fn note(self: &Arc<Self>, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        if inner.phase != Phase::Kept {
            return;
        }
        change(&mut inner);
        inner.changes += 1;
        let is_queued = std::mem::replace(&mut inner.is_queued, true);
        drop(inner);
        if !is_queued {
            self.keeper.queue(Arc::clone(self));
        }
    }

    /// Everything that is to be written now.
    pub(super) fn take(&self) -> Option<Batch> {
        let expires = self.keeper.now_ms().saturating_add(self.keeper.lease_ms());
        let mut inner = self.lock();
        inner.is_queued = false;
        let mut batch = Batch {
            session: self.session,
            writes: Vec::new(),
            is_end: inner.phase == Phase::Over,
            changes: inner.changes,
            shown: Vec::new(),
        };
        match inner.phase {
            Phase::Lapsed => return None,
            Phase::Over => batch.writes.push(delete(SESSIONS, session_key(self.session))),
            Phase::Kept => {
                if std::mem::take(&mut inner.row_changed) {
                    inner.put_at = self.keeper.now_ms();
                    let key = session_key(self.session);
                    batch.writes.push(put(SESSIONS, key, json(&inner.row), Some(expires)));
                }
                inner.write_streams(self.session, &mut batch);
            }
        }
        Some(batch)
    }

    /// What was taken is written.
    pub(super) fn settle(&self, batch: Batch) {
        for (mark, number, stream) in &batch.shown {
            mark.show(*number);
            // After the mark, or its reader would look too early.
            wake(std::slice::from_ref(stream));
        }
        self.settled.send_modify(|settled| *settled = batch.changes.max(*settled));
    }

    /// Held for a few instructions, and never across an await; no lock of a stream is taken under it.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn put_stream(&mut self, stream: u64) {
        if self.streams.contains_key(&stream) {
            self.streams_changed.insert(stream);
        }
    }

    fn leave(&mut self, phase: Phase) -> Vec<Weak<Stream>> {
        self.phase = phase;
        self.row_changed = false;
        self.events.clear();
        self.streams_changed.clear();
        self.streams_forgotten.clear();
        let streams = self.streams.drain().map(|(_, tracked)| {
            tracked.mark.show(u64::MAX);
            tracked.stream
        });
        streams.collect()
    }

    fn write_streams(&mut self, session: SessionId, batch: &mut Batch) {
        let mut shown: BTreeMap<u64, u64> = BTreeMap::new();
        for stream in std::mem::take(&mut self.streams_changed) {
            if let Some(tracked) = self.streams.get(&stream) {
                batch.writes.push(put(STREAMS, stream_key(session, stream), json(&tracked.row), None));
                shown.insert(stream, 0);
            }
        }
        for stream in std::mem::take(&mut self.streams_forgotten) {
            batch.writes.push(delete(STREAMS, stream_key(session, stream)));
        }
        for ((stream, number), Change { kind, text }) in std::mem::take(&mut self.events) {
            let key = event_key(session, stream, number, kind);
            match text {
                Some(text) => {
                    shown.insert(stream, number);
                    batch.writes.push(put(EVENTS, key, text, None));
                }
                None => batch.writes.push(delete(EVENTS, key)),
            }
        }
        for (stream, number) in shown {
            if let Some(tracked) = self.streams.get(&stream) {
                batch.shown.push((Arc::clone(&tracked.mark), number, Weak::clone(&tracked.stream)));
            }
        }
    }
}

fn wake(streams: &[Weak<Stream>]) {
    streams.iter().filter_map(Weak::upgrade).for_each(|stream| stream.wake());
}

fn put(space: Space, key: Vec<u8>, value: Bytes, expires: Option<u64>) -> Write {
    Write::Put { space, key, value, owner: None, expires, expect: Expect::Any }
}

pub(super) fn delete(space: Space, key: Vec<u8>) -> Write {
    Write::Delete { space, key, expect: Expect::Any }
}

fn json(row: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(row).expect("texts, numbers and maps of texts are JSON").into()
}
