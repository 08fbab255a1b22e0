//! How a story steers the tasks of a scripted upstream.
//!
//! Owns what stories call. Always: every wait has a deadline. Not here: the tasks themselves (`tasks`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::tasks::{Outcome, Task};
use super::{Upstream, locked};
use crate::support::patiently;

impl Upstream {
    /// Wait for the `count`-th task; gives its id.
    pub(crate) async fn until_task(&self, count: usize) -> String {
        let id = format!("task-{count}");
        self.until_tasks(&id, |tasks| tasks.contains_key(&id).then_some(())).await;
        id
    }

    /// Wait until `probe` finds something among the tasks.
    pub(crate) async fn until_tasks<T>(
        &self,
        awaited: &str,
        probe: impl Fn(&BTreeMap<String, Task>) -> Option<T>,
    ) -> T {
        let mut changes = self.shared.changes.subscribe();
        patiently(&format!("a task of {}: {awaited}", self.shared.name), async {
            loop {
                if let Some(found) = probe(&locked(&self.shared.desk).tasks) {
                    return found;
                }
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await
    }

    /// A task as it is.
    pub(crate) fn task(&self, id: &str) -> Task {
        locked(&self.shared.desk).tasks.get(id).unwrap_or_else(|| panic!("no task {id}")).clone()
    }

    /// Every task.
    pub(crate) fn all_tasks(&self) -> Vec<Task> {
        locked(&self.shared.desk).tasks.values().cloned().collect()
    }

    /// Forget what was received so far and every task that is over; for stories that go on for long.
    pub(crate) fn clear(&self) {
        locked(&self.shared.ledger).clear();
        locked(&self.shared.desk).tasks.retain(|_, task| !task.is_over());
    }

    /// Change a task, lawfully or not.
    pub(crate) fn change<T>(&self, id: &str, change: impl FnOnce(&mut Task) -> T) -> T {
        println!("   [{}] changes {id}", self.shared.name);
        self.shared.change_task(id, change)
    }

    /// End a task with one text block.
    pub(crate) fn complete(&self, id: &str, text: &str) {
        self.end(id, Outcome::Result(json!({ "content": [{ "type": "text", "text": text }] })));
    }

    /// End a task.
    pub(crate) fn end(&self, id: &str, outcome: Outcome) {
        let is_stateless = self.shared.is_stateless();
        self.change(id, |task| task.end(outcome, is_stateless));
    }

    /// Let a task ask something under `key`; the answer is in [`Task::questions`].
    pub(crate) fn inquire(&self, id: &str, key: &str, method: &str, params: Value) {
        super::task_questions::inquire(&self.shared, id, key, method, params);
    }

    /// Wait until a task was told what it asked under `key`.
    pub(crate) async fn until_told(&self, id: &str, key: &str) -> Value {
        self.until_tasks(&format!("{id} to be told {key}"), |tasks| {
            tasks.get(id)?.questions.get(key)?.answer.clone()
        })
        .await
    }

    /// How long the gateway waited between two looks at a task, in order.
    pub(crate) fn pauses(&self, id: &str) -> Vec<Duration> {
        self.task(id).polls.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}
