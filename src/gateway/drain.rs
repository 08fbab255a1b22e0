//! The orderly end: not ready first, running calls finish, streams end, then everything stops.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::downstream::Edge;
use crate::session::SessionTable;

/// Resolves at SIGTERM or SIGINT.
pub(super) async fn until_told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// How often running calls are counted.
const LOOK: Duration = Duration::from_millis(20);
/// Time for the answers of calls that the end has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Time for last bytes to leave.
const LAST_BYTES: Duration = Duration::from_millis(100);

/// Waits for running calls, at most for `limit`, then ends every session.
pub(super) async fn drain(edge: &Edge, sessions: &SessionTable, limit: Duration) {
    edge.begin_drain();
    let until = Instant::now() + limit;
    while edge.requests_in_flight() > 0 && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    let left = edge.requests_in_flight();
    if left > 0 {
        tracing::warn!(left, "calls were still running at the end of the drain");
    }
    sessions.end_all().await;
}

/// Waits until calls that were failed by the end have answered, and their last bytes have left.
pub(super) async fn let_answers_leave(edge: &Edge) {
    let until = Instant::now() + LAST_ANSWERS;
    while edge.requests_in_flight() > 0 && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(LAST_BYTES).await;
}
