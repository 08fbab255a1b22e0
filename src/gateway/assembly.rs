//! What every running gateway consists of, whoever brings it requests.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::announcer::{self, Announcer};
use super::tasks;
use crate::catalog::fetch::FetchLimits;
use crate::catalog::handle::{CatalogueHandle, KEEP_LOST};
use crate::catalog::refresher::{self, Refresher};
use crate::config::Settings;
use crate::dispatch::request_state::RequestStates;
use crate::dispatch::session_tools::SessionTools;
use crate::dispatch::{RoundRules, Switchboard, TaskRules};
use crate::downstream::Edge;
use crate::listening::Hub;
use crate::policy::Policy;
use crate::session::SessionTable;
use crate::session::kept::Keeper;
use crate::store::clock::Clock;
use crate::store::records::Records;
use crate::store::seal::Sealer;
use crate::store::{self, IfLocked, Stores};
use crate::tasks::TaskRegistry;
use crate::upstream::fleet::Fleet;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::kept_reads::KeptReads;
use crate::upstream::messages::UpstreamNews;

/// The parts between clients and servers, started; whoever has them brings the requests.
pub(super) struct Assembly {
    pub(super) settings: Arc<Settings>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) catalogue: CatalogueHandle,
    pub(super) sessions: Arc<SessionTable>,
    pub(super) tasks: Arc<TaskRegistry>,
    pub(super) edge: Arc<Edge>,
    pub(super) stores: Stores,
    /// The thread of upstream actors, of the catalogue's writer and of child processes.
    engine: Arbiter,
}

impl Assembly {
    /// Puts them together and starts the servers.
    pub(super) fn start(settings: Settings, if_locked: IfLocked) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let bounds = &settings.bounds;
        let stores = store::open(&settings.state, if_locked, Clock::system())?;
        let sealer = Arc::clone(&stores.sealer);
        let engine = Arbiter::new();
        engine.spawn(purge(Arc::clone(&stores.records)));
        let keeper = settings.sessions.are_durable().then(|| {
            let keeper = Keeper::new(Arc::clone(&stores.records), stores.clock, bounds.session_idle);
            engine.spawn(Arc::clone(&keeper).run());
            keeper
        });
        let sessions = SessionTable::new(bounds.clone(), Arc::clone(&sealer), keeper);
        let hub = Hub::new(bounds);
        let fleet = Arc::new(fleet(&settings)?);
        let told = (&sessions, &hub);
        let (catalogue, news) = start_catalogue(&engine, &settings, Arc::clone(&sealer), told, &fleet)?;
        let switchboard = Arc::new(Switchboard {
            catalogue: catalogue.clone(),
            policy: Policy::default(),
            upstreams: Arc::clone(&fleet),
            news,
            session_tools: SessionTools::new(
                settings.names.clone(),
                FetchLimits { pages: bounds.list_pages, items: bounds.list_items, terms: None },
            ),
            rounds: RoundRules::of(bounds),
            tasks: TaskRules {
                ttl: settings.tasks.ttl,
                hosts: settings.tasks.hosts_any(),
                drive: settings.tasks.drive,
            },
            request_states: RequestStates::new(Arc::clone(&sealer), bounds),
            first_lists_until: Instant::now() + bounds.list_budget,
            list_budget: bounds.list_budget,
            unsaid_ttl: bounds.list_ttl,
            longest_kept: bounds.cache_age,
        });
        let tasks = tasks::start(&engine, &settings, &stores, &switchboard)?;
        let parts = (switchboard, Arc::clone(&sessions), hub, Arc::clone(&tasks));
        let edge = Arc::new(Edge::new(Arc::clone(&settings), parts));
        Ok(Assembly { settings, fleet, catalogue, sessions, tasks, edge, stores, engine })
    }

    /// Stops the thread that works behind all, and closes the stores; the servers were retired before.
    pub(super) async fn stop(self) {
        self.engine.stop();
        if tokio::time::timeout(LAST_WRITES, self.stores.records.close()).await.is_err() {
            tracing::warn!("the state was not closed in time; it is checked at the next start");
        }
    }
}

/// For how long the end waits for what is being written.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// How often records that have expired are removed, and how many at a time.
const PURGING: Duration = Duration::from_secs(60);
const PURGED: usize = 500;

/// Removes what has expired, as long as its thread runs.
async fn purge(records: Arc<dyn Records>) {
    loop {
        match records.purge(PURGED).await {
            // There may be more.
            Ok(PURGED) => {}
            Ok(_) => tokio::time::sleep(PURGING).await,
            Err(why) => {
                tracing::debug!(%why, "expired records stay for now");
                tokio::time::sleep(PURGING).await;
            }
        }
    }
}

/// Prepares every enabled upstream; an address that cannot be one is an error of the configuration.
pub fn fleet(settings: &Settings) -> anyhow::Result<Fleet> {
    let reads = Arc::new(KeptReads::new(&settings.bounds));
    let handles = settings.servers.iter().filter(|server| server.enabled).map(|server| {
        UpstreamHandle::new(server.clone(), settings.bounds.clone(), Arc::clone(&reads))
            .map_err(|why| anyhow::anyhow!("server {}: {why}", server.name))
    });
    Ok(Fleet::new(handles.collect::<anyhow::Result<_>>()?, Arc::clone(&reads)))
}

fn start_catalogue(
    engine: &Arbiter,
    settings: &Arc<Settings>,
    sealer: Arc<Sealer>,
    (sessions, listeners): (&Arc<SessionTable>, &Arc<Hub>),
    fleet: &Arc<Fleet>,
) -> anyhow::Result<(CatalogueHandle, Recipient<UpstreamNews>)> {
    let (table, hub) = (Arc::clone(sessions), Arc::clone(listeners));
    let announcer = Announcer::start_in_arbiter(&engine.handle(), move |ctx| {
        ctx.set_mailbox_capacity(announcer::MAILBOX);
        Announcer { sessions: table, hub }
    });
    let (table, listening) = (Arc::clone(sessions), Arc::clone(listeners));
    let catalogue =
        CatalogueHandle::start_on(&engine.handle(), settings, sealer, announcer.recipient(), KEEP_LOST);
    let bounds = settings.bounds.clone();
    let is_awaited = move || !table.is_empty() || !listening.is_empty();
    let refresher = Refresher::new(Arc::clone(fleet), catalogue.clone(), bounds, is_awaited);
    let fleet = Arc::clone(fleet);
    let news = Refresher::start_in_arbiter(&engine.handle(), move |ctx| {
        ctx.set_mailbox_capacity(refresher::MAILBOX);
        refresher
    });
    let news = news.recipient();
    let told = news.clone();
    let started = engine.spawn_fn(move || fleet.iter().for_each(|upstream| upstream.start(told.clone())));
    anyhow::ensure!(started, "the upstream thread did not start");
    Ok((catalogue, news))
}
