//! Keeps one upstream's actor alive: built from its factory, watched, and built again after a panic.
//!
//! actix's own supervisor restarts the same value and does not survive panics; this one starts with a fresh value.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::actor::UpstreamActor;
use super::backoff::Backoff;
use super::messages::UpstreamNews;
use super::shared::{Shared, State};

/// Where the address of the living actor is found.
pub(super) type AddressSlot = Arc<ArcSwapOption<Addr<UpstreamActor>>>;

/// An actor that lived this long was a good one: the next failure starts the back-off anew.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// Runs until the upstream is retired. Must be called on the thread that serves upstreams.
pub(super) async fn supervise(shared: Arc<Shared>, news: Recipient<UpstreamNews>, slot: AddressSlot) {
    let mut backoff = Backoff::new(shared.bounds.backoff_first, shared.bounds.backoff_longest);
    loop {
        let (alive, ended) = oneshot::channel();
        let actor = UpstreamActor::new(Arc::clone(&shared), news.clone(), alive);
        let started = Instant::now();
        slot.store(Some(Arc::new(actor.start())));
        // Only ever closed, when the actor is dropped.
        let _ = ended.await;
        slot.store(None);
        if shared.state() == State::Retired {
            return;
        }
        if started.elapsed() >= GOOD_AFTER {
            backoff.reset();
        }
        shared.forget_facts();
        let wait = backoff.next();
        shared.set_state(State::Down { why: "its supervisor restarts it".into(), retry_after: wait });
        tracing::error!(upstream = %shared.settings.name, retry_after = ?wait, "the actor of an upstream failed");
        tokio::time::sleep(wait).await;
        if shared.state() == State::Retired {
            return;
        }
    }
}
