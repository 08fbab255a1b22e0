//! `ask` of a server: which questions of it reach clients.
//!
//! Always: what is off is not declared to the server. Not here: refusing what it asks all the same (`upstream`).

use super::Share;
use crate::config::check::Check;
use crate::config::section::section;
use crate::config::written::{Key, given};
use crate::protocol::capability::Kinds;

/// Checked: what a server may ask of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AskSettings {
    /// Folders of the client (`roots/list`). Off for endpoints by default: they need not learn local paths (S-ROOT-05).
    pub roots: bool,
    /// The client's model (`sampling/createMessage`).
    pub sampling: bool,
    /// The person at the client (`elicitation/create`).
    pub elicitation: bool,
    /// What the client's conversation holds (`includeContext` of sampling).
    pub context: bool,
}

section! {
    /// What a server may ask of clients. What is off is not declared to it, and refused with `-32601`.
    struct WrittenAsk {
        /// Folders of the client. Default: `true` for a program, `false` for an endpoint.
        "roots" roots: bool,
        /// The client's model.
        #[schemars(extend("default" = true))]
        "sampling" sampling: bool,
        /// The person at the client.
        #[schemars(extend("default" = true))]
        "elicitation" elicitation: bool,
        /// What else the client's conversation holds, for `sampling`.
        #[schemars(extend("default" = false))]
        "context" context: bool,
    }
}

impl AskSettings {
    /// The same as kinds of questions.
    pub fn kinds(self) -> Kinds {
        Kinds {
            roots: self.roots,
            sampling: self.sampling,
            context: self.context,
            elicitation: self.elicitation,
        }
    }

    /// What a server may ask where the file says nothing; `program` tells programs from endpoints.
    pub fn default_for(program: bool) -> Self {
        AskSettings { roots: program, sampling: true, elicitation: true, context: false }
    }

    /// Checks `ask`, and whether anybody could be asked at all.
    pub(super) fn check(
        written: &Key<WrittenAsk>,
        program: bool,
        share: Share,
        check: &mut Check<'_>,
    ) -> AskSettings {
        let default = AskSettings::default_for(program);
        let Some(ask) = given(written).map(|at| &at.value) else { return default };
        let keys = [&ask.roots, &ask.sampling, &ask.elicitation, &ask.context];
        if share == Share::All
            && let Some(on) = keys.into_iter().filter_map(given).find(|key| key.value)
        {
            let text = "a connection that all share is asked nothing (`share: all`)";
            check.problems.lint(&on.place, text);
        }
        let or = |key: &Key<bool>, default: bool| given(key).map_or(default, |at| at.value);
        AskSettings {
            roots: or(&ask.roots, default.roots),
            sampling: or(&ask.sampling, default.sampling),
            elicitation: or(&ask.elicitation, default.elicitation),
            context: or(&ask.context, default.context),
        }
    }
}
