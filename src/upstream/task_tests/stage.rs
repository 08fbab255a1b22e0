//! A scripted server of core tasks over streamable HTTP, the upstream that leads to it, and clients that answer.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::auth::principal::Principal;
use crate::config;
use crate::config::reference::ProcessEnvironment;
use crate::names::{SessionId, UpstreamName};
use crate::policy::Policy;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::upstream::call::{Affinity, Circumstances, Client, EventSink, TaskWish, UpstreamCall};
use crate::upstream::client_port::{ClientPort, Reach};
use crate::upstream::error::UpstreamError;
use crate::upstream::events::event_queue;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::input::Reply;
use crate::upstream::kept_reads::KeptReads;
use crate::upstream::messages::tests::nobody_in_particular;
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient};
use crate::upstream::task::{CreatedTask, TaskPlace};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn patiently<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    let Ok(came) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("waited in vain for {awaited}")
    };
    came
}

pub(super) fn object(value: &Value) -> Object {
    Object::parse(Bytes::from(value.to_string()), Limits::NONE).expect("valid")
}

/// A request of the gateway's, answered by the story.
pub(super) struct Arrived {
    pub(super) message: Value,
    pub(super) session: String,
    reply: oneshot::Sender<String>,
}

impl Arrived {
    pub(super) fn params(&self) -> &Value {
        &self.message["params"]
    }

    pub(super) fn answer(self, result: Value) {
        let text = json!({ "jsonrpc": "2.0", "id": self.message["id"], "result": result });
        self.reply.send(text.to_string()).expect("somebody waits");
    }

    pub(super) fn becomes(self, task: &str) {
        self.answer(json!({ "task": { "taskId": task, "status": "working", "ttl": 1000 } }));
    }
}

/// See the module head.
pub(super) struct Server {
    pub(super) address: String,
    pub(super) arrived: tokio::sync::Mutex<mpsc::Receiver<Arrived>>,
    pub(super) state: Arc<State>,
}

#[derive(Default)]
pub(super) struct State {
    sessions: Mutex<HashSet<String>>,
    minted: AtomicUsize,
    standing: Mutex<Vec<(String, mpsc::Sender<String>)>>,
    answers: Mutex<Vec<Value>>,
    deleted: Mutex<Vec<String>>,
    changes: watch::Sender<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no story panics with it")
}

impl Server {
    pub(super) async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (arriving, arrived) = mpsc::channel(256);
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(serve(stream, Arc::clone(&shared), arriving.clone()));
            }
        });
        Server { address, arrived: tokio::sync::Mutex::new(arrived), state }
    }

    /// The next request that the story answers.
    pub(super) async fn next(&self, method: &str) -> Arrived {
        let arrived = patiently(method, async { self.arrived.lock().await.recv().await }).await;
        let arrived = arrived.expect("the server lives");
        assert_eq!(arrived.message["method"], method);
        arrived
    }

    pub(super) fn sessions(&self) -> usize {
        locked(&self.state.sessions).len()
    }

    pub(super) fn forget_sessions(&self) {
        locked(&self.state.sessions).clear();
    }

    pub(super) fn deleted(&self) -> Vec<String> {
        locked(&self.state.deleted).clone()
    }

    async fn until<T>(&self, awaited: &str, look: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.state.changes.subscribe();
        patiently(awaited, async {
            loop {
                if let Some(found) = look(&self.state) {
                    return found;
                }
                changes.changed().await.expect("it lives");
            }
        })
        .await
    }

    /// Says something on the standing stream of a session, once there is one.
    pub(super) async fn say(&self, session: &str, message: Value) {
        let way = self.until("a standing stream", |state| {
            let standing = locked(&state.standing);
            standing
                .iter()
                .rev()
                .find(|(of, way)| of == session && !way.is_closed())
                .map(|(_, way)| way.clone())
        });
        way.await.send(format!("data: {message}\n\n")).await.expect("it stands");
    }

    /// Asks by an elicitation on the standing stream, of that task if one is named.
    pub(super) async fn ask(&self, session: &str, id: &str, task: Option<&str>) {
        let mut params = json!({ "message": id, "requestedSchema": { "type": "object", "properties": {} } });
        if let Some(task) = task {
            params["_meta"] = json!({ "a/b": 1, "io.modelcontextprotocol/related-task": { "taskId": task } });
        }
        let question =
            json!({ "jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params });
        self.say(session, question).await;
    }

    /// The gateway's answer to a question.
    pub(super) async fn answer_to(&self, id: &str) -> Value {
        self.until(id, |state| locked(&state.answers).iter().find(|answer| answer["id"] == id).cloned()).await
    }

    pub(super) async fn until_deleted(&self, session: &str) {
        self.until("the end of a session", |state| {
            locked(&state.deleted).iter().any(|deleted| deleted == session).then_some(())
        })
        .await;
    }
}

impl State {
    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>, arriving: mpsc::Sender<Arrived>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let (head, body) = read_request(&mut stream, &mut buffer).await?;
        let session = header(&head, "mcp-session-id").unwrap_or_default().to_owned();
        let known = session.is_empty() || locked(&state.sessions).contains(&session);
        let verb = head.split(' ').next().unwrap_or_default().to_owned();
        let message: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        let reply = match (&*verb, message["method"].as_str()) {
            _ if !known => answer("404 Not Found", "", ""),
            ("GET", _) => return stand(stream, &state, session).await,
            ("DELETE", _) => {
                locked(&state.sessions).remove(&session);
                locked(&state.deleted).push(session);
                state.changed();
                answer("200 OK", "", "")
            }
            (_, Some("server/discover")) => answer("400 Bad Request", "", ""),
            (_, Some("initialize")) => {
                let minted = format!("s{}", state.minted.fetch_add(1, Ordering::Relaxed));
                locked(&state.sessions).insert(minted.clone());
                let result = json!({
                    "protocolVersion": "2025-11-25", "serverInfo": { "name": "stage", "version": "1" },
                    "capabilities": { "tools": {}, "tasks": { "cancel": {}, "requests": { "tools": { "call": {} } } } }
                });
                let text = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
                answer("200 OK", &format!("mcp-session-id: {minted}\r\n"), &text)
            }
            (_, Some("ping")) => {
                let text = json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} }).to_string();
                answer("200 OK", "", &text)
            }
            (_, Some(_)) if message.get("id").is_some() => {
                let (reply, replied) = oneshot::channel();
                arriving.send(Arrived { message, session, reply }).await.ok()?;
                answer("200 OK", "", &replied.await.ok()?)
            }
            (_, None) if message.get("id").is_some() => {
                locked(&state.answers).push(message);
                state.changed();
                answer("202 Accepted", "", "")
            }
            _ => answer("202 Accepted", "", ""),
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

async fn stand(mut stream: TcpStream, state: &State, session: String) -> Option<()> {
    let (way, mut said) = mpsc::channel::<String>(16);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n").await.ok()?;
    locked(&state.standing).push((session, way));
    state.changed();
    while let Some(event) = said.recv().await {
        stream.write_all(event.as_bytes()).await.ok()?;
    }
    None
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    format!("HTTP/1.1 {status}\r\n{headers}{kind}content-length: {}\r\n\r\n{body}", body.len())
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                buffer.drain(..head.len() + 4 + length);
                return Some((head.to_owned(), body[..length].to_owned()));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The upstream that leads to a server, connected.
pub(super) async fn upstream(server: &Server) -> UpstreamHandle {
    let text = format!("servers: {{ one: {{ url: \"http://{}/mcp\" }} }}", server.address);
    let settings = config::parse(&text, Path::new("/gateway.yaml"), &ProcessEnvironment).expect("valid");
    let reads = Arc::new(KeptReads::new(&settings.bounds));
    let handle =
        UpstreamHandle::new(settings.servers[0].clone(), settings.bounds, reads).expect("an address");
    handle.start(nobody_in_particular());
    patiently("the actor", async {
        while handle.actor().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    patiently("the upstream", handle.connected()).await.expect("it is there");
    handle
}

/// A client that accepts whatever it is asked, and remembers what that was.
#[derive(Clone, Default)]
pub(super) struct Person(Arc<Mutex<Vec<Value>>>);

impl Person {
    /// The messages it was shown.
    pub(super) fn shown(&self) -> Vec<String> {
        let text = |params: &Value| params["message"].as_str().unwrap_or_default().to_owned();
        locked(&self.0).iter().map(text).collect()
    }

    pub(super) fn last(&self) -> Value {
        locked(&self.0).last().cloned().unwrap_or_default()
    }

    /// As a client of that affinity.
    pub(super) fn client(&self, affinity: Affinity) -> Arc<Client> {
        let able = json!({ "elicitation": {} });
        Arc::new(Client {
            principal: Principal::Local,
            affinity,
            task_of: None,
            profile: None,
            capabilities: ClientCapabilities::new(object(&able)),
            port: Some(ClientPort::new(self.clone())),
            closed: CancellationToken::new(),
        })
    }
}

impl Reach for Person {
    fn ask(&self, asked: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>> {
        let params = serde_json::from_slice(asked.request.params.as_bytes()).expect("valid");
        locked(&self.0).push(params);
        let (answer, answered) = oneshot::channel();
        let accepted = json!({ "action": "accept", "content": {} });
        answer.send(Answer::Result(object(&accepted))).expect("it is kept below");
        let question = Question {
            number: 1,
            answer: answered,
            progress: watch::channel(None).1,
            lost: CancellationToken::new(),
        };
        std::future::ready(Ok(question)).boxed_local()
    }

    fn withdraw(&self, _: u64) {}

    fn tell(&self, _: TellClient) -> bool {
        true
    }

    fn admits_log(&self, _: &UpstreamName, _: &Object) -> bool {
        true
    }
}

/// A session nobody else has.
pub(super) fn session() -> Affinity {
    static LAST: AtomicUsize = AtomicUsize::new(1_000_000);
    Affinity::Session(SessionId(LAST.fetch_add(1, Ordering::Relaxed) as u128))
}

pub(super) fn circumstances(client: &Arc<Client>, events: Option<EventSink>, wishes: bool) -> Circumstances {
    Circumstances {
        client: Arc::clone(client),
        progress: events.is_some(),
        log_level: None,
        trace: Vec::new(),
        events,
        input: None,
        task: wishes.then_some(TaskWish { ttl_ms: Some(5000) }),
    }
}

/// Calls the tool; with a wish for a task if `wishes`.
pub(super) async fn call(
    upstream: &UpstreamHandle,
    client: &Arc<Client>,
    events: Option<EventSink>,
    wishes: bool,
) -> Result<Reply, UpstreamError> {
    let circumstances = circumstances(client, events, wishes);
    let params = object(&json!({ "name": "work", "arguments": {} }));
    let call = UpstreamCall {
        method: Method::CallTool,
        params: Edit::of(&params),
        target: Some("work".into()),
        param_headers: Vec::new(),
        circumstances: &circumstances,
    };
    let permit = Policy::default().authorise(client.principal, upstream.name());
    patiently("the answer to a call", upstream.forward(permit, &call)).await
}

/// A task of this client's, and the session it was made in.
pub(super) async fn task(
    server: &Server,
    upstream: &UpstreamHandle,
    client: &Arc<Client>,
    id: &str,
) -> (CreatedTask, String) {
    let (sink, _events) = event_queue(8);
    let making = call(upstream, client, Some(sink), true);
    let serving = async {
        let arrived = server.next("tools/call").await;
        let session = arrived.session.clone();
        arrived.becomes(id);
        session
    };
    let (reply, session) = tokio::join!(making, serving);
    let Reply::Task(created) = reply.expect("answered") else { panic!("it became a task") };
    (*created, session)
}

/// A request about a task.
pub(super) async fn about(
    upstream: &UpstreamHandle,
    client: &Arc<Client>,
    place: &TaskPlace,
    method: Method,
) -> Result<Answer, UpstreamError> {
    let circumstances = circumstances(client, None, false);
    let params = object(&json!({ "taskId": place.id() }));
    let call = UpstreamCall {
        method,
        params: Edit::of(&params),
        target: None,
        param_headers: Vec::new(),
        circumstances: &circumstances,
    };
    let permit = Policy::default().authorise(client.principal, upstream.name());
    upstream.task_request(permit, place, &call, Some(PATIENCE)).await
}
