//! What every request at the data listener works with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::web::Data;
use tokio_util::sync::CancellationToken;

use super::guard::Guard;
use super::sse_transport::Pipes;
use crate::auth::principal::Principal;
use crate::config::Settings;
use crate::dispatch::Switchboard;
use crate::listening::Hub;
use crate::names::ProfileName;
use crate::parked::{PagesToVisit, ParkedCalls};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::json::Limits;
use crate::session::SessionTable;
use crate::tasks::TaskRegistry;
use crate::upstream::call::{Affinity, Client};

/// Shared by all worker threads.
#[derive(Debug)]
pub struct Edge {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) sessions: Arc<SessionTable>,
    /// Stateless clients that listen.
    pub(super) hub: Arc<Hub>,
    pub(super) guard: Guard,
    pub(super) settings: Arc<Settings>,
    /// Callers without a session, by endpoint: nothing of one request is remembered for the next (S-SESS-07).
    stateless_clients: HashMap<Option<ProfileName>, Arc<Client>>,
    /// Calls that wait for answers of clients without a session.
    pub(super) parked: Arc<ParkedCalls>,
    /// Calls to be made again once pages were visited.
    pub(super) pages: PagesToVisit,
    /// Tasks of all clients.
    pub(super) tasks: Arc<TaskRegistry>,
    /// Clients of HTTP+SSE.
    pub(super) pipes: Pipes,
    draining: CancellationToken,
    stopping: CancellationToken,
    in_flight: AtomicUsize,
    #[cfg(debug_assertions)]
    pub(super) panic_session_at: Option<String>,
}

impl Edge {
    /// For these settings.
    pub fn new(
        settings: Arc<Settings>,
        (switchboard, sessions, hub, tasks): (
            Arc<Switchboard>,
            Arc<SessionTable>,
            Arc<Hub>,
            Arc<TaskRegistry>,
        ),
    ) -> Self {
        let endpoints =
            std::iter::once(None).chain(settings.profiles.iter().map(|profile| Some(profile.name.clone())));
        let stateless_clients =
            endpoints.map(|profile| (profile.clone(), stateless_client(profile))).collect();
        Edge {
            switchboard,
            sessions,
            hub,
            guard: Guard::new(&settings.listen),
            stateless_clients,
            parked: ParkedCalls::new(&settings.bounds),
            pages: PagesToVisit::new(&settings.bounds),
            tasks,
            pipes: Pipes::default(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            in_flight: AtomicUsize::new(0),
            #[cfg(debug_assertions)]
            panic_session_at: crate::upstream::failpoint("panic_session"),
            settings,
        }
    }

    pub(super) fn json_limits(&self) -> Limits {
        Limits {
            depth: self.settings.bounds.json_depth,
            keys: self.settings.bounds.json_keys,
            short_ids: true,
        }
    }

    /// The caller of a stateless request; `None` for an unknown endpoint.
    pub(super) fn stateless_client(&self, profile: Option<&ProfileName>) -> Option<&Arc<Client>> {
        self.stateless_clients.get(&profile.cloned())
    }

    /// Whether that endpoint exists.
    pub(super) fn has_endpoint(&self, profile: Option<&ProfileName>) -> bool {
        self.stateless_client(profile).is_some()
    }

    /// Streams end and no new sessions are opened from now on.
    pub fn begin_drain(&self) {
        self.draining.cancel();
        self.hub.end_all();
    }

    /// Streams of changes whose end was not said yet.
    pub fn listens_open(&self) -> usize {
        self.hub.len()
    }

    /// Resolves when no new sessions are opened any more.
    pub(super) async fn until_draining(&self) {
        self.draining.cancelled().await;
    }

    /// Running calls end with an answer that says so.
    pub fn stop_calls(&self) {
        self.stopping.cancel();
    }

    /// Tasks go on without this process, as far as they can.
    pub async fn suspend_tasks(&self) {
        self.tasks.suspend().await;
    }

    /// Resolves when running calls must end.
    pub(super) async fn until_stopped(&self) {
        self.stopping.cancelled().await;
    }

    /// Requests whose work has not ended, streams of calls included.
    pub fn requests_in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request for as long as the guard lives.
    pub(super) fn count_request(edge: &Data<Self>) -> RequestGuard {
        edge.in_flight.fetch_add(1, Ordering::Relaxed);
        RequestGuard(edge.clone())
    }

    /// Whether the gateway is about to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

/// One request in flight.
pub(super) struct RequestGuard(Data<Edge>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn stateless_client(profile: Option<ProfileName>) -> Arc<Client> {
    Arc::new(Client {
        principal: Principal::Local,
        affinity: Affinity::Shared,
        task_of: None,
        profile,
        // Questions cannot be carried back to stateless clients in this release, so nothing is offered upstream.
        capabilities: ClientCapabilities::none(),
        port: None,
        // It is as old as the gateway.
        closed: CancellationToken::new(),
    })
}
