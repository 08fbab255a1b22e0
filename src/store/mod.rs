//! What must be kept: records, with everything that is made of them, sealed identifiers that clients keep for the
//! gateway, and the events of their streams.
//!
//! Not here: what is kept in them.

pub mod bus;
pub mod clock;
#[cfg(test)]
mod contract;
pub mod embedded;
pub mod error;
pub mod event_log;
mod keys;
pub mod leases;
pub mod limits;
pub mod memory;
#[cfg(test)]
pub(crate) mod places;
pub mod records;
mod rules;
pub mod seal;
mod stores;
pub mod streams;

pub use stores::{IfLocked, OpenError, STORE_FILE, Stores, open};
