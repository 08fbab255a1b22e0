//! The tasks of a scripted upstream, as a story steers them.
//!
//! Owns every task's state. Always: ids are `task-1`, `task-2`, … in every upstream, so that two upstreams have equal ones;
//! what a story does to a task may be unlawful. Not here: what is said of them on the wire (`task_methods`).
//!
//! What becomes of a task is said by the arguments of its call: `after` milliseconds (it is over then), `ask` (an object of
//! questions, asked at once), `text`, `isError`, `error` (how it ends), `message`, `immediate`, `members` (put on the task
//! object). With `ask` and no `after` it ends once all is answered and tells the answers; with neither it goes on until the
//! story ends it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::Instant;

use super::{Received, Shared, UpstreamPlan, locked};

/// Where an upstream of the core dialect asks what a task needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AsksOn {
    /// On an open `tasks/result`, naming the task.
    #[default]
    Result,
    /// On the standing stream or pipe, naming the task.
    Standing,
    /// On the standing stream or pipe, naming nothing.
    Unrelated,
}

/// What a stubborn upstream does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stubborn {
    /// It answers with an error of this code.
    Errs(i64),
    /// It says nothing, however long.
    Hangs,
    /// It breaks the connection.
    Resets,
}

/// How an upstream deals with tasks.
#[derive(Debug, Clone)]
pub(crate) struct Manner {
    /// Whether it declares and does `tasks/cancel`.
    pub(crate) cancels: bool,
    /// Whether it declares and does `tasks/list`.
    pub(crate) lists: bool,
    /// Whether it tells of every change.
    pub(crate) notifies: bool,
    /// Where it asks.
    pub(crate) asks_on: AsksOn,
    /// Whether it takes a cancellation and works on.
    pub(crate) ignores_cancel: bool,
    /// The pause between two looks that it asks for.
    pub(crate) poll_ms: Option<u64>,
    /// The ttl it grants whatever is asked: nothing said, `null`, or milliseconds.
    pub(crate) grants: Option<Option<u64>>,
    /// Whether a task is known in the session alone that created it.
    pub(crate) is_of_session: bool,
    /// What it answers a call with instead of a task.
    pub(crate) creates: Option<Value>,
    /// What it does with the first so many requests of one method.
    pub(crate) stubborn: Option<(&'static str, usize, Stubborn)>,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner {
            cancels: true,
            lists: true,
            notifies: false,
            asks_on: AsksOn::Result,
            ignores_cancel: false,
            poll_ms: Some(60),
            grants: None,
            is_of_session: false,
            creates: None,
            stubborn: None,
        }
    }
}

/// What a task came to.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// A result, of a tool that failed too.
    Result(Value),
    /// A JSON-RPC error.
    Error(Value),
}

/// Something a task needs to be told.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(super) method: String,
    pub(super) params: Value,
    /// Whether it is on its way, in the core dialect.
    pub(super) is_put: bool,
    /// What the gateway answered: a result, in the core dialect a whole message.
    pub(crate) answer: Option<Value>,
}

/// One task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Its id.
    pub(crate) id: String,
    /// Its state, in the words of the wire.
    pub(crate) status: String,
    /// `statusMessage`.
    pub(crate) message: Option<String>,
    /// `ttl`, `ttlMs`.
    pub(crate) ttl_ms: Option<u64>,
    /// `pollInterval`, `pollIntervalMs`.
    pub(crate) poll_ms: Option<u64>,
    /// How it ended.
    pub(crate) outcome: Option<Outcome>,
    /// What it asked, by key.
    pub(crate) questions: BTreeMap<String, Question>,
    /// Further members of the task object.
    pub(crate) members: Value,
    /// Whether the upstream knows it no more.
    pub(crate) is_forgotten: bool,
    /// When it was looked at.
    pub(crate) polls: Vec<Instant>,
    /// The call that began it.
    pub(crate) begun_by: Received,
    pub(super) created_at: String,
    pub(super) updated_at: String,
}

impl Task {
    /// Whether nothing follows.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "failed" | "cancelled")
    }

    pub(super) fn waits(&self) -> bool {
        self.questions.values().any(|question| question.answer.is_none())
    }

    /// End it. A tool's own failure is `failed` in the core dialect and `completed` in the extension.
    pub(crate) fn end(&mut self, outcome: Outcome, is_stateless: bool) {
        let is_failure = match &outcome {
            Outcome::Error(_) => true,
            Outcome::Result(result) => result["isError"] == true && !is_stateless,
        };
        self.status = if is_failure { "failed" } else { "completed" }.to_owned();
        self.outcome = Some(outcome);
    }
}

/// All tasks of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(super) manner: Manner,
    pub(super) tasks: BTreeMap<String, Task>,
    created: usize,
}

/// Whether an upstream has this task.
pub(super) fn is_known(shared: &Shared, id: &str) -> bool {
    locked(&shared.desk).tasks.get(id).is_some_and(|task| !task.is_forgotten)
}

impl Shared {
    /// Change a task as a story or a message wants, and tell of it where that is this upstream's manner.
    pub(super) fn change_task<T>(self: &Arc<Shared>, id: &str, change: impl FnOnce(&mut Task) -> T) -> T {
        let (changed, notifies) = {
            let mut desk = locked(&self.desk);
            let notifies = desk.manner.notifies;
            let task = desk.tasks.get_mut(id).unwrap_or_else(|| panic!("no task {id}"));
            let changed = change(task);
            task.updated_at = now();
            (changed, notifies)
        };
        self.changed();
        if notifies {
            let (shared, id) = (Arc::clone(self), id.to_owned());
            tokio::spawn(async move { super::task_methods::tell(&shared, &id).await });
        }
        changed
    }

    /// A new task for a call.
    pub(super) fn create_task(self: &Arc<Shared>, begun_by: Received, asked_ttl: Option<u64>) -> Task {
        let arguments = begun_by.params()["arguments"].clone();
        let task = {
            let mut desk = locked(&self.desk);
            desk.created += 1;
            let id = format!("task-{}", desk.created);
            let task = Task {
                id: id.clone(),
                status: "working".to_owned(),
                message: arguments["message"].as_str().map(str::to_owned),
                ttl_ms: desk.manner.grants.unwrap_or(asked_ttl.or(Some(600_000))),
                poll_ms: desk.manner.poll_ms,
                outcome: None,
                questions: BTreeMap::new(),
                members: arguments["members"].clone(),
                is_forgotten: false,
                polls: Vec::new(),
                begun_by,
                created_at: now(),
                updated_at: now(),
            };
            desk.tasks.insert(id, task.clone());
            task
        };
        self.changed();
        if let Some(after) = arguments["after"].as_u64() {
            let (shared, id) = (Arc::clone(self), task.id.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                let outcome = super::task_methods::outcome(&shared, &arguments);
                let is_stateless = shared.is_stateless();
                shared.change_task(&id, |task| {
                    if !task.is_over() {
                        task.end(outcome, is_stateless);
                    }
                });
            });
        }
        task
    }
}

impl UpstreamPlan {
    /// Serve tasks: `long` may be one, `must` has to be one, `never` says that it is none, `echo` says nothing.
    pub(crate) fn tasks(self, manner: Manner) -> UpstreamPlan {
        super::task_methods::serve(self, manner)
    }
}

/// This moment in ISO 8601.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years that begin in March put the leap day last.
    let shifted = days + 719_468;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + shifted / 146_097 * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z",
        second % 60,
        since.subsec_millis()
    )
}
