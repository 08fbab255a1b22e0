//! From the work of a request to a stream: what it tells, then its answer, then the end.
//!
//! Always: everything that was told before the answer comes before it, and nothing after it (S-PROG-03); however the work
//! ends, by panic even, its stream ends. Not here: who reads the stream.

use std::sync::Arc;

use bytes::Bytes;

use super::events::Told;
use super::exchange::{Finished, Work};
use super::telling::Telling;
use crate::protocol::message::one_line;
use crate::session::stream::{LoggedEvent, Stream, Weight};
use crate::session::streams::{Requests, Streams};

/// Runs work and puts what comes of it on a stream.
pub(super) struct Pump {
    pub(super) telling: Telling,
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
            tokio::select! {
                biased;
                // First, so that nothing more is said of a request that was withdrawn; what was told before its answer
                // goes before it all the same.
                finished = &mut work => break finished,
                told = self.telling.next() => self.outlet.tell(told),
            }
        };
        // Its place among the calls in flight is free before its answer can be read.
        drop(work);
        self.close(finished);
    }

    /// Puts what was told last, and the answer, on the stream.
    pub(super) fn close(self, finished: Finished) {
        let Pump { telling, outlet } = self;
        for told in telling.close(matches!(finished, Finished::Withdrawn)) {
            outlet.tell(told);
        }
        if let Finished::Response { mut text, .. } = finished {
            one_line(&mut text);
            outlet.put(text.into(), Weight::Answer);
        }
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

    /// Puts what a request tells on the stream. Whoever waits for an answer learns when it found no place.
    pub(super) fn tell(&self, told: Told) {
        let Told { message, weight } = told;
        if self.put_event(LoggedEvent::new(message.text.clone(), weight).asked_by(message.asker())) {
            message.arrived();
        }
    }

    /// Puts a message on the stream, and says whether it found a place there.
    pub(super) fn put(&self, text: Bytes, weight: Weight) -> bool {
        self.put_event(LoggedEvent::new(text, weight))
    }

    fn put_event(&self, event: LoggedEvent) -> bool {
        let weight = event.weight;
        let put = match &self.streams {
            Some(streams) => streams.put_event(&self.stream, event),
            None => self.stream.push_event(event),
        };
        if put.is_err() {
            tracing::debug!(stream = self.stream.number(), ?weight, "a message found no place on its stream");
        }
        put.is_ok()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.shared {
            return;
        }
        match &self.streams {
            Some(streams) => streams.ended(&self.stream),
            None => self.stream.finish(),
        }
    }
}
