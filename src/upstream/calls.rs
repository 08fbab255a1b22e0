//! Calls awaiting replies on one link.
//!
//! Always: a request id is in the table from before its frame is sent until exactly one reply, drop or close removes it.
//! A reply for an id that is not there is counted and forgotten (S-CANC-07).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::call::{Activity, CallEvent, EventSink};
use super::error::UpstreamError;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;

/// Where the answer of a call arrives; closed without one when the link ends.
pub(super) type Reply = oneshot::Receiver<Result<Answer, UpstreamError>>;

/// The table. Its lock is held for a few instructions and never across an await.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    next: AtomicU64,
    pending: Mutex<HashMap<u64, PendingCall>>,
    strays: AtomicU64,
}

#[derive(Debug)]
struct PendingCall {
    reply: oneshot::Sender<Result<Answer, UpstreamError>>,
    events: Option<EventSink>,
    activity: Option<Arc<Activity>>,
}

impl CallTable {
    /// Registers a call and gives its id and where its answer arrives.
    pub(super) fn open(&self, events: Option<EventSink>, activity: Option<Arc<Activity>>) -> (u64, Reply) {
        let (reply, answer) = oneshot::channel();
        let id = self.next_id();
        self.lock().insert(id, PendingCall { reply, events, activity });
        (id, answer)
    }

    /// An id for a message that awaits no entry here.
    pub(super) fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Delivers an answer; says whether somebody waited for it.
    pub(super) fn settle(&self, id: u64, answer: Result<Answer, UpstreamError>) -> bool {
        let Some(call) = self.lock().remove(&id) else {
            self.strays.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        call.reply.send(answer).is_ok()
    }

    /// Forgets a call; says whether it was still awaiting its reply.
    pub(super) fn forget(&self, id: u64) -> bool {
        self.lock().remove(&id).is_some()
    }

    /// Passes progress on to the call whose id is the token; late progress is dropped (S-PROG-03).
    pub(super) fn progress(&self, token: u64, params: Object) {
        let pending = self.lock();
        let Some(call) = pending.get(&token) else { return };
        if let Some(activity) = &call.activity {
            activity.touch();
        }
        if let Some(events) = &call.events {
            // A full sink means a slow reader; progress is what may be dropped.
            let _ = events.try_send(CallEvent::Progress(params));
        }
    }

    /// The event sink of a call, or of the only call when `id` is `None` and there is exactly one.
    pub(super) fn sink(&self, id: Option<u64>) -> Option<EventSink> {
        let pending = self.lock();
        let call = match id {
            Some(id) => pending.get(&id),
            None if pending.len() == 1 => pending.values().next(),
            None => None,
        };
        call.and_then(|call| call.events.clone())
    }

    /// Fails every call by dropping its reply channel.
    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.lock());
        drop(dropped);
    }

    /// The ids of all calls in flight.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    /// Calls in flight.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, PendingCall>> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
