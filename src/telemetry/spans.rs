//! One span per downstream request, one per upstream call, in the OpenTelemetry conventions for MCP.
//!
//! Always: spans hold names that the gateway knows, never arguments, results, ids a client chose, or secrets. A span
//! costs next to nothing while neither a log filter (`switchyard::span=debug`) nor an exporter wants it.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::field::Empty;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::conventions::{
    ERROR_TYPE, EXECUTE_TOOL, METHOD, NETWORK_PROTOCOL, OPERATION, OTHER, PROMPT, PROTOCOL_VERSION,
    RPC_STATUS, SERVER_ADDRESS, SERVER_PORT, SESSION_ID, SPAN_KIND, SPAN_NAME, SPAN_STATUS, TOOL, TOOL_ERROR,
    TRANSPORT, UPSTREAM, known_method,
};
use super::trace_context::{TraceContext, TraceParent};
use crate::names::SessionId;

/// Target of all spans here; exporters and log filters choose them by it.
pub const TARGET: &str = "switchyard::span";

/// What a request is about, as far as a trace may say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Nothing with a name, or a URI, which is not told.
    None,
    /// A tool of the catalogue, by its public name.
    Tool(&'a str),
    /// A prompt of the catalogue, by its public name.
    Prompt(&'a str),
    /// A tool that does not exist; its name is the client's invention.
    UnknownTool,
    /// A prompt that does not exist.
    UnknownPrompt,
}

impl<'a> Target<'a> {
    fn tool(self) -> Option<&'a str> {
        match self {
            Target::Tool(name) => Some(name),
            Target::UnknownTool => Some(OTHER),
            _ => None,
        }
    }

    fn prompt(self) -> Option<&'a str> {
        match self {
            Target::Prompt(name) => Some(name),
            Target::UnknownPrompt => Some(OTHER),
            _ => None,
        }
    }
}

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Streamable HTTP.
    Http,
    /// Standard input and output of a process.
    Stdio,
}

impl Transport {
    fn network(self) -> &'static str {
        match self {
            Transport::Http => "tcp",
            Transport::Stdio => "pipe",
        }
    }

    fn protocol(self) -> Option<&'static str> {
        (self == Transport::Http).then_some("http")
    }
}

/// An upstream, as a span names it.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Key in the configuration.
    pub upstream: &'a str,
    /// How it is reached.
    pub transport: Transport,
    /// Host and port of an HTTP upstream.
    pub address: Option<(&'a str, u16)>,
}

/// How a request or call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With a result.
    Result,
    /// With a result that says `isError: true`.
    ToolError,
    /// With a JSON-RPC error.
    RpcError(i64),
    /// With a failure that the gateway names: one of its fixed reasons.
    Failure(&'static str),
}

/// `METHOD TARGET`, the name of a span.
struct SpanName<'a>(&'a str, Target<'a>);

impl fmt::Display for SpanName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(known_method(self.0))?;
        match self.1.tool().or(self.1.prompt()) {
            Some(name) => write!(f, " {name}"),
            None => Ok(()),
        }
    }
}

fn operation(method: &str) -> Option<&'static str> {
    (method == "tools/call").then_some(EXECUTE_TOOL)
}

/// The span of a client's request, from its arrival to its answer; a root until [`set_parent`].
///
/// Where the target is looked up later, give [`Target::None`] and tell it with [`record_target`].
pub fn request_span(method: &str, target: Target<'_>, revision: &'static str, transport: Transport) -> Span {
    tracing::span!(
        target: TARGET,
        parent: None,
        Level::DEBUG,
        "request",
        { SPAN_NAME } = %SpanName(method, target),
        { SPAN_KIND } = "server",
        { METHOD } = known_method(method),
        { PROTOCOL_VERSION } = revision,
        { TRANSPORT } = transport.network(),
        { NETWORK_PROTOCOL } = transport.protocol(),
        { OPERATION } = operation(method),
        { TOOL } = target.tool(),
        { PROMPT } = target.prompt(),
        { SESSION_ID } = Empty,
        { ERROR_TYPE } = Empty,
        { RPC_STATUS } = Empty,
        { SPAN_STATUS } = Empty,
    )
}

/// The span of one call to an upstream, below the request that needs it (or a root below [`Span::none`]).
pub fn upstream_span(
    parent: &Span,
    method: &str,
    target: Target<'_>,
    revision: &'static str,
    peer: Peer<'_>,
) -> Span {
    tracing::span!(
        target: TARGET,
        parent: parent,
        Level::DEBUG,
        "upstream",
        { SPAN_NAME } = %SpanName(method, target),
        { SPAN_KIND } = "client",
        { METHOD } = known_method(method),
        { PROTOCOL_VERSION } = revision,
        { TRANSPORT } = peer.transport.network(),
        { NETWORK_PROTOCOL } = peer.transport.protocol(),
        { OPERATION } = operation(method),
        { TOOL } = target.tool(),
        { PROMPT } = target.prompt(),
        { UPSTREAM } = peer.upstream,
        { SERVER_ADDRESS } = peer.address.map(|(host, _)| host),
        { SERVER_PORT } = peer.address.map(|(_, port)| port),
        { ERROR_TYPE } = Empty,
        { RPC_STATUS } = Empty,
        { SPAN_STATUS } = Empty,
    )
}

/// Tells what a request is about, once that has been looked up.
pub fn record_target(span: &Span, method: &str, target: Target<'_>) {
    if span.is_disabled() {
        return;
    }
    span.record(SPAN_NAME, tracing::field::display(SpanName(method, target)));
    span.record(TOOL, target.tool());
    span.record(PROMPT, target.prompt());
}

/// Tells which session a request belongs to, without telling its id.
pub fn record_session(span: &Span, session: SessionId) {
    if !span.is_disabled() {
        span.record(SESSION_ID, tracing::field::debug(session));
    }
}

/// Tells how it ended.
pub fn record_ending(span: &Span, ending: Ending) {
    if span.is_disabled() {
        return;
    }
    match ending {
        Ending::Result => return,
        Ending::ToolError => span.record(ERROR_TYPE, TOOL_ERROR),
        Ending::RpcError(code) => {
            span.record(ERROR_TYPE, code.to_string()).record(RPC_STATUS, code.to_string())
        }
        Ending::Failure(reason) => span.record(ERROR_TYPE, reason),
    };
    span.record(SPAN_STATUS, "ERROR");
}

/// Makes a request's span the child of what the client told. To be called before anything is recorded below it.
pub fn set_parent(span: &Span, incoming: &TraceContext) {
    let Some(parent) = incoming.parent.filter(|_| !span.is_disabled()) else { return };
    let state =
        incoming.state.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let remote = SpanContext::new(
        TraceId::from_bytes(parent.trace_id.to_be_bytes()),
        SpanId::from_bytes(parent.span_id.to_be_bytes()),
        TraceFlags::new(parent.flags),
        true,
        state,
    );
    // Without an exporter no span has a place in a trace; the client's context is passed on instead.
    _ = span.set_parent(Context::new().with_remote_span_context(remote));
}

/// What to tell the next peer: this span as the parent where traces are exported, else what the client told.
pub fn outgoing(span: &Span, incoming: &TraceContext) -> TraceContext {
    if span.is_disabled() {
        return incoming.clone();
    }
    let context = span.context();
    let ours = context.span().span_context().clone();
    if !ours.is_valid() {
        return incoming.clone();
    }
    let parent = TraceParent {
        trace_id: u128::from_be_bytes(ours.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(ours.span_id().to_bytes()),
        flags: ours.trace_flags().to_u8(),
    };
    // The client's vendors' state belongs to the client's trace.
    let same_trace = incoming.parent.is_some_and(|theirs| theirs.trace_id == parent.trace_id);
    let state = incoming.state.clone().filter(|_| same_trace);
    TraceContext { parent: Some(parent), state, baggage: incoming.baggage.clone() }
}
