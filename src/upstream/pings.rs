//! Whether idle connections still lead anywhere (S-LIFE-11).
//!
//! Always: only a connection of the handshake era without calls in flight is pinged, and one ping at a time; any answer,
//! an error too, and anything else that is heard meanwhile counts as life; a ping is no use of the connection. Not here:
//! when to look (`actor`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::error::UpstreamError;
use super::link::Link;
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;

/// Pings of one upstream that are begun at once; the others wait for the next look.
pub(super) const AT_ONCE: usize = 64;

/// Pings in a row that stay unanswered before a connection is given up.
const UNANSWERED: u8 = 2;

/// Longest wait for the answer to one.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How often is looked for connections that are due.
pub(super) fn tick(every: Duration) -> Duration {
    every.min(Duration::from_secs(1))
}

/// What is known of one connection.
#[derive(Debug, Default)]
pub(super) struct Pings {
    under_way: AtomicBool,
    /// When the last one was sent, in milliseconds of the link's age.
    last_ms: AtomicU64,
    unanswered: AtomicU8,
    /// Messages received.
    heard: AtomicU64,
}

impl Pings {
    /// A message came.
    pub(super) fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How long ago a ping was due; `None` while none is.
    fn overdue(&self, now_ms: u64, used_ms: u64, every: Duration) -> Option<Duration> {
        if self.under_way.load(Ordering::Relaxed) {
            return None;
        }
        let last = self.last_ms.load(Ordering::Relaxed).max(used_ms);
        Duration::from_millis(now_ms.saturating_sub(last)).checked_sub(every)
    }

    fn begin(&self, now_ms: u64) -> u64 {
        self.under_way.store(true, Ordering::Relaxed);
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.heard.load(Ordering::Relaxed)
    }

    /// Whether the connection is to be given up. One that was used meanwhile was not idle, so nothing is decided.
    fn settle(&self, heard_before: u64, answered: bool, was_idle: bool) -> bool {
        self.under_way.store(false, Ordering::Relaxed);
        if answered || self.heard.load(Ordering::Relaxed) != heard_before {
            self.unanswered.store(0, Ordering::Relaxed);
            return false;
        }
        was_idle && self.unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= UNANSWERED
    }
}

impl Link {
    /// How long ago a ping was due; `None` where none is, or none ever.
    pub(super) fn ping_overdue(self: &Arc<Self>, every: Duration) -> Option<Duration> {
        let is_idle = self.calls.is_empty() && !self.has_ended();
        let knows_pings = self.facts().is_ok_and(|facts| facts.revision.era() == Era::Handshake);
        (is_idle && knows_pings).then(|| self.pings.overdue(self.age_ms(), self.used_ms(), every)).flatten()
    }

    /// Pings once, and ends the link when it is the second one without an answer while nobody used it: whoever has begun a
    /// call since waits for that.
    pub(super) async fn ping(self: Arc<Self>, every: Duration) {
        let used_before = self.used_ms();
        let heard_before = self.pings.begin(self.age_ms());
        let answer = tokio::time::timeout(every.min(LONGEST_WAIT), self.ask("ping", "{}")).await;
        let answered = answer.is_ok_and(|answer| is_life(&answer));
        let was_idle = self.calls.is_empty() && self.used_ms() == used_before;
        if self.pings.settle(heard_before, answered, was_idle) {
            self.end("it no longer answers");
        }
    }
}

/// Whether somebody answered, with whatever words.
fn is_life(answer: &Result<Answer, UpstreamError>) -> bool {
    !matches!(
        answer,
        Err(UpstreamError::Unavailable { .. }
            | UpstreamError::Lost { .. }
            | UpstreamError::SessionLost
            | UpstreamError::Timeout(_))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    #[test]
    fn s_life_11_a_ping_is_due_when_neither_use_nor_ping_was_for_a_while() {
        let pings = Pings::default();
        assert_eq!(pings.overdue(29_999, 0, EVERY), None);
        assert_eq!(pings.overdue(31_000, 0, EVERY), Some(Duration::from_secs(1)));
        assert_eq!(pings.overdue(31_000, 5_000, EVERY), None, "it was used");
        let heard = pings.begin(31_000);
        assert_eq!(pings.overdue(90_000, 0, EVERY), None, "one at a time");
        pings.settle(heard, true, true);
        assert_eq!(pings.overdue(60_999, 0, EVERY), None);
        assert_eq!(pings.overdue(61_000, 0, EVERY), Some(Duration::ZERO));
    }

    #[test]
    fn s_life_11_two_pings_in_a_row_without_a_sign_of_life_end_the_connection() {
        let pings = Pings::default();
        let unanswered = |pings: &Pings| {
            let heard = pings.begin(0);
            pings.settle(heard, false, true)
        };
        assert!(!unanswered(&pings));
        let heard = pings.begin(0);
        assert!(!pings.settle(heard, true, true));
        assert!(!unanswered(&pings), "the one before was answered");
        let heard = pings.begin(0);
        pings.heard();
        assert!(!pings.settle(heard, false, true), "it said something else");
        assert!(!unanswered(&pings));
        let heard = pings.begin(0);
        assert!(!pings.settle(heard, false, false), "a call was begun, which may yet be answered");
        assert!(unanswered(&pings), "but that was no sign of life");
    }

    #[test]
    fn s_life_11_an_error_is_an_answer_and_a_connection_that_fails_is_none() {
        assert!(is_life(&Err(UpstreamError::protocol("HTTP status 400"))));
        assert!(is_life(&Err(UpstreamError::AuthRequired)));
        assert!(!is_life(&Err(UpstreamError::lost("reset"))));
        assert!(!is_life(&Err(UpstreamError::unavailable("connection refused"))));
    }
}
