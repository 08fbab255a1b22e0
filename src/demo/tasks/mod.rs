//! Tools that run as tasks: begun by one request, looked at, answered and ended by others.
//!
//! Two dialects over the same tasks. `core` is that of 2025-11-25: the client asks for a task, the task belongs to its session, and
//! what a task asks travels on the stream of `tasks/result`. `extension` is `io.modelcontextprotocol/tasks` of 2026-07-28: the
//! server decides, whoever knows the id may use it, and questions wait in the task for `tasks/update`. `task` is one task and its
//! states, `view` the words for them, `asking` what it asks, `table` is all of them, `work` runs a tool in the background. `hosted`
//! is the other way round: a question of ours that is a task of the client.
//!
//! Always: a task starts `working` and never leaves a final state; a task that is told of can be found; ids are unguessable; tasks
//! are bounded in number and in time.

mod asking;
mod clock;
pub(crate) mod core;
pub(crate) mod extension;
mod hosted;
mod table;
mod task;
mod view;
mod work;

use serde_json::Value;

use super::call::{Call, Stop};
use super::wire::Object;
use crate::protocol::era::Revision;
pub(crate) use table::Tasks;
pub(crate) use task::Task;

/// Whether a tool can be run as a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    Forbidden,
    Optional,
    Required,
}

impl Support {
    /// As the tool's definition has it.
    pub(crate) fn of(tool: &Value) -> Support {
        match tool["execution"]["taskSupport"].as_str() {
            Some("optional") => Support::Optional,
            Some("required") => Support::Required,
            _ => Support::Forbidden,
        }
    }
}

/// A call of a tool, which may want to be a task: what to answer then, or nothing if it is to be served as a plain call.
pub(crate) async fn begin(
    call: &Call,
    tool: &Value,
    params: &Object,
    arguments: &Object,
) -> Result<Option<Object>, Stop> {
    match call.caller.revision {
        Revision::V2025_11_25 => core::begin(call, tool, params, arguments).map_err(Stop::from),
        Revision::V2026_07_28 => extension::begin(call, tool, arguments).await,
        // Older revisions know no tasks, not even those of tools that want to be one.
        _ => Ok(None),
    }
}
