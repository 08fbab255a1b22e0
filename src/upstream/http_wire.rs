//! The handshake era over streamable HTTP, as a client: one session, every message its own POST, one standing GET.
//!
//! Always: the session id stays on this hop (S-HTTPC-02); answers are matched by id, whatever stream they come on
//! (S-HTTPC-06). Not here: sockets (`http`), what messages mean (`link`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::call::UpstreamCall;
use super::calls::Reply;
use super::encode::TRACE_KEYS;
use super::error::UpstreamError;
use super::http::{self as client, AnswerBody, EventReader, HttpAnswer, HttpTarget};
use super::link::{FORGOTTEN, Link};
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Frame, RequestId};
use crate::protocol::json::{Limits, string};
use crate::protocol::sse::SseEvent;

/// Headers of one request besides the fixed ones.
pub(super) type Headers = SmallVec<[(HeaderName, HeaderValue); 6]>;

pub(super) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Where an upstream is and what may come back.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) target: HttpTarget,
    pub(super) limits: client::HttpLimits,
    pub(super) json: Limits,
}

/// One upstream session.
#[derive(Debug)]
pub(super) struct HttpWire {
    endpoint: Endpoint,
    session: OnceLock<HeaderValue>,
    revision: OnceLock<Revision>,
}

/// Longest wait for what a server that forgot the session says of calls that were on their way.
const VERDICT: Duration = Duration::from_secs(2);

/// Pause before the standing stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

impl HttpWire {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        HttpWire { endpoint, session: OnceLock::new(), revision: OnceLock::new() }
    }

    /// From now on requests name this revision (S-HTTPC-03).
    pub(super) fn negotiated(&self, revision: Revision) {
        let _ = self.revision.set(revision);
    }

    fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        if let Some(session) = self.session.get() {
            headers.push((SESSION_HEADER, session.clone()));
        }
        // The header exists since 2025-06-18; older servers ignore it, as they ignore any other.
        if let Some(revision) = self.revision.get() {
            headers.push((VERSION_HEADER, HeaderValue::from_static(revision.text())));
        }
        headers
    }

    /// Posts a call and waits for its answer, wherever it comes.
    pub(super) async fn call(
        &self,
        link: &Arc<Link>,
        id: u64,
        text: Bytes,
        answer: &mut Reply,
        call: &UpstreamCall<'_>,
    ) -> Result<Answer, UpstreamError> {
        let mut headers = self.headers();
        trace_headers(&mut headers, call);
        self.exchange(link, id, text, answer, headers).await
    }

    /// Posts a request of the gateway's own.
    pub(super) async fn ask(
        &self,
        link: &Arc<Link>,
        id: u64,
        text: Bytes,
        answer: &mut Reply,
    ) -> Result<Answer, UpstreamError> {
        self.exchange(link, id, text, answer, self.headers()).await
    }

    async fn exchange(
        &self,
        link: &Arc<Link>,
        id: u64,
        text: Bytes,
        answer: &mut Reply,
        headers: Headers,
    ) -> Result<Answer, UpstreamError> {
        let post = client::post(&self.endpoint.target, &headers, text, self.endpoint.limits);
        let mut post = std::pin::pin!(post);
        let reply = tokio::select! {
            reply = &mut post => reply?,
            // What forgot the session says of this call, too, whether it was looked at.
            () = link.until_ended() => match link.was_forgotten() {
                true => tokio::time::timeout(VERDICT, post).await.map_err(|_| link.lost())??,
                false => return Err(link.lost()),
            },
        };
        self.note_session(&reply);
        let status = reply.status;
        if status.as_u16() == 404 && self.session.get().is_some() {
            // Nobody started the call: the server does not know the session (S-HTTPC-04).
            link.end(FORGOTTEN);
            return Err(UpstreamError::SessionForgotten);
        }
        let retry_after = seconds(reply.retry_after.as_ref());
        match reply.body {
            AnswerBody::Json(body) => match self.take_json(link, id, body) {
                Ok(Some(answer)) => Ok(answer),
                // A refusal whose body is no JSON-RPC says more by its status.
                _ if !status.is_success() => Err(bad_status(status.as_u16(), retry_after)),
                Ok(None) => Err(UpstreamError::protocol("its answer does not answer the call")),
                Err(error) => Err(error),
            },
            AnswerBody::Events(reader) if status.is_success() => {
                self.read_until_answered(link, id, reader, answer).await
            }
            // The answer will come on another stream of the session.
            AnswerBody::Empty if status.as_u16() == 202 => self.wait(link, answer).await,
            AnswerBody::Empty if status.is_success() => Err(UpstreamError::protocol("its answer is empty")),
            AnswerBody::Other(kind) if status.is_success() => {
                Err(UpstreamError::protocol(format!("its answer has content type {kind:?}")))
            }
            _ => Err(bad_status(status.as_u16(), retry_after)),
        }
    }

    fn note_session(&self, reply: &HttpAnswer) {
        if let Some(session) = &reply.session {
            let _ = self.session.set(session.clone());
        }
    }

    /// Takes a JSON body, one message or a 2025-03-26 batch; gives the answer to `id` if it is among them.
    fn take_json(&self, link: &Arc<Link>, id: u64, body: Bytes) -> Result<Option<Answer>, UpstreamError> {
        let frames = Frame::parse_batch(body, self.endpoint.json)?;
        let mut found = None;
        for frame in frames {
            found = found.or(route(link, frame?, id, Some(id)));
        }
        Ok(found)
    }

    async fn read_until_answered(
        &self,
        link: &Arc<Link>,
        id: u64,
        mut reader: Box<EventReader>,
        answer: &mut Reply,
    ) -> Result<Answer, UpstreamError> {
        loop {
            tokio::select! {
                event = reader.next() => match event {
                    Some(Ok(event)) => {
                        if let Some(answer) = self.take_event(link, event, id)? {
                            return Ok(answer);
                        }
                    }
                    Some(Err(failure)) => return Err(failure.into()),
                    None => return Err(UpstreamError::lost("the stream ended before the answer")),
                },
                answer = &mut *answer => return answer.unwrap_or_else(|_| Err(link.lost())),
            }
        }
    }

    fn take_event(
        &self,
        link: &Arc<Link>,
        event: SseEvent,
        id: u64,
    ) -> Result<Option<Answer>, UpstreamError> {
        if event.data.is_empty() {
            return Ok(None);
        }
        self.take_json(link, id, event.data)
    }

    async fn wait(&self, link: &Arc<Link>, answer: &mut Reply) -> Result<Answer, UpstreamError> {
        answer.await.unwrap_or_else(|_| Err(link.lost()))
    }

    /// Posts a notification or an answer, without anybody waiting.
    pub(super) fn post_in_background(&self, link: &Arc<Link>, text: Bytes) {
        let (endpoint, headers, link) = (self.endpoint.clone(), self.headers(), Arc::clone(link));
        tokio::task::spawn_local(async move {
            match client::post(&endpoint.target, &headers, text, endpoint.limits).await {
                Ok(reply) if reply.status.is_success() => {}
                Ok(reply) => {
                    tracing::debug!(upstream = %link.upstream, status = %reply.status, "message refused")
                }
                Err(failure) => tracing::debug!(upstream = %link.upstream, %failure, "message not delivered"),
            }
        });
    }

    /// Posts `notifications/initialized` and waits until it was taken: nothing may overtake it.
    pub(super) async fn post_initialized(&self) -> Result<(), UpstreamError> {
        let text = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let reply = client::post(&self.endpoint.target, &self.headers(), text, self.endpoint.limits).await?;
        if reply.status.is_success() {
            Ok(())
        } else {
            Err(bad_status(reply.status.as_u16(), seconds(reply.retry_after.as_ref())))
        }
    }

    /// Keeps the standing stream open for as long as the link lives; a server without one is left alone for good.
    pub(super) async fn keep_standing_stream(self: &HttpWire, link: &Arc<Link>) {
        while !link.has_ended() {
            let headers = self.headers();
            let opened = tokio::select! {
                opened = client::get(&self.endpoint.target, &headers, self.endpoint.limits) => opened,
                () = link.until_ended() => return,
            };
            match opened {
                Ok(HttpAnswer { status, body: AnswerBody::Events(reader), .. }) if status.is_success() => {
                    self.read_standing(link, reader).await;
                }
                Ok(reply) if reply.status.as_u16() == 404 => {
                    return link.end(FORGOTTEN);
                }
                Ok(_) => return,
                Err(failure) => {
                    tracing::debug!(upstream = %link.upstream, %failure, "standing stream not opened")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(REOPEN_AFTER) => {}
                () = link.until_ended() => return,
            }
        }
    }

    async fn read_standing(&self, link: &Arc<Link>, mut reader: Box<EventReader>) {
        loop {
            let event = tokio::select! {
                event = reader.next() => event,
                () = link.until_ended() => return,
            };
            let Some(Ok(event)) = event else { return };
            if event.data.is_empty() {
                continue;
            }
            match Frame::parse_batch(event.data, self.endpoint.json) {
                Ok(frames) => frames.into_iter().flatten().for_each(|frame| link.receive(frame, None)),
                Err(fault) => tracing::debug!(upstream = %link.upstream, %fault, "skipped an event"),
            }
        }
    }

    /// Ends the session (S-HTTPC-05); a server may refuse that.
    pub(super) async fn delete_session(&self) {
        if self.session.get().is_some() {
            let _ = client::delete(&self.endpoint.target, &self.headers(), self.endpoint.limits).await;
        }
    }
}

/// Gives the answer to `id`; everything else goes where it belongs.
fn route(link: &Arc<Link>, frame: Frame, id: u64, cause: Option<u64>) -> Option<Answer> {
    match frame {
        Frame::Response(response) if response.id.as_ref().and_then(RequestId::as_number) == Some(id) => {
            Some(response.answer)
        }
        // An error that could not name its request can only mean the one it answers.
        Frame::Response(response) if response.id.is_none() => Some(response.answer),
        other => {
            link.receive(other, cause);
            None
        }
    }
}

/// The trace context in headers as well as in `_meta` (S-EXT-01).
pub(super) fn trace_headers(headers: &mut Headers, call: &UpstreamCall<'_>) {
    for (key, raw) in &call.circumstances.trace {
        let name = TRACE_KEYS.iter().find(|(known, _)| known == key).map(|(_, name)| *name);
        let value = string(raw.as_bytes()).and_then(|text| HeaderValue::from_str(&text).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.push((HeaderName::from_static(name), value));
        }
    }
}

/// An HTTP status that carries no JSON-RPC answer (S-ERR-06).
pub(super) fn bad_status(status: u16, retry_after: Option<Duration>) -> UpstreamError {
    match status {
        401 | 403 => UpstreamError::AuthRequired,
        429 => UpstreamError::Overloaded { retry_after },
        // Whoever says this has not passed the call on; 502 and 504 may come from a proxy that has.
        503 => UpstreamError::Unavailable { why: format!("HTTP status {status}"), retry_after },
        500..=599 => UpstreamError::lost(format!("HTTP status {status}")),
        _ => UpstreamError::protocol(format!("HTTP status {status}")),
    }
}

/// `Retry-After` in seconds; the date form is not worth a parser for a hint.
pub(super) fn seconds(retry_after: Option<&HeaderValue>) -> Option<Duration> {
    retry_after?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

impl From<client::HttpFailure> for UpstreamError {
    fn from(failure: client::HttpFailure) -> Self {
        match (failure.sent(), &failure) {
            (client::Sent::NotSent, _) => UpstreamError::unavailable(failure.to_string()),
            (_, client::HttpFailure::TooLarge { .. }) => UpstreamError::TooLarge,
            (_, client::HttpFailure::Protocol(why)) => UpstreamError::protocol(why.to_string()),
            _ => UpstreamError::lost(failure.to_string()),
        }
    }
}
