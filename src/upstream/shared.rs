//! What everybody may know of one upstream, and what outlives its actor: settings, facts, open links, state.
//!
//! Always: reads take no lock that is held across an await. Only the upstream's actor writes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::{Affinity, Client};
use super::changes::Changes;
use super::connect::{Address, Attempt, Expected};
use super::era_check::EraCheck;
use super::http::{HttpLimits, HttpTarget};
use super::http_wire::Endpoint;
use super::kept_reads::KeptReads;
use super::link::{Link, Reports};
use super::listens::{StandingListen, Way};
use super::pool::Pool;
use super::probe::Facts;
use super::questions::QuestionRules;
use super::stateless::StatelessHttp;
use super::stdio::{ProcessControl, ProcessSettings};
use super::subscriptions::Subscriptions;
use super::users::Users;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::config::servers::{HttpSettings, ProtocolChoice, ServerSettings, TransportSettings};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::{Era, Revision};
use crate::protocol::json::Limits;

/// How an upstream is, for people and for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Being connected.
    Starting,
    /// Open for calls.
    Ready,
    /// Its shared process was stopped because nobody used it; the next call starts it again.
    Idle,
    /// Not reachable; tried again after a while.
    Down {
        /// Why.
        why: String,
        /// Wait between the failure and the next attempt.
        retry_after: Duration,
    },
    /// Stopped for good.
    Retired,
}

/// State of one upstream as `/api/v1/servers` and `switchyard servers` show it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Key in the configuration.
    pub name: String,
    /// `stdio`, `http` or `sse`.
    pub transport: &'static str,
    /// `starting`, `ready`, `idle`, `down` or `stopped`.
    pub state: &'static str,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Revision in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<&'static str>,
    /// `handshake` or `stateless`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub era: Option<&'static str>,
    /// What the server calls itself, as it wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<serde_json::Value>,
    /// Open connections.
    pub links: usize,
    /// Process id of the shared child process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What the shared child process last wrote on stderr.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: ServerSettings,
    pub(super) bounds: Bounds,
    pub(super) own_client: Arc<Client>,
    /// Open links, by their own affinity and by that of each session that uses them.
    pub(super) links: DashMap<Affinity, Arc<Link>>,
    pub(super) users: Users,
    pub(super) pool: Pool,
    pub(super) address: Address,
    /// Method at which the actor panics; debug builds only (F56).
    #[cfg(debug_assertions)]
    pub(super) panic_at: Option<String>,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) changes: Arc<Changes>,
    /// Of all upstreams.
    pub(super) reads: Arc<KeptReads>,
    /// What is listened to, where the upstream is stateless.
    pub(super) listen: Arc<StandingListen>,
    /// Whatever must be over before the upstream may be called stopped: attempts, farewells, ends of processes.
    pub(super) errands: TaskTracker,
    pub(super) era_check: EraCheck,
    /// What its questions have to keep to.
    pub(super) questions: Arc<QuestionRules>,
    facts: ArcSwapOption<Facts>,
    /// What it said last, whether or not it is there.
    known: ArcSwapOption<Facts>,
    state: Mutex<State>,
    process: Mutex<Option<ProcessControl>>,
    /// The shared connection is over HTTP+SSE.
    found_sse: AtomicBool,
}

impl Shared {
    /// Prepares what every connection needs; fails on an address that cannot be one.
    pub(super) fn new(
        settings: ServerSettings,
        bounds: Bounds,
        reads: Arc<KeptReads>,
    ) -> Result<Arc<Shared>, String> {
        let address = match &settings.transport {
            TransportSettings::Stdio(stdio) => {
                Address::Stdio(ProcessSettings::new(settings.name.clone(), stdio, &bounds))
            }
            TransportSettings::Http(http) => {
                let endpoint = endpoint(http, &bounds)?;
                let logger_name = (!settings.prefix.is_empty()).then(|| settings.name.clone());
                Address::Http {
                    stateless: Arc::new(StatelessHttp::new(logger_name, settings.ask, endpoint.clone())),
                    endpoint,
                }
            }
        };
        let own_client = Arc::new(Client {
            principal: Principal::Local,
            affinity: Affinity::Shared,
            task_of: None,
            profile: None,
            capabilities: ClientCapabilities::none(),
            port: None,
            closed: CancellationToken::new(),
        });
        let questions = QuestionRules::of(&settings, &bounds);
        let subscriptions = Arc::new(Subscriptions::of_upstream(settings.name.clone(), Arc::clone(&reads)));
        let waits = (bounds.backoff_first, bounds.backoff_longest);
        Ok(Arc::new(Shared {
            users: Users::new(settings.share, settings.ask, Arc::clone(&own_client)),
            pool: Pool::new(settings.share, settings.ask, bounds.interactive_connections),
            settings,
            bounds,
            own_client,
            links: DashMap::new(),
            #[cfg(debug_assertions)]
            panic_at: super::failpoint("panic_upstream"),
            subscriptions,
            changes: Arc::default(),
            reads,
            listen: Arc::new(StandingListen::new(waits)),
            errands: TaskTracker::new(),
            era_check: EraCheck::default(),
            questions: Arc::new(questions),
            address,
            facts: ArcSwapOption::empty(),
            known: ArcSwapOption::empty(),
            state: Mutex::new(State::Starting),
            process: Mutex::new(None),
            found_sse: AtomicBool::new(false),
        }))
    }

    pub(super) fn attempt(&self, number: u64, client: Arc<Client>, reports: Reports) -> Attempt {
        // A session's connection goes the way the shared one found, without probing again.
        let found = match client.affinity {
            Affinity::Shared => None,
            _ => self.facts().map(|facts| facts.revision),
        };
        Attempt {
            upstream: self.settings.name.clone(),
            number,
            expected: self.pinned().map(Expected::Pinned).or(found.map(Expected::Found)),
            over_sse: self.sse_is_pinned() || (client.affinity != Affinity::Shared && self.is_over_sse()),
            client,
            address: self.address.clone(),
            reports,
            ask: self.settings.ask,
            start_deadline: self.bounds.start_deadline,
            probe_deadline: self.bounds.probe_deadline,
            questions: Arc::clone(&self.questions),
            json: json_limits(&self.bounds),
            errands: self.errands.clone(),
        }
    }

    /// The revision that the configuration demands.
    pub(super) fn pinned(&self) -> Option<Revision> {
        match self.settings.protocol {
            ProtocolChoice::Pinned(revision) => Some(revision),
            ProtocolChoice::Auto => None,
        }
    }

    fn sse_is_pinned(&self) -> bool {
        matches!(&self.settings.transport, TransportSettings::Http(http) if http.sse)
    }

    /// Whether it is reached over HTTP+SSE, by configuration or because nothing else was found.
    pub(super) fn is_over_sse(&self) -> bool {
        self.sse_is_pinned() || self.found_sse.load(Ordering::Relaxed)
    }

    /// Notes over what the shared connection is.
    pub(super) fn set_over_sse(&self, found: bool) {
        self.found_sse.store(found, Ordering::Relaxed);
    }

    /// Under which affinity the link that serves this client is found; its session may share that link.
    pub(super) fn affinity_for(&self, client: &Client, revision: Revision) -> Affinity {
        match (revision.era(), client.affinity) {
            (Era::Stateless, _) | (_, Affinity::Listen(_)) => Affinity::Shared,
            // Whether it is given one of the pool is decided where its call goes (`route`).
            (Era::Handshake, Affinity::Caller(_)) => Affinity::Shared,
            (Era::Handshake, _) if client.has_lost_its_session() => Affinity::Shared,
            (Era::Handshake, affinity) => affinity,
        }
    }

    /// The open link of that affinity.
    pub(super) fn open_link(&self, affinity: Affinity) -> Option<Arc<Link>> {
        let link = Arc::clone(self.links.get(&affinity)?.value());
        (!link.has_ended()).then_some(link)
    }

    /// Every open link once.
    pub(super) fn open_links(&self) -> Vec<Arc<Link>> {
        let own = self.links.iter().filter(|entry| *entry.key() == entry.value().affinity());
        own.map(|entry| Arc::clone(entry.value())).collect()
    }

    /// From now on calls of this session find the link that it shares.
    pub(super) fn lead_to(&self, session: &Client, link: &Arc<Link>) {
        if session.affinity != Affinity::Shared && link.affinity() != session.affinity {
            self.links.insert(session.affinity, Arc::clone(link));
            if session.closed.is_cancelled() {
                self.links.remove(&session.affinity);
            }
        }
    }

    /// Calls no longer find the link of this affinity.
    pub(super) fn forget_link(&self, connection: Affinity) {
        self.links.remove(&connection);
        for session in self.users.sessions(connection) {
            self.links.remove(&session);
        }
    }

    /// How the upstream is listened to, where that is possible now.
    pub(super) fn way_to_listen(&self) -> Option<(Way, Arc<Facts>)> {
        let facts = self.facts().filter(|facts| facts.revision.era() == Era::Stateless)?;
        let way = match &self.address {
            Address::Http { stateless, .. } => Way::Http(Arc::clone(stateless), facts.revision),
            Address::Stdio(_) => Way::Pipe(self.open_link(Affinity::Shared)?),
        };
        Some((way, facts))
    }

    /// A resource was followed over a connection that is not there, or over a listening, and may be so no longer.
    pub(super) fn stop_listening_to(&self, connection: Affinity, uri: &str) {
        if connection == Affinity::Shared {
            self.listen.unwant_unless(uri, || self.subscriptions.has_followers(connection, uri));
        }
        self.subscriptions.tidy(connection, uri);
    }

    pub(super) fn idle_stop(&self) -> Option<Duration> {
        match &self.settings.transport {
            TransportSettings::Stdio(stdio) => Some(stdio.idle_stop),
            TransportSettings::Http(_) => None,
        }
    }

    /// For how long a connection of that affinity may be left unused.
    pub(super) fn idle_stop_of(&self, affinity: Affinity) -> Option<Duration> {
        let pooled = matches!(affinity, Affinity::Pooled(_)).then_some(self.bounds.interactive_idle);
        self.idle_stop().or(pooled)
    }

    /// Whether a question of the upstream says by the way it comes which call caused it.
    pub(super) fn questions_name_their_call(&self) -> bool {
        matches!(self.address, Address::Http { .. }) && !self.is_over_sse()
    }

    pub(super) fn facts(&self) -> Option<Arc<Facts>> {
        self.facts.load_full()
    }

    /// What it said of itself when it was last heard of.
    pub(super) fn known_facts(&self) -> Option<Arc<Facts>> {
        self.known.load_full()
    }

    pub(super) fn set_facts(&self, facts: Facts) {
        let facts = Arc::new(facts);
        self.known.store(Some(Arc::clone(&facts)));
        self.facts.store(Some(facts));
    }

    /// Puts `news` in the place of `before`, unless it is gone by now; gives what stands there.
    pub(super) fn renew_facts(&self, before: &Arc<Facts>, news: Facts) -> Arc<Facts> {
        match self.facts() {
            Some(current) if Arc::ptr_eq(&current, before) => {
                self.listen.says(&news);
                self.set_facts(news);
                self.facts().unwrap_or(current)
            }
            current => current.unwrap_or_else(|| Arc::clone(before)),
        }
    }

    pub(super) fn forget_facts(&self) {
        self.facts.store(None);
    }

    pub(super) fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Nothing follows [`State::Retired`].
    pub(super) fn set_state(&self, state: State) {
        let mut current = lock(&self.state);
        if *current != State::Retired {
            *current = state;
        }
    }

    pub(super) fn set_process(&self, process: Option<ProcessControl>) {
        *lock(&self.process) = process;
    }

    pub(super) fn status(&self) -> Status {
        let facts = self.facts();
        let (state, why) = match self.state() {
            State::Starting => ("starting", None),
            State::Ready => ("ready", None),
            State::Idle => ("idle", None),
            State::Down { why, .. } => ("down", Some(why)),
            State::Retired => ("stopped", None),
        };
        let process = lock(&self.process).clone();
        Status {
            name: self.settings.name.to_string(),
            transport: match self.address {
                Address::Stdio(_) => "stdio",
                Address::Http { .. } if self.is_over_sse() => "sse",
                Address::Http { .. } => "http",
            },
            state,
            why,
            revision: facts.as_ref().map(|facts| facts.revision.text()),
            era: facts.as_ref().map(|facts| match facts.revision.era() {
                Era::Handshake => "handshake",
                Era::Stateless => "stateless",
            }),
            server: facts.as_ref().and_then(|facts| serde_json::from_str(facts.server.as_deref()?).ok()),
            links: self.open_links().len(),
            pid: process.as_ref().map(ProcessControl::pid),
            stderr: process.as_ref().map(ProcessControl::stderr_tail).unwrap_or_default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits on the structure of what upstreams send.
pub(super) fn json_limits(bounds: &Bounds) -> Limits {
    Limits { depth: bounds.json_depth, keys: bounds.json_keys, short_ids: false }
}

fn endpoint(http: &HttpSettings, bounds: &Bounds) -> Result<Endpoint, String> {
    let uri = http.url.parse().map_err(|_| format!("{:?} is not a URL", http.url))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &http.headers {
        let name =
            HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is not a header name"))?;
        let mut value =
            HeaderValue::try_from(value.expose()).map_err(|_| format!("the value of {name} is not valid"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(Endpoint {
        target: HttpTarget::new(&uri, headers).map_err(|fault| fault.to_string())?,
        limits: HttpLimits { result: bounds.upstream_result, connect: bounds.start_deadline },
        json: json_limits(bounds),
        retry: bounds.retry,
    })
}
