//! Sessions that outlive the gateway, where `sessions: durable` asks for it (F26).
//!
//! Reading order: `rows` (what is kept, and under which keys), `journal` (what of one session is not written yet), `log`
//! and `stream` (one stream, whose events a reader gets when they are written), `keeper` (the one who writes, for all sessions),
//! `restored` (what is read at the start). Always: nothing is shown to a client under an id before what the id names is on
//! the disk, so that a client never knows of more than the gateway finds again; what of a session is written together is
//! there together; writers never wait, and no lock is held across a write. A session whose state cannot be written goes on
//! in memory alone and is forgotten on the disk: it ends with the process. Not here: which events are kept and for how
//! long (`streams`, `backlog`), connections to upstreams, which are made anew.

mod journal;
mod keeper;
mod log;
mod restored;
mod rows;
mod stream;
#[cfg(test)]
mod tests;

pub(super) use journal::{Journal, Mark};
pub use keeper::Keeper;
pub(super) use restored::{Restored, RestoredStream};
pub use rows::SessionRow;
pub(super) use rows::{KeptSubscription, first_of};
pub(super) use stream::{Cut, StreamBounds};
