//! The complete inbox of the catalogue's writer, what it tells others, and what is asked of the refresher.

use actix::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::listing::ListKind;
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

/// An upstream said that lists changed; they will be read again.
#[derive(Debug)]
pub struct ListsRevoked {
    /// Whose.
    pub upstream: UpstreamName,
    /// Which.
    pub kinds: &'static [ListKind],
    /// When: what was asked for later is not meant.
    pub at: Instant,
}

/// Somebody waits for what was read: it is to be seen now, and not with the rest of its burst.
#[derive(Debug)]
pub struct ShowNow;

/// Somebody is about to be shown a list that is no longer good.
#[derive(Debug)]
pub struct ListAgain {
    /// What contributes to it.
    pub upstreams: Vec<UpstreamName>,
    /// Which list.
    pub kind: ListKind,
}

/// Closed, without a word, when whatever was asked for has come or will not come; `None` where no upstream is asked.
pub type ListedAgain = Option<oneshot::Receiver<std::convert::Infallible>>;

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

impl Message for ListsRevoked {
    type Result = ();
}

impl Message for ShowNow {
    type Result = ();
}

impl Message for ListAgain {
    type Result = ListedAgain;
}

impl Message for UpstreamLost {
    type Result = ();
}

impl Message for CatalogueChanged {
    type Result = ();
}
