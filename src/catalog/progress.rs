//! What is known and under way of one upstream's lists: pure, told the time.
//!
//! Always: one fetch at a time; what is wanted meanwhile leads to one more. Who waits for a list joins the fetch that is
//! under way for it, unless that one is slow: then nobody waits again for what others have waited for in vain.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::listing::ListKind;

/// Somebody who waits: told by the last of these being dropped.
pub(super) type Waiting = Arc<oneshot::Sender<Infallible>>;

/// By kind, when a list that was just fetched is to be fetched again; `None` where it was not fetched.
pub(super) type LookAgain = [Option<Option<Instant>>; 4];

#[derive(Debug, Default)]
pub(super) struct Progress {
    under_way: Option<Fetching>,
    wanted: Vec<ListKind>,
    waiting: Vec<Waiting>,
    /// When a list is no longer good, of those that were fetched.
    look_again: [Option<Instant>; 4],
    fetched: Option<Instant>,
    /// When a list was last fetched because of a doubt.
    doubted: Option<Instant>,
    /// Fetches that failed one after the other.
    failures: u32,
}

#[derive(Debug)]
struct Fetching {
    kinds: Vec<ListKind>,
    started: Instant,
    waiting: Vec<Waiting>,
}

impl Progress {
    /// Has these kinds fetched with the next fetch.
    pub(super) fn want(&mut self, kinds: &[ListKind]) {
        for kind in kinds {
            if !self.wanted.contains(kind) {
                self.wanted.push(*kind);
            }
        }
    }

    /// What to fetch now; `None` while there is nothing to fetch or a fetch under way.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Vec<ListKind>> {
        if self.under_way.is_some() || self.wanted.is_empty() {
            return None;
        }
        let kinds = std::mem::take(&mut self.wanted);
        let waiting = std::mem::take(&mut self.waiting);
        self.fetched = Some(now);
        self.under_way = Some(Fetching { kinds: kinds.clone(), started: now, waiting });
        Some(kinds)
    }

    /// The fetch under way has ended; those who waited for it go on.
    pub(super) fn settle(&mut self, look_again: LookAgain, has_failed: bool) {
        self.under_way = None;
        self.failures = if has_failed { self.failures.saturating_add(1) } else { 0 };
        for (known, news) in self.look_again.iter_mut().zip(look_again) {
            if let Some(news) = news {
                *known = news;
            }
        }
    }

    /// The upstream said that these have changed.
    pub(super) fn revoke(&mut self, kinds: &[ListKind], now: Instant) {
        kinds.iter().for_each(|kind| self.look_again[kind.index()] = Some(now));
    }

    /// Somebody is to be shown this list: wants it fetched if it is no longer good, and lets him wait for that for as long
    /// as `patience` after the fetch began. Says whether he waits.
    pub(super) fn ask(
        &mut self,
        kind: ListKind,
        waiting: &Waiting,
        now: Instant,
        patience: Duration,
    ) -> bool {
        let is_slow = |fetching: &Fetching| now.saturating_duration_since(fetching.started) >= patience;
        let is_wanted = self.wanted.contains(&kind) || self.is_due(kind, now);
        match &mut self.under_way {
            Some(fetching) if is_slow(fetching) => return false,
            Some(fetching) if fetching.kinds.contains(&kind) && !self.wanted.contains(&kind) => {
                fetching.waiting.push(Arc::clone(waiting));
            }
            _ if is_wanted => {
                self.want(&[kind]);
                self.waiting.push(Arc::clone(waiting));
            }
            _ => return false,
        }
        true
    }

    /// Whether a list is no longer good at `when`.
    pub(super) fn is_due(&self, kind: ListKind, when: Instant) -> bool {
        self.look_again[kind.index()].is_some_and(|at| at <= when)
    }

    /// When the last fetch began.
    pub(super) fn fetched(&self) -> Option<Instant> {
        self.fetched
    }

    /// Fetches that failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a doubt may lead to a fetch, at most one in `every`.
    pub(super) fn may_doubt(&mut self, now: Instant, every: Duration) -> bool {
        let may = self.doubted.is_none_or(|last| now.saturating_duration_since(last) >= every);
        if may {
            self.doubted = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn waiter() -> (Waiting, oneshot::Receiver<Infallible>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(sender), receiver)
    }

    fn fetched(progress: &mut Progress, kind: ListKind, look_again: Option<Instant>) {
        let mut news = LookAgain::default();
        news[kind.index()] = Some(look_again);
        progress.settle(news, false);
    }

    fn is_over(listed: &mut oneshot::Receiver<Infallible>) -> bool {
        matches!(listed.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn s_cache_04_many_who_ask_for_a_stale_list_wait_for_one_fetch() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.want(&[ListKind::Tools]);
        assert_eq!(progress.begin(now), Some(vec![ListKind::Tools]));
        fetched(&mut progress, ListKind::Tools, Some(now + PATIENCE));

        let (fresh, mut listed) = waiter();
        progress.ask(ListKind::Tools, &fresh, now, PATIENCE);
        drop(fresh);
        assert!(is_over(&mut listed) && progress.begin(now).is_none(), "it is still good");

        let later = now + PATIENCE;
        let mut all = Vec::new();
        for _ in 0..50 {
            let (waiting, listed) = waiter();
            progress.ask(ListKind::Tools, &waiting, later, PATIENCE);
            all.push(listed);
            assert!(progress.begin(later).is_some() == (all.len() == 1), "one fetch");
        }
        assert!(!all.iter_mut().any(is_over));
        fetched(&mut progress, ListKind::Tools, None);
        assert!(all.iter_mut().all(is_over));
        assert_eq!(progress.begin(later), None);
    }

    #[test]
    fn s_tool_15_nobody_waits_for_a_fetch_that_others_have_waited_for_in_vain() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.revoke(&[ListKind::Tools], now);
        let (first, mut listed) = waiter();
        progress.ask(ListKind::Tools, &first, now, PATIENCE);
        drop(first);
        assert!(progress.begin(now).is_some() && !is_over(&mut listed));
        let (late, mut listed) = waiter();
        progress.ask(ListKind::Tools, &late, now + PATIENCE, PATIENCE);
        drop(late);
        assert!(is_over(&mut listed));
    }

    #[test]
    fn s_cache_04_a_change_told_during_a_fetch_leads_to_one_more_and_is_waited_for() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.want(&[ListKind::Tools]);
        progress.begin(now).expect("a fetch");
        progress.revoke(&[ListKind::Tools], now);
        progress.want(&[ListKind::Tools]);
        let (waiting, mut listed) = waiter();
        progress.ask(ListKind::Tools, &waiting, now, PATIENCE);
        drop(waiting);
        assert_eq!(progress.begin(now), None);
        fetched(&mut progress, ListKind::Tools, None);
        assert!(!is_over(&mut listed), "what came was older than the change");
        assert_eq!(progress.begin(now), Some(vec![ListKind::Tools]));
        fetched(&mut progress, ListKind::Tools, None);
        assert!(is_over(&mut listed));
    }
}
