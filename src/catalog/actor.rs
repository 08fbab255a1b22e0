//! The catalogue's one writer: the shell that gives [`CatalogueState`] its time and its voice.
//!
//! Always: a snapshot is current before anyone is told of it (S-LIST-03), and one burst of news is told once (S-LIST-02).
//! Readers never come here.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Recipient, dev::SendError};

use super::handle::Published;
use super::messages::{CatalogueChanged, ListsFetched, ListsRevoked, ShowNow, UpstreamLost};
use super::snapshot::Snapshot;
use super::state::{CatalogueState, Urgency};

/// News that may queue up while a snapshot is built.
pub(super) const MAILBOX: usize = 256;

pub(super) struct CatalogueActor {
    pub(super) state: CatalogueState,
    pub(super) published: Arc<Published>,
    pub(super) changed: Recipient<CatalogueChanged>,
    /// `bounds.change_debounce`
    pub(super) debounce: Duration,
    /// How long a lost upstream's lists are still shown.
    pub(super) keep_lost: Duration,
    pub(super) tick_is_due: bool,
    /// There is news that no snapshot shows.
    pub(super) unseen: bool,
}

impl Actor for CatalogueActor {
    type Context = Context<Self>;
}

impl CatalogueActor {
    fn react(&mut self, urgency: Urgency, context: &mut Context<Self>) {
        if urgency == Urgency::None {
            return;
        }
        self.unseen = true;
        if urgency == Urgency::Now {
            self.current_snapshot();
        }
        self.tick_later(context);
    }

    /// The published snapshot, made anew if there is news.
    fn current_snapshot(&mut self) -> Arc<Snapshot> {
        if std::mem::take(&mut self.unseen) {
            return self.published.publish(self.state.snapshot());
        }
        self.published.current()
    }

    /// The first news of a burst sets the clock; what follows rides along, so the delay is bounded.
    fn tick_later(&mut self, context: &mut Context<Self>) {
        if !std::mem::replace(&mut self.tick_is_due, true) {
            context.run_later(self.debounce, CatalogueActor::burst_tick);
        }
    }

    fn burst_tick(&mut self, context: &mut Context<Self>) {
        self.tick_is_due = false;
        let snapshot = self.current_snapshot();
        let views = self.state.untold(&snapshot);
        if views.is_empty() {
            return;
        }
        match self.changed.try_send(CatalogueChanged { views }) {
            Ok(()) => self.state.was_told(&snapshot),
            // What stays untold goes out with the next tick, together with whatever changes until then.
            Err(SendError::Full(_)) => self.tick_later(context),
            Err(SendError::Closed(_)) => tracing::debug!("nobody is left to tell of list changes"),
        }
    }
}

impl Handler<ListsFetched> for CatalogueActor {
    type Result = ();

    fn handle(&mut self, news: ListsFetched, context: &mut Context<Self>) {
        let urgency = self.state.lists_fetched(&news.upstream, news.lists);
        // Before anything is shown: what was shown until now is as good as the news say.
        self.state.set_clocks(&self.published.current());
        self.react(urgency, context);
    }
}

impl Handler<ListsRevoked> for CatalogueActor {
    type Result = ();

    fn handle(&mut self, revoked: ListsRevoked, _: &mut Context<Self>) {
        self.state.revoke(&revoked.upstream, revoked.kinds, revoked.at);
        self.state.set_clocks(&self.published.current());
    }
}

impl Handler<ShowNow> for CatalogueActor {
    type Result = ();

    fn handle(&mut self, _: ShowNow, _: &mut Context<Self>) {
        self.current_snapshot();
    }
}

impl Handler<UpstreamLost> for CatalogueActor {
    type Result = ();

    fn handle(&mut self, news: UpstreamLost, context: &mut Context<Self>) {
        let (urgency, loss) = self.state.upstream_lost(&news.upstream);
        self.state.set_clocks(&self.published.current());
        self.react(urgency, context);
        if let Some(loss) = loss {
            context.run_later(self.keep_lost, move |actor, context| {
                let urgency = actor.state.forget(&news.upstream, loss);
                actor.react(urgency, context);
            });
        }
    }
}
