//! Calls awaiting replies on one link.
//!
//! Always: a request id is in the table from before its frame is sent until exactly one reply, drop or close removes it.
//! A reply for an id that is not there is counted and forgotten (S-CANC-07). A closed table takes no more calls, so
//! nobody can come to wait on a link that has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::call::{Activity, Affinity, CallEvent, Client, EventSink};
use super::error::UpstreamError;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;

/// Where the answer of a call arrives; closed without one when the link ends.
pub(super) type Reply = oneshot::Receiver<Result<Answer, UpstreamError>>;

/// Calls without an answer that are remembered after nobody waits for them any longer.
const GIVEN_UP: usize = 1_024;

/// The table. Its lock is held for a few instructions and never across an await.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    next: AtomicU64,
    table: Mutex<Table>,
    strays: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    pending: HashMap<u64, PendingCall>,
    given_up: GivenUp,
}

/// Calls that the upstream may still be at work on though nobody waits for them, and whose they were.
#[derive(Debug, Default)]
struct GivenUp {
    callers: HashMap<u64, Affinity>,
    /// More than can be remembered.
    too_many: bool,
}

impl GivenUp {
    fn note(&mut self, id: u64, caller: Affinity) {
        self.too_many |= self.callers.len() >= GIVEN_UP;
        if !self.too_many {
            self.callers.insert(id, caller);
        }
    }

    /// Whether all of them were of this caller. Those without a session are many.
    fn are_all_of(&self, caller: Affinity) -> bool {
        let own = |other: &Affinity| *other == caller && caller != Affinity::Shared;
        !self.too_many && self.callers.values().all(own)
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
}

/// Whose call it is, and where its events go.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) client: Arc<Client>,
    pub(super) events: Option<EventSink>,
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
        table.pending.insert(id, PendingCall { reply, caller, activity, questions: 0 });
        Some((id, answer))
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

    /// Passes progress on to the call whose id is the token; late progress is dropped (S-PROG-03).
    pub(super) fn progress(&self, token: u64, params: Object) {
        let table = self.lock();
        let Some(call) = table.pending.get(&token) else { return };
        if let Some(activity) = &call.activity {
            activity.touch();
        }
        if let Some(events) = call.caller.as_ref().and_then(|caller| caller.events.as_ref()) {
            // Nobody reads it when the caller has left its answer to run without it.
            let _ = events.push(CallEvent::Progress(Box::new(params)));
        }
    }

    /// The deadline of a call, where it can move; without its id, those of all that could be meant.
    pub(super) fn activities(&self, id: Option<u64>) -> Vec<Arc<Activity>> {
        let table = self.lock();
        let meant = table.pending.iter().filter(|(call, _)| id.is_none_or(|id| id == **call));
        meant.filter_map(|(_, call)| call.activity.clone()).collect()
    }

    /// Counts a question that a call causes, and gives how many those are now; 0 when the call is over.
    pub(super) fn count_question(&self, id: u64) -> usize {
        let mut table = self.lock();
        let Some(call) = table.pending.get_mut(&id) else { return 0 };
        call.questions += 1;
        call.questions
    }

    /// The only call of a caller in flight, if no other client's call can be meant that was given up without an answer.
    /// The gateway's own requests do not count.
    pub(super) fn only_call(&self) -> Option<u64> {
        let table = self.lock();
        let mut calls = table.pending.iter().filter_map(|(id, call)| Some((*id, call.caller.as_ref()?)));
        let (only, caller) = calls.next()?;
        let is_certain = calls.next().is_none() && table.given_up.are_all_of(caller.client.affinity);
        is_certain.then_some(only)
    }

    /// The only request of all that an answer can be to.
    pub(super) fn only_one(&self) -> Option<u64> {
        let table = self.lock();
        let is_certain =
            table.pending.len() == 1 && !table.given_up.too_many && table.given_up.callers.is_empty();
        table.pending.keys().next().copied().filter(|_| is_certain)
    }

    /// Whose call this is. The gateway's own requests are nobody's.
    pub(super) fn caller(&self, id: u64) -> Option<Caller> {
        self.lock().pending.get(&id)?.caller.clone()
    }

    /// Takes no more calls if none is in flight, and says whether that is so.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut table = self.lock();
        table.closed |= table.pending.is_empty();
        table.closed
    }

    /// Whether no call is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().pending.is_empty()
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
        assert_eq!(calls.only_call(), Some(first), "one call can have caused it");
        let _second = calls.open(Some(Caller { client: other, events: None }), None).expect("open");
        assert!(calls.only_call().is_none(), "two can, whether or not they have streams");
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
        assert_eq!(calls.only_call(), None, "it may be the one that was given up");
        drop((calls.forget(of_other), answer));
        let (own, _answer) = open(&one);
        assert_eq!(calls.only_call(), Some(own), "either is of the same client");
        calls.forget(own);
        assert!(!calls.settle(late, Err(UpstreamError::SessionLost)), "nobody waits for it");
        let (of_other, _answer) = open(&other);
        assert_eq!(calls.only_call(), Some(of_other), "there is no doubt any longer");
        calls.forget(of_other);

        for _ in 0..=GIVEN_UP {
            calls.give_up(open(&one).0);
        }
        let _own = open(&one);
        assert_eq!(calls.only_call(), None, "too many to know");
        assert!(calls.lock().given_up.callers.len() <= GIVEN_UP);
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
        assert_eq!(calls.only_call(), None);
    }
}
