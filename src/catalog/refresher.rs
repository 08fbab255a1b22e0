//! Keeps the catalogue fed: fetches an upstream's lists when it connects, when it says that they changed, when somebody is
//! to be shown one that is no longer good, and every now and then where it never says.
//!
//! Always: one fetch of a list at a time; news that arrive meanwhile lead to one more, at a pace that falls while nothing
//! new comes of it. Each list is handed over as soon as it came; a failed fetch keeps the last good one (S-TOOL-15). What happens by the clock alone, re-listing and trying again, comes with jitter and leaves out
//! upstreams whose lists nobody waits for (S-CACHE-04), and one whose process was stopped for idleness: its lists stay as
//! they are, and all are fetched when it is started for a caller or for news of a change. Nor does a fetch count as use,
//! so it keeps no process running. Not here: what is done with the lists (`actor`), who waits for what (`progress`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::errand::{Errand, introduced};
use super::handle::CatalogueHandle;
use super::listing::ListKind;
use super::messages::ListAgain;
use super::progress::{Progress, Settled};
use super::state::{Fetched, FetchedLists};
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
        self.progress(&upstream).want(kinds, Instant::now());
        self.fetch(upstream, ctx);
    }

    fn fetch(&mut self, upstream: UpstreamName, ctx: &Context<Self>) {
        let Some(handle) = self.fleet.get(&upstream).cloned() else { return };
        let longest_pace = self.bounds.relist_every;
        let progress = self.progress(&upstream);
        let wanted = progress.begin(Instant::now(), longest_pace);
        if wanted.is_empty() {
            return;
        }
        let wanted = wanted.into_iter().map(|kind| (kind, retry_after(progress.failures(kind)))).collect();
        let fetching = Fetching {
            handle,
            catalogue: self.catalogue.clone(),
            bounds: self.bounds.clone(),
            own: ctx.address(),
        };
        tokio::task::spawn_local(fetching.run(wanted));
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
    fn changed(&mut self, upstream: UpstreamName, kinds: &'static [ListKind], ctx: &mut Context<Self>) {
        // One moment for all: the fetch begins after it, whenever who is told of it gets to that.
        let at = Instant::now();
        let later = self.progress(&upstream).revoke(kinds, at);
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
        for from in later {
            let upstream = upstream.clone();
            ctx.run_later(from.saturating_duration_since(at), move |actor, ctx| {
                // One that sleeps by now is listed when it is started for somebody.
                if actor.fleet.get(&upstream).is_some_and(|upstream| !upstream.is_idle()) {
                    actor.fetch(upstream, ctx);
                }
            });
        }
        self.fetch(upstream, ctx);
    }
}

/// A fetch of some of an upstream's lists, each for itself, so that one which hangs withholds no other.
struct Fetching {
    handle: UpstreamHandle,
    catalogue: CatalogueHandle,
    bounds: Bounds,
    own: Addr<Refresher>,
}

impl Fetching {
    async fn run(self, wanted: Vec<(ListKind, Duration)>) {
        let handle = self.handle.clone();
        // A task of its own, as each errand: one that panics has failed, and is tried again.
        let introduced = tokio::task::spawn_local(async move { introduced(&handle).await }).await;
        let (facts, is_other) = match introduced {
            Ok(Some(introduced)) => introduced,
            Ok(None) => {
                // Its connection tells when it can be asked again.
                let _ = self.catalogue.upstream_lost(self.handle.name().clone()).await;
                return self.all_settled(wanted, |_| Settled::Unasked).await;
            }
            Err(_) => {
                let now = Instant::now();
                return self.all_settled(wanted, |retry_after| Settled::Failed(now + retry_after)).await;
            }
        };
        if is_other {
            // What it did not offer before was never asked for.
            let is_under_way = |kind: &ListKind| wanted.iter().any(|(wanted, _)| wanted == kind);
            let kinds = ListKind::ALL.into_iter().filter(|kind| !is_under_way(kind)).collect();
            self.tell(AlsoWanted { upstream: self.handle.name().clone(), kinds }).await;
        }
        let lists = wanted.into_iter().map(|(kind, retry_after)| {
            let bounds = self.bounds.clone();
            self.list(Errand { kind, facts: Arc::clone(&facts), bounds, retry_after })
        });
        join_all(lists).await;
    }

    async fn list(&self, errand: Errand) {
        let (kind, retry_after, begun) = (errand.kind, errand.retry_after, Instant::now());
        let handle = self.handle.clone();
        let listed = tokio::task::spawn_local(async move { errand.run(&handle).await }).await;
        let (fetched, settled) = listed.unwrap_or_else(|_| {
            let look_again = Instant::now() + retry_after;
            (Fetched::Failed { look_again }, Settled::Failed(look_again))
        });
        let lists = FetchedLists::begun_at(begun).with(kind, fetched);
        let upstream = self.handle.name().clone();
        let _ = self.catalogue.lists_fetched(upstream.clone(), lists).await;
        self.tell(ListSettled { upstream, kind, settled }).await;
    }

    async fn all_settled(&self, wanted: Vec<(ListKind, Duration)>, settled: impl Fn(Duration) -> Settled) {
        for (kind, retry_after) in wanted {
            let settled = settled(retry_after);
            self.tell(ListSettled { upstream: self.handle.name().clone(), kind, settled }).await;
        }
    }

    async fn tell<M>(&self, news: M)
    where
        M: Message<Result = ()> + Send + 'static,
        Refresher: Handler<M>,
    {
        if self.own.send(news).await.is_err() {
            tracing::debug!("lists were fetched for a catalogue that has stopped");
        }
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

/// The fetch of a list ended, one way or the other.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct ListSettled {
    upstream: UpstreamName,
    kind: ListKind,
    settled: Settled,
}

/// An upstream offers something else than it did: these are to be fetched as well.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct AlsoWanted {
    upstream: UpstreamName,
    kinds: Vec<ListKind>,
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

impl Handler<ListSettled> for Refresher {
    type Result = ();

    fn handle(&mut self, news: ListSettled, ctx: &mut Self::Context) {
        let ListSettled { upstream, kind, settled } = news;
        self.progress(&upstream).settle(kind, settled);
        if let Settled::Failed(look_again) = settled {
            let upstream = upstream.clone();
            ctx.run_later(look_again.saturating_duration_since(Instant::now()), move |actor, ctx| {
                actor.want_due(upstream, &[kind], Instant::now(), ctx);
            });
        }
        self.fetch(upstream, ctx);
    }
}

impl Handler<AlsoWanted> for Refresher {
    type Result = ();

    fn handle(&mut self, news: AlsoWanted, ctx: &mut Self::Context) {
        self.want(news.upstream, &news.kinds, ctx);
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
