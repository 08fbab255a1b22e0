//! Switchyard, an MCP gateway.

pub mod config;
pub mod downstream;
pub mod names;
pub mod protocol;
pub mod upstream;
