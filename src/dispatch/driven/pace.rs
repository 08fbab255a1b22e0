//! When an upstream's task is looked at next.
//!
//! Always: no oftener than the upstream wishes (S-TASK-09, S-TX-16) and never so often or so seldom that it makes no sense;
//! one that does not answer is left alone longer each time, and so is one that refuses what goes beside the looks. Not
//! here: what a look brings.

use std::time::Duration;

use tokio::time::Instant;

/// Where the upstream names no interval.
const UNSAID: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);

/// See the module head.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// Looks in a row that brought nothing.
    failures: u32,
}

impl Pace {
    /// As the upstream says at first, in milliseconds.
    pub(super) fn of(said: Option<u64>) -> Self {
        Pace { interval: interval(said), failures: 0 }
    }

    /// A look brought something, and this is what the upstream says now; what it does not repeat holds on.
    pub(super) fn seen(&mut self, said: Option<u64>) {
        self.failures = 0;
        if said.is_some() {
            self.interval = interval(said);
        }
    }

    /// A look brought nothing.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Looks in a row that brought nothing.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Until the next look.
    pub(super) fn pause(&self) -> Duration {
        self.pause_after(self.failures)
    }

    /// Until the next try of something that failed so often in a row.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures);
        self.interval.saturating_mul(doubled).min(LONGEST.max(self.interval))
    }
}

/// Refusals in a row of what is asked beside the looks.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    count: u32,
    until: Option<Instant>,
}

impl Refusals {
    /// There was one more; gives how many there were. The next try is due after a while of this pace.
    pub(super) fn another(&mut self, pace: &Pace) -> u32 {
        self.count = self.count.saturating_add(1);
        self.until = Some(Instant::now() + pace.pause_after(self.count));
        self.count
    }

    /// Whether it may be tried, again or at all.
    pub(super) fn are_past(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    /// Whether the last try was refused.
    pub(super) fn are_there(&self) -> bool {
        self.count > 0
    }
}

fn interval(said: Option<u64>) -> Duration {
    said.map_or(UNSAID, Duration::from_millis).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_task_09_the_upstream_sets_the_pace_within_reason() {
        let pause = |said| Pace::of(said).pause();
        assert_eq!(pause(None), UNSAID);
        assert_eq!(pause(Some(250)), Duration::from_millis(250));
        assert_eq!(pause(Some(0)), SHORTEST);
        assert_eq!(pause(Some(u64::MAX)), LONGEST);
    }

    #[test]
    fn s_tx_16_a_pace_may_change_and_holds_on_where_nothing_is_said() {
        let mut pace = Pace::of(Some(100));
        pace.seen(None);
        assert_eq!(pace.pause(), Duration::from_millis(100));
        pace.seen(Some(5_000));
        assert_eq!(pace.pause(), Duration::from_secs(5));
    }

    #[test]
    fn one_that_does_not_answer_is_asked_less_and_less_often() {
        let mut pace = Pace::of(Some(1_000));
        let mut last = pace.pause();
        for _ in 0..6 {
            pace.failed();
            assert!(pace.pause() > last, "{:?}", pace.pause());
            last = pace.pause();
        }
        for _ in 0..100 {
            pace.failed();
        }
        assert_eq!(pace.pause(), LONGEST);
        pace.seen(None);
        assert_eq!((pace.pause(), pace.failures()), (Duration::from_secs(1), 0));
    }
}
