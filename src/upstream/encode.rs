//! Calls written down for an upstream: the envelope is the gateway's, the parameters are the caller's.
//!
//! Always: the hop-by-hop members of `_meta` (S-BASE-11) are the gateway's own; everything else passes as it came. One
//! message is one line.

use std::borrow::Cow;

use bytes::Bytes;

use super::call::UpstreamCall;
use super::declared::declared_per_request;
use super::identity::{MARK_KEY, mark};
use super::task::TaskWish;
use crate::config::servers::AskSettings;
use crate::protocol::era::{Era, Revision};
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::message::one_line;
use crate::protocol::splice::Edit;
use crate::protocol::task::EXTENSION;
use crate::protocol::translate::HOP_META;

/// Parameters of one hop. What is said in their place is the gateway's to decide.
const HOP_PARAMS: [&str; 3] = ["task", "inputResponses", "requestState"];

/// The gateway as a client names itself, in every revision (S-LIFE-08: no extended fields).
fn client_info() -> &'static str {
    concat!(r#"{"name":"switchyard","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#)
}

impl UpstreamCall<'_> {
    /// The whole request under `id`, as one line without its newline. Of a wish for a task is said what `wish` has.
    pub(super) fn encode(
        &self,
        id: u64,
        revision: Revision,
        ask: AskSettings,
        wish: Option<TaskWish>,
    ) -> Vec<u8> {
        let capabilities = match revision.era() {
            Era::Stateless => {
                let declared = declared_per_request(&self.circumstances.client.capabilities, ask);
                // Who asks about a task knows tasks (S-TX-08).
                match wish.is_some() || self.method.is_of_tasks() {
                    false => declared,
                    true => with_tasks(&declared),
                }
            }
            Era::Handshake => Bytes::new(),
        };
        let mut params = self.params.clone();
        for key in HOP_META {
            params.remove_meta(key);
        }
        // What is said about a task is the gateway's own.
        if !self.method.is_of_tasks() {
            for key in HOP_PARAMS {
                params.remove(key);
            }
        }
        if let (Some(wish), Era::Handshake) = (wish, revision.era()) {
            let ttl = wish.ttl_ms.map(|ttl| format!(r#""ttl":{ttl}"#)).unwrap_or_default();
            params.set("task", format!("{{{ttl}}}").into_bytes());
        }
        if self.circumstances.progress {
            params.set_meta("progressToken", id.to_string().into_bytes());
        }
        if revision.era() == Era::Stateless {
            params.set_meta("io.modelcontextprotocol/protocolVersion", quote(revision.text()).into_bytes());
            params.set_meta("io.modelcontextprotocol/clientInfo", client_info().as_bytes());
            params.set_meta("io.modelcontextprotocol/clientCapabilities", &capabilities[..]);
            if let Some(level) = self.circumstances.log_level {
                params.set_meta("io.modelcontextprotocol/logLevel", quote(level.text()).into_bytes());
            }
            if let Some(input) = &self.circumstances.input {
                if let Some(responses) = &input.responses {
                    params.set("inputResponses", &responses[..]);
                }
                if let Some(state) = &input.state {
                    params.set_text("requestState", state);
                }
            }
        }
        if revision < Revision::V2025_06_18 {
            // Completion context does not exist there (S-COMP-02).
            params.remove("context");
        }
        for (key, _) in TRACE_KEYS {
            params.remove_meta(key);
        }
        for (key, value) in &self.circumstances.trace {
            params.set_meta(key, Cow::Borrowed(value.as_bytes()));
        }
        let mut out = Vec::with_capacity(512);
        request_head(&mut out, id, self.method.name());
        out.extend_from_slice(b",\"params\":");
        params.write(&mut out);
        out.push(b'}');
        one_line(&mut out);
        out
    }
}

/// The same capabilities, and the extension of tasks (S-TX-15).
fn with_tasks(capabilities: &[u8]) -> Bytes {
    let raw = Object::parse(Bytes::copy_from_slice(capabilities), Limits::NONE);
    let raw = raw.unwrap_or_else(|_| Object::empty());
    let extensions = raw.object("extensions").unwrap_or_else(Object::empty);
    let mut inner = Edit::of(&extensions);
    inner.set(EXTENSION, &b"{}"[..]);
    let mut all = Vec::new();
    inner.write(&mut all);
    let mut outer = Edit::of(&raw);
    outer.set("extensions", all);
    let mut text = Vec::with_capacity(capabilities.len() + 64);
    outer.write(&mut text);
    text.into()
}

/// Trace context keys in `_meta` and as HTTP headers (S-EXT-01).
pub(super) const TRACE_KEYS: [(&str, &str); 3] =
    [("traceparent", "traceparent"), ("tracestate", "tracestate"), ("baggage", "baggage")];

fn request_head(out: &mut Vec<u8>, id: u64, method: &str) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.to_string().as_bytes());
    out.extend_from_slice(b",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.push(b'"');
}

/// The gateway's mark as a member of `_meta`, with the comma that stands before it.
fn mark_member() -> String {
    mark().map(|mark| format!(r#","{MARK_KEY}":"{mark}""#)).unwrap_or_default()
}

/// `params` of `initialize`, which declare these capabilities.
pub(super) fn initialize_params(offered: Revision, capabilities: &[u8]) -> String {
    let mark = mark().map(|mark| format!(r#","_meta":{{"{MARK_KEY}":"{mark}"}}"#)).unwrap_or_default();
    format!(
        r#"{{"protocolVersion":"{offered}","capabilities":{},"clientInfo":{}{mark}}}"#,
        String::from_utf8_lossy(capabilities),
        client_info()
    )
}

/// `_meta` of a stateless request that the gateway makes on its own behalf.
pub(super) fn own_meta(revision: Revision) -> String {
    format!(
        concat!(
            r#"{{"io.modelcontextprotocol/protocolVersion":"{}","#,
            r#""io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/clientCapabilities":{{}}{}}}"#
        ),
        revision,
        client_info(),
        mark_member()
    )
}
