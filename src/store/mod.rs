//! What must be kept: sealed identifiers that clients keep for the gateway, and the events of their streams.
//!
//! Not here: what is kept in them.

pub mod event_log;
pub mod seal;
