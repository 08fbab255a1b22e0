//! The way of one call: to the right connection or none, within its deadline, and once.
//!
//! Always: a call that was not sent says so when its time is over; only one that was surely not looked at is sent again.
//! Not here: opening connections (`connections`), writing calls down (`encode`), what clients see.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::call::{Activity, Affinity, Client, UpstreamCall};
use super::connect::Address;
use super::era_check::{doubts_handshake, doubts_stateless};
use super::error::UpstreamError;
use super::handle::UpstreamHandle;
use super::input::{InputRequired, Reply};
use super::link::Link;
use super::messages::{EraMistaken, LinkDoubted, ReleaseLink};
use super::negotiation::{self, Settled, settle, settle_answer};
use super::pool::Standing;
use super::stateless::StatelessHttp;
use crate::policy::Permit;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object, quote, string};
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;

/// Longest wait for an upstream that is asked what era it is of.
const ERA_CHECK: Duration = Duration::from_secs(1);

impl UpstreamHandle {
    /// Makes a call and waits for its answer, at most as long as the server's deadline allows.
    ///
    /// Dropping the future cancels the call upstream. The reply is the upstream's own, with names and URIs as it wrote
    /// them; a result of a type that was not offered is an error.
    pub async fn forward(&self, permit: Permit, call: &UpstreamCall<'_>) -> Result<Reply, UpstreamError> {
        debug_assert_eq!(permit.upstream(), self.name(), "a permit is for one upstream");
        let (quiet, maximum) = (self.shared.settings.timeout, self.shared.bounds.call_maximum);
        let sent = AtomicBool::new(false);
        let moves = call.circumstances.progress || call.circumstances.client.can_be_asked();
        let activity = moves.then(|| Arc::new(Activity::starting_now()));
        let expiry = async {
            match &activity {
                Some(activity) => activity.expired(quiet, maximum).await,
                None => tokio::time::sleep(quiet.min(maximum)).await,
            }
        };
        tokio::select! {
            biased;
            answer = self.route_whoever_ends(call, &activity, &sent) => answer,
            () = expiry => Err(match sent.load(Ordering::Relaxed) {
                true => UpstreamError::Timeout(quiet.min(maximum)),
                false => UpstreamError::unavailable("it is still being connected"),
            }),
        }
    }

    /// As `route`; a task outlives its session, even if that ends while its connection is being opened.
    async fn route_whoever_ends(
        &self,
        call: &UpstreamCall<'_>,
        activity: &Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Reply, UpstreamError> {
        let client = &call.circumstances.client;
        let had_session = client.task_of.is_some() && !client.has_lost_its_session();
        let answered = self.route(call, activity.clone(), sent).await;
        if let Err(UpstreamError::Unavailable { .. }) = &answered
            && had_session
            && client.has_lost_its_session()
            && !sent.load(Ordering::Relaxed)
        {
            return Box::pin(self.route(call, activity.clone(), sent)).await;
        }
        answered
    }

    async fn route(
        &self,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Reply, UpstreamError> {
        #[cfg(debug_assertions)]
        if self.shared.panic_at.as_deref() == Some(call.method.name()) {
            let _ = self.actor()?.send(super::messages::PanicNow).await;
            return Err(UpstreamError::lost("its actor failed"));
        }
        let revision = match self.shared.facts() {
            Some(facts) => facts.revision,
            None => self.revision_for(call.circumstances.client.affinity).await?,
        };
        if revision.era() == Era::Handshake
            && call.circumstances.input.as_ref().is_some_and(|input| input.state.is_some())
        {
            // What it asked in another era it knows nothing of: the call would begin anew, which is not for us to decide.
            return Err(UpstreamError::unavailable(
                "it has changed, and knows nothing of what it asked before",
            ));
        }
        let affinity = self.shared.affinity_for(&call.circumstances.client, revision);
        if call.circumstances.task.is_some()
            && let Some(dialect) = self.may_become_task(call, revision)
        {
            // Rare, and on the heap so that not every call carries the room for it.
            return Box::pin(self.call_for_task((dialect, revision), call, activity, sent)).await;
        }
        let answer = match (&self.shared.address, revision.era()) {
            (_, Era::Stateless) if call.method == Method::Subscribe => {
                Box::pin(self.subscribe_by_listening(call)).await?
            }
            (_, Era::Stateless) if call.method == Method::Unsubscribe => {
                Box::pin(self.unsubscribe_by_listening(call)).await
            }
            (Address::Http { stateless, .. }, Era::Stateless) => {
                sent.store(true, Ordering::Relaxed);
                self.call_stateless(stateless, revision, call, activity.as_deref()).await?
            }
            _ => match call.method {
                Method::Subscribe => Box::pin(self.subscribe(affinity, call, sent)).await?,
                Method::Unsubscribe => Box::pin(self.unsubscribe(affinity, call, sent)).await?,
                _ if revision.era() == Era::Stateless => {
                    self.call_stateless_on_pipe(affinity, revision, call, activity, sent).await?
                }
                _ => match self.shared.pool.set_for(call) {
                    Some(set) => Box::pin(self.call_on_pooled(set, call, activity, sent)).await?,
                    None => {
                        let client = &call.circumstances.client;
                        self.call_on_link((affinity, client), call, activity, sent).await?
                    }
                },
            },
        };
        match revision.era() {
            Era::Stateless => read(answer, call.method),
            Era::Handshake => Ok(Reply::Final(of_handshake_era(answer))),
        }
    }

    /// The shared connection, which finds out the era, is not there: a session whose own connection stands does without
    /// it (I10).
    async fn revision_for(&self, affinity: Affinity) -> Result<Revision, UpstreamError> {
        if let Some(link) = self.shared.open_link(affinity)
            && let Ok(facts) = link.facts()
        {
            return Ok(facts.revision);
        }
        Ok(self.connected().await?.revision)
    }

    pub(super) async fn call_stateless(
        &self,
        stateless: &StatelessHttp,
        mut revision: Revision,
        call: &UpstreamCall<'_>,
        activity: Option<&Activity>,
    ) -> Result<Answer, UpstreamError> {
        for _ in 0..negotiation::ATTEMPTS {
            let answered = stateless.call(call, revision, activity).await;
            let doubtful = doubts_stateless(&answered);
            let settled = answered.and_then(|answered| settle(answered, revision));
            if let Ok(Settled::Again(named)) = settled {
                revision = named;
                continue;
            }
            if doubtful {
                self.doubt_stateless();
            }
            if let Ok(Settled::Answered(answer)) = settled {
                return Ok(answer);
            }
            return Err(settled.err().unwrap_or_else(negotiation::refused_too_often));
        }
        self.doubt_stateless();
        Err(negotiation::refused_too_often())
    }

    /// Has the era looked at again; the call does not wait for that.
    fn doubt_stateless(&self) {
        if let Ok(actor) = self.actor()
            && actor.try_send(EraMistaken { believed: Era::Stateless }).is_err()
        {
            tracing::debug!(upstream = %self.name(), "the actor is busy; its era stays as it was");
        }
    }

    /// As `call_stateless`, of a child.
    async fn call_stateless_on_pipe(
        &self,
        affinity: Affinity,
        mut revision: Revision,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        for _ in 0..negotiation::ATTEMPTS {
            let client = &call.circumstances.client;
            let answer = self.call_on_link((affinity, client), call, activity.clone(), sent).await?;
            match settle_answer(answer, None, revision)? {
                Settled::Answered(answer) => return Ok(answer),
                // The link writes the revision that it was opened with: there is but one to choose from.
                Settled::Again(named) => revision = named,
            }
        }
        Err(negotiation::refused_too_often())
    }

    /// Over a connection of the pool, once one is free.
    async fn call_on_pooled(
        &self,
        set: Bytes,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let is_exclusive = !self.shared.questions_name_their_call();
        let standing = |affinity| match self.shared.open_link(affinity) {
            Some(link) if link.calls.is_doubtful() => Standing::Doubtful,
            Some(link) if !link.takes_no_calls() => Standing::Open,
            _ => Standing::NotOpen,
        };
        let taking = self.shared.pool.take(&call.circumstances.client, set, is_exclusive, standing);
        let seat = match call.method {
            // A list has not the patience of a call: nobody is asked for it.
            Method::ListTools => tokio::time::timeout(self.shared.bounds.list_budget, taking)
                .await
                .map_err(|_| UpstreamError::unavailable("its connections to ask over are all in use"))?,
            _ => taking.await,
        };
        if let Some(affinity) = seat.displaced() {
            let released = self.actor()?.send(ReleaseLink { affinity }).await;
            released.map_err(|_| UpstreamError::unavailable("it is being restarted"))?;
        }
        let affinity = seat.client().affinity;
        // What an earlier caller left there may still ask, and must not ask this one; there was no room for another.
        if is_exclusive
            && let Some(link) = self.shared.open_link(affinity).filter(|link| link.calls.is_doubtful())
        {
            let doubted = LinkDoubted { affinity, number: link.number };
            self.actor()?
                .send(doubted)
                .await
                .map_err(|_| UpstreamError::unavailable("it is being restarted"))?;
        }
        self.call_on_link((affinity, seat.client()), call, activity, sent).await
    }

    /// Over the link of this affinity, which is opened for that client if need be.
    pub(super) async fn call_on_link(
        &self,
        (affinity, client): (Affinity, &Arc<Client>),
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let circumstances = call.circumstances;
        let link = self.link(affinity, client, circumstances.log_level).await?;
        let answered = match link.call(call, activity.clone(), sent).await {
            // Once more on a new one.
            Err(error) if was_not_looked_at(&error, &link, sent) => {
                sent.store(false, Ordering::Relaxed);
                link.until_ended().await;
                let link = self.link(affinity, client, circumstances.log_level).await?;
                link.call(call, activity, sent).await
            }
            outcome => outcome,
        };
        if doubts_handshake(&answered) {
            self.check_era().await;
        }
        answered
    }

    /// Asks an upstream of the handshake era whether it still is one. The doubtful answer waits for that, a moment, so
    /// that the caller's next call finds things in order.
    pub(super) async fn check_era(&self) {
        let Address::Http { stateless, .. } = &self.shared.address else { return };
        // The stream of HTTP+SSE ends with the server, and a new connection begins with a probe.
        if self.shared.pinned().is_some() || self.shared.is_over_sse() {
            return;
        }
        if self.shared.era_check.has_become_stateless(stateless, ERA_CHECK).await
            && let Ok(actor) = self.actor()
            && actor.send(EraMistaken { believed: Era::Handshake }).await.is_err()
        {
            tracing::debug!(upstream = %self.name(), "the actor ended while its era was looked at");
        }
    }
}

/// Whether the call was surely not looked at, because the link has ended or takes none any longer: its session was
/// forgotten before (S-HTTPC-04), or it was just being stopped for idleness and nothing was sent.
pub(super) fn was_not_looked_at(error: &UpstreamError, link: &Link, sent: &AtomicBool) -> bool {
    match error {
        UpstreamError::SessionForgotten => true,
        UpstreamError::Unavailable { .. } => !sent.load(Ordering::Relaxed) && link.takes_no_calls(),
        _ => false,
    }
}

/// Members by which the stateless era asks mean nothing where an upstream of the handshake era says them: nobody may take
/// them for questions that were looked at.
pub(super) fn of_handshake_era(answer: Answer) -> Answer {
    const ASKING: [&str; 3] = ["resultType", "inputRequests", "requestState"];
    let Answer::Result(result) = answer else { return answer };
    if ASKING.iter().all(|member| result.get(member).is_none()) {
        return Answer::Result(result);
    }
    let mut edit = Edit::of(&result);
    for member in ASKING {
        edit.remove(member);
    }
    let mut text = Vec::with_capacity(result.as_bytes().len());
    edit.write(&mut text);
    Answer::Result(Object::parse(text.into(), Limits::NONE).unwrap_or_else(|_| Object::empty()))
}

/// What an answer of the stateless era is: its type says so, and without one it is complete (S-BASE-09, S-MRTR-01).
pub(super) fn read(answer: Answer, method: Method) -> Result<Reply, UpstreamError> {
    let Answer::Result(result) = answer else { return Ok(Reply::Final(answer)) };
    match result.get("resultType") {
        None | Some(b"\"complete\"") => Ok(Reply::Final(Answer::Result(result))),
        Some(b"\"input_required\"") if method.takes_input() => match InputRequired::of(result) {
            Ok(asked) => Ok(Reply::NeedsInput(Box::new(asked))),
            Err(fault) => Err(UpstreamError::protocol(fault)),
        },
        Some(other) => {
            let kind = string(other).unwrap_or_default();
            Err(UpstreamError::protocol(format!(
                "its result has the type {}, which was not offered",
                quote(&kind)
            )))
        }
    }
}
