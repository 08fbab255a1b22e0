//! The HTTP+SSE transport of 2024-11-05, as a client: one event stream down, a POST for every message up (S-SSE-04).
//!
//! Always: the stream is the session, so its end ends the link; messages go only to the origin that the stream came
//! from; every wait is bounded. Not here: when this transport is tried (`connect`), what messages mean (`arrivals`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;

use super::call::UpstreamCall;
use super::calls::Reply;
use super::error::UpstreamError;
use super::http::{self as client, AnswerBody, EventReader, HttpAnswer, HttpFailure};
use super::http_wire::{Endpoint, Headers, VERSION_HEADER, bad_status, seconds, trace_headers};
use super::incoming::Incoming;
use super::link::{FORGOTTEN, Link};
use super::sse_endpoint;
use crate::protocol::era::Revision;
use crate::protocol::frame::Answer;
use crate::protocol::sse::SseEvent;

/// Events before the one that names the endpoint.
const EVENTS_BEFORE: usize = 16;

/// How long a message that was answered already may take to be acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Where messages of one session go.
#[derive(Debug)]
pub(super) struct SseWire {
    endpoint: Endpoint,
    revision: OnceLock<Revision>,
}

impl SseWire {
    /// Opens a stream and waits until it says where messages go.
    pub(super) async fn open(
        base: &Endpoint,
        wait: Duration,
    ) -> Result<(SseWire, Box<EventReader>), UpstreamError> {
        let opened = tokio::time::timeout(wait, async {
            let mut reader = event_stream(base).await?;
            let said = endpoint_event(&mut reader).await?;
            Ok::<_, UpstreamError>((said, reader))
        });
        let (said, reader) = match opened.await {
            Ok(opened) => opened?,
            Err(_) => {
                let why = format!("no endpoint event within {} s", wait.as_secs_f32());
                return Err(UpstreamError::unavailable(why));
            }
        };
        let path = sse_endpoint::resolve(&base.target.url(), &said)
            .map_err(|fault| UpstreamError::unavailable(fault.to_string()))?;
        let endpoint = Endpoint { target: base.target.at(path), ..base.clone() };
        Ok((SseWire { endpoint, revision: OnceLock::new() }, reader))
    }

    /// From now on requests name this revision, which servers of this transport may ignore.
    pub(super) fn negotiated(&self, revision: Revision) {
        let _ = self.revision.set(revision);
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn headers(&self) -> Headers {
        let revision = self.revision.get();
        revision
            .map(|revision| (VERSION_HEADER, HeaderValue::from_static(revision.text())))
            .into_iter()
            .collect()
    }

    /// Posts a call and waits for its answer on the stream.
    pub(super) async fn call(
        &self,
        link: &Arc<Link>,
        text: Bytes,
        answer: &mut Reply,
        call: &UpstreamCall<'_>,
    ) -> Result<Answer, UpstreamError> {
        let mut headers = self.headers();
        trace_headers(&mut headers, call);
        self.exchange(link, text, answer, headers).await
    }

    /// Posts a request of the gateway's own.
    pub(super) async fn ask(
        &self,
        link: &Arc<Link>,
        text: Bytes,
        answer: &mut Reply,
    ) -> Result<Answer, UpstreamError> {
        self.exchange(link, text, answer, self.headers()).await
    }

    async fn exchange(
        &self,
        link: &Arc<Link>,
        text: Bytes,
        answer: &mut Reply,
        headers: Headers,
    ) -> Result<Answer, UpstreamError> {
        let endpoint = self.endpoint.clone();
        let mut post =
            Box::pin(async move { client::post(&endpoint.target, &headers, text, endpoint.limits).await });
        let taken = tokio::select! {
            biased;
            taken = &mut post => taken?,
            answered = &mut *answer => {
                // Faster than the acknowledgement, which is still read so that the connection can be used again.
                tokio::task::spawn_local(async move {
                    let _ = tokio::time::timeout(ACKNOWLEDGED, post).await;
                });
                return answered.unwrap_or_else(|_| Err(link.lost()));
            }
        };
        match taken.status.as_u16() {
            200..=299 => answer.await.unwrap_or_else(|_| Err(link.lost())),
            404 => {
                // Nobody started the call: the server does not know the session.
                link.end(FORGOTTEN);
                Err(UpstreamError::SessionForgotten)
            }
            status => Err(bad_status(status, seconds(taken.retry_after.as_ref()))),
        }
    }

    /// Reads the stream for as long as the link lives, which is no longer than the stream.
    pub(super) async fn read(link: &Arc<Link>, mut reader: Box<EventReader>, incoming: &mut Incoming<'_>) {
        loop {
            let event = tokio::select! {
                event = reader.next() => event,
                () = link.until_ended() => return,
            };
            match event {
                Some(Ok(SseEvent { event, data, .. })) => {
                    let is_message = event.is_none_or(|name| &name[..] == b"message");
                    if is_message && !data.is_empty() {
                        incoming.take(data);
                    }
                }
                Some(Err(HttpFailure::EventTooLarge { start, .. })) => incoming.too_large(&start),
                Some(Err(failure)) => return link.end(failure.to_string()),
                None => return link.end("its event stream ended"),
            }
        }
    }
}

async fn event_stream(base: &Endpoint) -> Result<Box<EventReader>, UpstreamError> {
    let reply = client::get(&base.target, &[], base.limits).await?;
    match reply {
        HttpAnswer { body: AnswerBody::Events(reader), .. } => Ok(reader),
        HttpAnswer { status, .. } if status.is_success() => {
            Err(UpstreamError::protocol("its answer to GET is no event stream"))
        }
        HttpAnswer { status, retry_after, .. } => {
            Err(bad_status(status.as_u16(), seconds(retry_after.as_ref())))
        }
    }
}

async fn endpoint_event(reader: &mut EventReader) -> Result<Bytes, UpstreamError> {
    for _ in 0..EVENTS_BEFORE {
        match reader.next().await {
            Some(Ok(SseEvent { event: Some(name), data, .. })) if &name[..] == b"endpoint" => {
                return Ok(data);
            }
            Some(Ok(_)) => {}
            Some(Err(failure @ HttpFailure::EventTooLarge { .. })) => {
                return Err(UpstreamError::protocol(failure.to_string()));
            }
            Some(Err(failure)) => return Err(failure.into()),
            None => {
                return Err(UpstreamError::unavailable("its event stream ended without an endpoint event"));
            }
        }
    }
    Err(UpstreamError::protocol("its event stream does not begin with an endpoint event"))
}
