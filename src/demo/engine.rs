//! Serving one request from its admission to its response, whatever the transport.
//!
//! Always: exactly one response per request, and none after it was cancelled.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::call::{Call, Stop};
use super::caller::Caller;
use super::methods;
use super::outlet::Outlet;
use super::server::{Running, Server};
use super::shape;
use super::wire::{self, Fault, INTERNAL_ERROR, Object};

/// A request as its transport admitted it.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(crate) id: Value,
    pub(crate) method: String,
    pub(crate) params: Object,
}

/// Serves the request and writes its response, unless it is cancelled before.
pub(crate) async fn serve(
    server: Arc<Server>,
    request: Admitted,
    outlet: Outlet,
    cancelled: CancellationToken,
) {
    let Admitted { caller, id, method, params } = request;
    let _running = (method == "tools/call").then(|| Running::begin(&server));
    let work = respond(Arc::clone(&server), caller, outlet.clone(), id, &method, &params);
    tokio::select! {
        biased;
        () = cancelled.cancelled() => {
            if method == "tools/call" {
                server.counted.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
        response = work => {
            outlet.send(response).await;
        }
    }
}

async fn respond(
    server: Arc<Server>,
    caller: Caller,
    outlet: Outlet,
    id: Value,
    method: &str,
    params: &Object,
) -> Value {
    let revision = caller.revision;
    let call = match Call::open(server, caller, outlet, id.clone(), method, params) {
        Ok(call) => call,
        Err(fault) => return wire::error(Some(&id), &fault),
    };
    match methods::perform(&call, method, params).await {
        Ok(result) => wire::result(&id, shape::result(method, result, revision)),
        Err(Stop::Fault(fault)) => wire::error(Some(&id), &fault),
        Err(Stop::Failed(reason)) => wire::error(Some(&id), &Fault::new(INTERNAL_ERROR, reason)),
        Err(Stop::InputRequired { requests, state }) => {
            let mut result = Object::new();
            result.insert("resultType".to_owned(), json!("input_required"));
            if !requests.is_empty() {
                result.insert("inputRequests".to_owned(), Value::Object(requests));
            }
            if let Some(state) = state {
                result.insert("requestState".to_owned(), json!(state));
            }
            wire::result(&id, shape::result(method, result, revision))
        }
    }
}
