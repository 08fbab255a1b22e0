//! Sessions of handshake-era clients: one actor each, reached through a [`handle::SessionHandle`].
//!
//! Owns what such a session remembers (S-SESS-05): negotiated revision, calls in flight, questions put to the client,
//! streams and what was sent on them, subscriptions, log level. Always: a session ends once, and its calls, streams and upstream
//! connections end with it; a panic in one session ends that session alone. Not here: HTTP (`downstream`), what calls do
//! (`dispatch`).

mod actor;
mod backlog;
pub mod changes;
mod elicitations;
pub mod event_id;
pub mod handle;
mod in_flight;
mod ledger;
pub mod messages;
mod questions;
mod state;
pub mod stream;
pub mod streams;
pub mod table;

pub use handle::SessionHandle;
pub use in_flight::{Admission, InFlightTable, LastUse, NotAdmitted};
pub use table::SessionTable;
