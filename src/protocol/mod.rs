//! MCP as pure values: no sockets, no runtime, no clock.

pub mod era;
pub mod frame;
pub mod json;
pub mod splice;
pub mod translate;
