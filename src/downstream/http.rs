//! The data listener: guards every request, reads it once, and hands it to the adapter of its era or transport.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, web};

use super::edge::Edge;
use super::exchange::json;
use super::guard::AllowedOrigin;
use super::request_body::read_json;
use super::respond;
use super::{batch, handshake, sse_transport, stateless};
use crate::config::listen::ListenSettings;
use crate::names::ProfileName;
use crate::protocol::accept::Accepts;
use crate::protocol::batch::Batch;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::Frame;
use crate::protocol::json::Object;
use crate::telemetry::trace_context::TraceContext;

pub(super) const SESSION_HEADER: &str = "mcp-session-id";
/// The last event that reached the client of a stream to be resumed.
pub(super) const EVENT_HEADER: &str = "last-event-id";
pub(super) const VERSION_HEADER: &str = "mcp-protocol-version";
/// What `/mcp` can do.
pub(super) const MCP_METHODS: &str = "POST, GET, DELETE, OPTIONS";
pub(super) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

/// The routes of the data listener; everything else is 404.
pub fn routes(listen: &ListenSettings) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let http_sse = listen.http_sse;
    move |config| {
        for path in ["/mcp", "/mcp/{profile}"] {
            config.service(web::resource(path).default_service(web::to(endpoint)));
        }
        if !http_sse {
            return;
        }
        for path in ["/sse", "/sse/{profile}"] {
            config.service(web::resource(path).default_service(web::to(sse_transport::stream)));
        }
        for path in ["/messages", "/messages/{profile}"] {
            config.service(web::resource(path).default_service(web::to(sse_transport::messages)));
        }
    }
}

/// What an adapter knows of the HTTP request.
pub(super) struct Inbound<'a> {
    pub(super) edge: &'a Data<Edge>,
    pub(super) headers: &'a HeaderMap,
    pub(super) profile: Option<ProfileName>,
    pub(super) accepts: Accepts,
}

impl<'a> Inbound<'a> {
    pub(super) fn of(edge: &'a Data<Edge>, request: &'a HttpRequest) -> Self {
        let headers = request.headers();
        Inbound {
            edge,
            headers,
            profile: request.match_info().get("profile").map(ProfileName::new),
            accepts: Accepts::of(headers.get_all("accept").map(HeaderValue::as_bytes)),
        }
    }

    pub(super) fn values<'s>(&'s self, name: &str) -> impl Iterator<Item = &'s [u8]> + use<'s, 'a> {
        self.headers.get_all(name).map(HeaderValue::as_bytes)
    }

    pub(super) fn value(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    /// The trace a message belongs to: `_meta` first, then headers (S-EXT-01).
    pub(super) fn trace(&self, params: &Object) -> TraceContext {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        trace_in_body(params)
            .or(|| TraceContext::parse(header("traceparent"), header("tracestate"), header("baggage")))
    }
}

/// The trace that a message itself names.
pub(super) fn trace_in_body(params: &Object) -> TraceContext {
    let in_meta = |key: &str| params.meta_text(key);
    TraceContext::parse(
        in_meta("traceparent").as_deref(),
        in_meta("tracestate").as_deref(),
        in_meta("baggage").as_deref(),
    )
}

async fn endpoint(edge: Data<Edge>, request: HttpRequest, payload: Payload) -> HttpResponse {
    guarded(&edge, &request, async || answer(&edge, &request, payload).await).await
}

/// Runs `answer` for a request that may pass, and tells browsers who may read what it says. It is a closure, because a
/// future that is handed in is held twice in this one, and copied.
pub(super) async fn guarded(
    edge: &Edge,
    request: &HttpRequest,
    answer: impl AsyncFnOnce() -> HttpResponse,
) -> HttpResponse {
    let headers = request.headers();
    let mut hosts = headers.get_all("host").map(HeaderValue::as_bytes);
    // Two hosts are as good as none: nobody can say which one a proxy believed.
    let host = hosts.next().filter(|_| hosts.next().is_none());
    let origins = headers.get_all("origin").map(HeaderValue::as_bytes);
    let origin = match edge.guard.judge(host, origins) {
        Ok(origin) => origin,
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
            return json(respond::error(None, status, INVALID_REQUEST, &refusal.to_string(), None));
        }
    };
    let mut response =
        if *request.method() == Method::OPTIONS { preflight(headers, origin) } else { answer().await };
    if let Some(origin) = origin {
        add_headers(&mut response, &origin.answer_headers());
    }
    response
}

async fn answer(edge: &Data<Edge>, request: &HttpRequest, payload: Payload) -> HttpResponse {
    let inbound = Inbound::of(edge, request);
    if !edge.has_endpoint(inbound.profile.as_ref()) {
        return plain(StatusCode::NOT_FOUND, "no such endpoint");
    }
    match *request.method() {
        Method::POST => post(&inbound, payload).await,
        // Who comes back for an answer gets it: the drain waits for that.
        Method::GET if edge.is_draining() && inbound.value(EVENT_HEADER).is_none() => stops(),
        Method::GET => handshake::open_stream(&inbound).await,
        Method::DELETE => handshake::end_session(&inbound).await,
        _ => not_allowed("use POST, GET or DELETE", MCP_METHODS),
    }
}

async fn post(inbound: &Inbound<'_>, payload: Payload) -> HttpResponse {
    if inbound.accepts.nothing() {
        return plain(StatusCode::NOT_ACCEPTABLE, "accept application/json and text/event-stream");
    }
    let body = match read_json(inbound, payload).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    if Batch::is_one(&body) {
        return batch::serve(inbound, body).await;
    }
    let frame = match Frame::parse(body, inbound.edge.json_limits()) {
        Ok(frame) => frame,
        Err(fault) => return handshake::not_a_message(inbound, &fault).await,
    };
    if let Frame::Request(request) = &frame
        && inbound.edge.is_draining()
    {
        return respond::stopping(&request.id);
    }
    match era(inbound, &frame) {
        Era::Stateless => stateless::serve(inbound, frame).await,
        Era::Handshake => handshake::serve(inbound, frame).await,
    }
}

/// Which era a message belongs to: metadata in the body decides; a header that names a stateless revision announces
/// metadata, so that its absence is an error of that era (S-LIFE-15, S-META-01).
fn era(inbound: &Inbound<'_>, frame: &Frame) -> Era {
    let params = match frame {
        Frame::Request(request) => Some(&request.params),
        Frame::Notification(notification) => Some(&notification.params),
        Frame::Response(_) => None,
    };
    if params.is_some_and(|params| params.meta(VERSION_KEY).is_some()) {
        return Era::Stateless;
    }
    let header = inbound.value(VERSION_HEADER).and_then(|raw| std::str::from_utf8(raw).ok());
    header.and_then(|text| Revision::parse(text.trim())).map_or(Era::Handshake, Revision::era)
}

fn preflight(headers: &HeaderMap, origin: Option<AllowedOrigin<'_>>) -> HttpResponse {
    let mut response = HttpResponse::NoContent().finish();
    if let Some(origin) = origin {
        let requested = headers.get("access-control-request-headers").map(HeaderValue::as_bytes);
        add_headers(&mut response, &origin.preflight_headers(requested));
    }
    response
}

fn add_headers(response: &mut HttpResponse, added: &[(&'static str, std::borrow::Cow<'_, str>)]) {
    for (name, value) in added {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

/// To who asks for a stream that could not last.
pub(super) fn stops() -> HttpResponse {
    plain(StatusCode::SERVICE_UNAVAILABLE, "the gateway is about to stop")
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> HttpResponse {
    HttpResponse::build(status).content_type("text/plain; charset=utf-8").body(text)
}

/// 405 with the methods that do exist.
pub(super) fn not_allowed(text: &'static str, allowed: &'static str) -> HttpResponse {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(HeaderName::from_static("allow"), HeaderValue::from_static(allowed));
    response
}

pub(super) fn accepted() -> HttpResponse {
    HttpResponse::Accepted().finish()
}
