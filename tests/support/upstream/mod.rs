//! Scripted MCP servers inside the test process: one script, over streamable HTTP or behind a stdio child.
//!
//! Owns the ledger (every message received, in order), the catalogue shown and what upstreams say by themselves. Always:
//! what the script does not answer is answered as a well-behaved server of the era does (`defaults`); every message of
//! the gateway is judged by the schema of the upstream's revision, and an unlawful one fails the story.
//! Not here: faults of processes, which `evil_child.py` plays.

mod call;
mod defaults;
mod listening;
mod over_http;
mod over_stdio;
mod plan;
mod standing;
mod steering;
mod task_methods;
mod task_questions;
mod tasks;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use call::Call;
pub(crate) use plan::{UpstreamPlan, http_upstream, stateless_upstream, stdio_upstream, upstream};
pub(crate) use tasks::{AsksOn, Manner, Outcome, Stubborn, Task};

use super::http::Headers;
use super::{STATELESS, patiently};

type Script = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// How an upstream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Streamable HTTP.
    Http,
    /// A child process.
    Stdio,
}

/// Both transports, for table stories.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Http, Transport::Stdio];

/// What an upstream shows in its lists.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// `tools/list`.
    pub(crate) tools: Vec<Value>,
    /// `prompts/list`.
    pub(crate) prompts: Vec<Value>,
    /// `resources/list`.
    pub(crate) resources: Vec<Value>,
    /// `resources/templates/list`.
    pub(crate) templates: Vec<Value>,
    /// Items in a page; all in one when `None`.
    pub(crate) page: Option<usize>,
}

/// A message that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// `POST`, `GET` or `DELETE`; `LINE` on stdio.
    pub(crate) verb: String,
    /// HTTP header fields; none on stdio.
    pub(crate) headers: Headers,
    /// The body or line as it stood on the wire.
    pub(crate) raw: String,
    /// The same, parsed; null when it is no JSON.
    pub(crate) json: Value,
    /// Which connection or child it came from, counted from 0.
    pub(crate) connection: usize,
}

impl Received {
    /// The method; empty for responses and for GET and DELETE.
    pub(crate) fn method(&self) -> &str {
        self.json["method"].as_str().unwrap_or_default()
    }

    /// The parameters.
    pub(crate) fn params(&self) -> &Value {
        &self.json["params"]
    }

    /// The exact text of a member below `params`.
    pub(crate) fn raw_param(&self, path: &[&str]) -> &str {
        let path: Vec<&str> = std::iter::once("params").chain(path.iter().copied()).collect();
        super::json::raw_at(&self.raw, &path).unwrap_or_else(|| panic!("no {path:?} in {}", self.raw))
    }

    /// The session id of the handshake era.
    pub(crate) fn session(&self) -> Option<&str> {
        self.headers.get("mcp-session-id")
    }
}

/// A standing way to the gateway: an open GET stream or a child's stdout.
#[derive(Debug)]
pub(crate) struct Standing {
    session: Option<String>,
    out: mpsc::Sender<over_http::Command>,
    is_stdio: bool,
}

/// A question of this upstream that the gateway has not answered.
struct Asked {
    method: String,
    answered: oneshot::Sender<Value>,
}

/// What the tasks of one upstream share.
pub(crate) struct Shared {
    name: String,
    revision: String,
    transport: Transport,
    scripts: HashMap<String, Script>,
    capabilities: Value,
    instructions: Option<String>,
    has_standing_stream: bool,
    is_lenient: bool,
    is_quiet: bool,
    forgotten_status: u16,
    refused_answers: Mutex<VecDeque<u16>>,
    shown: Mutex<Shown>,
    ledger: Mutex<Vec<Received>>,
    births: Mutex<Vec<Value>>,
    sessions: Mutex<HashSet<String>>,
    greeted: Mutex<HashMap<String, Value>>,
    standing: Mutex<Vec<Standing>>,
    listens: Mutex<Vec<listening::Listen>>,
    awaiting: Mutex<HashMap<String, Asked>>,
    faults: Mutex<Vec<String>>,
    desk: Mutex<tasks::Desk>,
    changes: watch::Sender<u64>,
    killed: watch::Sender<u64>,
    open: watch::Sender<usize>,
    next: AtomicU64,
    connections: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    fn is_stateless(&self) -> bool {
        self.revision == STATELESS
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn enter(&self, received: Received) {
        if !self.is_quiet {
            println!(
                "   [{} #{}] <= {} {}",
                self.name,
                received.connection,
                received.verb,
                clipped(&received.raw)
            );
        }
        if let Some(fault) = defaults::fault_of(self, &received) {
            println!("   [{}] FAULT {fault}", self.name);
            locked(&self.faults).push(fault);
        }
        locked(&self.ledger).push(received);
        self.changes.send_modify(|count| *count += 1);
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Run a script; one that panics fails the story.
    fn run(shared: &Arc<Shared>, script: &Script, call: Call) {
        let running = tokio::spawn(script(call));
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            if running.await.is_err_and(|e| e.is_panic()) {
                locked(&shared.faults).push("a script of the story panicked".to_owned());
            }
        });
    }

    async fn say_standing(&self, message: &str, to: impl Fn(&Standing) -> bool) -> usize {
        if !self.is_quiet {
            println!("   [{}] => (standing) {}", self.name, clipped(message));
        }
        let ways: Vec<_> = locked(&self.standing)
            .iter()
            .filter(|standing| to(standing))
            .map(|standing| (standing.out.clone(), standing.is_stdio))
            .collect();
        let mut told = 0;
        for (out, is_stdio) in ways {
            let piece =
                if is_stdio { format!("{message}\n").into_bytes() } else { over_http::event_chunk(message) };
            told += usize::from(out.send(over_http::Command::Write(piece)).await.is_ok());
        }
        told
    }

    fn script(&self, names: &[&str]) -> Option<Script> {
        names.iter().find_map(|name| self.scripts.get(*name)).cloned()
    }
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(1200)]
}

/// A listening upstream.
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// The server's entry in the gateway's configuration.
    pub(crate) fn settings(&self) -> Value {
        plan::settings(self.shared.transport, self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Die as a killed process does: afterwards nobody listens any more and every connection is broken.
    pub(crate) async fn kill(&mut self) {
        println!("   [{}] is killed", self.shared.name);
        self.serving.abort();
        self.shared.killed.send_modify(|count| *count += 1);
        locked(&self.shared.standing).clear();
        let closed = async {
            (&mut self.serving).await.ok();
            self.shared.open.subscribe().wait_for(|open| *open == 0).await.ok();
        };
        patiently("every connection of a killed upstream to be closed", closed).await;
    }

    /// Forget all sessions, as a restarted server does.
    pub(crate) fn forget_sessions(&self) {
        println!("   [{}] forgets its sessions", self.shared.name);
        locked(&self.shared.sessions).clear();
        locked(&self.shared.standing).clear();
    }

    /// Change what is shown.
    pub(crate) fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut locked(&self.shared.shown));
    }

    /// Everything received so far.
    pub(crate) fn ledger(&self) -> Vec<Received> {
        locked(&self.shared.ledger).clone()
    }

    /// Everything received with this method.
    pub(crate) fn received(&self, method: &str) -> Vec<Received> {
        self.ledger().into_iter().filter(|received| received.method() == method).collect()
    }

    /// What each child said about itself when it was born.
    pub(crate) fn births(&self) -> Vec<Value> {
        locked(&self.shared.births).clone()
    }

    /// How many connections the gateway has to it.
    pub(crate) fn connections(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// Sessions minted for the gateway and not forgotten.
    pub(crate) fn sessions(&self) -> Vec<String> {
        locked(&self.shared.sessions).iter().cloned().collect()
    }

    /// Wait until `probe` finds something in the ledger.
    pub(crate) async fn until<T>(&self, awaited: &str, probe: impl Fn(&[Received]) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        let awaited = format!("{} to receive {awaited}", self.shared.name);
        patiently(&awaited, async {
            loop {
                if let Some(found) = probe(&locked(&self.shared.ledger)) {
                    return found;
                }
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await
    }

    /// Wait for the `count`-th message with this method.
    pub(crate) async fn until_received(&self, method: &str, count: usize) -> Received {
        self.until(method, |ledger| {
            ledger.iter().filter(|received| received.method() == method).nth(count.saturating_sub(1)).cloned()
        })
        .await
    }

    /// Wait until the gateway holds at least one standing way to be told things.
    pub(crate) async fn until_standing(&self) {
        let mut changes = self.shared.changes.subscribe();
        patiently("the gateway to open a standing stream", async {
            while locked(&self.shared.standing).is_empty() {
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await;
    }

    /// Wait until the session or child that sent `received` can be told things.
    pub(crate) async fn until_standing_for(&self, received: &Received) {
        let own = standing::way_of(received);
        let mut changes = self.shared.changes.subscribe();
        patiently(&format!("a standing way to {own}"), async {
            while !locked(&self.shared.standing)
                .iter()
                .any(|standing| standing.session.as_ref() == Some(&own))
            {
                changes.changed().await.expect("the sender is in self");
            }
        })
        .await;
    }

    /// Say something on every standing way, or on every listen stream that asked for it; gives how many there were.
    pub(crate) async fn announce(&self, method: &str, params: Value) -> usize {
        if self.shared.is_stateless() {
            return self.shared.announce_to_listens(method, &params).await;
        }
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
        self.say(&message, |_| true).await
    }

    /// Write raw text on the standing ways.
    pub(crate) async fn say(&self, message: &str, to: impl Fn(&Standing) -> bool) -> usize {
        self.shared.say_standing(message, to).await
    }

    /// Ask the gateway something on every standing way; gives the response messages that come within the patience.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let (id, answer) = self.shared.expect_answer(method);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        self.say(&message, |_| true).await;
        patiently(&format!("the answer to {method}"), answer).await.expect("answers are kept until they come")
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
        self.shared.killed.send_modify(|count| *count += 1);
        let faults = std::mem::take(&mut *locked(&self.shared.faults));
        if !std::thread::panicking() {
            assert!(
                faults.is_empty(),
                "the gateway sent {} what it should not: {faults:#?}",
                self.shared.name
            );
        }
    }
}
