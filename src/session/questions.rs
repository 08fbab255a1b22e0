//! Questions of upstreams that the client of one session has not answered yet.
//!
//! Always: a client is asked only what it declared, under a number of the gateway's own (S-SAMP-01), by one server no
//! oftener than it may and not more at once; an answer counts once. Not here: on which stream a question goes out
//! (`state`), whose question it is (`upstream::questions`), what of it is shown (`protocol::translate::question`).

use std::collections::HashMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::elicitations::Elicitations;
use super::messages::RequireUrls;
use crate::names::UpstreamName;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, RequestId};
use crate::protocol::json::Object;
use crate::protocol::message;
use crate::protocol::translate::question::{Asked, Asking, is_accepted, url_required};
use crate::upstream::call::EventSink;
use crate::upstream::messages::{AskClient, Question, QuestionRefused};

/// Questions of one server that may wait for answers at once: whatever it asks, others may ask as well (S-TRUST-03).
const PER_SERVER: usize = 16;

/// How often one server may look at tasks that the client keeps for it (S-TASK-24).
const LOOKS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("not zero");

#[derive(Debug)]
pub(super) struct Questions {
    revision: Revision,
    capabilities: ClientCapabilities,
    last_number: u64,
    pending: HashMap<u64, PendingQuestion>,
    elicitations: Elicitations,
    rates: HashMap<UpstreamName, Rate>,
    /// Of looks at tasks that the client keeps.
    looks: HashMap<UpstreamName, Rate>,
}

#[derive(Debug)]
struct PendingQuestion {
    upstream: UpstreamName,
    answer: oneshot::Sender<Answer>,
    progress: watch::Sender<Option<Object>>,
    /// The call's stream that it was put on; what follows it goes there as well.
    stream: Option<EventSink>,
    /// Whether it is that of the call which caused it.
    is_of_its_call: bool,
    /// The page it is about, by the identifier the client knows.
    page: Option<String>,
}

/// How often one server has asked.
#[derive(Debug)]
struct Rate {
    limiter: DefaultDirectRateLimiter,
    told: bool,
}

impl Questions {
    pub(super) fn new(revision: Revision, capabilities: ClientCapabilities) -> Self {
        Questions {
            revision,
            capabilities,
            last_number: 0,
            pending: HashMap::new(),
            elicitations: Elicitations::default(),
            rates: HashMap::new(),
            looks: HashMap::new(),
        }
    }

    /// Numbers larger than this, because those up to it may have been used.
    pub(super) fn number_from(&mut self, last: u64) {
        self.last_number = last;
    }

    /// Takes a question on, for that stream: where its answer will arrive, and the message for the client.
    pub(super) fn ask(
        &mut self,
        asked: &AskClient,
        stream: Option<&EventSink>,
    ) -> Result<(Question, Bytes), QuestionRefused> {
        // What nobody waits for any longer takes no place, but stays until its withdrawal comes, which its client is told.
        let awaited =
            |question: &&PendingQuestion| question.upstream == asked.upstream && !question.answer.is_closed();
        if self.pending.values().filter(awaited).count() >= PER_SERVER {
            return Err(QuestionRefused::TooMany);
        }
        let (method, params) = (&*asked.request.method, &asked.request.params);
        let number = self.last_number + 1;
        let (capabilities, revision) = (&self.capabilities, self.revision);
        let task = asked.task.as_deref();
        let asking = Asking { asker: &asked.asker, revision, capabilities, token: number, task };
        let refused = |instead| match instead {
            Asked::Put(params) => Ok(params),
            Asked::Refused(code, text) => Err(QuestionRefused::Refused(code, text)),
            Asked::Answered(result) => Err(QuestionRefused::Answered(result)),
        };
        if let Err(instead) = asking.permitted(method) {
            refused(instead)?;
        }
        // Before anything is made of it. A look at a task disturbs no person.
        match method.starts_with("tasks/") {
            true => count(&mut self.looks, &asked.upstream, LOOKS_PER_MINUTE)?,
            false => count(&mut self.rates, &asked.upstream, asked.per_minute)?,
        }
        let (mark, mut page) = (self.elicitations.mark(), None);
        let mut mint = |original: &str| {
            page = self.elicitations.open(&asked.upstream, original, stream);
            page.clone()
        };
        let params = match refused(asking.question(method, params, &mut mint)) {
            Ok(params) => params,
            Err(refusal) => {
                self.elicitations.forget_since(mark);
                return Err(refusal);
            }
        };
        if let Some(page) = &page {
            self.elicitations.asked(page);
        }
        self.last_number = number;
        let (answer, answered) = oneshot::channel();
        let (progress, progressed) = watch::channel(None);
        let (upstream, is_of_its_call) = (asked.upstream.clone(), asked.stream.is_some());
        let stream = stream.cloned();
        let question = PendingQuestion { upstream, answer, progress, stream, is_of_its_call, page };
        self.pending.insert(number, question);
        let text = message::request(number, method, &params).into();
        let lost = CancellationToken::new();
        Ok((Question { number, answer: answered, progress: progressed, lost }, text))
    }

    /// A question of this upstream is on its way to the client, and so is what it says.
    pub(super) fn was_put(&mut self, upstream: &UpstreamName) {
        self.elicitations.shown(upstream);
    }

    /// A question found no way to the client.
    pub(super) fn was_not_put(&mut self, number: u64) {
        if let Some(PendingQuestion { page: Some(page), .. }) = self.pending.remove(&number) {
            self.elicitations.not_asked(&page);
        }
    }

    /// Hands an answer to whoever asked; one that nobody asked for is ignored.
    pub(super) fn answered(&mut self, number: u64, answer: Answer) {
        let Some(question) = self.pending.remove(&number) else { return };
        match &question.page {
            Some(page) if is_accepted(&answer) => self.elicitations.accepted(page),
            Some(page) => self.elicitations.declined(page),
            None => {}
        }
        // The upstream may have withdrawn its question meanwhile.
        let _ = question.answer.send(answer);
    }

    /// The client is at work on a question; what names none is ignored.
    pub(super) fn progressed(&mut self, params: Object) {
        let token = params.share("progressToken").and_then(RequestId::from_raw);
        let question = token.and_then(|token| self.pending.get(&token.as_number()?));
        if let Some(question) = question {
            question.progress.send_replace(Some(params));
        }
    }

    /// Gives up on a question that is still open: what to tell the client, and on which stream.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<(Bytes, Option<EventSink>)> {
        let question = self.pending.remove(&number)?;
        if let Some(page) = &question.page {
            self.elicitations.declined(page);
        }
        let params = format!(r#"{{"requestId":{number},"reason":"no longer needed"}}"#);
        let text = message::notification("notifications/cancelled", params.as_bytes()).into();
        Some((text, question.stream))
    }

    /// The questions that the call of this stream caused.
    pub(super) fn caused_on(&self, stream: &EventSink) -> Vec<u64> {
        let on_it = |question: &PendingQuestion| {
            question.is_of_its_call && question.stream.as_ref().is_some_and(|own| own.is(stream))
        };
        self.pending.iter().filter(|(_, question)| on_it(question)).map(|(number, _)| *number).collect()
    }

    /// An upstream says that a page was completed: what to tell the client of it, once, and on which stream.
    pub(super) fn page_completed(
        &mut self,
        upstream: &UpstreamName,
        params: &Object,
    ) -> Option<(Bytes, Option<EventSink>)> {
        let (params, stream) = self.elicitations.completed(upstream, params)?;
        Some((message::notification("notifications/elicitation/complete", &params).into(), stream))
    }

    /// A page was completed that this client is being told of: word of that waits until then.
    pub(super) fn completed_early(&mut self, upstream: &UpstreamName, params: Object) {
        self.elicitations.completed_early(upstream, params);
    }

    /// What was said of this upstream's pages before the client knew of them, and can be told now.
    pub(super) fn told_early(&mut self, upstream: &UpstreamName) -> Vec<Object> {
        self.elicitations.told_early(upstream)
    }

    /// The error of a call that waits for pages, as this client may see it; `None` when it cannot be shown (S-ELIC-09).
    pub(super) fn urls_required(&mut self, required: &RequireUrls) -> Option<Bytes> {
        if !(self.capabilities.elicitation_url() && required.asker.elicitation) {
            return None;
        }
        let elicitations = &mut self.elicitations;
        let mark = elicitations.mark();
        let mut mint = |original: &str| elicitations.open(&required.upstream, original, None);
        let error = url_required(&required.asker, &required.error, &mut mint);
        match error {
            Some(_) => elicitations.shown(&required.upstream),
            None => elicitations.forget_since(mark),
        }
        error.map(Bytes::from)
    }

    pub(super) fn open(&self) -> usize {
        self.pending.len()
    }
}

/// Every question that a client may be asked counts, whatever is wrong with it, and the first one too many is logged
/// (S-ELIC-14).
fn count(
    rates: &mut HashMap<UpstreamName, Rate>,
    upstream: &UpstreamName,
    per_minute: NonZeroU32,
) -> Result<(), QuestionRefused> {
    let rate = rates
        .entry(upstream.clone())
        .or_insert_with(|| Rate { limiter: RateLimiter::direct(Quota::per_minute(per_minute)), told: false });
    if rate.limiter.check().is_ok() {
        return Ok(());
    }
    if !std::mem::replace(&mut rate.told, true) {
        tracing::warn!(%upstream, limit = per_minute, "a server asks a client too often");
    }
    Err(QuestionRefused::TooOften)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::protocol::code::METHOD_NOT_FOUND;
    use crate::protocol::frame::Request;
    use crate::protocol::json::Limits;
    use crate::protocol::translate::question::Asker;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
    }

    fn asker() -> Arc<Asker> {
        Arc::new(Asker {
            title: "One".into(),
            title_in_message: true,
            roots: true,
            sampling: true,
            elicitation: true,
            context: false,
        })
    }

    pub(in crate::session) fn asked(upstream: &str, method: &str, params: &str) -> AskClient {
        AskClient {
            upstream: UpstreamName::new(upstream),
            asker: asker(),
            per_minute: NonZeroU32::new(3).expect("three"),
            request: Request { id: RequestId::text("theirs"), method: method.into(), params: object(params) },
            stream: None,
            otherwise: None,
            task: None,
        }
    }

    fn questions(capabilities: &str) -> Questions {
        let revision = Revision::V2025_11_25;
        Questions::new(revision, ClientCapabilities::of(&object(capabilities), revision))
    }

    const PAGE: &str = r#"{"mode":"url","message":"m","url":"https://a","elicitationId":"e"}"#;

    #[test]
    fn s_elic_14_one_server_asks_only_so_often_and_others_may_still() {
        let mut questions = questions(r#"{"roots":{}}"#);
        for _ in 0..3 {
            questions.ask(&asked("one", "roots/list", "{}"), None).expect("within the rate");
        }
        let refused = questions.ask(&asked("one", "roots/list", "{}"), None).err();
        assert_eq!(refused, Some(QuestionRefused::TooOften));
        questions.ask(&asked("two", "roots/list", "{}"), None).expect("another server");
        let undeclared = questions.ask(&asked("one", "elicitation/create", PAGE), None).err();
        assert!(matches!(undeclared, Some(QuestionRefused::Refused(METHOD_NOT_FOUND, _))), "{undeclared:?}");
    }

    #[test]
    fn s_prog_07_progress_reaches_the_question_it_names_while_it_is_open() {
        let mut questions = questions(r#"{"roots":{}}"#);
        let (question, text) = questions
            .ask(&asked("one", "roots/list", r#"{"_meta":{"progressToken":"t"}}"#), None)
            .expect("declared");
        assert!(text.windows(19).any(|part| part == br#""progressToken":1}}"#), "{text:?}");
        questions.progressed(object(r#"{"progressToken":2,"progress":1}"#));
        assert!(question.progress.borrow().is_none(), "another question");
        questions.progressed(object(r#"{"progressToken":1,"progress":1}"#));
        assert!(question.progress.borrow().is_some());
    }

    #[test]
    fn s_trust_03_one_server_takes_no_more_places_than_its_own() {
        let mut questions = questions(r#"{"roots":{}}"#);
        let ask = |questions: &mut Questions, upstream| {
            let per_minute = NonZeroU32::new(1_000).expect("a thousand");
            questions.ask(&AskClient { per_minute, ..asked(upstream, "roots/list", "{}") }, None)
        };
        let mut open: Vec<_> =
            (0..PER_SERVER).map(|_| ask(&mut questions, "greedy").expect("its own").0).collect();
        assert_eq!(ask(&mut questions, "greedy").err(), Some(QuestionRefused::TooMany));
        ask(&mut questions, "calm").expect("another server");
        open.pop();
        ask(&mut questions, "greedy").expect("nobody waits for the one that was given up");
    }

    #[test]
    fn s_canc_04_a_question_that_is_to_be_withdrawn_is_there_until_then_whatever_is_asked_before() {
        let mut questions = questions(r#"{"elicitation":{"url":{}}}"#);
        let (question, _) = questions.ask(&asked("one", "elicitation/create", PAGE), None).expect("declared");
        // Its asker has gone; word of that waits behind the next question.
        let number = question.number;
        drop(question);
        questions
            .ask(&asked("one", "elicitation/create", &PAGE.replace(r#""e""#, r#""f""#)), None)
            .expect("declared");
        let (told, _) = questions.withdraw(number).expect("the client is told");
        assert!(String::from_utf8_lossy(&told).contains("notifications/cancelled"), "{told:?}");
        let completed =
            questions.page_completed(&UpstreamName::new("one"), &object(r#"{"elicitationId":"e"}"#));
        assert!(completed.is_none(), "nobody is on the page");
    }

    #[test]
    fn s_elic_08_a_page_that_was_declined_is_never_completed() {
        let mut questions = questions(r#"{"elicitation":{"url":{}}}"#);
        let one = UpstreamName::new("one");
        for (answer, told) in [("decline", false), ("accept", true)] {
            let (question, _) =
                questions.ask(&asked("one", "elicitation/create", PAGE), None).expect("declared");
            let answer = Answer::Result(object(&format!(r#"{{"action":"{answer}"}}"#)));
            questions.answered(question.number, answer);
            let completed = questions.page_completed(&one, &object(r#"{"elicitationId":"e"}"#));
            assert_eq!(completed.is_some(), told);
        }
    }

    #[test]
    fn s_elic_14_a_question_too_many_leaves_no_page_behind_and_pushes_none_out() {
        let mut questions = questions(r#"{"elicitation":{"url":{}}}"#);
        let one = UpstreamName::new("one");
        let page = |id: &str| {
            let page = PAGE.replace(r#""e""#, &format!(r#""{id}""#));
            asked("one", "elicitation/create", &page)
        };
        for id in ["a", "b", "c"] {
            questions.ask(&page(id), None).expect("within the rate");
            questions.was_put(&one);
        }
        let refused = questions.ask(&page("too often"), None).err();
        assert_eq!(refused, Some(QuestionRefused::TooOften));
        assert_eq!(questions.elicitations.mark(), 3);
        let broken = PAGE.replace("https", "file");
        let refused = questions.ask(&asked("one", "elicitation/create", &broken), None).err();
        assert_eq!(refused, Some(QuestionRefused::TooOften), "what is broken counts as well");
    }

    #[test]
    fn s_elic_08_questions_about_one_page_do_not_close_it_for_each_other() {
        let mut questions = questions(r#"{"elicitation":{"url":{}}}"#);
        let ask = |questions: &mut Questions| {
            questions.ask(&asked("one", "elicitation/create", PAGE), None).expect("declared").0.number
        };
        let (first, second) = (ask(&mut questions), ask(&mut questions));
        questions.withdraw(first);
        questions.answered(second, Answer::Result(object(r#"{"action":"accept"}"#)));
        let completed =
            questions.page_completed(&UpstreamName::new("one"), &object(r#"{"elicitationId":"e"}"#));
        assert!(completed.is_some(), "somebody is on the page");
    }
}
