//! Progress of a task, under the token of the request that made it (S-PROG-04).
//!
//! Always: it stays the client's token until the task is over, and nothing is told of it afterwards; what comes too fast is
//! told as one. It goes to the session's standing stream, because the request that brought the token has been answered: where
//! nobody reads that, it is told to nobody. Not here: the extension, whose tasks tell of no progress (S-PROG-05).

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::config::bounds::Bounds;
use crate::downstream::events::{EventWriter, LevelWanted, Told};
use crate::protocol::json::{Limits, Object};
use crate::protocol::splice::Edit;
use crate::protocol::task::{RELATED_TASK, related};
use crate::session::SessionHandle;
use crate::session::stream::LoggedEvent;
use crate::tasks::{TaskHandle, TaskView};
use crate::upstream::events::CallEvent;

/// Tells a session of a task's progress until one of them is over.
pub(super) fn relay(session: &SessionHandle, task: &TaskHandle, token: Bytes, bounds: &Bounds) {
    let Some(changes) = task.changes() else { return };
    let level = LevelWanted::ByRequest(None);
    let writer = EventWriter::new(session.revision(), Some(token), level, bounds);
    let relay = Relay { session: session.clone(), task: task.id(), writer };
    let session = session.clone();
    tokio::task::spawn_local(async move {
        tokio::select! {
            biased;
            () = session.until_ended() => {}
            () = relay.run(changes) => {}
        }
    });
}

struct Relay {
    session: SessionHandle,
    /// As the client knows it.
    task: String,
    writer: EventWriter,
}

impl Relay {
    async fn run(mut self, mut changes: watch::Receiver<TaskView>) {
        let mut last = None;
        loop {
            let due = self.writer.due();
            tokio::select! {
                biased;
                changed = changes.changed() => {
                    let shown = changes.borrow_and_update();
                    if changed.is_err() || shown.is_over() {
                        return;
                    }
                    let progress = shown.record.progress.clone();
                    drop(shown);
                    if progress != last {
                        let told = progress.as_deref().and_then(|params| self.event(params));
                        let told = told.and_then(|event| self.writer.write(event));
                        self.tell(told);
                        last = progress;
                    }
                }
                () = async { sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await }, if due.is_some() => {
                    let told = self.writer.release();
                    self.tell(told);
                }
            }
        }
    }

    /// Every message about a task names it (S-TASK-16).
    fn event(&self, params: &str) -> Option<CallEvent> {
        let params = Object::parse(Bytes::copy_from_slice(params.as_bytes()), Limits::NONE).ok()?;
        let mut text = Vec::with_capacity(params.as_bytes().len() + 128);
        Edit::of(&params).set_meta(RELATED_TASK, related(&self.task).into_bytes()).write(&mut text);
        Object::parse(text.into(), Limits::NONE).ok().map(|params| CallEvent::Progress(Box::new(params)))
    }

    fn tell(&self, told: Option<Told>) {
        let streams = self.session.streams();
        let Some(Told { message, weight }) = told.filter(|_| streams.stands_open()) else { return };
        if streams.put_event(streams.standing(), LoggedEvent::new(message.text.clone(), weight)).is_err() {
            tracing::debug!("progress of a task found no place on the standing stream");
        }
    }
}
