//! Calls of stateless clients that can be asked something: run here until they are answered or ask, and gone on with when
//! the client comes back (era-bridge §4.3, §4.4).
//!
//! Always: a call that asks nothing is answered as any other; a client that leaves while its request is open has cancelled,
//! and the end of a request that was answered by a question is no such thing. Not here: the call while nobody is attached
//! (`parked`), what a request state proves (`dispatch::request_state`), questions inside results (`input_required`).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use bytes::Bytes;
use tokio::time::Instant;
use tracing::Instrument;

use super::edge::RequestGuard;
use super::exchange::Finished;
use super::respond;
use super::stateless::{Answering, story};
use super::tasks::{extension, made::Made};
use crate::dispatch::request_state::{NotValid, RequestState};
use crate::dispatch::{Call, Failure, Outcome};
use crate::names::UpstreamName;
use crate::parked::{
    Attended, Awaited, Ended, Found, Handle, Inputs, Parked, Reply, Round, Running, Story, attend,
};
use crate::protocol::code::{INTERNAL_ERROR, INVALID_PARAMS, URL_ELICITATION_REQUIRED};
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::Object;
use crate::protocol::translate::question::{NotPut, pages_required, puttable};
use crate::tasks::{Beginning, TaskInputs};
use crate::telemetry::spans::{self, Ending};
use crate::upstream::call::EventSink;
use crate::upstream::error::UpstreamError;
use crate::upstream::events::Events;

/// What a request goes on with.
#[derive(Debug)]
pub(super) enum Retry {
    /// A call that waits for answers to this round.
    Parked { call: Handle, round: u32, responses: Option<Object> },
    /// A call to be made again once its pages were visited.
    Restart { upstream: UpstreamName, pages: Handle, round: u32, responses: Option<Object> },
}

/// One request.
pub(super) struct Parking {
    pub(super) answering: Answering,
    pub(super) call: Arc<Call>,
    /// What the call asks, if it is made here.
    pub(super) inputs: Arc<Inputs>,
    /// What the call tells, likewise.
    pub(super) events: Events,
    /// Where this request hears of it.
    pub(super) sink: Option<EventSink>,
    pub(super) retry: Option<Box<Retry>>,
    /// After how long it becomes a task by itself, if it does.
    pub(super) slow_after: Option<Duration>,
}

impl Parking {
    /// Runs until the request can be answered, or must be.
    pub(super) async fn run_until_stopped(self, counted: RequestGuard) -> Finished {
        let _counted = counted;
        let (edge, id) = (self.answering.edge.clone(), self.answering.id.clone());
        tokio::select! {
            biased;
            finished = self.run() => finished,
            () = edge.until_stopped() => respond::cut_short(&id, "the gateway stops"),
        }
    }

    async fn run(mut self) -> Finished {
        match self.retry.take().map(|retry| *retry) {
            None => self.begin(0).await,
            Some(Retry::Parked { call, round, responses }) => self.go_on(call, round, responses).await,
            Some(Retry::Restart { upstream, pages, round, responses }) => {
                let principal = self.call.client.principal;
                let visited = &self.answering.edge.pages;
                match visited.answered(pages, principal, responses.as_ref()).await {
                    Awaited::Again => self.begin(round).await,
                    Awaited::Asks(requests) => self.visit(&upstream, pages, round, &requests),
                    Awaited::Declined => {
                        let why = "the user did not agree to visit its page";
                        let refused = Failure::InputRefused { upstream, why };
                        self.answering.respond(&self.call, Err(refused))
                    }
                    Awaited::Lost => Told { answering: &self.answering, call: &self.call }.lost(),
                    Awaited::Malformed => self.malformed("an input response does not answer its question"),
                }
            }
        }
    }

    /// Makes the call, after so many rounds.
    async fn begin(self, round: u32) -> Finished {
        let Parking { answering, call, inputs, events, sink, slow_after, .. } = self;
        let edge = &answering.edge;
        // Once it is one, its client can no longer be told by an answer what is asked.
        let is_task = Rc::new(Cell::new(false));
        let story: Story = Box::pin({
            let (edge, call, span) = (edge.clone(), Arc::clone(&call), call.span.clone());
            let (method, revision, is_task) = (answering.method, answering.revision, Rc::clone(&is_task));
            let story = async move {
                match story(&edge, method, revision, &call).await {
                    Err(Failure::NeedsInput { upstream, asked }) if is_task.get() => {
                        edge.switchboard.make_rounds(method, &call, revision, upstream, asked).await
                    }
                    ended => ended,
                }
            };
            story.instrument(span)
        });
        let mut running = Running::new(story, events, Arc::clone(&inputs));
        let told = Told { answering: &answering, call: &call };
        let mut slow_at = slow_after.map(|after| Instant::now() + after);
        loop {
            match attend(running, sink.as_ref(), edge.settings.bounds.gather, slow_at).await {
                Attended::Ended(ended) => return told.ended(ended, &inputs, round).await,
                Attended::Asks(asking) => match edge.parked.park(call.client.principal, asking, round) {
                    Parked::Asks(handle, round) => return told.asks(handle, &round),
                    Parked::AsksNothing(still) => running = still,
                    Parked::TooManyRounds(upstream) => return told.too_many_rounds(upstream),
                    Parked::NoPlace => return told.overloaded(),
                },
                Attended::Slow(slow) => match told.becomes_task(slow, &inputs, &is_task).await {
                    Ok(finished) => return finished,
                    // Nothing is lost: it goes on as it began.
                    Err(still) => (running, slow_at) = (still, None),
                },
            }
        }
    }

    /// Brings answers to a call that waits for them.
    async fn go_on(self, handle: Handle, round: u32, responses: Option<Object>) -> Finished {
        let told = Told { answering: &self.answering, call: &self.call };
        let parked = match self.answering.edge.parked.find(handle, self.call.client.principal) {
            Found::Waiting(parked) => parked,
            Found::Expired => return told.failed(NotValid::Expired.into()),
            Found::Unknown => return told.lost(),
        };
        match parked.attach(round, responses, self.sink.clone()).await {
            Reply::Ended(ended) => told.ended(ended, parked.inputs(), round).await,
            Reply::Asks(round) => told.asks(handle, &round),
            Reply::Malformed(why) => self.malformed(why),
            Reply::Lost => told.lost(),
            Reply::Expired => told.failed(NotValid::Expired.into()),
            Reply::TakenOver => self.malformed("another request goes on with this call"),
            Reply::TooManyRounds(upstream) => told.too_many_rounds(upstream),
        }
    }

    /// Asks again for pages that are not visited yet, which is no round of the server's.
    fn visit(&self, upstream: &UpstreamName, pages: Handle, round: u32, requests: &Bytes) -> Finished {
        let told = Told { answering: &self.answering, call: &self.call };
        told.pages(upstream, pages, round, requests)
    }

    fn malformed(&self, why: &str) -> Finished {
        respond::error(Some(&self.answering.id), StatusCode::OK, INVALID_PARAMS, why, None)
    }
}

/// How a request is answered.
struct Told<'a> {
    answering: &'a Answering,
    call: &'a Call,
}

impl Told<'_> {
    /// The call is over, after so many rounds.
    async fn ended(&self, ended: Ended, inputs: &Arc<Inputs>, round: u32) -> Finished {
        match ended {
            // What this request declares counts, whatever the one did that began the call; who drops the task cancels it.
            Ok(Outcome::Task(_)) if !extension::is_declared(&self.answering.capabilities) => {
                respond::undeclared(&self.answering.id, &extension::required())
            }
            Ok(Outcome::Task(begun)) => {
                extension::linked(self.answering, self.call, *begun, Some(inputs)).await
            }
            Ok(Outcome::Relayed { answer: Answer::Error(error), upstream, view })
                if error.code == URL_ELICITATION_REQUIRED =>
            {
                match self.pages_of(&error, &upstream, inputs, round) {
                    Some(asked) => asked,
                    None => {
                        let answer = Answer::Error(error);
                        self.answering.respond(self.call, Ok(Outcome::Relayed { answer, upstream, view }))
                    }
                }
            }
            ended => self.answering.respond(self.call, ended),
        }
    }

    /// A call that takes its time goes on as a task (S-TASK-22); it comes back where that cannot be.
    async fn becomes_task(
        &self,
        slow: Running,
        inputs: &Arc<Inputs>,
        is_task: &Cell<bool>,
    ) -> Result<Finished, Running> {
        let edge = &self.answering.edge;
        let Ok(tool) = edge.switchboard.tool_for_task(self.call).await else { return Err(slow) };
        let inputs = TaskInputs::Keyed(Arc::clone(inputs));
        let made = Made { edge, call: self.call, revision: self.answering.revision, inputs };
        is_task.set(true);
        match made.called(tool.upstream, tool.public, slow).await {
            Ok(task) => Ok(extension::told(self.answering, self.call, &task, None)),
            Err(refused) => {
                tracing::warn!(why = %refused.why, "a slow call is not made a task");
                is_task.set(false);
                match refused.beginning {
                    Beginning::Called { running, .. } => Err(running),
                    // It was given as that.
                    _ => Ok(self.overloaded()),
                }
            }
        }
    }

    /// The pages that the server wants visited first, as questions; `None` when they cannot be shown.
    fn pages_of(
        &self,
        error: &ErrorObject,
        upstream: &UpstreamName,
        inputs: &Arc<Inputs>,
        round: u32,
    ) -> Option<Finished> {
        let edge = &self.answering.edge;
        let asker = edge.switchboard.upstreams.get(upstream)?.asker();
        if !(self.call.client.capabilities.elicitation_url() && asker.elicitation) {
            return None;
        }
        let pages = pages_required(asker, &error.object)?;
        let (handle, requests) = edge.pages.ask(self.call.client.principal, inputs, pages)?;
        let round = round.saturating_add(1);
        if round > edge.switchboard.request_states.rounds {
            return Some(self.too_many_rounds(Some(upstream.clone())));
        }
        Some(self.pages(upstream, handle, round, &requests))
    }

    fn pages(&self, upstream: &UpstreamName, pages: Handle, round: u32, requests: &Bytes) -> Finished {
        let state = RequestState::Restart { upstream: upstream.to_string(), pages: pages.text(), round };
        self.input_required(state, requests)
    }

    fn asks(&self, call: Handle, round: &Round) -> Finished {
        self.input_required(RequestState::Parked { call: call.text(), round: round.number }, &round.requests)
    }

    /// The result that asks (S-MRTR-01).
    fn input_required(&self, state: RequestState, requests: &Bytes) -> Finished {
        // This request may have declared less than the one that began the call.
        if let Some(undeclared) = self.undeclared(requests) {
            return undeclared;
        }
        let states = &self.answering.edge.switchboard.request_states;
        spans::record_ending(&self.call.span, Ending::Result);
        match states.seal(&self.answering.binding(self.call), state, SystemTime::now()) {
            Ok(state) => self.answering.to(|to| respond::input_required(to, requests, &state)),
            Err(fault) => self.error(&fault.to_string(), None),
        }
    }

    fn undeclared(&self, requests: &Bytes) -> Option<Finished> {
        let requests = Object::parse(requests.clone(), crate::protocol::json::Limits::NONE).ok()?;
        requests.iter().find_map(|(_, request)| match puttable(&self.call.client.capabilities, request) {
            Err(NotPut::Undeclared(needed)) => Some(respond::undeclared(&self.answering.id, needed)),
            _ => None,
        })
    }

    fn failed(&self, failure: Failure) -> Finished {
        self.answering.respond(self.call, Err(failure))
    }

    /// The server asks oftener than one call may.
    fn too_many_rounds(&self, upstream: Option<UpstreamName>) -> Finished {
        let rounds = self.answering.edge.settings.bounds.input_rounds;
        let why = format!("it asked for input more than {rounds} times");
        match upstream {
            Some(upstream) => {
                self.failed(Failure::Upstream { upstream, error: UpstreamError::protocol(why) })
            }
            None => self.error(&why, None),
        }
    }

    /// What became of the call is not known here, and it is not made again by itself (S-MRTR-18).
    fn lost(&self) -> Finished {
        let record = FailureRecord::of_gateway(Reason::ParkedCallLost, false, None, Ran::Unknown).json();
        let text = "the call that this answers is lost; whether to make it again is for the user to say";
        respond::error(Some(&self.answering.id), StatusCode::OK, INVALID_PARAMS, text, Some(&record))
    }

    fn overloaded(&self) -> Finished {
        let record = FailureRecord::of_gateway(Reason::Overloaded, true, Some(1000), Ran::Unknown).json();
        self.error("too many calls wait for answers of their clients", Some(&record))
    }

    fn error(&self, text: &str, data: Option<&str>) -> Finished {
        respond::error(Some(&self.answering.id), StatusCode::OK, INTERNAL_ERROR, text, data)
    }
}
