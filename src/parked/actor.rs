//! The actor of one call that waits for its client: runs the call, and tells [`State`] what happens.
//!
//! Always: at most one request is attached; when it leaves, the call is cancelled (F25); a call whose client does not come
//! back in time is cancelled, after its server was answered as if the client had been asked in vain (S-MRTR-10). However the
//! actor ends, its call ends with it. Not here: what a round is (`state`).

use std::time::Duration;

use actix::prelude::*;
use futures_util::stream;
use tokio::sync::oneshot;

use super::messages::Attach;
use super::registry::Place;
use super::running::{Happening, Running};
use super::state::{Next, Reply, State};
use crate::dispatch::Outcome;
use crate::upstream::call::{CallEvent, EventSink};

/// Between the answers that nobody gave and the end of the call: they are to arrive first.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How long a call waits for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For its client to come back.
    pub(super) input: Duration,
    /// For further questions after one.
    pub(super) gather: Duration,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct ParkedCall {
    state: State,
    patience: Patience,
    place: Place,
    attached: Option<Attached>,
    /// Requests so far.
    requests: u64,
    /// The newest progress that nobody was told.
    progress: Option<CallEvent>,
    gathering: Option<SpawnHandle>,
    expiry: Option<SpawnHandle>,
    has_expired: bool,
    /// Whether it ended as a task, which goes on asking.
    became_task: bool,
}

/// A request that waits.
#[derive(Debug)]
struct Attached {
    number: u64,
    reply: oneshot::Sender<Reply>,
    sink: Option<EventSink>,
}

impl ParkedCall {
    /// Takes over a call that asks something, on this thread.
    pub(super) fn start(running: Running, state: State, place: Place, patience: Patience) -> Addr<Self> {
        ParkedCall::create(|ctx| {
            let happenings = stream::unfold(running, |mut running| async move {
                if running.is_over() {
                    return None;
                }
                let happening = running.next().await;
                Some((happening, running))
            });
            ctx.add_stream(happenings);
            ParkedCall {
                state,
                patience,
                place,
                attached: None,
                requests: 0,
                progress: None,
                gathering: None,
                expiry: None,
                has_expired: false,
                became_task: false,
            }
        })
    }

    /// Tells the request that waits, if one does. A call that has nothing more to tell is over.
    fn tell(&mut self, reply: Reply, ctx: &mut Context<Self>) {
        let goes_on = matches!(reply, Reply::Asks(_) | Reply::Malformed(_));
        let Some(attached) = self.attached.take() else { return };
        let is_heard = attached.reply.send(reply).is_ok();
        match goes_on && is_heard {
            true => self.await_client(ctx),
            false => ctx.stop(),
        }
    }

    fn await_client(&mut self, ctx: &mut Context<Self>) {
        self.stop_waiting(ctx);
        self.expiry = Some(ctx.run_later(self.patience.input, Self::expire));
    }

    fn stop_waiting(&mut self, ctx: &mut Context<Self>) {
        for timer in [self.expiry.take(), self.gathering.take()].into_iter().flatten() {
            ctx.cancel_future(timer);
        }
    }

    fn expire(&mut self, ctx: &mut Context<Self>) {
        self.has_expired = true;
        self.place.expire();
        self.state.give_up();
        ctx.run_later(LAST_WORDS, |_, ctx| ctx.stop());
    }

    /// Once more has been asked, or had its time.
    fn gathered(&mut self, ctx: &mut Context<Self>) {
        self.gathering = None;
        if self.attached.is_some()
            && let Some(reply) = self.state.begin_round()
        {
            self.tell(reply, ctx);
        }
    }

    /// A request waits while something is asked.
    fn gather(&mut self, ctx: &mut Context<Self>) {
        if self.attached.is_some() && self.gathering.is_none() && self.state.asks() {
            self.gathering = Some(ctx.run_later(self.patience.gather, Self::gathered));
        }
    }

    fn told(&mut self, event: CallEvent) {
        match self.attached.as_ref().map(|attached| &attached.sink) {
            // Nobody reads it when the client wants no stream.
            Some(sink) => drop(sink.as_ref().map(|sink| sink.push(event))),
            None if matches!(event, CallEvent::Progress(_)) => self.progress = Some(event),
            None => {}
        }
    }
}

impl Drop for ParkedCall {
    /// Nobody can answer any longer.
    fn drop(&mut self) {
        if !self.became_task {
            self.state.give_up();
        }
    }
}

impl Actor for ParkedCall {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.await_client(ctx);
    }
}

impl StreamHandler<Happening> for ParkedCall {
    fn handle(&mut self, happening: Happening, ctx: &mut Self::Context) {
        self.became_task = matches!(happening, Happening::Ended(Ok(Outcome::Task(_))));
        match happening {
            Happening::Told(event) => self.told(event),
            Happening::Asked => self.gather(ctx),
            Happening::Ended(ended) if self.attached.is_some() => self.tell(Reply::Ended(ended), ctx),
            Happening::Ended(ended) => self.state.keep(ended),
        }
    }

    /// A call that is over stays until its end is fetched.
    fn finished(&mut self, _: &mut Self::Context) {}
}

impl Handler<Attach> for ParkedCall {
    type Result = ();

    fn handle(&mut self, attach: Attach, ctx: &mut Self::Context) {
        let Attach { round, responses, sink, reply, left } = attach;
        if self.has_expired {
            let _ = reply.send(Reply::Expired);
            return;
        }
        let next = self.state.answered(round, responses.as_ref());
        if let Some(former) = self.attached.take() {
            let _ = former.reply.send(Reply::TakenOver);
        }
        self.stop_waiting(ctx);
        self.requests += 1;
        let number = self.requests;
        let progress = sink.as_ref().and_then(|sink| Some((sink, self.progress.take()?)));
        if let Some((sink, progress)) = progress {
            let _ = sink.push(progress);
        }
        self.attached = Some(Attached { number, reply, sink });
        match next {
            Next::Tell(reply) => self.tell(reply, ctx),
            Next::Wait => {
                ctx.spawn(left.cancelled_owned().into_actor(self).map(move |(), actor, ctx| {
                    if actor.attached.as_ref().is_some_and(|attached| attached.number == number) {
                        ctx.stop();
                    }
                }));
                self.gather(ctx);
            }
        }
    }
}
