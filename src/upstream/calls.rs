//! Calls awaiting replies on one link.
//!
//! Always: a request id is in the table from before its frame is sent until exactly one reply, drop or close removes it.
//! A reply for an id that is not there is counted and forgotten (S-CANC-07). A closed table takes no more calls, so
//! nobody can come to wait on a link that has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::call::{Activity, Affinity, CallEvent, Client, EventSink};
use super::error::UpstreamError;
use super::open_questions::Causes;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;

/// Where the answer of a call arrives; closed without one when the link ends.
pub(super) type Reply = oneshot::Receiver<Result<Answer, UpstreamError>>;

/// How long an upstream may take to answer, if it does, a call that was cancelled, before calls leave the connection on
/// which nobody knows any longer whom a question is for.
pub(super) const SETTLING: Duration = Duration::from_secs(3);

/// Calls without an answer that are remembered after nobody waits for them any longer.
const GIVEN_UP: usize = 1_024;

/// The table. Its lock is held for a few instructions and never across an await.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    next: AtomicU64,
    table: Mutex<Table>,
    strays: AtomicU64,
    /// A caller's call was entered.
    called: Notify,
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    /// Whether a caller ever made a call.
    was_called: bool,
    pending: HashMap<u64, PendingCall>,
    given_up: GivenUp,
}

/// Calls that the upstream may still be at work on though nobody waits for them, whose they were, and since when. An
/// upstream that heeds the cancellation answers none of them, so that nothing but the end of the link ends this doubt.
#[derive(Debug, Default)]
struct GivenUp {
    callers: HashMap<u64, (Affinity, Instant)>,
    /// Since when there are more than can be remembered.
    too_many: Option<Instant>,
}

impl GivenUp {
    fn note(&mut self, id: u64, caller: Affinity) {
        let now = Instant::now();
        if self.callers.len() >= GIVEN_UP {
            self.too_many.get_or_insert(now);
        } else {
            self.callers.insert(id, (caller, now));
        }
    }

    /// Since when one of them can be of another caller. Those without a session are many.
    fn in_doubt_since(&self, caller: Affinity) -> Option<Instant> {
        let others = self.callers.values().filter(|(of, _)| *of != caller || caller == Affinity::Shared);
        others.map(|(_, since)| *since).chain(self.too_many).min()
    }
}

#[derive(Debug)]
struct PendingCall {
    reply: oneshot::Sender<Result<Answer, UpstreamError>>,
    /// Nobody, for the gateway's own requests.
    caller: Option<Caller>,
    activity: Option<Arc<Activity>>,
    /// Questions it caused so far.
    questions: usize,
    /// Whether it stays open as a matter of course, as listening does: then it keeps nothing busy.
    stands: bool,
}

/// Whose call it is, and where its events go.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) client: Arc<Client>,
    pub(super) events: Option<EventSink>,
}

/// Whose something is that arrived without naming a call, as far as the calls under way tell. The gateway's own requests
/// are nobody's.
#[derive(Debug)]
pub(super) enum Suspects {
    /// No caller has a call under way.
    Nobody,
    /// One client's; the caller is that of the call, or of the newest of them that has a stream.
    One { calls: Causes, caller: Caller },
    /// More than one client can be meant.
    Several,
    /// One client's, were it not that calls of others were given up, the first of them so long ago.
    InDoubt(Duration),
}

impl CallTable {
    /// Registers a call and gives its id and where its answer arrives; `None` when the table is closed.
    pub(super) fn open(
        &self,
        caller: Option<Caller>,
        activity: Option<Arc<Activity>>,
    ) -> Option<(u64, Reply)> {
        let (reply, answer) = oneshot::channel();
        let id = self.next_id();
        let mut table = self.lock();
        if table.closed {
            return None;
        }
        let is_called = caller.is_some();
        table.was_called |= is_called;
        table.pending.insert(id, PendingCall { reply, caller, activity, questions: 0, stands: false });
        drop(table);
        if is_called {
            self.called.notify_waiters();
        }
        Some((id, answer))
    }

    /// Begins behind that id: on a session that an earlier process used, its requests may still be under way there.
    pub(super) fn begin_behind(&self, id: u64) {
        self.next.fetch_max(id, Ordering::Relaxed);
    }

    /// An id for a message that awaits no entry here.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Delivers an answer; says whether somebody waited for it.
    pub(super) fn settle(&self, id: u64, answer: Result<Answer, UpstreamError>) -> bool {
        let mut table = self.lock();
        let Some(call) = table.pending.remove(&id) else {
            table.given_up.callers.remove(&id);
            self.strays.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        drop(table);
        call.reply.send(answer).is_ok()
    }

    /// Forgets a call; says whether it was still awaiting its reply.
    pub(super) fn forget(&self, id: u64) -> bool {
        self.lock().pending.remove(&id).is_some()
    }

    /// As `forget`, of a call that the upstream may be at work on until it answers it after all.
    pub(super) fn give_up(&self, id: u64) -> bool {
        let mut table = self.lock();
        let Some(call) = table.pending.remove(&id) else { return false };
        if let Some(caller) = &call.caller {
            table.given_up.note(id, caller.client.affinity);
        }
        drop(table);
        true
    }

    /// Passes progress on to the call whose id is the token; late progress is dropped (S-PROG-03), and comes back.
    pub(super) fn progress(&self, token: u64, params: Object) -> Option<Object> {
        let table = self.lock();
        let Some(call) = table.pending.get(&token) else { return Some(params) };
        if let Some(activity) = &call.activity {
            activity.touch();
        }
        if let Some(events) = call.caller.as_ref().and_then(|caller| caller.events.as_ref()) {
            // Nobody reads it when the caller has left its answer to run without it.
            let _ = events.push(CallEvent::Progress(Box::new(params)));
        }
        None
    }

    /// The deadlines of these calls, where they can move; without any, those of all that could be meant.
    pub(super) fn activities(&self, calls: &[u64]) -> Vec<Arc<Activity>> {
        let table = self.lock();
        let meant = table.pending.iter().filter(|(call, _)| calls.is_empty() || calls.contains(call));
        meant.filter_map(|(_, call)| call.activity.clone()).collect()
    }

    /// Counts a question that a call causes, and gives how many those are now; 0 when the call is over.
    pub(super) fn count_question(&self, id: u64) -> usize {
        let mut table = self.lock();
        let Some(call) = table.pending.get_mut(&id) else { return 0 };
        call.questions += 1;
        call.questions
    }

    /// Whose something is that names no call. Calls of other clients that were given up without an answer can be meant
    /// as well.
    pub(super) fn suspects(&self) -> Suspects {
        let table = self.lock();
        let mut callers = table.pending.iter().filter_map(|(id, call)| Some((*id, call.caller.as_ref()?)));
        let Some((first, mut caller)) = callers.next() else { return Suspects::Nobody };
        let of = caller.client.affinity;
        // What names no task is rather of a session's plain call than of its tasks (S-TASK-16).
        let rank = |id: u64, caller: &Caller| (caller.client.task_of.is_none(), caller.events.is_some(), id);
        let mut newest = rank(first, caller);
        let mut calls = Causes::from_iter([first]);
        for (id, other) in callers {
            // Callers without a session are not taken for each other.
            if other.client.affinity != of || of == Affinity::Shared {
                return Suspects::Several;
            }
            calls.push(id);
            if rank(id, other) > newest {
                (newest, caller) = (rank(id, other), other);
            }
        }
        match table.given_up.in_doubt_since(of) {
            None => Suspects::One { calls, caller: caller.clone() },
            Some(since) => Suspects::InDoubt(since.elapsed()),
        }
    }

    /// Who has calls under way, without those who have left theirs.
    pub(super) fn callers(&self) -> Vec<(u64, Caller)> {
        let table = self.lock();
        let all = table.pending.iter().filter_map(|(id, call)| Some((*id, call.caller.clone()?)));
        all.collect()
    }

    /// Whether somebody else can be meant as well, whose call was given up.
    pub(super) fn is_in_doubt_for(&self, caller: Affinity) -> bool {
        self.lock().given_up.in_doubt_since(caller).is_some()
    }

    /// Whether a call is under way that a session's task makes.
    pub(super) fn has_calls_of_tasks(&self) -> bool {
        let table = self.lock();
        let mut callers = table.pending.values().filter_map(|call| call.caller.as_ref());
        callers.any(|caller| caller.client.task_of.is_some())
    }

    /// This request stays open as a matter of course.
    pub(super) fn stands(&self, id: u64) {
        if let Some(call) = self.lock().pending.get_mut(&id) {
            call.stands = true;
        }
    }

    /// Whether no caller made a call yet.
    pub(super) fn is_uncalled(&self) -> bool {
        !self.lock().was_called
    }

    /// The oldest call of a caller that came after that one, as soon as there is one.
    pub(super) async fn next_caller(&self, after: u64) -> (u64, Caller) {
        loop {
            let called = self.called.notified();
            {
                let table = self.lock();
                let callers =
                    table.pending.iter().filter_map(|(id, call)| Some((*id, call.caller.as_ref()?)));
                let later = callers.filter(|(id, _)| *id > after);
                if let Some((id, caller)) = later.min_by_key(|(id, _)| *id) {
                    return (id, caller.clone());
                }
            }
            called.await;
        }
    }

    /// Whether something that names no call can be of one that was given up, where one call is made at a time: a server
    /// that asked nothing for a while between two calls has heeded the cancellation.
    pub(super) fn is_doubtful(&self) -> bool {
        let mut table = self.lock();
        if table.pending.values().all(|call| call.caller.is_none()) {
            table.given_up.callers.retain(|_, (_, since)| since.elapsed() < SETTLING);
        }
        table.given_up.too_many.is_some() || !table.given_up.callers.is_empty()
    }

    /// Something came that can only be of a call that was given up: the server is at work on it still.
    pub(super) fn doubt_anew(&self) {
        let now = Instant::now();
        for (_, since) in self.lock().given_up.callers.values_mut() {
            *since = now;
        }
    }

    /// The only request of all that an answer can be to.
    pub(super) fn only_one(&self) -> Option<u64> {
        let table = self.lock();
        let mut awaited = table.pending.iter().filter(|(_, call)| !call.stands);
        let only = awaited.next().filter(|_| awaited.next().is_none()).map(|(id, _)| *id);
        only.filter(|_| table.given_up.too_many.is_none() && table.given_up.callers.is_empty())
    }

    /// Whose call this is. The gateway's own requests are nobody's.
    pub(super) fn caller(&self, id: u64) -> Option<Caller> {
        self.lock().pending.get(&id)?.caller.clone()
    }

    /// Takes no more calls if none is in flight, and says whether that is so.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut table = self.lock();
        table.closed |= table.pending.values().all(|call| call.stands);
        table.closed
    }

    /// Whether no call is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().pending.values().all(|call| call.stands)
    }

    /// Whether it takes no more calls.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Takes no more calls, and fails every one there is by dropping its reply channel.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let dropped = std::mem::take(&mut table.pending);
        drop(table);
        drop(dropped);
    }

    /// The ids of all calls in flight.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.lock().pending.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::connections::tests::{client, session};
    use crate::upstream::events::event_queue;

    /// The one call that can be meant.
    fn only(calls: &CallTable) -> Option<u64> {
        match calls.suspects() {
            Suspects::One { calls, .. } if calls.len() == 1 => Some(calls[0]),
            _ => None,
        }
    }

    #[test]
    fn a_closed_table_fails_the_calls_it_has_and_takes_no_more() {
        let calls = CallTable::default();
        let (_, mut answer) = calls.open(None, None).expect("open");
        calls.close();
        assert_eq!(answer.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
        assert!(calls.open(None, None).is_none(), "nobody would ever answer it");
    }

    #[test]
    fn a_table_is_closed_for_idleness_only_while_it_is_empty() {
        let calls = CallTable::default();
        let (id, _answer) = calls.open(None, None).expect("open");
        assert!(!calls.close_if_empty() && !calls.is_closed());
        calls.forget(id);
        assert!(calls.close_if_empty() && calls.open(None, None).is_none());
    }

    #[test]
    fn the_gateway_s_own_requests_do_not_hide_whose_an_event_is() {
        let calls = CallTable::default();
        let (events, _kept) = event_queue(1);
        let (one, other) = (session(), session());
        let caller = Caller { client: Arc::clone(&one), events: Some(events) };
        let (first, _answer) = calls.open(Some(caller), None).expect("open");
        let _own = calls.open(None, None).expect("open");
        assert_eq!(only(&calls), Some(first), "one call can have caused it");
        let _second = calls.open(Some(Caller { client: other, events: None }), None).expect("open");
        assert!(only(&calls).is_none(), "two can, whether or not they have streams");
        assert_eq!(calls.caller(first).expect("in flight").client.affinity, one.affinity);
    }

    #[test]
    fn s_elic_11_a_call_that_was_given_up_can_be_meant_until_it_is_answered_after_all() {
        let calls = CallTable::default();
        let open = |client: &Arc<Client>| {
            let caller = Caller { client: Arc::clone(client), events: None };
            calls.open(Some(caller), None).expect("open")
        };
        let (one, other) = (session(), session());
        let (late, answer) = open(&one);
        assert!(calls.give_up(late) && !calls.give_up(late));
        drop(answer);
        let (of_other, answer) = open(&other);
        assert_eq!(only(&calls), None, "it may be the one that was given up");
        drop((calls.forget(of_other), answer));
        let (own, _answer) = open(&one);
        assert_eq!(only(&calls), Some(own), "either is of the same client");
        calls.forget(own);
        assert!(!calls.settle(late, Err(UpstreamError::SessionLost)), "nobody waits for it");
        let (of_other, _answer) = open(&other);
        assert_eq!(only(&calls), Some(of_other), "there is no doubt any longer");
        calls.forget(of_other);

        for _ in 0..=GIVEN_UP {
            calls.give_up(open(&one).0);
        }
        let _own = open(&one);
        assert_eq!(only(&calls), None, "too many to know");
        assert!(calls.lock().given_up.callers.len() <= GIVEN_UP);
    }

    #[test]
    fn s_samp_01_calls_of_one_client_leave_no_doubt_whom_to_ask() {
        let calls = CallTable::default();
        let (one, other) = (session(), session());
        let open = |client: &Arc<Client>, events| {
            let caller = Caller { client: Arc::clone(client), events };
            calls.open(Some(caller), None).expect("open").0
        };
        assert!(matches!(calls.suspects(), Suspects::Nobody));
        let (events, _kept) = event_queue(1);
        let first = open(&one, Some(events));
        let second = open(&one, None);
        let Suspects::One { calls: mut meant, caller } = calls.suspects() else { panic!("one client") };
        meant.sort_unstable();
        assert_eq!((&meant[..], caller.client.affinity), (&[first, second][..], one.affinity));
        assert!(caller.events.is_some(), "the one that has a stream");
        open(&other, None);
        assert!(matches!(calls.suspects(), Suspects::Several));
    }

    #[test]
    fn s_elic_11_it_is_told_when_only_calls_that_were_given_up_leave_a_doubt() {
        let calls = CallTable::default();
        let (one, other) = (session(), session());
        let open = |client: &Arc<Client>| {
            let caller = Caller { client: Arc::clone(client), events: None };
            calls.open(Some(caller), None).expect("open").0
        };
        let given_up = open(&one);
        calls.give_up(given_up);
        open(&other);
        assert!(matches!(calls.suspects(), Suspects::InDoubt(_)));
        let of_one = open(&one);
        assert!(matches!(calls.suspects(), Suspects::Several), "both are at work besides");
        calls.forget(of_one);
        calls.settle(given_up, Err(UpstreamError::SessionLost));
        assert!(matches!(calls.suspects(), Suspects::One { .. }));
    }

    #[test]
    fn s_elic_11_callers_without_a_session_are_not_taken_for_each_other() {
        let calls = CallTable::default();
        let open = || {
            let caller = Caller { client: client(Affinity::Shared), events: None };
            calls.open(Some(caller), None).expect("open").0
        };
        calls.give_up(open());
        open();
        assert_eq!(only(&calls), None);
    }
}
