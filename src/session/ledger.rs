//! How many bytes the streams of one session keep, and those of all sessions.
//!
//! Always: while all together keep too much, the streams that were left longest ago go first, whosever they are, and then
//! each session may keep its share and no more: a few cannot take from all others what lets them come back (S-RESUM-05).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::stream::Stream;

/// Of all sessions.
#[derive(Debug, Default)]
pub(super) struct Totals {
    bytes: AtomicUsize,
    /// How many sessions there are.
    sessions: Arc<AtomicUsize>,
    ended: Mutex<Ended>,
}

/// Streams of requests that have ended, oldest first.
#[derive(Debug, Default)]
struct Ended {
    streams: VecDeque<Weak<Stream>>,
    /// Length at which those that are gone are looked for.
    look_at: usize,
}

/// Fewest ended streams among which it is worth looking for those that are gone.
const LOOK_AT: usize = 1024;

impl Totals {
    pub(super) fn of(sessions: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Totals { sessions, ..Totals::default() })
    }

    fn note_end(&self, stream: &Arc<Stream>) {
        let mut ended = self.lock();
        if ended.streams.len() >= ended.look_at {
            ended.streams.retain(|stream| stream.strong_count() > 0);
            ended.look_at = LOOK_AT.max(ended.streams.len() * 2);
        }
        ended.streams.push_back(Arc::downgrade(stream));
    }

    /// Lets go of the streams that were left longest ago until no more than `total` bytes are kept.
    fn shrink(&self, total: usize) {
        let mut ended = self.lock();
        for _ in 0..ended.streams.len() {
            if self.bytes.load(Ordering::Relaxed) <= total {
                return;
            }
            let Some(oldest) = ended.streams.pop_front() else { return };
            if let Some(stream) = oldest.upgrade()
                && !stream.forget_if_left()
            {
                // Somebody reads it again.
                ended.streams.push_back(oldest);
            }
        }
    }

    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of one session.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    bytes: AtomicUsize,
    totals: Arc<Totals>,
}

impl Ledger {
    pub(super) fn new(totals: Arc<Totals>) -> Arc<Self> {
        Arc::new(Ledger { bytes: AtomicUsize::new(0), totals })
    }

    /// A stream kept `before` bytes and keeps `after` now.
    pub(super) fn change(&self, before: usize, after: usize) {
        for sum in [&self.bytes, &self.totals.bytes] {
            if after >= before {
                sum.fetch_add(after - before, Ordering::Relaxed);
            } else {
                sum.fetch_sub(before - after, Ordering::Relaxed);
            }
        }
    }

    /// A stream of a request has ended.
    pub(super) fn note_end(&self, stream: &Arc<Stream>) {
        self.totals.note_end(stream);
    }

    /// Has all sessions together keep no more than `total` bytes, as far as streams that nobody reads allow it.
    pub(super) fn shrink_all(&self, total: usize) {
        if self.totals.bytes.load(Ordering::Relaxed) > total {
            self.totals.shrink(total);
        }
    }

    /// Bytes that this session keeps.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it keeps more than it may, where a session may keep `session` bytes and all together `total`.
    pub(super) fn is_over(&self, session: usize, total: usize) -> bool {
        let all = self.totals.bytes.load(Ordering::Relaxed);
        let sessions = self.totals.sessions.load(Ordering::Relaxed).max(1);
        let may = if all > total { session.min(total / sessions) } else { session };
        self.bytes() > may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::stream::Weight;

    #[test]
    fn s_resum_05_what_was_left_longest_ago_goes_first_whosever_it_is() {
        let totals = Totals::of(Arc::new(AtomicUsize::new(2)));
        let (one, two) = (Ledger::new(Arc::clone(&totals)), Ledger::new(totals));
        let answered = |ledger: &Arc<Ledger>| {
            let stream = Stream::new(1, 100, 100, Arc::clone(ledger));
            stream.push("0123456789".into(), Weight::Answer).expect("always room");
            stream.finish();
            ledger.note_end(&stream);
            stream
        };
        let (oldest, _read, newest) = (answered(&one), answered(&one).read(), answered(&two));
        two.shrink_all(20);
        assert!(oldest.has_lost_answer_since(0) && !newest.has_lost_answer_since(0));
        assert_eq!((one.bytes(), two.bytes()), (10, 10));
        two.shrink_all(10);
        assert_eq!((one.bytes(), two.bytes()), (10, 0), "what is read stays");
    }

    #[test]
    fn s_resum_05_while_all_keep_too_much_each_may_keep_its_share() {
        let totals = Totals::of(Arc::new(AtomicUsize::new(4)));
        let (greedy, modest) = (Ledger::new(Arc::clone(&totals)), Ledger::new(totals));
        greedy.change(0, 90);
        modest.change(0, 20);
        assert!(!greedy.is_over(1000, 110) && !modest.is_over(1000, 110));
        assert!(greedy.is_over(1000, 100), "its share is 25");
        assert!(!modest.is_over(1000, 100));
        greedy.change(90, 25);
        assert!(greedy.is_over(20, 100) && !greedy.is_over(25, 100));
    }
}
