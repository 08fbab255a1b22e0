//! Tasks that a stream of changes tells of (S-TX-10).
//!
//! Always: a task is watched before it is acknowledged, so that no change in between is missed; one that changed before is
//! told at once, because its client may not have heard; its state is looked up when it can be written, so that a slow
//! reader gets the newest. Ids that are unknown, foreign or gone are left out alike. Not here: what is said of a task
//! (`extension`), when (`listening`).

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::web::Data;
use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::task::JoinHandle;

use crate::auth::principal::Principal;
use crate::downstream::edge::Edge;
use crate::downstream::initialize::server_info;
use crate::downstream::respond::Addressee;
use crate::listening::{Listener, words};
use crate::names::ProfileName;
use crate::protocol::era::Revision;
use crate::protocol::json::Object;
use crate::protocol::task::{Dialect, TaskFacts};
use crate::protocol::translate::{ClientView, ResultKind};
use crate::tasks::{TaskHandle, TaskView};

/// The tasks of one stream, watched for as long as this is held.
pub(in crate::downstream) struct TasksFollowed {
    reader: Arc<Reader>,
    tasks: HashMap<Arc<str>, TaskHandle>,
    watching: JoinHandle<()>,
}

/// Who reads of them.
pub(in crate::downstream) struct Reader {
    pub(in crate::downstream) edge: Data<Edge>,
    pub(in crate::downstream) profile: Option<ProfileName>,
    pub(in crate::downstream) revision: Revision,
    pub(in crate::downstream) capabilities: Object,
    pub(in crate::downstream) listener: Arc<Listener>,
}

impl TasksFollowed {
    /// Follows those of `ids` that are this caller's.
    pub(in crate::downstream) async fn of(reader: Reader, ids: &[String]) -> Option<TasksFollowed> {
        let mut tasks = HashMap::new();
        let mut watches = Vec::new();
        for id in ids {
            let registry = &reader.edge.tasks;
            let Ok(task) = registry.find(Principal::Local, reader.profile.as_ref(), id).await else {
                continue;
            };
            let id: Arc<str> = Arc::from(id.as_str());
            reader.listener.follow_task(Arc::clone(&id));
            watches.push(watch(Arc::clone(&reader.listener), Arc::clone(&id), task.clone()));
            tasks.insert(id, task);
        }
        if tasks.is_empty() {
            return None;
        }
        let watching = tokio::task::spawn_local(async move {
            join_all(watches).await;
        });
        Some(TasksFollowed { reader: Arc::new(reader), tasks, watching })
    }

    /// The message that tells how this task is now; `None` if it is gone.
    pub(in crate::downstream) fn state(&self, id: &Arc<str>) -> LocalBoxFuture<'static, Option<Vec<u8>>> {
        let (task, reader) = (self.tasks.get(id).cloned(), Arc::clone(&self.reader));
        Box::pin(async move {
            let view = task?.read().await.ok()?;
            Some(words::task(reader.listener.id(), &reader.state(&view)))
        })
    }
}

impl Reader {
    /// What `tasks/get` would answer now.
    fn state(&self, task: &TaskView) -> Bytes {
        let server = Bytes::from_static(server_info().as_bytes());
        let to = Addressee {
            id: self.listener.id(),
            view: &ClientView { revision: self.revision, server },
            kind: ResultKind::Call,
            declared: &|| self.capabilities.clone(),
        };
        self.edge.task_state(&to, self.profile.as_ref(), task)
    }
}

impl Drop for TasksFollowed {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Notes every change of the task up to its end. The watch begins where this is called, not where it is polled first.
fn watch(listener: Arc<Listener>, id: Arc<str>, task: TaskHandle) -> impl Future<Output = ()> {
    let mut changes = task.changes();
    let now = changes.as_mut().map_or_else(|| task.view(), |changes| changes.borrow_and_update().clone());
    if has_changed(&now) {
        listener.task_changed(&id);
    }
    let mut said = shown(&now);
    async move {
        let Some(mut changes) = changes else { return };
        while changes.changed().await.is_ok() {
            let now = shown(&changes.borrow_and_update());
            // Progress alone is for operators (S-TX-10).
            if now != said {
                listener.task_changed(&id);
                said = now;
            }
        }
    }
}

/// What a reader sees of it besides how it ended.
fn shown(view: &TaskView) -> (TaskFacts, Option<Bytes>) {
    (view.facts(Dialect::Extension), view.requests.clone())
}

/// Whether anything happened since its client was told of its creation.
fn has_changed(view: &TaskView) -> bool {
    view.is_over() || view.requests.is_some() || view.record.updated_ms != view.record.created_ms
}
