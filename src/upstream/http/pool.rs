//! Idle connections of this thread, per target.
//!
//! Always: a connection that is taken was alive and unused when it was taken. A connection stays on the thread that
//! opened it, whose reactor it is registered with.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Connection;
use super::target::TargetId;

/// Kept per target and thread; more are closed when they become idle.
const KEPT: usize = 128;
/// Unused for this long, a connection is closed.
const IDLE: Duration = Duration::from_secs(90);
/// How often connections are looked through for those that ended or grew old.
const SWEEP: Duration = Duration::from_secs(10);

struct Idle {
    connection: Connection,
    since: Instant,
}

thread_local! {
    static POOL: RefCell<HashMap<TargetId, Vec<Idle>>> = RefCell::default();
    static SWEEPING: Cell<bool> = const { Cell::new(false) };
}

/// The connection used last, if it still lives.
pub(super) fn take(target: TargetId) -> Option<Connection> {
    loop {
        let idle = POOL.with_borrow_mut(|pool| pool.get_mut(&target)?.pop())?;
        let mut connection = idle.connection;
        if idle.since.elapsed() < IDLE && connection.is_idle() {
            return Some(connection);
        }
    }
}

/// Takes back a connection whose answer was read to its end.
pub(super) fn put(target: TargetId, mut connection: Connection) {
    if !connection.is_idle() {
        return;
    }
    let idle = Idle { connection, since: Instant::now() };
    let surplus = POOL.with_borrow_mut(|pool| {
        let kept = pool.entry(target).or_default();
        if kept.len() >= KEPT {
            return Some(idle);
        }
        kept.push(idle);
        None
    });
    drop(surplus);
    if !SWEEPING.replace(true) {
        tokio::spawn(sweep_until_empty(Sweeping));
    }
}

/// While it lives, this thread is swept.
struct Sweeping;

impl Drop for Sweeping {
    fn drop(&mut self) {
        // The thread may be ending.
        let _ = SWEEPING.try_with(|sweeping| sweeping.set(false));
    }
}

async fn sweep_until_empty(_sweeping: Sweeping) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let empty = POOL.with_borrow_mut(|pool| {
            pool.retain(|_, kept| {
                kept.retain_mut(|idle| idle.since.elapsed() < IDLE && idle.connection.is_idle());
                !kept.is_empty()
            });
            pool.is_empty()
        });
        if empty {
            return;
        }
    }
}

/// How many connections lie idle for the target on this thread.
#[cfg(test)]
pub(super) fn idle_count(target: TargetId) -> usize {
    POOL.with_borrow(|pool| pool.get(&target).map_or(0, Vec::len))
}

/// Whether one of them would be taken.
#[cfg(test)]
pub(super) fn any_alive(target: TargetId) -> bool {
    let mut pool = POOL.take();
    let alive =
        pool.get_mut(&target).is_some_and(|kept| kept.iter_mut().any(|idle| idle.connection.is_idle()));
    POOL.set(pool);
    alive
}
