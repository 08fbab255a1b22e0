//! What the gateway offers right now, immutable: one [`View`] for `/mcp` and one per profile, with everything a request
//! needs to find its upstream.
//!
//! Always: a view shows the same to everyone and at every time until the next snapshot (S-TOOL-05, S-TOOL-06); only how
//! long that is good changes meanwhile. Finding a route allocates nothing. Not here: how it is built (`merge`), pages (`pages`), whether a call is allowed.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::freshness::ListClock;
use super::listing::{ContentHash, Item, LeftOut, ListKind, Partial};
use super::pages::Pages;
use super::uris::{Answering, LearntUris, UriRoute, UriSpace};
use crate::names::{LocalName, ProfileName, PublicName, UpstreamName};
use crate::protocol::caching::Lifetime;
use crate::protocol::json::Object;
use crate::protocol::task::TaskSupport;

/// Where a public name leads. Resources and templates have their public URI for a name.
#[derive(Debug)]
pub struct Route {
    /// As clients know it.
    pub public: PublicName,
    /// The upstream that owns it.
    pub upstream: UpstreamName,
    /// As that upstream knows it (S-TOOL-14).
    pub local: LocalName,
    /// Whether its calls can be tasks, as clients of the core dialect are told: its upstream's, or the gateway's own.
    pub tasks: TaskSupport,
    /// The definition, for annotated headers, policy and the like.
    pub item: Arc<Item>,
}

/// One merged list.
#[derive(Debug)]
pub struct MergedList {
    /// In the order of the configuration, within one upstream in its own.
    pub entries: Vec<Arc<Route>>,
    /// Differs when anything visible in this view's list differs; never the same for two views.
    pub hash: ContentHash,
}

/// Where a completion leads.
#[derive(Debug, PartialEq, Eq)]
pub struct CompletionRoute<'v, 'u> {
    /// The upstream to ask.
    pub upstream: &'v UpstreamName,
    /// The name, URI or template as that upstream knows it.
    pub local: Cow<'u, str>,
    /// The member of `ref` that holds it: `name` or `uri`.
    pub member: &'static str,
}

/// An upstream of which not every list was heard of yet.
#[derive(Debug)]
pub(super) struct Unheard {
    pub(super) upstream: UpstreamName,
    /// Of its names.
    pub(super) prefix: String,
    pub(super) kinds: Vec<ListKind>,
}

/// What one endpoint shows.
#[derive(Debug)]
pub struct View {
    pub(super) profile: Option<ProfileName>,
    /// `/mcp` or `/mcp/{profile}`: the scope of cursors and learnt URIs.
    pub(super) endpoint: String,
    pub(super) upstreams: Vec<UpstreamName>,
    pub(super) lists: [MergedList; 4],
    pub(super) tools: HashMap<PublicName, Arc<Route>>,
    pub(super) prompts: HashMap<PublicName, Arc<Route>>,
    pub(super) uris: UriSpace,
    /// Kinds that some upstream of it has, or may have.
    pub(super) offers: [bool; 4],
    /// How long each list is good: the one thing of a view that changes.
    pub(super) clocks: [ListClock; 4],
    /// Upstreams of which some list was never heard of.
    pub(super) unheard: Vec<Unheard>,
    pub(super) left_out: Vec<(UpstreamName, LeftOut)>,
    pub(super) learnt: LearntUris,
    pub(super) pages: Arc<Pages>,
}

impl View {
    /// The profile it belongs to; `None` for `/mcp`.
    pub fn profile(&self) -> Option<&ProfileName> {
        self.profile.as_ref()
    }

    /// Upstreams it shows, in order, whether or not they are there.
    pub fn upstreams(&self) -> &[UpstreamName] {
        &self.upstreams
    }

    /// A merged list.
    pub fn list(&self, kind: ListKind) -> &MergedList {
        &self.lists[kind.index()]
    }

    /// Whether any of its upstreams offers this kind, as far as each said (S-DISC-02); a view without upstreams has empty
    /// lists of every kind.
    pub fn offers(&self, kind: ListKind) -> bool {
        self.offers[kind.index()]
    }

    /// How long, and for whom, a merged list is good (S-CACHE-02).
    pub fn lifetime(&self, kind: ListKind) -> Lifetime {
        self.clocks[kind.index()].lifetime(Instant::now())
    }

    /// Whether an upstream has to be asked before the list is shown (S-CACHE-04).
    pub fn is_stale(&self, kind: ListKind) -> bool {
        self.clocks[kind.index()].is_stale(Instant::now())
    }

    /// Items that lost their name to another upstream's, with the upstream they came from.
    pub fn left_out(&self) -> &[(UpstreamName, LeftOut)] {
        &self.left_out
    }

    /// The tool of that public name.
    pub fn resolve_tool(&self, name: &str) -> Option<&Arc<Route>> {
        self.tools.get(name)
    }

    /// The prompt of that public name.
    pub fn resolve_prompt(&self, name: &str) -> Option<&Arc<Route>> {
        self.prompts.get(name)
    }

    /// The upstream that may have something of that name, as far as is known: none of its lists of this kind ever came.
    pub fn may_offer(&self, kind: ListKind, name: &str) -> Option<&UpstreamName> {
        let mut unheard = self.unheard.iter();
        let found = unheard.find(|other| other.kinds.contains(&kind) && name.starts_with(&other.prefix));
        found.map(|other| &other.upstream)
    }

    /// Where a public resource URI leads, listed or not; `caller` is whose learnt URIs count (S-RES-04).
    pub fn resolve_uri<'v, 'u>(&'v self, caller: &str, uri: &'u str) -> Option<UriRoute<'v, 'u>> {
        self.uris.route(uri, || self.learnt.owner(&self.endpoint, caller, uri))
    }

    /// Where a completion's `ref` leads: `ref/prompt` by name, `ref/resource` by template or URI.
    pub fn resolve_completion_ref<'v>(
        &'v self,
        caller: &str,
        reference: &Object,
    ) -> Option<CompletionRoute<'v, 'v>> {
        match &*reference.text("type")? {
            "ref/prompt" => {
                let route = self.resolve_prompt(&reference.text("name")?)?;
                let local = Cow::Borrowed(route.local.as_str());
                Some(CompletionRoute { upstream: &route.upstream, local, member: "name" })
            }
            "ref/resource" => {
                let uri = reference.text("uri")?;
                let route = self.uris.route_template(&uri).or_else(|| self.resolve_uri(caller, &uri))?;
                let local = Cow::Owned(route.local.into_owned());
                Some(CompletionRoute { upstream: route.upstream, local, member: "uri" })
            }
            _ => None,
        }
    }

    /// The public form of an upstream's URI where it differs: for every place in which one appears (S-RES-05).
    pub fn public_uri(&self, caller: &str, upstream: &UpstreamName, uri: &str) -> Option<String> {
        let learnt = |_| self.learnt.owner(&self.endpoint, caller, uri);
        self.uris.public(upstream, uri, &Answering::default(), learnt)
    }

    /// For the URIs in one result of `upstream`: remembers that it named each to this caller, if no list, template or tool
    /// knows it, and gives the public form where that differs.
    pub fn hand_out_uris<'v>(
        &'v self,
        caller: &'v str,
        upstream: &'v UpstreamName,
    ) -> impl Fn(&str) -> Option<String> + 'v {
        let answering = Answering::default();
        move |uri| {
            self.uris.public(upstream, uri, &answering, |may_learn| match may_learn {
                true => Some(self.learnt.learn(&self.endpoint, caller, uri, upstream)),
                false => self.learnt.owner(&self.endpoint, caller, uri),
            })
        }
    }
}

/// How current an upstream's lists are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing was heard of it yet.
    Awaited,
    /// Listed, and connected as far as is known.
    Present,
    /// Lost; its last good lists are still shown (S-TOOL-15).
    Stale,
    /// Lost for so long, or before it ever listed, that nothing of it is shown.
    Absent,
}

/// What an operator may know of one upstream's lists.
#[derive(Debug, Clone)]
pub struct UpstreamReport {
    /// The upstream.
    pub upstream: UpstreamName,
    /// How current they are.
    pub freshness: Freshness,
    /// By kind, whether the first of it has yet to come.
    pub awaited: [bool; 4],
    /// Items by kind; `None` where the upstream does not offer the kind.
    pub counts: [Option<usize>; 4],
    /// Items that are not shown.
    pub left_out: Vec<LeftOut>,
    /// Lists that are not whole.
    pub partial: Vec<(ListKind, Partial)>,
}

/// Everything offered, by endpoint.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) everything: Arc<View>,
    /// Ordered, so that what is told of several views is told in one order.
    pub(super) profiles: BTreeMap<ProfileName, Arc<View>>,
    pub(super) upstreams: Vec<UpstreamReport>,
    pub(super) generation: u64,
}

impl Snapshot {
    /// The view of an endpoint: `/mcp` for `None`; no view for an unknown profile.
    pub fn view(&self, profile: Option<&str>) -> Option<&Arc<View>> {
        match profile {
            None => Some(&self.everything),
            Some(profile) => self.profiles.get(profile),
        }
    }

    /// Every view, `/mcp` first.
    pub fn views(&self) -> impl Iterator<Item = &Arc<View>> {
        std::iter::once(&self.everything).chain(self.profiles.values())
    }

    /// Per upstream in configured order, for the admin surface.
    pub fn upstreams(&self) -> &[UpstreamReport] {
        &self.upstreams
    }

    /// Counts snapshots.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a list of some upstream has yet to come: of that kind, or of any.
    pub fn is_awaiting(&self, kind: Option<ListKind>) -> bool {
        let is_awaiting = |upstream: &UpstreamReport| match kind {
            Some(kind) => upstream.awaited[kind.index()],
            None => upstream.awaited.contains(&true),
        };
        self.upstreams.iter().any(is_awaiting)
    }
}
