//! What every running gateway consists of, whoever brings it requests.

use std::sync::Arc;

use actix::prelude::*;
use anyhow::Context as _;
use tokio::time::Instant;

use super::announcer::{self, Announcer};
use crate::catalog::fetch::FetchLimits;
use crate::catalog::handle::{CatalogueHandle, KEEP_LOST};
use crate::catalog::refresher::{self, Refresher};
use crate::config::Settings;
use crate::dispatch::request_state::RequestStates;
use crate::dispatch::session_tools::SessionTools;
use crate::dispatch::{RoundRules, Switchboard};
use crate::downstream::Edge;
use crate::listening::Hub;
use crate::policy::Policy;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::session::SessionTable;
use crate::store::clock::Clock;
use crate::store::memory::Memory;
use crate::store::seal::Sealer;
use crate::tasks::{Ending, TaskRegistry, TellFailure};
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
    /// The thread of upstream actors, of the catalogue's writer and of child processes.
    engine: Arbiter,
}

impl Assembly {
    /// Puts them together and starts the servers.
    pub(super) fn start(settings: Settings) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let bounds = &settings.bounds;
        let engine = Arbiter::new();
        // Cursors and event ids live as long as the process until keys can be configured.
        let sealer = Arc::new(Sealer::ephemeral().context("no randomness for keys")?);
        let sessions = SessionTable::new(bounds.clone(), Arc::clone(&sealer));
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
            request_states: RequestStates::new(Arc::clone(&sealer), bounds),
            first_lists_until: Instant::now() + bounds.list_budget,
            list_budget: bounds.list_budget,
            unsaid_ttl: bounds.list_ttl,
            longest_kept: bounds.cache_age,
        });
        let tasks = tasks(&settings, &sealer);
        let edge =
            Edge::new(Arc::clone(&settings), switchboard, Arc::clone(&sessions), hub, Arc::clone(&tasks));
        let edge = Arc::new(edge);
        Ok(Assembly { settings, fleet, catalogue, sessions, tasks, edge, engine })
    }

    /// Stops the thread that works behind all; the servers were retired before.
    pub(super) fn stop(self) {
        self.engine.stop();
    }
}

/// The registry of tasks.
fn tasks(settings: &Settings, sealer: &Arc<Sealer>) -> Arc<TaskRegistry> {
    let clock = Clock::system();
    let records = Arc::new(Memory::new(clock));
    let tell_failure: TellFailure = Arc::new(|failure| {
        let record = FailureRecord::of_gateway(Reason::UpstreamLost, false, None, Ran::Unknown);
        Ending::failure(&failure.to_string(), &record)
    });
    TaskRegistry::new(records, Arc::clone(sealer), clock, settings.tasks.clone(), tell_failure)
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
