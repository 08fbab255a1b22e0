//! The actor of one session: a thin shell over [`State`].

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;

use super::handle::Session;
use super::messages::{
    CallCancelled, ClientAnswered, ClientProgressed, ClientReady, EndSession, ListsChanged, OpenStream,
    RequireUrls, Settle, StopFollowing, StreamTaken, Subscribed, TaskChanged, Unsubscribed,
};
use super::state::State;
use super::stream::StreamReader;
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient, WithdrawQuestion};

/// Between an error that names pages and word of what became of them meanwhile.
const AFTER_ERROR: Duration = Duration::from_millis(100);

pub(super) struct SessionActor {
    pub(super) session: Arc<Session>,
    pub(super) state: State,
}

/// Where a session's messages go.
pub(super) type SessionAddress = Addr<SessionActor>;

impl SessionActor {
    /// After every message, whatever it was: changes of lists are told even when word of them found the mailbox full.
    fn publish(&mut self) {
        self.state.tell_changes();
        self.session.observed(self.state.open_questions(), self.state.subscriptions());
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;
}

impl Drop for SessionActor {
    /// By order or by panic: whatever ends the actor ends the session.
    fn drop(&mut self) {
        self.session.ended();
    }
}

impl Handler<ClientReady> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: ClientReady, _: &mut Self::Context) {
        self.state.client_is_ready();
    }
}

impl Handler<AskClient> for SessionActor {
    type Result = Result<Question, QuestionRefused>;

    fn handle(&mut self, asked: AskClient, _: &mut Self::Context) -> Self::Result {
        let question = self.state.ask(&asked);
        self.publish();
        question
    }
}

impl Handler<Settle> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Settle, _: &mut Self::Context) {}
}

impl Handler<WithdrawQuestion> for SessionActor {
    type Result = ();

    fn handle(&mut self, withdrawn: WithdrawQuestion, _: &mut Self::Context) {
        self.state.withdraw(withdrawn.number);
        self.publish();
    }
}

impl Handler<TellClient> for SessionActor {
    type Result = ();

    fn handle(&mut self, news: TellClient, _: &mut Self::Context) {
        self.state.tell(&news, self.session.log_level());
        self.publish();
    }
}

impl Handler<ClientAnswered> for SessionActor {
    type Result = ();

    fn handle(&mut self, answered: ClientAnswered, _: &mut Self::Context) {
        self.state.answered(answered.number, answered.answer);
        self.publish();
    }
}

impl Handler<CallCancelled> for SessionActor {
    type Result = ();

    fn handle(&mut self, cancelled: CallCancelled, _: &mut Self::Context) {
        self.state.withdraw_all_on(&cancelled.stream);
        self.publish();
    }
}

impl Handler<ClientProgressed> for SessionActor {
    type Result = ();

    fn handle(&mut self, progressed: ClientProgressed, _: &mut Self::Context) {
        self.state.questions().progressed(progressed.params);
        self.publish();
    }
}

impl Handler<RequireUrls> for SessionActor {
    type Result = Option<Bytes>;

    fn handle(&mut self, required: RequireUrls, context: &mut Self::Context) -> Self::Result {
        let error = self.state.questions().urls_required(&required);
        // The client learns of the pages from the error, which is not on its way yet.
        context.run_later(AFTER_ERROR, move |actor, _| {
            actor.state.tell_early(&required.upstream);
            actor.publish();
        });
        self.publish();
        error
    }
}

impl Handler<OpenStream> for SessionActor {
    type Result = Result<StreamReader, StreamTaken>;

    fn handle(&mut self, open: OpenStream, _: &mut Self::Context) -> Self::Result {
        self.state.open_stream(open.resume)
    }
}

impl Handler<Subscribed> for SessionActor {
    type Result = bool;

    fn handle(&mut self, subscribed: Subscribed, _: &mut Self::Context) -> Self::Result {
        let is_new = self.state.subscribe(subscribed.public, subscribed.local, subscribed.upstream);
        self.publish();
        is_new
    }
}

impl Handler<StopFollowing> for SessionActor {
    type Result = MessageResult<StopFollowing>;

    fn handle(&mut self, stop: StopFollowing, _: &mut Self::Context) -> Self::Result {
        let stopped = self.state.stop_following(&stop.public, stop.otherwise);
        self.publish();
        MessageResult(stopped)
    }
}

impl Handler<Unsubscribed> for SessionActor {
    type Result = ();

    fn handle(&mut self, unsubscribed: Unsubscribed, _: &mut Self::Context) {
        self.state.unsubscribe(&unsubscribed.public);
        self.publish();
    }
}

impl Handler<ListsChanged> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: ListsChanged, _: &mut Self::Context) {
        self.publish();
    }
}

impl Handler<TaskChanged> for SessionActor {
    type Result = ();

    fn handle(&mut self, changed: TaskChanged, _: &mut Self::Context) {
        self.state.task_changed(&changed);
        self.publish();
    }
}

impl Handler<EndSession> for SessionActor {
    type Result = ();

    fn handle(&mut self, end: EndSession, ctx: &mut Self::Context) {
        tracing::debug!(session = ?self.session.id, why = end.why, "session ends");
        ctx.stop();
    }
}

#[cfg(debug_assertions)]
impl Handler<super::messages::PanicNow> for SessionActor {
    type Result = ();

    #[expect(clippy::panic, reason = "a failpoint of debug builds")]
    fn handle(&mut self, _: super::messages::PanicNow, _: &mut Self::Context) {
        panic!("failpoint in {:?}", self.session.id);
    }
}
