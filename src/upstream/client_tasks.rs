//! Tasks that a client keeps for an upstream: questions that it answers later (S-TASK-24).
//!
//! Always: only where client and upstream both speak 2025-11-25 and meet on a connection of that client's alone, which
//! declared it; the upstream knows ids of the gateway's, which mean nothing on any other connection; bounded, and no longer
//! than the client keeps the task: where room is wanted, what is over longest is forgotten first, and a question for which
//! there is none is asked plainly. Not here: the question that became a task (`questions`), what of it a client is shown
//! (`protocol::translate::question`, `session`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Affinity, ClientPort, EventSink};
use super::handle::UpstreamHandle;
use super::link::Link;
use super::messages::{AskClient, QuestionRefused};
use super::open_questions::{Causes, NotOpened};
use super::put_question::PutQuestion;
use super::questions::{NOBODY, TOO_OFTEN, error, revision_of, wait};
use super::task::created;
use crate::protocol::code::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND};
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Request};
use crate::protocol::json::{Limits, Object, elements};
use crate::protocol::message;
use crate::protocol::splice::Edit;
use crate::protocol::task::{Dialect, Status, with_related, without_related};
use crate::protocol::translate::question::{Expecting, answer};

/// Tasks of one connection that are remembered, and questions that may become some.
const AT_ONCE: usize = 256;

/// The longest that one is remembered, whatever its client says.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Bytes of a client's id.
const LONGEST_ID: usize = 1024;

/// See the module head: by the id that the upstream knows.
#[derive(Debug, Default)]
pub(super) struct ClientTasks(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    tasks: HashMap<String, ClientTask>,
    /// Questions under way that may become tasks.
    awaited: usize,
    /// Tasks that were over so far.
    ended: u64,
}

/// Room for the task that a question may become, until this is dropped.
#[derive(Debug)]
pub(super) struct Room<'a>(&'a ClientTasks);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.lock().awaited -= 1;
    }
}

#[derive(Debug, Clone)]
struct ClientTask {
    port: ClientPort,
    /// The client's own.
    id: String,
    /// What it will be answered with.
    expecting: Expecting,
    until: Instant,
    /// The how manieth to be over, once it is.
    ended: Option<u64>,
}

impl ClientTasks {
    /// Keeps room for one more; `None` where there are too many that are not over.
    pub(super) fn room(&self) -> Option<Room<'_>> {
        let now = Instant::now();
        let mut table = self.lock();
        table.tasks.retain(|_, task| task.until > now);
        let unfinished = table.tasks.values().filter(|task| task.ended.is_none()).count();
        let has_room = unfinished + table.awaited < AT_ONCE;
        if has_room {
            table.awaited += 1;
        }
        drop(table);
        has_room.then(|| Room(self))
    }

    /// Remembers a task, and gives its id for the upstream; `None` where there is no room or are no random bits.
    fn enter(&self, port: &ClientPort, id: &str, expecting: Expecting, kept: Duration) -> Option<String> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).ok()?;
        let minted = URL_SAFE_NO_PAD.encode(bits);
        let now = Instant::now();
        let mut table = self.lock();
        table.tasks.retain(|_, task| task.until > now);
        if id.len() > LONGEST_ID || (table.tasks.len() >= AT_ONCE && !table.forget_one()) {
            return None;
        }
        let task =
            ClientTask { port: port.clone(), id: id.to_owned(), expecting, until: now + kept, ended: None };
        table.tasks.insert(minted.clone(), task);
        Some(minted)
    }

    /// Notes that a task is over: it may be forgotten where room is wanted.
    fn is_over(&self, minted: &str) {
        let mut table = self.lock();
        let Table { tasks, ended, .. } = &mut *table;
        if let Some(task) = tasks.get_mut(minted).filter(|task| task.ended.is_none()) {
            *ended += 1;
            task.ended = Some(*ended);
        }
    }

    /// The same of what its client says of it.
    fn was_told(&self, minted: &str, task: &Object) {
        let status = task.text("status").and_then(|status| Status::of_text(&status));
        if status.is_some_and(Status::is_terminal) {
            self.is_over(minted);
        }
    }

    fn of(&self, minted: &str) -> Option<ClientTask> {
        self.lock().tasks.get(minted).filter(|task| task.until > Instant::now()).cloned()
    }

    /// By which id the upstream knows what the client calls so.
    fn minted(&self, id: &str) -> Option<String> {
        self.lock().tasks.iter().find(|(_, task)| task.id == id).map(|(minted, _)| minted.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets what is over longest; `false` where nothing is.
    fn forget_one(&mut self) -> bool {
        let ended = self.tasks.iter().filter_map(|(minted, task)| Some((task.ended?, minted)));
        let Some(minted) = ended.min().map(|(_, minted)| minted.clone()) else { return false };
        self.tasks.remove(&minted).is_some()
    }
}

/// Whether such a request is about a task of the client's.
pub(super) fn is_of_them(method: &str) -> bool {
    matches!(method, "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/list")
}

impl Link {
    /// Whether the upstream may ask this so that the client answers later, as it was told when the link was opened.
    pub(super) fn may_be_answered_later(&self, method: &str) -> bool {
        matches!(self.affinity(), Affinity::Session(_))
            && self.facts().is_ok_and(|facts| facts.revision == Revision::V2025_11_25)
            && self.client.capabilities.narrowed(self.question_rules.ask.kinds()).hosts_tasks_of(method)
    }
}

/// What the upstream is told where the client answers its question with a task; `None` where it does not.
pub(super) fn begun(
    link: &Link,
    port: &ClientPort,
    expecting: Expecting,
    result: &Object,
) -> Option<Result<Vec<u8>, (i64, &'static str)>> {
    if result.get("action").is_some() {
        return None;
    }
    let facts = match created(&Answer::Result(result.clone()), Dialect::Core) {
        Ok(begun) => begun?.facts,
        Err(_) => return Some(Err((INTERNAL_ERROR, "the client's task is none"))),
    };
    let kept = facts.ttl_ms.map_or(LONGEST, Duration::from_millis).min(LONGEST);
    let Some(minted) = link.client_tasks.enter(port, &facts.id, expecting, kept) else {
        return Some(Err((INTERNAL_ERROR, "the client keeps too many tasks")));
    };
    let task = result.object("task")?;
    let mut inner = Vec::new();
    Edit::of(&task).set_text("taskId", &minted).write(&mut inner);
    let mut outer = Vec::new();
    Edit::of(result).set("task", inner).write(&mut outer);
    Some(Ok(outer))
}

/// Passes a request about tasks of the client's on to it.
pub(super) fn serve(link: &Arc<Link>, request: Request, cause: Option<u64>) {
    let target = match target(link, &request) {
        Ok(target) => target,
        Err((code, text)) => return link.send(error(&request.id, code, text)),
    };
    let question = match link.questions.open(&request.id, Causes::new(), true) {
        Ok(question) => question,
        Err(NotOpened::Duplicate) => {
            const OPEN: &str = "a request with this id is still open";
            return link.send(error(&request.id, INVALID_REQUEST, OPEN));
        }
        Err(NotOpened::TooMany) => return link.send(error(&request.id, INTERNAL_ERROR, TOO_OFTEN)),
    };
    let (link, origin) = (Arc::clone(link), link.origin(cause));
    let streams = (origin.stream().filter(|_| cause.is_some()).cloned(), origin.some_stream().cloned());
    tokio::task::spawn_local(async move {
        let answer = pass_on(&link, &request, target, streams, &question.moot).await;
        if link.questions.close(&request.id, &question) {
            link.send(answer);
        }
    });
}

/// Who is asked, and about which task: none where the method is about all of them.
struct Target {
    port: ClientPort,
    task: Option<(String, ClientTask)>,
}

fn target(link: &Link, request: &Request) -> Result<Target, (i64, &'static str)> {
    const UNDECLARED: (i64, &str) = (METHOD_NOT_FOUND, "this connection declares no such capability");
    let hosts = ["sampling/createMessage", "elicitation/create"];
    if !hosts.iter().any(|method| link.may_be_answered_later(method)) {
        return Err(UNDECLARED);
    }
    if &*request.method == "tasks/list" {
        let port = link.client.port.clone().ok_or(UNDECLARED)?;
        return Ok(Target { port, task: None });
    }
    let minted = request.params.text("taskId").ok_or((INVALID_PARAMS, "taskId must be a string"))?;
    let task = link.client_tasks.of(&minted).ok_or((INVALID_PARAMS, "unknown task"))?;
    Ok(Target { port: task.port.clone(), task: Some((minted.into_owned(), task)) })
}

async fn pass_on(
    link: &Arc<Link>,
    request: &Request,
    target: Target,
    (stream, otherwise): (Option<EventSink>, Option<EventSink>),
    withdrawn: &CancellationToken,
) -> Vec<u8> {
    let Target { port, task } = target;
    let id = &request.id;
    let mut params = without_related(request.params.clone());
    if let Some((_, task)) = &task {
        params = with_text(&params, "taskId", &task.id);
    }
    let asked = AskClient {
        upstream: link.upstream.clone(),
        asker: Arc::clone(&link.question_rules.asker),
        per_minute: link.question_rules.per_minute,
        request: Request { id: id.clone(), method: request.method.clone(), params },
        stream,
        otherwise,
        task: None,
    };
    let question = match PutQuestion::put(&port, asked).await {
        Ok(question) => question,
        Err(QuestionRefused::Refused(code, text)) => return error(id, code, text),
        Err(QuestionRefused::Answered(_) | QuestionRefused::Gone) => {
            return error(id, INTERNAL_ERROR, NOBODY);
        }
        Err(QuestionRefused::TooOften | QuestionRefused::TooMany) => {
            return error(id, INTERNAL_ERROR, TOO_OFTEN);
        }
    };
    // The end of a task may be far away.
    let answered = withdrawn.run_until_cancelled(wait(link, question, None, true)).await.flatten();
    match answered {
        None => error(id, INTERNAL_ERROR, NOBODY),
        Some(Answer::Error(refusal)) => message::error(id, refusal.object.as_bytes()),
        Some(Answer::Result(result)) => match for_upstream(link, &request.method, task, &result) {
            Ok(result) => message::result(id, &result),
            Err((code, text)) => error(id, code, text),
        },
    }
}

/// The client's result in the ids that the upstream knows.
fn for_upstream(
    link: &Link,
    method: &str,
    task: Option<(String, ClientTask)>,
    result: &Object,
) -> Result<Bytes, (i64, &'static str)> {
    match task {
        Some((minted, task)) if method == "tasks/result" => {
            let text = answer(task.expecting, revision_of(link), &without_related(result.clone()))?;
            let parsed = Object::parse(text.into(), Limits::NONE);
            let object = parsed.map_err(|_| (INTERNAL_ERROR, "the client's answer is none"))?;
            // Its result is there only when it is over (S-TASK-11).
            link.client_tasks.is_over(&minted);
            Ok(with_related(&object, &minted).to_bytes())
        }
        Some((minted, _)) => {
            link.client_tasks.was_told(&minted, result);
            Ok(with_text(&without_related(result.clone()), "taskId", &minted).to_bytes())
        }
        None => Ok(known_tasks(&link.client_tasks, result)),
    }
}

/// A list of the client's without what it keeps for others.
fn known_tasks(known: &ClientTasks, result: &Object) -> Bytes {
    let all = result.share("tasks").and_then(|tasks| elements(&tasks, Limits::NONE).ok()).unwrap_or_default();
    let named = |raw: Bytes| {
        let task = Object::parse(raw, Limits::NONE).ok()?;
        let minted = known.minted(&task.text("taskId")?)?;
        Some(with_text(&task, "taskId", &minted))
    };
    let own: Vec<String> = all
        .into_iter()
        .filter_map(named)
        .map(|task| String::from_utf8_lossy(task.as_bytes()).into_owned())
        .collect();
    let mut edit = Edit::of(result);
    edit.set("tasks", format!("[{}]", own.join(",")).into_bytes());
    let mut text = Vec::new();
    edit.write(&mut text);
    text.into()
}

fn with_text(object: &Object, key: &str, value: &str) -> Object {
    let mut edit = Edit::of(object);
    edit.set_text(key, value);
    let mut text = Vec::with_capacity(object.as_bytes().len() + 32);
    edit.write(&mut text);
    Object::parse(text.into(), Limits::NONE).unwrap_or_else(|_| object.clone())
}

impl UpstreamHandle {
    /// A session tells of a task that it keeps: passed on to this upstream if it is one of its own.
    pub fn client_task_changed(&self, session: Affinity, params: &Object) {
        let Some(link) = self.shared.open_link(session).filter(|link| link.affinity() == session) else {
            return;
        };
        let minted = params.text("taskId").and_then(|id| link.client_tasks.minted(&id));
        if let Some(minted) = minted {
            link.client_tasks.was_told(&minted, params);
            let params = with_text(&without_related(params.clone()), "taskId", &minted);
            link.notify("notifications/tasks/status", params.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::task_tests::somebody;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::NONE).expect("valid")
    }

    #[test]
    fn s_task_24_ids_are_the_gateways_own_and_a_list_has_no_others_tasks() {
        let (tasks, other) = (ClientTasks::default(), ClientTasks::default());
        let minute = Duration::from_secs(60);
        let minted = tasks.enter(&somebody(), "theirs", Expecting::Form, minute).expect("room");
        assert!(minted != "theirs" && tasks.of("theirs").is_none() && other.of(&minted).is_none());
        assert_eq!(tasks.of(&minted).expect("known").id, "theirs");
        let all =
            object(r#"{"tasks":[{"taskId":"of others"},{"taskId":"theirs","ttl":1}],"nextCursor":"c"}"#);
        let shown = known_tasks(&tasks, &all);
        assert_eq!(
            String::from_utf8_lossy(&shown),
            format!(r#"{{"tasks":[{{"taskId":"{minted}","ttl":1}}],"nextCursor":"c"}}"#)
        );
    }

    #[test]
    fn s_task_24_what_a_client_no_longer_keeps_is_forgotten_and_there_is_an_end_to_it() {
        let tasks = ClientTasks::default();
        let gone = tasks.enter(&somebody(), "gone", Expecting::Form, Duration::ZERO).expect("room");
        assert!(tasks.of(&gone).is_none());
        for n in 0..AT_ONCE {
            assert!(tasks.enter(&somebody(), &n.to_string(), Expecting::Message, LONGEST).is_some());
        }
        assert!(tasks.enter(&somebody(), "more", Expecting::Message, LONGEST).is_none());
        assert!(tasks.room().is_none(), "the next question is asked plainly");
    }

    #[test]
    fn s_task_24_where_room_is_wanted_what_is_over_longest_goes_first() {
        let tasks = ClientTasks::default();
        let enter = |id: &str| tasks.enter(&somebody(), id, Expecting::Message, LONGEST);
        let all: Vec<String> = (0..AT_ONCE).map(|n| enter(&n.to_string()).expect("room")).collect();
        tasks.was_told(&all[7], &object(r#"{"taskId":"7","status":"working"}"#));
        assert!(tasks.room().is_none() && enter("more").is_none(), "none of them is over");
        tasks.was_told(&all[7], &object(r#"{"taskId":"7","status":"cancelled"}"#));
        tasks.is_over(&all[3]);
        tasks.is_over(&all[7]);
        {
            let rooms = [tasks.room(), tasks.room()];
            assert!(rooms.iter().all(Option::is_some) && tasks.room().is_none(), "room for those two alone");
        }
        assert!(enter("one more").is_some());
        assert!(tasks.of(&all[7]).is_none() && tasks.of(&all[3]).is_some());
        assert!(enter("and another").is_some() && tasks.of(&all[3]).is_none());
        assert!(enter("too many").is_none() && tasks.of(&all[0]).is_some());
    }
}
