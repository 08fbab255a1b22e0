//! A request under way: reading its answer message by message, or event by event.
//!
//! Owns the reading side of a connection. Always: each message is judged by the schema of its revision as it is read, and
//! reading may be abandoned and taken up again. Not here: what a story expects.

use std::time::Duration;

use serde_json::Value;

use super::answer::Answer;
use super::endpoint::{Connection, Whole};
use crate::support::http::{Framing, Head, read_head};
use crate::support::schema::{self, Answers};
use crate::support::sse::{Event, Events};
use crate::support::{HANDSHAKE, STATELESS, json, patiently, within};

/// One message from the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The text as it stood on the wire.
    pub(crate) raw: String,
    /// The same, parsed.
    pub(crate) json: Value,
}

impl Message {
    /// The method of a request or notification.
    pub(crate) fn method(&self) -> &str {
        self.json["method"].as_str().unwrap_or_default()
    }

    /// The `params` of a request or notification.
    pub(crate) fn params(&self) -> &Value {
        &self.json["params"]
    }

    /// Whether it answers something.
    pub(crate) fn is_response(&self) -> bool {
        self.json.get("method").is_none()
    }
}

/// An HTTP request under way, and its answer as far as it was read.
#[derive(Debug)]
pub(crate) struct Exchange {
    connection: Connection,
    head: Option<Head>,
    framing: Framing,
    events: Events,
    pub(super) asked: Option<(Value, String)>,
    pub(super) revision: String,
    seen: Vec<Message>,
    ended: bool,
    pub(super) is_quiet: bool,
    /// Where the stream was read to, for a client that will come back.
    pub(crate) place: Place,
}

/// How far a client has read a stream, which is all that it needs to take it up again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// Every event id in the order of arrival.
    pub(crate) ids: Vec<String>,
    /// The `retry` field that came last, in milliseconds.
    pub(crate) retry: Option<u64>,
    /// Whether the first event had an id and no message, as a priming event does.
    pub(crate) is_primed: bool,
    pub(super) asked: Option<(Value, String)>,
    events: usize,
}

impl Place {
    /// The id to resume after, if any was given.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.ids.last().map(String::as_str)
    }

    /// The place of a stream that goes on here: its ids are remembered, for nothing may come before the next cut.
    pub(super) fn taken_up(&self) -> Place {
        Place { retry: None, ..self.clone() }
    }

    /// Take note of an event, and fail if clients of this revision are not to see such a one.
    fn note(&mut self, event: &Event, revision: &str) {
        let is_empty = event.data.as_ref().is_none_or(String::is_empty);
        if event.id.is_some() {
            let may = ("2025-03-26"..=HANDSHAKE).contains(&revision);
            assert!(may, "no event ids towards {revision} (S-RESUM-03, -07): {event:?}");
        }
        if is_empty || event.retry.is_some() {
            assert_eq!(revision, HANDSHAKE, "older clients fail on this event (S-RESUM-03): {event:?}");
        }
        self.is_primed |= self.events == 0 && is_empty && event.id.is_some();
        self.ids.extend(event.id.clone());
        self.retry = event.retry.or(self.retry);
        self.events += 1;
    }
}

impl Exchange {
    /// A request was sent on `connection`; nothing of the answer was read.
    pub(super) fn new(connection: Connection) -> Exchange {
        Exchange {
            connection,
            head: None,
            framing: Framing::nothing(),
            events: Events::default(),
            asked: None,
            revision: HANDSHAKE.to_owned(),
            seen: Vec::new(),
            ended: false,
            is_quiet: false,
            place: Place::default(),
        }
    }

    /// The JSON-RPC id of the request.
    pub(crate) fn id(&self) -> Value {
        self.asked.as_ref().map(|(id, _)| id.clone()).expect("this exchange carries a request")
    }

    /// Status and header fields, as soon as the gateway has committed them.
    pub(crate) async fn head(&mut self) -> &Head {
        if self.head.is_none() {
            let read = patiently("the head of an answer", read_head(&mut self.connection.stream)).await;
            let head = read.unwrap_or_else(|e| panic!("the answer broke off: {e}"));
            let head = head.expect("the gateway closed the connection without an answer");
            if !self.is_quiet {
                println!("<- {}", head.start);
            }
            self.framing = Framing::of_response(&head);
            self.head = Some(head);
        }
        self.head.as_ref().expect("set above")
    }

    /// Status, header fields and body, read to the end.
    pub(crate) async fn whole(mut self) -> Whole {
        let head = self.head().await.clone();
        let body = patiently("the end of a body", self.framing.all(&mut self.connection.stream)).await;
        let body = body.unwrap_or_else(|e| panic!("the body broke off: {e}"));
        let body = String::from_utf8(body).expect("bodies are UTF-8");
        println!("<- {}", &body[..body.floor_char_boundary(1500)]);
        Whole { status: head.status(), headers: head.headers, body }
    }

    /// The connection, with whatever of the answer was not read.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection
    }

    fn is_stream(&self) -> bool {
        let head = self.head.as_ref();
        head.and_then(|head| head.headers.get("content-type"))
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// Judge what follows by this revision.
    pub(crate) fn revision(&mut self, revision: &str) {
        revision.clone_into(&mut self.revision);
    }

    /// The next event of the stream, priming events included; `None` at its end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        patiently("an event", self.event_at_any_time()).await
    }

    /// As [`Exchange::event`], for streams where nothing may come for long.
    pub(crate) async fn event_at_any_time(&mut self) -> Option<Event> {
        self.head().await;
        loop {
            if let Some(event) = self.events.pop() {
                self.place.note(&event, &self.revision);
                return Some(event);
            }
            let piece = self.framing.next(&mut self.connection.stream).await;
            match piece.unwrap_or_else(|e| panic!("the stream broke off: {e}")) {
                Some(piece) => self.events.feed(&piece),
                None => {
                    assert!(!self.events.is_torn(), "the stream ended inside an event");
                    return None;
                }
            }
        }
    }

    /// The next message, of a stream or as the whole body; `None` when there is no further one.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        if self.ended {
            return None;
        }
        self.head().await;
        let message = if self.is_stream() { self.next_of_stream().await } else { self.next_of_body().await };
        let Some(message) = message else {
            self.ended = true;
            return None;
        };
        if !self.is_quiet {
            println!("<- {}", &message.raw[..message.raw.floor_char_boundary(1500)]);
        }
        if !self.is_quiet
            || self.asked.as_ref().is_some_and(|(id, _)| id.as_i64().is_some_and(|id| id % 100 == 0))
        {
            self.judge(&message);
        }
        self.seen.push(message.clone());
        Some(message)
    }

    async fn next_of_stream(&mut self) -> Option<Message> {
        loop {
            let event = self.event().await?;
            let Some(raw) = event.data.clone().filter(|data| !data.is_empty()) else { continue };
            assert_eq!(event.data_lines, 1, "a message is one data line: {event:?}");
            assert!(matches!(event.name.as_deref(), None | Some("message")), "{event:?}");
            if self.revision == STATELESS {
                assert_eq!(event.id, None, "stateless streams have no event ids (S-HTTPS-13): {event:?}");
            }
            let is_nameable = event.id.is_some() || self.place.ids.is_empty();
            assert!(is_nameable, "where one event has an id all have (S-RESUM-01): {event:?}");
            let json = json::parse(&raw).unwrap_or_else(|| panic!("no JSON in event {raw:?}"));
            return Some(Message { raw, json });
        }
    }

    async fn next_of_body(&mut self) -> Option<Message> {
        self.ended = true;
        let body = patiently("a JSON body", self.framing.all(&mut self.connection.stream)).await;
        let body = body.unwrap_or_else(|e| panic!("the body broke off: {e}"));
        let raw = String::from_utf8(body).expect("bodies are UTF-8");
        if raw.is_empty() {
            return None;
        }
        let json = json::parse(&raw)
            .unwrap_or_else(|| panic!("{:?} has a body that is not JSON: {raw:?}", self.head));
        Some(Message { raw, json })
    }

    fn judge(&self, message: &Message) {
        let answers = match &self.asked {
            Some((_, method)) => Answers::Method(method),
            None => Answers::Unreadable,
        };
        let faults = schema::message_faults(&self.revision, &message.json, answers);
        assert!(faults.is_empty(), "the gateway broke {}: {faults:#?}\n{}", self.revision, message.raw);
        match &self.asked {
            Some((id, _)) if message.is_response() => assert_eq!(message.json["id"], *id, "{}", message.raw),
            _ => {}
        }
        if self.revision == STATELESS {
            let is_request = !message.is_response() && message.json.get("id").is_some();
            assert!(!is_request, "a request on a stateless stream: {}", message.raw);
        }
    }

    /// How many comments came so far, which is what keep-alives are.
    pub(crate) fn comments(&self) -> usize {
        self.events.comments
    }

    /// Fail if any message comes within `limit`; comments and priming events may.
    pub(crate) async fn expect_quiet(&mut self, limit: Duration) {
        if let Ok(Some(message)) = tokio::time::timeout(limit, self.next()).await {
            panic!("nothing should have come, but: {}", message.raw);
        }
    }

    /// As [`Exchange::expect_quiet`], but lists may have changed meanwhile, which belongs to no call.
    pub(crate) async fn expect_no_more_than_changes(&mut self, limit: Duration) {
        for message in self.messages_within(limit).await {
            let is_change = message.method().ends_with("/list_changed");
            assert!(is_change, "nothing should have come, but: {}", message.raw);
        }
    }

    /// Where the client is, without leaving.
    pub(crate) fn here(&self) -> Place {
        Place { asked: self.asked.clone(), ..self.place.clone() }
    }

    /// Fail if a message with this method comes within `limit`.
    pub(crate) async fn never(&mut self, method: &str, limit: Duration) {
        for message in self.messages_within(limit).await {
            assert_ne!(message.method(), method, "nobody should have been told: {}", message.raw);
        }
    }

    /// The messages that come within `limit`.
    pub(crate) async fn messages_within(&mut self, limit: Duration) -> Vec<Message> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut messages = Vec::new();
        while let Ok(Some(message)) = tokio::time::timeout_at(deadline, self.next()).await {
            messages.push(message);
        }
        messages
    }

    /// The next message that has this method; anything before it stays readable in the answer's `before`.
    pub(crate) async fn until_method(&mut self, method: &str) -> Message {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("the answer ended without {method}"));
            if message.method() == method {
                return message;
            }
            assert!(!message.is_response(), "the response came before any {method}: {}", message.raw);
        }
    }

    /// Leave in the middle of the stream, in good order or as a broken network does; gives where it was.
    pub(crate) fn cut(self, breaks: bool) -> Place {
        println!("   (the client leaves after event {:?})", self.place.last_id());
        if breaks {
            self.connection.stream.get_ref().set_zero_linger().ok();
        }
        Place { asked: self.asked, ..self.place }
    }

    /// Every message up to the end of the stream, whether or not a response is among them.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }

    /// Every message up to the end of the stream or of its connection, however that ends.
    pub(crate) async fn until_broken(&mut self) -> Vec<Message> {
        self.head().await;
        let mut messages = Vec::new();
        loop {
            while let Some(event) = self.events.pop() {
                self.place.note(&event, &self.revision);
                if let Some(raw) = event.data.filter(|data| !data.is_empty()) {
                    let json = json::parse(&raw).unwrap_or_else(|| panic!("no JSON in event {raw:?}"));
                    messages.push(Message { raw, json });
                }
            }
            match patiently("more of a stream, or its end", self.framing.next(&mut self.connection.stream))
                .await
            {
                Ok(Some(piece)) => self.events.feed(&piece),
                Ok(None) | Err(_) => return messages,
            }
        }
    }

    /// Read to the final response and the end of the stream.
    pub(crate) async fn answer(mut self) -> Answer {
        loop {
            let message =
                self.next().await.unwrap_or_else(|| panic!("no response: {:?} {:#?}", self.head, self.seen));
            if message.is_response() {
                break;
            }
        }
        self.answered().await
    }

    /// The answer, when its response was already read.
    pub(crate) async fn answered(mut self) -> Answer {
        let extra =
            within(Duration::from_secs(10), "the stream to end after its response", self.next()).await;
        assert!(extra.is_none(), "something followed the response: {extra:?}");
        let streamed = self.is_stream();
        let head = self.head.expect("read before the response");
        let last = self.seen.pop().expect("the response was kept");
        let idle = self.framing.is_complete().then_some(self.connection);
        Answer {
            status: head.status(),
            headers: head.headers,
            raw: last.raw,
            json: last.json,
            before: self.seen,
            streamed,
            idle,
        }
    }

    /// Whether the gateway ends the exchange without any response; used after cancellation.
    pub(crate) async fn ends_without_response(mut self) -> bool {
        loop {
            match self.next().await {
                None => return true,
                Some(message) if message.is_response() => return false,
                Some(_) => {}
            }
        }
    }
}
