//! A stream of a client as a response body: events with or without ids, comments while it is silent.
//!
//! Always: actix asks for more only while the client reads, so a slow client holds up nothing but its own stream
//! (S-HTTPS-17); ids go to those revisions alone that can use them (S-RESUM-03). Not here: what is on the stream.

use std::collections::VecDeque;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use crate::config::bounds::Bounds;
use crate::protocol::era::Revision;
use crate::protocol::sse;
use crate::session::SessionHandle;
use crate::session::event_id::Place;
use crate::session::stream::{End, Next, StreamReader};
use crate::session::streams::Streams;

/// How a client wants its events.
pub(super) struct Framing {
    keep_alive: Duration,
    /// Who names the events, where they have ids.
    ids: Option<Arc<Streams>>,
    polling: Option<Polling>,
    /// What goes before all events of the stream.
    greeting: Option<Vec<u8>>,
}

/// For clients that take a stream's end for a pause (SEP-1699).
#[derive(Clone, Copy)]
struct Polling {
    retry: Duration,
    age: Duration,
}

impl Framing {
    /// Events without ids.
    pub(super) fn plain(bounds: &Bounds) -> Self {
        Framing { keep_alive: bounds.keep_alive, ids: None, polling: None, greeting: None }
    }

    /// With an event before all others.
    pub(super) fn greeting(self, event: Vec<u8>) -> Self {
        Framing { greeting: Some(event), ..self }
    }

    /// As the session's revision has them.
    pub(super) fn of(session: &SessionHandle, bounds: &Bounds) -> Self {
        let polls = session.revision() >= Revision::V2025_11_25;
        let streams = session.streams();
        Framing {
            keep_alive: bounds.keep_alive,
            ids: streams.ids().is_some().then(|| Arc::clone(streams)),
            polling: polls.then_some(Polling { retry: bounds.retry, age: bounds.stream_age }),
            greeting: None,
        }
    }

    fn id(&self, place: Place) -> Option<String> {
        self.ids.as_ref().and_then(|streams| streams.ids()).map(|ids| ids.seal(place))
    }
}

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The head of every stream.
pub(super) fn stream_head() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header((X_ACCEL_BUFFERING, HeaderValue::from_static("no")));
    response
}

/// Bytes gathered before they are given away.
const CHUNK: usize = 32 * 1024;
/// Messages from this size on go out as they are, without being copied between others.
const LARGE: usize = 16 * 1024;

/// See the module head.
pub(super) struct EventStream {
    chunks: VecDeque<Bytes>,
    ready: Vec<u8>,
    reader: StreamReader,
    /// Behind the reader: what it leaves unread is kept from then on.
    budget: Budget,
    framing: Framing,
    close_at: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    ended: bool,
    _work: Option<TiedWork>,
}

/// What a client has read, and what it leaves unread, is kept for it within the budget of its session.
struct Budget(Option<Arc<Streams>>);

impl Budget {
    fn keep(&self) {
        if let Some(streams) = &self.0 {
            streams.keep_within_budget();
        }
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.keep();
    }
}

/// Work that ends with its client.
struct TiedWork(JoinHandle<()>);

impl Drop for TiedWork {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl EventStream {
    /// A body of what `reader` reads. `tied` is the work that is of no use without it.
    pub(super) fn of(reader: StreamReader, framing: Framing, tied: Option<JoinHandle<()>>) -> Self {
        let now = Instant::now();
        let close_at = framing.polling.map(|polling| now + polling.age);
        let mut stream = EventStream {
            chunks: VecDeque::new(),
            ready: Vec::new(),
            reader,
            budget: Budget(framing.ids.clone()),
            close_at,
            timer: Box::pin(tokio::time::sleep_until(now + framing.keep_alive)),
            framing,
            ended: false,
            _work: tied.map(TiedWork),
        };
        stream.open();
        stream.set_timer(now);
        stream
    }

    /// A first byte makes proxies and clients see the stream at once; an id makes it one that can be resumed.
    fn open(&mut self) {
        match (self.framing.greeting.take(), self.framing.polling) {
            (Some(greeting), _) => self.ready.extend(greeting),
            (None, Some(polling)) => self.pause_event(polling.retry),
            (None, None) => sse::write_comment(&mut self.ready, ""),
        }
    }

    /// An event that says where the client has got to, and when to ask again should the stream end.
    fn pause_event(&mut self, retry: Duration) {
        let milliseconds = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
        sse::write_retry(&mut self.ready, milliseconds);
        let id = self.framing.id(self.place(self.reader.position()));
        sse::write_event(&mut self.ready, id.as_deref(), None, b"");
    }

    fn place(&self, number: u64) -> Place {
        Place { stream: self.reader.stream().number(), number }
    }

    fn write(&mut self, number: u64, text: Bytes) {
        let id = self.framing.id(self.place(number));
        // What passes as it is must be one line already; almost all JSON on the wire is.
        if text.len() < LARGE || memchr::memchr2(b'\n', b'\r', &text).is_some() {
            return sse::write_event(&mut self.ready, id.as_deref(), Some("message"), &text);
        }
        sse::write_event_head(&mut self.ready, id.as_deref(), Some("message"));
        self.chunks.push_back(Bytes::from(std::mem::take(&mut self.ready)));
        self.chunks.push_back(text);
        self.ready.extend_from_slice(b"\n\n");
    }

    /// Moves what has happened into `ready`, as much as one chunk may hold.
    fn gather(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.ready.len() < CHUNK && self.chunks.is_empty() {
            match self.reader.poll_next(cx) {
                Poll::Ready(Next::Event(number, text)) => self.write(number, text),
                Poll::Ready(Next::End(end)) => {
                    self.ended = true;
                    if let (End::Closed, Some(polling)) = (end, self.framing.polling) {
                        self.pause_event(polling.retry);
                    }
                }
                Poll::Pending => break,
            }
        }
        self.budget.keep();
    }

    fn take_chunk(&mut self) -> Option<Bytes> {
        self.chunks
            .pop_front()
            .or_else(|| (!self.ready.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.ready))))
    }

    /// Nothing happened for a while, or the stream is old.
    fn time_is_over(&mut self) {
        let now = Instant::now();
        match (self.close_at, self.framing.polling) {
            (Some(close_at), Some(polling)) if now >= close_at => {
                self.pause_event(polling.retry);
                self.ended = true;
            }
            _ => sse::write_comment(&mut self.ready, ""),
        }
        self.set_timer(now);
    }

    fn set_timer(&mut self, now: Instant) {
        let silent = now + self.framing.keep_alive;
        let due = self.close_at.map_or(silent, |close_at| close_at.min(silent));
        self.timer.as_mut().reset(due);
    }
}

impl MessageBody for EventStream {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        // The first thing that it says names it.
        std::task::ready!(this.reader.poll_shown(cx));
        loop {
            this.gather(cx);
            if let Some(chunk) = this.take_chunk() {
                return Poll::Ready(Some(Ok(chunk)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            std::task::ready!(this.timer.as_mut().poll(cx));
            this.time_is_over();
        }
    }
}
