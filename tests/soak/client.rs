//! One client of the soak: calls with the ids 1, 2, 3 … that all the others use, and watches what comes back.
//!
//! Always: seeded, so that a run can be repeated up to the machine's timing; a fault is noted and the client goes on
//! with a new connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::judge::{Expected, judge};
use crate::random::Random;
use crate::upstream::NAMES;
use crate::wire::{Connection, messages};

/// No call takes longer, cancelled or not.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Address.
    pub(crate) address: SocketAddr,
    path: String,
}

impl Endpoint {
    /// From its parts.
    pub(crate) fn new(address: SocketAddr, path: &str) -> Self {
        Endpoint { address, path: path.to_owned() }
    }

    /// From what follows `http://`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (address, path) = text.split_once('/').unwrap_or((text, ""));
        Ok(Endpoint { address: address.parse()?, path: format!("/{path}") })
    }
}

/// How the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2025-11-25: a session, with its stream open.
    Handshake,
    /// 2026-07-28: metadata on every request.
    Stateless,
}

/// What all clients saw together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: Cell<u64>,
    progress: Cell<u64>,
    cancelled: Cell<u64>,
    faults: RefCell<Vec<String>>,
}

impl Tally {
    /// What was wrong; the first few are enough.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.borrow().iter().take(10).cloned().collect()
    }

    /// A soak in which little happened proves little.
    pub(crate) fn ensure_everything_happened(&self, seconds: u64) -> Result<()> {
        let each_second = seconds.max(1);
        ensure!(self.answered.get() >= 100 * each_second, "too few answers: {self:?}");
        ensure!(self.progress.get() >= 20 * each_second, "too little progress: {self:?}");
        ensure!(self.cancelled.get() >= 5 * each_second, "too few cancellations: {self:?}");
        Ok(())
    }

    fn fault(&self, what: String) {
        self.faults.borrow_mut().push(what);
    }
}

fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

/// A client.
pub(crate) struct Client {
    endpoint: Endpoint,
    era: Era,
    name: String,
    connection: Connection,
    session: Option<String>,
    next_id: u64,
    random: Random,
    tally: Rc<Tally>,
}

impl Client {
    /// Connects, and opens a session if the era has them.
    pub(crate) async fn open(
        endpoint: Endpoint,
        era: Era,
        number: u64,
        seed: u64,
        tally: Rc<Tally>,
    ) -> Result<Self> {
        let connection = Connection::open(endpoint.address).await?;
        let (name, random) = (format!("client{number}"), Random::new(seed.wrapping_add(number << 32)));
        let mut client = Client { endpoint, era, name, connection, session: None, next_id: 0, random, tally };
        if era == Era::Handshake {
            client.initialize().await.context("opening a session")?;
        }
        Ok(client)
    }

    /// Calls until the time is over, then ends its session.
    pub(crate) async fn run(mut self, until: Instant) -> Result<()> {
        let mut stream = match self.era {
            Era::Handshake => Some(self.open_stream().await?),
            Era::Stateless => None,
        };
        while Instant::now() < until {
            sleep(Duration::from_millis(self.random.below(80))).await;
            if let Err(error) = self.call().await {
                self.tally.fault(format!("{}, {:?}: {error:#}", self.name, self.era));
                self.connection = Connection::open(self.endpoint.address).await?;
            }
        }
        if let Some(stream) = &mut stream {
            let (status, _) = self.exchange("DELETE", "", "").await?;
            ensure!((200..300).contains(&status), "ending the session: {status}");
            if let Err(error) = check_ended_stream(stream).await {
                self.tally.fault(format!("{}: {error:#}", self.name));
            }
        }
        Ok(())
    }

    async fn initialize(&mut self) -> Result<()> {
        let body = json!({ "jsonrpc": "2.0", "id": self.take_id(), "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": self.name, "version": "1" } } });
        self.connection.send(self.http("POST", "", &body.to_string()).as_bytes()).await?;
        let head = self.connection.head().await?.context("closed instead of answering")?;
        self.connection.body(&head, &mut Vec::new()).await?;
        self.session = Some(head.session.context("no session id")?);
        let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let (status, _) = self.exchange("POST", "", body).await?;
        ensure!(status == 202, "initialized: {status}");
        Ok(())
    }

    async fn open_stream(&self) -> Result<Connection> {
        let mut stream = Connection::open(self.endpoint.address).await?;
        stream.send(self.http("GET", "", "").as_bytes()).await?;
        let head = stream.head().await?.context("closed instead of answering")?;
        ensure!(head.status() == 200 && head.chunked, "GET stream: {}", head.first_line);
        Ok(stream)
    }

    /// One call of random shape, judged.
    async fn call(&mut self) -> Result<()> {
        let random = &mut self.random;
        let upstream = NAMES[random.below(3) as usize];
        let (delay, steps) = (random.below(60), random.below(4));
        let cancel_after = (random.below(10) == 0).then(|| Duration::from_millis(random.below(40)));
        let secret = random.next();
        let id = self.take_id();
        let marker = format!("{}-{id}-{secret:016x}", self.name);
        let cancelled = cancel_after.is_some();
        let expected = Expected { id, marker, upstream, cancelled };
        self.send_call(&expected, delay, steps).await?;
        if let Some(after) = cancel_after {
            sleep(after).await;
            add(&self.tally.cancelled, 1);
            if self.era == Era::Stateless {
                // In this era leaving is cancelling.
                self.connection = Connection::open(self.endpoint.address).await?;
                return Ok(());
            }
            self.cancel(id).await?;
        }
        let receive = self.receive();
        let (status, events, body) = timeout(PATIENCE, receive).await.context("no answer in time")??;
        ensure!(status == 200 || cancelled, "status {status}: {}", String::from_utf8_lossy(&body));
        let messages = events.iter().map(|(start, end)| &body[*start..*end]).collect::<Vec<_>>();
        let seen =
            judge(&expected, &messages).map_err(|fault| anyhow::anyhow!("{fault}; expected {expected:?}"))?;
        add(&self.tally.answered, u64::from(seen.answered));
        add(&self.tally.progress, seen.progress);
        Ok(())
    }

    async fn send_call(&mut self, expected: &Expected, delay: u64, steps: u64) -> Result<()> {
        let tool = format!("{}__mark", expected.upstream);
        let mut meta = json!({ "progressToken": expected.id });
        let mut headers = String::new();
        if self.era == Era::Stateless {
            meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
            headers = format!("Mcp-Method: tools/call\r\nMcp-Name: {tool}\r\n");
        }
        let body = json!({ "jsonrpc": "2.0", "id": expected.id, "method": "tools/call", "params": {
            "name": tool, "_meta": meta,
            "arguments": { "marker": expected.marker, "delay": delay, "steps": steps } } });
        Ok(self.connection.send(self.http("POST", &headers, &body.to_string()).as_bytes()).await?)
    }

    /// Tells on a second connection that the answer is not wanted any more.
    async fn cancel(&self, id: u64) -> Result<()> {
        let body = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": { "requestId": id, "reason": "soak" } });
        let mut control = Connection::open(self.endpoint.address).await?;
        control.send(self.http("POST", "", &body.to_string()).as_bytes()).await?;
        match timeout(PATIENCE, control.head()).await.context("cancelling takes too long")?? {
            Some(head) if head.status() == 202 => Ok(()),
            other => bail!("cancelling: {other:?}"),
        }
    }

    /// Status, the places of the messages in the body, and the body.
    async fn receive(&mut self) -> Result<(u16, Vec<(usize, usize)>, Vec<u8>)> {
        let head = self.connection.head().await?.context("closed instead of answering")?;
        let mut body = Vec::new();
        self.connection.body(&head, &mut body).await?;
        let base = body.as_ptr() as usize;
        let place = |message: &[u8]| {
            (message.as_ptr() as usize - base, message.as_ptr() as usize - base + message.len())
        };
        let places = messages(&head, &body).into_iter().map(place).collect();
        Ok((head.status(), places, body))
    }

    async fn exchange(&mut self, verb: &str, headers: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        self.connection.send(self.http(verb, headers, body).as_bytes()).await?;
        let (status, _, body) = timeout(PATIENCE, self.receive()).await.context("no answer in time")??;
        Ok((status, body))
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn http(&self, verb: &str, headers: &str, body: &str) -> String {
        let Endpoint { address, path } = &self.endpoint;
        let revision = match self.era {
            Era::Handshake => "2025-11-25",
            Era::Stateless => "2026-07-28",
        };
        let session = self.session.as_ref().map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
        let accept = if verb == "GET" { "text/event-stream" } else { "application/json, text/event-stream" };
        format!(
            "{verb} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: {accept}\r\n\
             MCP-Protocol-Version: {revision}\r\n{session}{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// After its session ended the stream ends, too; no answer may have come on it.
async fn check_ended_stream(stream: &mut Connection) -> Result<()> {
    let head = crate::wire::Head { chunked: true, event_stream: true, ..Default::default() };
    let mut body = Vec::new();
    timeout(PATIENCE, stream.body(&head, &mut body)).await.context("the session's stream does not end")??;
    for message in messages(&head, &body) {
        let message: serde_json::Value = serde_json::from_slice(message)?;
        ensure!(message.get("method").is_some(), "answer on the session's stream: {message}");
        ensure!(message["method"] != "notifications/progress", "progress on the session's stream: {message}");
    }
    Ok(())
}
