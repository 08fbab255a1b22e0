//! One task: its state and how it ended.
//!
//! Always: a final state is final, whatever the work does later; every change is told once, in order, to whoever listens. Not here:
//! what it asks of the client (`asking`).

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::timestamp;
use super::view::{Audience, Ending, Status, View};
use super::{core, extension};
use crate::demo::input::Input;
use crate::demo::outlet::Outlet;
use crate::demo::wire::Fault;

pub(super) type Answer = Result<Value, Fault>;

/// Something asked of the client.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) input: Input,
    /// The `tasks/result` stream that carries it.
    pub(super) carried_by: Option<u64>,
    pub(super) reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
    message: Option<String>,
    updated: String,
    pub(super) questions: BTreeMap<String, Question>,
    pub(super) keys_used: HashSet<String>,
    ending: Option<Ending>,
    /// Open `tasks/result` streams, oldest first.
    pub(super) streams: Vec<(u64, Outlet)>,
    pub(super) streams_opened: u64,
}

/// A tool's work that outlives the request that began it.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    /// Orders tasks by their creation.
    pub(super) number: u64,
    pub(super) created: String,
    pub(super) ttl_ms: u64,
    pub(super) expires: Instant,
    pub(super) audience: Audience,
    /// The work cannot be stopped.
    pub(super) stubborn: bool,
    /// The client wants the work to stop.
    pub(super) stop: CancellationToken,
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

impl Task {
    pub(super) fn new(id: String, number: u64, ttl_ms: u64, audience: Audience, stubborn: bool) -> Arc<Task> {
        let created = timestamp();
        let state = State {
            status: Status::Working,
            message: None,
            updated: created.clone(),
            questions: BTreeMap::new(),
            keys_used: HashSet::new(),
            ending: None,
            streams: Vec::new(),
            streams_opened: 0,
        };
        Arc::new(Task {
            id,
            number,
            created,
            ttl_ms,
            expires: Instant::now() + std::time::Duration::from_millis(ttl_ms),
            audience,
            stubborn,
            stop: CancellationToken::new(),
            state: Mutex::new(state),
            version: watch::Sender::new(0),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes with everything that a waiter may look for.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(super) fn wake(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub(super) fn view(&self) -> View {
        self.view_of(&self.state())
    }

    fn view_of(&self, state: &State) -> View {
        View {
            status: state.status,
            message: state.message.clone(),
            updated: state.updated.clone(),
            ending: state.ending.clone(),
            questions: state
                .questions
                .iter()
                .map(|(key, asked)| (key.clone(), asked.input.clone()))
                .collect(),
        }
    }

    /// Notes the moment and tells whoever listens. Under the lock, so that what is told is told in order.
    pub(super) fn touched(&self, state: &mut State) {
        state.updated = timestamp();
        let view = self.view_of(state);
        match &self.audience {
            Audience::Session(session) => {
                if let Some(session) = session.upgrade().filter(|session| session.takes_notices()) {
                    session.standing.offer(core::status_notification(self, &view));
                }
            }
            Audience::Listeners(hub) => {
                if let Some(hub) = hub.upgrade() {
                    hub.announce_task(&self.id, &extension::described(self, &view));
                }
            }
        }
        self.wake();
    }

    /// Says in words how far the work is.
    pub(crate) fn say(&self, message: &str) {
        let mut state = self.state();
        if !state.status.is_final() {
            state.message = Some(message.to_owned());
            self.touched(&mut state);
        }
    }

    /// The work is over. Nothing happens if the task was over before.
    pub(super) fn finish(&self, ending: Ending) {
        let mut state = self.state();
        if state.status.is_final() {
            return;
        }
        state.status = self.audience.ends_as(&ending);
        state.message = match &ending {
            Ending::Error(fault) => Some(fault.message.clone()),
            Ending::Result(result) if result.get("isError") == Some(&json!(true)) => {
                result["content"][0]["text"].as_str().map(str::to_owned)
            }
            Ending::Result(_) => None,
        };
        state.ending = Some(ending);
        state.questions.clear();
        self.touched(&mut state);
    }

    /// Ends the task and tells the work to stop; false if it was over before.
    pub(super) fn cancel(&self, reason: &str) -> bool {
        let mut state = self.state();
        if state.status.is_final() {
            return false;
        }
        state.status = Status::Cancelled;
        state.message = Some(reason.to_owned());
        state.questions.clear();
        self.touched(&mut state);
        self.stop.cancel();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    fn task(audience: Audience) -> Arc<Task> {
        Task::new("id".to_owned(), 1, 60_000, audience, false)
    }

    fn failing() -> Ending {
        let result = json!({"content": [{"type": "text", "text": "no"}], "isError": true});
        Ending::Result(result.as_object().cloned().unwrap())
    }

    #[test]
    fn s_task_06_a_final_state_is_final() {
        let task = task(Audience::Session(Weak::new()));
        assert!(task.cancel("enough"));
        task.finish(Ending::Error(Fault::invalid_params("late")));
        task.say("still here");
        let view = task.view();
        assert_eq!((view.status, view.message.as_deref()), (Status::Cancelled, Some("enough")));
        assert!(view.ending.is_none() && task.stop.is_cancelled() && !task.cancel("again"));
    }

    #[test]
    fn s_task_12_a_tool_that_fails_fails_its_core_task_and_completes_that_of_the_extension() {
        let core = task(Audience::Session(Weak::new()));
        core.finish(failing());
        assert_eq!((core.view().status, core.view().message.as_deref()), (Status::Failed, Some("no")));
        let extension = task(Audience::Listeners(Weak::new()));
        extension.finish(failing());
        assert_eq!(extension.view().status, Status::Completed);
    }
}
