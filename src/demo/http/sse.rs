//! Streams of server-sent events.
//!
//! Always: one message is one `data` line; a quiet stream sends a comment every fifteen seconds.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use crate::demo::event_log::{EventLog, Next};
use crate::demo::session::Session;

const QUIET: Duration = Duration::from_secs(15);
/// What clients wait before they resume, in milliseconds.
const RETRY: u32 = 500;
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

type Chunk = Result<Bytes, std::convert::Infallible>;

fn respond(events: impl Stream<Item = Chunk> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(events)
}

/// The stream of a stateless request; dropping it cancels the request.
pub(super) fn stateless(
    first: Option<Value>,
    messages: mpsc::Receiver<Value>,
    guard: DropGuard,
) -> HttpResponse {
    let state = (first, messages, guard);
    respond(stream::unfold(state, |(first, mut messages, guard)| async move {
        let message = match first {
            Some(message) => message,
            None => match timeout(QUIET, messages.recv()).await {
                Err(_) => return Some((Ok(COMMENT), (None, messages, guard))),
                Ok(None) => return None,
                Ok(Some(message)) => message,
            },
        };
        Some((Ok(Bytes::from(format!("data: {message}\n\n"))), (None, messages, guard)))
    }))
}

/// A stream of a session, from after the event `seen`.
pub(super) struct Reading {
    log: Arc<EventLog>,
    seen: u64,
    ticket: u64,
    /// Bytes to begin with.
    opening: Option<Bytes>,
    standing: Option<StandingReader>,
}

impl Reading {
    pub(super) fn new(log: Arc<EventLog>, seen: u64) -> Self {
        let ticket = log.admit_reader();
        Reading { log, seen, ticket, opening: None, standing: None }
    }

    /// Begins with an event without data, from which a client can already resume. Older clients do not expect it.
    pub(super) fn primed(mut self) -> Self {
        let opening = format!("id: {}-{}\nretry: {RETRY}\ndata: \n\n", self.log.number, self.seen);
        self.opening = Some(Bytes::from(opening));
        self
    }

    pub(super) fn held_by(mut self, reader: StandingReader) -> Self {
        self.standing = Some(reader);
        self
    }

    pub(super) fn respond(self) -> HttpResponse {
        // A stream that begins with something lets the client know at once that it is open.
        let opening = self.opening.clone().unwrap_or(COMMENT);
        respond(stream::unfold((Some(opening), self), |(opening, mut reading)| async move {
            if let Some(opening) = opening {
                return Some((Ok(opening), (None, reading)));
            }
            let next = timeout(QUIET, reading.log.next(reading.seen, reading.ticket)).await;
            match next {
                Err(_) => Some((Ok(COMMENT), (None, reading))),
                Ok(Next::End) => None,
                Ok(Next::Event(sequence, text)) => {
                    reading.seen = sequence;
                    let mut event = String::with_capacity(text.len() + 32);
                    // Writing to a string cannot fail.
                    let _ = write!(event, "id: {}-{sequence}\ndata: {text}\n\n", reading.log.number);
                    Some((Ok(Bytes::from(event)), (None, reading)))
                }
            }
        }))
    }
}

/// The right to read a session's standing stream, which one reader has at a time.
pub(super) struct StandingReader {
    session: Arc<Session>,
}

impl StandingReader {
    pub(super) fn take(session: &Arc<Session>) -> Option<Self> {
        let taken = session.standing_taken.swap(true, std::sync::atomic::Ordering::AcqRel);
        (!taken).then(|| StandingReader { session: Arc::clone(session) })
    }
}

impl Drop for StandingReader {
    fn drop(&mut self) {
        self.session.standing_taken.store(false, std::sync::atomic::Ordering::Release);
    }
}
