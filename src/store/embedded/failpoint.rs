//! Where debug builds can be told to die: at the nth transaction of the process, before it or after it (F45).
//!
//! Always: `SWITCHYARD_FAILPOINTS` says so (`abort_before_commit=3`, `abort_after_commit=3`), and release builds do not look.

/// Before a transaction, and once it is on the disk, before anybody is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Point {
    BeforeCommit,
    AfterCommit,
}

/// Dies here if that was asked for.
#[cfg(debug_assertions)]
pub(super) fn pass(point: Point) {
    use std::sync::atomic::{AtomicU64, Ordering};

    static BEFORE: AtomicU64 = AtomicU64::new(0);
    static AFTER: AtomicU64 = AtomicU64::new(0);
    let (name, passed) = match point {
        Point::BeforeCommit => ("abort_before_commit", &BEFORE),
        Point::AfterCommit => ("abort_after_commit", &AFTER),
    };
    let number = passed.fetch_add(1, Ordering::Relaxed) + 1;
    let Ok(all) = std::env::var("SWITCHYARD_FAILPOINTS") else { return };
    let mut points = all.split('|').filter_map(|point| point.split_once('='));
    let asked = points.find(|(known, _)| *known == name).and_then(|(_, number)| number.parse().ok());
    if asked == Some(number) {
        std::process::abort();
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(super) const fn pass(_: Point) {}
