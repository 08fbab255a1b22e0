//! What a caller can do with a task, and what is told of one that an upstream keeps.
//!
//! Always: a caller that can do nothing with tasks never sees one. Not here: the gateway's own record of a task (`tasks`),
//! requests about an upstream's (`upstream::task`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use super::driven::Followed;
use crate::catalog::snapshot::View;
use crate::names::UpstreamName;
use crate::protocol::task::{Dialect, TaskFacts};
use crate::upstream::task::{CreatedTask, KeptPlace};

/// What becomes of a call whose upstream makes a task of it.
#[derive(Clone, Default)]
pub enum TaskUse {
    /// The caller gets the plain answer: a task that an upstream cannot do without is followed to its end first.
    #[default]
    Plain,
    /// The same, for a caller that could have asked for a task, and did not: a tool that works as a task alone is refused
    /// (S-TASK-03).
    Unasked,
    /// The caller would take a task as the answer, where the upstream decides on one (S-TX-02).
    Offered,
    /// The call is a task already: what its upstream makes of it is told here, and followed to its end.
    Owned(Arc<dyn TaskSink>),
}

impl fmt::Debug for TaskUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskUse::Plain => "Plain",
            TaskUse::Unasked => "Unasked",
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

    /// The upstream's task is kept; these are its words for the model until it is over, raw, if it has any (S-TASK-23).
    fn made_upstream(&self, words: Option<&[u8]>) {
        let _ = words;
    }

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

/// A call that its upstream made a task of, for a caller that takes one. Dropped, it is cancelled.
#[derive(Debug)]
pub struct BegunTask {
    /// Whose task.
    pub upstream: UpstreamName,
    /// The public name of the tool.
    pub tool: String,
    /// The task itself.
    pub created: CreatedTask,
    /// The view by which the URIs of its result become public.
    pub(super) view: Arc<View>,
    pub(super) followed: Followed,
}

impl BegunTask {
    /// By which it is found again.
    pub fn link(&self) -> TaskLink {
        TaskLink {
            upstream: self.upstream.to_string(),
            tool: self.tool.clone(),
            id: self.created.facts.id.clone(),
            dialect: self.created.place.dialect(),
            place: self.created.place.kept(),
            facts: self.created.facts.clone(),
        }
    }
}

/// What bounds the tasks of upstreams.
#[derive(Debug, Clone, Copy)]
pub struct TaskRules {
    /// How long upstreams are told to keep a task for which nobody says how long.
    pub ttl: Duration,
    /// Whether the gateway makes tasks itself of calls of some tool.
    pub hosts: bool,
    /// Whether a task is followed to its end for callers that can do nothing with one.
    pub drive: bool,
}
