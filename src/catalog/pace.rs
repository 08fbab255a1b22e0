//! How fast a list is fetched again because its server says that it changed.
//!
//! Always: the first time at once; then with growing distance, as long as nothing new comes of it. Not here: who is to be
//! shown a list now, and does not wait for this (`progress`).

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two fetches for news.
const FIRST: Duration = Duration::from_millis(100);

/// See the module head.
#[derive(Debug)]
pub(super) struct Pace {
    /// When a fetch for news last began.
    last: Option<Instant>,
    window: Duration,
    /// So long without news, and nothing is remembered.
    quiet: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { last: None, window: FIRST, quiet: Duration::MAX }
    }
}

impl Pace {
    /// From when on there may be a fetch for news that come now.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        let Some(last) = self.last else { return now };
        if now.saturating_duration_since(last) > self.quiet {
            *self = Pace::default();
            return now;
        }
        now.max(last + self.window)
    }

    /// A fetch for news begins; the next one comes later still, at most by `longest`.
    pub(super) fn step(&mut self, now: Instant, longest: Duration) {
        let is_first = self.last.replace(now).is_none();
        self.window = if is_first { FIRST } else { self.window.saturating_mul(2).min(longest.max(FIRST)) };
        self.quiet = longest.saturating_mul(2);
    }

    /// Something did change.
    pub(super) fn was_worth_it(&mut self) {
        self.window = FIRST;
    }
}
