//! Assembly: checked settings in, running gateway out, and its orderly end.
//!
//! Threads: one worker per core for clients, each with its own connections to upstreams; one for upstream actors, the
//! catalogue's writer and child processes, which must outlive everything it starts; one for the admin listener.

mod announcer;
mod drain;

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use anyhow::Context as _;
use tokio::time::Instant;

use crate::admin::{self, Inspection};
use crate::catalog::fetch::FetchLimits;
use crate::catalog::handle::{CatalogueHandle, KEEP_LOST};
use crate::catalog::refresher::{self, Refresher};
use crate::config::Settings;
use crate::config::bounds::Bounds;
use crate::dispatch::Switchboard;
use crate::dispatch::session_tools::SessionTools;
use crate::downstream::guard::Guard;
use crate::downstream::{self, Edge};
use crate::policy::Policy;
use crate::session::SessionTable;
use crate::store::seal::Sealer;
use crate::upstream::fleet::Fleet;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::messages::UpstreamNews;

use announcer::Announcer;

/// Where a running gateway is reached.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Data listener.
    pub data: SocketAddr,
    /// Admin listener, unless it is off.
    pub admin: Option<SocketAddr>,
}

/// Runs the gateway until SIGTERM or SIGINT. `ready` is told once both listeners accept.
pub async fn serve(settings: Settings, ready: impl FnOnce(&Addresses)) -> anyhow::Result<()> {
    let settings = Arc::new(settings);
    let bounds = settings.bounds.clone();
    let data = listen(settings.listen.data)?;
    let admin = settings.listen.admin.map(listen).transpose()?;
    let addresses = Addresses {
        data: data.local_addr()?,
        admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
    };

    let engine = Arbiter::new();
    // Cursors and event ids live as long as the process until keys can be configured.
    let sealer = Arc::new(Sealer::ephemeral().context("no randomness for keys")?);
    let sessions = SessionTable::new(bounds.clone(), Arc::clone(&sealer));
    let fleet = Arc::new(fleet(&settings)?);
    let (catalogue, news) = start_catalogue(&engine, &settings, sealer, &sessions, &fleet)?;
    let switchboard = Arc::new(Switchboard {
        catalogue: catalogue.clone(),
        policy: Policy::default(),
        upstreams: Arc::clone(&fleet),
        news,
        session_tools: SessionTools::new(
            settings.names.clone(),
            FetchLimits { pages: bounds.list_pages, items: bounds.list_items },
        ),
        first_lists_until: Instant::now() + bounds.list_budget,
    });
    let edge = Arc::new(Edge::new(Arc::clone(&settings), switchboard, Arc::clone(&sessions)));

    let data_server = data_server(data, &settings, &edge)?;
    let data_handle = data_server.handle();
    let admin_server = match (admin, addresses.admin) {
        (Some(listener), Some(address)) => {
            let inspection = Inspection {
                fleet: Arc::clone(&fleet),
                catalogue,
                sessions: Arc::clone(&sessions),
                edge: Arc::clone(&edge),
                guard: Guard::loopback_only(address.ip()),
            };
            Some(admin_server(listener, inspection)?)
        }
        _ => None,
    };
    let admin_handle = admin_server.as_ref().map(actix_web::dev::Server::handle);
    let data_task = actix_rt::spawn(data_server);
    let admin_task = admin_server.map(actix_rt::spawn);
    let sweeper = actix_rt::spawn(sweep_sessions(Arc::clone(&sessions), bounds.clone()));

    // Installed before anybody is told where the gateway is, or a signal in between would kill it.
    let mut signals = drain::Signals::install()?;
    ready(&addresses);
    signals.next().await;

    sweeper.abort();
    tokio::select! {
        () = drain::drain(&edge, &sessions, bounds.drain) => {}
        () = signals.next() => tracing::warn!("told to stop twice: not waiting for running calls"),
    }
    data_handle.stop(false).await;
    fleet.retire().await;
    if let Some(handle) = admin_handle {
        handle.stop(false).await;
    }
    engine.stop();
    data_task.await.context("the data listener failed")??;
    if let Some(task) = admin_task {
        task.await.context("the admin listener failed")??;
    }
    Ok(())
}

/// Prepares every enabled upstream; an address that cannot be one is an error of the configuration.
pub fn fleet(settings: &Settings) -> anyhow::Result<Fleet> {
    let handles = settings.servers.iter().filter(|server| server.enabled).map(|server| {
        UpstreamHandle::new(server.clone(), settings.bounds.clone())
            .map_err(|why| anyhow::anyhow!("server {}: {why}", server.name))
    });
    Ok(Fleet::new(handles.collect::<anyhow::Result<_>>()?))
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn start_catalogue(
    engine: &Arbiter,
    settings: &Arc<Settings>,
    sealer: Arc<Sealer>,
    sessions: &Arc<SessionTable>,
    fleet: &Arc<Fleet>,
) -> anyhow::Result<(CatalogueHandle, Recipient<UpstreamNews>)> {
    let table = Arc::clone(sessions);
    let announcer = Announcer::start_in_arbiter(&engine.handle(), move |ctx| {
        ctx.set_mailbox_capacity(announcer::MAILBOX);
        Announcer { sessions: table }
    });
    let catalogue =
        CatalogueHandle::start_on(&engine.handle(), settings, sealer, announcer.recipient(), KEEP_LOST);
    let refresher = Refresher::new(Arc::clone(fleet), catalogue.clone(), settings.bounds.clone());
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

fn data_server(
    listener: TcpListener,
    settings: &Settings,
    edge: &Arc<Edge>,
) -> anyhow::Result<actix_web::dev::Server> {
    let bounds = &settings.bounds;
    let write_stall = bounds.write_stall;
    let edge: Data<Edge> = Data::from(Arc::clone(edge));
    let listen = settings.listen.clone();
    let server =
        HttpServer::new(move || App::new().app_data(edge.clone()).configure(downstream::routes(&listen)))
            // Small answers must not wait for an acknowledgement.
            .tcp_nodelay(true)
            // With half-closed connections a client that left would go unnoticed until its answer is written.
            .h1_allow_half_closed(false)
            .client_request_timeout(bounds.head_timeout)
            .client_disconnect_timeout(Duration::from_secs(1))
            .on_connect(move |connection, _| disconnect_stalled(connection, write_stall))
            .keep_alive(KEEP_ALIVE)
            .max_connections(bounds.connections)
            .shutdown_timeout(1)
            .disable_signals()
            .listen(listener)?
            .run();
    Ok(server)
}

/// A client that takes nothing for `limit` is disconnected by the system, whatever waits for it (S-HTTPS-17): a server
/// that is not asked for more cannot see it by itself.
fn disconnect_stalled(connection: &dyn Any, limit: Duration) {
    let Some(stream) = connection.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis(limit)) {
        tracing::debug!(%error, "a connection has no limit for stalled writes");
    }
}

#[cfg(target_os = "linux")]
fn millis(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)
}

/// How long an idle client connection stays open.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

fn admin_server(listener: TcpListener, inspection: Inspection) -> anyhow::Result<actix_web::dev::Server> {
    let inspection = Data::new(inspection);
    let server = HttpServer::new(move || App::new().app_data(inspection.clone()).configure(admin::routes))
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .shutdown_timeout(1)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(server)
}

/// Ends sessions that nobody uses, and lets go of old streams; looks often enough to be late by little.
async fn sweep_sessions(sessions: Arc<SessionTable>, bounds: Bounds) {
    let shortest = bounds.session_idle.min(bounds.replay_age);
    let period = (shortest / 4).clamp(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        tokio::time::sleep(period).await;
        sessions.sweep(bounds.session_idle).await;
    }
}
