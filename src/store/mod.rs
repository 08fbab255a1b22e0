//! What must be kept: records, with everything that is made of them, sealed identifiers that clients keep for the
//! gateway, and the events of their streams.
//!
//! Not here: what is kept in them.

pub mod clock;
pub mod error;
pub mod event_log;
pub mod records;
pub mod seal;
