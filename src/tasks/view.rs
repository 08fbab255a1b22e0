//! What is shown of a task.
//!
//! Always: what one reader was shown, no later reader is shown less of: endings are shown once they are kept. Not here: who
//! may look (`registry`), the wire (`downstream`).

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::record::{Ending, Record, TaskKey};
use crate::protocol::task::{Dialect, Status, TaskFacts};

/// A task at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// Where it is kept.
    pub key: TaskKey,
    /// What is kept of it.
    pub record: Arc<Record>,
    /// In which dialect it asks its client something; `None`: it asks nothing.
    pub asks_in: Option<Dialect>,
    /// `inputRequests` in the words of the extension, while it asks in that; never empty.
    pub requests: Option<Bytes>,
    /// How it ended, where it has and that was read. What was cancelled has none.
    pub ending: Option<Arc<Ending>>,
    /// It is no longer known: its time is over.
    pub is_gone: bool,
}

impl TaskView {
    /// Of what is kept.
    pub(super) fn of(key: TaskKey, record: Record) -> Self {
        let record = Arc::new(record);
        TaskView { key, record, asks_in: None, requests: None, ending: None, is_gone: false }
    }

    /// Its state for a reader of that dialect. Who could not answer what it asks sees it at work.
    pub fn status(&self, dialect: Dialect) -> Status {
        self.facts(dialect).status
    }

    /// What is said of it in that dialect, with its public id.
    pub fn facts(&self, dialect: Dialect) -> TaskFacts {
        let status = match (self.record.status, self.asks_in) {
            (over, _) if over.is_terminal() => over,
            (_, Some(asks_in)) if asks_in == dialect => Status::InputRequired,
            _ => Status::Working,
        };
        self.record.facts(dialect, status)
    }

    /// Whether nothing happens to it any more.
    pub fn is_over(&self) -> bool {
        self.is_gone || self.record.status.is_terminal()
    }
}

/// A part of a client's tasks, in the order in which they were made.
#[derive(Debug)]
pub struct TaskPage {
    /// The tasks, without their endings.
    pub tasks: Vec<TaskView>,
    /// Cursor of what follows.
    pub next: Option<String>,
}

/// A task as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct TaskStatus {
    /// Where it is kept.
    #[serde(skip)]
    pub key: TaskKey,
    /// [`TaskKey::number`], by which operators name it.
    pub task: String,
    /// Whose.
    pub principal: String,
    /// Endpoint, `/mcp` or below.
    pub endpoint: String,
    /// Whose tool.
    pub upstream: String,
    /// The tool, by its public name.
    pub tool: String,
    /// State, in the words of the extension.
    pub status: &'static str,
    /// Whether its result is an error of the tool's.
    pub tool_error: bool,
    /// Words for people.
    pub message: Option<String>,
    /// ISO 8601.
    pub created_at: String,
    /// ISO 8601.
    pub updated_at: String,
    /// Since its creation.
    pub age_ms: u64,
    /// How long it is kept, from its creation.
    pub ttl_ms: u64,
    /// The upstream's own id of the task behind it.
    pub upstream_task: Option<String>,
    /// Newest progress, parameters of a notification as text.
    pub progress: Option<String>,
    /// The trace that its call belongs to.
    pub trace_id: Option<String>,
    /// Whether this process runs it now.
    pub is_live: bool,
}

impl TaskStatus {
    /// Of a view at that time.
    pub(super) fn of(view: &TaskView, now_ms: u64, is_live: bool) -> Self {
        let record = &view.record;
        let facts = record.facts(Dialect::Extension, record.status);
        let asks = view.asks_in.is_some() && !record.status.is_terminal();
        TaskStatus {
            key: view.key,
            task: view.key.number(),
            principal: record.principal.clone(),
            endpoint: record.endpoint.as_ref().map_or("/mcp".to_owned(), |name| format!("/mcp/{name}")),
            upstream: record.upstream.clone(),
            tool: record.tool.clone(),
            status: if asks { Status::InputRequired } else { record.status }.text(),
            tool_error: record.is_tool_error,
            message: record.message.clone(),
            created_at: facts.created_at.unwrap_or_default(),
            updated_at: facts.updated_at.unwrap_or_default(),
            age_ms: now_ms.saturating_sub(record.created_ms),
            ttl_ms: record.ttl_ms,
            upstream_task: record.link.as_ref().map(|link| link.id.clone()),
            progress: record.progress.clone(),
            trace_id: record.trace_id.clone(),
            is_live,
        }
    }
}
