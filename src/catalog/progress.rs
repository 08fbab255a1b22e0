//! What is known and under way of one upstream's lists: pure, told the time.
//!
//! Always: one fetch of a list at a time; what is wanted meanwhile leads to one more. Who waits for a list joins the fetch
//! that is under way for it, unless that one is slow: then nobody waits again for what others have waited for in vain.
//! Each list has its own clock, failures and pace, so that one which hangs holds up no other. Not here: how fast news may
//! follow one another (`pace`).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::listing::{ContentHash, ListKind};
use super::pace::Pace;

/// Somebody who waits: told by the last of these being dropped.
pub(super) type Waiting = Arc<oneshot::Sender<Infallible>>;

/// What became of the fetch of one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The upstream could not be asked: its connection tells when it can be.
    Unasked,
    /// It could not be fetched, and is tried again then.
    Failed(Instant),
    /// It came, or there is none.
    Fetched {
        /// When it is no longer good; `None`: when the upstream tells.
        look_again: Option<Instant>,
        /// What is in it.
        content: Option<ContentHash>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    lists: [ListProgress; 4],
    fetched: Option<Instant>,
    /// When a list was last fetched because of a doubt.
    doubted: Option<Instant>,
}

#[derive(Debug, Default)]
struct ListProgress {
    under_way: Option<Fetching>,
    /// To be fetched, from then on.
    wanted: Option<Instant>,
    waiting: Vec<Waiting>,
    /// When it is no longer good.
    look_again: Option<Instant>,
    /// Fetches that failed one after the other.
    failures: u32,
    /// The upstream told of a change since it was last asked for.
    is_told: bool,
    content: Option<ContentHash>,
    pace: Pace,
}

#[derive(Debug)]
struct Fetching {
    started: Instant,
    /// Told when this is dropped.
    waiting: Vec<Waiting>,
}

impl ListProgress {
    fn want(&mut self, from: Instant) {
        self.wanted = Some(self.wanted.map_or(from, |wanted| wanted.min(from)));
    }

    fn is_due(&self, when: Instant) -> bool {
        self.look_again.is_some_and(|at| at <= when)
    }
}

impl Progress {
    fn of(&mut self, kind: ListKind) -> &mut ListProgress {
        &mut self.lists[kind.index()]
    }

    /// Has these kinds fetched as soon as may be.
    pub(super) fn want(&mut self, kinds: &[ListKind], now: Instant) {
        kinds.iter().for_each(|kind| self.of(*kind).want(now));
    }

    /// What to fetch now: what is wanted and not under way.
    pub(super) fn begin(&mut self, now: Instant, longest_pace: Duration) -> Vec<ListKind> {
        let mut kinds = Vec::new();
        for kind in ListKind::ALL {
            let list = self.of(kind);
            if list.under_way.is_some() || list.wanted.is_none_or(|from| from > now) {
                continue;
            }
            list.wanted = None;
            if std::mem::take(&mut list.is_told) {
                list.pace.step(now, longest_pace);
            }
            list.under_way = Some(Fetching { started: now, waiting: std::mem::take(&mut list.waiting) });
            kinds.push(kind);
        }
        if !kinds.is_empty() {
            self.fetched = Some(now);
        }
        kinds
    }

    /// The fetch of a list has ended; those who waited for it go on.
    pub(super) fn settle(&mut self, kind: ListKind, settled: Settled) {
        let list = self.of(kind);
        list.under_way = None;
        match settled {
            Settled::Unasked => {}
            Settled::Failed(look_again) => {
                list.failures = list.failures.saturating_add(1);
                list.look_again = Some(look_again);
            }
            Settled::Fetched { look_again, content } => {
                list.failures = 0;
                list.look_again = look_again;
                if std::mem::replace(&mut list.content, content) != content {
                    list.pace.was_worth_it();
                }
            }
        }
    }

    /// The upstream said that these have changed: wants them fetched when their pace allows. Says when somebody has to
    /// look for that, where that is not now and nobody was told to yet.
    pub(super) fn revoke(&mut self, kinds: &[ListKind], now: Instant) -> Vec<Instant> {
        let mut later = Vec::new();
        for kind in kinds {
            let list = self.of(*kind);
            (list.look_again, list.is_told) = (Some(now), true);
            let from = list.pace.next(now);
            if from > now && list.wanted.is_none() {
                later.push(from);
            }
            list.want(from);
        }
        later
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
        let list = self.of(kind);
        let is_wanted = list.wanted.is_some() || list.is_due(now);
        match &mut list.under_way {
            Some(fetching) if now.saturating_duration_since(fetching.started) >= patience => return false,
            Some(fetching) if list.wanted.is_none() => fetching.waiting.push(Arc::clone(waiting)),
            _ if is_wanted => {
                list.want(now);
                list.waiting.push(Arc::clone(waiting));
            }
            _ => return false,
        }
        true
    }

    /// Whether a list is no longer good at `when`.
    pub(super) fn is_due(&self, kind: ListKind, when: Instant) -> bool {
        self.lists[kind.index()].is_due(when)
    }

    /// When the last fetch began.
    pub(super) fn fetched(&self) -> Option<Instant> {
        self.fetched
    }

    /// Fetches of that list that failed in a row.
    pub(super) fn failures(&self, kind: ListKind) -> u32 {
        self.lists[kind.index()].failures
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
    const PACE: Duration = Duration::from_secs(60);

    fn waiter() -> (Waiting, oneshot::Receiver<Infallible>) {
        let (sender, receiver) = oneshot::channel();
        (Arc::new(sender), receiver)
    }

    fn fetched(progress: &mut Progress, kind: ListKind, look_again: Option<Instant>) {
        progress.settle(kind, Settled::Fetched { look_again, content: None });
    }

    fn is_over(listed: &mut oneshot::Receiver<Infallible>) -> bool {
        matches!(listed.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn s_cache_04_many_who_ask_for_a_stale_list_wait_for_one_fetch() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.want(&[ListKind::Tools], now);
        assert_eq!(progress.begin(now, PACE), [ListKind::Tools]);
        fetched(&mut progress, ListKind::Tools, Some(now + PATIENCE));

        let (fresh, mut listed) = waiter();
        assert!(!progress.ask(ListKind::Tools, &fresh, now, PATIENCE));
        drop(fresh);
        assert!(is_over(&mut listed) && progress.begin(now, PACE).is_empty(), "it is still good");

        let later = now + PATIENCE;
        let mut all = Vec::new();
        for _ in 0..50 {
            let (waiting, listed) = waiter();
            assert!(progress.ask(ListKind::Tools, &waiting, later, PATIENCE));
            all.push(listed);
            assert!(progress.begin(later, PACE).len() == usize::from(all.len() == 1), "one fetch");
        }
        assert!(!all.iter_mut().any(is_over));
        fetched(&mut progress, ListKind::Tools, None);
        assert!(all.iter_mut().all(is_over));
        assert!(progress.begin(later, PACE).is_empty());
    }

    #[test]
    fn s_tool_15_nobody_waits_for_a_fetch_that_others_have_waited_for_in_vain() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.revoke(&[ListKind::Tools], now);
        let (first, mut listed) = waiter();
        progress.ask(ListKind::Tools, &first, now, PATIENCE);
        drop(first);
        assert!(!progress.begin(now, PACE).is_empty() && !is_over(&mut listed));
        let (late, mut listed) = waiter();
        progress.ask(ListKind::Tools, &late, now + PATIENCE, PATIENCE);
        drop(late);
        assert!(is_over(&mut listed));
    }

    #[test]
    fn s_tool_15_a_list_that_hangs_holds_up_no_other() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.want(&[ListKind::Tools, ListKind::Prompts], now);
        assert_eq!(progress.begin(now, PACE), [ListKind::Tools, ListKind::Prompts]);
        fetched(&mut progress, ListKind::Tools, None);
        let later = now + PATIENCE;
        progress.revoke(&[ListKind::Tools], later);
        let (waiting, mut listed) = waiter();
        assert!(progress.ask(ListKind::Tools, &waiting, later, PATIENCE));
        drop(waiting);
        assert_eq!(progress.begin(later, PACE), [ListKind::Tools]);
        fetched(&mut progress, ListKind::Tools, None);
        assert!(is_over(&mut listed));
    }

    #[test]
    fn s_tool_15_the_failures_of_one_list_are_not_forgotten_for_anothers_success() {
        let now = Instant::now();
        let mut progress = Progress::default();
        for failures in 1..=3 {
            progress.want(&ListKind::ALL, now);
            progress.begin(now, PACE);
            progress.settle(ListKind::Prompts, Settled::Failed(now));
            fetched(&mut progress, ListKind::Tools, None);
            assert_eq!(
                (progress.failures(ListKind::Prompts), progress.failures(ListKind::Tools)),
                (failures, 0)
            );
        }
    }

    #[test]
    fn s_cache_04_a_change_told_during_a_fetch_leads_to_one_more_and_is_waited_for() {
        let now = Instant::now();
        let mut progress = Progress::default();
        progress.want(&[ListKind::Tools], now);
        progress.begin(now, PACE);
        progress.revoke(&[ListKind::Tools], now);
        let (waiting, mut listed) = waiter();
        progress.ask(ListKind::Tools, &waiting, now, PATIENCE);
        drop(waiting);
        assert!(progress.begin(now, PACE).is_empty());
        fetched(&mut progress, ListKind::Tools, None);
        assert!(!is_over(&mut listed), "what came was older than the change");
        assert_eq!(progress.begin(now, PACE), [ListKind::Tools]);
        fetched(&mut progress, ListKind::Tools, None);
        assert!(is_over(&mut listed));
    }

    #[test]
    fn s_list_04_a_server_that_tells_of_a_change_whenever_it_is_listed_is_listed_ever_more_seldom() {
        let mut now = Instant::now();
        let (mut progress, mut waits) = (Progress::default(), Vec::new());
        for _ in 0..12 {
            let later = progress.revoke(&[ListKind::Tools], now);
            waits.push(later.first().map_or(0, |later| (*later - now).as_millis()));
            assert_eq!(progress.revoke(&[ListKind::Tools], now), [], "one alarm");
            now = later.first().copied().unwrap_or(now);
            assert_eq!(progress.begin(now, PACE), [ListKind::Tools]);
            fetched(&mut progress, ListKind::Tools, None);
        }
        assert_eq!(waits, [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000]);

        // Who is to be shown it does not wait for that, and what really changed is followed closely again.
        assert_eq!(progress.revoke(&[ListKind::Tools], now).len(), 1);
        let (waiting, _listed) = waiter();
        assert!(progress.ask(ListKind::Tools, &waiting, now, PATIENCE));
        assert_eq!(progress.begin(now, PACE), [ListKind::Tools]);
        progress.settle(ListKind::Tools, Settled::Fetched { look_again: None, content: Some([1; 16]) });
        assert_eq!(progress.revoke(&[ListKind::Tools], now), [now + Duration::from_millis(100)]);
    }
}
