//! Keeps the catalogue fed: fetches an upstream's lists when it connects, when it says that they changed, and every now
//! and then where it never says.
//!
//! Always: one fetch per upstream at a time; news that arrive meanwhile lead to one more. A failed fetch keeps the last
//! good list (S-TOOL-15). What happens by the clock alone, re-listing and trying again, leaves out an upstream whose
//! process was stopped for idleness: its lists stay as they are, and all are fetched when it is started for a caller or
//! for news of a change. Nor does a fetch count as use, so it keeps no process running. Not here: what is done with the lists (`actor`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::fetch::{FetchError, FetchLimits, fetch};
use super::handle::CatalogueHandle;
use super::listing::ListKind;
use super::state::{Fetched, FetchedLists};
use crate::config::bounds::Bounds;
use crate::config::servers::TransportSettings;
use crate::names::UpstreamName;
use crate::policy::Policy;
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::protocol::param_headers::ParamHeaders;
use crate::upstream::error::UpstreamError;
use crate::upstream::fleet::Fleet;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::messages::{ListKind as ChangedList, NewsKind, UpstreamNews};
use crate::upstream::probe::Facts;

/// See the module head.
pub struct Refresher {
    fleet: Arc<Fleet>,
    catalogue: CatalogueHandle,
    bounds: Bounds,
    progress: HashMap<UpstreamName, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    fetching: bool,
    wanted: Vec<ListKind>,
    /// When a list was last fetched because of a doubt.
    doubted: Option<Instant>,
    /// Fetches that failed one after the other.
    failures: u32,
}

/// A list that could not be fetched is tried again after this, then doubling.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Callers that keep asking for what is not there must not keep the lists being fetched.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

impl Refresher {
    /// For the upstreams of `fleet`.
    pub fn new(fleet: Arc<Fleet>, catalogue: CatalogueHandle, bounds: Bounds) -> Self {
        Refresher { fleet, catalogue, bounds, progress: HashMap::new() }
    }

    fn want(&mut self, upstream: UpstreamName, kinds: &[ListKind], ctx: &Context<Self>) {
        let progress = self.progress.entry(upstream.clone()).or_default();
        for kind in kinds {
            if !progress.wanted.contains(kind) {
                progress.wanted.push(*kind);
            }
        }
        if !progress.fetching {
            self.fetch(upstream, ctx);
        }
    }

    fn fetch(&mut self, upstream: UpstreamName, ctx: &Context<Self>) {
        let Some(handle) = self.fleet.get(&upstream).cloned() else { return };
        let progress = self.progress.entry(upstream.clone()).or_default();
        let wanted = std::mem::take(&mut progress.wanted);
        if wanted.is_empty() {
            return;
        }
        progress.fetching = true;
        let wanted_again = wanted.clone();
        let limits = FetchLimits { pages: self.bounds.list_pages, items: self.bounds.list_items };
        let (catalogue, own) = (self.catalogue.clone(), ctx.address());
        let name = upstream.clone();
        let fetching = tokio::task::spawn_local(async move {
            let Some((lists, failed)) = fetch_all(&handle, &wanted, limits).await else {
                // Its connection tells when it can be asked again.
                let _ = catalogue.upstream_lost(name).await;
                return Vec::new();
            };
            let _ = catalogue.lists_fetched(name, lists).await;
            failed
        });
        tokio::task::spawn_local(async move {
            // A fetch that panicked has failed in every kind.
            let failed = fetching.await.unwrap_or(wanted_again);
            if own.send(FetchSettled { upstream, failed }).await.is_err() {
                tracing::debug!("lists were fetched for a catalogue that has stopped");
            }
        });
    }

    /// Lists again what never says that it changes (S-LIST-04).
    fn relist(&mut self, ctx: &Context<Self>) {
        let silent: Vec<UpstreamName> = self
            .fleet
            .iter()
            .filter(|upstream| {
                !upstream.is_idle() && upstream.facts().is_some_and(|facts| !notifies(upstream, &facts))
            })
            .map(|upstream| upstream.name().clone())
            .collect();
        for upstream in silent {
            self.want(upstream, &ListKind::ALL, ctx);
        }
    }
}

fn notifies(upstream: &UpstreamHandle, facts: &Facts) -> bool {
    let all = ["tools", "prompts", "resources"].into_iter().all(|feature| {
        !facts.capabilities.offers(feature) || facts.capabilities.flag(feature, "listChanged")
    });
    // One that is not heard now, or does not honour what it declared, has nobody to tell.
    all && upstream.hears_lists()
}

/// The lists, and the kinds that could not be fetched; `None` when the upstream could not be asked at all.
async fn fetch_all(
    upstream: &UpstreamHandle,
    kinds: &[ListKind],
    limits: FetchLimits,
) -> Option<(FetchedLists, Vec<ListKind>)> {
    let facts = upstream.connected().await.ok()?;
    let policy = Policy::default();
    let mirrors = matches!(upstream.settings().transport, TransportSettings::Http(_));
    let check = |tool: &Object| match tool.get("inputSchema").map(ParamHeaders::of_schema) {
        Some(Err(fault)) if mirrors => Err(fault.to_string()),
        _ => Ok(()),
    };
    let mut lists = FetchedLists::default();
    let mut failed = Vec::new();
    for kind in kinds {
        if !facts.capabilities.offers(feature(*kind)) {
            lists.set(*kind, Fetched::Unsupported);
            continue;
        }
        let page = |_, cursor| {
            let permit = policy.own_errand(upstream.name());
            upstream.list_page(permit, upstream.own_client(), method(*kind), cursor)
        };
        match fetch(*kind, limits, &check, page).await {
            Ok(listing) => lists.set(*kind, Fetched::Listed(listing)),
            // A declared feature without this method: nothing of the kind, and no reason to ask again.
            Err(FetchError::Page(UpstreamError::NotOffered(_))) => lists.set(*kind, Fetched::Unsupported),
            Err(error) => {
                let list = method(*kind).name();
                tracing::warn!(upstream = %upstream.name(), list, %error, "list not fetched; tried again later");
                failed.push(*kind);
            }
        }
    }
    Some((lists, failed))
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

/// A fetch ended, one way or the other.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct FetchSettled {
    upstream: UpstreamName,
    failed: Vec<ListKind>,
}

/// News that may wait.
pub const MAILBOX: usize = 1024;

impl Actor for Refresher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.bounds.relist_every, |actor, ctx| actor.relist(ctx));
    }
}

impl Handler<UpstreamNews> for Refresher {
    type Result = ();

    fn handle(&mut self, news: UpstreamNews, ctx: &mut Self::Context) {
        match news.kind {
            NewsKind::Connected => self.want(news.upstream, &ListKind::ALL, ctx),
            NewsKind::ListChanged(ChangedList::Tools) => self.want(news.upstream, &[ListKind::Tools], ctx),
            NewsKind::ListChanged(ChangedList::Prompts) => {
                self.want(news.upstream, &[ListKind::Prompts], ctx)
            }
            NewsKind::ListChanged(ChangedList::Resources) => {
                self.want(news.upstream, &[ListKind::Resources, ListKind::Templates], ctx);
            }
            NewsKind::ListDoubtful(kind) => {
                let last = self.progress.get(&news.upstream).and_then(|progress| progress.doubted);
                if last.is_none_or(|last| last.elapsed() >= DOUBT_EVERY) {
                    self.progress.entry(news.upstream.clone()).or_default().doubted = Some(Instant::now());
                    ctx.notify(UpstreamNews { upstream: news.upstream, kind: NewsKind::ListChanged(kind) });
                }
            }
            NewsKind::Failed(_) => {
                let catalogue = self.catalogue.clone();
                tokio::task::spawn_local(async move {
                    if catalogue.upstream_lost(news.upstream).await.is_err() {
                        tracing::debug!("an upstream was lost for a catalogue that has stopped");
                    }
                });
            }
        }
    }
}

impl Handler<FetchSettled> for Refresher {
    type Result = ();

    fn handle(&mut self, settled: FetchSettled, ctx: &mut Self::Context) {
        let progress = self.progress.entry(settled.upstream.clone()).or_default();
        progress.fetching = false;
        progress.failures = if settled.failed.is_empty() { 0 } else { progress.failures.saturating_add(1) };
        if !settled.failed.is_empty() {
            let wait = RETRY_FIRST
                .saturating_mul(2u32.saturating_pow(progress.failures.min(8) - 1))
                .min(RETRY_LONGEST);
            let upstream = settled.upstream.clone();
            ctx.run_later(wait, move |actor, ctx| {
                if actor.fleet.get(&upstream).is_some_and(|upstream| !upstream.is_idle()) {
                    actor.want(upstream, &settled.failed, ctx);
                }
            });
        }
        self.fetch(settled.upstream, ctx);
    }
}
