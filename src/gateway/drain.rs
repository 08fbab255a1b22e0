//! The orderly end: not ready first, running calls finish, streams end, then everything stops.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::downstream::Edge;
use crate::session::SessionTable;

/// SIGTERM, SIGINT and SIGHUP, caught from the moment of installation. The last one means the same as the others: it
/// comes from a terminal that was closed, or from somebody who hopes for a reload, and neither wants calls cut.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the next of them.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// How often running calls are counted.
const LOOK: Duration = Duration::from_millis(20);
/// Time for last bytes to leave.
const LAST_BYTES: Duration = Duration::from_millis(100);
/// Time for calls that were told to stop to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Waits for running calls, at most for `limit`; those that still run are answered that the gateway stops. Clients that
/// left a call to come back for its answer have `away` for that. Then every session ends, and with it its streams. New
/// requests are refused from the beginning.
pub(super) async fn drain(edge: &Edge, sessions: &SessionTable, limit: Duration, away: Duration) {
    edge.begin_drain();
    idle_within(edge, limit).await;
    let left = edge.requests_in_flight();
    if left > 0 {
        tracing::warn!(left, "calls were still running at the end of the drain");
        edge.stop_calls();
        idle_within(edge, LAST_WORDS).await;
    }
    let away = (away + LAST_WORDS).min(limit);
    until_within(away, || !sessions.owe_answers(away)).await;
    sessions.end_all().await;
    edge.suspend_tasks().await;
    until_within(LAST_WORDS, || edge.listens_open() == 0).await;
    tokio::time::sleep(LAST_BYTES).await;
}

/// Waits until what is to outlive the gateway is on the disk, if that can be done soon.
pub(super) async fn until_written(sessions: &SessionTable) {
    until_within(LAST_WORDS, || sessions.is_written()).await;
}

async fn idle_within(edge: &Edge, limit: Duration) {
    until_within(limit, || edge.requests_in_flight() == 0).await;
}

async fn until_within(limit: Duration, is_so: impl Fn() -> bool) {
    let until = Instant::now() + limit;
    while !is_so() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
}
