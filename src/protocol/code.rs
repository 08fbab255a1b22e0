//! The codes of JSON-RPC errors that the protocol gives a meaning.
//!
//! Always: codes of servers' own making pass through; nothing here lists them. Not here: which failure has which code
//! (`downstream::respond`).

/// The text is no JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON, but no message, or one that has no place here.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method, or none that was declared.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are not what the method takes; unknown names too.
pub const INVALID_PARAMS: i64 = -32602;
/// It could not be done, and not by the sender's fault.
pub const INTERNAL_ERROR: i64 = -32603;
/// Handshake era: no such resource.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// Stateless era: a header and the body disagree.
pub const HEADER_MISMATCH: i64 = -32020;
/// Stateless era: the client did not declare what this needs.
pub const MISSING_CAPABILITY: i64 = -32021;
/// Stateless era: the revision is not spoken here.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// Pages have to be visited before the call can be made.
pub const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Sampling: the person said no.
pub const USER_REJECTED: i64 = -1;
