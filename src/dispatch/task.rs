//! What a caller can do with a task, and what is told of one that an upstream keeps.
//!
//! Always: a caller that can do nothing with tasks never sees one. Not here: the gateway's own record of a task (`tasks`),
//! requests about an upstream's (`upstream::task`).

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::names::UpstreamName;
use crate::protocol::task::{Dialect, TaskFacts};
use crate::upstream::task::{CreatedTask, KeptPlace};

/// What becomes of a call whose upstream makes a task of it.
#[derive(Clone, Default)]
pub enum TaskUse {
    /// The caller gets the plain answer: a task that an upstream cannot do without is followed to its end first.
    #[default]
    Plain,
    /// The caller would take a task as the answer, where the upstream decides on one (S-TX-02).
    Offered,
    /// The call is a task already: what its upstream makes of it is told here, and followed to its end.
    Owned(Arc<dyn TaskSink>),
}

impl fmt::Debug for TaskUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskUse::Plain => "Plain",
            TaskUse::Offered => "Offered",
            TaskUse::Owned(_) => "Owned",
        })
    }
}

/// Who keeps the gateway's record of a task, as the story behind it tells it.
pub trait TaskSink: Send + Sync {
    /// How long its client wishes it to be kept, in milliseconds: what upstreams are told.
    fn ttl_ms(&self) -> Option<u64>;

    /// The call is about to leave for its upstream; when this resolves, that is kept (I4: it is never sent again).
    fn dispatching(&self) -> LocalBoxFuture<'_, ()>;

    /// The upstream keeps a task for it; when this resolves, that is kept, so that it is found again after a restart.
    fn linked(&self, link: TaskLink) -> LocalBoxFuture<'_, ()>;

    /// What the upstream says of its task now. States that cannot follow what is known change nothing (S-TASK-06).
    fn status(&self, facts: &TaskFacts);
}

/// An upstream's task, as it is found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLink {
    /// Key of the upstream.
    pub upstream: String,
    /// The public name of the tool.
    pub tool: String,
    /// The upstream's id of the task.
    pub id: String,
    /// How the upstream speaks of it.
    pub dialect: Dialect,
    /// Where it is reached.
    pub place: KeptPlace,
    /// What the upstream said of it first.
    pub facts: TaskFacts,
}

/// A call that its upstream made a task of, for a caller that takes one.
#[derive(Debug)]
pub struct BegunTask {
    /// Whose task.
    pub upstream: UpstreamName,
    /// The public name of the tool.
    pub tool: String,
    /// The task itself.
    pub created: CreatedTask,
}
