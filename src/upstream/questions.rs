//! Requests that a handshake-era upstream makes: `ping`, sampling, elicitation, roots.
//!
//! Always: each gets exactly one answer under the upstream's own id; a question that cannot be put to the one client it
//! concerns is answered by the gateway (era-bridge §9.1), never put to another, but for that after the roots of callers
//! who share a connection: their calls come and go, and it holds for all of them. No call causes more than its share.
//! Not here: what a client may see of a question (`protocol::translate::question`), how often one client is asked
//! (`session`).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::arrivals::Origin;
use super::call::{Activity, Affinity};
use super::calls::SETTLING;
use super::client_tasks;
use super::link::Link;
use super::messages::{AskClient, QuestionRefused};
use super::open_questions::NotOpened;
use super::pages::Proposed;
use super::put_question::PutQuestion;
use super::task_questions;
use crate::config::bounds::Bounds;
use crate::config::servers::{AskSettings, ServerSettings};
use crate::names::UpstreamName;
use crate::protocol::code::{INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, USER_REJECTED};
use crate::protocol::era::{NEWEST_HANDSHAKE, Revision};
use crate::protocol::frame::{Answer, Request, RequestId};
use crate::protocol::json::{Object, quote};
use crate::protocol::message;
use crate::protocol::splice::Edit;
use crate::protocol::task::{RELATED_TASK, without_task};
use crate::protocol::translate::question::{Asker, Expecting, answer, is_accepted, progress_token};

pub(super) const NOBODY: &str = "nobody can be asked";
pub(super) const TOO_OFTEN: &str = "this server asks too much; nobody was asked";

/// What the questions of one upstream have to keep to.
#[derive(Debug)]
pub(super) struct QuestionRules {
    pub(super) asker: Arc<Asker>,
    pub(super) ask: AskSettings,
    /// How long a client may be silent.
    wait: Duration,
    /// How long it may take, whatever progress it tells of.
    maximum: Duration,
    pub(super) per_minute: NonZeroU32,
    per_call: usize,
}

impl QuestionRules {
    pub(super) fn of(settings: &ServerSettings, bounds: &Bounds) -> Self {
        let asker = Asker {
            title: settings.title.clone(),
            title_in_message: !settings.prefix.is_empty(),
            roots: settings.ask.roots,
            sampling: settings.ask.sampling,
            elicitation: settings.ask.elicitation,
            context: settings.ask.context,
        };
        let per_minute = u32::try_from(bounds.question_rate).ok().and_then(NonZeroU32::new);
        QuestionRules {
            asker: Arc::new(asker),
            ask: settings.ask,
            wait: bounds.input_timeout,
            maximum: bounds.input_timeout.max(bounds.call_maximum),
            per_minute: per_minute.unwrap_or(NonZeroU32::MIN),
            per_call: bounds.call_questions,
        }
    }
}

impl QuestionRules {
    /// How many questions one task may cause.
    pub(super) fn per_task(&self) -> usize {
        self.per_call
    }

    /// The name that loggers of this upstream begin with: where its tools and messages have one, they have too.
    pub(super) fn logger_name(&self, upstream: &UpstreamName) -> Option<UpstreamName> {
        self.asker.title_in_message.then(|| upstream.clone())
    }
}

/// Answers a question, or starts a task that will.
pub(super) fn serve(link: &Arc<Link>, request: Request, cause: Option<u64>) {
    match &*request.method {
        "ping" => link.send(message::result(&request.id, b"{}")),
        "sampling/createMessage" | "elicitation/create" | "roots/list"
            if request.params.meta(RELATED_TASK).is_some() =>
        {
            task_questions::relay(link, request);
        }
        "sampling/createMessage" | "elicitation/create" | "roots/list" => relay(link, request, cause),
        method if client_tasks::is_of_them(method) => client_tasks::serve(link, request, cause),
        _ => link.send(error(&request.id, METHOD_NOT_FOUND, "method not found")),
    }
}

fn relay(link: &Arc<Link>, request: Request, cause: Option<u64>) {
    let origin = link.origin(cause);
    if origin.in_doubt.is_some_and(|age| age >= SETTLING) {
        link.report_doubt();
    }
    if link.is_pooled() && origin.calls.is_empty() && origin.task.is_none() {
        link.calls.doubt_anew();
    }
    if !has_share_left(link, &origin) {
        return link.send(unanswerable(&request.id, &request.method, TOO_OFTEN));
    }
    let is_prompt = &*request.method != "roots/list";
    // Many servers ask for roots as soon as they may, which is before the call for which the connection is opened.
    let precedes_calls = !is_prompt && link.is_pooled() && link.calls.is_uncalled();
    let question = match link.questions.open(&request.id, origin.calls.clone(), is_prompt) {
        Ok(question) => question,
        Err(NotOpened::Duplicate) => {
            const OPEN: &str = "a request with this id is still open";
            return link.send(error(&request.id, INVALID_REQUEST, OPEN));
        }
        Err(NotOpened::TooMany) => {
            return link.send(unanswerable(&request.id, &request.method, TOO_OFTEN));
        }
    };
    let page = match (Expecting::of(&request.method, &request.params), origin.port(link)) {
        (Expecting::Visit, Some(port)) => Some(Proposed::of(link, &request.params, port)),
        _ => None,
    };
    let link = Arc::clone(link);
    tokio::task::spawn_local(async move {
        let id = request.id.clone();
        let origin = match precedes_calls {
            true => next_origin(&link, 0, link.ask_deadline, &question.moot).await.unwrap_or_default(),
            false => origin,
        };
        let method = request.method.clone();
        let over = origin.task.as_ref().map(|task| task.over.clone()).unwrap_or_default();
        let answer = over.run_until_cancelled(async {
            match link.is_pooled() && !is_prompt && origin.task.is_none() {
                true => put_in_turn(&link, request, origin, &question.moot).await,
                false => put(&link, request, &origin, page, &question.moot).await,
            }
        });
        let answer = answer.await.flatten();
        let answer = answer.unwrap_or_else(|| unanswerable(&id, &method, NOBODY));
        // Who withdrew a question wants no answer, not even under the same id.
        if link.questions.close(&id, &question) {
            link.send(answer);
        }
    });
}

/// Whether one of the calls may cause one more question (S-SAMP-07).
fn has_share_left(link: &Link, origin: &Origin) -> bool {
    let share = link.question_rules.per_call;
    if let Some(task) = &origin.task {
        return task.count_question() <= share;
    }
    let caused = origin.calls.iter().map(|call| link.calls.count_question(*call)).min().unwrap_or(0);
    if caused == share.saturating_add(1) {
        tracing::warn!(upstream = %link.upstream, share, "a call causes more questions than it may");
    }
    caused <= share
}

/// The next call after that one, if it comes in time and anybody wants the answer still.
async fn next_origin(
    link: &Link,
    after: u64,
    within: Duration,
    withdrawn: &CancellationToken,
) -> Option<Origin> {
    let next = tokio::time::timeout(within, link.origin_of_next(after));
    withdrawn.run_until_cancelled(next).await?.ok()
}

/// Puts the question to the caller whose call is under way, and to the next one if that call is over before it is
/// answered: a server asks for roots once, when its connection opens, and a quick call is over before anybody could be
/// asked.
async fn put_in_turn(
    link: &Arc<Link>,
    request: Request,
    mut origin: Origin,
    withdrawn: &CancellationToken,
) -> Option<Vec<u8>> {
    loop {
        let answered = put(link, request.clone(), &origin, None, withdrawn).await;
        let is_over = origin.calls.iter().all(|call| link.calls.caller(*call).is_none());
        if answered.is_some() || withdrawn.is_cancelled() || !is_over {
            return answered;
        }
        let last = *origin.calls.iter().max()?;
        origin = next_origin(link, last, link.question_rules.maximum, withdrawn).await?;
    }
}

/// Puts the question to the client and gives the whole answer message for the upstream; `None` if the client cannot be
/// asked, or gives none.
pub(super) async fn put(
    link: &Arc<Link>,
    request: Request,
    origin: &Origin,
    mut page: Option<Proposed>,
    withdrawn: &CancellationToken,
) -> Option<Vec<u8>> {
    let (id, method) = (request.id.clone(), request.method.clone());
    let expecting = Expecting::of(&method, &request.params);
    let progress = progress_token(&request.params);
    if link.affinity() == Affinity::Shared {
        return Some(error(&id, METHOD_NOT_FOUND, "this connection declares no such capability"));
    }
    if let Some(kept) = link.kept_roots(&method) {
        return Some(origin.result(&id, &kept));
    }
    let port = origin.port(link).cloned()?;
    let wants_later = request.params.get("task").is_some();
    // A task's client answers through that task, and not with another one.
    let is_of_task = origin.caller.as_ref().is_some_and(|caller| caller.client.task_of.is_some());
    let may_be_later = wants_later && !is_of_task && link.may_be_answered_later(&method);
    // Held until the answer has come.
    let room = may_be_later.then(|| link.client_tasks.room()).flatten();
    let may_come_later = room.is_some();
    let request = match wants_later && !may_come_later {
        // What nobody declared means nothing (S-TASK-04), and what there is no room for is answered at once.
        true => Request { params: without_task(&request.params), ..request },
        false => request,
    };
    let asked = AskClient {
        upstream: link.upstream.clone(),
        asker: Arc::clone(&link.question_rules.asker),
        per_minute: link.question_rules.per_minute,
        request,
        stream: origin.stream().cloned(),
        otherwise: origin.some_stream().cloned(),
        task: None,
    };
    let question = match PutQuestion::put(&port, asked).await {
        Ok(question) => question,
        Err(QuestionRefused::Refused(code, text)) => return Some(error(&id, code, text)),
        Err(QuestionRefused::Answered(result)) => {
            tracing::info!(upstream = %link.upstream, %method, "a question that the client could not be shown was cancelled");
            return Some(origin.result(&id, result));
        }
        Err(QuestionRefused::TooOften) => return Some(unanswerable(&id, &method, TOO_OFTEN)),
        Err(QuestionRefused::TooMany | QuestionRefused::Gone) => return None,
    };
    let activities = match &origin.task {
        Some(task) => vec![Arc::clone(&task.activity)],
        None => link.calls.activities(&origin.calls),
    };
    let _held: Vec<_> = activities.into_iter().map(Activity::hold).collect();
    // Dropped with the wait for it, the question is withdrawn.
    let waiting = wait(link, question, progress, origin.task.is_some());
    let answered = withdrawn.run_until_cancelled(waiting).await.flatten();
    if let (Some(answer), Some(page)) = (&answered, &mut page)
        && is_accepted(answer)
    {
        page.is_agreed_to();
    }
    Some(match answered? {
        Answer::Result(result)
            if may_come_later && let Some(begun) = client_tasks::begun(link, &port, expecting, &result) =>
        {
            match begun {
                Ok(task) => origin.result(&id, &task),
                Err((code, text)) => error(&id, code, text),
            }
        }
        Answer::Result(result) => match answer(expecting, revision_of(link), &result) {
            Ok(object) => {
                link.keep_roots(expecting, &object);
                origin.result(&id, &object)
            }
            Err((code, text)) => error(&id, code, text),
        },
        Answer::Error(refusal) => message::error(&id, refusal.object.as_bytes()),
    })
}

/// Waits for the client, for as long as it is heard of.
pub(super) async fn wait(
    link: &Arc<Link>,
    question: PutQuestion,
    token: Option<RequestId>,
    is_of_task: bool,
) -> Option<Answer> {
    let rules = &link.question_rules;
    // A client without a session is told of the question later than it was asked, and perhaps again: from then on its
    // call counts the time, and ends the question with it. So is one that looks at its task now and then.
    let silence = if link.is_pooled() || is_of_task { rules.maximum } else { rules.wait };
    let mut reports = token.map(|token| Reports { token, last: f64::NEG_INFINITY });
    let report = |progress: &Object| {
        let params = reports.as_mut().and_then(|reports| reports.next(progress, revision_of(link)));
        let goes_forward = params.is_some();
        if let Some(params) = params {
            link.notify("notifications/progress", params);
        }
        goes_forward
    };
    question.answer(silence, rules.maximum, report).await
}

/// A link asks before its handshake is over only by mistake; then the newest words do.
pub(super) fn revision_of(link: &Link) -> Revision {
    link.facts().map_or(NEWEST_HANDSHAKE, |facts| facts.revision)
}

/// A client's progress on a question, under the upstream's own token (S-PROG-07).
struct Reports {
    token: RequestId,
    last: f64,
}

impl Reports {
    /// The parameters for the upstream; `None` for what does not go forward.
    fn next(&mut self, progress: &Object, revision: Revision) -> Option<Vec<u8>> {
        let value: f64 = std::str::from_utf8(progress.get("progress")?).ok()?.parse().ok()?;
        if value <= self.last {
            return None;
        }
        self.last = value;
        let mut edit = Edit::of(progress);
        edit.set("progressToken", self.token.as_bytes());
        if revision < Revision::V2025_03_26 {
            edit.remove("message");
        }
        let mut text = Vec::new();
        edit.write(&mut text);
        Some(text)
    }
}

/// The gateway's own answer to a question that reaches nobody (era-bridge §9.1).
pub(super) fn unanswerable(id: &RequestId, method: &str, why: &str) -> Vec<u8> {
    match method {
        "elicitation/create" => message::result(id, br#"{"action":"cancel"}"#),
        "sampling/createMessage" => error(id, USER_REJECTED, why),
        _ => error(id, INTERNAL_ERROR, why),
    }
}

pub(super) fn error(id: &RequestId, code: i64, text: &str) -> Vec<u8> {
    message::error(id, format!(r#"{{"code":{code},"message":{}}}"#, quote(text)).as_bytes())
}
