//! Logs and traces: what the gateway tells about itself while it runs.
//!
//! Always: no argument, result or secret is in a span or in what this module logs; telling costs a request no waiting,
//! and what cannot be told in time is dropped and counted. Not here: what is worth telling (the callers), health and
//! inspection (`admin`).

mod collector;
pub mod conventions;
mod log_queue;
pub mod setup;
pub mod spans;
pub mod trace_context;

#[cfg(test)]
mod tests;
