//! Requests that make tasks, and requests about them.
//!
//! Always: a call that may become a task goes where its caller can be asked, and takes nobody's turn there, because the
//! questions of a task name it (S-TASK-16); one that was surely not looked at is made once more, no other. A request about
//! a task goes where the task was made. Not here: what a place is (`task`), plain calls (`route`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::call::{Activity, Client, UpstreamCall};
use super::calls::Caller;
use super::connect::Address;
use super::era_check::doubts_handshake;
use super::error::UpstreamError;
use super::handle::UpstreamHandle;
use super::input::Reply;
use super::link::{CallGuard, Link, Wire};
use super::link_tasks::NotEntered;
use super::messages::{ReleaseLink, TakeUp};
use super::pool::KeptSeat;
use super::route::{of_handshake_era, read, was_not_looked_at};
use super::task::{Begun, CreatedTask, Held, KeptPlace, TaskPlace, TaskWish, TasksOffered, created, offered};
use crate::policy::Permit;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::Answer;
use crate::protocol::json::quote;
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::task::Dialect;

/// A connection, and the share of it that a task holds.
type Room = (Arc<Link>, Option<KeptSeat>);

impl UpstreamHandle {
    /// What it says of tasks; `None` when it makes none of calls, or is not known yet.
    pub fn tasks_offered(&self) -> Option<TasksOffered> {
        offered(&*self.known_facts()?)
    }

    /// Whether this call may come back as a task, and of which kind. A stateless upstream that is told that its caller
    /// knows tasks may make one whatever it said of itself (S-TX-02).
    pub(super) fn may_become_task(&self, call: &UpstreamCall<'_>, revision: Revision) -> Option<Dialect> {
        call.circumstances.task?;
        match revision.era() {
            _ if call.method != Method::CallTool => None,
            Era::Stateless => Some(Dialect::Extension),
            Era::Handshake => self.tasks_offered().map(|offered| offered.dialect),
        }
    }

    /// As `route`, of a call that may come back as a task.
    pub(super) async fn call_for_task(
        &self,
        (dialect, revision): (Dialect, Revision),
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Reply, UpstreamError> {
        if let (Address::Http { stateless, .. }, Era::Stateless) = (&self.shared.address, revision.era()) {
            sent.store(true, Ordering::Relaxed);
            let answer = self.call_stateless(stateless, revision, call, activity.as_deref()).await?;
            return match created(&answer, dialect)? {
                Some(begun) => Ok(became(dialect, begun, None)),
                None => read(answer, call.method),
            };
        }
        let client = &call.circumstances.client;
        let level = call.circumstances.log_level;
        let (mut link, mut seat) = self.room_for_task(client, revision, level).await?;
        let mut answered = link.call(call, activity.clone(), sent).await;
        if let Err(error) = &answered
            && was_not_looked_at(error, &link, sent)
        {
            sent.store(false, Ordering::Relaxed);
            link.until_ended().await;
            (link, seat) = self.room_for_task(client, revision, level).await?;
            answered = link.call(call, activity, sent).await;
        }
        if doubts_handshake(&answered) {
            self.check_era().await;
        }
        let answer = answered?;
        match created(&answer, dialect)? {
            Some(begun) => {
                let task = link.tasks.take(&begun.facts.id, client);
                let Some(task) = task else {
                    const WHY: &str = "its task has the id of another, so that nothing can be learned of it";
                    tracing::warn!(upstream = %link.upstream, "a call became a task with the id of another");
                    return Err(UpstreamError::protocol(WHY));
                };
                Ok(became(dialect, begun, Some(Held { link, task, _seat: seat })))
            }
            None if revision.era() == Era::Stateless => read(answer, call.method),
            None => Ok(Reply::Final(of_handshake_era(answer))),
        }
    }

    /// The connection for tasks of this client: the one of its session, one of the pool that all its tasks share, or the
    /// one for all.
    async fn room_for_task(
        &self,
        client: &Arc<Client>,
        revision: Revision,
        level: Option<LogLevel>,
    ) -> Result<Room, UpstreamError> {
        let set = self.shared.pool.set_of(client).filter(|_| revision.era() == Era::Handshake);
        let Some(set) = set else {
            let affinity = self.shared.affinity_for(client, revision);
            return Ok((self.link(affinity, client, level).await?, None));
        };
        let is_exclusive = !self.shared.questions_name_their_call();
        let seat = self.shared.pool.take_for_task(client, set, is_exclusive);
        let seat = seat.ok_or(UpstreamError::Overloaded { retry_after: None })?;
        if let Some(affinity) = seat.displaced() {
            let released = self.actor()?.send(ReleaseLink { affinity }).await;
            released.map_err(|_| UpstreamError::unavailable("it is being restarted"))?;
        }
        let link = self.link(seat.client().affinity, seat.client(), level).await?;
        Ok((link, Some(KeptSeat::of(&seat, &self.shared))))
    }

    /// Makes a request about a task where it was made; its caller is from now on who is asked and told about the task.
    ///
    /// `patience` bounds the wait; without it only the end of the connection does, as for `tasks/result`, which answers when
    /// the task is over (S-TASK-11). Dropping the future cancels the request, not the task.
    pub async fn task_request(
        &self,
        permit: Permit,
        place: &TaskPlace,
        call: &UpstreamCall<'_>,
        patience: Option<Duration>,
    ) -> Result<Answer, UpstreamError> {
        debug_assert_eq!(permit.upstream(), self.name(), "a permit is for one upstream");
        let sent = AtomicBool::new(false);
        let request = async {
            match place.held() {
                Some(Held { link, task, .. }) => {
                    task.belongs_to(&call.circumstances.client, call.circumstances.events.as_ref());
                    let answered = link.call(call, None, &sent).await;
                    if doubts_handshake(&answered) {
                        self.check_era().await;
                    }
                    answered
                }
                None => self.stateless_task_request(place, call, &sent).await,
            }
        };
        let Some(patience) = patience else { return request.await };
        tokio::time::timeout(patience, request).await.unwrap_or_else(|_| {
            Err(match sent.load(Ordering::Relaxed) {
                true => UpstreamError::Timeout(patience),
                false => UpstreamError::unavailable("it is still being connected"),
            })
        })
    }

    async fn stateless_task_request(
        &self,
        place: &TaskPlace,
        call: &UpstreamCall<'_>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let Address::Http { stateless, .. } = &self.shared.address else {
            return Err(UpstreamError::unavailable("it is no longer reached by single requests"));
        };
        let revision = self.connected().await?.revision;
        if revision.era() != Era::Stateless {
            return Err(UpstreamError::unavailable("it speaks another era of the protocol now"));
        }
        // `Mcp-Name` says the id of this hop (S-TX-12).
        let named = UpstreamCall {
            method: call.method,
            params: call.params.clone(),
            target: Some(place.id().into()),
            param_headers: call.param_headers.clone(),
            circumstances: call.circumstances,
        };
        sent.store(true, Ordering::Relaxed);
        self.call_stateless(stateless, revision, &named, None).await
    }

    /// Where a task is reached that was made before the gateway was restarted, for this client (S-TASK-21).
    ///
    /// Over HTTP: the session that it was made in, while its server knows that; else any session of this client's, because
    /// some servers tie tasks to callers. Whether the task is there, only a request about it tells, and whether it is the same,
    /// only when it was made. Children took their tasks with them. [`UpstreamError::Lost`] when its id is another's by now.
    pub async fn task_place(
        &self,
        permit: Permit,
        kept: &KeptPlace,
        id: &str,
        client: &Arc<Client>,
    ) -> Result<TaskPlace, UpstreamError> {
        debug_assert_eq!(permit.upstream(), self.name(), "a permit is for one upstream");
        if let Address::Stdio(_) = &self.shared.address {
            return Err(UpstreamError::lost("the process that had the task has ended"));
        }
        if kept.dialect == Dialect::Extension {
            return Ok(TaskPlace::new(kept.dialect, id.to_owned(), None));
        }
        let facts = self.connected().await?;
        if facts.revision.era() != Era::Handshake {
            return Err(UpstreamError::unavailable("it speaks another era of the protocol now"));
        }
        if let Some(held) = self.place_in_session(kept, id, client).await? {
            return Ok(TaskPlace::new(kept.dialect, id.to_owned(), Some(held)));
        }
        let (link, seat) = self.room_for_task(client, facts.revision, None).await?;
        let entered = link.tasks.enter(id, link.caller_of(client));
        let task = entered.map_err(NotEntered::error)?;
        Ok(TaskPlace::new(kept.dialect, id.to_owned(), Some(Held { link, task, _seat: seat })))
    }

    /// In the session that the task was made in; `None` when that is gone.
    async fn place_in_session(
        &self,
        kept: &KeptPlace,
        id: &str,
        client: &Arc<Client>,
    ) -> Result<Option<Held>, UpstreamError> {
        let revision = kept.revision.as_deref().and_then(Revision::parse);
        let (Some(session), Some(revision)) = (kept.session.clone(), revision) else { return Ok(None) };
        let take_up = TakeUp { client: Arc::clone(client), session, revision, id: id.to_owned() };
        let taken_up = self.actor()?.send(take_up).await;
        let taken_up = taken_up.map_err(|_| UpstreamError::unavailable("it is being restarted"))?;
        let Some((link, entered)) = taken_up else { return Ok(None) };
        let task = entered.map_err(NotEntered::error)?;
        let held = Held { link: Arc::clone(&link), task, _seat: None };
        let answered = link.within_deadline(link.begin_asking("ping", "{}")).await;
        match answered {
            // A server that knows the session and no pings knows the session.
            Ok(_) => Ok(Some(held)),
            Err(_) if link.was_forgotten() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn became(dialect: Dialect, begun: Begun, held: Option<Held>) -> Reply {
    let Begun { facts, result } = begun;
    let place = TaskPlace::new(dialect, facts.id.clone(), held);
    Reply::Task(Box::new(CreatedTask { facts, result, place }))
}

impl Link {
    /// Whether it is this session over HTTP.
    pub(super) fn is_in_session(&self, session: &str) -> bool {
        matches!(&self.wire, Wire::Http(wire) if wire.session().as_deref() == Some(session))
    }

    /// What of the caller's wish for a task this upstream is told, which is nothing unless it makes tasks of such calls
    /// (S-TASK-02); whoever is told may answer with one.
    pub(super) fn told_wish(
        &self,
        call: &UpstreamCall<'_>,
        guard: &mut CallGuard,
    ) -> Result<Option<TaskWish>, UpstreamError> {
        let dialect = match self.is_stateless() {
            _ if call.method != Method::CallTool => None,
            true => Some(Dialect::Extension),
            false => offered(self.facts()?).map(|offered| offered.dialect),
        };
        let Some(dialect) = dialect else { return Ok(None) };
        let circumstances = call.circumstances;
        let caller =
            Caller { client: Arc::clone(&circumstances.client), events: circumstances.events.clone() };
        if !self.tasks.expect(guard.id, caller, dialect) {
            return Err(UpstreamError::Overloaded { retry_after: None });
        }
        guard.may_become_task = true;
        Ok(circumstances.task)
    }

    /// An answer arrived: what it says of a task is noted before anything that follows it.
    pub(super) fn note_task(self: &Arc<Self>, id: u64, answer: &Answer) {
        if self.tasks.is_in_use()
            && let Some(unwanted) = self.tasks.answered(id, answer)
        {
            self.cancel_task(unwanted);
        }
    }

    /// Nobody wants this task, and nobody but this link knows it.
    pub(super) fn cancel_task(self: &Arc<Self>, task: String) {
        let offered = self.facts().ok().and_then(offered);
        let can = offered.is_some_and(|offered| offered.cancel && offered.dialect == Dialect::Core);
        if !can || self.has_ended() {
            return;
        }
        let link = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let params = format!(r#"{{"taskId":{}}}"#, quote(&task));
            if let Err(error) = link.within_deadline(link.begin_asking("tasks/cancel", &params)).await {
                tracing::debug!(upstream = %link.upstream, %error, "a task that nobody wants was not cancelled");
            }
        });
    }

    /// A client as the caller of what is done for it here.
    pub(super) fn caller_of(&self, client: &Arc<Client>) -> Caller {
        Caller { client: Arc::clone(client), events: None }
    }
}
