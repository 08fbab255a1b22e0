//! The actor of one configured upstream: does what [`Connections`] decides, and tells it what came of it.
//!
//! Owns the upstream's mailbox, timers and tasks. Always: however it ends, its connections end with it. Not here: calls,
//! which go over the links without passing any mailbox.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Affinity, Client};
use super::connect::Connected;
use super::connections::{Connections, Effect, Opened};
use super::error::UpstreamError;
use super::follow::{let_go, renew};
use super::link::{Link, Reports};
use super::listens::{Telling, run};
use super::messages::{
    ConnectSettled, EraMistaken, LinkDoubted, LinkEnded, NewsKind, OpenLink, ReleaseLink, Retire,
    SubscriptionAbandoned, TakeUp, UpstreamNews,
};
use super::pings;
use super::shared::{Shared, State};
use crate::protocol::era::Era;

/// Built anew after each end: nothing of a failed one is kept but what [`Shared`] holds.
pub(super) struct UpstreamActor {
    shared: Arc<Shared>,
    news: Recipient<UpstreamNews>,
    connections: Connections<Arc<Link>>,
    /// What carries out how a stateless upstream is listened to.
    listening: Option<AbortHandle>,
    /// Dropped with the actor: how its supervisor learns of its end.
    _alive: oneshot::Sender<()>,
}

/// How often is looked for what nobody told, at least.
const TICK: Duration = Duration::from_secs(5);

/// Longest wait for a stateless upstream to be listened to before its lists are fetched.
const LISTENS_WITHIN: Duration = Duration::from_millis(250);

/// After this long without calls, what single calls wanted of the shared connection is over.
const QUIET: Duration = Duration::from_secs(10);

/// Often enough that what is idle is stopped not much later than it should be.
fn tick_period(idle_stop: Option<Duration>) -> Duration {
    idle_stop.map_or(TICK, |limit| (limit / 4).clamp(Duration::from_millis(100), TICK))
}

/// How long a retiring upstream's farewells may take besides the staged stop of its processes.
const FAREWELLS: Duration = Duration::from_secs(3);

impl UpstreamActor {
    pub(super) fn new(
        shared: Arc<Shared>,
        news: Recipient<UpstreamNews>,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let waits = (shared.bounds.backoff_first, shared.bounds.backoff_longest);
        let subscriptions = Arc::clone(&shared.subscriptions);
        let connections = Connections::new(Arc::clone(&shared.own_client), subscriptions, waits);
        UpstreamActor { shared, news, connections, listening: None, _alive: alive }
    }

    fn telling(&self, ctx: &Context<Self>) -> Telling {
        Telling {
            upstream: self.shared.settings.name.clone(),
            changes: Arc::clone(&self.shared.changes),
            news: self.news.clone(),
            followers: Arc::clone(&self.shared.subscriptions),
            era: ctx.address().recipient(),
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect<Arc<Link>>>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Attempt { client, number, abandoned } => self.attempt(client, number, abandoned, ctx),
                Effect::Use { affinity, link } => self.link_opened(affinity, link),
                Effect::Forget(affinity) => {
                    self.shared.forget_link(affinity);
                    self.note_rest(affinity);
                }
                Effect::Close { link, why } => link.close(why),
                Effect::WakeAfter { affinity, wait } => {
                    ctx.run_later(wait, move |actor, ctx| {
                        let effects = actor.connections.due(affinity, Instant::now());
                        actor.carry_out(effects, ctx);
                    });
                }
                Effect::Up => {
                    // What it told while it was away is not known.
                    self.shared.reads.revoke_all(&self.shared.settings.name);
                    self.shared.set_state(State::Ready);
                    self.listen_before_listing();
                }
                Effect::Asleep => {
                    self.shared.listen.down();
                    self.shared.set_process(None);
                    self.shared.set_state(State::Idle);
                }
                Effect::Doubted => {
                    self.shared.forget_facts();
                    self.shared.set_state(State::Starting);
                }
                Effect::Down { error, wait } => self.went_down(&error, wait),
            }
        }
    }

    /// Calls that may have another connection are not to wait for this one.
    fn note_rest(&self, affinity: Affinity) {
        if let (Affinity::Pooled(_), Some(until)) = (affinity, self.connections.rests_until(affinity)) {
            self.shared.pool.rests(affinity, until);
        }
    }

    fn reports(&self, ctx: &Context<Self>) -> Reports {
        Reports {
            ended: ctx.address().recipient(),
            doubted: ctx.address().recipient(),
            news: self.news.clone(),
            changes: Arc::clone(&self.shared.changes),
            followers: Arc::clone(&self.shared.subscriptions),
            listen: Arc::clone(&self.shared.listen),
        }
    }

    fn attempt(&self, client: Arc<Client>, number: u64, abandoned: CancellationToken, ctx: &Context<Self>) {
        let affinity = client.affinity;
        let attempt = self.shared.attempt(number, client, self.reports(ctx));
        let own = ctx.address();
        self.shared.errands.spawn_local(async move {
            let outcome = attempt.run(abandoned).await;
            let link = outcome.as_ref().ok().and_then(Connected::link).cloned();
            if own.send(ConnectSettled { affinity, number, outcome }).await.is_err()
                && let Some(link) = link
            {
                link.end("its supervisor ended while it was opened");
            }
        });
    }

    fn link_opened(&self, affinity: Affinity, link: Arc<Link>) {
        link.settle_level(self.shared.users.level(affinity));
        if link.facts().is_ok_and(|facts| facts.revision.era() == Era::Handshake) {
            let waits = (self.shared.bounds.backoff_first, self.shared.bounds.backoff_longest);
            renew(&link, &self.shared.subscriptions, waits);
        }
        self.shared.links.insert(affinity, link);
    }

    /// A stateless upstream is listened to before its lists are fetched, so that no change falls in between; one that
    /// takes its time over that is fetched from at once, and once more when it is heard.
    fn listen_before_listing(&self) {
        let Some((way, facts)) = self.shared.way_to_listen() else {
            self.shared.listen.down();
            return tell(&self.shared, &self.news, NewsKind::Connected);
        };
        let (shared, news) = (Arc::clone(&self.shared), self.news.clone());
        // Sessions of the handshake era had connections of their own while the upstream was of it.
        shared.subscriptions.gather(&shared.own_client);
        shared.listen.up(way, &facts, &shared.subscriptions.of(Affinity::Shared));
        tokio::task::spawn_local(async move {
            // Settled may as well be that it failed.
            let _ = tokio::time::timeout(LISTENS_WITHIN, shared.listen.until_settled()).await;
            shared.listen.owe_lists();
            tell(&shared, &news, NewsKind::Connected);
        });
    }

    fn went_down(&self, error: &UpstreamError, wait: Duration) {
        self.shared.forget_facts();
        let down = State::Down { why: error.to_string(), retry_after: wait };
        self.shared.set_state(if wait.is_zero() { State::Starting } else { down });
        tracing::warn!(upstream = %self.shared.settings.name, %error, retry_after = ?wait, "upstream is down");
        self.shared.listen.down();
        tell(&self.shared, &self.news, NewsKind::Failed(error.to_string()));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        for client in self.shared.users.ended().into_iter().chain(self.shared.subscriptions.ended()) {
            self.release(client, ctx);
        }
        // Callers without a session want a level for one call only.
        let has_such_callers = |link: &Arc<Link>| link.affinity() == Affinity::Shared || link.is_pooled();
        for link in self.shared.open_links().into_iter().filter(has_such_callers) {
            if link.idle_for() >= QUIET {
                link.settle_level(self.shared.users.level(link.affinity()));
            }
        }
        let shared = &self.shared;
        let effects = self.connections.tick(|affinity| shared.idle_stop_of(affinity), Instant::now());
        self.carry_out(effects, ctx);
        self.shared.pool.tidy(|affinity| self.connections.knows(affinity));
    }

    /// A client is gone: what was its own is closed, and of what it shared nothing is kept that was for it alone.
    fn release(&mut self, client: Affinity, ctx: &mut Context<Self>) {
        self.shared.links.remove(&client);
        let abandoned = self.shared.subscriptions.leave(client).into_iter();
        let (over_shared, over_its_own): (Vec<_>, Vec<_>) =
            abandoned.partition(|(connection, _)| connection.affinity == Affinity::Shared);
        let left = self.shared.users.leave(client);
        let connection = left.as_ref().map_or(client, |left| left.connection);
        if !over_shared.is_empty() || connection == Affinity::Shared {
            self.adjust(Affinity::Shared, over_shared.into_iter().map(|(_, uri)| uri).collect());
        }
        if connection == Affinity::Shared || matches!(client, Affinity::Listen(_)) {
            return;
        }
        if left.is_some_and(|left| !left.was_last) {
            return self.adjust(connection, over_its_own.into_iter().map(|(_, uri)| uri).collect());
        }
        self.shared.subscriptions.forget(connection);
        let effects = self.connections.release(connection, "its session ended");
        self.carry_out(effects, ctx);
    }

    /// Those who are left on a connection may need less of it.
    fn adjust(&self, connection: Affinity, abandoned: Vec<String>) {
        let link = self.shared.open_link(connection);
        if let Some(link) = &link {
            link.settle_level(self.shared.users.level(connection));
        }
        let is_handshake =
            |link: &Arc<Link>| link.facts().is_ok_and(|facts| facts.revision.era() == Era::Handshake);
        match link.filter(is_handshake) {
            Some(link) => let_go(&link, &self.shared.subscriptions, abandoned),
            None => abandoned.iter().for_each(|uri| self.shared.stop_listening_to(connection, uri)),
        }
    }

    /// The links that were silent longest come first, and as many at once as disturb nobody (S-LIFE-11).
    fn ping_idle_links(&mut self, _: &mut Context<Self>) {
        let every = self.shared.bounds.ping_every;
        let links = self.shared.open_links().into_iter();
        let mut due: Vec<_> = links.filter_map(|link| Some((link.ping_overdue(every)?, link))).collect();
        due.sort_unstable_by_key(|(overdue, _)| std::cmp::Reverse(*overdue));
        for (_, link) in due.into_iter().take(pings::AT_ONCE) {
            tokio::task::spawn_local(async move { link.ping(every).await });
        }
    }

    /// Known before anybody is told that the shared connection is open.
    fn note_facts(&self, connected: &Connected) {
        match connected {
            Connected::Stateless { facts } => {
                self.shared.set_over_sse(false);
                self.shared.set_facts(facts.clone());
            }
            Connected::Link(link) => {
                // In this order: whoever knows the era knows the transport.
                self.shared.set_over_sse(link.is_over_sse());
                if let Ok(facts) = link.facts() {
                    self.shared.set_facts(facts.clone());
                }
                self.shared.set_process(link.process().cloned());
            }
        }
    }
}

/// Tells the catalogue.
fn tell(shared: &Shared, recipient: &Recipient<UpstreamNews>, kind: NewsKind) {
    let news = UpstreamNews { upstream: shared.settings.name.clone(), kind };
    match recipient.try_send(news) {
        // Its lists would never be fetched.
        Err(SendError::Full(news @ UpstreamNews { kind: NewsKind::Connected, .. })) => {
            let telling = recipient.send(news);
            tokio::task::spawn_local(async move {
                if telling.await.is_err() {
                    tracing::debug!("an upstream was connected for a catalogue that has stopped");
                }
            });
        }
        Err(_) => tracing::warn!(upstream = %shared.settings.name, "the catalogue took no news"),
        Ok(()) => {}
    }
}

impl Actor for UpstreamActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        let shortest_idleness = self.shared.idle_stop_of(Affinity::Pooled(0));
        ctx.run_interval(tick_period(shortest_idleness), Self::tick);
        ctx.run_interval(pings::tick(self.shared.bounds.ping_every), Self::ping_idle_links);
        self.shared.set_state(State::Starting);
        let listening = run(Arc::clone(&self.shared.listen), self.telling(ctx));
        self.listening = Some(tokio::task::spawn_local(listening).abort_handle());
        let effects = self.connections.start(Instant::now());
        self.carry_out(effects, ctx);
    }
}

impl Drop for UpstreamActor {
    /// However the actor ends, by order or by panic, its connections end with it.
    fn drop(&mut self) {
        const WHY: &str = "its supervisor restarts it";
        self.shared.listen.down();
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
        self.shared.links.clear();
        for effect in self.connections.close_all(&UpstreamError::lost(WHY), WHY) {
            if let Effect::Close { link, why } = effect {
                link.end(why);
            }
        }
    }
}

impl Handler<OpenLink> for UpstreamActor {
    type Result = MessageResult<OpenLink>;

    fn handle(&mut self, wanted: OpenLink, ctx: &mut Self::Context) -> Self::Result {
        let (progress, effects) = self.connections.open(&wanted.client, Instant::now());
        self.carry_out(effects, ctx);
        MessageResult(progress)
    }
}

impl Handler<ConnectSettled> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, settled: ConnectSettled, ctx: &mut Self::Context) {
        let ConnectSettled { affinity, number, outcome } = settled;
        let now = Instant::now();
        let mut era_changed = false;
        let outcome = match outcome {
            Ok(connected) => {
                if affinity == Affinity::Shared && self.connections.awaits(affinity, number) {
                    self.note_facts(&connected);
                }
                Ok(match connected {
                    Connected::Link(link) => Opened::Link(link),
                    Connected::Stateless { .. } => Opened::Stateless,
                })
            }
            Err(failed) => {
                era_changed = failed.era_changed;
                Err(failed.error)
            }
        };
        let mut effects = self.connections.settled(affinity, number, outcome, now);
        if era_changed {
            effects.extend(self.connections.era_mistaken(Era::Handshake, now));
        }
        self.note_rest(affinity);
        self.carry_out(effects, ctx);
    }
}

impl Handler<TakeUp> for UpstreamActor {
    type Result = MessageResult<TakeUp>;

    fn handle(&mut self, take_up: TakeUp, ctx: &mut Self::Context) -> Self::Result {
        let TakeUp { client, session, revision, id } = take_up;
        let is_of_it = |link: &&Arc<Link>| !link.has_ended() && link.is_in_session(&session);
        let link = match self.connections.outliving().iter().find(is_of_it) {
            Some(link) => Some(Arc::clone(link)),
            None => {
                let number = self.connections.next_number();
                let attempt = self.shared.attempt(number, Arc::clone(&client), self.reports(ctx));
                let known = self.shared.known_facts();
                let link = known.and_then(|known| attempt.take_up(&session, revision, &known));
                link.filter(|link| {
                    let is_kept = self.connections.keep_for_tasks(Arc::clone(link));
                    if !is_kept {
                        link.end("there is no room for another connection of tasks");
                    }
                    is_kept
                })
            }
        };
        // Entered before the next look for links without tasks.
        MessageResult(link.map(|link| {
            let entered = link.tasks.enter(&id, link.caller_of(&client));
            (link, entered)
        }))
    }
}

impl Handler<LinkEnded> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, ended: LinkEnded, ctx: &mut Self::Context) {
        let effects = self.connections.ended(ended.affinity, ended.number, Instant::now());
        self.carry_out(effects, ctx);
    }
}

impl Handler<LinkDoubted> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, doubted: LinkDoubted, ctx: &mut Self::Context) {
        let effects = self.connections.doubted(doubted.affinity, doubted.number, Instant::now());
        if !effects.is_empty() {
            tracing::info!(
                upstream = %self.shared.settings.name,
                "calls go over a new connection: on the old one nobody can tell whom its questions are for"
            );
        }
        self.carry_out(effects, ctx);
    }
}

impl Handler<EraMistaken> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, mistaken: EraMistaken, ctx: &mut Self::Context) {
        let effects = self.connections.era_mistaken(mistaken.believed, Instant::now());
        self.carry_out(effects, ctx);
    }
}

impl Handler<SubscriptionAbandoned> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, abandoned: SubscriptionAbandoned, _: &mut Self::Context) {
        self.adjust(abandoned.connection, vec![abandoned.uri]);
    }
}

impl Handler<ReleaseLink> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, release: ReleaseLink, ctx: &mut Self::Context) {
        self.release(release.affinity, ctx);
    }
}

impl Handler<Retire> for UpstreamActor {
    type Result = ();

    fn handle(&mut self, retire: Retire, ctx: &mut Self::Context) {
        const WHY: &str = "the gateway stops";
        self.shared.set_state(State::Retired);
        let effects = self.connections.close_all(&UpstreamError::unavailable(WHY), WHY);
        self.carry_out(effects, ctx);
        let (errands, bounds) = (self.shared.errands.clone(), &self.shared.bounds);
        let limit = bounds.stop_eof + bounds.stop_term + FAREWELLS;
        errands.close();
        tokio::task::spawn_local(async move {
            if tokio::time::timeout(limit, errands.wait()).await.is_err() {
                tracing::warn!(left = errands.len(), "an upstream did not end in time");
            }
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
