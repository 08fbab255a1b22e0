//! The gateway behind its listeners: clients come by HTTP.

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use actix_web::{App, HttpServer};
use anyhow::Context as _;

use super::assembly::Assembly;
use super::drain;
use crate::admin::{self, Inspection};
use crate::config::Settings;
use crate::config::bounds::Bounds;
use crate::downstream::guard::Guard;
use crate::downstream::{self, Edge};
use crate::session::SessionTable;
use crate::session::kept::Keeper;
use crate::store::IfLocked;

/// Where a running gateway is reached.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Data listener.
    pub data: SocketAddr,
    /// Admin listener, unless it is off.
    pub admin: Option<SocketAddr>,
}

/// Runs the gateway until SIGTERM, SIGINT or SIGHUP. `ready` is told once both listeners accept.
pub async fn serve(settings: Settings, ready: impl FnOnce(&Addresses)) -> anyhow::Result<()> {
    let data = listen(settings.listen.data)?;
    let admin = settings.listen.admin.map(listen).transpose()?;
    let addresses = Addresses {
        data: data.local_addr()?,
        admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
    };
    let assembly = Assembly::start(settings, IfLocked::Refuse)?;
    let (edge, sessions) = (&assembly.edge, &assembly.sessions);
    let bounds = assembly.settings.bounds.clone();
    if assembly.settings.sessions.are_durable() {
        let restored = downstream::restore_sessions(&Data::from(Arc::clone(edge))).await;
        restored.context("kept sessions cannot be read")?;
    } else {
        // Before anybody is told that one is unknown: it must not be there again later.
        Keeper::new(Arc::clone(&assembly.stores.records), assembly.stores.clock, bounds.session_idle)
            .clear()
            .await;
    }

    let data_server = data_server(data, &assembly.settings, edge)?;
    let data_handle = data_server.handle();
    let admin_server = match (admin, addresses.admin) {
        (Some(listener), Some(address)) => Some(admin_server(listener, inspection(&assembly, address))?),
        _ => None,
    };
    let admin_handle = admin_server.as_ref().map(actix_web::dev::Server::handle);
    let data_task = actix_rt::spawn(data_server);
    let admin_task = admin_server.map(actix_rt::spawn);
    let sweeper = actix_rt::spawn(sweep_sessions(Arc::clone(sessions), bounds.clone()));

    // Installed before anybody is told where the gateway is, or a signal in between would kill it.
    let mut signals = drain::Signals::install()?;
    ready(&addresses);
    signals.next().await;

    sweeper.abort();
    sessions.stop();
    tokio::select! {
        () = drain::drain(edge, sessions, bounds.drain, bounds.retry) => {}
        () = signals.next() => tracing::warn!("told to stop twice: not waiting for running calls"),
    }
    data_handle.stop(false).await;
    drain::until_written(sessions).await;
    assembly.fleet.retire().await;
    if let Some(handle) = admin_handle {
        handle.stop(false).await;
    }
    assembly.stop().await;
    data_task.await.context("the data listener failed")??;
    if let Some(task) = admin_task {
        task.await.context("the admin listener failed")??;
    }
    Ok(())
}

fn inspection(assembly: &Assembly, address: SocketAddr) -> Inspection {
    Inspection {
        fleet: Arc::clone(&assembly.fleet),
        catalogue: assembly.catalogue.clone(),
        sessions: Arc::clone(&assembly.sessions),
        tasks: Arc::clone(&assembly.tasks),
        edge: Arc::clone(&assembly.edge),
        guard: Guard::loopback_only(address.ip()),
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
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
