//! One place for a connection: whose it is, and how far it is.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::backoff::Backoff;
use crate::upstream::call::Client;
use crate::upstream::error::UpstreamError;
use crate::upstream::messages::Progress;

/// Told to everybody who waits.
pub(super) type Waiters<L> = watch::Sender<Progress<L>>;

#[derive(Debug)]
pub(super) struct Slot<L> {
    pub(super) client: Arc<Client>,
    /// Outlives the connections, so that one that keeps failing is opened less and less often.
    pub(super) backoff: Backoff,
    pub(super) stage: Stage<L>,
}

#[derive(Debug)]
pub(super) enum Stage<L> {
    /// Waits for the shared connection, which finds out the era.
    Parked { waiters: Waiters<L> },
    /// An attempt is under way.
    Opening { waiters: Waiters<L>, number: u64, abandoned: CancellationToken },
    /// Open for calls.
    Open { number: u64, link: L, since: Instant },
    /// The upstream is spoken to without connections; only the shared slot knows this stage.
    Stateless,
    /// Stopped because nobody used it; opened again for whoever asks. Only the shared slot knows this stage: others are
    /// simply removed.
    Asleep,
    /// Not open. Nobody tries before `until`.
    Resting { until: Instant, why: UpstreamError },
}

impl<L: Clone> Slot<L> {
    /// A place for a connection that nobody opens yet.
    pub(super) fn resting(client: Arc<Client>, backoff: Backoff, now: Instant) -> Self {
        let stage = Stage::Resting { until: now, why: UpstreamError::unavailable("not opened yet") };
        Slot { client, backoff, stage }
    }

    /// Those who wait, taken along to the next stage; nobody where nobody can wait.
    pub(super) fn waiters(&self) -> Waiters<L> {
        match &self.stage {
            Stage::Parked { waiters } | Stage::Opening { waiters, .. } => waiters.clone(),
            Stage::Open { .. } | Stage::Stateless | Stage::Asleep | Stage::Resting { .. } => {
                watch::channel(Progress::Starting).0
            }
        }
    }

    /// Whether the attempt of that number is under way.
    pub(super) fn awaits(&self, number: u64) -> bool {
        matches!(self.stage, Stage::Opening { number: ours, .. } if ours == number)
    }

    /// Its link, while it is open.
    pub(super) fn link(&self) -> Option<&L> {
        match &self.stage {
            Stage::Open { link, .. } => Some(link),
            _ => None,
        }
    }

    /// Gives up what is under way and tells those who wait.
    pub(super) fn give_up(&self, told: &Progress<L>) {
        if let Stage::Opening { abandoned, .. } = &self.stage {
            abandoned.cancel();
        }
        self.waiters().send_replace(told.clone());
    }
}
