//! MCP clients of both eras over streamable HTTP, written from the specification.
//!
//! Owns sessions, ids and what each era adds to a request. Always: every message read is printed and judged by the schema
//! of the client's revision; dropping an [`Exchange`] closes its connection, as a client that leaves does. Not here:
//! expectations of a story, beyond what no revision allows.

mod answer;
mod asked;
mod attempt;
mod endpoint;
mod exchange;
mod tasks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

pub(crate) use answer::Answer;
pub(crate) use asked::question;
pub(crate) use endpoint::{Connection, Endpoint, Whole};
pub(crate) use exchange::{Exchange, Message, Place};

pub(crate) use tasks::{TaskEnd, created, id_of, is_over};

use super::http::Headers;
use super::schema::asked_as;
use super::{PATIENCE, STATELESS};

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

    /// The same client, with its session, at another gateway.
    pub(crate) fn at(&self, endpoint: &Endpoint) -> Client {
        Client { endpoint: endpoint.clone(), idle: Arc::default(), ..self.clone() }
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
                "tasks/get" | "tasks/update" | "tasks/cancel" => params["taskId"].as_str(),
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
        let asked = asked_as(&self.revision, method, &params);
        self.open_raw(id, &asked, headers, body.as_bytes()).await
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

    /// As [`Client::notify`], printing nothing.
    pub(crate) async fn notify_quietly(&self, method: &str, params: Value) -> u16 {
        let headers = self.headers(method, &params);
        let body = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
        let connection = self.connection().await;
        let mut exchange =
            connection.send_quietly("POST", &self.endpoint.path, headers, body.as_bytes()).await;
        exchange.is_quiet = true;
        exchange.head().await.status()
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

    /// Open the standalone stream of the session and wait until the gateway offers it. One that this client has just left
    /// stands in the way until the gateway notices (409), which takes a moment on a busy machine.
    pub(crate) async fn standalone_stream(&self) -> Exchange {
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let mut exchange = self.get().await;
            let head = exchange.head().await;
            if head.status() == 409 && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                continue;
            }
            assert_eq!(head.status(), 200, "the standalone stream was refused: {head:?}");
            return exchange;
        }
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

    /// Ask to resume the stream that was left at this place.
    pub(crate) async fn resume(&self, place: &Place) -> Exchange {
        let last = place.last_id().expect("only a stream that had an id can be resumed");
        let mut exchange = self.resume_after(last).await;
        exchange.asked.clone_from(&place.asked);
        exchange.place = place.taken_up();
        let status = exchange.head().await.status();
        assert_eq!(status, 200, "the stream could not be resumed after {last:?}");
        exchange
    }

    /// Send the GET that asks for what came after the event with this id.
    pub(crate) async fn resume_after(&self, last: &str) -> Exchange {
        println!("-> GET {} after {last:?}", self.endpoint.path);
        let mut headers = self.headers("", &Value::Null);
        headers.remove("Content-Type");
        headers.set("Accept", "text/event-stream");
        headers.set("Last-Event-ID", last);
        let connection = Connection::open(self.endpoint.address).await;
        let mut exchange = connection.send_quietly("GET", &self.endpoint.path, headers, b"").await;
        exchange.revision.clone_from(&self.revision);
        exchange.is_quiet = self.is_quiet;
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
