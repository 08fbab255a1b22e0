//! `initialize`: which revision is spoken from here on.

use serde_json::{Value, json};

use super::caller::capabilities_of;
use super::server::{INSTRUCTIONS, Server, identity};
use super::session::Handshake;
use super::wire::{Fault, Object};
use crate::protocol::era::{Era, Revision};

/// Settles a handshake and gives the result to answer with. A revision that is not served is answered with one that is.
pub(crate) fn initialize(server: &Server, params: &Object) -> Result<(Handshake, Value), Fault> {
    let asked = params
        .get("protocolVersion")
        .and_then(Value::as_str)
        .ok_or_else(|| Fault::invalid_params("initialize needs protocolVersion, a string"))?;
    if !params.get("capabilities").is_some_and(Value::is_object) {
        return Err(Fault::invalid_params("initialize needs capabilities, an object"));
    }
    let revision = Revision::parse(asked)
        .filter(|revision| revision.era() == Era::Handshake && server.serves(*revision))
        .unwrap_or_else(|| server.newest_handshake());
    let handshake = Handshake {
        revision,
        client: params.get("clientInfo").cloned(),
        capabilities: capabilities_of(params, "capabilities"),
    };
    let result = json!({
        "protocolVersion": revision.text(),
        "capabilities": server.capabilities(revision),
        "serverInfo": identity(revision),
        "instructions": INSTRUCTIONS,
    });
    Ok((handshake, result))
}
