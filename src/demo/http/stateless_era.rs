//! POSTs of the stateless era: every request stands alone, and leaving its stream cancels it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{bad_request, json, refuse, sse};
use crate::demo::engine::{Admitted, serve};
use crate::demo::headers::HeaderValues;
use crate::demo::outlet::Outlet;
use crate::demo::server::Server;
use crate::demo::stateless::{admit, has_metadata};
use crate::demo::wire::{
    Fault, HEADER_MISMATCH, INTERNAL_ERROR, Incoming, METHOD_NOT_FOUND, MISSING_CAPABILITY,
    UNSUPPORTED_VERSION,
};

const QUEUE: usize = 64;
/// How long an answer may take before a stream is opened for it.
const PATIENCE: Duration = Duration::from_millis(250);

pub(super) async fn post(server: &Arc<Server>, headers: &HeaderValues, message: Incoming) -> HttpResponse {
    let (id, method, params) = match message {
        Incoming::Notification { .. } => return HttpResponse::Accepted().finish(),
        Incoming::Response { id, .. } => return bad_request(Some(&id), "this revision takes no responses"),
        Incoming::Request { id, method, params } => (id, method, params),
    };
    if method == "initialize" && !has_metadata(&params) {
        // A client of the other era: it learns more from this than from what its request lacks.
        return refuse(StatusCode::NOT_FOUND, Some(&id), &Fault::unknown_method(&method));
    }
    let caller = match admit(server, &method, &params, Some(headers)) {
        Ok(caller) => caller,
        Err(fault) => {
            let status =
                if fault.code == METHOD_NOT_FOUND { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
            return refuse(status, Some(&id), &fault);
        }
    };
    let (pipe, messages) = mpsc::channel(QUEUE);
    let cancelled = CancellationToken::new();
    let guard = cancelled.clone().drop_guard();
    let request = Admitted { caller, id: id.clone(), method, params };
    tokio::spawn(serve(Arc::clone(server), request, Outlet::Pipe(pipe), cancelled));
    answer(&id, messages, guard).await
}

/// One JSON object if the response comes first and soon, else a stream.
async fn answer(
    id: &Value,
    mut messages: mpsc::Receiver<Value>,
    guard: tokio_util::sync::DropGuard,
) -> HttpResponse {
    match timeout(PATIENCE, messages.recv()).await {
        Ok(Some(message)) if message.get("method").is_none() => {
            json(status_of(&message), message.to_string())
        }
        Ok(Some(message)) => sse::stateless(Some(message), messages, guard),
        Ok(None) => {
            let fault = Fault::new(INTERNAL_ERROR, "the request ended without an answer");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, Some(id), &fault)
        }
        Err(_) => sse::stateless(None, messages, guard),
    }
}

fn status_of(response: &Value) -> StatusCode {
    match response["error"]["code"].as_i64() {
        Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}
