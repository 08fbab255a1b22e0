//! Tasks that an upstream keeps: how a call is allowed to become one, and where it is reached afterwards.
//!
//! Always: a task is asked for only where the upstream said it makes tasks of calls (S-TASK-02, S-TX-15), and reached on the
//! connection it was made on, which stays open as long as somebody holds the [`TaskPlace`]. Not here: requests
//! (`task_calls`), what arrives about them (`link_tasks`, `task_questions`), polling and what a task means to a client
//! (`dispatch`, `tasks`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::call::{Activity, Client, EventSink};
use super::error::UpstreamError;
use super::link::{Link, Wire};
use super::link_tasks::LinkTask;
use super::pool::KeptSeat;
use super::probe::Facts;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
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

/// Where an upstream's task is reached. While one of its clones lives, so does the connection, and what the upstream asks
/// or tells about the task reaches its client ([`TaskPlace::belongs_to`]).
#[derive(Debug, Clone)]
pub struct TaskPlace(Arc<Place>);

#[derive(Debug)]
struct Place {
    dialect: Dialect,
    id: String,
    /// `None` where every request goes by itself.
    held: Option<Held>,
}

/// A task on a connection.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) link: Arc<Link>,
    pub(super) task: Arc<LinkTask>,
    /// Its share of a connection of the pool.
    pub(super) _seat: Option<KeptSeat>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.link.tasks.leave(&self.task);
    }
}

/// As much of a place as can be kept beyond the end of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPlace {
    /// How the upstream speaks of the task.
    pub dialect: Dialect,
    /// The session over HTTP in which it was made, by its `Mcp-Session-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The revision that is spoken there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

impl KeptPlace {
    /// One that needs no connection, or of which none is known.
    pub fn of(dialect: Dialect) -> Self {
        KeptPlace { dialect, session: None, revision: None }
    }
}

impl TaskPlace {
    pub(super) fn new(dialect: Dialect, id: String, held: Option<Held>) -> Self {
        TaskPlace(Arc::new(Place { dialect, id, held }))
    }

    /// How the upstream speaks of the task.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// The upstream's own id of the task.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.0.held.as_ref()
    }

    /// What of it can be kept.
    pub fn kept(&self) -> KeptPlace {
        let mut kept = KeptPlace::of(self.0.dialect);
        if let Some(Held { link, .. }) = self.held()
            && let Wire::Http(wire) = &link.wire
        {
            kept.session = wire.session();
            kept.revision = link.facts().ok().map(|facts| facts.revision.text().to_owned());
        }
        kept
    }

    /// From now on its questions, its progress and its logs are for this client and go to these events. Whoever makes
    /// requests about it ([`task_request`](super::handle::UpstreamHandle::task_request)) is its client, too.
    pub fn belongs_to(&self, client: &Arc<Client>, events: Option<&EventSink>) {
        if let Some(held) = self.held() {
            held.task.belongs_to(client, events);
        }
    }

    /// Resolves with what the upstream tells of the task (S-TASK-18), the last word of it alone, to one who waits; with
    /// `None` when the connection has ended, at once where it had. Where every request goes by itself nothing is told:
    /// then it never resolves.
    pub async fn changed(&self) -> Option<TaskFacts> {
        let Some(Held { link, task, .. }) = self.held() else { return std::future::pending().await };
        tokio::select! {
            biased;
            facts = task.news() => Some(facts),
            () = link.until_ended() => None,
        }
    }

    /// Whether the connection has ended: nothing is reached here any longer.
    pub fn has_ended(&self) -> bool {
        self.held().is_some_and(|held| held.link.has_ended())
    }

    /// When something was last heard of the task by itself, and whether its client is being asked for it: what a deadline
    /// has to heed. `None` where nothing is told.
    pub fn activity(&self) -> Option<&Arc<Activity>> {
        self.held().map(|held| &held.task.activity)
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

/// A result that says that a call became a task.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) facts: TaskFacts,
    pub(super) result: Object,
}

/// What an answer is to a call with a wish for a task: `None` is an answer like any other. A task that is none is an error,
/// and so is the end of the call: whether it runs, nobody knows.
pub(super) fn created(answer: &Answer, dialect: Dialect) -> Result<Option<Begun>, UpstreamError> {
    let Answer::Result(result) = answer else { return Ok(None) };
    let task = match dialect {
        // What has content is a tool's result, whatever else stands in it.
        Dialect::Core if result.get("task").is_none() || result.get("content").is_some() => return Ok(None),
        Dialect::Core => result.object("task").unwrap_or_else(Object::empty),
        Dialect::Extension if result.get("resultType") == Some(b"\"task\"") => result.clone(),
        Dialect::Extension => return Ok(None),
    };
    let facts = TaskFacts::of(dialect, &task).map_err(|fault| UpstreamError::protocol(fault.to_string()))?;
    Ok(Some(Begun { facts, result: result.clone() }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::failure::Ran;
    use crate::protocol::json::Limits;

    fn answer(text: &str) -> Answer {
        Answer::Result(Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::NONE).expect("valid"))
    }

    #[test]
    fn s_task_05_a_task_that_is_none_ends_the_call_and_nobody_knows_whether_it_runs() {
        let rows = [
            (Dialect::Core, r#"{"task":{"taskId":"t","status":"working"}}"#, Some("t")),
            (Dialect::Core, r#"{"content":[],"task":7}"#, None),
            (Dialect::Core, r#"{"resultType":"task","taskId":"t","status":"working"}"#, None),
            (Dialect::Extension, r#"{"resultType":"task","taskId":"t","status":"working"}"#, Some("t")),
            (Dialect::Extension, r#"{"task":{"taskId":"t","status":"working"}}"#, None),
        ];
        for (dialect, text, expected) in rows {
            let begun = created(&answer(text), dialect).expect("an answer");
            assert_eq!(begun.map(|begun| begun.facts.id).as_deref(), expected, "{text}");
        }
        for (dialect, text) in [
            (Dialect::Core, r#"{"task":7}"#),
            (Dialect::Core, r#"{"task":{"status":"working"}}"#),
            (Dialect::Core, r#"{"task":{"taskId":"t","status":"done"}}"#),
            (Dialect::Extension, r#"{"resultType":"task"}"#),
        ] {
            let error = created(&answer(text), dialect).expect_err("no task");
            assert_eq!(error.ran(), Ran::Unknown, "{text}");
        }
    }
}
