//! What the servers of one call ask its client, until it is answered.
//!
//! Always: a client is asked only what its request declared (S-MRTR-02); a question is answered once; bounded. Who shares
//! this learns of every change. Not here: when the client is told (`attendant`, `state`), whose question it is
//! (`upstream::questions`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::names::UpstreamName;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Object, quote};
use crate::protocol::translate::question::{Asked, Asking, Expecting};
use crate::upstream::client_port::Reach;
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient};

/// Questions of one call that may be open at once.
const AT_ONCE: usize = 16;
/// Pages that may be reported as completed before anybody asks.
const PAGES: usize = 64;

/// See the module head.
#[derive(Debug)]
pub struct Inputs {
    revision: Revision,
    capabilities: ClientCapabilities,
    table: Mutex<Table>,
    /// One watcher at a time: whoever runs the call.
    changed: Notify,
    page_completed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    last: u64,
    open: BTreeMap<u64, Input>,
    /// Who asked last.
    asker: Option<UpstreamName>,
    /// Identifiers of pages, the server's own.
    completed: Vec<String>,
}

#[derive(Debug)]
struct Input {
    key: String,
    method: Box<str>,
    params: Vec<u8>,
    expecting: Expecting,
    answer: oneshot::Sender<Answer>,
}

impl Inputs {
    /// For a client of that revision which declared this with its request.
    pub fn new(revision: Revision, capabilities: ClientCapabilities) -> Arc<Self> {
        Inputs::counting_from(0, revision, capabilities)
    }

    /// As [`Inputs::new`], with keys that count on from this number, so that none of them was used before.
    pub fn counting_from(last: u64, revision: Revision, capabilities: ClientCapabilities) -> Arc<Self> {
        Arc::new(Inputs {
            revision,
            capabilities,
            table: Mutex::new(Table { last, ..Table::default() }),
            changed: Notify::new(),
            page_completed: Notify::new(),
        })
    }

    /// How upstreams reach it.
    pub fn port(self: &Arc<Self>) -> impl Reach + use<> {
        InputsPort(Arc::clone(self))
    }

    fn pose(&self, asked: &AskClient) -> Result<Question, QuestionRefused> {
        let (method, params) = (&asked.request.method, &asked.request.params);
        // No progress is asked for, so that no token is needed.
        let (revision, capabilities) = (self.revision, &self.capabilities);
        let asking = Asking { asker: &asked.asker, revision, capabilities, token: 0, task: None };
        let text = match asking.question(method, params, &mut |_| None) {
            Asked::Put(text) => text,
            Asked::Refused(code, text) => return Err(QuestionRefused::Refused(code, text)),
            Asked::Answered(result) => return Err(QuestionRefused::Answered(result)),
        };
        let mut table = self.lock();
        if table.closed {
            return Err(QuestionRefused::Gone);
        }
        if table.open.len() >= AT_ONCE {
            return Err(QuestionRefused::TooMany);
        }
        table.last += 1;
        let number = table.last;
        let (answer, answered) = oneshot::channel();
        let input = Input {
            key: format!("{}-{number}", word(method)),
            method: method.clone(),
            params: text,
            expecting: Expecting::of(method, params),
            answer,
        };
        table.open.insert(number, input);
        table.asker = Some(asked.upstream.clone());
        drop(table);
        self.changed.notify_one();
        Ok(Question {
            number,
            answer: answered,
            // Nobody will tell of any.
            progress: watch::channel(None).1,
            lost: CancellationToken::new(),
        })
    }

    /// Resolves when a question was added or withdrawn since the last time.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether anything is asked.
    pub fn are_open(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// Who asked last.
    pub(super) fn asker(&self) -> Option<UpstreamName> {
        self.lock().asker.clone()
    }

    /// What is asked now, all of it or that of these numbers, and the same as `inputRequests`; `None` when nothing is.
    pub fn requests(&self, only: Option<&[u64]>) -> Option<(Vec<u64>, Bytes)> {
        let table = self.lock();
        let meant = |number: &u64| only.is_none_or(|only| only.contains(number));
        let meant: Vec<_> = table.open.iter().filter(|(number, _)| meant(number)).collect();
        if meant.is_empty() {
            return None;
        }
        let requests = meant.iter().map(|(_, input)| (&*input.key, &*input.method, &input.params[..]));
        let text = written(requests);
        Some((meant.iter().map(|(number, _)| **number).collect(), text))
    }

    /// What is waited for by this number, and under which key the client was told; `None` when nobody waits any longer.
    pub fn expected(&self, number: u64) -> Option<(String, Expecting)> {
        let table = self.lock();
        let input = table.open.get(&number).filter(|input| !input.answer.is_closed())?;
        Some((input.key.clone(), input.expecting))
    }

    /// Hands an answer to whoever asked; one that nobody waits for any longer is ignored.
    pub fn answer(&self, number: u64, result: Object) {
        let input = self.lock().open.remove(&number);
        if let Some(input) = input {
            let _ = input.answer.send(Answer::Result(result));
        }
    }

    fn withdraw(&self, number: u64) {
        let withdrawn = self.lock().open.remove(&number);
        if withdrawn.is_some() {
            self.changed.notify_one();
        }
    }

    /// Nobody is asked anything any longer: servers get the answers that nobody gives (era-bridge §4.3).
    pub fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let open = std::mem::take(&mut table.open);
        drop(table);
        drop(open);
    }

    fn completed(&self, id: &str) {
        let mut table = self.lock();
        if table.completed.len() < PAGES {
            table.completed.push(id.to_owned());
        }
        drop(table);
        self.page_completed.notify_waiters();
    }

    /// Resolves when all these pages were reported as completed.
    pub(super) async fn until_completed(&self, ids: &[String]) {
        loop {
            let told = self.page_completed.notified();
            let are_completed = {
                let table = self.lock();
                ids.iter().all(|id| table.completed.contains(id))
            };
            if are_completed {
                return;
            }
            told.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `inputRequests` of these keys, methods and parameters.
pub(super) fn written<'r>(requests: impl Iterator<Item = (&'r str, &'r str, &'r [u8])>) -> Bytes {
    let mut text = Vec::new();
    for (at, (key, method, params)) in requests.enumerate() {
        text.push(if at == 0 { b'{' } else { b',' });
        text.extend_from_slice(
            format!(r#"{}:{{"method":{},"params":"#, quote(key), quote(method)).as_bytes(),
        );
        text.extend_from_slice(params);
        text.push(b'}');
    }
    text.push(b'}');
    text.into()
}

/// The beginning of a key, for people who read messages.
fn word(method: &str) -> &'static str {
    match method {
        "sampling/createMessage" => "sampling",
        "roots/list" => "roots",
        _ => "elicitation",
    }
}

struct InputsPort(Arc<Inputs>);

impl Reach for InputsPort {
    /// Its client may hold an upstream's state itself, and need not be waited for.
    fn asks_by_requests(&self) -> bool {
        false
    }

    fn ask(&self, asked: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>> {
        std::future::ready(self.0.pose(&asked)).boxed_local()
    }

    fn withdraw(&self, number: u64) {
        self.0.withdraw(number);
    }

    /// Of what belongs to no call, only word of pages that this one waits for means anything to a client without a session.
    fn tell(&self, news: TellClient) -> bool {
        if &*news.notification.method == "notifications/elicitation/complete"
            && let Some(id) = news.notification.params.text("elicitationId")
        {
            self.0.completed(&id);
        }
        true
    }

    fn admits_log(&self, _: &UpstreamName, _: &Object) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::protocol::frame::Request;
    use crate::protocol::frame::RequestId;
    use crate::protocol::json::Limits;
    use crate::protocol::translate::question::Asker;

    pub(crate) fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
    }

    pub(crate) fn inputs(capabilities: &str) -> Arc<Inputs> {
        let revision = Revision::V2026_07_28;
        Inputs::new(revision, ClientCapabilities::of(&object(capabilities), revision))
    }

    /// A question of a server.
    pub(crate) fn asked(method: &str, params: &str) -> AskClient {
        AskClient {
            upstream: UpstreamName::new("one"),
            asker: Arc::new(Asker {
                title: "One".into(),
                title_in_message: false,
                roots: true,
                sampling: true,
                elicitation: true,
                context: false,
            }),
            per_minute: NonZeroU32::new(100).expect("a hundred"),
            request: Request { id: RequestId::text("theirs"), method: method.into(), params: object(params) },
            stream: None,
            otherwise: None,
            task: None,
        }
    }

    pub(crate) const FORM: &str = r#"{"message":"m","requestedSchema":{"type":"object","properties":{}}}"#;

    /// Puts a question that is declared.
    pub(crate) fn pose(inputs: &Inputs, method: &str, params: &str) -> Question {
        inputs.pose(&asked(method, params)).expect("declared")
    }

    #[test]
    fn s_mrtr_02_only_what_the_request_declared_is_asked() {
        let inputs = inputs(r#"{"elicitation":{}}"#);
        let refused = |method, params| inputs.pose(&asked(method, params)).err();
        let undeclared = refused("roots/list", "{}");
        assert!(matches!(undeclared, Some(QuestionRefused::Refused(-32601, _))), "{undeclared:?}");
        let page = r#"{"mode":"url","message":"m","url":"https://a","elicitationId":"e"}"#;
        let mode = refused("elicitation/create", page);
        assert!(matches!(mode, Some(QuestionRefused::Refused(-32602, _))), "{mode:?}");
        assert!(!inputs.are_open());
        pose(&inputs, "elicitation/create", FORM);
        let (_, text) = inputs.requests(None).expect("one is open");
        let requests = object(std::str::from_utf8(&text).expect("UTF-8"));
        let request = requests.object("elicitation-1").expect("its key is its own");
        assert_eq!(request.text("method").as_deref(), Some("elicitation/create"));
        assert!(request.object("params").expect("there").meta("switchyard/server").is_some());
    }

    #[test]
    fn s_mrtr_07_a_question_is_answered_once_and_not_after_it_was_withdrawn() {
        let inputs = inputs(r#"{"roots":{}}"#);
        let mut first = pose(&inputs, "roots/list", "{}");
        let mut second = pose(&inputs, "roots/list", "{}");
        inputs.answer(first.number, object(r#"{"roots":[]}"#));
        inputs.answer(first.number, object(r#"{"roots":[{"uri":"file:///late"}]}"#));
        let answer = first.answer.try_recv().expect("it is there");
        assert!(matches!(answer, Answer::Result(result) if result.as_bytes() == br#"{"roots":[]}"#));
        InputsPort(Arc::clone(&inputs)).withdraw(second.number);
        assert!(inputs.requests(None).is_none() && second.answer.try_recv().is_err());
        let mut third = pose(&inputs, "roots/list", "{}");
        inputs.close();
        assert!(third.answer.try_recv().is_err());
        let late = inputs.pose(&asked("roots/list", "{}")).err();
        assert_eq!(late, Some(QuestionRefused::Gone));
    }

    #[test]
    fn s_mrtr_16_a_call_has_so_many_open_questions_and_no_more() {
        let inputs = inputs(r#"{"roots":{}}"#);
        let open: Vec<_> = (0..AT_ONCE).map(|_| pose(&inputs, "roots/list", "{}")).collect();
        assert_eq!(inputs.pose(&asked("roots/list", "{}")).err(), Some(QuestionRefused::TooMany));
        assert_eq!(inputs.requests(None).expect("open").0.len(), open.len());
    }

    #[tokio::test]
    async fn s_elic_08_pages_may_be_completed_before_anybody_waits_for_that() {
        let inputs = inputs("{}");
        inputs.completed("a");
        let ids = ["a".to_owned(), "b".to_owned()];
        let mut waiting = Box::pin(inputs.until_completed(&ids));
        assert!((&mut waiting).now_or_never().is_none());
        inputs.completed("b");
        waiting.await;
    }
}
