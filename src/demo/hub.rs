//! Who is there to be told of changes: sessions of the handshake era and listen streams of the stateless era.
//!
//! Always: a listener hears its acknowledgement first and only what it asked for; one that does not read is ended, not waited for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session::{Session, covers};
use super::wire::{self, Fault, INTERNAL_ERROR, Object};

const MAX_SESSIONS: usize = 4096;
const MAX_LISTENS: usize = 4096;
const IDLE_SESSION: Duration = Duration::from_secs(30 * 60);
/// Metadata key that ties a message to its listen stream.
pub(crate) const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Something that clients may want to hear of.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resource(String),
}

/// What a listen stream carries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filter {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: HashSet<String>,
    /// Ids of tasks.
    pub(crate) tasks: HashSet<String>,
}

impl Filter {
    fn covers(&self, change: &Change) -> bool {
        match change {
            Change::Tools => self.tools,
            Change::Prompts => self.prompts,
            Change::Resource(uri) => covers(&self.resources, uri),
        }
    }

    /// The filter as an acknowledgement tells it.
    fn describe(&self) -> Value {
        let mut told = Object::new();
        if self.tools {
            told.insert("toolsListChanged".to_owned(), json!(true));
        }
        if self.prompts {
            told.insert("promptsListChanged".to_owned(), json!(true));
        }
        if !self.resources.is_empty() {
            told.insert("resourceSubscriptions".to_owned(), sorted(&self.resources));
        }
        if !self.tasks.is_empty() {
            told.insert("taskIds".to_owned(), sorted(&self.tasks));
        }
        Value::Object(told)
    }
}

fn sorted(names: &HashSet<String>) -> Value {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    json!(names)
}

#[derive(Debug)]
struct Listen {
    subscription: Value,
    filter: Filter,
    pipe: mpsc::Sender<Value>,
    ended: CancellationToken,
}

impl Listen {
    fn tell(&self, method: &str, params: &Value) {
        let mut params = params.clone();
        params["_meta"] = json!({ SUBSCRIPTION_ID: self.subscription });
        if self.pipe.try_send(wire::notification(method, params)).is_err() {
            self.ended.cancel();
        }
    }
}

/// Everyone who can be told of changes.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    listens: Mutex<HashMap<u64, Listen>>,
    next_listen: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Enters a session under its id, after making room by letting idle ones go.
    pub(crate) fn enter(&self, id: String, session: Arc<Session>) -> Result<(), Fault> {
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= MAX_SESSIONS {
            let now = Instant::now();
            sessions.retain(|_, session| {
                let idle = now.duration_since(session.last_used()) > IDLE_SESSION;
                if idle {
                    session.close();
                }
                !idle
            });
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(Fault::new(INTERNAL_ERROR, "too many sessions are open"));
        }
        sessions.insert(id, session);
        Ok(())
    }

    pub(crate) fn session(&self, id: &str) -> Option<Arc<Session>> {
        lock(&self.sessions).get(id).cloned()
    }

    pub(crate) fn session_count(&self) -> usize {
        lock(&self.sessions).len()
    }

    pub(crate) fn listen_count(&self) -> usize {
        lock(&self.listens).len()
    }

    /// Ends a session; false if there is none of that id.
    pub(crate) fn leave(&self, id: &str) -> bool {
        let session = lock(&self.sessions).remove(id);
        if let Some(session) = &session {
            session.close();
        }
        session.is_some()
    }

    /// Acknowledges a listen stream and enters it in one step, so that no change is lost in between.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        subscription: &Value,
        filter: Filter,
        pipe: &mpsc::Sender<Value>,
    ) -> Result<Listening, Fault> {
        let full = || Fault::new(INTERNAL_ERROR, "no room for another listen stream");
        let room = pipe.reserve().await.map_err(|_| full())?;
        let ended = CancellationToken::new();
        let number = self.next_listen.fetch_add(1, Ordering::Relaxed);
        let mut listens = lock(&self.listens);
        if listens.len() >= MAX_LISTENS {
            return Err(full());
        }
        let params =
            json!({ "_meta": { SUBSCRIPTION_ID: subscription }, "notifications": filter.describe() });
        room.send(wire::notification("notifications/subscriptions/acknowledged", params));
        let listen =
            Listen { subscription: subscription.clone(), filter, pipe: pipe.clone(), ended: ended.clone() };
        listens.insert(number, listen);
        Ok(Listening { hub: Arc::clone(self), number, ended })
    }

    /// Tells everyone concerned.
    pub(crate) fn announce(&self, change: &Change) {
        let (method, params) = match change {
            Change::Tools => ("notifications/tools/list_changed", json!({})),
            Change::Prompts => ("notifications/prompts/list_changed", json!({})),
            Change::Resource(uri) => ("notifications/resources/updated", json!({ "uri": uri })),
        };
        for session in lock(&self.sessions).values() {
            let concerned = match change {
                Change::Resource(uri) => session.is_subscribed(uri),
                _ => session.takes_notices(),
            };
            if concerned {
                session.standing.offer(wire::notification(method, params.clone()));
            }
        }
        for listen in lock(&self.listens).values().filter(|listen| listen.filter.covers(change)) {
            listen.tell(method, &params);
        }
    }

    /// Tells the listeners of a task how it is now.
    pub(crate) fn announce_task(&self, id: &str, described: &Value) {
        for listen in lock(&self.listens).values().filter(|listen| listen.filter.tasks.contains(id)) {
            listen.tell("notifications/tasks", described);
        }
    }

    /// Ends listen streams with their response.
    pub(crate) fn end_listens(&self) {
        lock(&self.listens).values().for_each(|listen| listen.ended.cancel());
    }

    /// The server stops: ends listen streams and sessions.
    pub(crate) fn close(&self) {
        self.end_listens();
        lock(&self.sessions).drain().for_each(|(_, session)| session.close());
    }
}

/// A listen stream that is open; leaves the hub when dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    hub: Arc<Hub>,
    number: u64,
    /// The server ends the stream.
    pub(crate) ended: CancellationToken,
}

impl Drop for Listening {
    fn drop(&mut self) {
        lock(&self.hub.listens).remove(&self.number);
    }
}
