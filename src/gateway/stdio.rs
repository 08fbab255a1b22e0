//! The gateway without listeners: one client, on standard input and output.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Data;
use anyhow::Context as _;

use super::assembly::Assembly;
use super::drain;
use crate::config::Settings;
use crate::downstream::stdio::{Over, Stdio};
use crate::store::IfLocked;

/// Time for running calls when the input has ended: whoever closes it kills what does not end soon.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Runs the gateway until the input ends or nobody takes the output, or until it is told to stop. Bytes that the client
/// should have got and did not are an error.
pub async fn serve_stdio(settings: Settings) -> anyhow::Result<()> {
    let mut signals = drain::Signals::install()?;
    let assembly = Assembly::start(settings, IfLocked::Forget)?;
    let mut stdio = Stdio::open(Data::from(Arc::clone(&assembly.edge)))?;
    let over = tokio::select! {
        over = stdio.until_over() => Some(over),
        () = signals.next() => None,
    };
    let limit = assembly.settings.bounds.drain;
    let patience = match over {
        Some(Over::Input) => limit.min(LAST_CALLS),
        Some(Over::Output) => Duration::ZERO,
        None => limit,
    };
    let orderly = async {
        tokio::select! {
            () = drain::drain(&assembly.edge, &assembly.sessions, patience, Duration::ZERO) => {}
            // Calls that still run may be waiting for what their client says.
            () = listen_on(&mut stdio), if over.is_none() => {}
        }
        stdio.close(limit).await.context("not all was written")
    };
    let written = tokio::select! {
        written = orderly => written,
        () = signals.next() => {
            tracing::warn!("told to stop again: not waiting for running calls");
            Ok(())
        }
    };
    assembly.fleet.retire().await;
    assembly.stop().await;
    written
}

/// Resolves when nobody is there any more to take an answer.
async fn listen_on(stdio: &mut Stdio) {
    if stdio.until_over().await == Over::Input {
        std::future::pending::<()>().await;
    }
}
