//! One fetch of an upstream's lists: what it says of itself first, where that is due, then list by list.
//!
//! Always: a list that fails costs itself, and keeps the last good one (S-TOOL-15). Not here: when to fetch (`refresher`), how
//! a list is read page by page (`fetch`).

use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{FetchError, FetchLimits, fetch};
use super::freshness::{Term, TermLimits};
use super::listing::ListKind;
use super::progress::LookAgain;
use super::state::{Fetched, FetchedLists};
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

/// One fetch.
pub(super) struct Errand {
    pub(super) wanted: Vec<ListKind>,
    pub(super) bounds: Bounds,
    /// When what fails is tried again.
    pub(super) retry_after: Duration,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) look_again: LookAgain,
    pub(super) failed: Vec<ListKind>,
}

impl Settled {
    pub(super) fn failed(kinds: &[ListKind], look_again: Instant) -> Settled {
        let mut settled = Settled::default();
        kinds.iter().for_each(|kind| settled.fail(*kind, look_again));
        settled
    }

    fn fail(&mut self, kind: ListKind, look_again: Instant) {
        self.look_again[kind.index()] = Some(Some(look_again));
        self.failed.push(kind);
    }
}

impl Errand {
    /// The lists, and which could not be fetched; `None` when the upstream could not be asked at all.
    pub(super) async fn run(mut self, upstream: &UpstreamHandle) -> Option<(FetchedLists, Settled)> {
        let before = upstream.known_facts();
        let facts = upstream.rediscovered().await.ok()?;
        if before.is_some_and(|before| offered(&before) != offered(&facts)) {
            // What it did not offer before was never asked for.
            self.wanted = ListKind::ALL.to_vec();
        }
        let limits = self.limits(&facts);
        let policy = Policy::default();
        let mirrors = matches!(upstream.settings().transport, TransportSettings::Http(_));
        let check = |tool: &Object| match tool.get("inputSchema").map(ParamHeaders::of_schema) {
            Some(Err(fault)) if mirrors => Err(fault.to_string()),
            _ => Ok(()),
        };
        let (mut lists, mut settled) = (FetchedLists::begun_at(Instant::now()), Settled::default());
        for kind in self.wanted.iter().copied() {
            settled.look_again[kind.index()] = Some(None);
            if !facts.capabilities.offers(feature(kind)) {
                lists.set(kind, Fetched::Unsupported);
                continue;
            }
            let page = |_, cursor| {
                let permit = policy.own_errand(upstream.name());
                upstream.list_page(permit, upstream.own_client(), method(kind), cursor)
            };
            match fetch(kind, limits, &check, page).await {
                Ok(mut listing) => {
                    if limits.terms.is_none() {
                        listing.term = self.unsaid_term(&facts, kind);
                    }
                    settled.look_again[kind.index()] = Some(listing.term.look_again);
                    lists.set(kind, Fetched::Listed(listing));
                }
                // A declared feature without this method: nothing of the kind, and no reason to ask again.
                Err(FetchError::Page(UpstreamError::NotOffered(_))) => lists.set(kind, Fetched::Unsupported),
                Err(error) => {
                    let list = method(kind).name();
                    tracing::warn!(upstream = %upstream.name(), list, %error, "list not fetched; tried again later");
                    let look_again = Instant::now() + self.retry_after;
                    settled.fail(kind, look_again);
                    lists.set(kind, Fetched::Failed { look_again });
                }
            }
        }
        Some((lists, settled))
    }

    fn limits(&self, facts: &Facts) -> FetchLimits {
        let terms = TermLimits { unsaid: self.bounds.list_ttl, longest: self.bounds.cache_age };
        let terms = (facts.revision.era() == Era::Stateless).then_some(terms);
        FetchLimits { pages: self.bounds.list_pages, items: self.bounds.list_items, terms }
    }

    /// Of an upstream whose era has no words for it: until it tells, or for a time where it never tells (S-CACHE-06).
    fn unsaid_term(&self, facts: &Facts, kind: ListKind) -> Term {
        let is_told = facts.capabilities.flag(feature(kind), "listChanged");
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
