//! What the gateway says of itself when a client meets it.

use super::{Failure, Switchboard};
use crate::names::ProfileName;
use crate::upstream::handle::UpstreamHandle;

/// Longest instructions taken from one upstream, in characters: they go into every model's context.
const LONGEST: usize = 4096;

/// Era-neutral: the adapters write it as `initialize` or `server/discover` results.
#[derive(Debug)]
pub struct Introduction {
    /// Words for the model, merged from the upstreams; `None` when none has any.
    pub instructions: Option<String>,
}

impl Switchboard {
    /// Introduces an endpoint without asking any upstream (S-DISC-05, S-LIFE-06).
    pub fn introduce(&self, profile: Option<&ProfileName>) -> Result<Introduction, Failure> {
        let view = self.catalogue.view(profile.map(ProfileName::as_str)).ok_or(Failure::UnknownEndpoint)?;
        let upstreams: Vec<_> = view.upstreams().iter().filter_map(|name| self.upstreams.get(name)).collect();
        Ok(Introduction { instructions: merged_instructions(&upstreams) })
    }
}

/// One upstream's words pass unchanged; several stand under headings (S-LIFE-09).
fn merged_instructions(upstreams: &[&UpstreamHandle]) -> Option<String> {
    let words = |upstream: &UpstreamHandle| upstream.facts().and_then(|facts| facts.instructions.clone());
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
