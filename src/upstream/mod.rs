//! Connections to MCP servers.

pub mod http;
pub mod stdio;
