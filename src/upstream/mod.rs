//! Connections to MCP servers.

pub mod http;
