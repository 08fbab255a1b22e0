//! What a session is told of its tasks: `notifications/tasks/status` (S-TASK-18).
//!
//! Always: what is told is what `tasks/get` would say of the same moment; nobody waits for it, a session that has ended is told
//! nothing, and neither end ends the other. Not here: on which stream (`session`).

use crate::protocol::task::{Dialect, TaskFacts};
use crate::session::SessionHandle;
use crate::session::messages::TaskChanged;
use crate::tasks::{TaskHandle, TaskView};

/// Tells the session of every state of its new task from now on, as long as both go on. To be called before the task's
/// creation is answered.
pub(super) fn tell(session: &SessionHandle, task: &TaskHandle) {
    let Some(mut changes) = task.changes() else { return };
    let mut told = facts(&changes.borrow_and_update());
    let session = session.clone();
    tokio::task::spawn_local(async move {
        let telling = async {
            while changes.changed().await.is_ok() {
                let view = changes.borrow_and_update().clone();
                let now = facts(&view);
                if now == told || view.is_gone {
                    continue;
                }
                let (members, is_over) = (now.members(Dialect::Core), now.status.is_terminal());
                session.task_changed(TaskChanged { members, is_over });
                told = now;
            }
        };
        tokio::select! {
            () = telling => {}
            () = session.until_ended() => {}
        }
    });
}

fn facts(view: &TaskView) -> TaskFacts {
    view.facts(Dialect::Core)
}
