//! The actor of one configured upstream: opens its connections, tries again with back-off, closes them.
//!
//! Owns the links by affinity and what is known of the upstream's era. Always: one attempt at a time per affinity, shared
//! by all who wait for it; the shared connection comes first, because it finds out the era. Not here: calls, which go
//! over the links without passing any mailbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::call::{Affinity, Client};
use super::connect::{Attempt, Connected};
use super::error::UpstreamError;
use super::link::{Link, Reports, Wire};
use super::messages::{
    ConnectSettled, EraMistaken, LinkEnded, LinkProgress, NewsKind, OpenLink, ReleaseLink, Retire,
    UpstreamNews,
};
use super::shared::{Shared, State};
use super::stdio::ProcessControl;
use crate::protocol::log_level::LogLevel;

/// Builds the actor anew after each end: nothing of a failed one is kept but what [`Shared`] holds.
pub(super) struct UpstreamActor {
    shared: Arc<Shared>,
    news: Recipient<UpstreamNews>,
    slots: HashMap<Affinity, Slot>,
    /// Session links that wait until the shared connection has found out the era.
    waiting: Vec<OpenLink>,
    backoff: Backoff,
    next_number: u64,
    /// Dropped with the actor: how its supervisor learns of its end.
    _alive: oneshot::Sender<()>,
}

struct Slot {
    client: Arc<Client>,
    progress: watch::Sender<LinkProgress>,
    number: u64,
    process: Option<ProcessControl>,
    log_level: Option<LogLevel>,
    opened: Option<Instant>,
}

impl UpstreamActor {
    pub(super) fn new(
        shared: Arc<Shared>,
        news: Recipient<UpstreamNews>,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let bounds = &shared.bounds;
        let backoff = Backoff::new(bounds.backoff_first, bounds.backoff_longest);
        UpstreamActor {
            shared,
            news,
            slots: HashMap::new(),
            waiting: Vec::new(),
            backoff,
            next_number: 0,
            _alive: alive,
        }
    }

    fn begin(&mut self, client: Arc<Client>, log_level: Option<LogLevel>, ctx: &Context<Self>) {
        let affinity = client.affinity;
        self.next_number += 1;
        let number = self.next_number;
        let (progress, _) = watch::channel(LinkProgress::Starting);
        let client_of_slot = Arc::clone(&client);
        let slot = Slot { client: client_of_slot, progress, number, process: None, log_level, opened: None };
        self.slots.insert(affinity, slot);
        let reports = Reports { ended: ctx.address().recipient(), news: self.news.clone() };
        let attempt: Attempt = self.shared.attempt(number, client, reports);
        let own = ctx.address();
        tokio::task::spawn_local(async move {
            let outcome = attempt.run().await;
            if own.send(ConnectSettled { affinity, number, outcome }).await.is_err() {
                tracing::debug!("the upstream's actor ended while it connected");
            }
        });
    }

    fn shared_is_up(&self) -> bool {
        self.shared.facts().is_some()
    }

    /// Opens the shared connection unless it is there, under way, or has to wait.
    fn ensure_shared(&mut self, ctx: &Context<Self>) {
        if self.slots.contains_key(&Affinity::Shared) || self.shared_is_up() {
            return;
        }
        self.shared.set_state(State::Starting);
        self.begin(Arc::clone(&self.shared.own_client), None, ctx);
    }

    fn shared_failed(&mut self, error: &UpstreamError, ctx: &mut Context<Self>) {
        self.shared.forget_facts();
        let wait = self.backoff.next();
        let down = State::Down { why: error.to_string(), retry_after: wait };
        self.shared.set_state(if wait.is_zero() { State::Starting } else { down });
        tracing::warn!(upstream = %self.shared.settings.name, %error, retry_after = ?wait, "upstream is down");
        self.tell(NewsKind::Failed(error.to_string()));
        let refused = UpstreamError::Unavailable { why: error.to_string(), retry_after: Some(wait) };
        for waiting in std::mem::take(&mut self.waiting) {
            if let Some(slot) = self.slots.remove(&waiting.client.affinity) {
                slot.progress.send_replace(LinkProgress::Failed(refused.clone()));
            }
        }
        if wait.is_zero() {
            return self.ensure_shared(ctx);
        }
        ctx.run_later(wait, |actor, ctx| actor.ensure_shared(ctx));
    }

    fn shared_opened(&mut self, ctx: &Context<Self>) {
        self.shared.set_state(State::Ready);
        self.tell(NewsKind::Connected);
        for waiting in std::mem::take(&mut self.waiting) {
            let affinity = waiting.client.affinity;
            // The waiters watch the slot that was made for them; it becomes the attempt's own.
            let Some(parked) = self.slots.remove(&affinity) else { continue };
            self.begin(waiting.client, waiting.log_level, ctx);
            if let Some(slot) = self.slots.get_mut(&affinity) {
                slot.progress = parked.progress;
            }
        }
    }

    fn tell(&self, kind: NewsKind) {
        let news = UpstreamNews { upstream: self.shared.settings.name.clone(), kind };
        if self.news.try_send(news).is_err() {
            tracing::warn!(upstream = %self.shared.settings.name, "the catalogue took no news");
        }
    }

    fn close(&mut self, slot: Slot, why: &'static str) {
        let link = match &*slot.progress.borrow() {
            LinkProgress::Ready(link) => Some(Arc::clone(link)),
            _ => None,
        };
        slot.progress.send_replace(LinkProgress::Failed(UpstreamError::unavailable(why)));
        if let Some(link) = link {
            link.close(why);
            if let Wire::Http(_) = link.wire {
                tokio::task::spawn_local(async move {
                    if let Wire::Http(wire) = &link.wire {
                        wire.delete_session().await;
                    }
                });
            }
        }
    }

    /// Stops processes of sessions that went quiet (`idle_stop`); the shared one stays, it hears of list changes.
    fn stop_idle(&mut self) {
        let Some(limit) = self.shared.idle_stop() else { return };
        let idle = |slot: &Slot| match &*slot.progress.borrow() {
            LinkProgress::Ready(link) => link.idle_for().is_some_and(|idle| idle >= limit),
            _ => false,
        };
        let quiet: Vec<Affinity> = self
            .slots
            .iter()
            .filter(|(affinity, slot)| **affinity != Affinity::Shared && idle(slot))
            .map(|(affinity, _)| *affinity)
            .collect();
        for affinity in quiet {
            if let Some(slot) = self.slots.remove(&affinity) {
                self.shared.links.remove(&affinity);
                self.close(slot, "it was idle");
            }
        }
    }
}

/// How often quiet processes are looked for.
const IDLE_TICK: Duration = Duration::from_secs(5);

impl Actor for UpstreamActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        ctx.run_interval(IDLE_TICK, |actor, _| actor.stop_idle());
        self.ensure_shared(ctx);
    }
}

impl Drop for UpstreamActor {
    /// However the actor ends, by order or by panic, its connections end with it.
    fn drop(&mut self) {
        self.shared.links.clear();
        for (_, slot) in std::mem::take(&mut self.slots) {
            let progress =
                slot.progress.send_replace(LinkProgress::Failed(UpstreamError::lost("it was restarted")));
            if let LinkProgress::Ready(link) = progress {
                link.end("its supervisor restarts it");
            }
        }
    }
}

impl Handler<OpenLink> for UpstreamActor {
    type Result = MessageResult<OpenLink>;

    fn handle(&mut self, wanted: OpenLink, ctx: &mut Self::Context) -> Self::Result {
        let affinity = wanted.client.affinity;
        if let Some(slot) = self.slots.get(&affinity) {
            return MessageResult(slot.progress.subscribe());
        }
        if let State::Down { why, retry_after } = self.shared.state() {
            let refused = UpstreamError::Unavailable { why, retry_after: Some(retry_after) };
            return MessageResult(watch::channel(LinkProgress::Failed(refused)).1);
        }
        if affinity != Affinity::Shared && !self.shared_is_up() {
            let (progress, watched) = watch::channel(LinkProgress::Starting);
            let client = Arc::clone(&wanted.client);
            let slot = Slot { client, progress, number: 0, process: None, log_level: None, opened: None };
            self.slots.insert(affinity, slot);
            self.waiting.push(wanted);
            return MessageResult(watched);
        }
        self.begin(wanted.client, wanted.log_level, ctx);
        MessageResult(self.slots[&affinity].progress.subscribe())
    }
}

impl Handler<ConnectSettled> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, settled: ConnectSettled, ctx: &mut Self::Context) {
        let ConnectSettled { affinity, number, outcome } = settled;
        let outcome = match outcome {
            // It ended between its handshake and now.
            Ok(Connected::Link { link, .. }) if link.has_ended() => Err(link.lost()),
            outcome => outcome,
        };
        let ours = self.slots.get(&affinity).is_some_and(|slot| slot.number == number);
        match outcome {
            Ok(Connected::Link { link, .. }) if !ours => link.end("nobody wants it any longer"),
            _ if !ours => {}
            Ok(Connected::Stateless { facts }) => {
                self.shared.set_facts(facts);
                self.backoff.reset();
                self.slots.remove(&affinity);
                self.shared_opened(ctx);
            }
            Ok(Connected::Link { link, process }) => {
                self.link_opened(affinity, &link, process);
                if affinity == Affinity::Shared {
                    self.shared_opened(ctx);
                }
            }
            Err(error) => {
                if let Some(slot) = self.slots.remove(&affinity) {
                    slot.progress.send_replace(LinkProgress::Failed(error.clone()));
                }
                if affinity == Affinity::Shared {
                    self.shared_failed(&error, ctx);
                }
            }
        }
    }
}

impl UpstreamActor {
    fn link_opened(&mut self, affinity: Affinity, link: &Arc<Link>, process: Option<ProcessControl>) {
        if let (Affinity::Shared, Ok(facts)) = (affinity, link.facts()) {
            self.shared.set_facts(facts.clone());
            self.shared.set_process(process.clone());
        }
        let Some(slot) = self.slots.get_mut(&affinity) else { return };
        slot.process = process;
        slot.opened = Some(Instant::now());
        if let Some(level) = slot.log_level {
            link.set_level(level);
        }
        link.subscribe_again(self.shared.subscribed(affinity));
        self.shared.links.insert(affinity, Arc::clone(link));
        slot.progress.send_replace(LinkProgress::Ready(Arc::clone(link)));
    }
}

/// A connection that lasted this long was a good one: the next failure starts the back-off anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);

impl Handler<LinkEnded> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, ended: LinkEnded, ctx: &mut Self::Context) {
        if self.slots.get(&ended.affinity).is_none_or(|slot| slot.number != ended.number) {
            return;
        }
        // An attempt that is still under way tells its own end.
        if self.slots.get(&ended.affinity).is_some_and(|slot| slot.opened.is_none()) {
            return;
        }
        self.shared.links.remove(&ended.affinity);
        let Some(slot) = self.slots.remove(&ended.affinity) else { return };
        tracing::info!(upstream = %self.shared.settings.name, why = %ended.why, "connection ended");
        let lost = UpstreamError::lost(ended.why);
        slot.progress.send_replace(LinkProgress::Failed(lost.clone()));
        if slot.opened.is_some_and(|opened| opened.elapsed() >= GOOD_AFTER) {
            self.backoff.reset();
        }
        if ended.affinity == Affinity::Shared {
            self.shared_failed(&lost, ctx);
        } else if self.shared_is_up() && !self.shared.subscribed(ended.affinity).is_empty() {
            // Somebody waits for updates: the connection is needed before the next call.
            self.begin(slot.client, slot.log_level, ctx);
        }
    }
}

impl Handler<EraMistaken> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, _: EraMistaken, ctx: &mut Self::Context) {
        if self.shared.stateless_over_http() && !self.slots.contains_key(&Affinity::Shared) {
            self.shared.forget_facts();
            self.ensure_shared(ctx);
        }
    }
}

impl Handler<ReleaseLink> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, release: ReleaseLink, _: &mut Self::Context) {
        self.waiting.retain(|waiting| waiting.client.affinity != release.affinity);
        self.shared.links.remove(&release.affinity);
        self.shared.subscriptions.remove(&release.affinity);
        if let Some(slot) = self.slots.remove(&release.affinity) {
            self.close(slot, "its session ended");
        }
    }
}

impl Handler<Retire> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, retire: Retire, ctx: &mut Self::Context) {
        self.shared.set_state(State::Retired);
        self.shared.links.clear();
        let slots = std::mem::take(&mut self.slots);
        let processes: Vec<ProcessControl> = slots.values().filter_map(|slot| slot.process.clone()).collect();
        for (_, slot) in slots {
            self.close(slot, "the gateway stops");
        }
        tokio::task::spawn_local(async move {
            futures_util::future::join_all(processes.iter().map(ProcessControl::stop)).await;
            // The one who asked may have stopped waiting.
            let _ = retire.done.send(());
        });
        ctx.stop();
    }
}

#[cfg(debug_assertions)]
impl Handler<super::messages::PanicNow> for UpstreamActor {
    type Result = ();

    #[expect(clippy::panic, reason = "a failpoint of debug builds")]
    fn handle(&mut self, _: super::messages::PanicNow, _: &mut Self::Context) {
        panic!("failpoint in {}", self.shared.settings.name);
    }
}
