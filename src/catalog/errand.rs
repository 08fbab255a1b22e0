//! One fetch of one of an upstream's lists, once it has said what it is.
//!
//! Always: a list that fails costs itself, and keeps the last good one (S-TOOL-15). Not here: when to fetch (`refresher`), how
//! a list is read page by page (`fetch`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{FetchError, FetchLimits, fetch};
use super::freshness::{Term, TermLimits};
use super::listing::ListKind;
use super::progress::Settled;
use super::state::Fetched;
use crate::config::bounds::Bounds;
use crate::config::servers::TransportSettings;
use crate::policy::Policy;
use crate::protocol::era::Era;
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::protocol::param_headers::ParamHeaders;
use crate::upstream::error::UpstreamError;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::probe::Facts;

/// One fetch of one list, of an upstream that said this of itself.
pub(super) struct Errand {
    pub(super) kind: ListKind,
    pub(super) facts: Arc<Facts>,
    pub(super) bounds: Bounds,
    /// When it is tried again if it fails.
    pub(super) retry_after: Duration,
}

/// What the upstream says of itself, and whether it offers now what it did not when it was last asked; `None` when it cannot
/// be asked.
pub(super) async fn introduced(upstream: &UpstreamHandle) -> Option<(Arc<Facts>, bool)> {
    let before = upstream.known_facts();
    let facts = upstream.rediscovered().await.ok()?;
    let is_other = before.is_some_and(|before| offered(&before) != offered(&facts));
    Some((facts, is_other))
}

impl Errand {
    /// The list, for the catalogue and for whoever keeps it fed.
    pub(super) async fn run(self, upstream: &UpstreamHandle) -> (Fetched, Settled) {
        let none = (Fetched::Unsupported, Settled::Fetched { look_again: None, content: None });
        let (kind, limits) = (self.kind, self.limits());
        if !self.facts.capabilities.offers(feature(kind)) {
            return none;
        }
        let policy = Policy::default();
        let mirrors = matches!(upstream.settings().transport, TransportSettings::Http(_));
        let check = |tool: &Object| match tool.get("inputSchema").map(ParamHeaders::of_schema) {
            Some(Err(fault)) if mirrors => Err(fault.to_string()),
            _ => Ok(()),
        };
        let page = |_, cursor| {
            let permit = policy.own_errand(upstream.name());
            upstream.list_page(permit, upstream.own_client(), method(kind), cursor)
        };
        match fetch(kind, limits, &check, page).await {
            Ok(listing) => {
                let tasks = upstream.tasks_offered().filter(|_| kind == ListKind::Tools);
                let mut listing = listing.with_tasks(tasks.map(|tasks| tasks.dialect));
                if limits.terms.is_none() {
                    listing.term = self.unsaid_term();
                }
                let settled =
                    Settled::Fetched { look_again: listing.term.look_again, content: Some(*listing.hash()) };
                (Fetched::Listed(listing), settled)
            }
            // A declared feature without this method: nothing of the kind, and no reason to ask again.
            Err(FetchError::Page(UpstreamError::NotOffered(_))) => none,
            Err(error) => {
                let list = method(kind).name();
                tracing::warn!(upstream = %upstream.name(), list, %error, "list not fetched; tried again later");
                let look_again = Instant::now() + self.retry_after;
                (Fetched::Failed { look_again }, Settled::Failed(look_again))
            }
        }
    }

    fn limits(&self) -> FetchLimits {
        let terms = TermLimits { unsaid: self.bounds.list_ttl, longest: self.bounds.cache_age };
        let terms = (self.facts.revision.era() == Era::Stateless).then_some(terms);
        FetchLimits { pages: self.bounds.list_pages, items: self.bounds.list_items, terms }
    }

    /// Of an upstream whose era has no words for it: until it tells, or for a time where it never tells (S-CACHE-06).
    fn unsaid_term(&self) -> Term {
        let is_told = self.facts.capabilities.flag(feature(self.kind), "listChanged");
        let look_again = (!is_told).then(|| Instant::now() + self.bounds.relist_every);
        Term { look_again, ..Term::UNTIL_TOLD }
    }
}

fn offered(facts: &Facts) -> [bool; 4] {
    ListKind::ALL.map(|kind| facts.capabilities.offers(feature(kind)))
}

fn feature(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Tools => "tools",
        ListKind::Prompts => "prompts",
        ListKind::Resources | ListKind::Templates => "resources",
    }
}

fn method(kind: ListKind) -> Method {
    match kind {
        ListKind::Tools => Method::ListTools,
        ListKind::Prompts => Method::ListPrompts,
        ListKind::Resources => Method::ListResources,
        ListKind::Templates => Method::ListTemplates,
    }
}
