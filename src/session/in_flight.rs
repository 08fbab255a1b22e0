//! The calls of one session, or of one client without a session, that are not answered yet.
//!
//! Always: an id is in the table from its admission until its [`Admission`] is dropped, so a duplicate is refused while
//! the first one runs and welcome afterwards (S-BASE-03). The lock is held for a few instructions; admission is on the
//! path of every call, which is why it passes no mailbox.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::protocol::frame::RequestId;

/// See the module head.
#[derive(Debug)]
pub struct InFlightTable {
    limit: usize,
    calls: Mutex<HashMap<RequestId, CancellationToken>>,
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// A call with this id is still in flight.
    #[error("a request with this id is still in flight")]
    Duplicate,
    /// The session has too many calls in flight.
    #[error("too many requests in flight")]
    TooMany,
}

/// A call's place in its session. Dropping it frees the id.
#[derive(Debug)]
pub struct Admission {
    table: Arc<InFlightTable>,
    id: RequestId,
    cancelled: CancellationToken,
    used: Arc<LastUse>,
}

/// When a session was last used: at the arrival of a message, and at the end of a call.
#[derive(Debug)]
pub struct LastUse {
    opened: Instant,
    used_ms: AtomicU64,
}

impl LastUse {
    /// Used just now.
    pub fn now() -> Self {
        LastUse { opened: Instant::now(), used_ms: AtomicU64::new(0) }
    }

    pub(super) fn touch(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.used_ms.store(elapsed, Ordering::Relaxed);
    }

    pub(super) fn ago(&self) -> Duration {
        self.opened.elapsed().saturating_sub(Duration::from_millis(self.used_ms.load(Ordering::Relaxed)))
    }
}

impl Admission {
    /// Resolves when the client cancels the call.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
        self.used.touch();
    }
}

impl InFlightTable {
    /// Of at most `limit` calls.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(InFlightTable { limit, calls: Mutex::default() })
    }

    /// Admits a call under its id; its end counts as use.
    pub fn admit(self: &Arc<Self>, id: &RequestId, used: &Arc<LastUse>) -> Result<Admission, NotAdmitted> {
        let cancelled = CancellationToken::new();
        let mut calls = self.lock();
        if calls.len() >= self.limit {
            return Err(NotAdmitted::TooMany);
        }
        if calls.contains_key(id) {
            return Err(NotAdmitted::Duplicate);
        }
        calls.insert(id.clone(), cancelled.clone());
        Ok(Admission { table: Arc::clone(self), id: id.clone(), cancelled, used: Arc::clone(used) })
    }

    /// Cancels a call; unknown and finished ones are ignored (S-CANC-01).
    pub fn cancel(&self, id: &RequestId) {
        if let Some(cancelled) = self.lock().get(id) {
            cancelled.cancel();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, CancellationToken>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_base_03_an_id_is_free_again_when_its_call_has_ended() {
        let table = InFlightTable::new(2);
        let used = Arc::new(LastUse::now());
        let (one, text_one, two) = (RequestId::number(1), RequestId::text("1"), RequestId::number(2));
        let first = table.admit(&one, &used).expect("free");
        assert_eq!(table.admit(&one, &used).err(), Some(NotAdmitted::Duplicate));
        let _second = table.admit(&text_one, &used).expect("another id: the types differ");
        assert_eq!(table.admit(&two, &used).err(), Some(NotAdmitted::TooMany));
        drop(first);
        table.admit(&one, &used).expect("free again");
    }
}
