//! Names of spans and attributes, in one place: the OpenTelemetry conventions for MCP are still in development.
//!
//! Always: every name that leaves the gateway in a trace stands here, and every value of an attribute that a client
//! could invent is folded to a known set first.

/// JSON-RPC method.
pub const METHOD: &str = "mcp.method.name";
/// Revision by its date.
pub const PROTOCOL_VERSION: &str = "mcp.protocol.version";
/// Session, by a part of its id that is of no use to anybody else.
pub const SESSION_ID: &str = "mcp.session.id";
/// Public name of a tool.
pub const TOOL: &str = "gen_ai.tool.name";
/// Public name of a prompt.
pub const PROMPT: &str = "gen_ai.prompt.name";
/// `execute_tool` for tool calls.
pub const OPERATION: &str = "gen_ai.operation.name";
/// What went wrong, from a small set.
pub const ERROR_TYPE: &str = "error.type";
/// JSON-RPC error code.
pub const RPC_STATUS: &str = "rpc.response.status_code";
/// `tcp` or `pipe`.
pub const TRANSPORT: &str = "network.transport";
/// `http` on `tcp`.
pub const NETWORK_PROTOCOL: &str = "network.protocol.name";
/// Host of an HTTP upstream.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port of an HTTP upstream.
pub const SERVER_PORT: &str = "server.port";
/// Key of the upstream in the configuration; the conventions have no word for it.
pub const UPSTREAM: &str = "switchyard.upstream.name";

/// Name of the span in OpenTelemetry.
pub(super) const SPAN_NAME: &str = "otel.name";
/// Kind of the span in OpenTelemetry.
pub(super) const SPAN_KIND: &str = "otel.kind";
/// Status of the span in OpenTelemetry.
pub(super) const SPAN_STATUS: &str = "otel.status_code";

/// Value of `OPERATION` for `tools/call`.
pub const EXECUTE_TOOL: &str = "execute_tool";
/// Value of `ERROR_TYPE` when a tool answers `isError: true`.
pub const TOOL_ERROR: &str = "tool_error";
/// Stands for every method and name that is not known, so that nobody can fill a collector with inventions.
pub const OTHER: &str = "_OTHER";

/// Every method of every revision, and of the tasks extension.
const METHODS: [&str; 36] = [
    "completion/complete",
    "elicitation/create",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/elicitation/complete",
    "notifications/initialized",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/roots/list_changed",
    "notifications/subscriptions/acknowledged",
    "notifications/tasks",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "roots/list",
    "sampling/createMessage",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tools/call",
    "tools/list",
];

/// The method, if it is one of the protocol's; else [`OTHER`].
pub fn known_method(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}
