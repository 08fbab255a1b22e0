//! MCP as pure values: no sockets, no runtime, no clock.
//!
//! Reading order: `scan` and `json` (text that is never a tree), `frame` and `batch` (messages), `splice` (changing them), `era` and `method`
//! (what exists when), `translate` (what a revision can express), then the smaller nouns.

pub mod accept;
pub mod batch;
pub mod caching;
pub mod capability;
pub mod code;
pub mod covering;
pub mod digest;
pub mod era;
pub mod failure;
pub mod frame;
pub mod headers;
pub mod json;
pub mod log_level;
pub mod message;
pub mod method;
pub mod offered;
pub mod param_headers;
pub mod redact;
mod scan;
pub mod splice;
pub mod sse;
pub mod task;
pub mod translate;
