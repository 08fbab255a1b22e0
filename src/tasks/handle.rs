//! How requests reach one task.
//!
//! Always: what a task that is over shows comes from the store; what runs shows what its actor published last. Not here:
//! whose task it is (`registry`).

use std::sync::Arc;

use actix::Addr;
use tokio::sync::{oneshot, watch};

use super::actor::TaskActor;
use super::carried::Way;
use super::messages::{Attach, Cancel, Suspend, Update};
use super::record::Ending;
use super::registry::TaskRegistry;
use super::view::TaskView;
use crate::protocol::json::Object;
use crate::protocol::task::Status;
use crate::store::error::StoreError;

/// Why a task cannot be told of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskFault {
    /// There is none: unknown, another's, expired or tampered with, which look the same (S-TASK-19).
    #[error("unknown task")]
    Unknown,
    /// The store does not answer ([`crate::protocol::failure::Reason::StoreUnavailable`]).
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Why a task was not cancelled.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotCancelled {
    /// It was over before (S-TASK-15); as it is.
    #[error("the task is over")]
    AlreadyOver(Box<TaskView>),
    /// See [`TaskFault`].
    #[error(transparent)]
    Fault(#[from] TaskFault),
}

/// One task, for a request of its client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskHandle {
    pub(super) registry: Arc<TaskRegistry>,
    pub(super) source: Source,
}

/// Where what is shown comes from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// It runs.
    Live(Addr<TaskActor>, watch::Receiver<TaskView>),
    /// It is over, or somebody else's to settle.
    Kept(TaskView),
}

impl Source {
    pub(super) fn view(&self) -> TaskView {
        match self {
            Source::Live(_, shown) => shown.borrow().clone(),
            Source::Kept(view) => view.clone(),
        }
    }

    pub(super) async fn suspend(&self) {
        if let Source::Live(actor, _) = self {
            // One that is gone has nothing to leave.
            let _ = actor.send(Suspend).await;
        }
    }
}

impl TaskHandle {
    /// By which its client knows it.
    pub fn id(&self) -> String {
        self.view().record.id.clone()
    }

    /// How it is now. Of a task that was over already, the ending is not read ([`TaskHandle::read`]).
    pub fn view(&self) -> TaskView {
        self.source.view()
    }

    /// How it is now, with its ending if it has one: one look into the store for a task that is over.
    pub async fn read(&self) -> Result<TaskView, TaskFault> {
        let view = self.view();
        self.completed(view).await
    }

    /// Waits until it is over (S-TASK-11), however it ends. Any number may wait; who stops waiting changes nothing.
    pub async fn until_over(&self) -> Result<TaskView, TaskFault> {
        let view = match &self.source {
            Source::Live(_, shown) => {
                let mut shown = shown.clone();
                let key = shown.borrow().key;
                let over = shown.wait_for(TaskView::is_over).await.map(|view| view.clone());
                match over {
                    Ok(view) => view,
                    // Its actor ended without a word: the store knows more.
                    Err(_) => self.registry.view_of(key).await?,
                }
            }
            Source::Kept(view) => view.clone(),
        };
        self.completed(view).await
    }

    /// Watches it: the receiver sees every state that is shown from now on, and closes after the last.
    pub fn changes(&self) -> Option<watch::Receiver<TaskView>> {
        match &self.source {
            Source::Live(_, shown) => Some(shown.clone()),
            Source::Kept(_) => None,
        }
    }

    /// Cancels it: when this resolves well, `cancelled` is kept, and its call is given up. A task that is over stays so.
    pub async fn cancel(&self) -> Result<TaskView, NotCancelled> {
        if let Source::Live(actor, shown) = &self.source {
            let (told, result) = oneshot::channel();
            if actor.send(Cancel { told }).await.is_ok()
                && let Ok(result) = result.await
            {
                return result;
            }
            // It ended meanwhile.
            let view = self.registry.view_of(shown.borrow().key).await?;
            return self.registry.settle_cancelled(view).await;
        }
        self.registry.settle_cancelled(self.view()).await
    }

    /// Brings answers to what it asks, by key; what names no open question is ignored (S-TX-06). When this resolves, later
    /// looks no longer show what was answered.
    pub async fn update(&self, responses: Object) {
        if let Source::Live(actor, _) = &self.source {
            // One that ended meanwhile asks nothing.
            let _ = actor.send(Update { responses }).await;
        }
    }

    /// A way by which its questions reach its client (core dialect), as long as what this gives is kept (S-TASK-17).
    pub async fn attach(&self, way: Way) -> Attached {
        let Source::Live(actor, _) = &self.source else { return Attached::default() };
        actor.send(Attach { way }).await.ok().flatten().unwrap_or_default()
    }

    async fn completed(&self, mut view: TaskView) -> Result<TaskView, TaskFault> {
        if view.is_gone || self.registry.is_expired(&view.record) {
            return Err(TaskFault::Unknown);
        }
        let has_ending = matches!(view.record.status, Status::Completed | Status::Failed);
        if view.ending.is_none() && has_ending {
            view.ending = Some(self.registry.ending_of(view.key).await?);
        }
        Ok(view)
    }
}

/// Keeps a way open; dropping it closes the way.
#[derive(Debug, Default)]
pub struct Attached {
    pub(super) _way: Option<tokio_util::sync::DropGuard>,
}

/// The ending of a task, shared by all that are shown it.
pub(super) type SharedEnding = Arc<Ending>;
