//! What an upstream asks and tells about its tasks on a connection: whom it concerns (S-TASK-16, S-TASK-17).
//!
//! Always: what names a task goes to that task's client and to nobody else, on whatever stream it comes and whether or not
//! the call that made the task is over; what names none, where tasks are about, goes to the only client that can be meant,
//! and else to nobody. The upstream's id of a task stays on its hop, and is back in every answer. Not here: putting
//! questions (`questions`), which tasks there are (`link_tasks`).

use std::sync::Arc;

use super::arrivals::Origin;
use super::call::ClientPort;
use super::calls::Caller;
use super::link::Link;
use super::link_tasks::{LinkTask, Named, Owner};
use super::open_questions::{Causes, NotOpened, Opened};
use super::pages::Proposed;
use super::questions::{NOBODY, TOO_OFTEN, error, put, unanswerable};
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::frame::{Notification, Request, RequestId};
use crate::protocol::json::{Limits, Object};
use crate::protocol::message;
use crate::protocol::task::{related_id, with_related, without_related};
use crate::protocol::translate::question::Expecting;

impl Origin {
    /// Of this task.
    pub(super) fn of_task(task: &Arc<LinkTask>) -> Origin {
        Origin { caller: Some(task.owner()), task: Some(Arc::clone(task)), ..Origin::default() }
    }

    /// A result for what the upstream asked, which says of which task it is.
    pub(super) fn result(&self, id: &RequestId, result: &[u8]) -> Vec<u8> {
        match &self.task {
            Some(task) => message::result(id, &of_task(result, &task.id)),
            None => message::result(id, result),
        }
    }
}

/// This result, which belongs to the task.
fn of_task(result: &[u8], task: &str) -> Vec<u8> {
    let object = Object::parse(bytes::Bytes::copy_from_slice(result), Limits::NONE);
    object.map_or_else(|_| result.to_vec(), |object| with_related(&object, task).as_bytes().to_vec())
}

/// The gateway's own answer to a question of a task that reaches nobody.
fn unanswered(id: &RequestId, method: &str, why: &str, task: &str) -> Vec<u8> {
    match method {
        "elicitation/create" => message::result(id, &of_task(br#"{"action":"cancel"}"#, task)),
        _ => unanswerable(id, method, why),
    }
}

/// Puts a question that names a task.
pub(super) fn relay(link: &Arc<Link>, request: Request) {
    let task_id = related_id(&request.params).unwrap_or_default();
    let named = link.tasks.named(&task_id);
    if let Named::Nobody = named {
        tracing::debug!(upstream = %link.upstream, "a question is of a task that nobody has");
        return link.send(unanswered(&request.id, &request.method, NOBODY, &task_id));
    }
    let request = Request { params: without_related(request.params), ..request };
    let question = match link.questions.open(&request.id, Causes::new(), true) {
        Ok(question) => question,
        Err(NotOpened::Duplicate) => {
            const OPEN: &str = "a request with this id is still open";
            return link.send(error(&request.id, INVALID_REQUEST, OPEN));
        }
        Err(NotOpened::TooMany) => {
            return link.send(unanswered(&request.id, &request.method, TOO_OFTEN, &task_id));
        }
    };
    let page = match &named {
        Named::Task(task) => page_for(link, &request, task.owner()),
        Named::Awaited | Named::Nobody => None,
    };
    let link = Arc::clone(link);
    tokio::task::spawn_local(async move {
        let (id, method) = (request.id.clone(), request.method.clone());
        let task = match named {
            Named::Task(task) => Some(task),
            Named::Awaited | Named::Nobody => until_known(&link, &task_id, &question).await,
        };
        let answer = match &task {
            Some(task) => {
                let answered = put_to_owner(&link, request, task, page, &question);
                task.over.run_until_cancelled(answered).await.flatten()
            }
            None => None,
        };
        let answer = answer.unwrap_or_else(|| unanswered(&id, &method, NOBODY, &task_id));
        // Who withdrew a question wants no answer, not even under the same id.
        if link.questions.close(&id, &question) {
            link.send(answer);
        }
    });
}

/// The task, once the call is answered that becomes it, if that comes in time and anybody wants to know still.
async fn until_known(link: &Arc<Link>, task: &str, question: &Opened) -> Option<Arc<LinkTask>> {
    let known = tokio::time::timeout(link.ask_deadline, link.tasks.until_known(task));
    question.moot.run_until_cancelled(known).await?.ok()?
}

/// The page that it asks to visit, noted before anything else of it arrives.
fn page_for(link: &Arc<Link>, request: &Request, owner: Caller) -> Option<Proposed> {
    match (Expecting::of(&request.method, &request.params), &owner.client.port) {
        (Expecting::Visit, Some(port)) => Some(Proposed::of(link, &request.params, port)),
        _ => None,
    }
}

/// Puts it to whoever the task belongs to, and once more if that one has passed the task on meanwhile: a call that became a
/// task leaves it to others, and its upstream may ask before they have taken it over.
async fn put_to_owner(
    link: &Arc<Link>,
    request: Request,
    task: &Arc<LinkTask>,
    mut page: Option<Proposed>,
    question: &Opened,
) -> Option<Vec<u8>> {
    let share = link.question_rules.per_task();
    let caused = task.count_question();
    if caused > share {
        if caused == share.saturating_add(1) {
            tracing::warn!(upstream = %link.upstream, share, "a task causes more questions than it may");
        }
        return Some(unanswered(&request.id, &request.method, TOO_OFTEN, &task.id));
    }
    let mut owners = task.owners();
    loop {
        let origin =
            Origin { caller: Some(owners.borrow_and_update().caller.clone()), ..Origin::of_task(task) };
        let answered = put(link, request.clone(), &origin, page.take(), &question.moot).await;
        if answered.is_some() || question.moot.is_cancelled() {
            return answered;
        }
        tokio::time::timeout(link.ask_deadline, passed_on(&mut owners, &origin)).await.ok()??;
        page = page_for(link, &request, task.owner());
    }
}

/// Resolves when the task is another client's; `None` when it is settled that it is the same one's.
async fn passed_on(owners: &mut tokio::sync::watch::Receiver<Owner>, before: &Origin) -> Option<()> {
    let port = |caller: &Caller| caller.client.port.clone();
    let old = before.caller.as_ref().and_then(port);
    let is_same = |new: &Option<ClientPort>| match (&old, new) {
        (Some(old), Some(new)) => old.is(new),
        (old, new) => old.is_none() && new.is_none(),
    };
    let owner = owners.wait_for(|owner| owner.is_settled || !is_same(&port(&owner.caller))).await.ok()?;
    (!is_same(&port(&owner.caller))).then_some(())
}

impl Link {
    /// Whose something is that names neither a call nor a task, where tasks are reached over this link: nobody guesses. Only
    /// if all whose calls are under way and all whose tasks are here are one client, that one is meant: by its plain calls
    /// where it has any, because what a task asks names the task.
    pub(super) fn origin_beside_tasks(&self) -> Origin {
        let ambiguous = Origin { is_ambiguous: true, ..Origin::default() };
        let (callers, tasks) = (self.calls.callers(), self.tasks.all());
        let owners: Vec<Caller> = tasks.iter().map(|task| task.owner()).collect();
        let mut everybody = callers.iter().map(|(_, caller)| caller).chain(&owners);
        let Some(first) = everybody.clone().next() else { return ambiguous };
        let is_one_client = everybody.clone().all(|other| other.client.is_same(&first.client));
        if !is_one_client || self.calls.is_in_doubt_for(first.client.affinity) {
            return ambiguous;
        }
        let Some(port) = &first.client.port else { return ambiguous };
        let is_one_port =
            everybody.all(|other| other.client.port.as_ref().is_some_and(|other| other.is(port)));
        let plain = || callers.iter().filter(|(_, caller)| caller.client.task_of.is_none());
        let has_plain = plain().next().is_some();
        match &tasks[..] {
            [task] if is_one_port && !has_plain => return Origin::of_task(task),
            // Which task of one client it is, nobody says.
            _ if !is_one_port && !has_plain => return ambiguous,
            _ => {}
        }
        // That of a call has somebody who reads it.
        let meant = || plain().map(|(_, caller)| caller).chain(owners.iter().filter(|_| !has_plain));
        let caller = meant().find(|caller| caller.events.is_some()).or(meant().next()).cloned();
        Origin { calls: plain().map(|(id, _)| *id).collect(), caller, ..Origin::default() }
    }

    /// A log line that names a task goes to that task's client; one of a task that is nobody's is the gateway's own.
    pub(super) fn logged_of_task(self: &Arc<Self>, notification: Notification) {
        let id = related_id(&notification.params).unwrap_or_default();
        let notification = Notification { params: without_related(notification.params), ..notification };
        match self.tasks.named(&id) {
            Named::Task(task) => self.log_to(&Origin::of_task(&task), notification),
            Named::Nobody => self.own_log.write(&self.upstream, &notification.params),
            Named::Awaited => {
                let Ok(place) = Arc::clone(&self.in_background).try_acquire_owned() else {
                    return self.own_log.write(&self.upstream, &notification.params);
                };
                let link = Arc::clone(self);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    match tokio::time::timeout(link.ask_deadline, link.tasks.until_known(&id)).await {
                        Ok(Some(task)) => link.log_to(&Origin::of_task(&task), notification),
                        _ => link.own_log.write(&link.upstream, &notification.params),
                    }
                });
            }
        }
    }
}
