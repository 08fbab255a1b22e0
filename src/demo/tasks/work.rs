//! A tool at work in the background.
//!
//! Always: the work ends with its task, unless the tool is one that does not let itself be stopped; a task is forgotten when its
//! time is over or its session ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::task::Task;
use super::view::Ending;
use crate::demo::call::{Call, Stop};
use crate::demo::methods::tool_outcome;
use crate::demo::server::Running;
use crate::demo::wire::{Fault, INTERNAL_ERROR, Object};

/// Runs the tool for the task until it ends, and forgets the task when it may.
pub(super) fn start(call: &Call, task: &Arc<Task>, tool: &Value, arguments: &Object) {
    let name = tool["name"].as_str().unwrap_or_default().to_owned();
    let (call, arguments) = (call.of_task(task), arguments.clone());
    let session_ended = match &call.caller.session {
        Some(session) => session.ended.clone(),
        // Tasks of the extension belong to no session.
        None => CancellationToken::new(),
    };
    let running = Running::begin(&call.server);
    tokio::spawn(async move {
        let task = Arc::clone(call.task.as_ref().expect("this call was made for a task"));
        tokio::select! {
            biased;
            () = session_ended.cancelled() => {}
            () = sleep_until(task.expires) => {}
            () = task.stop.cancelled(), if !task.stubborn => {
                call.server.counted.cancelled.fetch_add(1, Ordering::Relaxed);
            }
            ending = run(&call, &name, &arguments) => task.finish(ending),
        }
        drop(running);
        tokio::select! {
            () = session_ended.cancelled() => {}
            () = sleep_until(task.expires) => {}
        }
        task.cancel("the task's time is over");
        call.server.tasks.forget(&task);
    });
}

async fn run(call: &Call, name: &str, arguments: &Object) -> Ending {
    let features = call.server.settings.features;
    match tool_outcome(features.call_tool(call, name, arguments).await) {
        Ok(result) => Ending::Result(result),
        Err(Stop::Fault(fault)) => Ending::Error(fault),
        Err(Stop::Failed(_) | Stop::InputRequired { .. }) => {
            Ending::Error(Fault::new(INTERNAL_ERROR, "the tool ended as no task can end"))
        }
    }
}
