//! The stories: what happens to each method, the same for every client and every upstream.
//!
//! Always: a call goes name → route → permit → upstream, and each step needs the value of the one before. Nothing here
//! knows an era, a transport or a status code. Dropping a story's future cancels what it started.

mod complete;
mod failure;
mod forward;
mod introduce;
mod list;
mod prompt;
mod resource;
pub mod session_tools;
mod tool;

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

pub use failure::Failure;
pub use introduce::Introduction;
pub use resource::Subscription;

use crate::catalog::handle::CatalogueHandle;
use crate::catalog::snapshot::View;
use crate::names::UpstreamName;
use crate::policy::Policy;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::log_level::LogLevel;
use crate::telemetry::trace_context::TraceContext;
use crate::upstream::call::{Client, EventSink};
use crate::upstream::fleet::Fleet;
use crate::upstream::messages::NewsRecipient;

/// What every story works with.
pub struct Switchboard {
    /// What is offered.
    pub catalogue: CatalogueHandle,
    /// What is allowed.
    pub policy: Policy,
    /// Where it is done.
    pub upstreams: Arc<Fleet>,
    /// Where doubts about lists go.
    pub news: NewsRecipient,
    /// Tools that only some sessions see.
    pub session_tools: session_tools::SessionTools,
    /// How long a list waits for upstreams that were never heard of.
    pub list_budget: Duration,
}

/// A request of a client, era-neutral.
#[derive(Debug)]
pub struct Call {
    /// Who calls.
    pub client: Arc<Client>,
    /// Parameters as the client wrote them.
    pub params: Object,
    /// Whether it wants progress.
    pub progress: bool,
    /// Log level it wants; `None` wants no logs.
    pub log_level: Option<LogLevel>,
    /// Trace it belongs to.
    pub trace: TraceContext,
    /// Where its events go.
    pub events: Option<EventSink>,
    /// Its span.
    pub span: Span,
}

/// How a story ended well.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and a box would be an allocation per call"
)]
pub enum Outcome {
    /// An upstream's answer, in its own URIs: result or JSON-RPC error.
    Relayed {
        /// What it answered.
        answer: Answer,
        /// Who.
        upstream: UpstreamName,
        /// The view by which its URIs become public.
        view: Arc<View>,
    },
    /// A result object of the gateway's own.
    Own(bytes::Bytes),
}

/// Whose learnt URIs count. One principal so far.
pub const CALLER: &str = "local";

impl std::fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switchboard")
    }
}

impl Switchboard {
    /// What the caller's endpoint shows now, after a fair wait when the gateway has only just started.
    pub async fn view(&self, client: &Client) -> Result<Arc<View>, Failure> {
        let profile = client.profile.as_ref().map(|profile| profile.as_str());
        let snapshot = self.catalogue.first_lists(self.list_budget).await;
        snapshot.view(profile).cloned().ok_or(Failure::UnknownEndpoint)
    }
}
