//! Admission of a stateless request: its metadata and, over HTTP, the headers that mirror its body.
//!
//! Always checked in the order of the specification: version header, metadata, agreement of both, revision served, method and name
//! headers, method known, parameter headers. Nothing is remembered between requests.

use std::sync::Arc;

use serde_json::{Value, json};

use super::caller::{Caller, log_rank};
use super::headers::HeaderValues;
use super::methods;
use super::server::Server;
use super::wire::{Fault, HEADER_MISMATCH, Object, UNSUPPORTED_VERSION};
use crate::protocol::era::{Era, Revision};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT: &str = "io.modelcontextprotocol/clientInfo";
const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// Whether a request says in its body that it is stateless.
pub(crate) fn has_metadata(params: &Object) -> bool {
    params.get("_meta").is_some_and(|meta| meta.get(VERSION).is_some())
}

/// The sender of a stateless request, if it is in order. `headers` is none where there are none (stdio).
pub(crate) fn admit(
    server: &Server,
    method: &str,
    params: &Object,
    headers: Option<&HeaderValues>,
) -> Result<Caller, Fault> {
    let header_version = match headers {
        Some(headers) => Some(
            headers
                .one("mcp-protocol-version")?
                .ok_or_else(|| Fault::new(HEADER_MISMATCH, "the header MCP-Protocol-Version is missing"))?,
        ),
        None => None,
    };
    let meta = Metadata::read(params)?;
    if header_version.is_some_and(|header| header != meta.version) {
        return Err(Fault::new(
            HEADER_MISMATCH,
            format!("MCP-Protocol-Version does not agree with {VERSION} in the body"),
        ));
    }
    let revision = Revision::parse(meta.version)
        .filter(|revision| revision.era() == Era::Stateless && server.serves(*revision))
        .ok_or_else(|| unsupported(server, meta.version))?;
    if let Some(headers) = headers {
        headers.check_method_and_name(method, params)?;
    }
    if !methods::is_stateless_method(method) {
        return Err(Fault::unknown_method(method));
    }
    if let (Some(headers), "tools/call") = (headers, method) {
        headers.check_parameters(server, params)?;
    }
    Ok(Caller {
        revision,
        client: meta.client.cloned(),
        capabilities: meta.capabilities.clone(),
        log_threshold: meta.log_threshold,
        session: None,
        headers: headers.map_or_else(|| Arc::from([]), HeaderValues::all),
    })
}

struct Metadata<'a> {
    version: &'a str,
    capabilities: &'a Value,
    client: Option<&'a Value>,
    log_threshold: Option<usize>,
}

impl<'a> Metadata<'a> {
    fn read(params: &'a Object) -> Result<Self, Fault> {
        let meta = match params.get("_meta") {
            Some(Value::Object(meta)) => meta,
            _ => return Err(Fault::invalid_params("params._meta is missing; every request needs it")),
        };
        let version = meta
            .get(VERSION)
            .and_then(Value::as_str)
            .ok_or_else(|| Fault::invalid_params(format!("_meta needs {VERSION}, a string")))?;
        let capabilities = meta
            .get(CAPABILITIES)
            .filter(|value| value.as_object().is_some_and(|each| each.values().all(Value::is_object)))
            .ok_or_else(|| {
                Fault::invalid_params(format!("_meta needs {CAPABILITIES}, an object of objects"))
            })?;
        let client = meta.get(CLIENT);
        if client.is_some_and(|client| !client.is_object()) {
            return Err(Fault::invalid_params(format!("{CLIENT} must be an object")));
        }
        let log_threshold = match meta.get(LOG_LEVEL) {
            None => None,
            Some(level) => Some(
                level
                    .as_str()
                    .and_then(log_rank)
                    .ok_or_else(|| Fault::invalid_params(format!("{LOG_LEVEL} {level} is not a level")))?,
            ),
        };
        Ok(Metadata { version, capabilities, client, log_threshold })
    }
}

fn unsupported(server: &Server, requested: &str) -> Fault {
    Fault::new(UNSUPPORTED_VERSION, format!("revision {requested:?} is not served statelessly"))
        .with_data(json!({ "supported": server.revisions(), "requested": requested }))
}
