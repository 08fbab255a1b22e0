//! The inbox of the actor of a task.

use actix::Message;
use tokio::sync::oneshot;

use super::carried::Way;
use super::handle::{Attached, NotCancelled};
use super::view::TaskView;
use crate::dispatch::TaskLink;
use crate::protocol::json::Object;
use crate::protocol::task::TaskFacts;

/// Its client wishes it to end.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Cancel {
    /// Told when it is known.
    pub(super) told: oneshot::Sender<Result<TaskView, NotCancelled>>,
}

/// Its client answers what it was asked.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Update {
    /// By key.
    pub(super) responses: Object,
}

/// There is a way to its client.
#[derive(Debug, Message)]
#[rtype(result = "Option<Attached>")]
pub(super) struct Attach {
    pub(super) way: Way,
}

/// The call is about to leave.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Dispatching {
    /// Told when that is kept.
    pub(super) kept: oneshot::Sender<()>,
}

/// An upstream keeps a task for it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Linked {
    pub(super) link: Box<TaskLink>,
    /// Told when that is kept.
    pub(super) kept: oneshot::Sender<()>,
}

/// What the upstream says of its task.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Said {
    pub(super) facts: TaskFacts,
}

/// The gateway stops: what an upstream goes on with is left to it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Suspend;
