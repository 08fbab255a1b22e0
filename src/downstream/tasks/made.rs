//! How a call becomes a task of the gateway's: by its client's wish, because its upstream made one of it, or because it takes
//! its time.
//!
//! Always: the call of a task is nobody's request any longer: it ends with its task alone, and asks its client through that.
//! Not here: which calls become tasks (`core`, `parking`, `dispatch::wish`).

use std::sync::{Arc, Mutex, PoisonError};

use actix_web::web::Data;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::dispatch::{BegunTask, Call, Switchboard, TaskLink, TaskSink, TaskUse};
use crate::downstream::edge::Edge;
use crate::names::UpstreamName;
use crate::parked::{Running, Story};
use crate::protocol::era::Revision;
use crate::protocol::method::Method;
use crate::protocol::task::TaskFacts;
use crate::tasks::{Beginning, MakeStory, NewTask, Refused, TaskHandle, TaskInputs};
use crate::upstream::events::event_queue;

/// A call that becomes a task.
pub(in crate::downstream) struct Made<'a> {
    pub(in crate::downstream) edge: &'a Data<Edge>,
    pub(in crate::downstream) call: &'a Call,
    /// What its client speaks.
    pub(in crate::downstream) revision: Revision,
    /// How its client is asked from now on.
    pub(in crate::downstream) inputs: TaskInputs,
}

impl Made<'_> {
    /// Its client wishes it, for so many milliseconds: nothing of it was sent yet. The second part says when its upstream
    /// has made a task of it, too, and gives the words for the model that came with that.
    pub(super) async fn hosted(
        self,
        upstream: UpstreamName,
        tool: String,
        ttl_ms: Option<u64>,
    ) -> Result<(TaskHandle, oneshot::Receiver<Option<Bytes>>), Box<Refused>> {
        let (sink, events) = event_queue(self.edge.settings.bounds.stream_queue);
        let mut call = self.call.as_task(self.inputs.port(), Some(sink));
        let (switchboard, revision) = (Arc::clone(&self.edge.switchboard), self.revision);
        let (made, made_upstream) = oneshot::channel();
        let story: MakeStory = Box::new(move |owner| {
            call.task = TaskUse::Owned(Arc::new(Overheard { owner, made: Mutex::new(Some(made)) }));
            let span = call.span.clone();
            let story = async move { switchboard.tell(Method::CallTool, &call, revision).await };
            Box::pin(story.instrument(span))
        });
        let new = self.new_task(upstream, tool, ttl_ms);
        let created = self.edge.tasks.create(new, Beginning::Hosted { events: Some(events), story }).await;
        created.map(|task| (task, made_upstream))
    }

    /// Its upstream made a task of it.
    pub(super) async fn linked(self, begun: BegunTask) -> Result<TaskHandle, Box<Refused>> {
        let (sink, events) = event_queue(self.edge.settings.bounds.stream_queue);
        let call = self.call.as_task(self.inputs.port(), Some(sink));
        let switchboard = Arc::clone(&self.edge.switchboard);
        let link = begun.link();
        let new = self.new_task(begun.upstream.clone(), begun.tool.clone(), None);
        let story: MakeStory = Box::new(move |owner| {
            let span = call.span.clone();
            let story = async move { switchboard.driven(&call, begun, &owner).await };
            Box::pin(story.instrument(span))
        });
        self.edge.tasks.create(new, Beginning::Linked { link, events: Some(events), story }).await
    }

    /// It takes its time; its call is under way.
    pub(in crate::downstream) async fn called(
        self,
        upstream: UpstreamName,
        tool: String,
        running: Running,
    ) -> Result<TaskHandle, Box<Refused>> {
        let call = self.call.as_task(self.inputs.port(), self.call.events.clone());
        let switchboard = Arc::clone(&self.edge.switchboard);
        let new = self.new_task(upstream, tool, None);
        let followed = move |begun: Box<BegunTask>, owner: Arc<dyn TaskSink>| -> Story {
            let span = call.span.clone();
            Box::pin(async move { follow(&switchboard, &call, *begun, owner).await }.instrument(span))
        };
        self.edge.tasks.create(new, Beginning::Called { running, followed: Box::new(followed) }).await
    }

    fn new_task(&self, upstream: UpstreamName, tool: String, ttl_ms: Option<u64>) -> NewTask {
        let client = &self.call.client;
        NewTask {
            principal: client.principal,
            endpoint: client.profile.clone(),
            revision: self.revision,
            capabilities: client.capabilities.clone(),
            upstream,
            tool,
            ttl_ms,
            trace_id: self.call.trace.parent.as_ref().map(|parent| format!("{:032x}", parent.trace_id)),
            inputs: self.inputs.clone(),
        }
    }
}

/// Passes everything on, and says once that an upstream made a task.
struct Overheard {
    owner: Arc<dyn TaskSink>,
    made: Mutex<Option<oneshot::Sender<Option<Bytes>>>>,
}

impl TaskSink for Overheard {
    fn ttl_ms(&self) -> Option<u64> {
        self.owner.ttl_ms()
    }

    fn dispatching(&self) -> LocalBoxFuture<'_, ()> {
        self.owner.dispatching()
    }

    fn linked(&self, link: TaskLink) -> LocalBoxFuture<'_, ()> {
        self.owner.linked(link)
    }

    fn made_upstream(&self, words: Option<&[u8]>) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(made) = made {
            // Whoever made the task may not wait for it.
            let _ = made.send(words.map(Bytes::copy_from_slice));
        }
    }

    fn status(&self, facts: &TaskFacts) {
        self.owner.status(facts);
    }
}

/// A call that became a task of the gateway's first, and then one of its upstream's.
async fn follow(
    switchboard: &Switchboard,
    call: &Call,
    begun: BegunTask,
    owner: Arc<dyn TaskSink>,
) -> crate::parked::Ended {
    owner.linked(begun.link()).await;
    switchboard.driven(call, begun, &owner).await
}
