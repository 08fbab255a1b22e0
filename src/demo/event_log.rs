//! The messages of one HTTP stream of the handshake era, kept so that a client can come back for them.
//!
//! Always: bounded in events and bytes, oldest dropped first; a message is in exactly one log. A reader that fell behind what is
//! still kept is told so. Not here: framing (`http::sse`) and which log a message belongs to (`session`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

const MAX_EVENTS: usize = 1024;
const MAX_BYTES: usize = 32 << 20;

/// One stream's messages.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// Number of the stream in its session; part of every event id.
    pub(crate) number: u64,
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<str>>,
    bytes: usize,
    /// How many events have left `events` at the front.
    dropped: u64,
    finished: bool,
    /// Readers older than this must leave, though the stream goes on.
    readers_cut: u64,
    readers: u64,
    /// The last event that any reader was given.
    read_up_to: u64,
    /// The answer must be a stream, even if the response is all that comes.
    committed: bool,
}

/// What a reader gets next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// An event and its sequence number, counted from 1.
    Event(u64, Arc<str>),
    /// Nothing more will come here: the stream ended, was cut, or fell behind.
    End,
}

impl EventLog {
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(EventLog { number, kept: Mutex::default(), changed: Notify::new() })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, message: &Value) -> bool {
        let text: Arc<str> = message.to_string().into();
        let mut kept = self.kept();
        if kept.finished {
            return false;
        }
        kept.bytes += text.len();
        kept.events.push_back(text);
        while kept.events.len() > 1 && (kept.events.len() > MAX_EVENTS || kept.bytes > MAX_BYTES) {
            let gone = kept.events.pop_front().map_or(0, |event| event.len());
            kept.bytes -= gone;
            kept.dropped += 1;
        }
        drop(kept);
        self.changed.notify_waiters();
        true
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&self) {
        self.kept().finished = true;
        self.changed.notify_waiters();
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.kept().finished
    }

    pub(crate) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// Makes the answer a stream from now on.
    pub(crate) fn commit(&self) {
        self.kept().committed = true;
        self.changed.notify_waiters();
    }

    /// Ends the connections that read now; the stream itself goes on and can be resumed.
    pub(crate) fn cut(&self) {
        let mut kept = self.kept();
        kept.readers_cut = kept.readers;
        drop(kept);
        self.changed.notify_waiters();
    }

    /// The last event that any reader was given, or that is gone for good.
    pub(crate) fn read_up_to(&self) -> u64 {
        let kept = self.kept();
        kept.read_up_to.max(kept.dropped)
    }

    /// A ticket for a new reader.
    pub(crate) fn admit_reader(&self) -> u64 {
        let mut kept = self.kept();
        kept.readers += 1;
        kept.readers
    }

    /// The only message of a stream that ended with it, if that is known within the time given; else it must be streamed.
    pub(crate) async fn lone_message(&self, patience: Duration) -> Option<Arc<str>> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let kept = self.kept();
                let streaming = kept.committed || kept.events.len() > 1;
                if streaming || (kept.finished && kept.events.is_empty()) {
                    return None;
                }
                if kept.finished {
                    return kept.events.front().cloned();
                }
                if !kept.events.is_empty() && is_for_now(&kept.events[0]) {
                    return None;
                }
            }
            timeout_at(deadline, changed).await.ok()?;
        }
    }

    /// Waits for the first event after `seen`.
    pub(crate) async fn next(&self, seen: u64, reader: u64) -> Next {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut kept = self.kept();
                if seen < kept.dropped {
                    return Next::End;
                }
                let index = usize::try_from(seen - kept.dropped).unwrap_or(usize::MAX);
                if let Some(event) = kept.events.get(index).cloned() {
                    kept.read_up_to = kept.read_up_to.max(seen + 1);
                    return Next::Event(seen + 1, event);
                }
                if kept.finished || reader <= kept.readers_cut {
                    return Next::End;
                }
            }
            changed.await;
        }
    }
}

/// A request or notification must reach the client at once; a response may wait a moment for the stream to end.
fn is_for_now(event: &str) -> bool {
    serde_json::from_str::<Value>(event).is_ok_and(|message| message.get("method").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_reader_resumes_after_what_it_has_seen() {
        let log = EventLog::new(3);
        for number in 1..=3 {
            log.push(&json!(number));
        }
        let reader = log.admit_reader();
        assert_eq!(log.next(2, reader).await, Next::Event(3, "3".into()));
        log.finish();
        assert_eq!(log.next(3, reader).await, Next::End);
    }

    #[tokio::test]
    async fn a_cut_ends_the_readers_but_not_the_stream() {
        let log = EventLog::new(3);
        let first = log.admit_reader();
        log.cut();
        assert_eq!(log.next(0, first).await, Next::End);
        let second = log.admit_reader();
        log.push(&json!("late"));
        assert_eq!(log.next(0, second).await, Next::Event(1, "\"late\"".into()));
    }

    #[tokio::test]
    async fn old_events_leave_when_there_are_too_many_and_a_late_reader_is_told() {
        let log = EventLog::new(3);
        for number in 0..=MAX_EVENTS {
            log.push(&json!(number));
        }
        let reader = log.admit_reader();
        assert_eq!(log.next(0, reader).await, Next::End);
        assert_eq!(log.next(1, reader).await, Next::Event(2, "1".into()));
    }

    #[tokio::test]
    async fn only_a_lone_response_is_answered_without_a_stream() {
        let log = EventLog::new(3);
        log.push(&json!({"id": 1, "result": {}}));
        log.finish();
        assert!(log.lone_message(Duration::from_secs(5)).await.is_some());
        let log = EventLog::new(4);
        log.push(&json!({"method": "notifications/progress"}));
        assert!(log.lone_message(Duration::from_secs(5)).await.is_none());
    }
}
