//! POST, GET and DELETE of the handshake era: sessions, their streams, and resumption.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::sse::{Reading, StandingReader};
use super::{Refusal, bad_request, guard, header_values, json, not_allowed, refuse};
use crate::demo::engine::{Admitted, serve};
use crate::demo::event_log::EventLog;
use crate::demo::handshake;
use crate::demo::headers::HeaderValues;
use crate::demo::methods;
use crate::demo::outlet::Outlet;
use crate::demo::server::Server;
use crate::demo::session::{InFlight, Session};
use crate::demo::wire::{self, Fault, INTERNAL_ERROR, INVALID_REQUEST, Incoming, Object};
use crate::protocol::era::{Era, Revision};

const SESSION_HEADER: &str = "mcp-session-id";
/// How long an answer may take before a stream is opened for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// The session a request names, or the refusal it gets.
fn find_session(server: &Server, headers: &HeaderValues) -> Result<Arc<Session>, Refusal> {
    let bad = |reason| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let key = headers.one(SESSION_HEADER).ok().flatten();
    let key = key.ok_or_else(|| bad("the header Mcp-Session-Id is missing; send initialize first"))?;
    let unknown = Refusal::new(StatusCode::NOT_FOUND, "there is no such session");
    let session = server.hub.session(key).ok_or(unknown)?;
    let version = headers.one("mcp-protocol-version").ok().flatten();
    let known = version.is_none_or(|version| {
        Revision::parse(version).is_some_and(|named| named.era() == Era::Handshake && server.serves(named))
    });
    if !known {
        return Err(bad("MCP-Protocol-Version names a revision that is not served here"));
    }
    Ok(session)
}

pub(super) async fn post(server: &Arc<Server>, headers: &HeaderValues, message: Incoming) -> HttpResponse {
    let (id, method, params) = match message {
        Incoming::Request { id, method, params } => (id, method, params),
        message => {
            return match find_session(server, headers) {
                Ok(session) => {
                    take(&session, message);
                    HttpResponse::Accepted().finish()
                }
                Err(refusal) => refusal.answer(None),
            };
        }
    };
    if method == "initialize" {
        return initialize(server, &id, &params);
    }
    if headers.one(SESSION_HEADER).is_ok_and(|key| key.is_none()) && !methods::is_handshake_method(&method) {
        return refuse(StatusCode::BAD_REQUEST, Some(&id), &Fault::unknown_method(&method));
    }
    let session = match find_session(server, headers) {
        Ok(session) => session,
        Err(refusal) => return refusal.answer(Some(&id)),
    };
    let log = session.open_stream();
    match begin(server, &session, headers, id.clone(), method, params) {
        Err(fault) => {
            log.finish();
            refuse(StatusCode::BAD_REQUEST, Some(&id), &fault)
        }
        Ok((request, running)) => {
            let ending = Ending(vec![Arc::clone(&log)]);
            let (server, outlet) = (Arc::clone(server), Outlet::Log(Arc::clone(&log)));
            tokio::spawn(async move {
                serve(server, request, outlet, running.cancelled.clone()).await;
                drop((running, ending));
            });
            answer(&session, log).await
        }
    }
}

/// Finishes its streams when dropped, whatever ended the work.
struct Ending(Vec<Arc<EventLog>>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.iter().for_each(|log| log.finish());
    }
}

fn take(session: &Session, message: Incoming) {
    match message {
        Incoming::Notification { method, .. } if method == "notifications/initialized" => {
            session.begin_notices()
        }
        Incoming::Response { id, outcome } => session.answer(&id, outcome),
        Incoming::Notification { method, params } if method == "notifications/cancelled" => {
            if let Some(id) = params.get("requestId") {
                session.cancel(id);
            }
        }
        _ => {}
    }
}

fn begin(
    server: &Server,
    session: &Arc<Session>,
    headers: &HeaderValues,
    id: Value,
    method: String,
    params: Object,
) -> Result<(Admitted, InFlight), Fault> {
    if method == "initialize" {
        return Err(Fault::new(INVALID_REQUEST, "initialize cannot be part of a batch"));
    }
    let caller = session
        .caller(headers.all())
        .filter(|caller| server.serves(caller.revision))
        .ok_or_else(|| Fault::new(INVALID_REQUEST, "send initialize first"))?;
    let running = session.begin(&id)?;
    Ok((Admitted { caller, id, method, params }, running))
}

/// One JSON object if the response comes first and soon, else a stream.
async fn answer(session: &Session, log: Arc<EventLog>) -> HttpResponse {
    if let Some(message) = log.lone_message(PATIENCE).await {
        // No event id was given out, so nobody can come back for it.
        session.forget_stream(log.number);
        return json(StatusCode::OK, message.to_string());
    }
    let reading = Reading::new(log, 0);
    let primed = session.handshake().is_some_and(|agreed| agreed.revision >= Revision::V2025_11_25);
    if primed { reading.primed().respond() } else { reading.respond() }
}

fn initialize(server: &Server, id: &Value, params: &Object) -> HttpResponse {
    let (handshake, result) = match handshake::initialize(server, params) {
        Ok(settled) => settled,
        Err(fault) => return refuse(StatusCode::BAD_REQUEST, Some(id), &fault),
    };
    let mut random = [0u8; 24];
    if getrandom::fill(&mut random).is_err() {
        let fault = Fault::new(INTERNAL_ERROR, "no randomness for a session id");
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, Some(id), &fault);
    }
    let key = URL_SAFE_NO_PAD.encode(random);
    let session = Session::new(Outlet::Log(EventLog::new(0)));
    session.settle_handshake(handshake);
    if let Err(fault) = server.hub.enter(key.clone(), session) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, Some(id), &fault);
    }
    HttpResponse::Ok()
        .insert_header((HeaderName::from_static(SESSION_HEADER), key))
        .insert_header((actix_web::http::header::CONTENT_TYPE, "application/json"))
        .body(wire::result(id, result).to_string())
}

/// Several messages at once, as one revision has them. The responses come on one stream.
pub(super) async fn post_batch(
    server: &Arc<Server>,
    headers: &HeaderValues,
    batch: Vec<Value>,
) -> HttpResponse {
    let session = match find_session(server, headers) {
        Ok(session) => session,
        Err(_) => return bad_request(None, "a message is a JSON object"),
    };
    let revision = session.handshake().map(|agreed| agreed.revision);
    if revision != Some(Revision::V2025_03_26) || batch.is_empty() {
        return bad_request(None, "a message is a JSON object");
    }
    let log = session.open_stream();
    let mut waiting = Vec::new();
    let mut answered = false;
    for value in batch {
        match Incoming::read(value) {
            Err(malformed) => {
                answered |= log.push(&wire::error(malformed.id.as_ref(), &malformed.fault));
            }
            Ok(Incoming::Request { id, method, params }) => {
                answered = true;
                match begin(server, &session, headers, id.clone(), method, params) {
                    Err(fault) => {
                        log.push(&wire::error(Some(&id), &fault));
                    }
                    Ok(begun) => waiting.push(begun),
                }
            }
            Ok(message) => take(&session, message),
        }
    }
    if !answered {
        log.finish();
        return HttpResponse::Accepted().finish();
    }
    let ending = Arc::new(Ending(vec![Arc::clone(&log)]));
    for (request, running) in waiting {
        let (server, outlet, ending) =
            (Arc::clone(server), Outlet::Log(Arc::clone(&log)), Arc::clone(&ending));
        tokio::spawn(async move {
            serve(server, request, outlet, running.cancelled.clone()).await;
            drop((running, ending));
        });
    }
    drop(ending);
    Reading::new(log, 0).respond()
}

/// Opens the session's standing stream, or resumes any of its streams.
pub(super) async fn get(request: HttpRequest, server: Data<Server>) -> HttpResponse {
    if let Err(refusal) = guard::check(&request) {
        return refusal.answer(None);
    }
    let headers = header_values(&request);
    if let Some(refusal) = refuse_without_sessions(&server, &headers).await {
        return refusal;
    }
    if let Err(refusal) = guard::check_get(&request) {
        return refusal.answer(None);
    }
    let session = match find_session(&server, &headers) {
        Ok(session) => session,
        Err(refusal) => return refusal.answer(None),
    };
    let last = headers.one("last-event-id").ok().flatten();
    let (log, seen) = match last.map(|last| resumed(&session, last)) {
        Some(Some(found)) => found,
        Some(None) => {
            let reason = "Last-Event-ID names no stream that is still kept";
            return Refusal::new(StatusCode::NOT_FOUND, reason).answer(None);
        }
        None => match &session.standing {
            Outlet::Log(log) => (Arc::clone(log), log.read_up_to()),
            Outlet::Pipe(_) | Outlet::Nowhere => return not_allowed().await,
        },
    };
    if log.number != 0 {
        return Reading::new(log, seen).respond();
    }
    match StandingReader::take(&session) {
        Some(reader) => Reading::new(log, seen).held_by(reader).respond(),
        None => Refusal::new(StatusCode::CONFLICT, "this session's stream is already open").answer(None),
    }
}

/// Where there are no sessions, or none is named, only POST is allowed.
async fn refuse_without_sessions(server: &Server, headers: &HeaderValues) -> Option<HttpResponse> {
    let stateless = server.serves_era(Era::Stateless);
    let named = headers.one(SESSION_HEADER).is_ok_and(|key| key.is_some());
    if stateless && (!named || !server.serves_era(Era::Handshake)) {
        return Some(not_allowed().await);
    }
    None
}

/// The stream and the event that an event id names.
fn resumed(session: &Session, event_id: &str) -> Option<(Arc<EventLog>, u64)> {
    let (number, sequence) = event_id.split_once('-')?;
    Some((session.stream(number.parse().ok()?)?, sequence.parse().ok()?))
}

/// Ends a session.
pub(super) async fn delete(request: HttpRequest, server: Data<Server>) -> HttpResponse {
    if let Err(refusal) = guard::check(&request) {
        return refusal.answer(None);
    }
    let headers = header_values(&request);
    if let Some(refusal) = refuse_without_sessions(&server, &headers).await {
        return refusal;
    }
    if let Err(refusal) = find_session(&server, &headers) {
        return refusal.answer(None);
    }
    let key = headers.one(SESSION_HEADER).ok().flatten().unwrap_or_default();
    server.hub.leave(key);
    HttpResponse::NoContent().finish()
}
