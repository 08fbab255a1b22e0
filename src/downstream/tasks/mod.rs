//! Tasks towards clients: the core feature of 2025-11-25 and the extension of the stateless era.
//!
//! Reading order: `made` (how a call becomes a task), `core` and `extension` (what clients of each dialect ask about theirs),
//! `told`, `progress` and `followed` (what sessions and streams of changes are told without asking).
//! Always: a task is told of only after it is kept (S-TX-04); one that is unknown, another's or gone is answered alike
//! (S-TASK-19). Not here: what a task is (`tasks`), how its call is made (`dispatch`).

pub(super) mod core;
pub(super) mod extension;
pub(super) mod followed;
pub(super) mod made;
mod progress;
mod told;

use actix_web::http::StatusCode;

use super::exchange::Finished;
use super::respond;
use crate::protocol::code::{INTERNAL_ERROR, INVALID_PARAMS};
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::RequestId;
use crate::protocol::json::Object;
use crate::tasks::{NotCreated, TaskFault};

/// The id that a request about a task names.
fn task_id<'p>(id: &RequestId, params: &'p Object) -> Result<std::borrow::Cow<'p, str>, Finished> {
    params.text("taskId").ok_or_else(|| invalid(id, "taskId must be a string"))
}

fn invalid(id: &RequestId, text: &str) -> Finished {
    respond::error(Some(id), StatusCode::OK, INVALID_PARAMS, text, None)
}

/// Why nothing is told of a task (S-TASK-10).
fn fault(id: &RequestId, fault: &TaskFault) -> Finished {
    match fault {
        TaskFault::Unknown => invalid(id, &fault.to_string()),
        TaskFault::Unavailable(error) => {
            tracing::warn!(%error, "the store of tasks does not answer");
            unavailable(id, Ran::Unknown)
        }
    }
}

/// Why a call is no task, and whether it may have run all the same.
fn not_created(id: &RequestId, why: &NotCreated, ran: Ran) -> Finished {
    match why {
        NotCreated::TooMany => {
            let record = FailureRecord::of_gateway(Reason::Overloaded, true, None, ran).json();
            respond::error(Some(id), StatusCode::OK, INTERNAL_ERROR, &why.to_string(), Some(&record))
        }
        NotCreated::Unavailable(error) => {
            tracing::warn!(%error, "a task could not be kept");
            unavailable(id, ran)
        }
    }
}

/// The store's own words are for operators.
fn unavailable(id: &RequestId, ran: Ran) -> Finished {
    let record = FailureRecord::of_gateway(Reason::StoreUnavailable, true, None, ran).json();
    respond::error(Some(id), StatusCode::OK, INTERNAL_ERROR, "tasks cannot be kept now", Some(&record))
}
