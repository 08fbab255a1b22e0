//! Whose URI is it: the resource URIs of one view, who owns each, and the reversible form of those that clash.
//!
//! Always: a URI that one upstream alone offers passes unchanged; where two offer it, the later one's is shown as
//! `switchyard://{upstream}/{original}` (S-RES-05). Two templates clash where they overlap, unless one lies wholly within
//! the other: then both are shown, and the narrower one leads wherever it matches (S-RES-04). The original stands in a
//! wrapped URI as it is, so templates still expand and sub-resources still extend. Originals of that very scheme are
//! wrapped too, hence taking the wrapping off is never a guess. An unknown URI is never tried on one upstream after the
//! other (S-RES-04). What matching costs is bounded; whatever is beyond a bound is wrapped, which leads to its server
//! without any matching (S-TRUST-03).

use std::borrow::Cow;
use std::collections::HashMap;

use super::listing::content_hash;
use super::template::{Pattern, Work};
use super::template_index::{OwnedTemplate, TemplateIndex};
use crate::names::{LocalName, UpstreamName};

const SCHEME: &str = "switchyard://";

/// Templates of one upstream that take part in routing; more are left out of the list.
pub(super) const ROUTED_TEMPLATES: usize = 256;
/// Bytes of them; templates beyond that are wrapped.
const ROUTED_TEXT: usize = 16 * 1024;
/// What finding one upstream's clashes with others may cost in one view.
const CLASH_WORK: usize = 1_000_000;
/// What matching the URIs that its tools name may cost in one view; further ones are learnt from results.
const LINK_WORK: usize = 100_000;
/// What matching the URIs of one result, or of one page of a list, may cost: a few milliseconds.
const ANSWER_WORK: usize = 100_000;

/// URIs of one upstream that its tools alone name, and that lead to it in one view; further ones are learnt from results.
const LINKS: usize = 1024;

/// Where a URI leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriRoute<'v, 'u> {
    /// The upstream that owns it.
    pub upstream: &'v UpstreamName,
    /// The URI as that upstream knows it.
    pub local: Cow<'u, str>,
}

/// The URIs of one view. Upstreams are numbered in the view's order.
#[derive(Debug, Default)]
pub(super) struct UriSpace {
    /// Upstreams that offer resources, in order.
    upstreams: Vec<UpstreamName>,
    exact: HashMap<LocalName, usize>,
    templates: TemplateIndex,
    /// Those that tools name and no list holds: of a template, or else of the first that names them.
    links: HashMap<LocalName, usize>,
    /// What each upstream has of those.
    link_counts: Vec<Linked>,
    /// Who gets every URI that nobody knows.
    sole: Option<usize>,
}

#[derive(Debug)]
struct Linked {
    count: usize,
    /// What matching further ones may cost.
    work: usize,
}

/// There was more to match than there may be.
#[derive(Debug)]
struct Spent;

/// The way of one answer's URIs to its client.
#[derive(Debug)]
pub(super) struct Answering(Work);

impl Default for Answering {
    fn default() -> Self {
        Answering(Work::new(ANSWER_WORK))
    }
}

/// What one upstream offers.
pub(super) struct Offer<'o> {
    pub(super) upstream: &'o UpstreamName,
    pub(super) resources: Vec<&'o LocalName>,
    pub(super) templates: Vec<&'o LocalName>,
}

impl UriSpace {
    /// The space of `offers`, in the view's order.
    pub(super) fn new(offers: &[Offer<'_>], fallback: Fallback) -> UriSpace {
        let mut space = UriSpace::default();
        let mut templates = Vec::new();
        for (owner, offer) in offers.iter().enumerate() {
            space.upstreams.push(offer.upstream.clone());
            space.link_counts.push(Linked { count: 0, work: LINK_WORK });
            for uri in offer.resources.iter().filter(|uri| !uri.as_str().starts_with(SCHEME)) {
                space.exact.entry((*uri).clone()).or_insert(owner);
            }
            add_templates(&mut templates, owner, &offer.templates);
        }
        space.templates = TemplateIndex::new(templates);
        space.sole = (fallback == Fallback::Sole && offers.len() == 1).then_some(0);
        space
    }

    /// Takes URIs that a tool of `upstream` names (S-RES-10). Lists and templates go before; among tools the first to name
    /// one has it, as with learnt URIs.
    pub(super) fn link(&mut self, upstream: &UpstreamName, uris: &[LocalName]) {
        // A server without resources could not be asked for one.
        let Some(owner) = self.position(upstream.as_str()) else { return };
        for uri in uris {
            let text = uri.as_str();
            if self.link_counts[owner].count == LINKS {
                return;
            }
            if text.starts_with(SCHEME) || !is_uri(text) || self.known(text).is_some() {
                continue;
            }
            let work = Work::new(self.link_counts[owner].work);
            let known = self.owner(text, &work);
            self.link_counts[owner].work = work.left();
            let Ok(known) = known else { return };
            self.link_counts[owner].count += 1;
            self.links.insert(uri.clone(), known.unwrap_or(owner));
        }
    }

    /// The owner by list or tool.
    fn known(&self, uri: &str) -> Option<usize> {
        self.exact.get(uri).or_else(|| self.links.get(uri)).copied()
    }

    /// The owner by list, template or tool, if any.
    fn owner(&self, uri: &str, work: &Work) -> Result<Option<usize>, Spent> {
        if let Some(owner) = self.known(uri) {
            return Ok(Some(owner));
        }
        if !is_uri(uri) {
            return Ok(None);
        }
        let template = self.templates.lead(uri, work);
        if work.left() == 0 { Err(Spent) } else { Ok(template.map(|template| template.owner)) }
    }

    fn position(&self, upstream: &str) -> Option<usize> {
        self.upstreams.iter().position(|known| known.as_str() == upstream)
    }

    /// Where a public URI leads; `learnt` is asked when no list, template or tool knows it.
    pub(super) fn route<'v, 'u>(
        &'v self,
        uri: &'u str,
        learnt: impl FnOnce() -> Option<UpstreamName>,
    ) -> Option<UriRoute<'v, 'u>> {
        if let Some((upstream, local)) = unwrap_uri(uri) {
            let upstream = &self.upstreams[self.position(upstream)?];
            return Some(UriRoute { upstream, local: Cow::Borrowed(local) });
        }
        // Who asks for it waits for it; each template by itself is bounded.
        let owner = self.owner(uri, &Work::endless()).ok().flatten().or_else(|| {
            if !is_uri(uri) {
                return None;
            }
            learnt().and_then(|upstream| self.position(upstream.as_str())).or(self.sole)
        })?;
        Some(UriRoute { upstream: &self.upstreams[owner], local: Cow::Borrowed(uri) })
    }

    /// Where a template leads that a completion names by its public text.
    pub(super) fn route_template<'v, 'u>(&'v self, text: &'u str) -> Option<UriRoute<'v, 'u>> {
        let known = self.templates.of_text(text)?;
        Some(UriRoute { upstream: &self.upstreams[known.owner], local: Cow::Borrowed(text) })
    }

    /// The public form of `upstream`'s `uri` when it differs. `learnt` is asked when no list, template or tool knows it,
    /// and told whether it may learn it now.
    pub(super) fn public(
        &self,
        upstream: &UpstreamName,
        uri: &str,
        answering: &Answering,
        learnt: impl FnOnce(bool) -> Option<UpstreamName>,
    ) -> Option<String> {
        if !uri.starts_with(SCHEME) {
            let is_anothers = match self.owner(uri, &answering.0) {
                Ok(Some(owner)) => self.upstreams[owner] != *upstream,
                Ok(None) => learnt(self.sole.is_none()).is_some_and(|owner| owner != *upstream),
                Err(Spent) => true,
            };
            if !is_anothers {
                return None;
            }
        }
        Some(wrap_uri(upstream, uri))
    }

    /// The public form of `upstream`'s template when it differs.
    pub(super) fn public_template(&self, upstream: &UpstreamName, text: &str) -> Option<String> {
        let known = self.templates.of_text(text);
        let own = known.is_some_and(|template| self.upstreams[template.owner] == *upstream);
        (!own).then(|| wrap_uri(upstream, text))
    }
}

/// Who gets the URIs that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    /// The only upstream, since no other has resources.
    Sole,
    /// Nobody: another may have them, though it does not say so now.
    Nobody,
}

/// Adds those that clash with no other upstream's.
fn add_templates(known: &mut Vec<OwnedTemplate>, owner: usize, templates: &[&LocalName]) {
    let of_others = known.len();
    let (mut bytes, work) = (0, Work::new(CLASH_WORK));
    for text in templates.iter().filter(|text| !text.as_str().starts_with(SCHEME)) {
        bytes += text.as_str().len();
        if bytes > ROUTED_TEXT {
            return;
        }
        let Some(pattern) = Pattern::parse(text.as_str()) else { continue };
        if !known[..of_others].iter().any(|other| other.pattern.clashes(&pattern, &work)) {
            known.push(OwnedTemplate { text: (*text).clone(), pattern, owner });
        }
    }
}

fn wrap_uri(upstream: &UpstreamName, uri: &str) -> String {
    format!("{SCHEME}{upstream}/{uri}")
}

fn unwrap_uri(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix(SCHEME)?.split_once('/')
}

/// A scheme and nothing that no URI may hold (S-RES-03); listed URIs are exempt, since servers list what they like.
fn is_uri(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
        && text.bytes().all(|byte| {
            byte > b' '
                && !matches!(byte, 0x7f | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        })
}

/// URIs that an upstream named in a result without listing them: bounded, per endpoint and caller.
#[derive(Debug, Clone)]
pub struct LearntUris(moka::sync::Cache<[u8; 16], UpstreamName>);

impl LearntUris {
    /// Keeps the `most` recently used.
    pub fn new(most: u64) -> Self {
        LearntUris(moka::sync::Cache::new(most))
    }

    /// Who first named `uri` to this caller.
    pub(super) fn owner(&self, endpoint: &str, caller: &str, uri: &str) -> Option<UpstreamName> {
        self.0.get(&key(endpoint, caller, uri))
    }

    /// Gives who has it now: the first to name it keeps it, so that a later upstream cannot draw another's reads to itself
    /// (S-TRUST-03).
    pub(super) fn learn(
        &self,
        endpoint: &str,
        caller: &str,
        uri: &str,
        upstream: &UpstreamName,
    ) -> UpstreamName {
        self.0.entry(key(endpoint, caller, uri)).or_insert_with(|| upstream.clone()).into_value()
    }
}

/// URIs can be long, callers' names too: a digest bounds both.
fn key(endpoint: &str, caller: &str, uri: &str) -> [u8; 16] {
    content_hash([endpoint.as_bytes(), caller.as_bytes(), uri.as_bytes()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space(offers: &[(&str, &[&str], &[&str])]) -> UriSpace {
        let local = |texts: &[&str]| texts.iter().map(|text| LocalName::new(*text)).collect::<Vec<_>>();
        let owned: Vec<_> = offers
            .iter()
            .map(|(upstream, uris, templates)| (UpstreamName::new(*upstream), local(uris), local(templates)))
            .collect();
        let offers: Vec<_> = owned
            .iter()
            .map(|(upstream, uris, templates)| Offer {
                upstream,
                resources: uris.iter().collect(),
                templates: templates.iter().collect(),
            })
            .collect();
        UriSpace::new(&offers, Fallback::Sole)
    }

    fn leads(space: &UriSpace, uri: &str) -> Option<(String, String)> {
        let route = space.route(uri, || None)?;
        Some((route.upstream.as_str().to_owned(), route.local.into_owned()))
    }

    fn to(upstream: &str, local: &str) -> Option<(String, String)> {
        Some((upstream.to_owned(), local.to_owned()))
    }

    #[test]
    fn s_res_04_exact_then_the_most_specific_template_then_nobody() {
        let space = space(&[
            ("a", &["file:///x"], &["db:{table}"]),
            ("b", &["db:users"], &["file:///logs/{n}", "odd://{n}"]),
        ]);
        assert_eq!(leads(&space, "file:///x"), to("a", "file:///x"));
        assert_eq!(leads(&space, "db:users"), to("b", "db:users"));
        assert_eq!(leads(&space, "db:rows"), to("a", "db:rows"));
        assert_eq!(leads(&space, "file:///logs/1"), to("b", "file:///logs/1"));
        assert_eq!(leads(&space, "file:///nobody"), None);
        assert_eq!(leads(&space, "odd://a b"), None);
    }

    #[test]
    fn s_res_04_a_template_within_anothers_leads_whichever_is_configured_first() {
        let general = ("general", &[][..], &["x://{host}/{+path}"][..]);
        let special = ("special", &[][..], &["x://special/{id}", "x://special/{id}/parts/{part}"][..]);
        for space in [space(&[general, special]), space(&[special, general])] {
            for (uri, owner) in [
                ("x://special/7", "special"),
                ("x://special/7/parts/2", "special"),
                ("x://special/7/other/2", "general"),
                ("x://other/7", "general"),
            ] {
                assert_eq!(leads(&space, uri), to(owner, uri));
                assert_eq!(
                    space.public(&UpstreamName::new(owner), uri, &Answering::default(), |_| None),
                    None
                );
            }
            for (upstream, _, templates) in [general, special] {
                for text in templates {
                    assert_eq!(space.public_template(&UpstreamName::new(upstream), text), None);
                }
            }
            // What the general one has there is still reached, under its own name.
            let hidden =
                space.public(&UpstreamName::new("general"), "x://special/7", &Answering::default(), |_| None);
            assert_eq!(leads(&space, &hidden.expect("wrapped")), to("general", "x://special/7"));
        }
    }

    #[test]
    fn s_res_05_the_later_of_two_templates_that_cross_is_wrapped() {
        let space = space(&[("a", &[], &["db://{table}/rows"]), ("b", &[], &["db://users/{what}"])]);
        let b = UpstreamName::new("b");
        assert_eq!(
            space.public_template(&b, "db://users/{what}").as_deref(),
            Some("switchyard://b/db://users/{what}")
        );
        assert_eq!(leads(&space, "db://users/rows"), to("a", "db://users/rows"));
        assert_eq!(leads(&space, "switchyard://b/db://users/rows"), to("b", "db://users/rows"));
    }

    #[test]
    fn s_res_04_one_upstream_alone_gets_every_uri() {
        let space = space(&[("a", &[], &[])]);
        assert_eq!(leads(&space, "file:///any"), to("a", "file:///any"));
        assert_eq!(leads(&space, "no uri"), None);
        let a = UpstreamName::new("a");
        assert_eq!(space.public(&a, "file:///any", &Answering::default(), |_| None), None);
    }

    #[test]
    fn s_res_05_the_later_of_two_equal_uris_is_wrapped_and_comes_back() {
        let space = space(&[("a", &["file:///x"], &["t:{v}"]), ("b", &["file:///x"], &["t:{w}"])]);
        let (a, b) = (UpstreamName::new("a"), UpstreamName::new("b"));
        assert_eq!(space.public(&a, "file:///x", &Answering::default(), |_| None), None);
        let wrapped = space.public(&b, "file:///x", &Answering::default(), |_| None).expect("wrapped");
        assert_eq!(wrapped, "switchyard://b/file:///x");
        assert_eq!(leads(&space, &wrapped), to("b", "file:///x"));
        assert_eq!(space.public_template(&a, "t:{v}"), None);
        assert_eq!(space.public_template(&b, "t:{w}").as_deref(), Some("switchyard://b/t:{w}"));
        // What the second reads under its template is the first's unless it is wrapped.
        assert_eq!(
            space.public(&b, "t:1", &Answering::default(), |_| None).as_deref(),
            Some("switchyard://b/t:1")
        );
        assert_eq!(leads(&space, "t:1"), to("a", "t:1"));
    }

    #[test]
    fn s_res_05_a_gateway_behind_the_gateway_keeps_its_own_wrapping() {
        let inner = "switchyard://x/file:///y";
        let space = space(&[("x", &["file:///y"], &[]), ("outer", &[inner], &[])]);
        let wrapped = space
            .public(&UpstreamName::new("outer"), inner, &Answering::default(), |_| None)
            .expect("wrapped");
        assert_eq!(leads(&space, &wrapped), to("outer", inner));
        assert_eq!(leads(&space, inner), to("x", "file:///y"));
        assert_eq!(leads(&space, "switchyard://hidden/file:///y"), None);
    }

    #[test]
    fn s_res_04_learnt_uris_lead_to_who_named_them_first_and_for_that_caller_alone() {
        let learnt = LearntUris::new(10);
        let (a, b) = (UpstreamName::new("a"), UpstreamName::new("b"));
        learnt.learn("/mcp", "me", "link:1", &a);
        learnt.learn("/mcp", "me", "link:1", &b);
        assert_eq!(learnt.owner("/mcp", "me", "link:1"), Some(a.clone()));
        assert_eq!(learnt.owner("/mcp", "you", "link:1"), None);
        assert_eq!(learnt.owner("/mcp/p", "me", "link:1"), None);
        let space = space(&[("a", &[], &[]), ("b", &[], &[])]);
        let owner = || learnt.owner("/mcp", "me", "link:1");
        assert_eq!(space.route("link:1", owner).expect("learnt").upstream, &a);
        assert_eq!(
            space.public(&b, "link:1", &Answering::default(), |_| owner()).as_deref(),
            Some("switchyard://b/link:1")
        );
        assert!(
            space
                .public(&a, "link:1", &Answering::default(), |may_learn| may_learn.then(|| b.clone()))
                .is_some()
        );
    }

    #[test]
    fn s_res_10_what_a_tool_names_and_no_list_holds_leads_to_the_tools_server() {
        let mut space =
            space(&[("a", &["ui://listed"], &["ui://made/{n}"]), ("b", &[], &[]), ("c", &[], &[])]);
        let (a, b, c) = (UpstreamName::new("a"), UpstreamName::new("b"), UpstreamName::new("c"));
        let uris = |texts: &[&str]| texts.iter().map(|text| LocalName::new(*text)).collect::<Vec<_>>();
        space.link(&b, &uris(&["ui://own", "ui://listed", "ui://made/1", "no uri", "switchyard://a/ui://x"]));
        space.link(&c, &uris(&["ui://own", "ui://late"]));
        space.link(&UpstreamName::new("toolsonly"), &uris(&["ui://nowhere"]));
        assert_eq!(leads(&space, "ui://own"), to("b", "ui://own"));
        assert_eq!(leads(&space, "ui://late"), to("c", "ui://late"));
        assert_eq!(leads(&space, "ui://listed"), to("a", "ui://listed"));
        assert_eq!(leads(&space, "ui://made/1"), to("a", "ui://made/1"));
        assert_eq!(leads(&space, "no uri"), None);
        assert_eq!(leads(&space, "ui://nowhere"), None);
        // Each tool shows a URI under which its own server's is read.
        assert_eq!(space.public(&b, "ui://own", &Answering::default(), |_| None), None);
        assert_eq!(
            space.public(&c, "ui://own", &Answering::default(), |_| None).as_deref(),
            Some("switchyard://c/ui://own")
        );
        // Nobody has to learn it, and nobody who did before has it now.
        assert_eq!(
            space.public(&b, "ui://own", &Answering::default(), |_| unreachable!("it is known")),
            None
        );
        assert_eq!(space.route("ui://own", || Some(a)).expect("known").upstream, &b);
    }

    #[test]
    fn s_res_10_a_server_with_very_many_such_uris_takes_nobody_elses_place() {
        let mut space = space(&[("a", &[], &[]), ("b", &[], &[])]);
        let many: Vec<_> = (0..LINKS + 10).map(|n| LocalName::new(format!("ui://{n}"))).collect();
        space.link(&UpstreamName::new("a"), &many);
        space.link(&UpstreamName::new("b"), &[LocalName::new("ui://b")]);
        assert_eq!(space.links.len(), LINKS + 1);
        assert_eq!(leads(&space, "ui://b"), to("b", "ui://b"));
    }

    #[test]
    fn s_trust_03_templates_and_links_made_to_take_long_cost_little_and_lead_where_they_should() {
        let slow: Vec<String> =
            (0..ROUTED_TEMPLATES).map(|n| format!("x:{n}{{+r}}{}{{+s}}b", "/{x}a".repeat(80))).collect();
        let slow: Vec<&str> = slow.iter().map(String::as_str).collect();
        let broad: Vec<String> = (0..ROUTED_TEMPLATES).map(|n| format!("x:{{+r}}a{{s}}/{n}")).collect();
        let broad: Vec<&str> = broad.iter().map(String::as_str).collect();
        let space = space(&[("calm", &[], &["y:{id}"]), ("evil", &[], &broad), ("worse", &[], &slow)]);
        let (calm, evil) = (UpstreamName::new("calm"), UpstreamName::new("evil"));
        let answering = Answering::default();
        let mut wrapped = 0;
        for n in 0..5_000 {
            let uri = format!("x:{n}{}b", "/a".repeat(2000));
            let public = space.public(&evil, &uri, &answering, |_| None);
            wrapped += usize::from(public.is_some());
            // Whatever it looks like, it leads back.
            let public = public.unwrap_or(uri.clone());
            if n % 500 == 0 && public != uri {
                assert_eq!(leads(&space, &public), to("evil", &uri));
            }
        }
        assert!(wrapped > 4_000, "{wrapped} are beyond the bound");
        // What is known costs nothing, and other answers have a bound of their own.
        assert_eq!(space.public(&calm, "y:1", &Answering::default(), |_| None), None);
    }

    proptest! {
        #[test]
        fn s_res_05_every_public_uri_leads_back(
            a in prop::collection::btree_set("(switchyard://[ab]/)?[xy]:[a-c/]{1,2}", 0..6),
            b in prop::collection::btree_set("(switchyard://[ab]/)?[xy]:[a-c/]{1,2}", 0..6),
            template in "[xy]:\\{[+]?v\\}",
        ) {
            let lists = [("a", &a), ("b", &b)];
            let texts: Vec<Vec<&str>> = lists.iter().map(|(_, uris)| uris.iter().map(String::as_str).collect()).collect();
            let space = space(&[("a", &texts[0], &[]), ("b", &texts[1], &[&template])]);
            let mut seen = std::collections::HashSet::new();
            for (upstream, uris) in lists {
                for uri in uris {
                    let public = space.public(&UpstreamName::new(upstream), uri, &Answering::default(), |_| None).unwrap_or(uri.clone());
                    prop_assert_eq!(leads(&space, &public), to(upstream, uri));
                    prop_assert!(seen.insert(public));
                }
            }
        }
    }
}
