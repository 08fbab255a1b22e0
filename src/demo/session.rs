//! A connection or session of the handshake era: what was negotiated, what runs, what was asked.
//!
//! Always: an id is in flight at most once; every question leaves the table when it is answered, given up or cancelled; all tables
//! are bounded. Not here: which sessions exist (`hub`).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::caller::{Caller, log_rank};
use super::event_log::EventLog;
use super::outlet::Outlet;
use super::wire::{self, Fault, INVALID_PARAMS, INVALID_REQUEST};
use crate::protocol::era::Revision;

const MAX_IN_FLIGHT: usize = 512;
const MAX_SUBSCRIPTIONS: usize = 256;
const MAX_FINISHED_STREAMS: usize = 16;
const MAX_FINISHED_BYTES: usize = 1 << 20;

type Answer = Result<Value, Fault>;

/// What `initialize` settled.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) revision: Revision,
    pub(crate) client: Option<Value>,
    pub(crate) capabilities: Value,
}

/// One client's connection or session.
#[derive(Debug)]
pub(crate) struct Session {
    /// The session is over.
    pub(crate) ended: CancellationToken,
    /// Unsolicited messages go here.
    pub(crate) standing: Outlet,
    /// Whether one reader has the standing stream (HTTP).
    pub(crate) standing_taken: AtomicBool,
    state: Mutex<State>,
    next_number: AtomicU64,
    /// The client said that it is ready; before, it is told of no changes.
    ready: AtomicBool,
    /// The page that the tool `visit_first` names was visited.
    page_visited: AtomicBool,
}

#[derive(Debug)]
struct State {
    handshake: Option<Handshake>,
    log_threshold: usize,
    subscriptions: HashSet<String>,
    in_flight: HashMap<String, CancellationToken>,
    questions: HashMap<u64, oneshot::Sender<Answer>>,
    streams: VecDeque<Arc<EventLog>>,
    last_used: Instant,
}

impl Session {
    pub(crate) fn new(standing: Outlet) -> Arc<Self> {
        let state = State {
            handshake: None,
            log_threshold: log_rank("info").unwrap_or_default(),
            subscriptions: HashSet::new(),
            in_flight: HashMap::new(),
            questions: HashMap::new(),
            streams: VecDeque::new(),
            last_used: Instant::now(),
        };
        Arc::new(Session {
            ended: CancellationToken::new(),
            standing,
            standing_taken: AtomicBool::new(false),
            state: Mutex::new(state),
            next_number: AtomicU64::new(1),
            ready: AtomicBool::new(false),
            page_visited: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settle_handshake(&self, handshake: Handshake) {
        self.state().handshake = Some(handshake);
    }

    pub(crate) fn handshake(&self) -> Option<Handshake> {
        self.state().handshake.clone()
    }

    /// From now on the client may be told of changes.
    pub(crate) fn begin_notices(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn takes_notices(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// The sender of a request in this session, once there was a handshake.
    pub(crate) fn caller(self: &Arc<Self>, headers: Arc<[(String, String)]>) -> Option<Caller> {
        let mut state = self.state();
        state.last_used = Instant::now();
        let handshake = state.handshake.clone()?;
        Some(Caller {
            revision: handshake.revision,
            client: handshake.client,
            capabilities: handshake.capabilities,
            log_threshold: Some(state.log_threshold),
            session: Some(Arc::clone(self)),
            headers,
        })
    }

    pub(crate) fn last_used(&self) -> Instant {
        self.state().last_used
    }

    pub(crate) fn log_threshold(&self) -> Option<usize> {
        Some(self.state().log_threshold)
    }

    pub(crate) fn set_log_threshold(&self, rank: usize) {
        self.state().log_threshold = rank;
    }

    pub(crate) fn subscribe(&self, uri: &str) -> Result<(), Fault> {
        let mut state = self.state();
        if state.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(Fault::new(INVALID_PARAMS, "this session subscribes to too many resources"));
        }
        state.subscriptions.insert(uri.to_owned());
        Ok(())
    }

    pub(crate) fn unsubscribe(&self, uri: &str) {
        self.state().subscriptions.remove(uri);
    }

    pub(crate) fn is_subscribed(&self, uri: &str) -> bool {
        covers(&self.state().subscriptions, uri)
    }

    /// The page was visited; good for one call.
    pub(crate) fn visited(&self) {
        self.page_visited.store(true, Ordering::Release);
    }

    pub(crate) fn take_visit(&self) -> bool {
        self.page_visited.swap(false, Ordering::AcqRel)
    }

    /// Enters a request; fails if its id is in use or too much runs already.
    pub(crate) fn begin(self: &Arc<Self>, id: &Value) -> Result<InFlight, Fault> {
        let key = id.to_string();
        let mut state = self.state();
        if state.in_flight.contains_key(&key) {
            return Err(Fault::new(INVALID_REQUEST, format!("a request with id {key} is still running")));
        }
        if state.in_flight.len() >= MAX_IN_FLIGHT {
            return Err(Fault::new(INVALID_REQUEST, "too many requests are running"));
        }
        let cancelled = CancellationToken::new();
        state.in_flight.insert(key.clone(), cancelled.clone());
        drop(state);
        Ok(InFlight { session: Arc::clone(self), key, cancelled })
    }

    /// How many requests run.
    pub(crate) fn running(&self) -> usize {
        self.state().in_flight.len()
    }

    pub(crate) fn cancel(&self, id: &Value) {
        if let Some(cancelled) = self.state().in_flight.get(&id.to_string()) {
            cancelled.cancel();
        }
    }

    /// A new question to the client, and where its answer will arrive.
    pub(crate) fn ask(self: &Arc<Self>, outlet: &Outlet) -> (Question, oneshot::Receiver<Answer>) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.state().questions.insert(number, sender);
        let question = Question { number, session: Arc::clone(self), outlet: outlet.clone(), settled: false };
        (question, receiver)
    }

    /// Gives an answer to whoever asked; unknown ones are ignored.
    pub(crate) fn answer(&self, id: &Value, answer: Answer) {
        let question = id.as_u64().and_then(|number| self.state().questions.remove(&number));
        if let Some(question) = question {
            // The asker may have given up meanwhile.
            let _ = question.send(answer);
        }
    }

    /// A new stream for the answer to one POST.
    pub(crate) fn open_stream(&self) -> Arc<EventLog> {
        let log = EventLog::new(self.next_number.fetch_add(1, Ordering::Relaxed));
        let mut state = self.state();
        state.streams.push_back(Arc::clone(&log));
        forget_old_streams(&mut state.streams);
        log
    }

    pub(crate) fn forget_stream(&self, number: u64) {
        self.state().streams.retain(|log| log.number != number);
    }

    /// The stream of that number, if it is still kept.
    pub(crate) fn stream(&self, number: u64) -> Option<Arc<EventLog>> {
        match &self.standing {
            Outlet::Log(log) if log.number == number => Some(Arc::clone(log)),
            _ => self.state().streams.iter().find(|log| log.number == number).cloned(),
        }
    }

    /// Ends everything that runs or waits.
    pub(crate) fn close(&self) {
        self.ended.cancel();
        let mut state = self.state();
        state.in_flight.values().for_each(CancellationToken::cancel);
        state.questions.clear();
        let streams = std::mem::take(&mut state.streams);
        drop(state);
        streams.iter().for_each(|log| log.finish());
        if let Outlet::Log(log) = &self.standing {
            log.finish();
        }
    }
}

/// Whether one of the resources subscribed to is this one, or one that it is a part of.
pub(crate) fn covers(subscribed: &HashSet<String>, uri: &str) -> bool {
    subscribed.contains(uri) || uri.rmatch_indices('/').any(|(end, _)| subscribed.contains(&uri[..end]))
}

fn forget_old_streams(streams: &mut VecDeque<Arc<EventLog>>) {
    let over = |streams: &VecDeque<Arc<EventLog>>| {
        let finished = streams.iter().filter(|log| log.is_finished());
        let (count, bytes) = finished.fold((0, 0), |(count, bytes), log| (count + 1, bytes + log.bytes()));
        count > MAX_FINISHED_STREAMS || bytes > MAX_FINISHED_BYTES
    };
    while over(streams) {
        let Some(oldest) = streams.iter().position(|log| log.is_finished()) else { return };
        streams.remove(oldest);
    }
}

/// A request that runs; leaves the table when dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    session: Arc<Session>,
    key: String,
    pub(crate) cancelled: CancellationToken,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.session.state().in_flight.remove(&self.key);
    }
}

/// A question that waits; withdrawn towards the client when dropped unanswered.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) number: u64,
    session: Arc<Session>,
    outlet: Outlet,
    settled: bool,
}

impl Question {
    /// The wait is over, with an answer or without.
    pub(crate) fn settle(mut self, answered: bool) {
        self.settled = answered;
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.session.state().questions.remove(&self.number);
        let params = json!({ "requestId": self.number, "reason": "the call that asked has ended" });
        self.outlet.offer(wire::notification("notifications/cancelled", params));
    }
}
