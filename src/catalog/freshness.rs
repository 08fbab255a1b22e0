//! How long lists are good: what is known of one upstream's list, and what follows for the merged ones (S-CACHE-02).
//!
//! Always: a merged list is as good as the least good of its contributions, and for nobody else when one of them is. It
//! changes without a new snapshot when only times do, so views hold it in a `ListClock`. Not here: asking again
//! (`refresher`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::caching::{Hints, Lifetime, Scope};

/// How long one list of one upstream is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// From when on it is fetched again before it is shown; `None` while the upstream would tell of changes.
    pub look_again: Option<Instant>,
    /// Until when clients may keep it; `None`: as long as is configured for upstreams that do not say.
    pub keep_until: Option<Instant>,
    /// Who may be shown it.
    pub scope: Scope,
}

impl Term {
    /// Good until the upstream tells otherwise; that of one that says nothing of time (S-CACHE-06).
    pub const UNTIL_TOLD: Term = Term { look_again: None, keep_until: None, scope: Scope::Private };

    /// The end of an upstream's patience with its own answer: of page by page, each received when it was.
    pub(super) fn of_page(hints: Hints, received: Instant, times: TermLimits) -> Term {
        let ttl = hints.ttl.unwrap_or(times.unsaid).min(times.longest);
        let until = Some(received + ttl);
        Term { look_again: until, keep_until: until, scope: hints.scope }
    }

    /// That of a list of two pages.
    pub(super) fn and(self, other: Term) -> Term {
        Term {
            look_again: earliest(self.look_again, other.look_again),
            keep_until: earliest(self.keep_until, other.keep_until),
            scope: self.scope.max(other.scope),
        }
    }

    /// Good no longer, and asked for again from `look_again` on.
    pub(super) fn over(self, now: Instant, look_again: Instant) -> Term {
        Term { look_again: Some(look_again), keep_until: Some(now), ..self }
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Bounds on what upstreams say.
#[derive(Debug, Clone, Copy)]
pub struct TermLimits {
    /// `bounds.list_ttl`: of what an upstream says nothing.
    pub unsaid: Duration,
    /// `bounds.cache_age`: the longest, whatever is said.
    pub longest: Duration,
}

/// What is known of a merged list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merged {
    look_again: Option<Instant>,
    keep_until: Option<Instant>,
    most: Duration,
    scope: Option<Scope>,
}

impl Merged {
    /// Of nothing yet: it may be something soon.
    pub(super) fn new(limits: TermLimits) -> Merged {
        Merged { look_again: None, keep_until: None, most: limits.unsaid, scope: None }
    }

    /// Takes in a contribution.
    pub(super) fn add(&mut self, term: Term, limits: TermLimits) {
        self.look_again = earliest(self.look_again, term.look_again);
        self.keep_until = earliest(self.keep_until, term.keep_until);
        let most = if term.keep_until.is_some() { limits.longest } else { limits.unsaid };
        self.most = if self.scope.is_some() { self.most.min(most) } else { most };
        self.scope = self.scope.max(Some(term.scope));
    }

    /// An upstream that may have something to contribute was left out.
    pub(super) fn skip(&mut self) {
        self.most = Duration::ZERO;
        self.scope = Some(Scope::Private);
    }
}

/// What is known of a merged list now. Written by the catalogue's writer alone; a reader that comes between two of its
/// stores sees one of the two times older, and both are of the same list.
#[derive(Debug)]
pub(super) struct ListClock {
    epoch: Instant,
    /// Milliseconds of the epoch; `u64::MAX` is never.
    look_again: AtomicU64,
    keep_until: AtomicU64,
    /// The longest that clients may keep it, in milliseconds, twice, and 1 if it is private.
    most: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl ListClock {
    pub(super) fn new(epoch: Instant) -> ListClock {
        ListClock {
            epoch,
            look_again: AtomicU64::new(NEVER),
            keep_until: AtomicU64::new(0),
            most: AtomicU64::new(1),
        }
    }

    pub(super) fn set(&self, merged: Merged) {
        let at = |instant: Option<Instant>| instant.map_or(NEVER, |instant| self.at(instant));
        // What nobody contributed to is nobody's to share.
        let private = merged.scope != Some(Scope::Public);
        self.most.store(milliseconds(merged.most) << 1 | u64::from(private), Ordering::Relaxed);
        self.keep_until.store(at(merged.keep_until), Ordering::Relaxed);
        self.look_again.store(at(merged.look_again), Ordering::Release);
    }

    /// Whether an upstream has to be asked before the list is shown.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.at(now) >= self.look_again.load(Ordering::Acquire)
    }

    /// What clients are told.
    pub(super) fn lifetime(&self, now: Instant) -> Lifetime {
        let packed = self.most.load(Ordering::Relaxed);
        let left = self.keep_until.load(Ordering::Relaxed).saturating_sub(self.at(now));
        let scope = if packed & 1 == 0 { Scope::Public } else { Scope::Private };
        Lifetime { ttl: Duration::from_millis(left.min(packed >> 1)), scope }
    }

    fn at(&self, instant: Instant) -> u64 {
        milliseconds(instant.saturating_duration_since(self.epoch))
    }
}

fn milliseconds(time: Duration) -> u64 {
    // A bit of it is needed for the scope.
    u64::try_from(time.as_millis()).unwrap_or(NEVER).min(NEVER >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TermLimits =
        TermLimits { unsaid: Duration::from_secs(5), longest: Duration::from_secs(300) };

    fn said(ttl: Option<u64>, scope: Scope) -> Hints {
        Hints { ttl: ttl.map(Duration::from_millis), scope }
    }

    fn clock(terms: &[Term], epoch: Instant) -> ListClock {
        let clock = ListClock::new(epoch);
        let mut merged = Merged::new(LIMITS);
        terms.iter().for_each(|term| merged.add(*term, LIMITS));
        clock.set(merged);
        clock
    }

    fn told(clock: &ListClock, now: Instant) -> (u64, Scope) {
        let lifetime = clock.lifetime(now);
        (lifetime.ttl_ms(), lifetime.scope)
    }

    #[test]
    fn s_cache_02_a_merged_list_is_as_good_as_the_least_good_of_its_contributions() {
        let now = Instant::now();
        let term = |ttl, scope| Term::of_page(said(ttl, scope), now, LIMITS);
        let (minute, hour) = (term(Some(60_000), Scope::Public), term(Some(3_600_000), Scope::Public));
        let rows: [(&[Term], (u64, Scope)); 7] = [
            (&[], (5_000, Scope::Private)),
            (&[minute], (60_000, Scope::Public)),
            (&[minute, hour], (60_000, Scope::Public)),
            (&[hour], (300_000, Scope::Public)),
            (&[minute, term(Some(61_000), Scope::Private)], (60_000, Scope::Private)),
            (&[minute, Term::UNTIL_TOLD], (5_000, Scope::Private)),
            (&[minute, term(None, Scope::Public), term(Some(0), Scope::Public)], (0, Scope::Public)),
        ];
        for (terms, expected) in rows {
            assert_eq!(told(&clock(terms, now), now), expected, "{terms:?}");
        }
    }

    #[test]
    fn s_cache_04_fresh_until_received_plus_ttl_and_told_what_is_left_of_it() {
        let received = Instant::now();
        let term = Term::of_page(said(Some(1000), Scope::Public), received, LIMITS);
        let clock = clock(&[term], received);
        let at = |ms| received + Duration::from_millis(ms);
        assert_eq!((clock.is_stale(at(999)), told(&clock, at(400)).0), (false, 600));
        assert_eq!((clock.is_stale(at(1000)), told(&clock, at(1000)).0), (true, 0));
        assert_eq!(told(&clock, at(5000)).0, 0);
    }

    #[test]
    fn s_cache_04_each_page_has_its_own_clock_and_one_private_page_makes_the_list_private() {
        let start = Instant::now();
        let later = start + Duration::from_millis(500);
        let first = Term::of_page(said(Some(1000), Scope::Public), start, LIMITS);
        let second = Term::of_page(said(Some(800), Scope::Private), later, LIMITS);
        let both = first.and(second);
        assert_eq!(both.look_again, Some(start + Duration::from_millis(1000)));
        assert_eq!(both.scope, Scope::Private);
    }

    #[test]
    fn s_cache_02_a_list_from_which_an_upstream_was_left_out_is_not_kept() {
        let epoch = Instant::now();
        let clock = ListClock::new(epoch);
        let mut merged = Merged::new(LIMITS);
        merged.add(Term::of_page(said(Some(60_000), Scope::Public), epoch, LIMITS), LIMITS);
        merged.skip();
        clock.set(merged);
        assert_eq!(told(&clock, epoch), (0, Scope::Private));
        assert!(!clock.is_stale(epoch), "what is away comes back by itself");
    }

    #[test]
    fn s_cache_06_what_is_told_of_changes_is_never_looked_at_by_the_clock() {
        let epoch = Instant::now();
        let clock = clock(&[Term::UNTIL_TOLD], epoch);
        let in_a_year = epoch + Duration::from_secs(365 * 24 * 3600);
        assert!(!clock.is_stale(in_a_year));
        assert_eq!(told(&clock, in_a_year), (5_000, Scope::Private));
    }
}
