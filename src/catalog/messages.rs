//! The complete inbox of the catalogue's writer, and what it tells others.

use actix::Message;

use super::state::{FetchedLists, ViewChange};
use crate::names::UpstreamName;

/// An upstream's lists were read.
#[derive(Debug)]
pub struct ListsFetched {
    /// Whose.
    pub upstream: UpstreamName,
    /// What became of each kind.
    pub lists: FetchedLists,
}

/// An upstream cannot be reached, or never could be.
#[derive(Debug)]
pub struct UpstreamLost {
    /// Which.
    pub upstream: UpstreamName,
}

/// Visible lists changed; the snapshot that shows it is already current (S-LIST-03). Once per burst.
#[derive(Debug, Clone)]
pub struct CatalogueChanged {
    /// One entry per view that changed visibly, never empty.
    pub views: Vec<ViewChange>,
}

impl Message for ListsFetched {
    type Result = ();
}

impl Message for UpstreamLost {
    type Result = ();
}

impl Message for CatalogueChanged {
    type Result = ();
}
