//! Clients of the stateless era that listen for changes (S-SUB).
//!
//! Reading order: `filter` (what a client asks for), `listener` (one that listens: what it has still to be told), `words`
//! (the messages), `port` (how upstreams reach it), `hub` (all of them). Always: a listener is entered before it is
//! acknowledged, and hears its acknowledgement first; what is told is never queued but noted, so that a client that does
//! not read costs no more than one that does, and is told once of what happened ten times. Not here: who makes a change
//! known (`gateway`, `upstream`), sockets and pipes (`downstream`).

pub mod filter;
pub mod hub;
pub mod listener;
mod port;
pub mod words;

pub use filter::{Filter, Lists};
pub use hub::{Hub, Listening, NotEntered};
pub use listener::{Followed, Listener, Said};
pub use port::client_of;
