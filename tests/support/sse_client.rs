//! A client of the 2024-11-05 HTTP+SSE transport: one standing stream for everything, messages posted beside it.
//!
//! Owns the stream and the address that its first event names. Always: every event but the first is a message. Not here:
//! what is asked.

use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::{Value, json};

use super::client::{Endpoint, Exchange, Whole};
use super::http::Headers;
use super::inbox::Inbox;
use super::patiently;

/// A connected client.
#[derive(Debug)]
pub(crate) struct SseClient {
    /// What came on the stream and nobody took yet.
    pub(crate) inbox: Inbox,
    /// Where it posts.
    pub(crate) messages: Endpoint,
    stream: tokio::task::JoinHandle<()>,
    next_id: AtomicI64,
}

/// The header fields of a client that asks for the stream.
pub(crate) fn stream_headers(endpoint: &Endpoint) -> Headers {
    let mut headers = Headers::default();
    headers.set("Host", &endpoint.address.to_string());
    headers.set("Accept", "text/event-stream");
    headers
}

/// The header fields of a client that posts.
pub(crate) fn post_headers(endpoint: &Endpoint) -> Headers {
    let mut headers = Headers::default();
    headers.set("Host", &endpoint.address.to_string());
    headers.set("Content-Type", "application/json");
    headers
}

impl SseClient {
    /// Connect and read the first event.
    pub(crate) async fn connect(sse: &Endpoint) -> SseClient {
        let mut stream = sse.send("GET", stream_headers(sse), b"").await;
        stream.revision("2024-11-05");
        let head = stream.head().await;
        assert_eq!(head.status(), 200, "{head:?}");
        let kind = head.headers.get("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{head:?}");
        let first = stream.event().await.expect("a first event");
        println!("<- {first:?}");
        assert_eq!(first.name.as_deref(), Some("endpoint"), "{first:?}");
        let path = first.data.expect("the endpoint event names an address");
        assert!(path.starts_with('/') && !path.starts_with("//"), "a relative path: {path:?}");
        let (arrived, inbox) = Inbox::new();
        let stream = tokio::spawn(async move {
            while let Some(message) = read(&mut stream).await {
                if arrived.send(message).await.is_err() {
                    return;
                }
            }
        });
        SseClient { inbox, messages: sse.at(&path), stream, next_id: AtomicI64::new(1) }
    }

    /// Connect and shake hands.
    pub(crate) async fn handshake(sse: &Endpoint, revision: &str, capabilities: Value) -> SseClient {
        let mut client = SseClient::connect(sse).await;
        client.initialize(revision, capabilities).await;
        client
    }

    /// Shake hands; the answer's revision is the session's from then on.
    pub(crate) async fn initialize(&mut self, revision: &str, capabilities: Value) -> Value {
        let params = json!({
            "protocolVersion": revision, "capabilities": capabilities,
            "clientInfo": { "name": "story", "version": "1" },
        });
        super::answered_in(revision).clone_into(&mut self.inbox.revision);
        let answer = self.request("initialize", params).await;
        let agreed = answer["result"]["protocolVersion"].as_str().expect("judged by the schema");
        self.inbox.revision = agreed.to_owned();
        self.accepted(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer
    }

    /// Post a body.
    pub(crate) async fn post(&self, body: &str) -> Whole {
        self.messages.ask("POST", post_headers(&self.messages), body.as_bytes()).await
    }

    /// Post a message that must be accepted.
    pub(crate) async fn accepted(&self, message: &Value) {
        let answer = self.post(&message.to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }

    /// Send a request; gives its id.
    pub(crate) async fn open(&mut self, method: &str, params: Value) -> Value {
        let id = json!(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.inbox.asked(&id, method, &self.inbox.revision.clone());
        self.accepted(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        id
    }

    /// Send a request and wait for the whole response on the stream.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.open(method, params).await;
        self.inbox.response(&id).await
    }

    /// List until this tool is there; gives the last listing.
    pub(crate) async fn until_tool(&mut self, name: &str) -> Value {
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let listed = self.request("tools/list", json!({})).await;
            let tools = listed["result"]["tools"].as_array().cloned().unwrap_or_default();
            if tools.iter().any(|tool| tool["name"] == name) {
                return listed;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} never appeared: {listed}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Close the stream, as a client does that ends.
    pub(crate) async fn leave(self) -> Endpoint {
        self.stream.abort();
        self.stream.await.ok();
        self.messages
    }

    /// Wait until the gateway ends the stream; gives what still came.
    pub(crate) async fn ended(self) -> Vec<Value> {
        let rest = self.inbox.rest().await;
        patiently("the reader of the stream", self.stream).await.expect("the stream is in order");
        rest
    }
}

/// The next message of the stream; `None` at its end.
async fn read(stream: &mut Exchange) -> Option<Value> {
    let event = stream.event_at_any_time().await?;
    let data = event.data.as_deref().unwrap_or_default();
    println!("<- {}", &data[..data.floor_char_boundary(1500)]);
    assert_eq!(event.name.as_deref(), Some("message"), "every event but the first is a message: {event:?}");
    assert_eq!(event.data_lines, 1, "a message is one data line: {event:?}");
    Some(super::json::parse(data).unwrap_or_else(|| panic!("no JSON in event {data:?}")))
}
