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
}

impl Clock {
    /// Starts now, at the system's time.
    pub fn system() -> Self {
        Clock::starting_at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// Starts now, at this time since 1970.
    pub fn starting_at(started: Duration) -> Self {
        Clock { started, since: Instant::now() }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
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

    #[tokio::test(start_paused = true)]
    async fn f44_the_clock_goes_with_monotonic_time_alone() {
        let clock = Clock::starting_at(Duration::from_secs(100));
        assert_eq!(clock.now_ms(), 100_000);
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now_ms(), 101_500);
        assert_eq!(clock.now(), UNIX_EPOCH + Duration::from_millis(101_500));
        assert!(Clock::system().now_ms() > 1_600_000_000_000);
    }
}
