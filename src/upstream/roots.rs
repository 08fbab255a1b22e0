//! A client's roots as one connection was told them, for callers without a session (era-bridge §4.3).
//!
//! Always: they are kept for a short time and for connections of the pool alone, whose callers are of one principal: a
//! server may ask for roots with every call, and a person need not be asked each time. Not here: asking (`questions`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use crate::protocol::translate::question::Expecting;

/// How long they are taken to hold.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct KeptRoots(Mutex<Option<(Vec<u8>, Instant)>>);

impl KeptRoots {
    fn lock(&self) -> MutexGuard<'_, Option<(Vec<u8>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, now: Instant) -> Option<Vec<u8>> {
        let kept = self.lock();
        let (result, since) = kept.as_ref()?;
        (now.duration_since(*since) < KEPT_FOR).then(|| result.clone())
    }
}

impl Link {
    /// The result of this question, where one is kept that still holds.
    pub(super) fn kept_roots(&self, method: &str) -> Option<Vec<u8>> {
        (self.is_pooled() && method == "roots/list").then(|| self.roots.fresh(Instant::now()))?
    }

    /// Keeps an answer, if it is one to that question.
    pub(super) fn keep_roots(&self, expecting: Expecting, result: &[u8]) {
        if self.is_pooled() && expecting == Expecting::Roots {
            *self.roots.lock() = Some((result.to_vec(), Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_root_02_roots_hold_for_a_while() {
        let (kept, now) = (KeptRoots::default(), Instant::now());
        assert_eq!(kept.fresh(now), None);
        *kept.lock() = Some((b"{}".to_vec(), now));
        assert_eq!(kept.fresh(now + KEPT_FOR - Duration::from_secs(1)).as_deref(), Some(&b"{}"[..]));
        assert_eq!(kept.fresh(now + KEPT_FOR), None);
    }
}
