//! All tasks of the server.
//!
//! Always: bounded; an id has 128 random bits; who may not use a task is told the same as if there were none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::task::Task;
use super::view::Audience;
use crate::demo::caller::Caller;
use crate::demo::wire::{Fault, INTERNAL_ERROR, Object};

const MOST_TASKS: usize = 16_384;
const MOST_TTL_MS: u64 = 60 * 60 * 1000;
const DEFAULT_TTL_MS: u64 = 10 * 60 * 1000;

/// The tasks that are there, by id.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    by_id: Mutex<HashMap<String, Arc<Task>>>,
    created: AtomicU64,
}

impl Tasks {
    fn by_id(&self) -> MutexGuard<'_, HashMap<String, Arc<Task>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new task, which can be found from here on.
    pub(super) fn create(
        &self,
        ttl_ms: Option<u64>,
        audience: Audience,
        stubborn: bool,
    ) -> Result<Arc<Task>, Fault> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)
            .map_err(|_| Fault::new(INTERNAL_ERROR, "no randomness for a task id"))?;
        let id = format!("{:032x}", u128::from_be_bytes(random));
        let mut tasks = self.by_id();
        if tasks.len() >= MOST_TASKS {
            return Err(Fault::new(INTERNAL_ERROR, "too many tasks are kept; try again later"));
        }
        let number = self.created.fetch_add(1, Ordering::Relaxed) + 1;
        let ttl_ms = ttl_ms.unwrap_or(DEFAULT_TTL_MS).min(MOST_TTL_MS);
        let task = Task::new(id.clone(), number, ttl_ms, audience, stubborn);
        tasks.insert(id, Arc::clone(&task));
        Ok(task)
    }

    pub(super) fn forget(&self, task: &Task) {
        self.by_id().remove(&task.id);
    }

    /// The task that the parameters name, if this caller may use it.
    pub(super) fn named(&self, caller: &Caller, params: &Object) -> Result<Arc<Task>, Fault> {
        let id = params
            .get("taskId")
            .and_then(Value::as_str)
            .ok_or_else(|| Fault::invalid_params("taskId is missing or not a string"))?;
        let found = self.by_id().get(id).cloned();
        found
            .filter(|task| task.is_of(caller))
            .ok_or_else(|| Fault::invalid_params("there is no such task; it may have expired"))
    }

    /// The caller's tasks in order of creation, from the first after that number.
    pub(super) fn of(&self, caller: &Caller, after: u64, most: usize) -> Vec<Arc<Task>> {
        let mut own: Vec<_> =
            self.by_id().values().filter(|task| task.number > after && task.is_of(caller)).cloned().collect();
        own.sort_by_key(|task| task.number);
        own.truncate(most);
        own
    }

    /// Whether anyone could be told of a task of that id.
    pub(crate) fn has(&self, caller: &Caller, id: &str) -> bool {
        self.by_id().get(id).is_some_and(|task| task.is_of(caller))
    }

    /// How many tasks are kept, finished ones included.
    pub(crate) fn count(&self) -> usize {
        self.by_id().len()
    }
}

impl Task {
    /// Whether this caller may use the task.
    fn is_of(&self, caller: &Caller) -> bool {
        match (&self.audience, &caller.session) {
            (Audience::Session(owner), Some(session)) => owner.as_ptr() == Arc::as_ptr(session),
            (Audience::Listeners(_), _) => caller.is_stateless(),
            (Audience::Session(_), None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use serde_json::json;

    use super::*;
    use crate::demo::outlet::Outlet;
    use crate::demo::session::Session;
    use crate::protocol::era::Revision;

    fn caller(session: Option<&Arc<Session>>) -> Caller {
        Caller {
            revision: if session.is_some() { Revision::V2025_11_25 } else { Revision::V2026_07_28 },
            client: None,
            capabilities: json!({}),
            log_threshold: None,
            session: session.cloned(),
            headers: Arc::from([]),
        }
    }

    fn named(task: &Task) -> Object {
        json!({"taskId": task.id}).as_object().cloned().unwrap()
    }

    #[test]
    fn s_task_19_a_task_is_for_its_own_session() {
        let tasks = Tasks::default();
        let [mine, other] = [(); 2].map(|()| Session::new(Outlet::Nowhere));
        let task = tasks.create(Some(u64::MAX), Audience::Session(Arc::downgrade(&mine)), false).unwrap();
        assert_eq!((task.ttl_ms, task.id.len()), (MOST_TTL_MS, 32));
        assert!(tasks.named(&caller(Some(&mine)), &named(&task)).is_ok());
        let foreign = tasks.named(&caller(Some(&other)), &named(&task)).unwrap_err();
        let unknown =
            tasks.named(&caller(Some(&mine)), &json!({"taskId": "x"}).as_object().cloned().unwrap());
        assert_eq!(foreign.message, unknown.unwrap_err().message);
        assert!(tasks.named(&caller(None), &named(&task)).is_err());
        assert_eq!(
            (tasks.of(&caller(Some(&mine)), 0, 9).len(), tasks.of(&caller(Some(&other)), 0, 9).len()),
            (1, 0)
        );
    }

    #[test]
    fn whoever_knows_the_id_may_use_a_task_of_the_extension() {
        let tasks = Tasks::default();
        let task = tasks.create(None, Audience::Listeners(Weak::new()), false).unwrap();
        assert!(tasks.named(&caller(None), &named(&task)).is_ok());
        assert!(tasks.named(&caller(Some(&Session::new(Outlet::Nowhere))), &named(&task)).is_err());
        tasks.forget(&task);
        assert!(tasks.named(&caller(None), &named(&task)).is_err());
    }
}
