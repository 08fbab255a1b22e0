//! The server over streamable HTTP: one endpoint for both eras.
//!
//! Always: who asks from another origin, with another content type or for another answer form is refused before the body is read as
//! a message. Which era a POST belongs to is told by its body first, then by its headers.

mod guard;
mod handshake_era;
mod sse;
mod stateless_era;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE};
use actix_web::web::{self, Bytes, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::headers::HeaderValues;
use super::server::Server;
use super::stateless;
use super::wire::{self, Fault, INVALID_REQUEST, Incoming, PARSE_ERROR};
use crate::protocol::era::{Era, Revision};

const MAX_BODY: usize = 16 << 20;
const WORKERS: usize = 2;
const DRAIN_SECONDS: u64 = 2;

/// Serves on a loopback address until a signal says to stop.
pub(super) async fn serve(server: Arc<Server>, address: SocketAddr) -> std::io::Result<()> {
    if !address.ip().is_loopback() {
        let reason = "the demo server has no sign-in, so it listens on loopback addresses only";
        return Err(std::io::Error::other(reason));
    }
    let shared = Data::from(Arc::clone(&server));
    let http = HttpServer::new(move || {
        App::new().app_data(shared.clone()).app_data(PayloadConfig::new(MAX_BODY)).service(
            web::resource("/mcp")
                .route(web::post().to(post))
                .route(web::get().to(handshake_era::get))
                .route(web::delete().to(handshake_era::delete))
                .default_service(web::to(not_allowed)),
        )
    })
    .workers(WORKERS)
    .tcp_nodelay(true)
    .h1_allow_half_closed(false)
    .disable_signals()
    .shutdown_timeout(DRAIN_SECONDS)
    .bind(address)?;
    let bound = http.addrs().first().copied().unwrap_or(address);
    let running = http.run();
    let handle = running.handle();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    actix_web::rt::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        server.hub.close();
        handle.stop(true).await;
    });
    let mut output = std::io::stdout();
    writeln!(output, "endpoint http://{bound}/mcp")?;
    output.flush()?;
    running.await
}

async fn not_allowed() -> HttpResponse {
    HttpResponse::MethodNotAllowed().insert_header((ALLOW, "POST, GET, DELETE")).finish()
}

async fn post(request: HttpRequest, body: Bytes, server: Data<Server>) -> HttpResponse {
    if let Err(refusal) = guard::check(&request).and_then(|()| guard::check_post(&request)) {
        return refusal.answer(None);
    }
    let value: Value = match serde_json::from_slice(&body) {
        Ok(value) => value,
        Err(error) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                None,
                &Fault::new(PARSE_ERROR, format!("not JSON: {error}")),
            );
        }
    };
    let server = server.into_inner();
    let headers = header_values(&request);
    if let Value::Array(batch) = value {
        return handshake_era::post_batch(&server, &headers, batch).await;
    }
    match Incoming::read(value) {
        Err(malformed) => refuse(StatusCode::BAD_REQUEST, malformed.id.as_ref(), &malformed.fault),
        Ok(message) if is_stateless(&server, &headers, &message) => {
            stateless_era::post(&server, &headers, message).await
        }
        Ok(message) => handshake_era::post(&server, &headers, message).await,
    }
}

/// The era of a POST, on a server that may serve either.
fn is_stateless(server: &Server, headers: &HeaderValues, message: &Incoming) -> bool {
    match (server.serves_era(Era::Stateless), server.serves_era(Era::Handshake)) {
        (true, false) => return true,
        (false, _) => return false,
        (true, true) => {}
    }
    let params = match message {
        Incoming::Request { params, .. } | Incoming::Notification { params, .. } => params,
        Incoming::Response { .. } => return false,
    };
    let named = headers.one("mcp-protocol-version").ok().flatten();
    stateless::has_metadata(params)
        || named.and_then(Revision::parse).is_some_and(|it| it.era() == Era::Stateless)
}

fn header_values(request: &HttpRequest) -> HeaderValues {
    HeaderValues::new(request.headers().iter().map(|(name, value)| {
        let text = String::from_utf8_lossy(value.as_bytes()).trim_matches([' ', '\t']).to_owned();
        (name.as_str().to_owned(), text)
    }))
}

/// Why a request goes no further.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    reason: &'static str,
}

impl Refusal {
    const fn new(status: StatusCode, reason: &'static str) -> Self {
        Refusal { status, reason }
    }

    fn answer(self, id: Option<&Value>) -> HttpResponse {
        refuse(self.status, id, &Fault::new(INVALID_REQUEST, self.reason))
    }
}

/// An HTTP error with a JSON-RPC error as its body.
fn refuse(status: StatusCode, id: Option<&Value>, fault: &Fault) -> HttpResponse {
    json(status, wire::error(id, fault).to_string())
}

fn bad_request(id: Option<&Value>, message: &str) -> HttpResponse {
    refuse(StatusCode::BAD_REQUEST, id, &Fault::new(INVALID_REQUEST, message))
}

fn json(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, "application/json")).body(body)
}
