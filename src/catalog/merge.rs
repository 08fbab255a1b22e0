//! Many upstreams' lists into one snapshot: pure, and the same result whenever the input is the same.
//!
//! Always: order is the configuration's, then the upstream's own (S-TOOL-05). Where two upstreams claim one name, the
//! longer prefix owns it, then the earlier server; the loser is left out and recorded, never renamed, so that adding a
//! server renames nothing. Clashes are judged within a view: what a profile hides changes nothing it shows (S-LIST-02).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::freshness::{ListClock, Merged, Term, TermLimits};
use super::listing::{ContentHash, Item, LeftOut, ListKind, Listing, content_hash};
use super::namespace::Namespace;
use super::pages::Pages;
use super::snapshot::{Freshness, MergedList, Route, Unheard, UpstreamReport, View};
use super::uris::{Answering, Fallback, LearntUris, Offer, ROUTED_TEMPLATES, UriSpace};
use crate::config::profiles::ProfileSettings;
use crate::config::tasks::{Hosting, TaskSettings};
use crate::names::{LocalName, PublicName, UpstreamName};
use crate::protocol::task::{Dialect, TaskSupport};

/// One upstream's last good lists, with public names.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) upstream: UpstreamName,
    pub(super) freshness: Freshness,
    namespace: Namespace,
    lists: [Option<NamedListing>; 4],
    /// It said that it has no resources, which is more than that none are known.
    lacks_resources: bool,
    /// Which kinds it said it does not offer, when it was last heard of.
    lacks: [bool; 4],
    terms: [Option<Term>; 4],
    /// When it last said that a list changed.
    revoked: [Option<Instant>; 4],
    /// When that was asked for what is known.
    asked: [Option<Instant>; 4],
    /// What no snapshot shows yet.
    unseen: [bool; 4],
    /// Which of them were ever heard of.
    heard: [bool; 4],
}

#[derive(Debug)]
struct NamedListing {
    listing: Arc<Listing>,
    /// Beside the items; empty for kinds that go by URI.
    names: Vec<PublicName>,
}

impl Source {
    pub(super) fn new(upstream: UpstreamName, namespace: Namespace) -> Self {
        Source {
            upstream,
            freshness: Freshness::Awaited,
            namespace,
            lists: [const { None }; 4],
            lacks_resources: false,
            lacks: [false; 4],
            terms: [None; 4],
            revoked: [None; 4],
            asked: [None; 4],
            unseen: [false; 4],
            heard: [false; 4],
        }
    }

    /// Takes a new list, or that there is none; says whether that changed anything.
    pub(super) fn set(&mut self, kind: ListKind, listing: Option<Listing>) -> bool {
        let is_first = !std::mem::replace(&mut self.heard[kind.index()], true);
        self.lacks[kind.index()] = listing.is_none();
        self.terms[kind.index()] = listing.as_ref().map(|listing| listing.term);
        let lacked_resources = self.lacks_resources;
        if kind == ListKind::Resources {
            self.lacks_resources = listing.is_none();
        }
        let known = &mut self.lists[kind.index()];
        let hash = known.as_ref().map(|known| *known.listing.hash());
        if hash == listing.as_ref().map(|listing| *listing.hash()) {
            // Somebody else may have become the only one with resources, or no longer be that.
            return is_first || lacked_resources != self.lacks_resources;
        }
        self.unseen[kind.index()] = true;
        *known = listing.map(|listing| {
            let locals: Vec<&str> = listing.items.iter().map(|item| item.local.as_str()).collect();
            let by_name = matches!(kind, ListKind::Tools | ListKind::Prompts);
            let names = if by_name { self.namespace.assign(&locals) } else { Vec::new() };
            NamedListing { listing: Arc::new(listing), names }
        });
        true
    }

    /// Drops every list.
    pub(super) fn clear(&mut self) {
        self.lists = [const { None }; 4];
        self.terms = [None; 4];
        self.lacks_resources = false;
    }

    /// The list is no longer known to be good; it is asked for again from `look_again` on.
    pub(super) fn doubt(&mut self, kind: ListKind, now: Instant, look_again: Instant) {
        let term = &mut self.terms[kind.index()];
        *term = Some(term.unwrap_or(Term::UNTIL_TOLD).over(now, look_again));
    }

    /// It said at that time that the list changed: what was asked for before is good no longer.
    pub(super) fn revoke(&mut self, kind: ListKind, at: Instant) {
        self.revoked[kind.index()] = Some(at);
        if self.asked[kind.index()].is_none_or(|asked| asked < at) {
            self.doubt(kind, at, at);
        }
    }

    /// What is known was asked for then: a change told later may not be in it.
    pub(super) fn was_asked_for(&mut self, kind: ListKind, then: Instant, now: Instant) {
        self.asked[kind.index()] = Some(then);
        if self.revoked[kind.index()].is_some_and(|revoked| revoked > then) {
            self.doubt(kind, now, now);
        }
    }

    /// Whether it is there, as far as `freshness` says, and this list has yet to come.
    pub(super) fn awaits(&self, kind: ListKind, freshness: Freshness) -> bool {
        let is_unheard = self.terms[kind.index()].is_none() && !self.lacks[kind.index()];
        freshness == Freshness::Awaited || (freshness == Freshness::Present && is_unheard)
    }

    /// A snapshot shows everything.
    pub(super) fn was_seen(&mut self) {
        self.unseen = [false; 4];
    }

    /// Whether it may have something of the kind: it never said that it does not (S-LIFE-06).
    fn may_offer(&self, kind: ListKind) -> bool {
        !self.lacks[kind.index()]
    }

    fn contribute(&self, kind: ListKind, now: Instant, limits: TermLimits, merged: &mut Merged) {
        if !self.may_offer(kind) {
            return;
        }
        match self.terms[kind.index()] {
            Some(term) if self.freshness == Freshness::Present && self.unseen[kind.index()] => {
                merged.add(term.over(now, now), limits);
            }
            Some(term) if self.freshness == Freshness::Present => merged.add(term, limits),
            Some(_) | None => merged.skip(),
        }
    }

    pub(super) fn report(&self) -> UpstreamReport {
        let listings = || self.lists.iter().flatten().map(|named| &named.listing);
        UpstreamReport {
            upstream: self.upstream.clone(),
            freshness: self.freshness,
            awaited: ListKind::ALL.map(|kind| self.awaits(kind, self.freshness)),
            counts: ListKind::ALL
                .map(|kind| self.lists[kind.index()].as_ref().map(|named| named.listing.items.len())),
            left_out: listings().flat_map(|listing| listing.left_out.iter().cloned()).collect(),
            partial: listings().filter_map(|list| Some((list.kind, list.partial?))).collect(),
        }
    }

    /// What it may still turn out to offer.
    fn unheard(&self) -> Option<Unheard> {
        let kinds = ListKind::ALL.into_iter().filter(|kind| !self.heard[kind.index()]);
        let kinds: Vec<ListKind> = kinds.collect();
        let prefix = self.namespace.prefix().to_owned();
        (!kinds.is_empty()).then(|| Unheard { upstream: self.upstream.clone(), prefix, kinds })
    }

    fn listing(&self, kind: ListKind) -> Option<&Listing> {
        self.lists[kind.index()].as_ref().map(|named| &*named.listing)
    }

    fn locals(&self, kind: ListKind) -> impl Iterator<Item = &LocalName> {
        self.listing(kind).into_iter().flat_map(|listing| listing.items.iter().map(|item| &item.local))
    }

    fn offers_resources(&self) -> bool {
        self.listing(ListKind::Resources).is_some() || self.listing(ListKind::Templates).is_some()
    }

    /// Whether it is known to have none: one that is away or was never listed may own any URI.
    fn has_no_resources(&self) -> bool {
        self.freshness == Freshness::Present && self.lacks_resources && !self.offers_resources()
    }
}

/// What every view is built with.
#[derive(Debug, Clone)]
pub(super) struct ViewParts {
    pub(super) pages: Arc<Pages>,
    pub(super) learnt: LearntUris,
    /// When the catalogue began.
    pub(super) epoch: Instant,
    /// Which tools the gateway makes tasks of itself.
    pub(super) tasks: Arc<TaskSettings>,
}

/// How long the lists of a view of these sources are good now.
pub(super) fn merged_terms(sources: &[Source], view: &View, now: Instant, limits: TermLimits) -> [Merged; 4] {
    ListKind::ALL.map(|kind| {
        let mut merged = Merged::new(limits);
        for source in sources.iter().filter(|source| view.upstreams.contains(&source.upstream)) {
            source.contribute(kind, now, limits, &mut merged);
        }
        merged
    })
}

/// The view of a profile, or of everything.
pub(super) fn view(sources: &[Source], profile: Option<&ProfileSettings>, parts: &ViewParts) -> View {
    let shows = |source: &&Source| profile.is_none_or(|profile| profile.servers.contains(&source.upstream));
    let sources: Vec<&Source> = sources.iter().filter(shows).collect();
    let endpoint = profile.map_or("/mcp".to_owned(), |profile| format!("/mcp/{}", profile.name));
    let mut merge = Merge { sources, endpoint, profile, tasks: &parts.tasks, left_out: Vec::new() };
    let mut uris = merge.uri_space();
    let tools = merge.named(ListKind::Tools);
    for route in &tools {
        uris.link(&route.upstream, &route.item.links);
    }
    let prompts = merge.named(ListKind::Prompts);
    let answering = Answering::default();
    let public = |upstream: &UpstreamName, uri: &str| uris.public(upstream, uri, &answering, |_| None);
    let resources = merge.located(ListKind::Resources, public);
    let templates = merge.located(ListKind::Templates, |upstream, text| uris.public_template(upstream, text));
    View {
        profile: profile.map(|profile| profile.name.clone()),
        upstreams: merge.sources.iter().map(|source| source.upstream.clone()).collect(),
        tools: by_name(&tools),
        prompts: by_name(&prompts),
        lists: [
            merge.list(ListKind::Tools, tools, &uris),
            merge.list(ListKind::Prompts, prompts, &uris),
            merge.list(ListKind::Resources, resources, &uris),
            merge.list(ListKind::Templates, templates, &uris),
        ],
        uris,
        offers: ListKind::ALL.map(|kind| {
            merge.sources.is_empty() || merge.sources.iter().any(|source| source.may_offer(kind))
        }),
        clocks: [(); 4].map(|()| ListClock::new(parts.epoch)),
        unheard: merge.sources.iter().filter_map(|source| source.unheard()).collect(),
        left_out: merge.left_out,
        endpoint: merge.endpoint,
        learnt: parts.learnt.clone(),
        pages: parts.pages.clone(),
    }
}

/// Whether calls of a tool can be tasks for clients that wish so: as its upstream says, where that makes tasks of the same
/// dialect; else the gateway's own, as far as it makes any.
fn task_support(
    tasks: &TaskSettings,
    made_upstream: Option<Dialect>,
    tool: &Item,
    public: &PublicName,
) -> TaskSupport {
    match (made_upstream, tool.task_support) {
        (Some(Dialect::Core), support @ (TaskSupport::Optional | TaskSupport::Required)) => support,
        (made_upstream, _) => match tasks.hosting(public.as_str()) {
            Hosting::On => TaskSupport::Optional,
            Hosting::Auto if made_upstream == Some(Dialect::Extension) => TaskSupport::Optional,
            Hosting::Auto | Hosting::Off => TaskSupport::Forbidden,
        },
    }
}

fn by_name(routes: &[Arc<Route>]) -> HashMap<PublicName, Arc<Route>> {
    routes.iter().map(|route| (route.public.clone(), route.clone())).collect()
}

struct Merge<'s> {
    sources: Vec<&'s Source>,
    endpoint: String,
    profile: Option<&'s ProfileSettings>,
    tasks: &'s TaskSettings,
    left_out: Vec<(UpstreamName, LeftOut)>,
}

impl<'s> Merge<'s> {
    fn uri_space(&self) -> UriSpace {
        let offers: Vec<Offer<'_>> = self
            .sources
            .iter()
            .filter(|source| source.offers_resources())
            .map(|source| Offer {
                upstream: &source.upstream,
                resources: source.locals(ListKind::Resources).collect(),
                templates: source.locals(ListKind::Templates).take(ROUTED_TEMPLATES).collect(),
            })
            .collect();
        let possible_owners = self.sources.iter().filter(|source| !source.has_no_resources()).count();
        UriSpace::new(&offers, if possible_owners == 1 { Fallback::Sole } else { Fallback::Nobody })
    }

    /// Tools or prompts, each under the one name that it owns.
    fn named(&mut self, kind: ListKind) -> Vec<Arc<Route>> {
        let owners = self.owners(kind);
        let mut routes = Vec::with_capacity(owners.len());
        for (at, source) in self.sources.iter().enumerate() {
            let Some(named) = &source.lists[kind.index()] else { continue };
            for (item, public) in named.listing.items.iter().zip(&named.names) {
                let owner = owners[public.as_str()];
                if owner != at {
                    let reason = format!("the name {public} belongs to {}", self.sources[owner].upstream);
                    let left = LeftOut { kind, name: item.local.as_str().to_owned(), reason };
                    self.left_out.push((source.upstream.clone(), left));
                } else if kind != ListKind::Tools || self.profile_shows(public) {
                    let tasks = match kind {
                        ListKind::Tools => task_support(self.tasks, named.listing.tasks, item, public),
                        _ => TaskSupport::Forbidden,
                    };
                    routes.push(Arc::new(Route {
                        public: public.clone(),
                        tasks,
                        upstream: source.upstream.clone(),
                        local: item.local.clone(),
                        item: item.clone(),
                    }));
                }
            }
        }
        routes
    }

    /// Which source owns each public name.
    fn owners(&self, kind: ListKind) -> HashMap<&'s str, usize> {
        let mut by_claim: Vec<usize> = (0..self.sources.len()).collect();
        by_claim.sort_by_key(|at| Reverse(self.sources[*at].namespace.prefix_length()));
        let mut owners = HashMap::new();
        for at in by_claim {
            let source: &'s Source = self.sources[at];
            for public in source.lists[kind.index()].iter().flat_map(|named| &named.names) {
                owners.entry(public.as_str()).or_insert(at);
            }
        }
        owners
    }

    fn profile_shows(&self, tool: &PublicName) -> bool {
        self.profile.is_none_or(|profile| {
            profile.allow.as_ref().is_none_or(|allow| allow.is_match(tool.as_str()))
                && !profile.deny.is_match(tool.as_str())
        })
    }

    /// Resources or templates under their public URIs.
    fn located(
        &mut self,
        kind: ListKind,
        public: impl Fn(&UpstreamName, &str) -> Option<String>,
    ) -> Vec<Arc<Route>> {
        let mut routes = Vec::new();
        let most = if kind == ListKind::Templates { ROUTED_TEMPLATES } else { usize::MAX };
        for source in &self.sources {
            let Some(listing) = source.listing(kind) else { continue };
            for (at, item) in listing.items.iter().enumerate() {
                if at >= most {
                    let reason = format!("only {most} templates of one server take part in routing");
                    let left = LeftOut { kind, name: item.local.as_str().to_owned(), reason };
                    self.left_out.push((source.upstream.clone(), left));
                    continue;
                }
                let uri = public(&source.upstream, item.local.as_str());
                let uri = uri.map_or_else(|| PublicName::new(item.local.as_str()), PublicName::new);
                routes.push(Arc::new(Route {
                    public: uri,
                    tasks: TaskSupport::Forbidden,
                    upstream: source.upstream.clone(),
                    local: item.local.clone(),
                    item: item.clone(),
                }));
            }
        }
        routes
    }

    fn list(&self, kind: ListKind, entries: Vec<Arc<Route>>, uris: &UriSpace) -> MergedList {
        let hash = self.hash(kind, &entries, uris);
        MergedList { entries, hash }
    }

    /// Everything that a page shows goes in, and the endpoint, so that two views never share a page.
    fn hash(&self, kind: ListKind, entries: &[Arc<Route>], uris: &UriSpace) -> ContentHash {
        let answering = Answering::default();
        let interfaces: Vec<String> = entries
            .iter()
            .flat_map(|route| route.item.links.iter().map(|uri| (&route.upstream, uri)))
            .filter_map(|(upstream, uri)| uris.public(upstream, uri.as_str(), &answering, |_| None))
            .collect();
        let head = [self.endpoint.as_bytes(), kind.method().as_bytes()];
        let items = entries.iter().flat_map(|route| {
            let names = [route.upstream.as_str().as_bytes(), route.public.as_str().as_bytes()];
            names.into_iter().chain([&route.item.hash()[..], route.tasks.text().as_bytes()])
        });
        content_hash(head.into_iter().chain(items).chain(interfaces.iter().map(String::as_bytes)))
    }
}
