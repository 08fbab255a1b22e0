//! How many bytes the streams of one session hold, and those of all sessions.
//!
//! What is kept for clients that may come back and what is on its way to clients that read are two accounts: a message
//! that a reader is about to take costs nobody what lets them come back (S-RESUM-05). Answers on their way are in
//! neither, because each is the last of its stream. Always: of each account a session has its bound, and while all
//! together hold too much, its share of that; then the streams that were left longest ago go first, of whichever session
//! holds more than its share.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::stream::Stream;

/// Bytes of streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// For a client that may come back: what was taken, and what waits where nobody reads.
    pub(super) kept: usize,
    /// What waits for a reader and is no answer.
    pub(super) flowing: usize,
}

/// What one session, and all together, may hold of each account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) session: usize,
    pub(super) total: usize,
}

/// Streams of no session have bounds of their own alone.
impl Default for Limits {
    fn default() -> Self {
        Limits { session: usize::MAX, total: usize::MAX }
    }
}

/// Of one session, or of all.
#[derive(Debug, Default)]
struct Accounts {
    kept: AtomicUsize,
    flowing: AtomicUsize,
}

impl Accounts {
    fn change(&self, before: Held, after: Held) {
        change(&self.kept, before.kept, after.kept);
        change(&self.flowing, before.flowing, after.flowing);
    }
}

fn change(sum: &AtomicUsize, before: usize, after: usize) {
    match before.cmp(&after) {
        Ordering::Less => sum.fetch_add(after - before, Relaxed),
        Ordering::Greater => sum.fetch_sub(before - after, Relaxed),
        Ordering::Equal => return,
    };
}

/// Of all sessions.
#[derive(Debug, Default)]
pub(super) struct Totals {
    accounts: Accounts,
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
    /// When all were last looked at and too little could go.
    in_vain: Option<Instant>,
}

/// Fewest ended streams among which it is worth looking for those that are gone.
const LOOK_AT: usize = 1024;
/// After a look at all of them in vain, the next one is worth its while.
const PAUSE: Duration = Duration::from_millis(100);

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

    /// Each session's part of `total`.
    fn share(&self, total: usize) -> usize {
        total / self.sessions.load(Relaxed).max(1)
    }

    /// Lets go of the streams that were left longest ago, of sessions that keep more than their share, until no more than
    /// `total` bytes are kept. What else those sessions keep is theirs to let go.
    fn shrink(&self, total: usize) {
        let mut ended = self.lock();
        if ended.in_vain.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let share = self.share(total);
        let mut at = 0;
        while self.accounts.kept.load(Relaxed) > total {
            let Some(oldest) = ended.streams.get(at) else {
                ended.in_vain = Some(Instant::now());
                return;
            };
            // Somebody may read it again.
            if oldest.upgrade().is_none_or(|stream| stream.keeps_more_than(share) && stream.forget_if_left())
            {
                ended.streams.remove(at);
            } else {
                at += 1;
            }
        }
        ended.in_vain = None;
    }

    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of one session.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: Accounts,
    limits: Limits,
    totals: Arc<Totals>,
}

impl Ledger {
    pub(super) fn new(limits: Limits, totals: Arc<Totals>) -> Arc<Self> {
        Arc::new(Ledger { accounts: Accounts::default(), limits, totals })
    }

    /// A stream held so much before and holds so much now.
    pub(super) fn change(&self, before: Held, after: Held) {
        self.accounts.change(before, after);
        self.totals.accounts.change(before, after);
    }

    /// A stream of a request has ended.
    pub(super) fn note_end(&self, stream: &Arc<Stream>) {
        self.totals.note_end(stream);
    }

    /// Has all sessions together keep no more than they may, as far as streams that nobody reads allow it.
    pub(super) fn shrink_all(&self) {
        if self.totals.accounts.kept.load(Relaxed) > self.limits.total {
            self.totals.shrink(self.limits.total);
        }
    }

    /// Bytes that this session keeps.
    pub(super) fn kept(&self) -> usize {
        self.accounts.kept.load(Relaxed)
    }

    /// Bytes that a session may keep.
    pub(super) fn limit(&self) -> usize {
        self.limits.session
    }

    /// How much more it keeps than it may.
    pub(super) fn excess(&self) -> usize {
        self.kept().saturating_sub(self.may_hold(&self.totals.accounts.kept))
    }

    /// Whether more is on its way to its readers than may be.
    pub(super) fn is_crowded(&self) -> bool {
        self.accounts.flowing.load(Relaxed) > self.may_hold(&self.totals.accounts.flowing)
    }

    fn may_hold(&self, all: &AtomicUsize) -> usize {
        let Limits { session, total } = self.limits;
        if all.load(Relaxed) > total { session.min(self.totals.share(total)) } else { session }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::stream::Weight;

    fn ledger(limits: Limits, totals: &Arc<Totals>) -> Arc<Ledger> {
        Ledger::new(limits, Arc::clone(totals))
    }

    fn kept(kept: usize) -> Held {
        Held { kept, flowing: 0 }
    }

    /// A stream that ended with ten bytes that nobody took.
    fn answered(ledger: &Arc<Ledger>) -> Arc<Stream> {
        let stream = Stream::new(1, 100, 100, Arc::clone(ledger));
        stream.push("0123456789".into(), Weight::Answer).expect("always room");
        stream.finish();
        ledger.note_end(&stream);
        stream
    }

    #[test]
    fn s_resum_05_what_was_left_longest_ago_goes_first_and_what_is_read_stays() {
        let totals = Totals::of(Arc::new(AtomicUsize::new(2)));
        let one = ledger(Limits { session: 100, total: 19 }, &totals);
        let (oldest, read, newest) = (answered(&one), answered(&one), answered(&one));
        let reader = read.read();
        assert_eq!(one.kept(), 20, "what is read costs nothing");
        one.shrink_all();
        assert!(oldest.has_lost_answer_since(0) && !newest.has_lost_answer_since(0));
        drop(reader);
        assert_eq!(one.kept(), 20, "and what is left unread is kept");
    }

    #[test]
    fn s_resum_05_who_keeps_no_more_than_a_share_loses_nothing_to_who_keeps_more() {
        let totals = Totals::of(Arc::new(AtomicUsize::new(3)));
        let limits = Limits { session: 1000, total: 60 };
        let (modest, greedy) = (ledger(limits, &totals), ledger(limits, &totals));
        let small = answered(&modest);
        let large: Vec<_> = (0..6).map(|_| answered(&greedy)).collect();
        modest.shrink_all();
        assert!(!small.has_lost_answer_since(0), "though it was left first");
        assert!(large[0].has_lost_answer_since(0) && !large[1].has_lost_answer_since(0));
        // What no stream can let go is nobody else's loss either.
        greedy.change(kept(0), kept(500));
        modest.shrink_all();
        assert!(!small.has_lost_answer_since(0) && modest.excess() == 0 && greedy.excess() >= 480);
    }

    #[test]
    fn s_resum_05_while_all_keep_too_much_each_may_keep_its_share() {
        let totals = Totals::of(Arc::new(AtomicUsize::new(4)));
        let greedy = ledger(Limits { session: 1000, total: 110 }, &totals);
        let modest = ledger(Limits { session: 1000, total: 100 }, &totals);
        let small = ledger(Limits { session: 20, total: 110 }, &totals);
        greedy.change(kept(0), kept(90));
        modest.change(kept(0), kept(20));
        assert_eq!(
            (greedy.excess(), modest.excess()),
            (0, 0),
            "nobody keeps too much, or no more than a share"
        );
        small.change(kept(0), kept(21));
        assert_eq!((greedy.excess(), small.excess()), (90 - 27, 1));
    }

    #[test]
    fn s_https_17_what_is_on_its_way_has_an_account_of_its_own() {
        let totals = Totals::of(Arc::new(AtomicUsize::new(2)));
        let limits = Limits { session: 50, total: 60 };
        let (one, other) = (ledger(limits, &totals), ledger(limits, &totals));
        one.change(Held::default(), Held { kept: 0, flowing: 51 });
        assert!(one.is_crowded() && one.excess() == 0 && !other.is_crowded());
        other.change(Held::default(), Held { kept: 10, flowing: 31 });
        assert!(other.is_crowded(), "more than its share of what all may hold");
    }
}
