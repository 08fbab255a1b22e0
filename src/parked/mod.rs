//! Calls whose server asks something while their client, which has no session, is away to find the answer
//! (era-bridge §4.3).
//!
//! Reading order: `inputs` (what is asked, and how upstreams reach it), `running` (the call itself), `attendant` (a request
//! and its call until there is something to ask), `state` (rounds of questions and answers), `messages`, `actor` and `handle` (a
//! call that waits), `registry` (all of them), `pages` (calls that wait for pages to be visited, of which nothing runs).
//! Always: a call is one future from its first request to its answer, whoever waits for it; each question gets one answer; a
//! client that never comes back costs a bounded time and place. Not here: how a client proves which call it means
//! (`dispatch::request_state`), what requests and answers look like (`downstream`).

mod actor;
mod attendant;
mod handle;
mod inputs;
mod messages;
mod pages;
mod registry;
mod running;
mod state;

pub use attendant::{Attended, attend};
pub use handle::ParkedHandle;
pub use inputs::Inputs;
#[cfg(test)]
pub(crate) use inputs::tests;
pub use pages::{Awaited, PagesToVisit};
pub use registry::{Found, Handle, Parked, ParkedCalls};
pub use running::{Ended, Running, Story};
pub use state::{Reply, Round};
