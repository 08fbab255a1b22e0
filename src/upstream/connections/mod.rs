//! Which connections of one upstream there are, as a plain state machine: events in, effects out.
//!
//! Always: one attempt at a time per affinity, shared by all who wait for it; the shared connection comes first, because
//! it finds out the era; a connection that keeps failing is tried less and less often, whoever asks for it; a session
//! that has ended gets none; what nobody used for long is closed, the shared one too, and is opened again by the first
//! who asks, while its era stays known. Not here: what the events have in common (`steps`), doing what
//! the effects say (`actor`), opening (`connect`).

mod slot;
mod steps;
#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::slot::{Slot, Stage};
use self::steps::{failed, refused};
use super::call::{Affinity, Client};
use super::error::UpstreamError;
use super::messages::Progress;
use super::subscriptions::Subscriptions;
use crate::protocol::era::Era;

/// A connection that lasted this long was a good one: the next failure starts the back-off anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Links of one affinity that may be left to their last calls at a time: each may be a process.
const LEAVING: usize = 4;

/// Links of one upstream that may be kept for their tasks alone.
const OUTLIVING: usize = 64;

/// What has to be known of a link.
pub(super) trait Connection: Clone {
    /// Why it can no longer be used, once that is so.
    fn ended_because(&self) -> Option<String>;
    /// Whether its end, once it came, says nothing against opening another at once.
    fn ended_well(&self) -> bool;
    /// Takes no more calls if none was made for `limit` and none is in flight, and says whether that is so.
    fn retires_after(&self, limit: Duration) -> bool;
    /// Whether tasks are reached over it, so that it is kept beyond the end of whoever it was opened for.
    fn holds_tasks(&self) -> bool;
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
    /// Links that nobody finds any longer, and that are closed when their tasks are left too.
    outliving: Vec<L>,
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
            outliving: Vec::new(),
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

    /// Whether there is a place for a connection of this affinity, open or not.
    pub(super) fn knows(&self, affinity: Affinity) -> bool {
        self.slots.contains_key(&affinity)
    }

    /// Until when nobody tries to open it, if that is so.
    pub(super) fn rests_until(&self, affinity: Affinity) -> Option<Instant> {
        match self.slots.get(&affinity)?.stage {
            Stage::Resting { until, .. } => Some(until),
            _ => None,
        }
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
        let Stage::Open { number: ours, link, .. } = &slot.stage else { return effects };
        let is_over = *ours == number && link.retires_after(Duration::ZERO);
        if is_over {
            effects.push(Effect::Close { link: link.clone(), why: "its calls are over" });
        }
        if *ours == number && (is_over || leaving < LEAVING) {
            if !is_over {
                self.leaving.push((affinity, link.clone()));
            }
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
        self.outlive(affinity, &mut effects);
        self.remove(affinity, &Progress::Failed(UpstreamError::unavailable(why)), why, &mut effects);
        effects
    }

    /// Links that are kept for their tasks alone.
    pub(super) fn outliving(&self) -> &[L] {
        &self.outliving
    }

    /// A link for tasks of which no client has a link any longer; says whether there was room for it.
    pub(super) fn keep_for_tasks(&mut self, link: L) -> bool {
        let has_room = self.outliving.len() < OUTLIVING;
        if has_room {
            self.outliving.push(link);
        }
        has_room
    }

    /// A number for a link that no attempt brings.
    pub(super) fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Looks for what nobody told: links that ended, sessions that ended, and links that were idle for their `limit`.
    pub(super) fn tick(
        &mut self,
        limit: impl Fn(Affinity) -> Option<Duration>,
        now: Instant,
    ) -> Vec<Effect<L>> {
        let mut effects = Vec::new();
        let mut stays = |link: &L, why| {
            let is_over = link.retires_after(Duration::ZERO);
            if is_over {
                effects.push(Effect::Close { link: link.clone(), why });
            }
            !is_over && link.ended_because().is_none()
        };
        self.leaving.retain(|(_, link)| stays(link, "its calls are over"));
        self.outliving.retain(|link| stays(link, "its tasks are over"));
        let affinities: Vec<Affinity> = self.slots.keys().copied().collect();
        for affinity in affinities {
            self.notice_end(affinity, now, &mut effects);
            let Some(slot) = self.slots.get(&affinity) else { continue };
            if slot.client.closed.is_cancelled() {
                effects.extend(self.release(affinity, "its session ended"));
            } else if self.is_given_up(affinity, slot, now) {
                self.slots.remove(&affinity);
            } else if self.retires(affinity, slot, limit(affinity)) {
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
        self.close_outliving(why, &mut effects);
        effects
    }
}
