//! Connections to MCP servers.

pub mod stdio;
