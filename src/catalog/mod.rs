//! What the gateway offers: public names, merged lists, and the way from each to its upstream.
//!
//! Owns public tool and prompt names, the merge, its snapshots, the pages clients read and the one writer. Always: all
//! reads go to an immutable [`snapshot::Snapshot`] past every mailbox; only the writer makes a new one, and the same
//! news always makes the same one. Not here: how upstreams are asked (`upstream`), who may call (`policy`), eras (the
//! edges; lists are rendered by revision in `protocol::translate`).
//!
//! Reading order: `namespace`, `listing`, `freshness`, `fetch`, `uris`, `merge`, `snapshot`, `pages`, `state`, `actor`.

mod actor;
mod errand;
pub mod fetch;
pub mod freshness;
pub mod handle;
pub mod listing;
mod merge;
pub mod messages;
pub mod namespace;
mod pace;
pub mod pages;
mod progress;
pub mod refresher;
pub mod snapshot;
mod state;
mod template;
mod template_index;
pub mod uris;

pub use handle::CatalogueHandle;
pub use snapshot::{Route, Snapshot, View};
pub use state::{Fetched, FetchedLists, ViewChange};

#[cfg(test)]
mod tests;
