//! The stories: what happens to each method, the same for every client and every upstream.
//!
//! Always: a call goes name → route → permit → upstream, and each step needs the value of the one before. Nothing here
//! knows an era, a transport or a status code. Dropping a story's future cancels what it started.

mod complete;
mod driven;
mod ending;
mod failure;
mod for_task;
mod forward;
mod introduce;
mod list;
mod listen;
mod pages_visited;
mod prompt;
mod reading;
pub mod request_state;
mod resource;
mod rounds;
pub mod session_tools;
mod task;
mod tool;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

pub use failure::Failure;
pub use introduce::Introduction;
pub use listen::{Following, Follows};
use request_state::RequestStates;
pub use resource::{Subscribing, Subscription};
pub use rounds::RoundRules;
pub use task::{BegunTask, TaskLink, TaskRules, TaskSink, TaskUse};
pub use wish::ToolForTask;

use crate::catalog::handle::CatalogueHandle;
use crate::catalog::listing::ListKind;
use crate::catalog::snapshot::View;
use crate::names::UpstreamName;
use crate::policy::Policy;
use crate::protocol::caching::Lifetime;
use crate::protocol::era::Revision;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object};
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::telemetry::trace_context::TraceContext;
use crate::upstream::State;
use crate::upstream::call::{Affinity, Client, ClientPort, EventSink};
use crate::upstream::error::UpstreamError;
use crate::upstream::fleet::Fleet;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::input::Input;
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
    /// Until when requests wait for upstreams that were never heard of: once after the start, not once per request.
    pub first_lists_until: Instant,
    /// What bounds the rounds that are made for clients of the handshake era.
    pub rounds: RoundRules,
    /// What bounds the tasks of upstreams.
    pub tasks: TaskRules,
    /// What stateless clients hold between the rounds of a call.
    pub request_states: RequestStates,
    /// How long a request waits for the first lists of an upstream that may have what it names, and for lists that are no
    /// longer good.
    pub list_budget: Duration,
    /// `bounds.list_ttl`: how long that is good of which an upstream does not say.
    pub unsaid_ttl: Duration,
    /// `bounds.cache_age`: the longest that anything is called good.
    pub longest_kept: Duration,
}

/// A request of a client, era-neutral.
#[derive(Debug)]
pub struct Call {
    /// Who calls.
    pub client: Arc<Client>,
    /// What the client called itself when its session was opened; without a session every request says it.
    pub client_name: Option<Arc<str>>,
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
    /// What the client answers to what it was asked in an earlier round.
    pub input: Option<GivenInput>,
    /// What may become of it where its upstream makes tasks of calls.
    pub task: TaskUse,
    /// Its span.
    pub span: Span,
}

impl Call {
    /// The same call, which brings this.
    fn with_input(&self, input: GivenInput) -> Call {
        Call {
            client: Arc::clone(&self.client),
            client_name: self.client_name.clone(),
            params: self.params.clone(),
            progress: self.progress,
            log_level: self.log_level,
            trace: self.trace.clone(),
            events: self.events.clone(),
            input: Some(input),
            task: self.task.clone(),
            span: self.span.clone(),
        }
    }

    /// The same call as one of a task: nobody's request any longer. Its client is asked by that port, and what it tells goes
    /// there. A session's task uses that session's connections, where what a server keeps for the session is found, and its
    /// roots are that session's (S-STDIO-08, S-ROOT-03).
    pub fn as_task(&self, port: Option<ClientPort>, events: Option<EventSink>) -> Call {
        let (affinity, task_of) = match self.client.affinity {
            Affinity::Session(_) => (self.client.affinity, Some(Arc::clone(&self.client))),
            _ => (Affinity::of_one_call(), None),
        };
        let closed = task_of.as_ref().map(|session| session.closed.clone()).unwrap_or_default();
        let client = Client {
            principal: self.client.principal,
            affinity,
            task_of,
            profile: self.client.profile.clone(),
            capabilities: self.client.capabilities.clone(),
            port,
            closed,
        };
        Call {
            client: Arc::new(client),
            client_name: self.client_name.clone(),
            params: self.params.clone(),
            progress: self.progress || events.is_some(),
            log_level: self.log_level,
            trace: self.trace.clone(),
            events,
            input: self.input.clone(),
            task: TaskUse::Plain,
            span: self.span.clone(),
        }
    }

    /// What the client calls itself, as far as it says so.
    fn client_name(&self) -> Option<String> {
        let name = match &self.client_name {
            Some(name) => name.to_string(),
            None => {
                let client = self.params.meta("io.modelcontextprotocol/clientInfo")?;
                let client = Object::parse(bytes::Bytes::copy_from_slice(client), Limits::NONE).ok()?;
                client.text("name")?.chars().take(LONGEST_CLIENT_NAME).collect()
            }
        };
        (!name.is_empty()).then_some(name)
    }
}

/// Answers to an earlier round of a call.
#[derive(Debug, Clone)]
pub struct GivenInput {
    /// Whose questions they answer, where the client's request state says so; otherwise they go where the call goes.
    pub upstream: Option<UpstreamName>,
    /// What that upstream is told.
    pub input: Arc<Input>,
    /// Rounds so far, as far as they can be counted.
    pub round: u32,
}

/// Characters of a client's name that are told to anybody.
pub const LONGEST_CLIENT_NAME: usize = 64;

/// How a story ended well.
#[derive(Debug)]
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
    /// A resource, in its upstream's URIs: asked for now, or kept from before.
    Read {
        /// The upstream's result.
        result: Object,
        /// What clients are told of how long it is good.
        lifetime: Lifetime,
        /// Whose it is.
        upstream: UpstreamName,
        /// The view by which its URIs become public.
        view: Arc<View>,
    },
    /// The upstream made a task of the call; only where the caller takes one ([`TaskUse::Offered`]).
    Task(Box<BegunTask>),
    /// A result object of the gateway's own.
    Own(bytes::Bytes),
    /// As [`Outcome::Own`], of a kind that clients may keep: lists and discovery.
    Lasting(bytes::Bytes, Lifetime),
    /// An error object for this caller, written already.
    Refused(bytes::Bytes),
}

/// Whose learnt URIs count. One principal so far.
pub const CALLER: &str = "local";

impl std::fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Switchboard")
    }
}

impl Switchboard {
    /// Tells the story of a method that every era has; `revision` is the one in which a list is written. A client that is
    /// asked by requests is asked on the way; any other is told what is asked ([`Failure::NeedsInput`]).
    pub async fn tell(&self, method: Method, call: &Call, revision: Revision) -> Result<Outcome, Failure> {
        match self.story(method, call, revision).await {
            Err(Failure::NeedsInput { upstream, asked }) if call.client.is_asked_by_requests() => {
                // Rare, and on the heap so that not every call carries the room for it.
                Box::pin(self.make_rounds(method, call, revision, upstream, asked)).await
            }
            ended => ended,
        }
    }

    async fn story(&self, method: Method, call: &Call, revision: Revision) -> Result<Outcome, Failure> {
        match method {
            Method::CallTool => self.call_tool(call).await,
            Method::ListTools => self.list(call, ListKind::Tools, revision).await,
            Method::ListPrompts => self.list(call, ListKind::Prompts, revision).await,
            Method::ListResources => self.list(call, ListKind::Resources, revision).await,
            Method::ListTemplates => self.list(call, ListKind::Templates, revision).await,
            Method::GetPrompt => self.get_prompt(call).await,
            Method::ReadResource => self.read_resource(call).await,
            Method::Complete => self.complete(call).await,
            // Methods of one era alone: its adapter serves them, and refuses those of the other before they come here.
            Method::Initialize
            | Method::Discover
            | Method::Ping
            | Method::Subscribe
            | Method::Unsubscribe
            | Method::SetLevel
            | Method::Listen => Err(Failure::NotOffered(method.name())),
            Method::GetTask
            | Method::TaskResult
            | Method::UpdateTask
            | Method::CancelTask
            | Method::ListTasks => Err(Failure::NotDeclared),
        }
    }

    /// What the caller's endpoint shows now of that kind, or of all, after a fair wait when the gateway has only just started.
    async fn complete_view(&self, client: &Client, kind: Option<ListKind>) -> Result<Arc<View>, Failure> {
        let profile = client.profile.as_ref().map(|profile| profile.as_str());
        let budget = self.first_lists_until.saturating_duration_since(Instant::now());
        let snapshot = self.catalogue.first_lists(kind, budget).await;
        snapshot.view(profile).cloned().ok_or(Failure::UnknownEndpoint)
    }

    /// A view that has what the caller asks for, if any has: only for what is missing is there a wait (I10).
    async fn view_with(&self, client: &Client, has: impl Fn(&View) -> bool) -> Result<Arc<View>, Failure> {
        let profile = client.profile.as_ref().map(|profile| profile.as_str());
        let view = self.catalogue.view(profile).ok_or(Failure::UnknownEndpoint)?;
        if has(&view) { Ok(view) } else { self.complete_view(client, None).await }
    }

    /// A view that has this tool or prompt, if any has.
    async fn view_naming(&self, client: &Client, kind: ListKind, name: &str) -> Result<Arc<View>, Failure> {
        let profile = client.profile.as_ref().map(|profile| profile.as_str());
        let view = self.catalogue.view(profile).ok_or(Failure::UnknownEndpoint)?;
        if names(&view, kind, name) {
            return Ok(view);
        }
        // Rare, and on the heap so that not every call carries the room for it.
        Box::pin(self.later_view(client, kind, name)).await
    }

    /// As `view_naming`, of what no view has yet: what may be of an upstream that is still starting is waited for.
    async fn later_view(&self, client: &Client, kind: ListKind, name: &str) -> Result<Arc<View>, Failure> {
        let until = Instant::now() + self.list_budget;
        let view = self.complete_view(client, Some(kind)).await?;
        let enough = |view: &View| {
            let upstream = view.may_offer(kind, name).and_then(|name| self.upstreams.get(name));
            let is_starting =
                upstream.is_some_and(|upstream| !matches!(upstream.state(), State::Down { .. }));
            names(view, kind, name) || !is_starting
        };
        if enough(&view) {
            return Ok(view);
        }
        self.catalogue
            .view_once(view.profile().map(|profile| profile.as_str()), until, enough)
            .await
            .ok_or(Failure::UnknownEndpoint)
    }

    /// Why there is nothing of that name: `unknown`, unless an upstream that never listed may have it.
    fn missing(&self, view: &View, kind: ListKind, name: &str, unknown: Failure) -> Failure {
        let Some(upstream) = view.may_offer(kind, name) else { return unknown };
        let error = match self.upstreams.get(upstream).map(UpstreamHandle::state) {
            Some(State::Down { why, retry_after }) => {
                UpstreamError::Unavailable { why, retry_after: Some(retry_after) }
            }
            _ => UpstreamError::unavailable("it has not said yet what it offers"),
        };
        Failure::Upstream { upstream: upstream.clone(), error }
    }
}

fn names(view: &View, kind: ListKind, name: &str) -> bool {
    match kind {
        ListKind::Prompts => view.resolve_prompt(name).is_some(),
        _ => view.resolve_tool(name).is_some(),
    }
}
