//! MCP as pure values: no sockets, no runtime, no clock.

pub mod era;
