//! The handshake era towards clients: `initialize`, sessions, the standing stream, requests inside a session.
//!
//! Always: a request without a known session goes nowhere (S-SESS-02); a client that disconnects has not cancelled
//! (S-HTTPS-12). Not here: what a session remembers (`session`).

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::edge::Edge;
use super::events::EventWriter;
use super::exchange::{Exchange, Finished, Work, json, standing_stream};
use super::http::{Inbound, SESSION_HEADER, VERSION_HEADER, accepted, not_allowed, plain};
use super::respond::{self, Addressee, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND};
use crate::dispatch::{Call, Failure, Outcome};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::{Era, NEWEST_HANDSHAKE, Revision};
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Frame, Notification, Request, RequestId, Response};
use crate::protocol::json::{Object, quote};
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::translate::{ClientView, ResultKind};
use crate::session::changes;
use crate::session::handle::Opening;
use crate::session::messages::Subscribed;
use crate::session::table::{NotOpened, id_text};
use crate::session::{Admission, NotAdmitted, SessionHandle};
use crate::telemetry::spans::{self, Ending, Target, Transport};

/// Serves one POSTed message.
pub(super) async fn serve(inbound: &Inbound<'_>, frame: Frame) -> HttpResponse {
    match frame {
        Frame::Request(request) if &*request.method == "initialize" => initialize(inbound, &request),
        frame => {
            let id = match &frame {
                Frame::Request(request) => Some(&request.id),
                _ => None,
            };
            match session(inbound, id) {
                Ok(session) => in_session(inbound, session, frame).await,
                Err(refusal) => json(refusal),
            }
        }
    }
}

/// GET: the session's standing stream.
pub(super) async fn open_stream(inbound: &Inbound<'_>) -> HttpResponse {
    if inbound.value(SESSION_HEADER).is_none() {
        // A stateless client has nothing to get here (S-HTTPS-13).
        return not_allowed("GET needs a session");
    }
    let session = match session(inbound, None) {
        Ok(session) => session,
        Err(refusal) => return json(refusal),
    };
    if !inbound.accepts.events {
        return plain(StatusCode::NOT_ACCEPTABLE, "accept text/event-stream");
    }
    match session.open_stream().await {
        Some(Ok(messages)) => standing_stream(messages, inbound.edge.settings.bounds.keep_alive),
        Some(Err(taken)) => {
            json(respond::error(None, StatusCode::CONFLICT, INVALID_REQUEST, &taken.to_string(), None))
        }
        None => json(unknown_session(None)),
    }
}

/// DELETE: the client ends its session (S-SESS-03).
pub(super) async fn end_session(inbound: &Inbound<'_>) -> HttpResponse {
    if inbound.value(SESSION_HEADER).is_none() {
        return not_allowed("DELETE needs a session");
    }
    match session(inbound, None) {
        Ok(session) => {
            session.end("the client ended it").await;
            HttpResponse::NoContent().finish()
        }
        Err(refusal) => json(refusal),
    }
}

/// The session that a request names, after the checks that come before any other.
pub(super) fn session(inbound: &Inbound<'_>, id: Option<&RequestId>) -> Result<SessionHandle, Finished> {
    let bad_request =
        |text: &str| Err(respond::error(id, StatusCode::BAD_REQUEST, INVALID_REQUEST, text, None));
    let mut names = inbound.values(SESSION_HEADER);
    let session = match (names.next(), names.next()) {
        (None, _) => return bad_request("the Mcp-Session-Id header is missing; initialize first"),
        (Some(_), Some(_)) => return bad_request("more than one Mcp-Session-Id header"),
        (Some(text), None) => inbound.edge.sessions.find(text, inbound.profile.as_ref()),
    };
    let Some(session) = session else { return Err(unknown_session(id)) };
    if let Some(version) = inbound.value(VERSION_HEADER) {
        let revision = std::str::from_utf8(version).ok().and_then(|text| Revision::parse(text.trim()));
        match revision {
            None => return bad_request("unsupported MCP-Protocol-Version"),
            // Negotiated once and for all (S-HTTPS-08).
            Some(other) if other != session.revision() => {
                tracing::debug!(session = ?session.id(), %other, negotiated = %session.revision(), "revision header differs");
            }
            Some(_) => {}
        }
    }
    Ok(session)
}

fn unknown_session(id: Option<&RequestId>) -> Finished {
    respond::error(id, StatusCode::NOT_FOUND, INVALID_REQUEST, "unknown session; initialize again", None)
}

fn initialize(inbound: &Inbound<'_>, request: &Request) -> HttpResponse {
    let edge = inbound.edge;
    let refuse = |status, code, text: &str| json(respond::error(Some(&request.id), status, code, text, None));
    let Some(asked) = request.params.text("protocolVersion") else {
        return refuse(StatusCode::OK, INVALID_PARAMS, "protocolVersion must be a string");
    };
    // An unknown or stateless revision is not an error: another one is offered (S-LIFE-01).
    let revision = Revision::parse(&asked).filter(|revision| revision.era() == Era::Handshake);
    let revision = revision.unwrap_or(NEWEST_HANDSHAKE);
    let introduction = match edge.switchboard.introduce(inbound.profile.as_ref()) {
        Ok(introduction) => introduction,
        Err(failure) => return refuse(StatusCode::NOT_FOUND, INVALID_REQUEST, &failure.to_string()),
    };
    let client = request.params.object("clientInfo").unwrap_or_else(Object::empty);
    let opening = Opening {
        revision,
        profile: inbound.profile.clone(),
        capabilities: ClientCapabilities::new(
            request.params.object("capabilities").unwrap_or_else(Object::empty),
        ),
        client_name: client.text("name").map(|name| name.chars().take(64).collect()).unwrap_or_default(),
    };
    let upstreams = Arc::clone(&edge.switchboard.upstreams);
    let released = Arc::new(move |id| upstreams.release(crate::upstream::call::Affinity::Session(id)));
    let session = match edge.sessions.open(opening, released) {
        Ok(session) => session,
        Err(NotOpened::TooMany) => {
            let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR, "too many sessions");
            response
                .headers_mut()
                .insert(HeaderName::from_static("retry-after"), HeaderValue::from_static("5"));
            return response;
        }
        Err(NotOpened::NoRandomness) => {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL_ERROR, "no session can be made");
        }
    };
    let instructions = introduction.instructions.as_deref();
    let instructions =
        instructions.map(|text| format!(",\"instructions\":{}", quote(text))).unwrap_or_default();
    let completions = if revision >= Revision::V2025_03_26 { r#""completions":{},"# } else { "" };
    let result = format!(
        concat!(
            r#"{{"protocolVersion":"{}","capabilities":{{{}"logging":{{}},"prompts":{{"listChanged":true}},"#,
            r#""resources":{{"listChanged":true,"subscribe":true}},"tools":{{"listChanged":true}}}},"#,
            r#""serverInfo":{}{}}}"#
        ),
        revision,
        completions,
        server_info(),
        instructions
    );
    let view = client_view(revision);
    let to = Addressee { id: &request.id, view: &view, kind: ResultKind::Other, declares: &|_| false };
    let mut response = json(respond::own_result(&to, result.as_bytes()));
    if let Ok(id) = HeaderValue::from_str(&id_text(session.id())) {
        response.headers_mut().insert(HeaderName::from_static(SESSION_HEADER), id);
    }
    response
}

/// The gateway as a server names itself (S-LIFE-08: fields that every revision has).
pub(super) fn server_info() -> &'static str {
    concat!(r#"{"name":"switchyard","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#)
}

fn client_view(revision: Revision) -> ClientView {
    ClientView { revision, server: Bytes::from_static(server_info().as_bytes()), list_ttl_ms: 0 }
}

async fn in_session(inbound: &Inbound<'_>, session: SessionHandle, frame: Frame) -> HttpResponse {
    match frame {
        Frame::Request(request) => serve_request(inbound, session, request).await,
        Frame::Notification(notification) => {
            notified(inbound.edge, &session, notification).await;
            accepted()
        }
        Frame::Response(Response { id, answer }) => {
            // An answer to something that nobody asked is nobody's loss (S-HTTPS-04).
            if let Some(number) = id.as_ref().and_then(RequestId::as_number) {
                session.answered(number, answer).await;
            }
            accepted()
        }
    }
}

pub(super) async fn notified(edge: &Edge, session: &SessionHandle, notification: Notification) {
    match &*notification.method {
        "notifications/initialized" => session.client_is_ready().await,
        "notifications/cancelled" => {
            if let Some(id) = notification.params.share("requestId").and_then(RequestId::from_raw) {
                session.cancel(&id);
            }
        }
        "notifications/roots/list_changed" if session.client().capabilities.roots_list_changed() => {
            let affinity = session.client().affinity;
            let upstreams = edge.switchboard.upstreams.iter();
            for upstream in upstreams.filter(|upstream| upstream.settings().ask.roots) {
                upstream.notify(affinity, "notifications/roots/list_changed", b"{}");
            }
        }
        _ => {}
    }
}

async fn serve_request(inbound: &Inbound<'_>, session: SessionHandle, request: Request) -> HttpResponse {
    match prepare(inbound, session, request, Streaming::Allowed).await {
        Ok((exchange, work)) => exchange.run(work).await,
        Err(refusal) => json(refusal),
    }
}

/// Whether what a call tells before its answer has a stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    Allowed,
    /// Inside a batch: questions go to the standing stream, progress and logs of single calls are left out.
    None,
}

/// Admits a request and makes its work, not yet begun.
pub(super) async fn prepare(
    inbound: &Inbound<'_>,
    session: SessionHandle,
    request: Request,
    streaming: Streaming,
) -> Result<(Exchange, Work), Finished> {
    let edge = inbound.edge;
    #[cfg(debug_assertions)]
    if edge.panic_session_at.as_deref() == Some(&*request.method) {
        session.panic_now().await;
        if session.has_ended() {
            return Err(respond::cut_short(&request.id, "the session ended"));
        }
    }
    let admission = match session.admit(&request.id) {
        Ok(admission) => admission,
        Err(refused) => return Err(not_admitted(&request.id, refused)),
    };
    let Some(method) = Method::of(&request.method, Era::Handshake) else {
        let text = "method not found";
        return Err(respond::error(Some(&request.id), StatusCode::OK, METHOD_NOT_FOUND, text, None));
    };
    let revision = session.revision();
    let span = spans::request_span(method.name(), Target::None, revision.text(), Transport::Http);
    let trace = inbound.trace(&request.params);
    spans::set_parent(&span, &trace);
    spans::record_session(&span, session.id());
    let bounds = &edge.settings.bounds;
    let (sink, events) = mpsc::channel(bounds.stream_queue);
    let progress_token = progress_token(&request.params);
    let log_level = session.log_level();
    let exchange = Exchange {
        events,
        writer: EventWriter::new(revision, progress_token.clone(), Some(log_level)),
        accepts: inbound.accepts,
        stream_after: bounds.stream_after,
        keep_alive: bounds.keep_alive,
        outlives_client: true,
    };
    let call = Call {
        client: Arc::clone(session.client()),
        params: request.params,
        progress: progress_token.is_some(),
        log_level: session.wants_logs(),
        trace,
        // Without a stream of its own a call has no events; its questions go to the standing stream.
        events: (streaming == Streaming::Allowed && inbound.accepts.events).then_some(sink),
        span: span.clone(),
    };
    let edge = inbound.edge.clone();
    let counted = Edge::count_request(inbound.edge);
    let work = async move {
        let _counted = counted;
        admitted(&edge, &session, &admission, request.id, method, call).await
    };
    let work: Work = Box::pin(work.instrument(span));
    Ok((exchange, work))
}

fn not_admitted(id: &RequestId, refused: NotAdmitted) -> Finished {
    match refused {
        NotAdmitted::Duplicate => {
            respond::error(Some(id), StatusCode::BAD_REQUEST, INVALID_REQUEST, &refused.to_string(), None)
        }
        NotAdmitted::TooMany => {
            let data = FailureRecord::of_gateway(Reason::Overloaded, true, None, Ran::NotSent).json();
            respond::error(Some(id), StatusCode::OK, INTERNAL_ERROR, &refused.to_string(), Some(&data))
        }
    }
}

/// Runs a request for as long as its session lives and its client wants it.
async fn admitted(
    edge: &Edge,
    session: &SessionHandle,
    admission: &Admission,
    id: RequestId,
    method: Method,
    call: Call,
) -> Finished {
    tokio::select! {
        biased;
        // First, so that a call of a session that has just ended opens nothing upstream.
        () = session.until_ended() => respond::cut_short(&id, "the session ended"),
        finished = story(edge, session, &id, method, &call) => finished,
        () = admission.cancelled() => Finished::Withdrawn,
        () = edge.until_stopped() => respond::cut_short(&id, "the gateway stops"),
    }
}

async fn story(
    edge: &Edge,
    session: &SessionHandle,
    id: &RequestId,
    method: Method,
    call: &Call,
) -> Finished {
    let revision = session.revision();
    match method {
        Method::ListTools => session.lists(changes::TOOLS),
        Method::ListPrompts => session.lists(changes::PROMPTS),
        Method::ListResources | Method::ListTemplates => session.lists(changes::RESOURCES),
        _ => {}
    }
    let ended = match method {
        Method::Ping => Ok(nothing()),
        Method::SetLevel => set_level(edge, session, call),
        Method::Subscribe => subscribe(edge, session, call).await,
        Method::Unsubscribe => unsubscribe(edge, session, call).await,
        method => edge.switchboard.tell(method, call, revision).await,
    };
    spans::record_ending(&call.span, ending(&ended));
    let view = client_view(revision);
    let declares = |capability: &str| match capability {
        "sampling" => call.client.capabilities.sampling(),
        "roots" => call.client.capabilities.roots(),
        "elicitation" => call.client.capabilities.elicitation_form(),
        _ => false,
    };
    let to = Addressee { id, view: &view, kind: ResultKind::of_method(method.name()), declares: &declares };
    respond::respond(&to, ended)
}

fn nothing() -> Outcome {
    Outcome::Own(Bytes::from_static(b"{}"))
}

/// The client's progress token, raw; what is neither string nor integer is none (S-PROG-01).
pub(super) fn progress_token(params: &Object) -> Option<Bytes> {
    let raw = Bytes::copy_from_slice(params.meta("progressToken")?);
    RequestId::from_raw(raw.clone()).map(|_| raw)
}

/// How a story ended, for its span.
pub(super) fn ending(ended: &Result<Outcome, Failure>) -> Ending {
    match ended {
        Ok(Outcome::Relayed { answer: crate::protocol::frame::Answer::Error(error), .. }) => {
            Ending::RpcError(error.code)
        }
        Ok(_) => Ending::Result,
        Err(Failure::Upstream { error, .. }) => Ending::Failure(error.reason().text()),
        Err(_) => Ending::Failure("refused"),
    }
}

fn set_level(edge: &Edge, session: &SessionHandle, call: &Call) -> Result<Outcome, Failure> {
    let level = call.params.get("level").and_then(LogLevel::from_raw);
    let level = level.ok_or(Failure::InvalidParams("level must be one of the eight log levels"))?;
    session.set_log_level(level);
    for upstream in edge.switchboard.upstreams.iter() {
        upstream.set_level(session.client().affinity, level);
    }
    Ok(nothing())
}

async fn subscribe(edge: &Edge, session: &SessionHandle, call: &Call) -> Result<Outcome, Failure> {
    let subscription = edge.switchboard.subscribe(call).await?;
    let (public, local, upstream) = (subscription.public, subscription.local, subscription.upstream);
    session.subscribed(Subscribed { public, local, upstream }).await;
    Ok(nothing())
}

async fn unsubscribe(edge: &Edge, session: &SessionHandle, call: &Call) -> Result<Outcome, Failure> {
    let subscription = edge.switchboard.unsubscribe(call).await?;
    session.unsubscribed(subscription.public).await;
    Ok(nothing())
}
