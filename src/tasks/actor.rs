//! The actor of one task that is not over: runs its story, and does what [`State`] says.
//!
//! Always: the story runs on the thread that made the task, and only once the task is kept; one write is under way at a time;
//! whoever waits is told. However the actor ends, its place is free again; what it did not finish, the next reader settles
//! (`registry`). Not here: what may happen to a task (`state`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::WeakAddr;
use actix::prelude::*;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use futures_util::stream;
use tokio::sync::{oneshot, watch};

use super::handle::{Attached, NotCancelled, SharedEnding, Source, TaskFault, TaskHandle};
use super::inputs::TaskInputs;
use super::keeping::writes;
use super::messages::{Attach, Cancel, Dispatching, Linked, Said, Suspend, Update};
use super::record::{Ending, TaskKey};
use super::registry::{Beginning, NotCreated, Place, Refused, TaskRegistry};
use super::state::{Change, Effect, Event, State, Ticket, Verdict};
use super::view::TaskView;
use crate::dispatch::{Failure, Outcome, TaskLink, TaskSink};
use crate::parked::{Ended, Story};
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object};
use crate::protocol::task::TaskFacts;
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Expect, VALUE_LIMIT};
use crate::upstream::events::{CallEvent, Events};

/// Between two attempts to keep something.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a timer is set for.
const LONGEST_TIMER: Duration = Duration::from_secs(24 * 60 * 60);

/// Who made a task, and what it begins with once it is kept.
pub(super) struct Creating {
    pub(super) beginning: Beginning,
    pub(super) reply: oneshot::Sender<Result<TaskHandle, Box<Refused>>>,
}

/// See the module head.
pub(super) struct TaskActor {
    registry: Arc<TaskRegistry>,
    place: Place,
    key: TaskKey,
    state: State,
    inputs: TaskInputs,
    shown: watch::Sender<TaskView>,
    creating: Option<Creating>,
    /// Shared with the future that polls it, so that it can be dropped at once.
    story: Rc<RefCell<Option<Story>>>,
    expiry: Option<SpawnHandle>,
    waiting: HashMap<Ticket, Waiting>,
    tickets: Ticket,
    ending: Option<SharedEnding>,
    /// Whether operators know that it is over.
    was_told_over: bool,
    /// Why the last write failed.
    fault: Option<StoreError>,
}

/// Who waits to be told.
enum Waiting {
    Story(oneshot::Sender<()>),
    Client(oneshot::Sender<Result<TaskView, NotCancelled>>),
}

/// What is asked of the client is not what it was.
struct AsksChanged;

impl TaskActor {
    /// Takes a new task over, on this thread.
    pub(super) fn create_task(
        place: Place,
        state: (State, Vec<Effect>),
        inputs: TaskInputs,
        creating: Creating,
    ) {
        let (state, effects) = state;
        TaskActor::create(|ctx| {
            let mut actor = TaskActor::of(place, state, inputs, Some(creating), ctx);
            actor.perform(effects, ctx);
            actor
        });
    }

    /// Takes over one that was kept: follows it with a story if there is one, else it has ended so.
    pub(super) fn resume_task(
        place: Place,
        state: State,
        inputs: TaskInputs,
        drive: impl FnOnce(Arc<dyn TaskSink>) -> Option<(Story, Events)>,
        otherwise: Ending,
    ) {
        TaskActor::create(|ctx| {
            let mut actor = TaskActor::of(place, state, inputs, None, ctx);
            match drive(actor.sink(ctx)) {
                Some((story, events)) => actor.run(story, Some(events), ctx),
                None => actor.happened(Event::Ended(Some(otherwise)), ctx),
            }
            actor
        });
    }

    fn of(
        place: Place,
        state: State,
        inputs: TaskInputs,
        creating: Option<Creating>,
        ctx: &mut Context<Self>,
    ) -> Self {
        let key = place.key();
        let (shown, watched) = watch::channel(TaskView::of(key, state.record().clone()));
        let registry = Arc::clone(place.registry());
        place.occupy(Source::Live(ctx.address(), watched));
        let mut actor = TaskActor {
            registry,
            place,
            key,
            state,
            inputs,
            shown,
            creating,
            story: Rc::default(),
            expiry: None,
            waiting: HashMap::new(),
            tickets: 0,
            ending: None,
            was_told_over: false,
            fault: None,
        };
        actor.await_expiry(ctx);
        actor
    }

    fn happened(&mut self, event: Event, ctx: &mut Context<Self>) {
        let effects = self.state.on(event, self.registry.now_ms());
        self.perform(effects, ctx);
    }

    fn perform(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Write(change) => self.write(change, ctx),
                Effect::Begin => self.begin(ctx),
                Effect::NotCreated => self.not_created(),
                Effect::Publish => self.publish(),
                Effect::ExpiryMoved => self.await_expiry(ctx),
                Effect::DropStory => self.drop_story(),
                Effect::RetryLater => {
                    ctx.run_later(RETRY, |actor, ctx| actor.happened(Event::RetryDue, ctx));
                }
                Effect::Tell(ticket, verdict) => self.tell(ticket, verdict),
                Effect::Finish => {
                    self.place.leave();
                    ctx.stop();
                }
            }
        }
    }

    fn write(&self, change: Change, ctx: &mut Context<Self>) {
        let records = Arc::clone(self.registry.records());
        let writes = writes(self.key, &change, Expect::Any);
        let written = async move { records.write(writes).await };
        ctx.spawn(written.into_actor(self).map(|written, actor, ctx| {
            let event = match written {
                Ok(_) => Event::Kept,
                Err(error) => {
                    tracing::warn!(task = %actor.key.number(), %error, "a task could not be kept");
                    actor.fault = Some(match error {
                        WriteError::Store(error) => error,
                        WriteError::Conflict(_) => StoreError::Busy,
                    });
                    Event::NotKept
                }
            };
            actor.happened(event, ctx);
        }));
    }

    /// It is kept.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        let Some(Creating { beginning, reply }) = self.creating.take() else { return };
        if reply.is_closed() {
            return self.happened(Event::Abandoned, ctx);
        }
        self.registry.audit().begins(self.key, self.state.record());
        let sink = self.sink(ctx);
        match beginning {
            Beginning::Hosted { events, story } | Beginning::Linked { events, story, .. } => {
                self.run(story(sink), events, ctx);
            }
            Beginning::Called { running, followed } => {
                let (story, events, _) = running.into_parts();
                let goes_on = async move {
                    match story.await {
                        Ok(Outcome::Task(begun)) => followed(begun, sink).await,
                        ended => ended,
                    }
                };
                self.run(Box::pin(goes_on), Some(events), ctx);
            }
        }
        // It waited until now.
        let _ = reply.send(Ok(self.task_handle(ctx)));
    }

    fn not_created(&mut self) {
        if let Some(Creating { beginning, reply }) = self.creating.take() {
            let why = NotCreated::Unavailable(self.fault.clone().unwrap_or(StoreError::Busy));
            let _ = reply.send(Err(Box::new(Refused { why, beginning })));
        }
    }

    fn task_handle(&self, ctx: &Context<Self>) -> TaskHandle {
        let source = Source::Live(ctx.address(), self.shown.subscribe());
        TaskHandle { registry: Arc::clone(&self.registry), source }
    }

    fn sink(&self, ctx: &Context<Self>) -> Arc<dyn TaskSink> {
        let ttl_ms = self.state.record().ttl_ms;
        Arc::new(ActorSink { actor: ctx.address().downgrade(), ttl_ms })
    }

    fn run(&mut self, story: Story, events: Option<Events>, ctx: &mut Context<Self>) {
        *self.story.borrow_mut() = Some(story);
        let shared = Rc::clone(&self.story);
        let ended = poll_fn(move |cx| match &mut *shared.borrow_mut() {
            Some(story) => story.as_mut().poll(cx).map(Some),
            None => Poll::Ready(None),
        });
        ctx.spawn(ended.into_actor(self).map(|ended, actor, ctx| {
            let Some(ended) = ended else { return };
            actor.drop_story();
            let is_cancelled = matches!(ended, Err(Failure::TaskCancelled { .. }));
            let ending = (!is_cancelled).then(|| actor.ending_of(ended));
            actor.happened(Event::Ended(ending), ctx);
        }));
        let inputs = self.inputs.clone();
        ctx.add_stream(stream::unfold(inputs, |inputs| async {
            inputs.changed().await;
            Some((AsksChanged, inputs))
        }));
        if let Some(mut events) = events {
            ctx.add_stream(stream::poll_fn(move |cx| events.poll_recv(cx).map(Some)));
        }
    }

    /// Its call is given up if it is under way, and what it asks is asked no longer.
    fn drop_story(&mut self) {
        let story = self.story.borrow_mut().take();
        drop(story);
        self.inputs.close();
    }

    /// What a story's end is to the client of the task.
    fn ending_of(&self, ended: Ended) -> Ending {
        let object = |text| Object::parse(text, Limits::NONE).unwrap_or_else(|_| Object::empty());
        let ending = match ended {
            Ok(Outcome::Relayed { answer, upstream, .. }) => Ending { answer, upstream: Some(upstream) },
            Ok(Outcome::Read { result, upstream, .. }) => {
                Ending { answer: Answer::Result(result), upstream: Some(upstream) }
            }
            Ok(Outcome::Own(result) | Outcome::Lasting(result, _)) => {
                Ending { answer: Answer::Result(object(result)), upstream: None }
            }
            Ok(Outcome::Refused(error)) => {
                let object = object(error);
                let code = object.get("code").and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok());
                let code = code.unwrap_or(crate::protocol::code::INTERNAL_ERROR);
                Ending { answer: Answer::Error(ErrorObject { code, object }), upstream: None }
            }
            Ok(Outcome::Task(begun)) => failed(
                "the server answered the call with another task",
                Reason::UpstreamProtocolError,
                begun.upstream.as_str(),
            ),
            Err(failure) => self.registry.tell_failure(&failure),
        };
        match ending.encode().len() > VALUE_LIMIT {
            true => failed("the result is too large", Reason::ResultTooLarge, &self.state.record().upstream),
            false => ending,
        }
    }

    fn publish(&mut self) {
        if self.state.is_over() && !self.was_told_over {
            self.was_told_over = true;
            self.ending = self.state.ending().cloned().map(Arc::new);
            self.registry.audit().is_over(self.key, self.state.record());
        }
        if self.state.is_gone() && !self.was_told_over {
            self.was_told_over = true;
            self.registry.audit().expires(self.key, self.state.record());
        }
        let asks_in = self.state.asks_in();
        let requests = asks_in.and_then(|_| self.inputs.requests());
        self.shown.send_replace(TaskView {
            key: self.key,
            record: Arc::new(self.state.record().clone()),
            asks_in,
            requests,
            ending: self.ending.clone(),
            is_gone: self.state.is_gone(),
        });
    }

    fn await_expiry(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.expiry.take() {
            ctx.cancel_future(timer);
        }
        let left = self.state.record().expires_ms().saturating_sub(self.registry.now_ms());
        let left = Duration::from_millis(left).min(LONGEST_TIMER);
        self.expiry = Some(ctx.run_later(left, |actor, ctx| {
            actor.expiry = None;
            match actor.registry.is_expired(actor.state.record()) {
                true => actor.happened(Event::TtlOver, ctx),
                false => actor.await_expiry(ctx),
            }
        }));
    }

    fn wait(&mut self, waiting: Waiting) -> Ticket {
        self.tickets += 1;
        self.waiting.insert(self.tickets, waiting);
        self.tickets
    }

    fn tell(&mut self, ticket: Ticket, verdict: Verdict) {
        match self.waiting.remove(&ticket) {
            Some(Waiting::Story(kept)) if verdict == Verdict::Kept => drop(kept.send(())),
            Some(Waiting::Client(told)) => {
                let view = || self.shown.borrow().clone();
                let fault = self.fault.clone().unwrap_or(StoreError::Busy);
                let result = match verdict {
                    Verdict::Kept | Verdict::Cancelled => Ok(view()),
                    Verdict::AlreadyOver => Err(NotCancelled::AlreadyOver(Box::new(view()))),
                    Verdict::Gone => Err(TaskFault::Unknown.into()),
                    Verdict::Unavailable => Err(TaskFault::Unavailable(fault).into()),
                };
                // Its client may have gone.
                let _ = told.send(result);
            }
            _ => {}
        }
    }
}

fn failed(text: &str, reason: Reason, upstream: &str) -> Ending {
    let upstream = crate::names::UpstreamName::new(upstream);
    let record = FailureRecord {
        reason,
        upstream: Some(&upstream),
        retryable: false,
        retry_after_ms: None,
        outcome: Ran::Executed,
    };
    Ending::failure(text, &record)
}

impl Actor for TaskActor {
    type Context = Context<Self>;
}

impl StreamHandler<AsksChanged> for TaskActor {
    fn handle(&mut self, _: AsksChanged, ctx: &mut Self::Context) {
        let asks_in = self.inputs.asks_in();
        self.happened(Event::Asks(asks_in), ctx);
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}

impl StreamHandler<CallEvent> for TaskActor {
    /// Of what a call tells, only how far it is means anything to whoever looks later (S-TX-10).
    fn handle(&mut self, event: CallEvent, ctx: &mut Self::Context) {
        if let CallEvent::Progress(params) = event {
            self.happened(Event::Progressed(params.as_bytes().to_vec()), ctx);
        }
    }

    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Cancel> for TaskActor {
    type Result = ();

    fn handle(&mut self, cancel: Cancel, ctx: &mut Self::Context) {
        let ticket = self.wait(Waiting::Client(cancel.told));
        self.happened(Event::Cancel(ticket), ctx);
    }
}

impl Handler<Update> for TaskActor {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Self::Context) {
        self.inputs.answer(&update.responses);
        let asks_in = self.inputs.asks_in();
        self.happened(Event::Asks(asks_in), ctx);
    }
}

impl Handler<Attach> for TaskActor {
    type Result = Option<Attached>;

    fn handle(&mut self, attach: Attach, _: &mut Self::Context) -> Self::Result {
        match &self.inputs {
            TaskInputs::Carried(inputs) => Some(Attached { _way: Some(inputs.attach(attach.way)) }),
            TaskInputs::None | TaskInputs::Keyed(_) => None,
        }
    }
}

impl Handler<Dispatching> for TaskActor {
    type Result = ();

    fn handle(&mut self, dispatching: Dispatching, ctx: &mut Self::Context) {
        let ticket = self.wait(Waiting::Story(dispatching.kept));
        self.happened(Event::Dispatching(ticket), ctx);
    }
}

impl Handler<Linked> for TaskActor {
    type Result = ();

    fn handle(&mut self, linked: Linked, ctx: &mut Self::Context) {
        let ticket = self.wait(Waiting::Story(linked.kept));
        self.happened(Event::Linked(linked.link, ticket), ctx);
    }
}

impl Handler<Said> for TaskActor {
    type Result = ();

    fn handle(&mut self, said: Said, ctx: &mut Self::Context) {
        self.registry.audit().heard();
        self.happened(Event::Said(said.facts), ctx);
    }
}

impl Handler<Suspend> for TaskActor {
    type Result = ();

    /// An upstream's task is gone on with after the next start: dropping its story would cancel it.
    fn handle(&mut self, _: Suspend, ctx: &mut Self::Context) {
        if self.state.record().link.is_some() {
            std::mem::forget(self.story.borrow_mut().take());
        }
        self.place.leave();
        ctx.stop();
    }
}

/// The record of a task, as its story tells it. Once the task has ended, nothing that is told resolves: the story is about
/// to be dropped.
struct ActorSink {
    actor: WeakAddr<TaskActor>,
    ttl_ms: u64,
}

impl ActorSink {
    /// Sends what is to be kept, and resolves when it is.
    async fn until_kept<M>(&self, message: impl FnOnce(oneshot::Sender<()>) -> M)
    where
        M: Message<Result = ()> + Send + 'static,
        TaskActor: Handler<M>,
    {
        let (kept, told) = oneshot::channel();
        if let Some(actor) = self.actor.upgrade() {
            let _ = actor.send(message(kept)).await;
        } else {
            drop(kept);
        }
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl TaskSink for ActorSink {
    fn ttl_ms(&self) -> Option<u64> {
        Some(self.ttl_ms)
    }

    fn dispatching(&self) -> LocalBoxFuture<'_, ()> {
        self.until_kept(|kept| Dispatching { kept }).boxed_local()
    }

    fn linked(&self, link: TaskLink) -> LocalBoxFuture<'_, ()> {
        self.until_kept(|kept| Linked { link: Box::new(link), kept }).boxed_local()
    }

    fn status(&self, facts: &TaskFacts) {
        // What finds no place is said again with the next look.
        if let Some(actor) = self.actor.upgrade() {
            let _ = actor.try_send(Said { facts: facts.clone() });
        }
    }
}
