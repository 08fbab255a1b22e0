//! The registry of tasks: every task that a client sees is the gateway's own record, with a story behind it
//! (era-bridge §7).
//!
//! Reading order: `record` (what is kept), `state` (what may happen to a task, as a plain state machine), `keeping` (how its
//! records are written and read), `inputs` and `carried` (what a task asks its client), `view` (what is shown of it),
//! `messages`, `actor` and `handle` (one task that is not over), `registry` (all of them), `resume` (after a start), `inspection` and
//! `audit` (what operators see and are told).
//! Always: a task is kept before its client hears of it (I3), and an ending before anybody is shown it; what is over stays as
//! it is; a call is never sent again (I4); a task is its principal's alone, and another's is an unknown one. Not here: how
//! requests and answers look (`downstream`), what a story does (`dispatch`).

mod actor;
mod audit;
mod carried;
mod handle;
mod inputs;
mod inspection;
mod keeping;
mod messages;
mod places;
mod record;
mod registry;
mod resume;
#[cfg(test)]
mod simulation;
mod state;
mod view;

pub use audit::TaskCounts;
pub use carried::{CarriedInputs, Standing, Way};
pub use handle::{Attached, NotCancelled, TaskFault, TaskHandle};
pub use inputs::TaskInputs;
pub use inspection::{Choice, NotFound};
pub use record::{Ending, Intent, TaskKey, iso_8601};
pub use registry::{
    BadTaskCursor, Beginning, Followed, MakeStory, NewTask, NotCreated, NotListed, Refused, TaskRegistry,
    TellFailure,
};
pub use resume::Resumption;
pub use view::{TaskPage, TaskStatus, TaskView};

#[cfg(test)]
mod tests;
