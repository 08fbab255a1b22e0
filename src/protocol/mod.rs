//! MCP as pure values: no sockets, no runtime, no clock.

pub mod accept;
pub mod era;
pub mod frame;
pub mod headers;
pub mod json;
pub mod param_headers;
pub mod splice;
pub mod sse;
