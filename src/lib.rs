//! Switchyard, an MCP gateway.

pub mod auth;
pub mod config;
pub mod demo;
pub mod downstream;
pub mod names;
pub mod policy;
pub mod protocol;
pub mod session;
pub mod telemetry;
pub mod upstream;
