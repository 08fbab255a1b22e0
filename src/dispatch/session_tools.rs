//! Tools that a server shows only to clients with certain capabilities: in no merged list, yet callable in the session
//! that declared them (era-bridge §9.10).
//!
//! The merged list is made with the gateway's own connection, which can be asked nothing; some servers register a tool
//! only where they could ask. When such a name is called, the session's own connection is listed once, and what it shows
//! is remembered for a while. Profiles narrow what their endpoint shows, so they have no such tools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::{Call, Switchboard};
use crate::catalog::fetch::{FetchLimits, fetch};
use crate::catalog::listing::ListKind;
use crate::catalog::namespace::Namespace;
use crate::catalog::snapshot::View;
use crate::config::names::NameSettings;
use crate::names::{LocalName, PublicName, SessionId, UpstreamName};
use crate::protocol::method::Method;
use crate::upstream::call::Affinity;
use crate::upstream::handle::UpstreamHandle;

/// A tool of one session.
pub(super) struct SessionTool {
    pub(super) upstream: UpstreamName,
    pub(super) local: LocalName,
}

type Names = Arc<HashMap<PublicName, LocalName>>;

/// What sessions' own connections showed.
#[derive(Debug)]
pub struct SessionTools {
    names: NameSettings,
    pub(super) limits: FetchLimits,
    seen: Cache<(SessionId, UpstreamName), Names>,
}

/// How long a session's list is believed.
const BELIEVED: Duration = Duration::from_secs(30);
/// Lists remembered over all sessions.
const REMEMBERED: u64 = 10_000;

impl SessionTools {
    /// Nothing seen yet.
    pub fn new(names: NameSettings, limits: FetchLimits) -> Self {
        SessionTools {
            names,
            limits,
            seen: Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build(),
        }
    }
}

impl Switchboard {
    /// Finds a tool that the merged list does not have in the connections of the caller's session.
    pub(super) async fn session_tool(&self, call: &Call, view: &View, name: &str) -> Option<SessionTool> {
        let Affinity::Session(session) = call.client.affinity else { return None };
        if view.profile().is_some() || &*call.client.capabilities.to_upstream() == b"{}" {
            return None;
        }
        for upstream in view.upstreams().iter().filter_map(|name| self.upstreams.get(name)) {
            let prefix = &upstream.settings().prefix;
            if !prefix.is_empty() && !name.starts_with(prefix.as_str()) {
                continue;
            }
            if let Some(local) = self.names_in_session(call, session, upstream).await.get(name) {
                return Some(SessionTool { upstream: upstream.name().clone(), local: local.clone() });
            }
        }
        None
    }

    async fn names_in_session(&self, call: &Call, session: SessionId, upstream: &UpstreamHandle) -> Names {
        let key = (session, upstream.name().clone());
        if let Some(known) = self.session_tools.seen.get(&key) {
            return known;
        }
        let names = Arc::new(self.list_in_session(call, upstream).await.unwrap_or_default());
        self.session_tools.seen.insert(key, Arc::clone(&names));
        names
    }

    async fn list_in_session(
        &self,
        call: &Call,
        upstream: &UpstreamHandle,
    ) -> Option<HashMap<PublicName, LocalName>> {
        let client = &call.client;
        if !upstream.declares_for(client) {
            return None;
        }
        let page = |_, cursor| {
            let permit = self.policy.authorise(client.principal, upstream.name());
            upstream.list_page(permit, client, Method::ListTools, cursor)
        };
        let listing = fetch(ListKind::Tools, self.session_tools.limits, &|_| Ok(()), page).await.ok()?;
        let originals: Vec<&str> = listing.items.iter().map(|item| item.local.as_str()).collect();
        let settings = upstream.settings();
        let space = Namespace::new(upstream.name().clone(), &settings.prefix, &self.session_tools.names);
        let public = space.assign(&originals);
        Some(public.into_iter().zip(listing.items.iter().map(|item| item.local.clone())).collect())
    }
}
