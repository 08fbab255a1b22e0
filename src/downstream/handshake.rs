//! The handshake era towards clients over streamable HTTP: sessions by header, streams opened and resumed.
//!
//! Always: a request without a known session goes nowhere (S-SESS-02); a client that disconnects has not cancelled
//! (S-HTTPS-12). Not here: what a session remembers (`session`), what its messages do (`in_session`).

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};

use super::body::{EventStream, Framing, stream_head};
use super::exchange::{Becomes, Exchange, Finished, json};
use super::http::{
    EVENT_HEADER, Inbound, MCP_METHODS, SESSION_HEADER, VERSION_HEADER, accepted, not_allowed, plain, stops,
};
use super::in_session::{self, Arrival, Begun};
use super::initialize::{self, NotInitialized};
use super::pump::Outlet;
use super::{respond, restored};
use crate::protocol::code::{INTERNAL_ERROR, INVALID_REQUEST};
use crate::protocol::era::Revision;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Frame, FrameFault, Request, RequestId};
use crate::session::SessionHandle;
use crate::session::stream::{Stream, StreamReader, Weight};
use crate::session::streams::{Requests, Resumed};
use crate::session::table::id_text;
use crate::telemetry::spans::Transport;

/// Serves one POSTed message.
pub(super) async fn serve(inbound: &Inbound<'_>, frame: Frame) -> HttpResponse {
    match frame {
        Frame::Request(request) if &*request.method == "initialize" => initialize(inbound, &request).await,
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

async fn initialize(inbound: &Inbound<'_>, request: &Request) -> HttpResponse {
    match initialize::initialize(inbound.edge, inbound.profile.as_ref(), request, None) {
        Ok((session, answer)) => {
            session.until_kept().await;
            let mut response = json(answer);
            if let Ok(id) = HeaderValue::from_str(&id_text(session.id())) {
                response.headers_mut().insert(HeaderName::from_static(SESSION_HEADER), id);
            }
            response
        }
        Err(NotInitialized { answer, retry_after }) => {
            let mut response = json(answer);
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(HeaderName::from_static("retry-after"), seconds.into());
            }
            response
        }
    }
}

/// A text that is no message, and may be the end of a session's question nevertheless.
pub(super) async fn not_a_message(inbound: &Inbound<'_>, fault: &FrameFault) -> HttpResponse {
    if fault.answers
        && let Ok(session) = session(inbound, None)
    {
        in_session::broken_answer(&session, fault).await;
    }
    json(respond::not_a_message(fault))
}

/// GET: the session's standing stream, or the rest of the stream that `Last-Event-ID` names (S-RESUM-02).
pub(super) async fn open_stream(inbound: &Inbound<'_>) -> HttpResponse {
    if inbound.value(SESSION_HEADER).is_none() {
        // A stateless client has nothing to get here (S-HTTPS-13).
        return not_allowed("GET needs a session", MCP_METHODS);
    }
    let session = match session(inbound, None) {
        Ok(session) => session,
        Err(refusal) => return json(refusal),
    };
    if !inbound.accepts.events {
        return plain(StatusCode::NOT_ACCEPTABLE, "accept text/event-stream");
    }
    let mut ids = inbound.values(EVENT_HEADER);
    match (ids.next(), ids.next()) {
        (None, _) => standing_stream(inbound, &session, None).await,
        (Some(id), None) => resume(inbound, &session, id).await,
        (Some(_), Some(_)) => {
            let text = "more than one Last-Event-ID header";
            json(respond::error(None, StatusCode::BAD_REQUEST, INVALID_REQUEST, text, None))
        }
    }
}

async fn standing_stream(
    inbound: &Inbound<'_>,
    session: &SessionHandle,
    resume: Option<u64>,
) -> HttpResponse {
    match session.open_stream(resume).await {
        Some(Ok(reader)) => read_stream(inbound, session, reader),
        Some(Err(taken)) => {
            json(respond::error(None, StatusCode::CONFLICT, INVALID_REQUEST, &taken.to_string(), None))
        }
        None => json(unknown_session(None)),
    }
}

/// Guessed, altered, foreign and forgotten ids are answered alike (S-TRUST-01).
async fn resume(inbound: &Inbound<'_>, session: &SessionHandle, id: &[u8]) -> HttpResponse {
    let resumed = std::str::from_utf8(id).ok().and_then(|id| session.streams().resume(id));
    match resumed {
        Some(Resumed::Request(reader)) => read_stream(inbound, session, reader),
        Some(Resumed::Standing(_)) if inbound.edge.is_draining() => stops(),
        Some(Resumed::Standing(position)) => standing_stream(inbound, session, Some(position)).await,
        Some(Resumed::Gone(stream, requests)) => {
            read_stream(inbound, session, no_longer_kept(stream, &requests))
        }
        None => {
            let text = "unknown event id";
            json(respond::error(None, StatusCode::NOT_FOUND, INVALID_REQUEST, text, None))
        }
    }
}

fn read_stream(inbound: &Inbound<'_>, session: &SessionHandle, reader: StreamReader) -> HttpResponse {
    let framing = Framing::of(session, &inbound.edge.settings.bounds);
    stream_head().body(EventStream::of(reader, framing, None))
}

/// A stream that says of each request that its answer is gone (S-RESUM-05), as often as it is asked for.
fn no_longer_kept(stream: u64, requests: &[RequestId]) -> StreamReader {
    let outlet = Outlet::own(Stream::in_place_of(stream));
    let reader = outlet.stream().read();
    let data = FailureRecord::of_gateway(Reason::Overloaded, false, None, Ran::Unknown).json();
    for id in requests {
        let text = "the answer is no longer kept";
        if let Finished::Response { text, .. } =
            respond::error(Some(id), StatusCode::OK, INTERNAL_ERROR, text, Some(&data))
        {
            outlet.put(text.into(), Weight::Answer);
        }
    }
    reader
}

/// DELETE: the client ends its session (S-SESS-03).
pub(super) async fn end_session(inbound: &Inbound<'_>) -> HttpResponse {
    if inbound.value(SESSION_HEADER).is_none() {
        return not_allowed("DELETE needs a session", MCP_METHODS);
    }
    match session(inbound, None) {
        Ok(session) => {
            session.end("the client ended it").await;
            session.until_kept().await;
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
    restored::follow_again(inbound.edge, &session);
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

async fn in_session(inbound: &Inbound<'_>, session: SessionHandle, frame: Frame) -> HttpResponse {
    match frame {
        Frame::Request(request) => serve_request(inbound, session, request).await,
        Frame::Notification(notification) => {
            in_session::notified(inbound.edge, &session, notification).await;
            accepted()
        }
        Frame::Response(response) => {
            in_session::answered(&session, response).await;
            accepted()
        }
    }
}

async fn serve_request(inbound: &Inbound<'_>, session: SessionHandle, request: Request) -> HttpResponse {
    let id = request.id.clone();
    let arrival = arrival(inbound, &request);
    match in_session::begin(inbound.edge, &session, request, arrival).await {
        Ok(Begun { work, telling }) => {
            let exchange = Exchange {
                telling,
                accepts: inbound.accepts,
                patience: patience(inbound, session.revision()),
                framing: Framing::of(&session, &inbound.edge.settings.bounds),
                becomes: Becomes::Kept {
                    streams: Arc::clone(session.streams()),
                    requests: Requests::from_iter([id]),
                },
            };
            exchange.run(work).await
        }
        Err(refusal) => json(refusal),
    }
}

pub(super) fn arrival(inbound: &Inbound<'_>, request: &Request) -> Arrival {
    Arrival {
        trace: inbound.trace(&request.params),
        transport: Transport::Http,
        streams: inbound.accepts.events,
    }
}

/// Where a stream's first event lets a client come back for its answer, it is not kept waiting for that event.
pub(super) fn patience(inbound: &Inbound<'_>, revision: Revision) -> std::time::Duration {
    let bounds = &inbound.edge.settings.bounds;
    match revision >= Revision::V2025_11_25 {
        true => bounds.prime_after.min(bounds.stream_after),
        false => bounds.stream_after,
    }
}
