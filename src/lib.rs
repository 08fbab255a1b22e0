//! Switchyard, an MCP gateway.

pub mod config;
pub mod demo;
pub mod names;
pub mod protocol;
