//! What the gateway says of itself when a client meets it: the union of what upstreams said, without asking any.
//!
//! Always: an upstream that was never heard of may offer everything, and one that is away what it offered last, so that a
//! session, which learns of no more later, misses nothing (S-LIFE-06). Not here: the words of each era (`downstream`).

use std::sync::Arc;

use tokio::time::Instant;

use super::{Failure, Switchboard};
use crate::catalog::listing::ListKind;
use crate::catalog::snapshot::View;
use crate::names::ProfileName;
use crate::protocol::caching::{Lifetime, Scope};
use crate::protocol::era::Revision;
use crate::protocol::method::Method;
use crate::protocol::offered::{Offered, UI};
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::probe::Facts;

/// Longest instructions taken from one upstream, in characters: they go into every model's context.
const LONGEST: usize = 4096;

/// Era-neutral: the adapters write it as `initialize` or `server/discover` results.
#[derive(Debug)]
pub struct Introduction {
    /// What can be asked for here.
    pub offered: Offered,
    /// Words for the model, merged from the upstreams; `None` when none has any.
    pub instructions: Option<String>,
    /// How long this is good (S-DISC-04).
    pub lifetime: Lifetime,
}

impl Switchboard {
    /// Introduces an endpoint without asking any upstream (S-DISC-05, S-LIFE-06).
    pub fn introduce(&self, profile: Option<&ProfileName>) -> Result<Introduction, Failure> {
        let view = self.catalogue.view(profile.map(ProfileName::as_str)).ok_or(Failure::UnknownEndpoint)?;
        let upstreams: Vec<_> = view.upstreams().iter().filter_map(|name| self.upstreams.get(name)).collect();
        let known: Vec<_> = upstreams.iter().map(|upstream| upstream.known_facts()).collect();
        Ok(Introduction {
            offered: Offered { tasks: self.offers_tasks_at(&view), ..offered(&view, &known) },
            instructions: merged_instructions(&upstreams),
            lifetime: self.told(self.lifetime_of(&known)),
        })
    }

    /// Whether the feature that a method is of is declared at that endpoint (S-DISC-02).
    pub fn offers(&self, profile: Option<&ProfileName>, method: Method) -> bool {
        let Some(view) = self.catalogue.view(profile.map(ProfileName::as_str)) else { return true };
        match method {
            Method::CallTool | Method::ListTools => view.offers(ListKind::Tools),
            Method::GetPrompt | Method::ListPrompts => view.offers(ListKind::Prompts),
            Method::ReadResource | Method::ListResources | Method::ListTemplates => offers_resources(&view),
            Method::Complete => {
                let known = |name| self.upstreams.get(name).and_then(UpstreamHandle::known_facts);
                may_any(&view.upstreams().iter().map(known).collect::<Vec<_>>(), completes)
            }
            _ => true,
        }
    }

    /// Whether calls there may become tasks, as clients are told (S-TASK-01, S-TX-01).
    fn offers_tasks_at(&self, view: &View) -> bool {
        let mut upstreams = view.upstreams().iter().filter_map(|name| self.upstreams.get(name));
        // One that was never heard of may make some.
        let may = |upstream: &UpstreamHandle| {
            upstream.known_facts().is_none() || upstream.tasks_offered().is_some()
        };
        self.tasks.hosts || upstreams.any(may)
    }

    /// As a merged list, of what upstreams said of themselves; and short, so that a change of the configuration is seen.
    fn lifetime_of(&self, known: &[Option<Arc<Facts>>]) -> Lifetime {
        let now = Instant::now();
        let mut merged = Lifetime { ttl: self.longest_kept, scope: Scope::Public };
        for facts in known {
            let said = facts.as_ref().and_then(|facts| facts.lasting);
            let ttl = said.and_then(|said| said.left(now)).unwrap_or(self.unsaid_ttl);
            merged.ttl = merged.ttl.min(ttl);
            merged.scope = merged.scope.max(said.map_or(Scope::Private, |said| said.hints.scope));
        }
        if known.is_empty() { Lifetime { ttl: self.unsaid_ttl, ..Lifetime::NONE } } else { merged }
    }
}

fn offered(view: &View, known: &[Option<Arc<Facts>>]) -> Offered {
    let mut offered = Offered {
        tools: view.offers(ListKind::Tools),
        prompts: view.offers(ListKind::Prompts),
        resources: offers_resources(view),
        updates: may_any(known, |facts| facts.capabilities.flag("resources", "subscribe")),
        completions: may_any(known, completes),
        logging: may_any(known, |facts| facts.capabilities.offers("logging")),
        tasks: false,
        ui: None,
    };
    for facts in known.iter().flatten() {
        if let Some(settings) = facts.capabilities.extension(UI) {
            offered.add_ui(settings);
        }
    }
    offered
}

fn offers_resources(view: &View) -> bool {
    view.offers(ListKind::Resources) || view.offers(ListKind::Templates)
}

/// Whether any of them does, or may; an endpoint without upstreams has everything, and nothing in it.
fn may_any(known: &[Option<Arc<Facts>>], does: impl Fn(&Facts) -> bool) -> bool {
    known.is_empty() || known.iter().any(|facts| facts.as_ref().is_none_or(|facts| does(facts)))
}

/// Revision 2024-11-05 has the method and no capability.
fn completes(facts: &Facts) -> bool {
    facts.capabilities.offers("completions") || facts.revision < Revision::V2025_03_26
}

/// One upstream's words pass unchanged; several stand under headings (S-LIFE-09).
fn merged_instructions(upstreams: &[&UpstreamHandle]) -> Option<String> {
    let words =
        |upstream: &UpstreamHandle| upstream.known_facts().and_then(|facts| facts.instructions.clone());
    if let [single] = upstreams {
        return words(single);
    }
    let sections: Vec<String> = upstreams
        .iter()
        .filter_map(|upstream| {
            let words = words(upstream)?;
            let kept: String = words.chars().take(LONGEST).collect();
            (!kept.trim().is_empty()).then(|| format!("## {}\n\n{}", upstream.name(), kept.trim()))
        })
        .collect();
    (!sections.is_empty()).then(|| sections.join("\n\n"))
}
