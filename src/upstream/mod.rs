//! Connections to MCP servers: how they are opened, kept, used and closed.
//!
//! Reading order: `fleet` and `handle` (what others use), `route`, `follow`, `call`, `input`, `client_port`, `events`, `rate` and `error` (what
//! passes through), `shared`, `users`, `pool`, `subscriptions` and `connections` (what is known and what is decided), `messages`, `actor`,
//! `supervisor` and `backoff` (who does it), `connect`, `connect_http`, `greeting`, `probe` and `rediscovery` (opening), `declared`,
//! `encode` and `identity` (what is said of clients, for them, and of the gateway), `link`, `calls`, `asking` and `levels` (an open connection),
//! `arrivals`, `changes`, `questions`, `open_questions`, `put_question`, `roots`, `pages` and `own_log` (what comes back on it) over `stdio`, `http_wire` (with `http_streams` and
//! `stream_memory`) or `sse_wire` (with `sse_endpoint`), `incoming`, `oversized` and
//! `background` (reading and writing them), `http` (below both), `stateless` (calls
//! that need no connection), `task`, `task_calls`, `link_tasks` and `task_questions` (those that become tasks), `client_tasks` (answers that become some), `listens` (what a stateless server tells by itself), `era_check` and `pings` (doubts),
//! `kept_reads` and `read_turns` (what need not be asked again). Always: a call ends with one answer or one `UpstreamError`
//! that says whether it may have run; dropping it cancels it upstream.
//! Not here: public names, who may call, what clients see.

mod actor;
mod arrivals;
mod asking;
mod background;
mod backoff;
pub mod call;
mod calls;
mod changes;
pub mod client_port;
mod client_tasks;
mod connect;
mod connect_http;
mod connections;
mod declared;
mod encode;
mod era_check;
pub mod error;
pub mod events;
pub mod fleet;
mod follow;
mod greeting;
pub mod handle;
pub mod http;
mod http_streams;
mod http_wire;
pub mod identity;
mod incoming;
pub mod input;
pub mod kept_reads;
mod levels;
mod link;
mod link_tasks;
mod listens;
pub mod messages;
mod negotiation;
mod open_questions;
mod oversized;
mod own_log;
mod pages;
mod pings;
mod pool;
pub mod probe;
pub mod put_question;
mod questions;
pub mod rate;
mod read_turns;
mod rediscovery;
mod roots;
mod route;
mod shared;
mod sse_endpoint;
mod sse_wire;
mod stateless;
pub mod stdio;
mod stream_memory;
mod subscriptions;
mod supervisor;
pub mod task;
mod task_calls;
mod task_questions;
#[cfg(test)]
mod task_tests;
mod users;

pub use link::Link;
pub use shared::{State, Status};

/// The value of a failpoint named in `SWITCHYARD_FAILPOINTS` (`name=value|name=value`); debug builds only.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) -> Option<String> {
    let all = std::env::var("SWITCHYARD_FAILPOINTS").ok()?;
    let mut points = all.split('|').filter_map(|point| point.split_once('='));
    points.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}
