//! The handshake era over streamable HTTP, as a client: one session, every message its own POST, one standing GET.
//!
//! Always: the session id stays on this hop (S-HTTPC-02); answers are matched by id, whatever stream they come on
//! (S-HTTPC-06). Not here: sockets (`http`), streams of events (`http_streams`), what messages mean (`arrivals`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::call::UpstreamCall;
use super::calls::Reply;
use super::encode::TRACE_KEYS;
use super::error::UpstreamError;
use super::http::{self as client, AnswerBody, HttpAnswer, HttpTarget};
use super::incoming::BATCH;
use super::link::{FORGOTTEN, Link};
use crate::protocol::batch::Messages;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Frame, FrameFault, RequestId};
use crate::protocol::json::{Limits, string};
use crate::protocol::message;

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
    /// The wait before a broken stream is taken up again, unless its server names one.
    pub(super) retry: Duration,
}

/// One upstream session.
#[derive(Debug)]
pub(super) struct HttpWire {
    pub(super) endpoint: Endpoint,
    session: OnceLock<HeaderValue>,
    revision: OnceLock<Revision>,
    /// How `initialize` was refused.
    refusal: OnceLock<StatusCode>,
}

/// Longest wait for what a server that forgot the session says of calls that were on their way.
const VERDICT: Duration = Duration::from_secs(2);

impl HttpWire {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        HttpWire { endpoint, session: OnceLock::new(), revision: OnceLock::new(), refusal: OnceLock::new() }
    }

    /// From now on requests name this revision (S-HTTPC-03).
    pub(super) fn negotiated(&self, revision: Revision) {
        let _ = self.revision.set(revision);
    }

    pub(super) fn headers(&self) -> Headers {
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
        self.exchange(link, id, text, answer, &headers).await
    }

    /// Posts a request of the gateway's own.
    pub(super) async fn ask(
        &self,
        link: &Arc<Link>,
        id: u64,
        text: Bytes,
        answer: &mut Reply,
    ) -> Result<Answer, UpstreamError> {
        self.exchange(link, id, text, answer, &self.headers()).await
    }

    /// Headers by reference: a future keeps room for an argument and for what becomes of it.
    async fn exchange(
        &self,
        link: &Arc<Link>,
        id: u64,
        text: Bytes,
        answer: &mut Reply,
        headers: &Headers,
    ) -> Result<Answer, UpstreamError> {
        let post = client::post(&self.endpoint.target, headers, text, self.endpoint.limits);
        let mut post = std::pin::pin!(post);
        let reply = tokio::select! {
            reply = &mut post => reply?,
            // On another stream of the session, or the link has ended.
            answer = &mut *answer => return match answer {
                Ok(answer) => answer,
                // Boxed: it is far from being the rule.
                Err(_) if link.was_forgotten() => Box::pin(self.verdict(link, id, post)).await,
                Err(_) => Err(link.lost()),
            },
        };
        self.note_session(&reply);
        let status = reply.status;
        if self.revision.get().is_none() && !status.is_success() {
            let _ = self.refusal.set(status);
        }
        if status.as_u16() == 404 && self.has_session() {
            // Nobody started the call: the server does not know the session (S-HTTPC-04).
            link.end(FORGOTTEN);
            return Err(UpstreamError::SessionForgotten);
        }
        if is_nameless_refusal(&reply, id)
            && self.has_session()
            // Boxed for the same reason.
            && Box::pin(self.refuses_everything(link)).await
        {
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
                // On the heap, so that a call answered at once does not carry the room for it.
                Box::pin(self.read_until_answered(link, id, reader, answer)).await
            }
            // The answer will come on another stream of the session.
            AnswerBody::Empty if status.as_u16() == 202 => answer.await.unwrap_or_else(|_| Err(link.lost())),
            AnswerBody::Empty if status.is_success() => Err(UpstreamError::protocol("its answer is empty")),
            AnswerBody::Other(kind) if status.is_success() => {
                Err(UpstreamError::protocol(format!("its answer has content type {kind:?}")))
            }
            _ => Err(bad_status(status.as_u16(), retry_after)),
        }
    }

    /// Whether `initialize` was refused in the way of a server that does not know this transport (S-HTTPC-11).
    pub(super) fn is_unknown_to_it(&self) -> bool {
        self.refusal.get().is_some_and(|status| matches!(status.as_u16(), 400 | 404 | 405))
    }

    /// The session id, as it can be kept.
    pub(super) fn session(&self) -> Option<String> {
        self.session.get()?.to_str().ok().map(str::to_owned)
    }

    /// Takes up a session that was opened before, in this revision; `None` for an id that cannot be one.
    pub(super) fn taken_up(endpoint: Endpoint, session: &str, revision: Revision) -> Option<Self> {
        let wire = HttpWire::new(endpoint);
        let _ = wire.session.set(HeaderValue::from_str(session).ok()?);
        wire.negotiated(revision);
        Some(wire)
    }

    /// Whether the upstream gave a session id.
    pub(super) fn has_session(&self) -> bool {
        self.session.get().is_some()
    }

    /// A refusal opens no session, whatever its headers say.
    fn note_session(&self, reply: &HttpAnswer) {
        if let Some(session) = reply.session.as_ref().filter(|_| reply.status.is_success()) {
            let _ = self.session.set(session.clone());
        }
    }

    /// What an upstream that forgot the session says of a call that was on its way: most likely that it never looked at
    /// it.
    async fn verdict(
        &self,
        link: &Arc<Link>,
        id: u64,
        post: impl Future<Output = Result<HttpAnswer, client::HttpFailure>>,
    ) -> Result<Answer, UpstreamError> {
        let reply = tokio::time::timeout(VERDICT, post).await.map_err(|_| link.lost())?;
        let reply = reply.map_err(|_| link.lost())?;
        match reply.body {
            _ if reply.status == StatusCode::NOT_FOUND || is_nameless_refusal(&reply, id) => {
                Err(UpstreamError::SessionForgotten)
            }
            AnswerBody::Json(body) => {
                self.take_json(link, id, body).ok().flatten().ok_or_else(|| link.lost())
            }
            _ => Err(link.lost()),
        }
    }

    /// Whether a ping fares as a call has that was refused without a word of its id: some servers tell with 400 that they
    /// do not know a session, and that says as much as 404 (S-HTTPC-04).
    async fn refuses_everything(&self, link: &Arc<Link>) -> bool {
        let id = link.calls.next_id();
        let ping = Bytes::from(message::request(id, "ping", b"{}"));
        let headers = self.headers();
        let post = client::post(&self.endpoint.target, &headers, ping, self.endpoint.limits);
        let Ok(Ok(reply)) = tokio::time::timeout(VERDICT, post).await else { return false };
        reply.status == StatusCode::NOT_FOUND || is_nameless_refusal(&reply, id)
    }

    /// Takes a JSON body, one message or a 2025-03-26 batch; gives the answer to `id` if it is among them.
    pub(super) fn take_json(
        &self,
        link: &Arc<Link>,
        id: u64,
        body: Bytes,
    ) -> Result<Option<Answer>, UpstreamError> {
        let (mut found, mut broken) = (None, None);
        let may_answer = |fault: &FrameFault| {
            !fault.asks && fault.id.as_ref().is_none_or(|other| other.as_number() == Some(id))
        };
        for message in Messages::of(body, BATCH, self.endpoint.json) {
            match message {
                Ok(frame) => {
                    link.unreadable.interrupted();
                    found = found.or(route(link, frame, id, Some(id)));
                }
                Err(fault) if may_answer(&fault) => broken = Some(fault),
                Err(fault) => {
                    if link.skip(fault).is_break() {
                        break;
                    }
                }
            }
        }
        // What is wrong with another message of the batch does not undo the answer.
        match (found, broken) {
            (None, Some(fault)) => Err(fault.into()),
            (found, _) => Ok(found),
        }
    }

    /// Ends the session (S-HTTPC-05); a server may refuse that.
    pub(super) async fn delete_session(&self) {
        if self.has_session() {
            let _ = client::delete(&self.endpoint.target, &self.headers(), self.endpoint.limits).await;
        }
    }
}

/// Posts `notifications/initialized` and waits until it was taken: nothing may overtake it.
pub(super) async fn post_initialized(endpoint: &Endpoint, headers: Headers) -> Result<(), UpstreamError> {
    let text = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    let reply = client::post(&endpoint.target, &headers, text, endpoint.limits).await?;
    match reply.status.is_success() {
        true => Ok(()),
        false => Err(bad_status(reply.status.as_u16(), seconds(reply.retry_after.as_ref()))),
    }
}

/// Whether a request was refused with 400 and without a word of its id, perhaps for what came around it.
fn is_nameless_refusal(reply: &HttpAnswer, id: u64) -> bool {
    if reply.status != StatusCode::BAD_REQUEST {
        return false;
    }
    let AnswerBody::Json(body) = &reply.body else { return true };
    let Ok(Frame::Response(response)) = Frame::parse(body.clone(), Limits::NONE) else { return true };
    response.id.as_ref().and_then(RequestId::as_number) != Some(id)
}

/// Gives the answer to `id`; everything else goes where it belongs.
fn route(link: &Arc<Link>, frame: Frame, id: u64, cause: Option<u64>) -> Option<Answer> {
    match frame {
        Frame::Response(response) if response.id.as_ref().and_then(RequestId::as_number) == Some(id) => {
            link.note_task(id, &response.answer);
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
            (_, client::HttpFailure::TooLarge { .. } | client::HttpFailure::EventTooLarge { .. }) => {
                UpstreamError::TooLarge
            }
            (_, client::HttpFailure::Protocol(why)) => UpstreamError::protocol(why.to_string()),
            _ => UpstreamError::lost(failure.to_string()),
        }
    }
}
