//! What is told to operators of every task: a line of the log when it begins and when it is over, and figures (S-TASK-20).
//!
//! Always: a line names the task by its number, whose it is, its upstream, tool and trace; no id that opens anything, no
//! argument, no result, no word of an upstream. Not here: single tasks, and all of them, as they are now (`inspection`).

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::display;

use super::record::{Record, TaskKey};
use crate::protocol::task::Status;

/// Figures since the start.
#[derive(Debug, Default)]
pub(super) struct Audit {
    created: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    expired: AtomicU64,
    heard: AtomicU64,
}

/// How many tasks there were since the start, and are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskCounts {
    /// Not over, and at work.
    pub working: u64,
    /// Not over, and waiting for the client.
    pub input_required: u64,
    /// Begun since the start.
    pub created: u64,
    /// Ended since the start with a result, of a tool that failed too.
    pub completed: u64,
    /// With an error.
    pub failed: u64,
    /// By the wish of somebody.
    pub cancelled: u64,
    /// By their time.
    pub expired: u64,
    /// What servers said of their tasks since the start: one for each look at one.
    pub heard: u64,
}

impl Audit {
    pub(super) fn begins(&self, key: TaskKey, record: &Record) {
        self.created.fetch_add(1, Ordering::Relaxed);
        let Record { upstream, tool, principal, .. } = record;
        let (task, trace) = (key.number(), record.trace_id.as_deref().map(display));
        tracing::info!(%task, %upstream, %tool, %principal, trace, "a task begins");
    }

    pub(super) fn is_over(&self, key: TaskKey, record: &Record) {
        let (count, how) = match record.status {
            Status::Cancelled => (&self.cancelled, "cancelled"),
            Status::Failed => (&self.failed, "failed"),
            Status::Completed if record.is_tool_error => {
                (&self.completed, "completed, with an error of the tool")
            }
            _ => (&self.completed, "completed"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let Record { upstream, tool, principal, .. } = record;
        let (task, trace) = (key.number(), record.trace_id.as_deref().map(display));
        tracing::info!(%task, %upstream, %tool, %principal, trace, how, "a task is over");
    }

    /// Before it was over.
    pub(super) fn expires(&self, key: TaskKey, record: &Record) {
        self.expired.fetch_add(1, Ordering::Relaxed);
        let Record { upstream, tool, principal, .. } = record;
        let (task, trace) = (key.number(), record.trace_id.as_deref().map(display));
        tracing::info!(%task, %upstream, %tool, %principal, trace, "a task has expired before it was over");
    }

    /// A server said something of its task.
    pub(super) fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures, with these of now.
    pub(super) fn counts(&self, working: u64, input_required: u64) -> TaskCounts {
        let figure = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TaskCounts {
            working,
            input_required,
            created: figure(&self.created),
            completed: figure(&self.completed),
            failed: figure(&self.failed),
            cancelled: figure(&self.cancelled),
            expired: figure(&self.expired),
            heard: figure(&self.heard),
        }
    }
}
