//! Tasks that an upstream keeps: how a call is allowed to become one, and how it is reached afterwards.
//!
//! Always: a task is asked for only where the upstream said it makes tasks of calls (S-TASK-02, S-TX-15), and reached on the
//! connection it was made on, which stays open as long as somebody holds the [`TaskPlace`]. Not here: polling, what a task
//! means to a client (`dispatch`, `tasks`).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::UpstreamCall;
use super::connect::Address;
use super::error::UpstreamError;
use super::handle::UpstreamHandle;
use super::link::Link;
use super::negotiation::{Settled, refused_too_often, settle};
use super::probe::Facts;
use crate::policy::Permit;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::protocol::task::{Dialect, EXTENSION, TaskFacts};

/// The caller can deal with a task in place of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskWish {
    /// How long the task is to be kept, in milliseconds from its creation; the extension has no such wish.
    pub ttl_ms: Option<u64>,
}

/// What an upstream said of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TasksOffered {
    /// Which kind.
    pub dialect: Dialect,
    /// Whether they can be cancelled.
    pub cancel: bool,
}

/// A call that became a task of the upstream.
#[derive(Debug, Clone)]
pub struct CreatedTask {
    /// What the upstream says of it, its own id included.
    pub facts: TaskFacts,
    /// The whole result that said so.
    pub result: Object,
    /// Where it is reached.
    pub place: TaskPlace,
}

/// Where an upstream's task is reached.
#[derive(Debug, Clone)]
pub struct TaskPlace {
    pub(super) dialect: Dialect,
    /// `None` where every request goes by itself.
    pub(super) link: Option<Arc<Link>>,
}

/// As much of a place as can be kept beyond the end of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPlace {
    /// How the upstream speaks of the task.
    pub dialect: Dialect,
}

impl TaskPlace {
    /// How the upstream speaks of the task.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// What of it can be kept.
    pub fn kept(&self) -> KeptPlace {
        KeptPlace { dialect: self.dialect }
    }
}

/// What these facts say of tasks made of tool calls.
pub(super) fn offered(facts: &Facts) -> Option<TasksOffered> {
    let has = |object: &Object, key: &str| object.get(key).is_some_and(|value| value.starts_with(b"{"));
    match facts.revision {
        revision if revision.era() == Era::Stateless => {
            facts.capabilities.extension(EXTENSION)?;
            Some(TasksOffered { dialect: Dialect::Extension, cancel: true })
        }
        Revision::V2025_11_25 => {
            let tasks = facts.capabilities.object("tasks")?;
            let makes = tasks.object("requests")?.object("tools").is_some_and(|tools| has(&tools, "call"));
            makes.then(|| TasksOffered { dialect: Dialect::Core, cancel: has(&tasks, "cancel") })
        }
        _ => None,
    }
}

/// What a result is that answers a call with a wish for a task.
pub(super) fn created(
    answer: &Answer,
    dialect: Dialect,
    link: Option<Arc<Link>>,
) -> Result<Option<CreatedTask>, UpstreamError> {
    let Answer::Result(result) = answer else { return Ok(None) };
    let task = match dialect {
        Dialect::Core => result.object("task"),
        Dialect::Extension => (result.get("resultType") == Some(b"\"task\"")).then(|| result.clone()),
    };
    let Some(task) = task else { return Ok(None) };
    let facts = TaskFacts::of(dialect, &task).map_err(|fault| UpstreamError::protocol(fault.to_string()))?;
    Ok(Some(CreatedTask { facts, result: result.clone(), place: TaskPlace { dialect, link } }))
}

impl UpstreamHandle {
    /// What it says of tasks; `None` when it makes none of calls, or is not known yet.
    pub fn tasks_offered(&self) -> Option<TasksOffered> {
        offered(&*self.known_facts()?)
    }

    /// Whether this call may come back as a task, and of which kind.
    pub(super) fn may_become_task(&self, call: &UpstreamCall<'_>) -> Option<Dialect> {
        if call.method != Method::CallTool || call.circumstances.task.is_none() {
            return None;
        }
        self.tasks_offered().map(|offered| offered.dialect)
    }

    /// Makes a request about a task where it was made. `patience` bounds the wait; without it only the end of the
    /// connection does, as for `tasks/result`, which answers when the task is over (S-TASK-11).
    pub async fn task_request(
        &self,
        permit: Permit,
        place: &TaskPlace,
        call: &UpstreamCall<'_>,
        patience: Option<Duration>,
    ) -> Result<Answer, UpstreamError> {
        debug_assert_eq!(permit.upstream(), self.name(), "a permit is for one upstream");
        let request = async {
            match &place.link {
                Some(link) => link.call(call, None, &AtomicBool::new(false)).await,
                None => self.stateless_task_request(call).await,
            }
        };
        match patience {
            None => request.await,
            Some(patience) => {
                tokio::time::timeout(patience, request).await.unwrap_or(Err(UpstreamError::Timeout(patience)))
            }
        }
    }

    async fn stateless_task_request(&self, call: &UpstreamCall<'_>) -> Result<Answer, UpstreamError> {
        let Address::Http { stateless, .. } = &self.shared.address else {
            return Err(UpstreamError::unavailable("it is no longer reached by single requests"));
        };
        let mut revision = self.connected().await?.revision;
        for _ in 0..super::negotiation::ATTEMPTS {
            match settle(stateless.call(call, revision, None).await?, revision)? {
                Settled::Answered(answer) => return Ok(answer),
                Settled::Again(named) => revision = named,
            }
        }
        Err(refused_too_often())
    }
}
