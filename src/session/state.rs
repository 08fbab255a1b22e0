//! What one session remembers, as a plain state machine: events in, messages for the client out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::changes::{PROMPTS, PendingChanges, RESOURCES, TOOLS};
use super::messages::{ListsChanged, StreamTaken};
use super::questions::Questions;
use crate::names::UpstreamName;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Notification, Request};
use crate::protocol::json::Object;
use crate::protocol::log_level::{LogLevel, log_params};
use crate::protocol::message;
use crate::protocol::splice::Edit;
use crate::upstream::call::{CallEvent, EventSink};
use crate::upstream::messages::{Question, QuestionRefused};

/// Messages kept while no standing stream is open; the oldest go first.
const KEPT: usize = 64;

#[derive(Debug)]
pub(super) struct State {
    queue: usize,
    ready: bool,
    questions: Questions,
    subscriptions: HashMap<String, Subscription>,
    stream: Option<mpsc::Sender<Bytes>>,
    changed: Arc<PendingChanges>,
    kept: VecDeque<Bytes>,
}

#[derive(Debug)]
struct Subscription {
    local: String,
    upstream: UpstreamName,
}

impl State {
    pub(super) fn new(
        revision: Revision,
        capabilities: ClientCapabilities,
        queue: usize,
        changed: Arc<PendingChanges>,
    ) -> Self {
        State {
            queue,
            ready: false,
            questions: Questions::new(revision, capabilities),
            subscriptions: HashMap::new(),
            stream: None,
            changed,
            kept: VecDeque::new(),
        }
    }

    /// The client finished its handshake: what had to wait may go now (S-LIFE-03).
    pub(super) fn client_is_ready(&mut self) {
        self.ready = true;
        self.flush();
    }

    /// Opens the standing stream. What waited for one goes first.
    pub(super) fn open_stream(&mut self) -> Result<mpsc::Receiver<Bytes>, StreamTaken> {
        if self.has_stream() {
            return Err(StreamTaken);
        }
        let (sender, receiver) = mpsc::channel(self.queue);
        self.stream = Some(sender);
        self.flush();
        Ok(receiver)
    }

    pub(super) fn has_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_closed())
    }

    /// Puts a question to the client: on the causing call's stream, else on the standing one, else when that opens.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        stream: Option<EventSink>,
    ) -> Result<Question, QuestionRefused> {
        let (question, text) = self.questions.ask(request, stream.clone())?;
        self.deliver_on(stream.as_ref(), text);
        Ok(question)
    }

    /// Hands an answer to whoever asked; one that nobody asked for is ignored.
    pub(super) fn answered(&mut self, number: u64, answer: Answer) {
        self.questions.answered(number, answer);
    }

    /// The upstream gave up on its question: the client is told, and its answer will be ignored.
    pub(super) fn withdraw(&mut self, number: u64) {
        if let Some((text, stream)) = self.questions.withdraw(number) {
            self.deliver_on(stream.as_ref(), text);
        }
    }

    pub(super) fn subscribe(&mut self, public: String, local: String, upstream: UpstreamName) {
        self.subscriptions.insert(public, Subscription { local, upstream });
    }

    pub(super) fn unsubscribe(&mut self, public: &str) {
        self.subscriptions.remove(public);
    }

    /// News of an upstream that belong to no call.
    pub(super) fn tell(&mut self, upstream: &UpstreamName, news: &Notification, level: LogLevel) {
        match &*news.method {
            "notifications/message" => {
                if let Some(params) = log_params(upstream.as_str(), &news.params, level) {
                    self.deliver(message::notification("notifications/message", &params).into());
                }
            }
            "notifications/resources/updated" => self.resource_updated(upstream, &news.params),
            _ => {}
        }
    }

    fn resource_updated(&mut self, upstream: &UpstreamName, params: &Object) {
        let Some(uri) = params.text("uri") else { return };
        let covering = self
            .subscriptions
            .iter()
            .filter(|(_, subscription)| {
                subscription.upstream == *upstream && covers(&subscription.local, &uri)
            })
            .map(|(public, subscription)| match subscription.local == *public {
                true => uri.clone().into_owned(),
                false => public.clone(),
            })
            .next();
        if let Some(public) = covering {
            let mut edit = Edit::of(params);
            edit.set_text("uri", &public);
            let mut text = Vec::new();
            edit.write(&mut text);
            self.deliver(message::notification("notifications/resources/updated", &text).into());
        }
    }

    /// Lists changed: told once for as long as the client has not heard of it.
    pub(super) fn lists_changed(&mut self, changed: ListsChanged) {
        self.changed.add(changed);
        self.flush();
    }

    /// On a call's own stream where it has one that is still read, else on the standing one.
    fn deliver_on(&mut self, stream: Option<&EventSink>, text: Bytes) {
        let on_stream =
            stream.is_some_and(|stream| stream.try_send(CallEvent::Message(text.clone())).is_ok());
        if !on_stream {
            self.deliver(text);
        }
    }

    fn deliver(&mut self, text: Bytes) {
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(text);
        self.flush();
    }

    fn flush(&mut self) {
        let Some(stream) = self.stream.clone().filter(|stream| !stream.is_closed()) else {
            return;
        };
        if !self.ready {
            return;
        }
        for (kind, name) in [
            (TOOLS, "notifications/tools/list_changed"),
            (PROMPTS, "notifications/prompts/list_changed"),
            (RESOURCES, "notifications/resources/list_changed"),
        ] {
            if self.changed.has(kind) && stream.try_send(message::notification(name, b"").into()).is_ok() {
                self.changed.clear(kind);
            }
        }
        while let Some(text) = self.kept.pop_front() {
            if let Err(refused) = stream.try_send(text) {
                // The reader is slow: the stream is cut and the client opens another (S-HTTPS-17).
                self.kept.push_front(refused.into_inner());
                self.stream = None;
                return;
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

/// A subscription covers its resource and what lies below it (S-RES-08).
fn covers(subscribed: &str, updated: &str) -> bool {
    match updated.strip_prefix(subscribed) {
        Some("") => true,
        Some(rest) => subscribed.ends_with('/') || rest.starts_with(['/', '?', '#']),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Limits;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
    }

    fn session(capabilities: &str) -> State {
        State::new(Revision::V2025_11_25, ClientCapabilities::new(object(capabilities)), 16, Arc::default())
    }

    fn next(stream: &mut mpsc::Receiver<Bytes>) -> Option<String> {
        stream.try_recv().ok().map(|text| String::from_utf8(text.to_vec()).expect("UTF-8"))
    }

    fn sampling() -> Request {
        Request {
            id: crate::protocol::frame::RequestId::text("theirs"),
            method: "sampling/createMessage".into(),
            params: object(r#"{"messages":[],"maxTokens":1}"#),
        }
    }

    #[test]
    fn s_life_05_a_client_is_asked_only_what_it_offered() {
        assert_eq!(session("{}").ask(&sampling(), None).err(), Some(QuestionRefused::NotDeclared));
        assert!(session(r#"{"sampling":{}}"#).ask(&sampling(), None).is_ok());
    }

    #[test]
    fn s_samp_01_a_question_waits_for_the_stream_and_keeps_the_upstreams_id_hidden() {
        let mut state = session(r#"{"sampling":{}}"#);
        state.client_is_ready();
        let question = state.ask(&sampling(), None).expect("declared");
        let mut stream = state.open_stream().expect("free");
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
        let mut stream = state.open_stream().expect("free");
        let tools = ListsChanged { tools: true, ..ListsChanged::default() };
        state.lists_changed(tools);
        state.lists_changed(tools);
        assert_eq!(next(&mut stream), None);
        state.client_is_ready();
        assert_eq!(
            next(&mut stream).as_deref(),
            Some(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#)
        );
        assert_eq!(next(&mut stream), None);
        assert_eq!(state.open_stream().err(), Some(StreamTaken));
        drop(stream);
        assert!(state.open_stream().is_ok());
    }

    #[test]
    fn s_res_08_an_update_reaches_the_subscription_that_covers_it() {
        let upstream = UpstreamName::new("files");
        let mut state = session("{}");
        state.client_is_ready();
        let mut stream = state.open_stream().expect("free");
        state.subscribe("file:///dir".into(), "file:///dir".into(), upstream.clone());
        let update = |uri: &str| Notification {
            method: "notifications/resources/updated".into(),
            params: object(&format!(r#"{{"uri":"{uri}"}}"#)),
        };
        for (uri, told) in [("file:///dir", true), ("file:///dir/x", true), ("file:///dirt", false)] {
            state.tell(&upstream, &update(uri), LogLevel::Warning);
            assert_eq!(next(&mut stream).is_some(), told, "{uri}");
        }
        state.tell(&UpstreamName::new("other"), &update("file:///dir"), LogLevel::Warning);
        assert_eq!(next(&mut stream), None, "another server has no say over this resource");
    }
}
