//! Quotas per key, counted in this process.
//!
//! Always: what is allowed is counted at once; keys that are back at their full quota take no memory for long. Not here:
//! which quota is whose.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, RateLimiter};

/// So much at once, and so much again in each period, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// What may come at once, and in each period.
    pub burst: NonZeroU32,
    /// Longer than a nanosecond.
    pub period: Duration,
}

/// What became of a request for a part of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was counted.
    Allowed,
    /// It was not counted, and may be after this time.
    Later(Duration),
    /// It asks for more than the quota ever has.
    Never,
}

/// Quotas.
pub trait Limits: Send + Sync + std::fmt::Debug {
    /// Counts `cost` against the quota of `key`, if it has so much left.
    fn check(&self, key: &str, cost: NonZeroU32, quota: Quota) -> Decision;
}

/// [`Limits`] of this process alone.
#[derive(Debug, Default)]
pub struct LocalLimits {
    clock: DefaultClock,
    limiters: DashMap<Quota, DefaultKeyedRateLimiter<String>>,
    checks: AtomicUsize,
}

/// After so many checks keys at their full quota are forgotten.
const SWEEP: usize = 4_096;

impl Limits for LocalLimits {
    fn check(&self, key: &str, cost: NonZeroU32, quota: Quota) -> Decision {
        let limiter = self.limiters.entry(quota).or_insert_with(|| {
            let each = quota.period.checked_div(quota.burst.get()).unwrap_or_default();
            // A period too short to divide is no limit on time, only on what comes at once.
            let rate = governor::Quota::with_period(each.max(Duration::from_nanos(1)));
            RateLimiter::keyed(rate.expect("longer than nothing").allow_burst(quota.burst))
        });
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        match limiter.check_key_n(&key.to_owned(), cost) {
            Err(_) => Decision::Never,
            Ok(Ok(())) => Decision::Allowed,
            Ok(Err(not_until)) => Decision::Later(not_until.wait_time_from(self.clock.now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_each_keys_own_and_says_when_it_has_more() {
        let limits = LocalLimits::default();
        let some = |number| NonZeroU32::new(number).expect("not zero");
        let quota = Quota { burst: some(3), period: Duration::from_secs(3_600) };
        assert_eq!(limits.check("a", some(2), quota), Decision::Allowed);
        assert_eq!(limits.check("a", some(1), quota), Decision::Allowed);
        let Decision::Later(wait) = limits.check("a", some(1), quota) else { panic!("it was used up") };
        assert!(wait > Duration::from_secs(1_000) && wait <= Duration::from_secs(1_200), "{wait:?}");
        assert_eq!(limits.check("a", some(4), quota), Decision::Never);
        assert_eq!(limits.check("b", some(3), quota), Decision::Allowed, "another key");
        let larger = Quota { burst: some(9), ..quota };
        assert_eq!(limits.check("a", some(9), larger), Decision::Allowed, "another quota");
    }
}
