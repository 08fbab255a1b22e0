//! One request being answered: JSON if the answer is the first thing to come, an event stream if something else is.
//!
//! Always: nothing of the answer is written before it is known which of the two it will be (S-HTTPS-06). A client that
//! leaves drops the work, which cancels it, or, in the handshake era, leaves it to run to its end (S-HTTPS-12).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::events::EventWriter;
use crate::protocol::accept::Accepts;
use crate::protocol::message::one_line;
use crate::protocol::sse;
use crate::upstream::call::CallEvent;

/// How the work of a request ended.
#[derive(Debug)]
pub(super) enum Finished {
    /// With this JSON-RPC response, and this status while there is a choice.
    Response { status: StatusCode, text: Vec<u8> },
    /// The client cancelled: there is no response (S-CANC-01).
    Withdrawn,
}

pub(super) type Work = Pin<Box<dyn Future<Output = Finished>>>;

/// Everything that shapes the answer but the work itself.
pub(super) struct Exchange {
    pub(super) events: mpsc::Receiver<CallEvent>,
    pub(super) writer: EventWriter,
    pub(super) accepts: Accepts,
    pub(super) stream_after: Duration,
    pub(super) keep_alive: Duration,
    /// Whether the work goes on when the client leaves.
    pub(super) outlives_client: bool,
}

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl Exchange {
    /// Runs the work until the form of the answer is known.
    pub(super) async fn run(mut self, work: Work) -> HttpResponse {
        let mut work = WorkInHand { work: Some(work), outlives_client: self.outlives_client };
        if !self.accepts.events {
            // Whatever else happens has no way to this client.
            return json((&mut work).await);
        }
        let patience = if self.accepts.json { self.stream_after } else { Duration::ZERO };
        let patience = tokio::time::sleep(patience);
        tokio::pin!(patience);
        let first = loop {
            tokio::select! {
                Some(event) = self.events.recv() => {
                    if let Some(message) = self.writer.write(event) {
                        break Some(message);
                    }
                }
                finished = &mut work => {
                    // What was told before the answer goes before it (S-HTTPS-10).
                    let mut told = Vec::new();
                    while let Ok(event) = self.events.try_recv() {
                        if let Some(message) = self.writer.write(event) {
                            sse::write_event(&mut told, None, Some("message"), &message);
                        }
                    }
                    let success = matches!(&finished, Finished::Response { status, .. } if status.is_success());
                    if (told.is_empty() && self.accepts.json) || !success {
                        return json(finished);
                    }
                    if let Finished::Response { mut text, .. } = finished {
                        one_line(&mut text);
                        sse::write_event(&mut told, None, Some("message"), &text);
                    }
                    return stream_head().body(told);
                }
                () = &mut patience => break None,
            }
        };
        let mut ready = Vec::new();
        match first {
            Some(message) => sse::write_event(&mut ready, None, Some("message"), &message),
            None => sse::write_comment(&mut ready, ""),
        }
        stream_head().body(EventStream::of_call(ready, self, work.into_task()))
    }
}

/// An answer that is known before anything was streamed.
pub(super) fn json(finished: Finished) -> HttpResponse {
    match finished {
        Finished::Response { status, text } => {
            HttpResponse::build(status).insert_header((CONTENT_TYPE, JSON)).body(text)
        }
        // A stream that ends without a response is the least misleading of the answers HTTP leaves.
        Finished::Withdrawn => stream_head().finish(),
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn stream_head() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("text/event-stream")))
        .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .insert_header((X_ACCEL_BUFFERING, HeaderValue::from_static("no")));
    response
}

/// The standing stream of a session: whatever the session sends, and comments while it is silent.
pub(super) fn standing_stream(messages: mpsc::Receiver<Bytes>, keep_alive: Duration) -> HttpResponse {
    let mut ready = Vec::new();
    // A first byte makes proxies and clients see the stream at once.
    sse::write_comment(&mut ready, "");
    stream_head().body(EventStream {
        ready,
        source: Source::Standing(messages),
        silence: silence(keep_alive),
        ended: false,
    })
}

/// The work while the form of its answer is open: polled in place, because most answers come at once.
struct WorkInHand {
    work: Option<Work>,
    outlives_client: bool,
}

impl WorkInHand {
    /// Gives the work a task of its own, so that a client that reads slowly holds up neither its deadline nor its
    /// cancellation.
    fn into_task(mut self) -> WorkInTask {
        let work = self.work.take();
        let task = tokio::task::spawn_local(async move {
            match work {
                Some(work) => work.await,
                None => Finished::Withdrawn,
            }
        });
        WorkInTask { task, outlives_client: self.outlives_client }
    }
}

impl Future for WorkInHand {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let finished = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(finished)
    }
}

impl Drop for WorkInHand {
    fn drop(&mut self) {
        if let Some(work) = self.work.take()
            && self.outlives_client
        {
            tokio::task::spawn_local(work);
        }
    }
}

/// The work in its own task.
struct WorkInTask {
    task: JoinHandle<Finished>,
    outlives_client: bool,
}

impl WorkInTask {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Finished> {
        // A task that panicked has no answer; its stream ends without one.
        Pin::new(&mut self.task).poll(cx).map(|finished| finished.unwrap_or(Finished::Withdrawn))
    }
}

impl Drop for WorkInTask {
    fn drop(&mut self) {
        if !self.outlives_client {
            self.task.abort();
        }
    }
}

enum Source {
    Call { exchange: Box<Exchange>, work: WorkInTask },
    Standing(mpsc::Receiver<Bytes>),
}

/// A response body of events. actix polls it only while the client reads, which is the backpressure (S-HTTPS-17).
struct EventStream {
    ready: Vec<u8>,
    source: Source,
    silence: Interval,
    ended: bool,
}

fn silence(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl EventStream {
    fn of_call(ready: Vec<u8>, exchange: Exchange, work: WorkInTask) -> Self {
        let silence = silence(exchange.keep_alive);
        EventStream {
            ready,
            source: Source::Call { exchange: Box::new(exchange), work },
            silence,
            ended: false,
        }
    }

    /// Moves everything that has happened into `ready`.
    fn gather(&mut self, cx: &mut Context<'_>) {
        match &mut self.source {
            Source::Standing(messages) => loop {
                match messages.poll_recv(cx) {
                    Poll::Ready(Some(message)) => {
                        sse::write_event(&mut self.ready, None, Some("message"), &message)
                    }
                    Poll::Ready(None) => break self.ended = true,
                    Poll::Pending => break,
                }
            },
            Source::Call { exchange, work } => {
                let finished = work.poll(cx);
                while let Poll::Ready(Some(event)) = exchange.events.poll_recv(cx) {
                    if let Some(message) = exchange.writer.write(event) {
                        sse::write_event(&mut self.ready, None, Some("message"), &message);
                    }
                }
                if let Poll::Ready(finished) = finished {
                    self.ended = true;
                    if let Finished::Response { mut text, .. } = finished {
                        one_line(&mut text);
                        sse::write_event(&mut self.ready, None, Some("message"), &text);
                    }
                }
            }
        }
    }
}

impl MessageBody for EventStream {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        if !this.ended {
            this.gather(cx);
        }
        while this.ready.is_empty() && !this.ended {
            std::task::ready!(this.silence.poll_tick(cx));
            sse::write_comment(&mut this.ready, "");
        }
        if this.ready.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Bytes::from(std::mem::take(&mut this.ready)))))
    }
}
