//! The one clock of what is kept: wall time at the start, monotonic time since.
//!
//! Always: it never goes back and never jumps, whatever is done to the system's clock (F44). Under tokio's paused time it
//! stands still with it, as long as it is read where that runtime runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Tells what time it is. Cheap to copy; copies agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Duration,
    since: Instant,
    #[cfg(test)]
    hand: Option<&'static std::sync::atomic::AtomicU64>,
}

impl Clock {
    /// Starts now, at the system's time.
    pub fn system() -> Self {
        Clock::starting_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Starts now, at this time since 1970.
    pub fn starting_at(started: Duration) -> Self {
        Clock {
            started,
            since: Instant::now(),
            #[cfg(test)]
            hand: None,
        }
    }

    /// One that tests move: it tells what the number says, in every thread.
    #[cfg(test)]
    pub(crate) fn by_hand(now_ms: u64) -> (Self, &'static std::sync::atomic::AtomicU64) {
        let hand: &'static _ = Box::leak(Box::new(std::sync::atomic::AtomicU64::new(now_ms)));
        (Clock { hand: Some(hand), ..Clock::starting_at(Duration::ZERO) }, hand)
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        #[cfg(test)]
        if let Some(hand) = self.hand {
            return hand.load(std::sync::atomic::Ordering::Relaxed);
        }
        u64::try_from((self.started + self.since.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }

    /// The same, as a time of the system.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.now_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f44_the_clock_goes_with_monotonic_time_alone() {
        let since =
            Instant::now().checked_sub(Duration::from_millis(1_500)).expect("the machine runs that long");
        let clock = Clock { since, ..Clock::starting_at(Duration::from_secs(100)) };
        let now = clock.now_ms();
        assert!((101_500..110_000).contains(&now), "{now}");
        assert!(clock.now() >= UNIX_EPOCH + Duration::from_millis(now), "it does not go back");
        assert!(Clock::system().now_ms() > 1_600_000_000_000);
    }
}
