//! Sessions of handshake-era clients: one actor each, reached through a [`handle::SessionHandle`].
//!
//! Owns what such a session remembers (S-SESS-05): negotiated revision, calls in flight, questions put to the client and
//! pages it was sent to, streams and what was sent on them, subscriptions, changes of lists, log level. Reading order:
//! `table` (all of them), `handle` (one, as others see it) over `in_flight` (calls pass no mailbox), `messages`, `actor`
//! and `port` (what passes one), `state` (what it does) with `questions`, `elicitations`, `changes` and `untold`, `streams` (what may be resumed,
//! within the budgets of `ledger`) of `stream` (one, its reader and its `backlog`), `event_id` (how its events are named), `kept`
//! (what outlives the gateway). Always: a session ends once,
//! and its calls, streams and upstream connections end with it; a panic in one session ends that session alone; no upstream
//! takes what another one's news needs. Not here: HTTP (`downstream`), what calls do (`dispatch`).

mod actor;
mod backlog;
pub mod changes;
mod elicitations;
pub mod event_id;
pub mod handle;
mod in_flight;
pub mod kept;
mod ledger;
pub mod messages;
mod port;
mod questions;
mod state;
pub mod stream;
pub mod streams;
pub mod table;
mod untold;

pub use handle::SessionHandle;
pub use in_flight::{Admission, InFlightTable, LastUse, NotAdmitted};
pub use table::SessionTable;
