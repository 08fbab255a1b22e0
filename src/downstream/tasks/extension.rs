//! The extension: flat results, ends inlined, input by key (S-TX).
//!
//! Always: a task is told of only to a request that declared the extension, checked before anything is looked up (S-TX-02,
//! S-TX-08). Not here: streams that tell of tasks (`listen`).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use bytes::Bytes;

use super::made::Made;
use super::{fault, invalid, not_created, task_id};
use crate::auth::principal::Principal;
use crate::config::tasks::Hosting;
use crate::dispatch::{BegunTask, CALLER, Call};
use crate::downstream::edge::{Edge, RequestGuard};
use crate::downstream::exchange::Finished;
use crate::downstream::respond::{self, Addressee};
use crate::downstream::stateless::Answering;
use crate::names::ProfileName;
use crate::parked::Inputs;
use crate::protocol::code::METHOD_NOT_FOUND;
use crate::protocol::failure::Ran;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::protocol::task::{Dialect, EXTENSION, IMMEDIATE_RESPONSE, Status};
use crate::protocol::translate;
use crate::tasks::{Ending, NotCancelled, TaskHandle, TaskInputs, TaskView};
use crate::telemetry::spans::{self, Ending as Ended};

/// Whether a request declared the extension; what else it declared of tasks is of the other era (S-TX-14).
pub(in crate::downstream) fn is_declared(capabilities: &Object) -> bool {
    capabilities
        .object("extensions")
        .is_some_and(|all| all.get(EXTENSION).is_some_and(|settings| settings.starts_with(b"{")))
}

/// What such a request would have had to declare.
pub(in crate::downstream) fn required() -> String {
    format!(r#"{{"extensions":{{"{EXTENSION}":{{}}}}}}"#)
}

/// A request about a task.
pub(in crate::downstream) struct AboutTask {
    pub(in crate::downstream) answering: Answering,
    pub(in crate::downstream) principal: Principal,
    pub(in crate::downstream) profile: Option<ProfileName>,
    pub(in crate::downstream) params: Object,
}

impl AboutTask {
    /// Answers it, as long as the gateway runs.
    pub(in crate::downstream) async fn serve_until_stopped(self, counted: RequestGuard) -> Finished {
        let _counted = counted;
        tokio::select! {
            biased;
            answered = self.answer() => answered.unwrap_or_else(|refused| refused),
            () = self.answering.edge.until_stopped() => {
                respond::cut_short(&self.answering.id, "the gateway stops")
            }
        }
    }

    async fn answer(&self) -> Result<Finished, Finished> {
        let request = &self.answering.id;
        let id = task_id(request, &self.params)?;
        let responses = match self.answering.method {
            Method::UpdateTask => Some(
                self.params
                    .object("inputResponses")
                    .ok_or_else(|| invalid(request, "inputResponses must be an object"))?,
            ),
            _ => None,
        };
        let tasks = &self.answering.edge.tasks;
        let found = tasks.find(self.principal, self.profile.as_ref(), &id).await;
        let task = found.map_err(|unknown| fault(request, &unknown))?;
        match (self.answering.method, responses) {
            (Method::GetTask, _) => self.state(&task).await,
            (Method::UpdateTask, Some(responses)) => {
                task.update(responses).await;
                Ok(self.acknowledged())
            }
            (Method::CancelTask, _) => match task.cancel().await {
                // Whether it could still be cancelled, it tells itself (S-TX-07).
                Ok(_) | Err(NotCancelled::AlreadyOver(_)) => Ok(self.acknowledged()),
                Err(NotCancelled::Fault(unknown)) => Err(fault(request, &unknown)),
            },
            _ => {
                let text = "method not found";
                Err(respond::error(Some(request), StatusCode::NOT_FOUND, METHOD_NOT_FOUND, text, None))
            }
        }
    }

    async fn state(&self, task: &TaskHandle) -> Result<Finished, Finished> {
        let view = task.read().await.map_err(|unknown| fault(&self.answering.id, &unknown))?;
        Ok(self.answering.to(|to| {
            let object = self.answering.edge.task_state(to, self.profile.as_ref(), &view);
            respond::own_result(to, None, &object)
        }))
    }

    fn acknowledged(&self) -> Finished {
        self.answering.to(|to| respond::own_result(to, None, b"{}"))
    }
}

impl Edge {
    /// After how long this call of a client that takes tasks becomes one by itself, where it is hosted.
    pub(in crate::downstream) fn slow_after(&self, params: &Object) -> Option<Duration> {
        let tasks = &self.settings.tasks;
        if !tasks.hosts_any() || tasks.hosting(&params.text("name")?) != Hosting::On {
            return None;
        }
        Some(tasks.slow_after)
    }

    /// The whole state of a task as clients of the extension see it, without the members of a result (S-TX-05, S-TX-10).
    pub(in crate::downstream) fn task_state(
        &self,
        to: &Addressee<'_>,
        profile: Option<&ProfileName>,
        task: &TaskView,
    ) -> Bytes {
        let facts = task.facts(Dialect::Extension);
        let mut text = format!("{{{}", facts.members(Dialect::Extension)).into_bytes();
        match (facts.status, &task.requests, &task.ending) {
            (Status::InputRequired, Some(requests), _) => {
                text.extend_from_slice(br#","inputRequests":"#);
                text.extend_from_slice(requests);
            }
            (Status::Completed | Status::Failed, _, Some(ending)) => {
                self.write_ending(to, profile, ending, &mut text);
            }
            _ => {}
        }
        text.push(b'}');
        text.into()
    }

    fn write_ending(
        &self,
        to: &Addressee<'_>,
        profile: Option<&ProfileName>,
        ending: &Ending,
        text: &mut Vec<u8>,
    ) {
        match (&ending.answer, &ending.upstream) {
            (Answer::Result(result), upstream) => {
                text.extend_from_slice(br#","result":"#);
                let view = self.switchboard.catalogue.view(profile.map(ProfileName::as_str));
                match (view, upstream) {
                    (Some(view), Some(upstream)) => {
                        let uris = view.hand_out_uris(CALLER, upstream);
                        translate::result(to.view, translate::ResultKind::Call, result, Some(&uris), text);
                    }
                    _ => translate::result(to.view, translate::ResultKind::Call, result, None, text),
                }
            }
            (Answer::Error(error), upstream) => {
                text.extend_from_slice(br#","error":"#);
                match upstream {
                    Some(upstream) => {
                        text.extend_from_slice(&respond::public_error(to, upstream, error).1);
                    }
                    None => text.extend_from_slice(error.object.as_bytes()),
                }
            }
        }
    }
}

/// The upstream made a task of a call, and its client is told of the gateway's own (S-TX-03).
pub(in crate::downstream) async fn linked(
    answering: &Answering,
    call: &Call,
    begun: BegunTask,
    inputs: Option<&Arc<Inputs>>,
) -> Finished {
    let inputs = inputs.map_or(TaskInputs::None, |inputs| TaskInputs::Keyed(Arc::clone(inputs)));
    let immediate = begun.created.result.meta(IMMEDIATE_RESPONSE).map(<[u8]>::to_vec);
    let made = Made { edge: &answering.edge, call, revision: answering.revision, inputs };
    match made.linked(begun).await {
        Ok(task) => told(answering, call, &task, immediate.as_deref()),
        Err(refused) => not_created(&answering.id, &refused.why, Ran::Unknown),
    }
}

/// The result that says that a call became this task.
pub(in crate::downstream) fn told(
    answering: &Answering,
    call: &Call,
    task: &TaskHandle,
    immediate: Option<&[u8]>,
) -> Finished {
    spans::record_ending(&call.span, Ended::Result);
    // What happened to it since is for the next look: it is told of as it was made.
    let facts = task.view().facts(Dialect::Extension);
    answering.to(|to| respond::created_task(to, &facts, immediate))
}
