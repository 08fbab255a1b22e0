//! What one session remembers, as a plain state machine: events in, messages for the client out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::changes::{PROMPTS, PendingChanges, RESOURCES, TEMPLATES, TOOLS};
use super::handle::PublicUris;
use super::kept::{KeptSubscription, SessionRow, first_of};
use super::messages::{StoppedFollowing, StreamTaken, TaskChanged};
use super::questions::Questions;
use super::stream::{LoggedEvent, StreamReader, Weight};
use super::streams::Streams;
use super::untold::{News, Untold};
use crate::names::UpstreamName;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::covering::{covers, shown_as};
use crate::protocol::era::Revision;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::log_level::{LogLevel, is_severe_enough, log_params};
use crate::protocol::message;
use crate::protocol::splice::Edit;
use crate::upstream::events::{CallEvent, EventSink, SessionMessage};
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient};

/// Messages that may wait for the end of the client's handshake.
const WAITING: usize = 64;
/// Bytes of them, beyond which no other is taken.
const WAITING_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct State {
    /// What comes before the client finished its handshake waits for that (S-LIFE-03).
    waiting: Option<VecDeque<Waiting>>,
    questions: Questions,
    subscriptions: HashMap<String, Subscription>,
    streams: Arc<Streams>,
    changed: Arc<PendingChanges>,
    public_uris: PublicUris,
    untold: Untold,
}

#[derive(Debug)]
struct Waiting {
    message: SessionMessage,
    weight: Weight,
    stream: Option<EventSink>,
}

#[derive(Debug, PartialEq, Eq)]
struct Subscription {
    local: String,
    upstream: UpstreamName,
}

impl State {
    pub(super) fn new(
        revision: Revision,
        capabilities: ClientCapabilities,
        streams: Arc<Streams>,
        changed: Arc<PendingChanges>,
    ) -> Self {
        State {
            waiting: Some(VecDeque::new()),
            questions: Questions::new(revision, capabilities),
            subscriptions: HashMap::new(),
            streams,
            changed,
            public_uris: PublicUris::default(),
            untold: Untold::default(),
        }
    }

    pub(super) fn with_public_uris(mut self, public_uris: PublicUris) -> Self {
        self.public_uris = public_uris;
        self
    }

    /// What the gateway before this one knew of the session.
    pub(super) fn go_on(&mut self, row: &SessionRow) {
        if row.is_ready {
            self.waiting = None;
        }
        self.questions.number_from(first_of(row.generation));
        let subscriptions = row.subscriptions.iter().map(|(public, kept)| {
            let upstream = UpstreamName::new(kept.upstream.as_str());
            (public.clone(), Subscription { local: kept.local.clone(), upstream })
        });
        self.subscriptions = subscriptions.collect();
    }

    /// Notes what has become of the session where that outlives the gateway.
    fn keep(&self, change: impl FnOnce(&mut SessionRow)) {
        if let Some(journal) = self.streams.journal() {
            journal.change(change);
        }
    }

    /// The client finished its handshake: what had to wait may go now.
    pub(super) fn client_is_ready(&mut self) {
        self.keep(|row| row.is_ready = true);
        for Waiting { message, weight, stream } in self.waiting.take().unwrap_or_default() {
            self.send(message, weight, stream.as_ref());
        }
        self.tell_changes();
    }

    /// Opens the standing stream: what waited for one goes first. One is enough, unless `resume` proves that the client
    /// of the one before has lost it.
    pub(super) fn open_stream(&mut self, resume: Option<u64>) -> Result<StreamReader, StreamTaken> {
        let standing = self.streams.standing();
        if resume.is_none() && standing.is_attended() {
            return Err(StreamTaken);
        }
        let reader = standing.read_after(resume);
        self.tell_changes();
        Ok(reader)
    }

    /// Puts a question to the client: on the causing call's stream, else on the standing one if somebody reads it, else
    /// on that of a call that may have caused it, else when the standing one opens.
    pub(super) fn ask(&mut self, asked: &AskClient) -> Result<Question, QuestionRefused> {
        let otherwise = asked.otherwise.as_ref().filter(|_| !self.streams.standing().is_attended());
        let stream = asked.stream.as_ref().or(otherwise);
        let (question, text) = self.questions.ask(asked, stream)?;
        let message = SessionMessage::awaited(text, question.lost.clone());
        if self.deliver_message(message, Weight::Lasting, stream) {
            self.questions.was_put(&asked.upstream);
            self.tell_early(&asked.upstream);
            return Ok(question);
        }
        self.questions.was_not_put(question.number);
        Err(QuestionRefused::TooMany)
    }

    /// The questions under way.
    pub(super) fn questions(&mut self) -> &mut Questions {
        &mut self.questions
    }

    /// Hands an answer to whoever asked; one that nobody asked for is ignored.
    pub(super) fn answered(&mut self, number: u64, answer: Answer) {
        self.questions.answered(number, answer);
    }

    /// The upstream gave up on its question: the client is told, and its answer will be ignored.
    pub(super) fn withdraw(&mut self, number: u64) {
        if let Some((text, stream)) = self.questions.withdraw(number) {
            self.deliver(text, Weight::Lasting, stream.as_ref());
        }
    }

    /// The call of that stream is over: nobody needs the answers to what was asked on it.
    pub(super) fn withdraw_all_on(&mut self, stream: &EventSink) {
        for number in self.questions.caused_on(stream) {
            self.withdraw(number);
        }
    }

    /// Says whether it is a new one.
    pub(super) fn subscribe(&mut self, public: String, local: String, upstream: UpstreamName) -> bool {
        let subscription = Subscription { local, upstream };
        if self.subscriptions.get(&public) == Some(&subscription) {
            return false;
        }
        // The URI has become another server's: what it was before goes on under the name that it has now.
        if let Some(before) = self.subscriptions.insert(public, subscription) {
            let renamed = self.public_uris.of(&before.upstream, &before.local);
            self.subscriptions.entry(renamed).or_insert(before);
        }
        self.keep_subscriptions();
        true
    }

    fn keep_subscriptions(&self) {
        let kept = |Subscription { local, upstream }: &Subscription| KeptSubscription {
            local: local.clone(),
            upstream: upstream.as_str().to_owned(),
        };
        self.keep(|row| {
            row.subscriptions =
                self.subscriptions.iter().map(|(public, of)| (public.clone(), kept(of))).collect();
        });
    }

    /// Forgets a subscription, or one that `otherwise` says it would have been.
    pub(super) fn stop_following(
        &mut self,
        public: &str,
        otherwise: Option<(String, UpstreamName)>,
    ) -> StoppedFollowing {
        let known = self.subscriptions.remove(public);
        self.keep_subscriptions();
        let otherwise = || otherwise.map(|(local, upstream)| Subscription { local, upstream });
        let Some(ended) = known.or_else(otherwise) else { return StoppedFollowing::Unknown };
        if self.subscriptions.values().any(|other| *other == ended) {
            return StoppedFollowing::StillFollowed;
        }
        StoppedFollowing::Over { local: ended.local, upstream: ended.upstream }
    }

    pub(super) fn unsubscribe(&mut self, public: &str) {
        self.subscriptions.remove(public);
        self.keep_subscriptions();
    }

    /// News of an upstream that belong to no call.
    pub(super) fn tell(&mut self, told: &TellClient, level: LogLevel) {
        let TellClient { upstream, in_loggers, is_expected, notification: news } = told;
        match &*news.method {
            // Judged before it came here (`LogGate`); the client may have changed its mind since.
            "notifications/message" if is_severe_enough(&news.params, level) => {
                let params = log_params(in_loggers.then(|| upstream.as_str()), &news.params);
                let text = message::notification("notifications/message", &params);
                self.deliver(text.into(), Weight::Passing, None);
            }
            "notifications/elicitation/complete" => {
                let is_known = self.tell_completed(upstream, &news.params);
                if *is_expected && !is_known {
                    self.questions.completed_early(upstream, news.params.clone());
                }
            }
            "notifications/resources/updated" => self.resource_updated(upstream, &news.params),
            _ => {}
        }
    }

    /// Says whether the client knew of the page.
    fn tell_completed(&mut self, upstream: &UpstreamName, params: &Object) -> bool {
        let Some((text, stream)) = self.questions.page_completed(upstream, params) else { return false };
        self.deliver(text, Weight::Lasting, stream.as_ref());
        true
    }

    /// The client knows more of this upstream's pages than before: what was said of them meanwhile is told now.
    pub(super) fn tell_early(&mut self, upstream: &UpstreamName) {
        for params in self.questions.told_early(upstream) {
            self.tell_completed(upstream, &params);
        }
    }

    fn resource_updated(&mut self, upstream: &UpstreamName, params: &Object) {
        let Some(uri) = params.text("uri") else { return };
        let covering = self.subscriptions.iter().filter(|(_, subscription)| {
            subscription.upstream == *upstream && covers(&subscription.local, &uri)
        });
        // Under each kind of name by which the client follows it: as the endpoint shows it, or wrapped.
        let mut told: Vec<String> = Vec::new();
        for (public, subscription) in covering {
            let as_shown = |uri: &str| self.public_uris.of(upstream, uri);
            let shown = shown_as(public, &subscription.local, &uri, as_shown);
            if !told.contains(&shown) {
                told.push(shown);
            }
        }
        for public in told {
            let mut edit = Edit::of(params);
            edit.set_text("uri", &public);
            let mut text = Vec::new();
            edit.write(&mut text);
            let text = message::notification("notifications/resources/updated", &text).into();
            if self.waiting.is_some() {
                self.deliver(text, Weight::Lasting, None);
            } else if self.untold.tell(News::Updated(public), text, &self.streams).is_err() {
                tracing::debug!(%upstream, "an update found no place");
            }
        }
    }

    /// A task of this client changed its state: said where somebody reads it, and to nobody else, because clients look for
    /// themselves (S-TASK-18). That one is over gives way to nothing that merely passes.
    pub(super) fn task_changed(&mut self, changed: &TaskChanged) {
        if self.waiting.is_some() || !self.streams.standing().is_attended() {
            return;
        }
        let params = format!("{{{}}}", changed.members);
        let text = message::notification("notifications/tasks/status", params.as_bytes());
        let weight = if changed.is_over { Weight::Lasting } else { Weight::Passing };
        self.deliver(text.into(), weight, None);
    }

    fn deliver(&mut self, text: Bytes, weight: Weight, stream: Option<&EventSink>) -> bool {
        self.deliver_message(SessionMessage::new(text), weight, stream)
    }

    /// Sends a message now, or when the client is ready for it; says whether it is on its way.
    fn deliver_message(
        &mut self,
        message: SessionMessage,
        weight: Weight,
        stream: Option<&EventSink>,
    ) -> bool {
        let Some(waiting) = &mut self.waiting else { return self.send(message, weight, stream) };
        let bytes: usize = waiting.iter().map(|waiting| waiting.message.text.len()).sum();
        let room = waiting.len() < WAITING && bytes < WAITING_BYTES;
        if room {
            waiting.push_back(Waiting { message, weight, stream: stream.cloned() });
        }
        room
    }

    /// On a call's own stream where it has one, else on the standing one.
    fn send(&self, mut message: SessionMessage, weight: Weight, stream: Option<&EventSink>) -> bool {
        if let Some(stream) = stream {
            match stream.push(CallEvent::Message(message)) {
                Err(CallEvent::Message(back)) => message = back,
                _ => return true,
            }
        }
        let event = LoggedEvent::new(message.text.clone(), weight).asked_by(message.asker());
        let put = self.streams.put_event(self.streams.standing(), event).is_ok();
        if put {
            message.arrived();
        }
        put
    }

    /// Lists changed (`session::changes`): that is told when somebody listens, and once however often it happened before.
    pub(super) fn tell_changes(&mut self) {
        if !self.changed.has(TOOLS | PROMPTS | RESOURCES | TEMPLATES) {
            return;
        }
        if self.waiting.is_some() || !self.streams.standing().is_attended() {
            return;
        }
        for (kind, name) in [
            (TOOLS, "notifications/tools/list_changed"),
            (PROMPTS, "notifications/prompts/list_changed"),
            (RESOURCES | TEMPLATES, "notifications/resources/list_changed"),
        ] {
            let text = || message::notification(name, b"").into();
            if self.changed.has(kind) && self.untold.tell(News::Changed(kind), text(), &self.streams).is_ok()
            {
                self.changed.clear(kind);
            }
        }
    }

    pub(super) fn open_questions(&self) -> usize {
        self.questions.open()
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.subscriptions.len()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::config::bounds::Bounds;
    use crate::protocol::code::METHOD_NOT_FOUND;
    use crate::protocol::frame::Notification;
    use crate::protocol::json::Limits;
    use crate::session::messages::ListsChanged;
    use crate::session::stream::Next;

    const NOT_DECLARED: QuestionRefused =
        QuestionRefused::Refused(METHOD_NOT_FOUND, "the client did not declare this capability");

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
    }

    fn session(capabilities: &str) -> State {
        let revision = Revision::V2025_11_25;
        let streams = Arc::new(crate::session::streams::tests::streams(revision, Bounds::default()));
        State::new(revision, ClientCapabilities::new(object(capabilities)), streams, Arc::default())
    }

    fn next(stream: &mut StreamReader) -> Option<String> {
        match stream.next().now_or_never()? {
            Next::Event(_, text) => Some(String::from_utf8(text.to_vec()).expect("UTF-8")),
            Next::End(_) => None,
        }
    }

    fn sampling() -> AskClient {
        crate::session::questions::tests::asked(
            "one",
            "sampling/createMessage",
            r#"{"messages":[],"maxTokens":1}"#,
        )
    }

    #[test]
    fn s_life_05_a_client_is_asked_only_what_it_offered() {
        assert_eq!(session("{}").ask(&sampling()).err(), Some(NOT_DECLARED));
        assert!(session(r#"{"sampling":{}}"#).ask(&sampling()).is_ok());
    }

    #[test]
    fn s_samp_01_a_question_waits_for_the_stream_and_keeps_the_upstreams_id_hidden() {
        let mut state = session(r#"{"sampling":{}}"#);
        state.client_is_ready();
        let question = state.ask(&sampling()).expect("declared");
        let mut stream = state.open_stream(None).expect("free");
        let text = next(&mut stream).expect("the question");
        assert!(
            text.contains(r#""id":1,"method":"sampling/createMessage""#) && !text.contains("theirs"),
            "{text}"
        );
        state.answered(1, Answer::Result(object(r#"{"role":"assistant"}"#)));
        assert!(matches!(question.answer.blocking_recv(), Ok(Answer::Result(_))));
    }

    #[test]
    fn s_list_01_changes_wait_for_the_handshake_and_the_stream_and_come_once() {
        let mut state = session("{}");
        let mut stream = state.open_stream(None).expect("free");
        let tools = ListsChanged { tools: true, ..ListsChanged::default() };
        for _ in 0..2 {
            state.changed.add(tools);
            state.tell_changes();
        }
        assert_eq!(next(&mut stream), None);
        state.client_is_ready();
        assert_eq!(
            next(&mut stream).as_deref(),
            Some(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
        );
        assert_eq!(next(&mut stream), None);
        assert_eq!(state.open_stream(None).err(), Some(StreamTaken));
        drop(stream);
        assert!(state.open_stream(None).is_ok());
    }

    #[test]
    fn s_task_18_a_change_of_a_task_is_said_to_whoever_reads_and_kept_for_nobody() {
        let mut state = session("{}");
        let changed = |status: &str, is_over| TaskChanged {
            members: format!(r#""taskId":"t","status":"{status}""#),
            is_over,
        };
        state.task_changed(&changed("working", false));
        state.client_is_ready();
        state.task_changed(&changed("completed", true));
        let mut stream = state.open_stream(None).expect("free");
        assert_eq!(next(&mut stream), None, "nobody read");
        state.task_changed(&changed("cancelled", true));
        assert_eq!(
            next(&mut stream).as_deref(),
            Some(
                r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t","status":"cancelled"}}"#
            )
        );
    }

    #[test]
    fn s_res_08_s_https_09_an_update_that_waits_is_said_once_and_keeps_no_question_out() {
        let upstream = UpstreamName::new("files");
        let mut state = session(r#"{"sampling":{}}"#);
        state.client_is_ready();
        state.subscribe("file:///dir/".into(), "file:///dir/".into(), upstream.clone());
        let update = |uri: &str| TellClient {
            upstream: upstream.clone(),
            in_loggers: true,
            is_expected: false,
            notification: Notification {
                method: "notifications/resources/updated".into(),
                params: object(&format!(r#"{{"uri":"{uri}"}}"#)),
            },
        };
        for _ in 0..400 {
            state.tell(&update("file:///dir/a"), LogLevel::Warning);
        }
        for number in 0..5000 {
            state.tell(&update(&format!("file:///dir/{number}")), LogLevel::Warning);
        }
        let _question = state.ask(&sampling()).expect("other news give way");
        let mut stream = state.open_stream(None).expect("free");
        let told: Vec<String> = std::iter::from_fn(|| next(&mut stream)).collect();
        assert!(told.iter().filter(|text| text.contains(r#"dir/a""#)).count() <= 1);
        assert!(told.last().is_some_and(|last| last.contains("sampling/createMessage")));
        for _ in 0..2 {
            state.tell(&update("file:///dir/a"), LogLevel::Warning);
            assert!(next(&mut stream).is_some(), "what happens after it was read is said again");
        }
    }

    #[test]
    fn s_res_08_an_update_reaches_the_subscription_that_covers_it() {
        let upstream = UpstreamName::new("files");
        let mut state = session("{}");
        state.client_is_ready();
        let mut stream = state.open_stream(None).expect("free");
        state.subscribe("file:///dir".into(), "file:///dir".into(), upstream.clone());
        let update = |upstream: &str, uri: &str| TellClient {
            upstream: UpstreamName::new(upstream),
            in_loggers: true,
            is_expected: false,
            notification: Notification {
                method: "notifications/resources/updated".into(),
                params: object(&format!(r#"{{"uri":"{uri}"}}"#)),
            },
        };
        for (uri, told) in [("file:///dir", true), ("file:///dir/x", true), ("file:///dirt", false)] {
            state.tell(&update("files", uri), LogLevel::Warning);
            assert_eq!(next(&mut stream).is_some(), told, "{uri}");
        }
        state.tell(&update("other", "file:///dir"), LogLevel::Warning);
        assert_eq!(next(&mut stream), None, "another server has no say over this resource");
    }

    #[test]
    fn s_res_05_s_res_07_a_uri_that_became_another_servers_keeps_its_old_subscription_apart() {
        let (one, two) = (UpstreamName::new("one"), UpstreamName::new("two"));
        let others = PublicUris::new(|upstream, uri| {
            (upstream.as_str() == "one").then(|| format!("switchyard://one/{uri}"))
        });
        let mut state = session("{}").with_public_uris(others);
        assert!(state.subscribe("x:1".into(), "x:1".into(), one.clone()));
        assert!(!state.subscribe("x:1".into(), "x:1".into(), one.clone()), "as before");
        assert!(state.subscribe("x:1".into(), "x:1".into(), two.clone()), "another's");
        assert_eq!(state.subscriptions(), 2);
        let over = |upstream| StoppedFollowing::Over { local: "x:1".into(), upstream };
        assert_eq!(state.stop_following("switchyard://one/x:1", None), over(one));
        assert_eq!(state.stop_following("x:1", None), over(two.clone()));
        assert_eq!(state.stop_following("x:1", None), StoppedFollowing::Unknown);
        assert_eq!(state.stop_following("x:1", Some(("x:1".into(), two.clone()))), over(two));
    }
}
