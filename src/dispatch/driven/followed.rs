//! One task of an upstream, and the requests about it.
//!
//! Always: they go where the task was made; one whose story is dropped before its end is cancelled in the background, where
//! its upstream can do that; of one whose id alone was found again nothing is wanted before it was looked at. Not here: when they are made (`super`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::time::Instant;

use super::cancelling;
use super::identity::Identity;
use crate::dispatch::forward::trace_for;
use crate::dispatch::task::TaskLink;
use crate::dispatch::{Call, Failure, Switchboard};
use crate::names::UpstreamName;
use crate::policy::{Permit, Policy};
use crate::protocol::code::INVALID_PARAMS;
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::protocol::task::{Dialect, TaskFacts};
use crate::telemetry::spans;
use crate::upstream::call::{Circumstances, Client, EventSink, TaskWish, UpstreamCall};
use crate::upstream::error::UpstreamError;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::input::Input;
use crate::upstream::task::TaskPlace;

/// See the module head.
#[derive(Debug)]
pub(in crate::dispatch) struct Followed {
    reach: Reach,
    identity: Identity,
    /// Set as long as it is worth cancelling, and can be.
    cancel: Option<Permit>,
    /// When it was first heard of here.
    since: Instant,
    /// How long its upstream keeps it from its creation on, in milliseconds, and how often it wants to be asked about it.
    ttl_ms: Option<u64>,
    poll_ms: Option<u64>,
}

/// How it is reached.
#[derive(Debug, Clone)]
struct Reach {
    upstream: UpstreamHandle,
    client: Arc<Client>,
    place: TaskPlace,
    trace: Vec<(&'static str, String)>,
    /// Where what it asks and tells goes.
    events: Option<EventSink>,
}

/// What a look at it brought.
#[derive(Debug)]
pub(super) enum Looked {
    /// Its state, and the whole object that says so.
    Seen(TaskFacts, Object),
    /// Its upstream knows it no longer.
    Forgotten,
    /// Its upstream does not say.
    Refused(ErrorObject),
}

impl Followed {
    /// A task that was made for this call.
    pub(in crate::dispatch) fn new(
        board: &Switchboard,
        call: &Call,
        upstream: &UpstreamName,
        place: TaskPlace,
        facts: &TaskFacts,
    ) -> Result<Self, Failure> {
        let Some(handle) = board.upstreams.get(upstream) else {
            let error = UpstreamError::unavailable("it was removed");
            return Err(Failure::Upstream { upstream: upstream.clone(), error });
        };
        let trace = trace_for(handle, spans::outgoing(&call.span, &call.trace));
        let mut followed = Followed::of(handle.clone(), &call.client, place, facts, trace);
        followed.reach.events.clone_from(&call.events);
        Ok(followed)
    }

    /// One that was made before the gateway was restarted, at the place where its id was found.
    pub(super) fn found(
        board: &Switchboard,
        call: &Call,
        link: &TaskLink,
        place: TaskPlace,
    ) -> Result<Self, Failure> {
        let kept = place.kept();
        let mut followed =
            Followed::new(board, call, &UpstreamName::new(&*link.upstream), place, &link.facts)?;
        followed.identity = Identity::of(link.facts.created_at.clone(), link.place.clone());
        followed.identity.is_sought_at(kept);
        Ok(followed)
    }

    /// A task of that upstream's, whoever follows it.
    pub(in crate::dispatch) fn of(
        upstream: UpstreamHandle,
        client: &Arc<Client>,
        place: TaskPlace,
        facts: &TaskFacts,
        trace: Vec<(&'static str, String)>,
    ) -> Self {
        // Of an upstream that is away for a moment it is not known; to try costs nothing.
        let can_cancel = upstream.tasks_offered().is_none_or(|offered| offered.cancel);
        let cancel = can_cancel.then(|| Policy::default().own_errand(upstream.name()));
        let identity = Identity::of(facts.created_at.clone(), place.kept());
        let reach = Reach { upstream, client: Arc::clone(client), place, trace, events: None };
        Followed { reach, identity, cancel, since: Instant::now(), ttl_ms: None, poll_ms: None }
    }

    /// What its upstream says of it now.
    pub(in crate::dispatch) fn known(&mut self, facts: &TaskFacts) {
        self.ttl_ms = facts.ttl_ms;
        self.poll_ms = facts.poll_ms.or(self.poll_ms);
    }

    /// When its upstream has surely thrown it away, for all that is known: a little later than that, never earlier.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.since.checked_add(Duration::from_millis(self.ttl_ms?))
    }

    /// The pause between two requests that its upstream asks for, in milliseconds.
    pub(super) fn poll_ms(&self) -> Option<u64> {
        self.poll_ms
    }

    pub(super) fn place(&self) -> &TaskPlace {
        &self.reach.place
    }

    pub(super) fn upstream(&self) -> &UpstreamHandle {
        &self.reach.upstream
    }

    /// It is over, or out of reach: there is nothing to cancel any longer.
    pub(super) fn is_over(&mut self) {
        self.cancel = None;
    }

    /// A request about it brought nothing.
    pub(super) fn may_be_lost(&mut self) {
        self.identity.may_be_lost();
    }

    /// Whether nothing may be wanted of it before the next look.
    pub(super) fn is_doubtful(&self) -> bool {
        self.identity.is_doubtful()
    }

    /// Whether what its upstream tells by itself can be of this task.
    pub(super) fn is_told_by(&self, facts: &TaskFacts) -> bool {
        !self.is_doubtful() && !self.identity.is_of_another(facts)
    }

    /// How it is.
    pub(super) async fn look(&mut self, permit: Permit) -> Result<Looked, UpstreamError> {
        let looked = self.reach.look(permit, &self.identity).await?;
        if let Looked::Seen(facts, _) = &looked {
            self.identity.is_seen(facts);
        }
        Ok(looked)
    }

    /// What the call would have been answered, once the task is over (S-TASK-11); what it asks meanwhile comes on the way
    /// of this request (S-TASK-17). Of one that is over the answer is there at once; how long to wait is the caller's.
    pub(super) fn result(&self, permit: Permit) -> LocalBoxFuture<'static, Result<Answer, UpstreamError>> {
        // The task is looked at beside it.
        let reach = self.reach.clone();
        async move { reach.request(permit, Method::TaskResult, None, None).await }.boxed_local()
    }

    /// Asks for its end.
    pub(super) async fn ask_to_cancel(
        &self,
        permit: Permit,
        patience: Duration,
    ) -> Result<Answer, UpstreamError> {
        self.reach.request(permit, Method::CancelTask, None, Some(patience)).await
    }

    /// Looks for it anew, after the connection on which it was made has ended.
    pub(super) async fn find_again(&mut self, permit: Permit) -> Result<(), UpstreamError> {
        let Reach { upstream, client, place, .. } = &self.reach;
        let found = upstream.task_place(permit, &place.kept(), place.id(), client).await?;
        self.identity.is_sought_at(found.kept());
        self.reach.place = found;
        Ok(())
    }

    /// From now on it is this call's.
    pub(super) fn belongs_to(&mut self, call: &Call) {
        self.reach.client = Arc::clone(&call.client);
        self.reach.events = call.events.clone();
        self.reach.place.belongs_to(&call.client, call.events.as_ref());
    }

    /// Answers some of what it asks: `responses` is an object by its own keys (S-TX-06).
    pub(super) async fn update(&self, permit: Permit, responses: &str) -> Result<Answer, UpstreamError> {
        let patience = Some(self.reach.upstream.settings().timeout);
        self.reach.request(permit, Method::UpdateTask, Some(responses), patience).await
    }
}

impl Reach {
    /// How that task is; another that has its id now is none of ours (S-TASK-07).
    async fn look(&self, permit: Permit, identity: &Identity) -> Result<Looked, UpstreamError> {
        let patience = Some(self.upstream.settings().timeout);
        match self.request(permit, Method::GetTask, None, patience).await? {
            Answer::Error(error) if error.code == INVALID_PARAMS => Ok(Looked::Forgotten),
            Answer::Error(error) => Ok(Looked::Refused(error)),
            Answer::Result(task) => {
                let facts = TaskFacts::of(self.place.dialect(), &task);
                let facts = facts.map_err(|fault| UpstreamError::protocol(fault.to_string()))?;
                if facts.id != self.place.id() {
                    return Err(UpstreamError::protocol("it tells of another task than was asked about"));
                }
                if identity.is_of_another(&facts) {
                    tracing::warn!(upstream = %self.upstream.name(), "a task was not found again: its id is another's now");
                    return Ok(Looked::Forgotten);
                }
                Ok(Looked::Seen(facts, task))
            }
        }
    }

    async fn request(
        &self,
        permit: Permit,
        method: Method,
        responses: Option<&str>,
        patience: Option<Duration>,
    ) -> Result<Answer, UpstreamError> {
        let params = format!(r#"{{"taskId":{}}}"#, quote(self.place.id()));
        let params = Object::parse(params.into(), Limits::NONE)
            .map_err(|fault| UpstreamError::protocol(fault.to_string()))?;
        let circumstances = Circumstances {
            client: Arc::clone(&self.client),
            progress: false,
            log_level: None,
            trace: self.trace.clone(),
            events: self.events.clone(),
            input: responses.map(|all| {
                Arc::new(Input { responses: Some(Bytes::copy_from_slice(all.as_bytes())), state: None })
            }),
            // Every request about such a task declares the extension (S-TX-08).
            task: (self.place.dialect() == Dialect::Extension).then(TaskWish::default),
        };
        let call = UpstreamCall {
            method,
            params: Edit::of(&params),
            target: Some(Cow::Borrowed(self.place.id())),
            param_headers: Vec::new(),
            circumstances: &circumstances,
        };
        self.upstream.task_request(permit, &self.place, &call, patience).await
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(permit) = self.cancel.take() {
            let (reach, identity) = (self.reach.clone(), self.identity.clone());
            let given_up = Followed { reach, identity, cancel: None, ..*self };
            tokio::task::spawn_local(cancelling::cancel(given_up, permit));
        }
    }
}
