//! The core feature of 2025-11-25: calls made as tasks, and what their clients ask about them (S-TASK).
//!
//! Always: a task outlives the request and the session that made it; who waits for a result and leaves has cancelled nothing
//! (S-TASK-11), and who waits holds no stop of the gateway up (S-HTTPS-20). Not here: sessions of other revisions, in which none of this exists (`in_session`).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;

use super::made::Made;
use super::{fault, invalid, not_created, progress, task_id, told};
use crate::dispatch::{CALLER, Call, Failure, Outcome};
use crate::downstream::edge::Edge;
use crate::downstream::exchange::Finished;
use crate::downstream::in_session::progress_token;
use crate::downstream::respond::{self, Addressee};
use crate::downstream::url_required;
use crate::names::ProfileName;
use crate::protocol::code::{INTERNAL_ERROR, METHOD_NOT_FOUND};
use crate::protocol::failure::Ran;
use crate::protocol::frame::{Answer, RequestId};
use crate::protocol::json::{Object, quote};
use crate::protocol::method::Method;
use crate::protocol::task::{Dialect, TaskSupport, whole_milliseconds};
use crate::session::SessionHandle;
use crate::tasks::{CarriedInputs, NotCancelled, NotListed, Standing, TaskHandle, TaskInputs, TaskView, Way};
use crate::telemetry::spans::{self, Ending};

/// How long a task is told of without what its upstream has to say of it.
const MADE_UPSTREAM: Duration = Duration::from_secs(2);

/// How long a stop waits for a task that does not outlive the gateway, for the sake of who waits for its result.
const MAY_END: Duration = Duration::from_secs(2);

/// A request of a session at 2025-11-25.
pub(in crate::downstream) struct InSession<'a> {
    pub(in crate::downstream) edge: &'a Data<Edge>,
    pub(in crate::downstream) session: &'a SessionHandle,
    pub(in crate::downstream) call: &'a Call,
    pub(in crate::downstream) to: &'a Addressee<'a>,
}

impl InSession<'_> {
    /// Makes a call as the task that its client wishes for (S-TASK-05).
    pub(in crate::downstream) async fn create(self) -> Finished {
        self.created().await.unwrap_or_else(|refused| refused)
    }

    async fn created(&self) -> Result<Finished, Finished> {
        let failed = |failure| respond::respond(self.to, Err(failure));
        let ttl_ms = asked_ttl(&self.call.params).map_err(|text| invalid(self.id(), text))?;
        let tool = self.edge.switchboard.tool_for_task(self.call).await.map_err(failed)?;
        if tool.support == TaskSupport::Forbidden {
            return Err(failed(Failure::NoTask));
        }
        let (edge, call, revision) = (self.edge, self.call, self.session.revision());
        let made = Made { edge, call, revision, inputs: self.inputs() };
        match made.hosted(tool.upstream, tool.public, ttl_ms).await {
            Ok((task, made_upstream)) => {
                if let Some(token) = progress_token(&self.call.params) {
                    progress::relay(self.session, &task, token, &self.edge.settings.bounds);
                }
                let words = match tool.is_made_upstream {
                    // How long it is kept, and how often it is worth a look, is its upstream's to say.
                    true => tokio::time::timeout(MADE_UPSTREAM, made_upstream).await.ok(),
                    false => None,
                };
                let words = words.and_then(Result::ok).flatten();
                // Nothing happens between these two: what is not in the answer is told.
                told::tell(self.session, &task);
                let facts = task.view().facts(Dialect::Core);
                spans::record_ending(&self.call.span, Ending::Result);
                Ok(respond::created_task(self.to, &facts, words.as_deref()))
            }
            Err(refused) => Err(not_created(self.id(), &refused.why, Ran::NotSent)),
        }
    }

    /// What the call asks goes wherever its client can be reached (S-TASK-17).
    fn inputs(&self) -> TaskInputs {
        let client = self.session.client();
        let Some(port) = client.port.clone().filter(|_| client.can_be_asked()) else {
            return TaskInputs::None;
        };
        let streams = Arc::clone(self.session.streams());
        let standing = Standing { port, is_open: Arc::new(move || streams.stands_open()) };
        let (revision, capabilities) = (self.session.revision(), client.capabilities.clone());
        TaskInputs::Carried(CarriedInputs::new(revision, capabilities, Some(standing)))
    }

    /// Answers a request about tasks.
    pub(in crate::downstream) async fn serve(self, method: Method) -> Finished {
        let answered = match method {
            Method::GetTask => self.state().await,
            Method::TaskResult => self.result().await,
            Method::CancelTask => self.cancel().await,
            Method::ListTasks => self.list().await,
            _ => Err(self.error(METHOD_NOT_FOUND, "method not found")),
        };
        answered.unwrap_or_else(|refused| refused)
    }

    async fn state(&self) -> Result<Finished, Finished> {
        let task = self.find().await?;
        // Its end is fetched by another request.
        Ok(self.told(&task.view()))
    }

    async fn cancel(&self) -> Result<Finished, Finished> {
        match self.find().await?.cancel().await {
            Ok(view) => Ok(self.told(&view)),
            Err(NotCancelled::AlreadyOver(_)) => {
                Err(invalid(self.id(), "the task is over and cannot be cancelled"))
            }
            Err(NotCancelled::Fault(unknown)) => Err(fault(self.id(), &unknown)),
        }
    }

    async fn list(&self) -> Result<Finished, Finished> {
        let cursor = match self.call.params.get("cursor") {
            None => None,
            Some(_) => {
                let cursor = self.call.params.text("cursor");
                Some(cursor.ok_or_else(|| invalid(self.id(), "invalid cursor"))?)
            }
        };
        let (client, size) = (&self.call.client, self.edge.settings.bounds.page_size);
        let tasks = &self.edge.tasks;
        let page = tasks.list(client.principal, client.profile.as_ref(), cursor.as_deref(), size).await;
        let page = page.map_err(|refused| match refused {
            NotListed::BadCursor(bad) => invalid(self.id(), &bad.to_string()),
            NotListed::Unavailable(error) => fault(self.id(), &error.into()),
        })?;
        let members = |view: &TaskView| format!("{{{}}}", view.facts(Dialect::Core).members(Dialect::Core));
        let tasks: Vec<String> = page.tasks.iter().map(members).collect();
        let next = page.next.map(|next| format!(r#","nextCursor":{}"#, quote(&next))).unwrap_or_default();
        let object = format!(r#"{{"tasks":[{}]{next}}}"#, tasks.join(","));
        Ok(respond::own_result(self.to, None, object.as_bytes()))
    }

    /// Waits until the task is over. What it asks meanwhile comes on the stream of this request.
    async fn result(&self) -> Result<Finished, Finished> {
        let task = self.find().await?;
        // Who can be asked nothing waits for the end, and keeps no question from those who can be (S-TASK-17).
        let client = self.session.client();
        let way = client.port.clone().filter(|_| client.can_be_asked()).zip(self.call.events.clone());
        let _attached = match way {
            Some((port, stream)) => Some(task.attach(Way { port, stream }).await),
            None => None,
        };
        let view = tokio::select! {
            biased;
            over = task.until_over() => over.map_err(|unknown| fault(self.id(), &unknown))?,
            () = self.until_stop_overtakes(&task) => return Ok(respond::ask_again(self.id())),
        };
        Ok(self.ended(view).await)
    }

    /// Resolves when the gateway stops and the task is left to the next start (S-HTTPS-20).
    async fn until_stop_overtakes(&self, task: &TaskHandle) {
        self.edge.until_draining().await;
        if task.view().record.link.is_none() {
            tokio::time::sleep(MAY_END).await;
        }
    }

    async fn ended(&self, task: TaskView) -> Finished {
        let id = task.record.id.as_str();
        let Some(ending) = &task.ending else {
            return self.error(INTERNAL_ERROR, "the task was cancelled");
        };
        let profile = self.call.client.profile.as_ref().map(ProfileName::as_str);
        let view = self.edge.switchboard.catalogue.view(profile);
        match (&ending.answer, &ending.upstream, view) {
            (Answer::Result(result), Some(upstream), Some(view)) => {
                let uris = view.hand_out_uris(CALLER, upstream);
                respond::task_result(self.to, result, Some(&uris), id)
            }
            (Answer::Result(result), _, _) => respond::task_result(self.to, result, None, id),
            (answer @ Answer::Error(_), Some(upstream), Some(view)) => {
                let (answer, upstream) = (answer.clone(), upstream.clone());
                let ended = Ok(Outcome::Relayed { answer, upstream, view });
                respond::respond(self.to, url_required::relay(self.edge, self.session, ended).await)
            }
            (Answer::Error(error), _, _) => respond::own_error(self.to, error),
        }
    }

    async fn find(&self) -> Result<TaskHandle, Finished> {
        let id = task_id(self.id(), &self.call.params)?;
        let client = &self.call.client;
        let found = self.edge.tasks.find(client.principal, client.profile.as_ref(), &id).await;
        found.map_err(|unknown| fault(self.id(), &unknown))
    }

    fn told(&self, task: &TaskView) -> Finished {
        let object = format!("{{{}}}", task.facts(Dialect::Core).members(Dialect::Core));
        respond::own_result(self.to, None, object.as_bytes())
    }

    fn error(&self, code: i64, text: &str) -> Finished {
        respond::error(Some(self.id()), StatusCode::OK, code, text, None)
    }

    fn id(&self) -> &RequestId {
        self.to.id
    }
}

/// How long the client wishes its task to be kept, in milliseconds (S-TASK-08).
fn asked_ttl(params: &Object) -> Result<Option<u64>, &'static str> {
    let task = params.object("task").ok_or("task must be an object")?;
    match task.get("ttl") {
        None => Ok(None),
        Some(raw) if raw.first().is_some_and(u8::is_ascii_digit) => Ok(whole_milliseconds(raw)),
        Some(_) => Err("task.ttl must be a number of milliseconds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Limits;

    #[test]
    fn s_task_08_a_ttl_is_a_number_of_milliseconds_and_not_negative() {
        let ttl = |task: &str| {
            let params = Object::parse(format!(r#"{{"task":{task}}}"#).into(), Limits::NONE).expect("valid");
            asked_ttl(&params)
        };
        let rows = [("{}", None), (r#"{"ttl":0}"#, Some(0)), (r#"{"ttl":1.5}"#, Some(2))];
        for (task, expected) in rows {
            assert_eq!(ttl(task), Ok(expected), "{task}");
        }
        assert_eq!(ttl(r#"{"ttl":1e300}"#), Ok(Some(u64::MAX)));
        for wrong in
            ["7", "null", "[]", r#"{"ttl":-1}"#, r#"{"ttl":"1"}"#, r#"{"ttl":null}"#, r#"{"ttl":{}}"#]
        {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }
}
