//! How much of what upstreams say by themselves is passed on: a rate, and the gate of one session's logs.
//!
//! Always: severity is judged before the rate is taken, and both before anything is queued, copied or looked into, so
//! that a flood of small talk hides no error of the same upstream and nothing of another. Not here: what a log message
//! looks like to its client (`protocol::log_level`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::UpstreamName;
use crate::protocol::json::Object;
use crate::protocol::log_level::{LogLevel, is_severe_enough};

/// So many a second, as many at once (the generic cell rate algorithm, on the runtime's clock).
#[derive(Debug)]
pub struct Rate {
    gap: Duration,
    burst: Duration,
    /// When the ones that were taken would have come at an even pace.
    even: Option<Instant>,
}

impl Rate {
    /// `many` a second.
    pub fn per_second(many: usize) -> Self {
        let gap = Duration::from_secs(1) / u32::try_from(many).unwrap_or(u32::MAX).max(1);
        Rate { gap, burst: Duration::from_secs(1), even: None }
    }

    /// Takes one now, if that is within the rate.
    pub fn take(&mut self, now: Instant) -> bool {
        let even = self.even.map_or(now, |even| even.max(now));
        let within = even < now + self.burst;
        if within {
            self.even = Some(even + self.gap);
        }
        within
    }

    /// When one more is within the rate.
    pub fn next(&self) -> Option<Instant> {
        self.even.map(|even| even + self.gap - self.burst)
    }
}

/// Which log messages that belong to no call reach a session: those it wants, so many a second of each upstream.
#[derive(Debug)]
pub struct LogGate {
    level: AtomicU8,
    per_second: usize,
    rates: Mutex<HashMap<UpstreamName, Rate>>,
}

impl LogGate {
    /// Of a session that has said nothing: `warning` and above (S-LOG-06).
    pub fn new(per_second: usize) -> Self {
        LogGate { level: AtomicU8::new(LogLevel::Warning as u8), per_second, rates: Mutex::default() }
    }

    /// The least severe level that passes.
    pub fn level(&self) -> LogLevel {
        LogLevel::from_number(self.level.load(Ordering::Relaxed)).unwrap_or(LogLevel::Warning)
    }

    /// Sets the least severe level that passes.
    pub fn set_level(&self, level: LogLevel) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether the message with these parameters passes now.
    pub fn admits(&self, upstream: &UpstreamName, params: &Object) -> bool {
        if !is_severe_enough(params, self.level()) {
            return false;
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Rate::per_second(self.per_second);
        rates.entry(upstream.clone()).or_insert_with(fresh).take(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    #[test]
    fn s_log_05_one_upstream_s_flood_leaves_room_for_its_errors_and_for_others() {
        let log = |level: &str| {
            let text = format!(r#"{{"level":"{level}","data":1}}"#);
            Object::parse(Bytes::from(text), Limits::NONE).expect("valid")
        };
        let (one, two) = (UpstreamName::new("one"), UpstreamName::new("two"));
        let gate = LogGate::new(10);
        let passed = |upstream, level| (0..1_000).filter(|_| gate.admits(upstream, &log(level))).count();
        assert_eq!(passed(&one, "debug"), 0);
        let errors = passed(&one, "error");
        assert!((10..30).contains(&errors), "{errors} of a flood");
        assert!(passed(&two, "warning") >= 10);
        gate.set_level(LogLevel::Critical);
        assert_eq!(passed(&UpstreamName::new("three"), "error"), 0);
    }
}
