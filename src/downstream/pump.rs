//! From the work of a request to a stream: what it tells, then its answer, then the end.
//!
//! Always: everything that was told before the answer comes before it, and nothing after it (S-PROG-03); however the work
//! ends, by panic even, its stream ends. Not here: who reads the stream.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::events::EventWriter;
use super::exchange::{Finished, Work};
use crate::protocol::message::one_line;
use crate::session::stream::{Stream, Weight};
use crate::session::streams::{Requests, Streams};
use crate::upstream::events::{CallEvent, Events};

/// Runs work and puts what comes of it on a stream.
pub(super) struct Pump {
    pub(super) events: Events,
    pub(super) writer: EventWriter,
    pub(super) outlet: Outlet,
}

/// The stream that messages go to. Dropping it ends a stream that is this request's own.
pub(super) struct Outlet {
    stream: Arc<Stream>,
    /// Whose budget it uses.
    streams: Option<Arc<Streams>>,
    shared: bool,
}

impl Pump {
    /// Runs the work to its end.
    pub(super) async fn run(mut self, mut work: Work) {
        let finished = loop {
            let due = self.writer.due();
            tokio::select! {
                biased;
                // First, so that nothing more is said of a request that was withdrawn; what was told before its answer
                // goes before it all the same.
                finished = &mut work => break finished,
                event = self.events.recv() => {
                    if let Some((text, weight)) = self.writer.write(event) {
                        self.outlet.put(text, weight);
                    }
                }
                () = until(due) => {
                    if let Some((text, weight)) = self.writer.release() {
                        self.outlet.put(text, weight);
                    }
                }
            }
        };
        // Its place among the calls in flight is free before its answer can be read.
        drop(work);
        self.close(finished);
    }

    /// Puts what was told last, and the answer, on the stream. Of a request that was withdrawn only its session still
    /// speaks: that its questions are withdrawn as well (S-CANC-06).
    pub(super) fn close(mut self, finished: Finished) {
        let withdrawn = matches!(finished, Finished::Withdrawn);
        for event in self.events.close() {
            if withdrawn && !matches!(event, CallEvent::Message(_)) {
                continue;
            }
            if let Some((text, weight)) = self.writer.write(event) {
                self.outlet.put(text, weight);
            }
        }
        if let Finished::Response { mut text, .. } = finished {
            if let Some((text, weight)) = self.writer.release() {
                self.outlet.put(text, weight);
            }
            one_line(&mut text);
            self.outlet.put(text.into(), Weight::Answer);
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Outlet {
    /// A stream that belongs to no session.
    pub(super) fn own(stream: Arc<Stream>) -> Self {
        Outlet { stream, streams: None, shared: false }
    }

    /// A client's one stream, which carries this request's messages among others.
    pub(super) fn shared(stream: Arc<Stream>) -> Self {
        Outlet { stream, streams: None, shared: true }
    }

    /// A new stream of a session, for these requests.
    pub(super) fn kept(streams: &Arc<Streams>, requests: Requests) -> Self {
        Outlet { stream: streams.open(requests), streams: Some(Arc::clone(streams)), shared: false }
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Puts a message on the stream, if it finds a place there.
    pub(super) fn put(&self, text: Bytes, weight: Weight) {
        if self.stream.push(text, weight).is_err() {
            tracing::debug!(stream = self.stream.number(), ?weight, "a message found no place on its stream");
        }
        if let Some(streams) = &self.streams {
            streams.keep_within_budget();
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.shared {
            return;
        }
        self.stream.finish();
        if let Some(streams) = &self.streams {
            streams.tidy();
        }
    }
}
