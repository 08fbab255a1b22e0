//! Which connections of one upstream there are, as a plain state machine: events in, effects out.
//!
//! Always: one attempt at a time per affinity, shared by all who wait for it; the shared connection comes first, because
//! it finds out the era; a connection that keeps failing is tried less and less often, whoever asks for it; a session
//! that has ended gets none; what nobody used for long is closed, the shared one too, and is opened again by the first
//! who asks, while its era stays known. Not here: doing what the effects say (`actor`), opening (`connect`).

mod slot;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::slot::{Slot, Stage, Waiters};
use super::backoff::Backoff;
use super::call::{Affinity, Client};
use super::error::UpstreamError;
use super::messages::Progress;
use super::subscriptions::Subscriptions;
use crate::protocol::era::Era;

/// A connection that lasted this long was a good one: the next failure starts the back-off anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Links of one affinity that may be left to their last calls at a time: each may be a process.
const LEAVING: usize = 4;

/// What has to be known of a link.
pub(super) trait Connection: Clone {
    /// Why it can no longer be used, once that is so.
    fn ended_because(&self) -> Option<String>;
    /// Whether its end, once it came, says nothing against opening another at once.
    fn ended_well(&self) -> bool;
    /// Takes no more calls if none was made for `limit` and none is in flight, and says whether that is so.
    fn retires_after(&self, limit: Duration) -> bool;
}

/// What a good attempt brought.
#[derive(Debug)]
pub(super) enum Opened<L> {
    Link(L),
    /// The upstream needs no connection.
    Stateless,
}

/// What is to be done now, in this order.
#[derive(Debug)]
pub(super) enum Effect<L> {
    /// Start an attempt, and say how it went unless it is abandoned before.
    Attempt { client: Arc<Client>, number: u64, abandoned: CancellationToken },
    /// Calls of this affinity go over this link.
    Use { affinity: Affinity, link: L },
    /// No link serves this affinity.
    Forget(Affinity),
    /// Close this link.
    Close { link: L, why: &'static str },
    /// Say [`Connections::due`] after a while.
    WakeAfter { affinity: Affinity, wait: Duration },
    /// The upstream is reachable.
    Up,
    /// Its shared connection is closed until somebody asks for it; what it said of itself holds.
    Asleep,
    /// Nothing is known of it until an attempt has settled.
    Doubted,
    /// It is not, and is tried again after `wait`.
    Down { error: UpstreamError, wait: Duration },
}

/// How the upstream as a whole is, which is how its shared connection is.
enum Reach {
    Unknown,
    Handshake,
    Stateless,
    Down { why: UpstreamError, retry_after: Duration },
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Connections<L> {
    slots: HashMap<Affinity, Slot<L>>,
    /// Links that take no new calls and are closed when those under way are over.
    leaving: Vec<(Affinity, L)>,
    own_client: Arc<Client>,
    subscriptions: Arc<Subscriptions>,
    /// First and longest wait between attempts.
    waits: (Duration, Duration),
    next_number: u64,
}

impl<L: Connection> Connections<L> {
    pub(super) fn new(
        own_client: Arc<Client>,
        subscriptions: Arc<Subscriptions>,
        waits: (Duration, Duration),
    ) -> Self {
        Connections {
            slots: HashMap::new(),
            leaving: Vec::new(),
            own_client,
            subscriptions,
            waits,
            next_number: 0,
        }
    }

    /// Opens the shared connection.
    pub(super) fn start(&mut self, now: Instant) -> Vec<Effect<L>> {
        let client = Arc::clone(&self.own_client);
        self.open(&client, now).1
    }

    /// Somebody wants the connection of this client.
    pub(super) fn open(
        &mut self,
        client: &Arc<Client>,
        now: Instant,
    ) -> (watch::Receiver<Progress<L>>, Vec<Effect<L>>) {
        if client.closed.is_cancelled() {
            return (failed(UpstreamError::unavailable("its session has ended")), Vec::new());
        }
        let affinity = client.affinity;
        let mut effects = Vec::new();
        self.notice_end(Affinity::Shared, now, &mut effects);
        self.notice_end(affinity, now, &mut effects);
        let slot = self.slot(client, now);
        let progress = match &slot.stage {
            Stage::Parked { waiters } | Stage::Opening { waiters, .. } => waiters.subscribe(),
            Stage::Open { link, .. } => watch::channel(Progress::Ready(link.clone())).1,
            Stage::Stateless => watch::channel(Progress::NotNeeded).1,
            Stage::Asleep => self.begin(affinity, &mut effects).subscribe(),
            Stage::Resting { until, why } if now < *until => failed(refused(why, *until - now)),
            Stage::Resting { .. } => self.leave_rest(affinity, now, &mut effects),
        };
        (progress, effects)
    }

    /// Whether an attempt of that number is awaited.
    pub(super) fn awaits(&self, affinity: Affinity, number: u64) -> bool {
        self.slots.get(&affinity).is_some_and(|slot| slot.awaits(number))
    }

    /// An attempt came to its end.
    pub(super) fn settled(
        &mut self,
        affinity: Affinity,
        number: u64,
        outcome: Result<Opened<L>, UpstreamError>,
        now: Instant,
    ) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        let Some(slot) = self.slots.get_mut(&affinity).filter(|slot| slot.awaits(number)) else {
            if let Ok(Opened::Link(link)) = outcome {
                effects.push(Effect::Close { link, why: "nobody wants it any longer" });
            }
            return effects;
        };
        let waiters = slot.waiters();
        match outcome {
            Ok(Opened::Link(link)) => match link.ended_because() {
                // It ended between its handshake and now.
                Some(why) => self.fail(affinity, UpstreamError::lost(why), now, &mut effects),
                None => {
                    slot.stage = Stage::Open { number, link: link.clone(), since: now };
                    waiters.send_replace(Progress::Ready(link.clone()));
                    effects.push(Effect::Use { affinity, link });
                    if affinity == Affinity::Shared {
                        self.shared_opened(now, &mut effects);
                    }
                }
            },
            Ok(Opened::Stateless) => {
                slot.stage = Stage::Stateless;
                slot.backoff.reset();
                waiters.send_replace(Progress::NotNeeded);
                if affinity == Affinity::Shared {
                    effects.push(Effect::Up);
                    self.drop_sessions(&Progress::NotNeeded, "the upstream changed its era", &mut effects);
                }
            }
            Err(error) => self.fail(affinity, error, now, &mut effects),
        }
        effects
    }

    /// A link ended by itself.
    pub(super) fn ended(&mut self, affinity: Affinity, number: u64, now: Instant) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        let slot = self.slots.get(&affinity);
        // An attempt that is still under way tells its own end.
        if slot.is_some_and(|slot| matches!(slot.stage, Stage::Open { number: ours, .. } if ours == number)) {
            self.notice_end(affinity, now, &mut effects);
        }
        effects
    }

    /// The link is in doubt: calls that come go over another, and those under way end where they are. Not the shared one,
    /// over which nobody is asked anything.
    pub(super) fn doubted(&mut self, affinity: Affinity, number: u64, now: Instant) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        let leaving = self.leaving.iter().filter(|(of, _)| *of == affinity).count();
        let Some(slot) = self.slots.get_mut(&affinity).filter(|_| affinity != Affinity::Shared) else {
            return effects;
        };
        if let Stage::Open { number: ours, link, .. } = &slot.stage
            && *ours == number
            && leaving < LEAVING
        {
            self.leaving.push((affinity, link.clone()));
            slot.stage =
                Stage::Resting { until: now, why: UpstreamError::unavailable("it is being renewed") };
            effects.push(Effect::Forget(affinity));
            self.resume(affinity, now, &mut effects);
        }
        effects
    }

    /// The wait for another attempt may be over.
    pub(super) fn due(&mut self, affinity: Affinity, now: Instant) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        self.resume(affinity, now, &mut effects);
        effects
    }

    /// A session ended.
    pub(super) fn release(&mut self, affinity: Affinity, why: &'static str) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        self.remove(affinity, &Progress::Failed(UpstreamError::unavailable(why)), why, &mut effects);
        effects
    }

    /// Looks for what nobody told: links that ended, sessions that ended, and links that were idle for `limit`.
    pub(super) fn tick(&mut self, limit: Option<Duration>, now: Instant) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        self.leaving.retain(|(_, link)| {
            let is_over = link.retires_after(Duration::ZERO);
            if is_over {
                effects.push(Effect::Close { link: link.clone(), why: "its calls are over" });
            }
            !is_over && link.ended_because().is_none()
        });
        let affinities: Vec<Affinity> = self.slots.keys().copied().collect();
        for affinity in affinities {
            self.notice_end(affinity, now, &mut effects);
            let Some(slot) = self.slots.get(&affinity) else { continue };
            if slot.client.closed.is_cancelled() {
                effects.extend(self.release(affinity, "its session ended"));
            } else if self.retires(affinity, slot, limit) {
                const WHY: &str = "it was idle";
                match (affinity, slot.link().cloned()) {
                    (Affinity::Shared, Some(link)) => {
                        self.stage(affinity, Stage::Asleep);
                        effects.extend([
                            Effect::Forget(affinity),
                            Effect::Close { link, why: WHY },
                            Effect::Asleep,
                        ]);
                    }
                    _ => effects.extend(self.release(affinity, WHY)),
                }
            }
        }
        effects
    }

    /// The upstream turned out to be of another era than `believed`: probe again.
    pub(super) fn era_mistaken(&mut self, believed: Era, now: Instant) -> Vec<Effect<L>> {
        const WHY: &str = "the upstream changed its era";
        let mut effects = Vec::new();
        let error = UpstreamError::lost(WHY);
        match (self.reach(now), believed) {
            (Reach::Handshake, Era::Handshake) => {
                self.drop_sessions(&Progress::Failed(error.clone()), WHY, &mut effects);
                if let Some(link) = self.slots.get(&Affinity::Shared).and_then(Slot::link).cloned() {
                    effects.push(Effect::Forget(Affinity::Shared));
                    effects.push(Effect::Close { link, why: WHY });
                }
                self.fail(Affinity::Shared, error, now, &mut effects);
            }
            (Reach::Stateless, Era::Stateless) => {
                // It answers, so there is nothing to wait for.
                effects.push(Effect::Doubted);
                self.begin(Affinity::Shared, &mut effects);
            }
            _ => {}
        }
        effects
    }

    /// Closes everything.
    pub(super) fn close_all(&mut self, error: &UpstreamError, why: &'static str) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        let leaving = self.leaving.iter().map(|(affinity, _)| *affinity);
        let affinities: Vec<Affinity> = self.slots.keys().copied().chain(leaving).collect();
        for affinity in affinities {
            self.remove(affinity, &Progress::Failed(error.clone()), why, &mut effects);
        }
        effects
    }
}

impl<L: Connection> Connections<L> {
    fn slot(&mut self, client: &Arc<Client>, now: Instant) -> &mut Slot<L> {
        let (first, longest) = self.waits;
        let fresh = || Slot::resting(Arc::clone(client), Backoff::new(first, longest), now);
        self.slots.entry(client.affinity).or_insert_with(fresh)
    }

    fn reach(&self, now: Instant) -> Reach {
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
    fn leave_rest(
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
    fn begin(&mut self, affinity: Affinity, effects: &mut Vec<Effect<L>>) -> Waiters<L> {
        self.next_number += 1;
        let (number, abandoned) = (self.next_number, CancellationToken::new());
        let slot = self.slots.get_mut(&affinity).expect("an attempt is begun for a slot that is there");
        let waiters = slot.waiters();
        let client = Arc::clone(&slot.client);
        slot.stage = Stage::Opening { waiters: waiters.clone(), number, abandoned: abandoned.clone() };
        effects.push(Effect::Attempt { client, number, abandoned });
        waiters
    }

    fn shared_opened(&mut self, now: Instant, effects: &mut Vec<Effect<L>>) {
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
    fn fail(&mut self, affinity: Affinity, error: UpstreamError, now: Instant, effects: &mut Vec<Effect<L>>) {
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

    fn fail_parked(&mut self, error: &UpstreamError, now: Instant) {
        for slot in self.slots.values_mut() {
            if let Stage::Parked { waiters } = &slot.stage {
                waiters.send_replace(Progress::Failed(error.clone()));
                slot.stage = Stage::Resting { until: now, why: error.clone() };
            }
        }
    }

    /// Opens what is needed before anybody asks for it, now or when its rest is over.
    fn resume(&mut self, affinity: Affinity, now: Instant, effects: &mut Vec<Effect<L>>) {
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

    fn notice_end(&mut self, affinity: Affinity, now: Instant, effects: &mut Vec<Effect<L>>) {
        let link = self.slots.get(&affinity).and_then(Slot::link);
        if let Some(why) = link.and_then(Connection::ended_because) {
            effects.push(Effect::Forget(affinity));
            self.fail(affinity, UpstreamError::lost(why), now, effects);
        }
    }

    /// Nobody uses it and nobody awaits updates over it.
    fn retires(&self, affinity: Affinity, slot: &Slot<L>, limit: Option<Duration>) -> bool {
        let (Some(limit), Some(link)) = (limit, slot.link()) else { return false };
        !self.subscriptions.are_kept_for(affinity) && link.retires_after(limit)
    }

    fn stage(&mut self, affinity: Affinity, stage: Stage<L>) {
        if let Some(slot) = self.slots.get_mut(&affinity) {
            slot.stage = stage;
        }
    }

    fn drop_sessions(&mut self, told: &Progress<L>, why: &'static str, effects: &mut Vec<Effect<L>>) {
        let sessions: Vec<Affinity> =
            self.slots.keys().copied().filter(|affinity| *affinity != Affinity::Shared).collect();
        for affinity in sessions {
            self.remove(affinity, told, why, effects);
        }
    }

    fn remove(
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

fn failed<L>(error: UpstreamError) -> watch::Receiver<Progress<L>> {
    watch::channel(Progress::Failed(error)).1
}

/// Nothing was sent, whatever the connection died of.
fn refused(why: &UpstreamError, retry_after: Duration) -> UpstreamError {
    match why {
        UpstreamError::Unavailable { why, .. } | UpstreamError::Lost { why } => {
            UpstreamError::Unavailable { why: why.clone(), retry_after: Some(retry_after) }
        }
        other => UpstreamError::Unavailable { why: other.to_string(), retry_after: Some(retry_after) },
    }
}
