//! The gateway without listeners: one client, on standard input and output.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;

use super::assembly::Assembly;
use super::drain;
use crate::config::Settings;
use crate::downstream::stdio::{Over, Stdio};

/// Time for running calls when the input has ended: whoever closes it kills what does not end soon.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Runs the gateway until the input ends or nobody takes the output, or until SIGTERM or SIGINT.
pub async fn serve_stdio(settings: Settings) -> anyhow::Result<()> {
    let mut signals = drain::Signals::install()?;
    let assembly = Assembly::start(settings)?;
    let mut stdio = Stdio::open(Data::from(Arc::clone(&assembly.edge)))?;
    let over = tokio::select! {
        over = stdio.until_over() => over,
        () = signals.next() => Over::Input,
    };
    let patience = match over {
        Over::Input => assembly.settings.bounds.drain.min(LAST_CALLS),
        Over::Output => Duration::ZERO,
    };
    let orderly = async {
        drain::drain(&assembly.edge, &assembly.sessions, patience, Duration::ZERO).await;
        stdio.close().await;
    };
    tokio::select! {
        () = orderly => {}
        () = signals.next() => tracing::warn!("told to stop again: not waiting for running calls"),
    }
    assembly.fleet.retire().await;
    assembly.stop();
    Ok(())
}
