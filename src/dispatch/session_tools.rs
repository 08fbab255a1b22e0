//! Tools that a server shows only to clients with certain capabilities: in no merged list, yet callable by the session
//! or the stateless client that declared them (era-bridge §9.10).
//!
//! The merged list is made with the gateway's own connection, which can be asked nothing; some servers register a tool
//! only where they could ask. When such a name is called, the caller's own connection is listed once, and what it shows
//! is remembered for a while; that it could not be listed is not, and is the answer where the name bears that server's
//! prefix. Profiles narrow what their endpoint shows, so they have no such tools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;

use super::{Call, Failure, Switchboard};
use crate::auth::principal::Principal;
use crate::catalog::fetch::{FetchError, FetchLimits, fetch};
use crate::catalog::listing::ListKind;
use crate::catalog::namespace::Namespace;
use crate::catalog::snapshot::View;
use crate::config::names::NameSettings;
use crate::names::{LocalName, PublicName, SessionId, UpstreamName};
use crate::protocol::method::Method;
use crate::upstream::call::Affinity;
use crate::upstream::error::UpstreamError;
use crate::upstream::handle::UpstreamHandle;

/// A tool that is shown to some callers alone.
pub(super) struct SessionTool {
    pub(super) upstream: UpstreamName,
    pub(super) local: LocalName,
}

type Names = Arc<HashMap<PublicName, LocalName>>;

/// Whom a list was made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Audience {
    Session(SessionId),
    /// Every stateless caller of a principal that declares the same.
    Alike(Principal, Bytes),
}

/// What callers' own connections showed.
#[derive(Debug)]
pub struct SessionTools {
    names: NameSettings,
    pub(super) limits: FetchLimits,
    seen: Cache<(Audience, UpstreamName), Names>,
}

/// How long such a list is believed.
const BELIEVED: Duration = Duration::from_secs(30);
/// Lists remembered over all callers.
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
    /// Finds a tool that the merged list does not have in the caller's own connections; fails where only one that cannot
    /// be listed now can have it.
    pub(super) async fn session_tool(
        &self,
        call: &Call,
        view: &View,
        name: &str,
    ) -> Result<Option<SessionTool>, Failure> {
        let declared = call.client.capabilities.to_upstream();
        let audience = match call.client.affinity {
            Affinity::Session(session) => Audience::Session(session),
            Affinity::Caller(_) => Audience::Alike(call.client.principal, declared.clone()),
            _ => return Ok(None),
        };
        if view.profile().is_some() || &*declared == b"{}" {
            return Ok(None);
        }
        let mut failed = None;
        for upstream in view.upstreams().iter().filter_map(|name| self.upstreams.get(name)) {
            let prefix = &upstream.settings().prefix;
            if !prefix.is_empty() && !name.starts_with(prefix.as_str()) {
                continue;
            }
            match self.names_shown_to(&audience, call, upstream).await {
                Ok(names) => {
                    if let Some(local) = names.get(name) {
                        let (upstream, local) = (upstream.name().clone(), local.clone());
                        return Ok(Some(SessionTool { upstream, local }));
                    }
                }
                // Which tools such a server has not, nobody can tell; without a prefix, any name could be its.
                Err(error) if !prefix.is_empty() => failed = Some((upstream.name().clone(), error)),
                Err(error) => {
                    tracing::debug!(upstream = %upstream.name(), %error, "a caller's own tools could not be listed");
                }
            }
        }
        failed.map_or(Ok(None), |(upstream, error)| Err(Failure::Upstream { upstream, error: unsent(error) }))
    }

    async fn names_shown_to(
        &self,
        audience: &Audience,
        call: &Call,
        upstream: &UpstreamHandle,
    ) -> Result<Names, UpstreamError> {
        let key = (audience.clone(), upstream.name().clone());
        if let Some(known) = self.session_tools.seen.get(&key) {
            return Ok(known);
        }
        let Some(listed) = self.list_for_caller(call, upstream).await else { return Ok(Names::default()) };
        let names = Arc::new(listed?);
        self.session_tools.seen.insert(key, Arc::clone(&names));
        Ok(names)
    }

    /// `None` where the caller has no connection that shows it more than all are shown.
    async fn list_for_caller(
        &self,
        call: &Call,
        upstream: &UpstreamHandle,
    ) -> Option<Result<HashMap<PublicName, LocalName>, UpstreamError>> {
        let client = &call.client;
        if !upstream.declares_for(client) {
            return None;
        }
        let page = |_, cursor| {
            let permit = self.policy.authorise(client.principal, upstream.name());
            upstream.list_page(permit, client, Method::ListTools, cursor)
        };
        let listing = fetch(ListKind::Tools, self.session_tools.limits, &|_| Ok(()), page).await;
        let listing = match listing {
            Ok(listing) => listing,
            Err(FetchError::Page(UpstreamError::NotOffered(_))) => return Some(Ok(HashMap::new())),
            Err(FetchError::Page(error)) => return Some(Err(error)),
            Err(fault @ FetchError::NoList(_)) => {
                return Some(Err(UpstreamError::protocol(fault.to_string())));
            }
        };
        let originals: Vec<&str> = listing.items.iter().map(|item| item.local.as_str()).collect();
        let settings = upstream.settings();
        let space = Namespace::new(upstream.name().clone(), &settings.prefix, &self.session_tools.names);
        let public = space.assign(&originals);
        Some(Ok(public.into_iter().zip(listing.items.iter().map(|item| item.local.clone())).collect()))
    }
}

/// What was asked for was not the list, and was not sent.
fn unsent(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Unavailable { .. }
        | UpstreamError::Overloaded { .. }
        | UpstreamError::AuthRequired => error,
        other => UpstreamError::unavailable(format!("its tools could not be listed: {other}")),
    }
}
