//! What is said of a task: where it stands, how it ended, and to whom.

use std::sync::Weak;

use serde_json::json;

use crate::demo::hub::Hub;
use crate::demo::input::Input;
use crate::demo::session::Session;
use crate::demo::wire::{Fault, Object};

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub(super) fn text(self) -> &'static str {
        match self {
            Status::Working => "working",
            Status::InputRequired => "input_required",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    pub(super) fn is_final(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

/// How the work ended.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Result(Object),
    Error(Fault),
}

/// Who uses the task, and is told of its changes.
#[derive(Debug, Clone)]
pub(crate) enum Audience {
    /// The session that asked for it, and nobody else.
    Session(Weak<Session>),
    /// Whoever knows its id.
    Listeners(Weak<Hub>),
}

impl Audience {
    pub(super) fn ends_as(&self, ending: &Ending) -> Status {
        match ending {
            Ending::Error(_) => Status::Failed,
            // The dialects differ in what a tool that fails makes of its task.
            Ending::Result(result) if result.get("isError") == Some(&json!(true)) => match self {
                Audience::Session(_) => Status::Failed,
                Audience::Listeners(_) => Status::Completed,
            },
            Ending::Result(_) => Status::Completed,
        }
    }
}

/// What a task shows of itself.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(super) status: Status,
    pub(super) message: Option<String>,
    pub(super) updated: String,
    pub(super) ending: Option<Ending>,
    /// Questions that wait for an answer, by key.
    pub(super) questions: Vec<(String, Input)>,
}
