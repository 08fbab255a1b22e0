//! The soak's upstream: an MCP server of both eras whose one tool answers with the server's name and the call's
//! marker, after a while and after some progress.
//!
//! Always: knows how many calls it has, and complains about ids used twice at once in a session.
//! With a mischief it stands in for a gateway that is wrong in one way.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::wire::{Connection, Head};

/// The servers of a soak.
pub(crate) const NAMES: [&str; 3] = ["north", "east", "west"];

/// In what way a stand-in is wrong, every few calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// It is right.
    None,
    /// Gives the last call's answer under this call's id.
    ForeignAnswer,
    /// Gives the right answer under another id.
    ForeignId,
    /// Lets another server answer.
    WrongUpstream,
    /// Tells progress of the last call.
    ForeignProgress,
    /// Answers twice.
    TwoAnswers,
    /// Ends the stream without an answer.
    NoAnswer,
    /// Sends the answer on the session's stream as well.
    AnswerOnOtherStream,
}

/// A running upstream; it ends with the runtime of its test.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Rc<State>,
}

struct State {
    name: &'static str,
    mischief: Mischief,
    calls: Cell<u64>,
    in_flight: Cell<usize>,
    cancelled: Cell<u64>,
    /// Told when the session ends.
    sessions: RefCell<HashMap<String, Rc<Notify>>>,
    /// What the next mischief sends on a session's stream.
    stray: RefCell<HashMap<String, String>>,
    pending: RefCell<HashMap<(String, String), Rc<Notify>>>,
    last_marker: RefCell<String>,
    faults: RefCell<Vec<String>>,
}

impl Upstream {
    /// Starts listening.
    pub(crate) async fn start(name: &'static str, mischief: Mischief) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Rc::new(State {
            name,
            mischief,
            calls: Cell::default(),
            in_flight: Cell::default(),
            cancelled: Cell::default(),
            sessions: RefCell::default(),
            stray: RefCell::default(),
            pending: RefCell::default(),
            last_marker: RefCell::default(),
            faults: RefCell::default(),
        });
        let accepting = state.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = accepting.clone();
                tokio::task::spawn_local(async move {
                    // A broken connection ends alone; the other side notices.
                    if let Ok(connection) = Connection::over(stream) {
                        let _ = state.serve(connection).await;
                    }
                });
            }
        });
        Ok(Upstream { address, state })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.state.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls that are being worked on now.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.get()
    }

    /// Calls that were given up because the other side said so or left.
    pub(crate) fn cancelled(&self) -> u64 {
        self.state.cancelled.get()
    }

    /// What the other side did wrong.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.state.faults.borrow().iter().take(10).cloned().collect()
    }
}

/// Counts for as long as it lives.
struct Counted<'a>(&'a Cell<usize>);

impl<'a> Counted<'a> {
    fn up(counter: &'a Cell<usize>) -> Self {
        counter.set(counter.get() + 1);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One call, as the tool sees it.
struct Call {
    id: Value,
    /// The name of the server that is to answer.
    server: String,
    marker: String,
    delay: u64,
    steps: u64,
    token: Value,
    session: Option<String>,
}

impl State {
    async fn serve(&self, mut connection: Connection) -> Result<()> {
        let mut body = Vec::new();
        while let Some(head) = connection.head().await? {
            connection.body(&head, &mut body).await?;
            match head.first_line.split(' ').next() {
                Some("POST") => self.post(&mut connection, &head, serde_json::from_slice(&body)?).await?,
                Some("GET") if head.session.is_some() => self.stream(&mut connection, &head).await?,
                Some("DELETE") => {
                    let ended = self.sessions.borrow_mut().remove(&head.session.unwrap_or_default());
                    let status = if ended.is_some() { "200 OK" } else { "404 Not Found" };
                    ended.inspect(|stream| stream.notify_one());
                    send(&mut connection, status, "", "").await?;
                }
                _ => send(&mut connection, "405 Method Not Allowed", "", "").await?,
            }
        }
        Ok(())
    }

    /// The session's stream stays silent until the session ends.
    async fn stream(&self, connection: &mut Connection, head: &Head) -> Result<()> {
        let session = head.session.clone().unwrap_or_default();
        let Some(ended) = self.sessions.borrow().get(&session).cloned() else {
            return send(connection, "404 Not Found", "", "").await;
        };
        connection.send(EVENTS.as_bytes()).await?;
        tokio::select! {
            () = ended.notified() => {}
            _ = connection.head() => return Ok(()),
        }
        let stray = self.stray.borrow_mut().remove(&session);
        if let Some(message) = stray {
            event(connection, &message).await?;
        }
        Ok(connection.send(b"0\r\n\r\n").await?)
    }

    async fn post(&self, connection: &mut Connection, head: &Head, message: Value) -> Result<()> {
        let method = message["method"].as_str().unwrap_or_default();
        let stateless = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28";
        if stateless
            && (head.method.as_deref() != Some(method) || head.revision.as_deref() != Some("2026-07-28"))
        {
            return refuse(connection, "400 Bad Request", &message["id"], -32020).await;
        }
        let session = head.session.clone().filter(|_| !stateless);
        if !stateless && method != "initialize" && method != "server/discover" {
            let known = session.as_ref().is_some_and(|id| self.sessions.borrow().contains_key(id));
            if !known {
                return send(connection, "404 Not Found", "", "").await;
            }
        }
        match method {
            "initialize" => self.initialize(connection, &message).await,
            "notifications/cancelled" => {
                let key = (session.unwrap_or_default(), message["params"]["requestId"].to_string());
                self.pending.borrow().get(&key).inspect(|call| call.notify_one());
                send(connection, "202 Accepted", "", "").await
            }
            _ if message.get("id").is_none() => send(connection, "202 Accepted", "", "").await,
            "server/discover" if stateless => {
                let result = json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"],
                    "capabilities": { "tools": {} }, "ttlMs": 60_000, "cacheScope": "public" });
                answer(connection, "", &message["id"], result).await
            }
            "tools/list" => answer(connection, "", &message["id"], tools(stateless)).await,
            "tools/call" => {
                let name = message["params"]["name"].as_str().unwrap_or_default();
                if stateless && head.name.as_deref() != Some(name) {
                    return refuse(connection, "400 Bad Request", &message["id"], -32020).await;
                }
                let call = self.read_call(&message, session).context("not a call of the tool")?;
                self.call(connection, call, stateless).await
            }
            "ping" if !stateless => answer(connection, "", &message["id"], json!({})).await,
            _ => {
                refuse(connection, if stateless { "404 Not Found" } else { "200 OK" }, &message["id"], -32601)
                    .await
            }
        }
    }

    async fn initialize(&self, connection: &mut Connection, message: &Value) -> Result<()> {
        self.calls.set(self.calls.get() + 1);
        let session = format!("{}-{}", self.name, self.calls.get());
        self.sessions.borrow_mut().insert(session.clone(), Rc::default());
        let result = json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
            "serverInfo": { "name": self.name, "version": "1" } });
        answer(connection, &format!("Mcp-Session-Id: {session}\r\n"), &message["id"], result).await
    }

    fn read_call(&self, message: &Value, session: Option<String>) -> Option<Call> {
        let params = &message["params"];
        let name = params["name"].as_str()?;
        // A stand-in is called by public names.
        let server = name.strip_suffix("__mark").unwrap_or(self.name).to_owned();
        Some(Call {
            id: message["id"].clone(),
            server,
            marker: params["arguments"]["marker"].as_str()?.to_owned(),
            delay: params["arguments"]["delay"].as_u64()?,
            steps: params["arguments"]["steps"].as_u64()?,
            token: params["_meta"]["progressToken"].clone(),
            session,
        })
    }

    /// Works on a call until it is done, cancelled, or the other side has left.
    async fn call(&self, connection: &mut Connection, call: Call, stateless: bool) -> Result<()> {
        let _working = Counted::up(&self.in_flight);
        self.calls.set(self.calls.get() + 1);
        let cancelled = Rc::new(Notify::new());
        let key = (call.session.clone().unwrap_or_default(), call.id.to_string());
        if !stateless {
            let other = self.pending.borrow_mut().insert(key.clone(), cancelled.clone());
            if other.is_some() {
                self.faults.borrow_mut().push(format!("id {} used twice at once in a session", call.id));
            }
        }
        connection.send(EVENTS.as_bytes()).await?;
        let pause = Duration::from_millis(call.delay / (call.steps + 1));
        let mut given_up = false;
        for step in 0..=call.steps {
            given_up = tokio::select! {
                () = sleep(pause) => false,
                () = cancelled.notified() => true,
                // Nothing is pipelined, so this is the other side leaving.
                _ = connection.head() => true,
            };
            if given_up {
                break;
            }
            if step < call.steps && !call.token.is_null() {
                event(connection, &self.progress(&call, step)).await?;
            }
        }
        self.pending.borrow_mut().remove(&key);
        if given_up {
            self.cancelled.set(self.cancelled.get() + 1);
        } else {
            for message in self.answers(&call, stateless) {
                event(connection, &message).await?;
            }
        }
        *self.last_marker.borrow_mut() = call.marker;
        Ok(connection.send(b"0\r\n\r\n").await?)
    }

    fn wrong_now(&self, mischief: Mischief) -> bool {
        self.mischief == mischief && self.calls.get().is_multiple_of(50)
    }

    fn progress(&self, call: &Call, step: u64) -> String {
        let own = !self.wrong_now(Mischief::ForeignProgress);
        let marker = if own { call.marker.clone() } else { self.last_marker.borrow().clone() };
        let params = json!({ "progressToken": call.token, "progress": step + 1, "total": call.steps, "message": marker });
        json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }).to_string()
    }

    fn answers(&self, call: &Call, stateless: bool) -> Vec<String> {
        let wrong = |mischief| self.wrong_now(mischief);
        let marker = if wrong(Mischief::ForeignAnswer) {
            self.last_marker.borrow().clone()
        } else {
            call.marker.clone()
        };
        let other = NAMES.into_iter().find(|name| *name != call.server).unwrap_or_default();
        let server = if wrong(Mischief::WrongUpstream) { other } else { &call.server };
        let id = if wrong(Mischief::ForeignId) {
            json!(call.id.as_u64().map(|id| id + 1))
        } else {
            call.id.clone()
        };
        let mut result = json!({ "content": [{ "type": "text", "text": format!("{server} {marker}") }] });
        if stateless {
            result["resultType"] = "complete".into();
        }
        let message = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
        if let Some(session) = call.session.clone().filter(|_| wrong(Mischief::AnswerOnOtherStream)) {
            self.stray.borrow_mut().insert(session, message.clone());
        }
        match self.mischief {
            Mischief::NoAnswer if wrong(Mischief::NoAnswer) => vec![],
            Mischief::TwoAnswers if wrong(Mischief::TwoAnswers) => vec![message.clone(), message],
            _ => vec![message],
        }
    }
}

fn tools(stateless: bool) -> Value {
    let schema = json!({ "type": "object", "properties": { "marker": { "type": "string" },
        "delay": { "type": "integer" }, "steps": { "type": "integer" } } });
    let mut result = json!({ "tools": [{ "name": "mark", "inputSchema": schema }] });
    if stateless {
        result["resultType"] = "complete".into();
        result["ttlMs"] = 60_000.into();
        result["cacheScope"] = "public".into();
    }
    result
}

/// The head of an event stream.
const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
                      Transfer-Encoding: chunked\r\n\r\n";

async fn event(connection: &mut Connection, message: &str) -> Result<()> {
    let event = format!("data: {message}\n\n");
    Ok(connection.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?)
}

async fn answer(connection: &mut Connection, headers: &str, id: &Value, result: Value) -> Result<()> {
    let body = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
    send(connection, "200 OK", headers, &body).await
}

async fn refuse(connection: &mut Connection, status: &str, id: &Value, code: i32) -> Result<()> {
    let error = json!({ "code": code, "message": "refused" });
    send(connection, status, "", &json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()).await
}

async fn send(connection: &mut Connection, status: &str, headers: &str, body: &str) -> Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}");
    Ok(connection.send(format!("{head}\r\n\r\n{body}").as_bytes()).await?)
}
