//! One request being answered: JSON if the answer is the first thing to come, an event stream if something else is.
//!
//! Always: nothing of the answer is written before it is known which of the two it will be (S-HTTPS-06). A client that
//! leaves drops the work, which cancels it, or, in the handshake era, leaves it to run to its end (S-HTTPS-12). Not here:
//! the stream's order and bounds (`session::stream`), its bytes on the wire (`body`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use bytes::Bytes;

use super::body::{EventStream, Framing, stream_head};
use super::http::accepted;
use super::large_body::{self, LargeBody};
use super::pump::{Outlet, Pump};
use super::telling::Telling;
use crate::protocol::accept::Accepts;
use crate::session::stream::Stream;
use crate::session::streams::{Requests, Streams};

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
    pub(super) telling: Telling,
    pub(super) accepts: Accepts,
    /// Silence before the answer becomes a stream.
    pub(super) patience: Duration,
    pub(super) becomes: Becomes,
    pub(super) framing: Framing,
}

/// What stream an answer becomes, if it becomes one.
pub(super) enum Becomes {
    /// One that ends with its client, and the work with it; at most so many bytes wait on it.
    Alone(usize),
    /// One that its session keeps, so that the work goes on when the client leaves.
    Kept { streams: Arc<Streams>, requests: Requests },
}

impl Exchange {
    /// Runs the work until the form of the answer is known.
    pub(super) async fn run(mut self, work: Work) -> HttpResponse {
        let outlives_client = matches!(self.becomes, Becomes::Kept { .. });
        let mut work = WorkInHand { work: Some(work), outlives_client };
        if !self.accepts.events {
            // Whatever else happens has no way to this client.
            return match (&mut work).await {
                // Nor has a stream without a response, which is what the others get (S-HTTPS-07).
                Finished::Withdrawn => accepted(),
                finished => json(finished),
            };
        }
        let patience = if self.accepts.json { self.patience } else { Duration::ZERO };
        let patience = tokio::time::sleep(patience);
        tokio::pin!(patience);
        let (first, finished) = {
            tokio::select! {
                told = self.telling.next() => (Some(told), None),
                finished = &mut work => {
                    // What was told before the answer goes before it (S-HTTPS-10).
                    let told = self.telling.try_next();
                    let success = matches!(&finished, Finished::Response { status, .. } if status.is_success());
                    if (told.is_none() && self.accepts.json) || !success {
                        return json(finished);
                    }
                    (told, Some(finished))
                }
                () = &mut patience => (None, None),
            }
        };
        let outlet = self.becomes.outlet();
        let reader = outlet.stream().read();
        if outlives_client {
            // Who puts something there may want to know whether anybody is left to read it.
            self.telling.is_read_on(outlet.stream());
        }
        if let Some(told) = first {
            outlet.tell(told);
        }
        let pump = Pump { telling: self.telling, outlet };
        match finished {
            Some(finished) => {
                pump.close(finished);
                stream_head().body(EventStream::of(reader, self.framing, None))
            }
            None => {
                let task = tokio::task::spawn_local(pump.run(work.take()));
                let tied = (!outlives_client).then_some(task);
                stream_head().body(EventStream::of(reader, self.framing, tied))
            }
        }
    }
}

impl Becomes {
    fn outlet(&self) -> Outlet {
        match self {
            Becomes::Alone(limit) => Outlet::own(Stream::alone(*limit)),
            Becomes::Kept { streams, requests } => Outlet::kept(streams, requests.clone()),
        }
    }
}

/// An answer that is known before anything was streamed.
pub(super) fn json(finished: Finished) -> HttpResponse {
    match finished {
        Finished::Response { status, text } => {
            let mut response = HttpResponse::build(status);
            response.insert_header((CONTENT_TYPE, JSON));
            if text.len() > large_body::PIECE {
                response.body(LargeBody::of(text.into()))
            } else {
                response.body(Bytes::from(text))
            }
        }
        // A stream that ends without a response is the least misleading of the answers HTTP leaves.
        Finished::Withdrawn => stream_head().finish(),
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The work while the form of its answer is open: polled in place, because most answers come at once.
struct WorkInHand {
    work: Option<Work>,
    outlives_client: bool,
}

impl WorkInHand {
    /// Gives the work away, to be run in a task of its own: a client that reads slowly holds up neither its deadline nor
    /// its cancellation.
    fn take(&mut self) -> Work {
        self.work.take().unwrap_or_else(|| Box::pin(std::future::ready(Finished::Withdrawn)))
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
