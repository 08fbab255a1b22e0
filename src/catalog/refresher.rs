//! Keeps the catalogue fed: fetches an upstream's lists when it connects, when it says that they changed, when somebody is
//! to be shown one that is no longer good, and every now and then where it never says.
//!
//! Always: one fetch per upstream at a time; news that arrive meanwhile lead to one more. A failed fetch keeps the last
//! good list (S-TOOL-15). What happens by the clock alone, re-listing and trying again, comes with jitter and leaves out
//! upstreams whose lists nobody waits for (S-CACHE-04), and one whose process was stopped for idleness: its lists stay as
//! they are, and all are fetched when it is started for a caller or for news of a change. Nor does a fetch count as use,
//! so it keeps no process running. Not here: what is done with the lists (`actor`), who waits for what (`progress`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::errand::{Errand, Settled};
use super::handle::CatalogueHandle;
use super::listing::ListKind;
use super::messages::ListAgain;
use super::progress::Progress;
use crate::config::bounds::Bounds;
use crate::names::UpstreamName;
use crate::upstream::fleet::Fleet;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::messages::{ListKind as ChangedList, NewsKind, UpstreamNews};
use crate::upstream::probe::Facts;

/// See the module head.
pub struct Refresher {
    fleet: Arc<Fleet>,
    catalogue: CatalogueHandle,
    bounds: Bounds,
    /// Whether there is anybody who relies on being told of changes.
    is_awaited: Box<dyn Fn() -> bool + Send>,
    progress: HashMap<UpstreamName, Progress>,
}

/// A list that could not be fetched is tried again after this, then doubling.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two tries.
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Callers that keep asking for what is not there must not keep the lists being fetched.
const DOUBT_EVERY: Duration = Duration::from_secs(5);

impl Refresher {
    /// For the upstreams of `fleet`; `is_awaited` says whether somebody relies on being told of changes.
    pub fn new(
        fleet: Arc<Fleet>,
        catalogue: CatalogueHandle,
        bounds: Bounds,
        is_awaited: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        Refresher { fleet, catalogue, bounds, is_awaited: Box::new(is_awaited), progress: HashMap::new() }
    }

    fn progress(&mut self, upstream: &UpstreamName) -> &mut Progress {
        self.progress.entry(upstream.clone()).or_default()
    }

    fn want(&mut self, upstream: UpstreamName, kinds: &[ListKind], ctx: &Context<Self>) {
        self.progress(&upstream).want(kinds);
        self.fetch(upstream, ctx);
    }

    fn fetch(&mut self, upstream: UpstreamName, ctx: &Context<Self>) {
        let Some(handle) = self.fleet.get(&upstream).cloned() else { return };
        let Some(wanted) = self.progress(&upstream).begin(Instant::now()) else { return };
        let retry_after = retry_after(self.progress(&upstream).failures());
        let errand = Errand { wanted, bounds: self.bounds.clone(), retry_after };
        let everything_failed = Settled::failed(&errand.wanted, Instant::now() + retry_after);
        let (catalogue, own) = (self.catalogue.clone(), ctx.address());
        let name = upstream.clone();
        let fetching = tokio::task::spawn_local(async move {
            let Some((lists, settled)) = errand.run(&handle).await else {
                // Its connection tells when it can be asked again.
                let _ = catalogue.upstream_lost(name).await;
                return Settled::default();
            };
            let _ = catalogue.lists_fetched(name, lists).await;
            settled
        });
        tokio::task::spawn_local(async move {
            // A fetch that panicked has failed in every kind.
            let settled = fetching.await.unwrap_or(everything_failed);
            if own.send(FetchSettled { upstream, settled, retry_after }).await.is_err() {
                tracing::debug!("lists were fetched for a catalogue that has stopped");
            }
        });
    }

    /// Lists again what never says that it changes (S-LIST-04), as far as anybody wants to know.
    fn relist(&mut self, ctx: &mut Context<Self>) {
        let is_awaited = (self.is_awaited)();
        for upstream in self.fleet.iter() {
            let is_silent = upstream.facts().is_some_and(|facts| !notifies(upstream, &facts));
            let Some(progress) = self.progress.get(upstream.name()) else { continue };
            let was_asked = || progress.fetched().is_some_and(|then| self.catalogue.was_asked_since(then));
            if upstream.is_idle() || !is_silent || !(is_awaited || was_asked()) {
                continue;
            }
            let name = upstream.name().clone();
            // Not all at once; by then it may sleep, or have been listed for somebody.
            ctx.run_later(self.bounds.relist_every.mul_f64(jitter() / 10.0), move |actor, ctx| {
                let soon = Instant::now() + actor.bounds.relist_every / 4;
                actor.want_due(name, &ListKind::ALL, soon, ctx);
            });
        }
    }

    /// Fetches those that are no longer good at `when`, unless that would wake the upstream.
    fn want_due(&mut self, upstream: UpstreamName, kinds: &[ListKind], when: Instant, ctx: &Context<Self>) {
        if self.fleet.get(&upstream).is_none_or(UpstreamHandle::is_idle) {
            return;
        }
        let progress = self.progress(&upstream);
        let due: Vec<_> = kinds.iter().copied().filter(|kind| progress.is_due(*kind, when)).collect();
        self.want(upstream, &due, ctx);
    }

    /// What is shown is good no longer from now on, and its successor is fetched.
    fn changed(&mut self, upstream: UpstreamName, kinds: &'static [ListKind], ctx: &Context<Self>) {
        // One moment for all: the fetch begins after it, whenever who is told of it gets to that.
        let at = Instant::now();
        self.progress(&upstream).revoke(kinds, at);
        if kinds.contains(&ListKind::Resources)
            && let Some(handle) = self.fleet.get(&upstream)
        {
            handle.reads().revoke_all(&upstream);
        }
        let (catalogue, name) = (self.catalogue.clone(), upstream.clone());
        tokio::task::spawn_local(async move {
            if catalogue.lists_revoked(name, kinds, at).await.is_err() {
                tracing::debug!("a list changed for a catalogue that has stopped");
            }
        });
        self.want(upstream, kinds, ctx);
    }
}

/// Doubles with each failure, and differs from upstream to upstream.
fn retry_after(failures: u32) -> Duration {
    let wait = RETRY_FIRST.saturating_mul(2u32.saturating_pow(failures.min(8))).min(RETRY_LONGEST);
    wait.mul_f64(1.0 - 0.2 * jitter())
}

/// Between 0 and 1. Nothing secret hangs on it.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

fn notifies(upstream: &UpstreamHandle, facts: &Facts) -> bool {
    let all = ["tools", "prompts", "resources"].into_iter().all(|feature| {
        !facts.capabilities.offers(feature) || facts.capabilities.flag(feature, "listChanged")
    });
    // One that is not heard now, or does not honour what it declared, has nobody to tell.
    all && upstream.hears_lists()
}

fn kinds(changed: ChangedList) -> &'static [ListKind] {
    match changed {
        ChangedList::Tools => &[ListKind::Tools],
        ChangedList::Prompts => &[ListKind::Prompts],
        ChangedList::Resources => &[ListKind::Resources, ListKind::Templates],
    }
}

/// A fetch ended, one way or the other.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct FetchSettled {
    upstream: UpstreamName,
    settled: Settled,
    retry_after: Duration,
}

/// News that may wait.
pub const MAILBOX: usize = 1024;

impl Actor for Refresher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.bounds.relist_every, |actor, ctx| actor.relist(ctx));
        self.catalogue.refreshed_by(ctx.address().recipient());
    }
}

impl Handler<UpstreamNews> for Refresher {
    type Result = ();

    fn handle(&mut self, news: UpstreamNews, ctx: &mut Self::Context) {
        match news.kind {
            NewsKind::Connected => self.want(news.upstream, &ListKind::ALL, ctx),
            NewsKind::ListChanged(changed) => self.changed(news.upstream, kinds(changed), ctx),
            NewsKind::ListDoubtful(doubtful) => {
                if self.progress(&news.upstream).may_doubt(Instant::now(), DOUBT_EVERY) {
                    self.want(news.upstream, kinds(doubtful), ctx);
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

    fn handle(&mut self, news: FetchSettled, ctx: &mut Self::Context) {
        let FetchSettled { upstream, settled: Settled { look_again, failed }, retry_after } = news;
        self.progress(&upstream).settle(look_again, !failed.is_empty());
        if !failed.is_empty() {
            let upstream = upstream.clone();
            ctx.run_later(retry_after, move |actor, ctx| {
                actor.want_due(upstream, &failed, Instant::now(), ctx);
            });
        }
        self.fetch(upstream, ctx);
    }
}

impl Handler<ListAgain> for Refresher {
    type Result = MessageResult<ListAgain>;

    fn handle(&mut self, asked: ListAgain, ctx: &mut Self::Context) -> Self::Result {
        let (sender, listed) = oneshot::channel();
        let (waiting, now, patience) = (Arc::new(sender), Instant::now(), self.bounds.list_budget);
        let mut is_anything_wanted = false;
        for upstream in asked.upstreams {
            // One that is away tells when it is back, and one that sleeps is not woken for a look at its lists.
            let is_there = self
                .fleet
                .get(&upstream)
                .is_some_and(|upstream| upstream.facts().is_some() && !upstream.is_idle());
            if is_there {
                is_anything_wanted |= self.progress(&upstream).ask(asked.kind, &waiting, now, patience);
                self.fetch(upstream, ctx);
            }
        }
        MessageResult(is_anything_wanted.then_some(listed))
    }
}
