//! The demo server, driven as a client drives it: over stdio and HTTP, in every revision. Every message it writes is checked against
//! the official schema of the revision in use.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test, also in functions that tests share")]

mod client;
mod conformance_set;
mod eras;
mod every_tool;

mod http_rules;
mod lifecycle;
mod listening;
mod pipe;
mod schema;
mod sessions;
mod tasks_core;
mod tasks_extension;
mod tasks_streams;
mod web;
