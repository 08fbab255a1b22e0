//! MCP clients of both eras over streamable HTTP, written from the specification.
//!
//! Owns connections, ids and the reading of answers. Always: every message read is printed and judged by the schema of
//! the client's revision; dropping an [`Exchange`] closes its connection, as a client that leaves does. Not here:
//! expectations of a story, beyond what no revision allows.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::http::{Framing, Head, Headers, read_head, write_head};
use super::schema::{self, Answers};
use super::sse::{Event, Events};
use super::{HANDSHAKE, PATIENCE, STATELESS, patiently, within};

/// Where a client sends its requests.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The listener.
    pub(crate) address: SocketAddr,
    /// The path of the MCP endpoint.
    pub(crate) path: String,
}

impl Endpoint {
    /// Read an address such as `http://127.0.0.1:8080/mcp`.
    pub(crate) fn parse(url: &str) -> Endpoint {
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not an http address: {url:?}"));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = authority.parse().unwrap_or_else(|_| panic!("not a socket address: {authority:?}"));
        Endpoint { address, path: format!("/{path}") }
    }

    /// The same listener, another path.
    pub(crate) fn at(&self, path: &str) -> Endpoint {
        Endpoint { address: self.address, path: path.to_owned() }
    }

    /// Send one HTTP request with nothing added but what framing needs.
    pub(crate) async fn send(&self, method: &str, headers: Headers, body: &[u8]) -> Exchange {
        let connection = Connection::open(self.address).await;
        connection.send(method, &self.path, headers, body).await
    }

    /// Send one HTTP request and read the whole answer.
    pub(crate) async fn ask(&self, method: &str, headers: Headers, body: &[u8]) -> Whole {
        self.send(method, headers, body).await.whole().await
    }

    /// The header fields that every MCP POST carries.
    pub(crate) fn post_headers(&self) -> Headers {
        let mut headers = Headers::default();
        headers.set("Host", &self.address.to_string());
        headers.set("Content-Type", "application/json");
        headers.set("Accept", "application/json, text/event-stream");
        headers
    }
}

/// One TCP connection to the gateway.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connect.
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        let stream = patiently("a TCP connection", TcpStream::connect(address)).await;
        let stream = stream.unwrap_or_else(|e| panic!("nobody listens at {address}: {e}"));
        stream.set_nodelay(true).expect("a fresh socket takes options");
        Connection { stream: BufReader::new(stream) }
    }

    /// Write raw bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let written = patiently("the gateway to take bytes", self.stream.get_mut().write_all(bytes)).await;
        if let Err(e) = written {
            println!("   (the connection broke while writing: {e})");
        }
    }

    /// Read until the peer closes, at most for `limit`; `None` when it did not close.
    pub(crate) async fn read_to_close(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(limit, self.stream.read_to_end(&mut bytes)).await;
        read.is_ok().then_some(bytes)
    }

    /// Send a request; the answer is read from the exchange.
    pub(crate) async fn send(self, method: &str, path: &str, headers: Headers, body: &[u8]) -> Exchange {
        let shown = String::from_utf8_lossy(&body[..body.len().min(1500)]);
        println!("-> {method} {path} {shown}");
        self.send_quietly(method, path, headers, body).await
    }

    async fn send_quietly(mut self, method: &str, path: &str, headers: Headers, body: &[u8]) -> Exchange {
        let mut headers = headers;
        if headers.get("Content-Length").is_none()
            && headers.get("Transfer-Encoding").is_none()
            && method != "GET"
        {
            headers.set("Content-Length", &body.len().to_string());
        }
        let mut wire = write_head(&format!("{method} {path} HTTP/1.1"), &headers);
        wire.extend_from_slice(body);
        self.write(&wire).await;
        Exchange {
            connection: self,
            head: None,
            framing: Framing::nothing(),
            events: Events::default(),
            asked: None,
            revision: HANDSHAKE.to_owned(),
            seen: Vec::new(),
            ended: false,
            is_quiet: false,
        }
    }
}

/// An HTTP answer read to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The status code.
    pub(crate) status: u16,
    /// The header fields.
    pub(crate) headers: Headers,
    /// The body.
    pub(crate) body: String,
}

impl Whole {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        super::json::parse(&self.body)
            .unwrap_or_else(|| panic!("HTTP {} with a body that is not JSON: {:?}", self.status, self.body))
    }

    /// The code of the JSON-RPC error in the body.
    pub(crate) fn error_code(&self) -> i64 {
        let json = self.json();
        json["error"]["code"].as_i64().unwrap_or_else(|| panic!("HTTP {} is no error: {json}", self.status))
    }

    /// Fail unless the answer has this status and this JSON-RPC error code.
    pub(crate) fn expect_error(&self, status: u16, code: i64) -> &Whole {
        assert_eq!((self.status, self.error_code()), (status, code), "{}", self.body);
        self
    }
}

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

    fn is_response(&self) -> bool {
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
    asked: Option<(Value, String)>,
    revision: String,
    seen: Vec<Message>,
    ended: bool,
    is_quiet: bool,
}

impl Exchange {
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

    fn is_stream(&self) -> bool {
        let head = self.head.as_ref();
        head.and_then(|head| head.headers.get("content-type"))
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// The next event of the stream, priming events included; `None` at its end.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        self.head().await;
        loop {
            if let Some(event) = self.events.pop() {
                return Some(event);
            }
            let piece = patiently("an event", self.framing.next(&mut self.connection.stream)).await;
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
        if !self.is_quiet || self.id().as_i64().is_some_and(|id| id % 100 == 0) {
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
            let json = super::json::parse(&raw).unwrap_or_else(|| panic!("no JSON in event {raw:?}"));
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
        let json = super::json::parse(&raw)
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

    /// Fail if any message comes within `limit`; comments and priming events may.
    pub(crate) async fn expect_quiet(&mut self, limit: Duration) {
        if let Ok(Some(message)) = tokio::time::timeout(limit, self.next()).await {
            panic!("nothing should have come, but: {}", message.raw);
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

    /// Read to the final response and the end of the stream.
    pub(crate) async fn answer(mut self) -> Answer {
        loop {
            let message =
                self.next().await.unwrap_or_else(|| panic!("no response: {:?} {:#?}", self.head, self.seen));
            if message.is_response() {
                break;
            }
        }
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

/// A final response and everything that came before it on its stream.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The HTTP header fields.
    pub(crate) headers: Headers,
    /// The response as it stood on the wire.
    pub(crate) raw: String,
    /// The same, parsed.
    pub(crate) json: Value,
    /// Notifications and requests that preceded it.
    pub(crate) before: Vec<Message>,
    /// Whether it came on an event stream.
    pub(crate) streamed: bool,
    idle: Option<Connection>,
}

impl Answer {
    /// The result, or fail with the error that came instead.
    pub(crate) fn result(&self) -> &Value {
        self.json.get("result").unwrap_or_else(|| panic!("HTTP {}: no result but {}", self.status, self.raw))
    }

    /// The exact text of a member below `result`.
    pub(crate) fn raw_result(&self, path: &[&str]) -> &str {
        let path: Vec<&str> = std::iter::once("result").chain(path.iter().copied()).collect();
        super::json::raw_at(&self.raw, &path).unwrap_or_else(|| panic!("no {path:?} in {}", self.raw))
    }

    /// The error, or fail with the result that came instead.
    pub(crate) fn error(&self) -> &Value {
        self.json.get("error").unwrap_or_else(|| panic!("HTTP {}: no error but {}", self.status, self.raw))
    }

    /// The code of the error.
    pub(crate) fn error_code(&self) -> i64 {
        self.error()["code"].as_i64().unwrap_or_else(|| panic!("no code: {}", self.raw))
    }

    /// Fail unless this is an error with this HTTP status and code.
    pub(crate) fn expect_error(&self, status: u16, code: i64) -> &Answer {
        assert_eq!((self.status, self.error_code()), (status, code), "{}", self.raw);
        self
    }

    /// The text of the first content block of a tool result.
    pub(crate) fn text(&self) -> &str {
        self.result()["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {}", self.raw))
    }

    /// The failure object that the gateway attaches to what it could not do: from an error's `data`, or from the
    /// `_meta` of an `isError` result.
    pub(crate) fn failure(&self) -> &Value {
        if let Some(error) = self.json.get("error") {
            return &error["data"];
        }
        let result = self.result();
        assert_eq!(result["isError"], true, "expected a failure: {}", self.raw);
        assert!(!self.text().is_empty(), "a failed call tells the model why: {}", self.raw);
        &result["_meta"]["switchyard/failure"]
    }

    /// Fail unless the gateway reports this reason and outcome.
    pub(crate) fn expect_failure(&self, reason: &str, outcome: &str) -> &Answer {
        let failure = self.failure();
        assert_eq!(
            (&failure["reason"], &failure["outcome"]),
            (&json!(reason), &json!(outcome)),
            "{}",
            self.raw
        );
        assert!(failure["retryable"].is_boolean(), "{}", self.raw);
        self
    }

    /// The names of the listed tools, prompts, resources or templates, in order.
    pub(crate) fn names(&self, list: &str) -> Vec<String> {
        let items = self.result()[list].as_array().unwrap_or_else(|| panic!("no {list}: {}", self.raw));
        items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Values of the progress notifications that preceded the response.
    pub(crate) fn progress(&self) -> Vec<f64> {
        let progress = self.before.iter().filter(|message| message.method() == "notifications/progress");
        progress.map(|message| message.params()["progress"].as_f64().expect("progress is a number")).collect()
    }
}

/// A client of either era.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Where it sends.
    pub(crate) endpoint: Endpoint,
    /// The revision it speaks.
    pub(crate) revision: String,
    /// The session of the handshake era.
    pub(crate) session: Option<String>,
    /// What it declares.
    pub(crate) capabilities: Value,
    /// What `initialize` answered, in the handshake era.
    pub(crate) welcome: Value,
    is_quiet: bool,
    next_id: Arc<AtomicI64>,
    idle: Arc<std::sync::Mutex<VecDeque<(tokio::time::Instant, Connection)>>>,
}

impl Client {
    fn new(endpoint: &Endpoint, revision: &str, capabilities: Value) -> Client {
        Client {
            endpoint: endpoint.clone(),
            revision: revision.to_owned(),
            session: None,
            capabilities,
            welcome: Value::Null,
            is_quiet: false,
            next_id: Arc::new(AtomicI64::new(1)),
            idle: Arc::default(),
        }
    }

    /// A client of the stateless era.
    pub(crate) fn stateless(endpoint: &Endpoint, capabilities: Value) -> Client {
        Client::new(endpoint, STATELESS, capabilities)
    }

    /// A client of the handshake era that has not said anything yet.
    pub(crate) fn silent(endpoint: &Endpoint, revision: &str, capabilities: Value) -> Client {
        Client::new(endpoint, revision, capabilities)
    }

    /// A client of the handshake era, after its handshake.
    pub(crate) async fn handshake(endpoint: &Endpoint, revision: &str, capabilities: Value) -> Client {
        let mut client = Client::new(endpoint, revision, capabilities);
        client.initialize().await;
        assert_eq!(client.notify("notifications/initialized", json!({})).await, 202);
        client
    }

    /// Send `initialize` and keep the session; the client still has to send `notifications/initialized`.
    pub(crate) async fn initialize(&mut self) -> Answer {
        let params = json!({
            "protocolVersion": self.revision,
            "capabilities": self.capabilities,
            "clientInfo": { "name": "story", "version": "1" },
        });
        let answer = self.open("initialize", params).await.answer().await;
        self.session = answer.headers.get("mcp-session-id").map(str::to_owned);
        self.welcome = answer.result().clone();
        self.revision = self.welcome["protocolVersion"].as_str().expect("judged by the schema").to_owned();
        answer
    }

    /// The same client, printing nothing and judging only every hundredth answer: for stories with very many messages.
    pub(crate) fn quiet(mut self) -> Client {
        self.is_quiet = true;
        self
    }

    /// Whether this client is of the stateless era.
    pub(crate) fn is_stateless(&self) -> bool {
        self.revision == STATELESS
    }

    /// The next unused request id.
    pub(crate) fn fresh_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The HTTP header fields of a message with this method and these parameters.
    pub(crate) fn headers(&self, method: &str, params: &Value) -> Headers {
        let mut headers = self.endpoint.post_headers();
        if let Some(session) = &self.session {
            headers.set("Mcp-Session-Id", session);
        }
        if self.is_stateless() || (self.session.is_some() && self.revision.as_str() >= "2025-06-18") {
            headers.set("MCP-Protocol-Version", &self.revision);
        }
        if self.is_stateless() {
            headers.set("Mcp-Method", method);
            let name = match method {
                "tools/call" | "prompts/get" => params["name"].as_str(),
                "resources/read" => params["uri"].as_str(),
                _ => None,
            };
            if let Some(name) = name {
                headers.set("Mcp-Name", &header_safe(name));
            }
        }
        headers
    }

    /// Parameters with the metadata that this client's era wants.
    pub(crate) fn dress(&self, params: Value) -> Value {
        let mut params = params;
        if self.is_stateless() {
            let meta = &mut params["_meta"];
            if meta.is_null() {
                *meta = json!({});
            }
            for (name, value) in self.metadata() {
                if meta.get(&name).is_none() {
                    meta[name] = value;
                }
            }
        }
        params
    }

    /// The metadata of the stateless era.
    pub(crate) fn metadata(&self) -> Vec<(String, Value)> {
        vec![
            ("io.modelcontextprotocol/protocolVersion".to_owned(), json!(self.revision)),
            ("io.modelcontextprotocol/clientCapabilities".to_owned(), self.capabilities.clone()),
            ("io.modelcontextprotocol/clientInfo".to_owned(), json!({ "name": "story", "version": "1" })),
        ]
    }

    /// Send a request and leave its answer to be read.
    pub(crate) async fn open(&self, method: &str, params: Value) -> Exchange {
        self.open_as(json!(self.fresh_id()), method, params).await
    }

    /// As [`Client::open`], with an id of the story's choice.
    pub(crate) async fn open_as(&self, id: Value, method: &str, params: Value) -> Exchange {
        let params = self.dress(params);
        let headers = self.headers(method, &params);
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        self.open_raw(id, method, headers, body.as_bytes()).await
    }

    /// Send bytes that the story made, as the request with this id and method.
    pub(crate) async fn open_raw(&self, id: Value, method: &str, headers: Headers, body: &[u8]) -> Exchange {
        let connection = self.connection().await;
        let mut exchange = match self.is_quiet {
            true => connection.send_quietly("POST", &self.endpoint.path, headers, body).await,
            false => connection.send("POST", &self.endpoint.path, headers, body).await,
        };
        exchange.is_quiet = self.is_quiet;
        exchange.asked = Some((id, method.to_owned()));
        exchange.revision.clone_from(&self.revision);
        exchange
    }

    /// An idle connection young enough to be alive, or a new one.
    async fn connection(&self) -> Connection {
        let young = {
            let mut idle = self.idle.lock().expect("nobody panics while holding it");
            idle.retain(|(since, _)| since.elapsed() < Duration::from_secs(1));
            idle.pop_back()
        };
        match young {
            Some((_, connection)) => connection,
            None => Connection::open(self.endpoint.address).await,
        }
    }

    /// Send a request and read its answer; the connection is used again.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Answer {
        let mut answer = self.open(method, params).await.answer().await;
        self.keep(&mut answer);
        answer
    }

    /// Keep the connection of an answer for the next request.
    pub(crate) fn keep(&self, answer: &mut Answer) {
        let closes =
            answer.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if let Some(connection) = answer.idle.take().filter(|_| !closes) {
            let mut idle = self.idle.lock().expect("nobody panics while holding it");
            idle.push_back((tokio::time::Instant::now(), connection));
        }
    }

    /// Call a tool and read the answer.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Answer {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// Call a tool and leave the answer to be read.
    pub(crate) async fn open_call(&self, tool: &str, arguments: Value) -> Exchange {
        self.open("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// As [`Client::open_call`], asking for progress under `token`.
    pub(crate) async fn open_call_with_progress(&self, tool: &str, token: Value) -> Exchange {
        let params = json!({ "name": tool, "arguments": {}, "_meta": { "progressToken": token } });
        self.open("tools/call", params).await
    }

    /// Send a notification; gives the HTTP status, and fails when an accepted one has a body.
    pub(crate) async fn notify(&self, method: &str, params: Value) -> u16 {
        let headers = self.headers(method, &params);
        let body = json!({ "jsonrpc": "2.0", "method": method, "params": self.dress(params) }).to_string();
        self.post_silently(headers, &body).await
    }

    /// Answer a request that the gateway sent.
    pub(crate) async fn respond(&self, id: &Value, result: Value) -> u16 {
        let body = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
        self.post_silently(self.headers("", &Value::Null), &body).await
    }

    /// Refuse a request that the gateway sent.
    pub(crate) async fn refuse(&self, id: &Value, code: i64, message: &str) -> u16 {
        let error = json!({ "code": code, "message": message });
        let body = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
        self.post_silently(self.headers("", &Value::Null), &body).await
    }

    async fn post_silently(&self, headers: Headers, body: &str) -> u16 {
        let connection = self.connection().await;
        let whole =
            connection.send("POST", &self.endpoint.path, headers, body.as_bytes()).await.whole().await;
        if whole.status == 202 {
            assert_eq!(whole.body, "", "202 has no body (S-HTTPS-04)");
        }
        whole.status
    }

    /// Open the standalone stream of the session and wait until the gateway offers it.
    pub(crate) async fn standalone_stream(&self) -> Exchange {
        let mut exchange = self.get().await;
        let head = exchange.head().await;
        assert_eq!(head.status(), 200, "the standalone stream was refused: {head:?}");
        exchange
    }

    /// Send the GET that asks for a standalone stream.
    pub(crate) async fn get(&self) -> Exchange {
        let mut headers = self.headers("", &Value::Null);
        headers.remove("Content-Type");
        headers.set("Accept", "text/event-stream");
        let mut exchange = self.endpoint.send("GET", headers, b"").await;
        exchange.revision.clone_from(&self.revision);
        exchange
    }

    /// End the session; gives the HTTP status.
    pub(crate) async fn delete(&self) -> u16 {
        let mut headers = self.headers("", &Value::Null);
        headers.remove("Content-Type");
        self.endpoint.ask("DELETE", headers, b"").await.status
    }

    /// List until every one of `names` is there; gives that listing.
    pub(crate) async fn until_listed(&self, list: &str, names: &[&str]) -> Answer {
        let method = if list == "resourceTemplates" {
            "resources/templates/list".to_owned()
        } else {
            format!("{list}/list")
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.request(&method, json!({})).await;
            let listed = answer.names(list);
            if names.iter().all(|name| listed.iter().any(|other| other == name)) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{names:?} never appeared, only {listed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Wait until these tools are listed.
    pub(crate) async fn until_tools(&self, names: &[&str]) -> Answer {
        self.until_listed("tools", names).await
    }
}

/// A value as `Mcp-Name` carries it (S-HDR-03).
pub(crate) fn header_safe(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let looks_sealed = value.starts_with("=?base64?") && value.ends_with("?=");
    if plain && value.trim() == value && !looks_sealed {
        return value.to_owned();
    }
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(value))
}
