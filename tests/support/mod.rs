//! What the stories are told with: a gateway process, clients of both eras, scripted upstreams, the official schemas.
//!
//! Always: everything here is written from the published specification and the gateway's public surface, never from its
//! code; every wait has a deadline and fails with what was awaited; every message the gateway writes is judged by the
//! schema of its revision; whatever crosses a wire is printed, so that a failing story shows its transcript.
//! Not here: what the gateway must do; that is in the stories.

pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod command_line;
pub(crate) mod gateway;
pub(crate) mod generate;
pub(crate) mod http;
pub(crate) mod inbox;
pub(crate) mod json;
pub(crate) mod pipe_client;
pub(crate) mod processes;
pub(crate) mod schema;
pub(crate) mod sse;
pub(crate) mod sse_client;
pub(crate) mod upstream;

pub(crate) use client::Client;
pub(crate) use gateway::{Gateway, gateway};
pub(crate) use upstream::{
    Call, TRANSPORTS, Transport, Upstream, http_upstream, stateless_upstream, stdio_upstream, upstream,
};

use std::future::Future;
use std::time::Duration;

/// How long anything may take before a story fails. Generous, because tests share a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The newest revision of the handshake era.
pub(crate) const HANDSHAKE: &str = "2025-11-25";

/// The revision of the stateless era.
pub(crate) const STATELESS: &str = "2026-07-28";

/// Every revision of the handshake era, oldest first.
pub(crate) const HANDSHAKE_REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The revision in which a handshake that asks for `revision` is answered (S-LIFE-01).
pub(crate) fn answered_in(revision: &str) -> &str {
    if HANDSHAKE_REVISIONS.contains(&revision) { revision } else { HANDSHAKE }
}

/// Wait for `future`, or fail naming what was awaited.
pub(crate) async fn patiently<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    within(PATIENCE, awaited, future).await
}

/// As [`patiently`], with a deadline that is part of the story.
pub(crate) async fn within<T>(limit: Duration, awaited: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} in vain for: {awaited}"),
    }
}

/// Ask again and again until `probe` has an answer, or fail naming what was awaited.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    awaited: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    patiently(awaited, async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    })
    .await
}
