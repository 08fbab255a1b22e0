//! Switchyard, an MCP gateway.

pub mod config;
pub mod names;
pub mod protocol;
pub mod telemetry;
