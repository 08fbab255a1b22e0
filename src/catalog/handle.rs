//! How everyone else reaches the catalogue: reads past every mailbox, news through the writer's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, Recipient};
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::actor::{CatalogueActor, MAILBOX};
use super::listing::ListKind;
use super::messages::{CatalogueChanged, ListAgain, ListsFetched, ListsRevoked, ShowNow, UpstreamLost};
use super::snapshot::{Snapshot, View};
use super::state::{CatalogueState, FetchedLists};
use crate::config::Settings;
use crate::names::UpstreamName;
use crate::store::seal::Sealer;

/// How long the lists of a lost upstream stay: a restart, a deployment or a short outage changes no client's tools.
pub const KEEP_LOST: Duration = Duration::from_secs(5 * 60);

/// The writer is gone: the gateway is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the catalogue has stopped")]
pub struct CatalogueStopped;

/// What the writer publishes and everyone reads.
#[derive(Debug)]
pub(super) struct Published {
    snapshot: ArcSwap<Snapshot>,
    generation: watch::Sender<u64>,
    /// Who lists again, once there is somebody.
    refresher: OnceLock<Recipient<ListAgain>>,
    asked: Asked,
}

/// What lists were asked for: counted without any order, for people and for the refresher.
#[derive(Debug)]
struct Asked {
    epoch: Instant,
    /// Milliseconds of the epoch.
    last: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    revoked: AtomicU64,
}

/// How often the catalogue answered by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListCounts {
    /// Lists that were shown as they were.
    pub hits: u64,
    /// Lists for which an upstream had to be asked first.
    pub misses: u64,
    /// Changes that upstreams told of.
    pub revoked: u64,
}

impl Published {
    pub(super) fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(snapshot.clone());
        self.generation.send_replace(snapshot.generation());
        snapshot
    }

    pub(super) fn current(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }
}

/// A cheap clone per user.
#[derive(Debug, Clone)]
pub struct CatalogueHandle {
    writer: Addr<CatalogueActor>,
    published: Arc<Published>,
}

impl CatalogueHandle {
    /// Starts the writer on the current arbiter.
    pub fn start(settings: &Settings, sealer: Arc<Sealer>, changed: Recipient<CatalogueChanged>) -> Self {
        Self::start_on(&Arbiter::current(), settings, sealer, changed, KEEP_LOST)
    }

    /// Starts the writer on `arbiter`; the lists of a lost upstream stay for `keep_lost`.
    pub fn start_on(
        arbiter: &ArbiterHandle,
        settings: &Settings,
        sealer: Arc<Sealer>,
        changed: Recipient<CatalogueChanged>,
        keep_lost: Duration,
    ) -> Self {
        let mut state = CatalogueState::new(settings, sealer);
        let snapshot = Arc::new(state.snapshot());
        let published = Arc::new(Published {
            generation: watch::Sender::new(snapshot.generation()),
            snapshot: ArcSwap::new(snapshot),
            refresher: OnceLock::new(),
            asked: Asked {
                epoch: Instant::now(),
                last: AtomicU64::new(0),
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
                revoked: AtomicU64::new(0),
            },
        });
        let actor = CatalogueActor {
            state,
            published: published.clone(),
            changed,
            debounce: settings.bounds.change_debounce,
            keep_lost,
            tick_is_due: false,
            unseen: false,
        };
        let writer = CatalogueActor::start_in_arbiter(arbiter, |context| {
            // Here, because news can arrive before `started` runs.
            context.set_mailbox_capacity(MAILBOX);
            actor
        });
        CatalogueHandle { writer, published }
    }

    /// What is offered now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.published.current()
    }

    /// What an endpoint offers now; `None` for an unknown profile.
    pub fn view(&self, profile: Option<&str>) -> Option<Arc<View>> {
        self.published.snapshot.load().view(profile).cloned()
    }

    /// Waits until every upstream's list of that kind, or of any, was heard of at least once, but not longer than `budget`;
    /// then the current snapshot (S-TOOL-15).
    pub async fn first_lists(&self, kind: Option<ListKind>, budget: Duration) -> Arc<Snapshot> {
        if self.published.snapshot.load().is_awaiting(kind) {
            let mut generations = self.published.generation.subscribe();
            // Each publication is looked at once; running out of time or of writers is as good as an answer.
            let complete = generations.wait_for(|_| !self.published.snapshot.load().is_awaiting(kind));
            let _ = tokio::time::timeout(budget, complete).await;
        }
        self.current()
    }

    /// From now on lists that are no longer good are fetched by it.
    pub(crate) fn refreshed_by(&self, refresher: Recipient<ListAgain>) {
        if self.published.refresher.set(refresher).is_err() {
            tracing::warn!("the catalogue has a refresher already");
        }
    }

    /// A view whose list of `kind` is good: `view` itself, or what its endpoint shows when those upstreams were asked
    /// again whose lists are no longer good, or when `budget` is over (S-CACHE-04, S-TOOL-15). Many who come at once
    /// wait for one fetch.
    pub async fn refreshed(&self, view: Arc<View>, kind: ListKind, budget: Duration) -> Arc<View> {
        let asked = &self.published.asked;
        asked.last.store(millis_since(asked.epoch), Ordering::Relaxed);
        if !view.is_stale(kind) {
            asked.hits.fetch_add(1, Ordering::Relaxed);
            return view;
        }
        // Rare, and on the heap so that not every list carries the room for it.
        let _ = tokio::time::timeout(budget, Box::pin(self.list_again(&view, kind))).await;
        self.view(view.profile().map(|profile| profile.as_str())).unwrap_or(view)
    }

    async fn list_again(&self, view: &View, kind: ListKind) {
        let asked = &self.published.asked;
        let again = ListAgain { upstreams: view.upstreams().to_vec(), kind };
        let Some(refresher) = self.published.refresher.get() else { return };
        let Ok(Some(listed)) = refresher.send(again).await else {
            // Those that could say more are asleep or away, or silent for long.
            asked.hits.fetch_add(1, Ordering::Relaxed);
            return;
        };
        asked.misses.fetch_add(1, Ordering::Relaxed);
        let _ = listed.await;
        if self.writer.send(ShowNow).await.is_err() {
            tracing::debug!("a list is shown as it was when the catalogue stopped");
        }
    }

    /// Whether any list was asked for since `then`.
    pub(super) fn was_asked_since(&self, then: Instant) -> bool {
        let asked = &self.published.asked;
        asked.epoch + Duration::from_millis(asked.last.load(Ordering::Relaxed)) > then
    }

    /// For people.
    pub fn counts(&self) -> ListCounts {
        let asked = &self.published.asked;
        ListCounts {
            hits: asked.hits.load(Ordering::Relaxed),
            misses: asked.misses.load(Ordering::Relaxed),
            revoked: asked.revoked.load(Ordering::Relaxed),
        }
    }

    /// Waits until an endpoint's view is `enough`, but not longer than `until`; then what it offers now.
    pub async fn view_once(
        &self,
        profile: Option<&str>,
        until: Instant,
        enough: impl Fn(&View) -> bool,
    ) -> Option<Arc<View>> {
        let mut generations = self.published.generation.subscribe();
        let seen = generations.wait_for(|_| self.view(profile).is_none_or(|view| enough(&view)));
        let _ = tokio::time::timeout_at(until, seen).await;
        self.view(profile)
    }

    /// Brings an upstream's lists. They are part of the snapshot at once when they are its first, else within
    /// `bounds.change_debounce`.
    pub async fn lists_fetched(
        &self,
        upstream: UpstreamName,
        lists: FetchedLists,
    ) -> Result<(), CatalogueStopped> {
        self.writer.send(ListsFetched { upstream, lists }).await.map_err(|_| CatalogueStopped)
    }

    /// Says that an upstream's lists are no longer good since `at`; their successors are under way.
    pub async fn lists_revoked(
        &self,
        upstream: UpstreamName,
        kinds: &'static [ListKind],
        at: Instant,
    ) -> Result<(), CatalogueStopped> {
        self.published.asked.revoked.fetch_add(1, Ordering::Relaxed);
        self.writer.send(ListsRevoked { upstream, kinds, at }).await.map_err(|_| CatalogueStopped)
    }

    /// Says that an upstream cannot be reached.
    pub async fn upstream_lost(&self, upstream: UpstreamName) -> Result<(), CatalogueStopped> {
        self.writer.send(UpstreamLost { upstream }).await.map_err(|_| CatalogueStopped)
    }
}

fn millis_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}
