//! All tasks: whose they are, under which ids, and how many.
//!
//! Always: a task is its principal's and its endpoint's, and for everybody else there is none; reading a task that is over, and
//! a page of a list, costs the same however many are kept; unfinished ones are bounded for each principal. One gateway at a
//! time has the store, so that every unfinished task is this process's to run: where several share one, a lease per task
//! belongs between `TaskRegistry::claim` and the actor, with its fence in each write (`keeping`). Not here: one task
//! (`actor`), what is written (`record`).

use std::fmt;
use std::sync::Arc;

use super::handle::{SharedEnding, TaskFault, TaskHandle};
use super::inputs::TaskInputs;
use super::record::{Ending, Record, TaskKey};
use super::view::{TaskPage, TaskView};
use crate::auth::principal::Principal;
use crate::config::tasks::TaskSettings;
use crate::dispatch::{BegunTask, Failure, TaskLink, TaskSink};
use crate::names::{ProfileName, UpstreamName};
use crate::parked::{Running, Story};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::store::clock::Clock;
use crate::store::error::StoreError;
use crate::store::records::Records;
use crate::store::seal::Sealer;
use crate::upstream::events::Events;

/// Makes the story of a task, once the task is kept.
pub type MakeStory = Box<dyn FnOnce(Arc<dyn TaskSink>) -> Story>;

/// Says how a call that failed is answered, in the words that a plain call would get (S-TASK-11).
pub type TellFailure = Arc<dyn Fn(&Failure) -> Ending + Send + Sync>;

/// A task that is to be.
#[derive(Debug)]
pub struct NewTask {
    /// Whose.
    pub principal: Principal,
    /// At which endpoint; `None` is `/mcp`.
    pub endpoint: Option<ProfileName>,
    /// What its client speaks.
    pub revision: Revision,
    /// What its client can be asked.
    pub capabilities: ClientCapabilities,
    /// Whose tool.
    pub upstream: UpstreamName,
    /// The tool, by its public name.
    pub tool: String,
    /// How long its client wishes it to be kept, milliseconds from now; bounded here.
    pub ttl_ms: Option<u64>,
    /// The trace that its call belongs to.
    pub trace_id: Option<String>,
    /// How its client is asked.
    pub inputs: TaskInputs,
}

/// How a task begins.
pub enum Beginning {
    /// With a call that was not made yet: its story is made and run once the task is kept.
    Hosted {
        /// What the call tells.
        events: Option<Events>,
        /// Its story.
        story: MakeStory,
    },
    /// With a task that an upstream made of a call: the story follows that.
    Linked {
        /// The upstream's task.
        link: TaskLink,
        /// What the story tells.
        events: Option<Events>,
        /// The story.
        story: MakeStory,
    },
    /// With a call under way, which takes its time.
    Called {
        /// The call, which stands still until the task is kept.
        running: Running,
        /// How it goes on should its upstream still make a task of it.
        followed: Box<dyn FnOnce(Box<BegunTask>, Arc<dyn TaskSink>) -> Story>,
    },
}

/// Why there is no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCreated {
    /// The principal has as many unfinished ones as it may (`tasks.each`); `overloaded`.
    #[error("too many unfinished tasks")]
    TooMany,
    /// It cannot be kept; `store_unavailable`.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Why there is no task, and what it would have begun with: a call under way may go on without.
pub struct Refused {
    /// Why.
    pub why: NotCreated,
    /// As it was given.
    pub beginning: Beginning,
}

/// A cursor that was not handed out here for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor")]
pub struct BadTaskCursor;

/// Why tasks cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// `-32602` (S-TASK-13).
    #[error(transparent)]
    BadCursor(#[from] BadTaskCursor),
    /// `store_unavailable`.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// See the module head.
pub struct TaskRegistry {
    pub(super) records: Arc<dyn Records>,
    sealer: Arc<Sealer>,
    clock: Clock,
    settings: TaskSettings,
    tell_failure: TellFailure,
}

impl TaskRegistry {
    /// Over this store; [`TaskRegistry::resume`] has to be called once.
    pub fn new(
        records: Arc<dyn Records>,
        sealer: Arc<Sealer>,
        clock: Clock,
        settings: TaskSettings,
        tell_failure: TellFailure,
    ) -> Arc<Self> {
        Arc::new(TaskRegistry { records, sealer, clock, settings, tell_failure })
    }

    /// Makes a task: when this resolves well, it is kept (I3, S-TX-04), and its story has begun, on this thread. A client that
    /// stops waiting before that has no task.
    pub async fn create(
        self: &Arc<Self>,
        new: NewTask,
        beginning: Beginning,
    ) -> Result<TaskHandle, Box<Refused>> {
        todo!()
    }

    /// The task that this client knows by this id (S-TASK-10).
    pub async fn find(
        self: &Arc<Self>,
        principal: Principal,
        endpoint: Option<&ProfileName>,
        id: &str,
    ) -> Result<TaskHandle, TaskFault> {
        todo!()
    }

    /// The task of that key, for operators.
    pub async fn find_by_key(self: &Arc<Self>, key: TaskKey) -> Result<TaskHandle, TaskFault> {
        todo!()
    }

    /// A page of the client's tasks (S-TASK-13).
    pub async fn list(
        &self,
        principal: Principal,
        endpoint: Option<&ProfileName>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<TaskPage, NotListed> {
        todo!()
    }

    pub(super) async fn view_of(&self, key: TaskKey) -> Result<TaskView, TaskFault> {
        todo!()
    }
    pub(super) async fn ending_of(&self, key: TaskKey) -> Result<SharedEnding, TaskFault> {
        todo!()
    }
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
    pub(super) fn is_expired(&self, record: &Record) -> bool {
        todo!()
    }
    pub(super) async fn settle_cancelled(
        &self,
        view: TaskView,
    ) -> Result<TaskView, super::handle::NotCancelled> {
        todo!()
    }
}

impl fmt::Debug for TaskRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskRegistry")
    }
}
