//! How long to wait before the next attempt.

use std::time::Duration;

/// At once after a good time, then doubling from `first` to `longest`, each with jitter so that many do not try in step.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, failures: 0 }
    }

    /// Wait before the next attempt; counts one failure.
    pub(super) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let Some(doublings) = self.failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let wait = self.first.saturating_mul(2u32.saturating_pow(doublings.min(16))).min(self.longest);
        wait.mul_f64(1.0 - 0.2 * jitter())
    }

    /// As `next`, where the first attempt after a failure is not to be at once.
    pub(super) fn next_but_not_at_once(&mut self) -> Duration {
        self.failures = self.failures.max(1);
        self.next()
    }

    /// Whether something went wrong since it last worked.
    pub(super) fn is_begun(&self) -> bool {
        self.failures > 0
    }

    /// It worked: forget what went wrong before.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between 0 and 1. Nothing secret hangs on it.
fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f15_the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<f64> = (0..10).map(|_| backoff.next().as_secs_f64()).collect();
        assert_eq!(waits[0], 0.0);
        for (wait, full) in waits[1..].iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((full * 0.79..=full).contains(wait), "{wait} of {full}");
        }
        backoff.reset();
        assert_eq!(backoff.next(), Duration::ZERO);
    }
}
