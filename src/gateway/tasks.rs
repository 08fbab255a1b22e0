//! The registry of tasks, put together and set going.
//!
//! Always: tasks of before the start are gone on with before anybody is told of them. Not here: what a task is (`tasks`).

use std::sync::Arc;

use actix::Arbiter;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::config::Settings;
use crate::dispatch::{Call, Failure, Switchboard, TaskUse};
use crate::parked::Story;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::store::Stores;
use crate::tasks::{Ending, Resumption, TaskRegistry};
use crate::telemetry::trace_context::TraceContext;
use crate::upstream::call::{Affinity, Client};

/// Makes the registry; on the engine's thread it goes on with what was unfinished.
pub(super) fn start(
    engine: &Arbiter,
    settings: &Settings,
    stores: &Stores,
    switchboard: &Arc<Switchboard>,
) -> anyhow::Result<Arc<TaskRegistry>> {
    let registry = TaskRegistry::new(
        Arc::clone(&stores.records),
        Arc::clone(&stores.sealer),
        stores.clock,
        settings.tasks.clone(),
        Arc::new(ending),
    );
    let (resumed, switchboard) = (Arc::clone(&registry), Arc::clone(switchboard));
    let started = engine.spawn_fn(move || {
        actix::spawn(async move {
            let drive = |resumption: Resumption| {
                let may_be_there = switchboard.may_find_again(&resumption.link);
                may_be_there.then(|| story(Arc::clone(&switchboard), resumption))
            };
            if let Err(error) = resumed.resume(drive).await {
                tracing::error!(%error, "unfinished tasks could not be read; they are not gone on with");
            }
        });
    });
    anyhow::ensure!(started, "the thread of tasks did not start");
    Ok(registry)
}

/// What a client of a task is told of a call that failed: what it would have been told without the task (S-TASK-11).
fn ending(failure: &Failure) -> Ending {
    let answer = match failure.as_result() {
        Some(result) => Answer::Result(result),
        None => Answer::Error(failure.as_error()),
    };
    Ending { answer, upstream: None }
}

/// Follows an upstream's task that is known from before.
fn story(switchboard: Arc<Switchboard>, resumption: Resumption) -> Story {
    let Resumption { link, sink, principal, endpoint, capabilities, inputs, events, .. } = resumption;
    let client = Client {
        principal,
        affinity: Affinity::of_one_call(),
        task_of: None,
        profile: endpoint,
        capabilities,
        port: inputs.port(),
        closed: CancellationToken::new(),
    };
    let call = Call {
        client: Arc::new(client),
        client_name: None,
        params: Object::empty(),
        progress: true,
        log_level: None,
        trace: TraceContext::default(),
        events: Some(events),
        input: None,
        task: TaskUse::Plain,
        span: Span::none(),
    };
    Box::pin(async move { switchboard.driven_again(&call, &link, &sink).await })
}
