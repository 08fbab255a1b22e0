//! The steps that events of `Connections` have in common: from an affinity to its slot, and from stage to stage.
//!
//! Always: a step changes slots and says what is to be done; it decides nothing that depends on which event it was. Not
//! here: the events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::slot::{Slot, Stage, Waiters};
use super::{Connection, Connections, Effect, GOOD_AFTER, Reach};
use crate::upstream::backoff::Backoff;
use crate::upstream::call::{Affinity, Client};
use crate::upstream::error::UpstreamError;
use crate::upstream::messages::Progress;

impl<L: Connection> Connections<L> {
    pub(super) fn slot(&mut self, client: &Arc<Client>, now: Instant) -> &mut Slot<L> {
        let (first, longest) = self.waits;
        let fresh = || Slot::resting(Arc::clone(client), Backoff::new(first, longest), now);
        self.slots.entry(client.affinity).or_insert_with(fresh)
    }

    pub(super) fn reach(&self, now: Instant) -> Reach {
        match self.slots.get(&Affinity::Shared).map(|slot| &slot.stage) {
            Some(Stage::Open { .. } | Stage::Asleep) => Reach::Handshake,
            Some(Stage::Stateless) => Reach::Stateless,
            Some(Stage::Resting { until, why }) if now < *until => {
                Reach::Down { why: why.clone(), retry_after: *until - now }
            }
            _ => Reach::Unknown,
        }
    }

    /// Somebody wants a connection that nothing keeps from being opened any longer but, perhaps, the shared one.
    pub(super) fn leave_rest(
        &mut self,
        affinity: Affinity,
        now: Instant,
        effects: &mut Vec<Effect<L>>,
    ) -> watch::Receiver<Progress<L>> {
        if affinity == Affinity::Shared {
            return self.begin(affinity, effects).subscribe();
        }
        match self.reach(now) {
            Reach::Handshake => self.begin(affinity, effects).subscribe(),
            Reach::Stateless => {
                self.slots.remove(&affinity);
                watch::channel(Progress::NotNeeded).1
            }
            Reach::Down { why, retry_after } => failed(refused(&why, retry_after)),
            Reach::Unknown => {
                let (waiters, progress) = watch::channel(Progress::Starting);
                if let Some(slot) = self.slots.get_mut(&affinity) {
                    slot.stage = Stage::Parked { waiters };
                }
                self.resume(Affinity::Shared, now, effects);
                progress
            }
        }
    }

    /// Starts an attempt for those who wait already, and for those who come.
    pub(super) fn begin(&mut self, affinity: Affinity, effects: &mut Vec<Effect<L>>) -> Waiters<L> {
        self.next_number += 1;
        let (number, abandoned) = (self.next_number, CancellationToken::new());
        let slot = self.slots.get_mut(&affinity).expect("an attempt is begun for a slot that is there");
        let waiters = slot.waiters();
        let client = Arc::clone(&slot.client);
        slot.stage = Stage::Opening { waiters: waiters.clone(), number, abandoned: abandoned.clone() };
        effects.push(Effect::Attempt { client, number, abandoned });
        waiters
    }

    pub(super) fn shared_opened(&mut self, now: Instant, effects: &mut Vec<Effect<L>>) {
        effects.push(Effect::Up);
        for client in self.subscriptions.clients() {
            self.slot(&client, now);
        }
        let sessions: Vec<Affinity> = self.slots.keys().copied().collect();
        for affinity in sessions.into_iter().filter(|affinity| *affinity != Affinity::Shared) {
            if matches!(self.slots[&affinity].stage, Stage::Parked { .. }) {
                self.begin(affinity, effects);
            } else {
                self.resume(affinity, now, effects);
            }
        }
    }

    /// An attempt or a link failed: tell those who wait, and rest for a while.
    pub(super) fn fail(
        &mut self,
        affinity: Affinity,
        error: UpstreamError,
        now: Instant,
        effects: &mut Vec<Effect<L>>,
    ) {
        let Some(slot) = self.slots.get_mut(&affinity) else { return };
        if matches!(&slot.stage, Stage::Open { link, since, .. } if now - *since >= GOOD_AFTER || link.ended_well())
        {
            slot.backoff.reset();
        }
        let wait = slot.backoff.next();
        slot.waiters().send_replace(Progress::Failed(error.clone()));
        slot.stage = Stage::Resting { until: now + wait, why: error.clone() };
        if affinity == Affinity::Shared {
            self.fail_parked(&refused(&error, wait), now);
            effects.push(Effect::Down { error, wait });
        }
        self.resume(affinity, now, effects);
    }

    pub(super) fn fail_parked(&mut self, error: &UpstreamError, now: Instant) {
        for slot in self.slots.values_mut() {
            if let Stage::Parked { waiters } = &slot.stage {
                waiters.send_replace(Progress::Failed(error.clone()));
                slot.stage = Stage::Resting { until: now, why: error.clone() };
            }
        }
    }

    /// Opens what is needed before anybody asks for it, now or when its rest is over.
    pub(super) fn resume(&mut self, affinity: Affinity, now: Instant, effects: &mut Vec<Effect<L>>) {
        let Some(Stage::Resting { until, .. }) = self.slots.get(&affinity).map(|slot| &slot.stage) else {
            return;
        };
        let wanted = affinity == Affinity::Shared || self.subscriptions.are_kept_for(affinity);
        if wanted && now < *until {
            effects.push(Effect::WakeAfter { affinity, wait: *until - now });
        } else if wanted && (affinity == Affinity::Shared || matches!(self.reach(now), Reach::Handshake)) {
            self.begin(affinity, effects);
        }
    }

    pub(super) fn notice_end(&mut self, affinity: Affinity, now: Instant, effects: &mut Vec<Effect<L>>) {
        let link = self.slots.get(&affinity).and_then(Slot::link);
        if let Some(why) = link.and_then(Connection::ended_because) {
            effects.push(Effect::Forget(affinity));
            self.fail(affinity, UpstreamError::lost(why), now, effects);
        }
    }

    /// Nobody uses it and nobody awaits updates over it.
    pub(super) fn retires(&self, affinity: Affinity, slot: &Slot<L>, limit: Option<Duration>) -> bool {
        let (Some(limit), Some(link)) = (limit, slot.link()) else { return false };
        !self.subscriptions.are_kept_for(affinity) && link.retires_after(limit)
    }

    /// A connection of the pool failed, and nobody asked for it since: whoever comes may have another. Only when its
    /// failure says nothing about another any longer, so that one that keeps failing is opened less and less often.
    pub(super) fn is_given_up(&self, affinity: Affinity, slot: &Slot<L>, now: Instant) -> bool {
        let Stage::Resting { until, .. } = slot.stage else { return false };
        matches!(affinity, Affinity::Pooled(_)) && now >= until + self.waits.1
    }

    pub(super) fn stage(&mut self, affinity: Affinity, stage: Stage<L>) {
        if let Some(slot) = self.slots.get_mut(&affinity) {
            slot.stage = stage;
        }
    }

    pub(super) fn drop_sessions(
        &mut self,
        told: &Progress<L>,
        why: &'static str,
        effects: &mut Vec<Effect<L>>,
    ) {
        let sessions: Vec<Affinity> =
            self.slots.keys().copied().filter(|affinity| *affinity != Affinity::Shared).collect();
        for affinity in sessions {
            self.remove(affinity, told, why, effects);
        }
        self.close_outliving(why, effects);
    }

    /// Keeps those of its links over which tasks are reached, as many as there is room for, where nobody finds them.
    pub(super) fn outlive(&mut self, affinity: Affinity, effects: &mut Vec<Effect<L>>) {
        let own = self.slots.get(&affinity).and_then(Slot::link).cloned();
        for (of, link) in std::mem::take(&mut self.leaving) {
            if of != affinity || !link.holds_tasks() || !self.keep_for_tasks(link.clone()) {
                self.leaving.push((of, link));
            }
        }
        if let Some(link) = own.filter(Connection::holds_tasks)
            && self.keep_for_tasks(link)
        {
            effects.push(Effect::Forget(affinity));
            let until = Instant::now();
            self.stage(affinity, Stage::Resting { until, why: UpstreamError::unavailable("its owner left") });
        }
    }

    pub(super) fn close_outliving(&mut self, why: &'static str, effects: &mut Vec<Effect<L>>) {
        effects.extend(self.outliving.drain(..).map(|link| Effect::Close { link, why }));
    }

    pub(super) fn remove(
        &mut self,
        affinity: Affinity,
        told: &Progress<L>,
        why: &'static str,
        effects: &mut Vec<Effect<L>>,
    ) {
        self.leaving.retain(|(of, link)| {
            let is_own = *of == affinity;
            if is_own {
                effects.push(Effect::Close { link: link.clone(), why });
            }
            !is_own
        });
        let Some(slot) = self.slots.remove(&affinity) else { return };
        slot.give_up(told);
        if let Some(link) = slot.link() {
            effects.push(Effect::Forget(affinity));
            effects.push(Effect::Close { link: link.clone(), why });
        }
    }
}

pub(super) fn failed<L>(error: UpstreamError) -> watch::Receiver<Progress<L>> {
    watch::channel(Progress::Failed(error)).1
}

/// Nothing was sent, whatever the connection died of.
pub(super) fn refused(why: &UpstreamError, retry_after: Duration) -> UpstreamError {
    match why {
        UpstreamError::Unavailable { why, .. } | UpstreamError::Lost { why } => {
            UpstreamError::Unavailable { why: why.clone(), retry_after: Some(retry_after) }
        }
        other => UpstreamError::Unavailable { why: other.to_string(), retry_after: Some(retry_after) },
    }
}
