//! The catalogue as a plain state machine: news of upstreams in, snapshots and visible changes out.
//!
//! Always: what was told and what is shown are compared by view and kind, so a change that a view does not show is not
//! told to it (S-LIST-02). Not here: time and delivery (`actor`).

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::freshness::TermLimits;
use super::listing::{ContentHash, LeftOut, ListKind, Listing, Partial};
use super::merge::{Source, ViewParts, merged_terms, view};
use super::namespace::Namespace;
use super::pages::Pages;
use super::snapshot::{Freshness, Snapshot, View};
use super::uris::LearntUris;
use crate::config::Settings;
use crate::config::profiles::ProfileSettings;
use crate::names::{ProfileName, UpstreamName};
use crate::store::seal::Sealer;

/// Unlisted URIs that are remembered, over all callers.
const LEARNT_URIS: u64 = 20_000;

/// What was fetched of one kind.
#[derive(Debug, Default)]
pub enum Fetched {
    /// Not fetched this time, or it failed: the last good list stays (S-TOOL-15).
    #[default]
    Unchanged,
    /// It could not be fetched: the last good list stays, for nobody to keep, until it is asked for again then.
    Failed {
        /// From when on.
        look_again: Instant,
    },
    /// The upstream does not offer this kind.
    Unsupported,
    /// The whole list.
    Listed(Listing),
}

/// News of one upstream's lists, by kind.
#[derive(Debug, Default)]
pub struct FetchedLists {
    lists: [Fetched; 4],
    /// When the upstream was asked for them; `None`: just now.
    begun: Option<Instant>,
}

impl FetchedLists {
    /// Notes what became of `kind`.
    pub fn set(&mut self, kind: ListKind, fetched: Fetched) {
        self.lists[kind.index()] = fetched;
    }

    /// Asked for at that time: what was told since may not be in them.
    pub fn begun_at(begun: Instant) -> Self {
        FetchedLists { begun: Some(begun), ..FetchedLists::default() }
    }

    /// With what became of `kind`.
    pub fn with(mut self, kind: ListKind, fetched: Fetched) -> Self {
        self.set(kind, fetched);
        self
    }
}

/// Which of a view's lists changed visibly. Resources and templates have one notification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewChange {
    /// The view; `None` is `/mcp`.
    pub profile: Option<ProfileName>,
    /// `tools/list`
    pub tools: bool,
    /// `prompts/list`
    pub prompts: bool,
    /// `resources/list`
    pub resources: bool,
    /// `resources/templates/list`
    pub templates: bool,
}

impl ViewChange {
    fn is_some(&self) -> bool {
        self.tools || self.prompts || self.resources || self.templates
    }
}

/// How soon news must be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Nothing changed.
    None,
    /// With the rest of the burst.
    Soon,
    /// First news of an upstream, which list requests may be waiting for.
    Now,
}

/// Numbers a loss, so that a later return is not forgotten by an earlier clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss(u64);

pub(super) struct CatalogueState {
    sources: Vec<Source>,
    losses: HashMap<UpstreamName, Loss>,
    next_loss: u64,
    profiles: Vec<ProfileSettings>,
    parts: ViewParts,
    generation: u64,
    limits: TermLimits,
    told: HashMap<Option<ProfileName>, [ContentHash; 4]>,
}

impl CatalogueState {
    pub(super) fn new(settings: &Settings, sealer: Arc<Sealer>) -> Self {
        let namespace = |name: &UpstreamName, prefix| Namespace::new(name.clone(), prefix, &settings.names);
        let enabled = settings.servers.iter().filter(|server| server.enabled);
        let mut state = CatalogueState {
            sources: enabled
                .map(|server| Source::new(server.name.clone(), namespace(&server.name, &server.prefix)))
                .collect(),
            losses: HashMap::new(),
            next_loss: 0,
            profiles: settings.profiles.clone(),
            parts: ViewParts {
                pages: Arc::new(Pages::new(sealer, settings.bounds.page_size)),
                learnt: LearntUris::new(LEARNT_URIS),
                epoch: Instant::now(),
                tasks: Arc::new(settings.tasks.clone()),
            },
            generation: 0,
            limits: TermLimits { unsaid: settings.bounds.list_ttl, longest: settings.bounds.cache_age },
            told: HashMap::new(),
        };
        // Nobody has to be told that an empty gateway is empty.
        let empty = state.snapshot();
        state.told = empty.views().map(|view| (view.profile().cloned(), hashes(view))).collect();
        state
    }

    pub(super) fn lists_fetched(&mut self, upstream: &UpstreamName, lists: FetchedLists) -> Urgency {
        let Some(source) = self.sources.iter_mut().find(|source| source.upstream == *upstream) else {
            tracing::warn!(%upstream, "lists of an unknown upstream");
            return Urgency::None;
        };
        self.losses.remove(upstream);
        let before = std::mem::replace(&mut source.freshness, Freshness::Present);
        let (now, mut changed, mut is_first) = (Instant::now(), false, false);
        let begun = lists.begun.unwrap_or(now);
        for (kind, fetched) in ListKind::ALL.into_iter().zip(lists.lists) {
            is_first |= source.awaits(kind, before) && !matches!(fetched, Fetched::Unchanged);
            let is_news = matches!(fetched, Fetched::Unsupported | Fetched::Listed(_));
            changed |= match fetched {
                Fetched::Unchanged => false,
                Fetched::Failed { look_again } => {
                    source.doubt(kind, now, look_again);
                    false
                }
                Fetched::Unsupported => source.set(kind, None),
                Fetched::Listed(listing) => {
                    let (partial, left_out) = (listing.partial, listing.left_out.clone());
                    let changed = source.set(kind, Some(listing));
                    if changed && (partial.is_some() || !left_out.is_empty()) {
                        tell_not_whole(upstream, kind, partial, &left_out);
                    }
                    changed
                }
            };
            if is_news {
                source.was_asked_for(kind, begun, now);
            }
        }
        match before {
            Freshness::Awaited | Freshness::Absent => Urgency::Now,
            Freshness::Present if is_first => Urgency::Now,
            Freshness::Stale => Urgency::Soon,
            Freshness::Present if changed => Urgency::Soon,
            Freshness::Present => Urgency::None,
        }
    }

    /// The upstream said at that time that a list changed: what was asked for before is good no longer (S-CACHE-04).
    pub(super) fn revoke(&mut self, upstream: &UpstreamName, kinds: &[ListKind], at: Instant) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.upstream == *upstream) {
            kinds.iter().for_each(|kind| source.revoke(*kind, at));
        }
    }

    /// Notes in `snapshot`, which may be older than the news, how long its lists are good.
    pub(super) fn set_clocks(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        for view in snapshot.views() {
            let merged = merged_terms(&self.sources, view, now, self.limits);
            view.clocks.iter().zip(merged).for_each(|(clock, merged)| clock.set(merged));
        }
    }

    /// Its last good lists stay for a while; the number is for [`CatalogueState::forget`].
    pub(super) fn upstream_lost(&mut self, upstream: &UpstreamName) -> (Urgency, Option<Loss>) {
        let Some(source) = self.sources.iter_mut().find(|source| source.upstream == *upstream) else {
            return (Urgency::None, None);
        };
        match source.freshness {
            Freshness::Awaited => {
                source.freshness = Freshness::Absent;
                (Urgency::Now, None)
            }
            Freshness::Present => {
                source.freshness = Freshness::Stale;
                self.next_loss += 1;
                let loss = Loss(self.next_loss);
                self.losses.insert(upstream.clone(), loss);
                (Urgency::Soon, Some(loss))
            }
            Freshness::Stale | Freshness::Absent => (Urgency::None, None),
        }
    }

    /// Shows nothing of an upstream any more, unless it came back since that loss.
    pub(super) fn forget(&mut self, upstream: &UpstreamName, loss: Loss) -> Urgency {
        if self.losses.get(upstream) != Some(&loss) {
            return Urgency::None;
        }
        self.losses.remove(upstream);
        if let Some(source) = self.sources.iter_mut().find(|source| source.upstream == *upstream) {
            source.freshness = Freshness::Absent;
            source.clear();
        }
        Urgency::Soon
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.generation += 1;
        self.sources.iter_mut().for_each(Source::was_seen);
        let of = |profile| Arc::new(view(&self.sources, profile, &self.parts));
        let snapshot = Snapshot {
            everything: of(None),
            profiles: self.profiles.iter().map(|profile| (profile.name.clone(), of(Some(profile)))).collect(),
            upstreams: self.sources.iter().map(Source::report).collect(),
            generation: self.generation,
        };
        self.set_clocks(&snapshot);
        snapshot
    }

    /// What `snapshot` shows that was not told yet.
    pub(super) fn untold(&self, snapshot: &Snapshot) -> Vec<ViewChange> {
        let change = |view: &Arc<View>| {
            let now = hashes(view);
            let told = self.told.get(&view.profile().cloned())?;
            let differs = |kind: ListKind| now[kind.index()] != told[kind.index()];
            Some(ViewChange {
                profile: view.profile().cloned(),
                tools: differs(ListKind::Tools),
                prompts: differs(ListKind::Prompts),
                resources: differs(ListKind::Resources),
                templates: differs(ListKind::Templates),
            })
        };
        let changes = snapshot.views().filter_map(change);
        changes.filter(ViewChange::is_some).collect()
    }

    /// From now on everyone knows what `snapshot` shows.
    pub(super) fn was_told(&mut self, snapshot: &Snapshot) {
        self.told = snapshot.views().map(|view| (view.profile().cloned(), hashes(view))).collect();
    }
}

fn hashes(view: &Arc<View>) -> [ContentHash; 4] {
    ListKind::ALL.map(|kind| view.list(kind).hash)
}

/// Items that are named in the log each time a list is not shown whole.
const NAMED_AT_MOST: usize = 50;

/// For operators: the specification wants the name of what is left out, and the reason (S-HDR-09).
fn tell_not_whole(upstream: &UpstreamName, kind: ListKind, partial: Option<Partial>, left_out: &[LeftOut]) {
    let partial = partial.map(tracing::field::display);
    let count = left_out.len();
    tracing::warn!(%upstream, list = kind.member(), left_out = count, partial, "a list is not shown whole");
    for item in left_out.iter().take(NAMED_AT_MOST) {
        tracing::warn!(%upstream, list = kind.member(), name = ?item.name, reason = ?item.reason, "not shown");
    }
}
