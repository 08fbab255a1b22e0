//! Resources that were read and may be shown again: one table for all upstreams, bounded in bytes (S-CACHE-03).
//!
//! Always: a result that is private to one authorization context is found by that context alone; one whose upstream told
//! of a change, of its list, or was connected anew since it was asked for is found by nobody; a fresh one costs a permit
//! like any call (S-CACHE-05). Not here: which answers are worth keeping (`dispatch`), when upstreams tell of what
//! (`arrivals`, `changes`), who reads at the same time (`read_turns`).

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use moka::Expiry;
use moka::sync::Cache;
use tokio::time::Instant;

use super::read_turns::ReadTurns;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::UpstreamName;
use crate::policy::Permit;
use crate::protocol::caching::{Hints, Lifetime, Scope};
use crate::protocol::json::{Limits, Object};
use crate::protocol::method::Method;

/// What an upstream is shown of the caller, as far as its answers may depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// What the configuration holds: the same for everyone. Those of single users come with the broker.
    OfGateway,
}

/// Within which private answers may be shown again: the caller, and what the upstream was shown of him.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorizationContext {
    /// Who calls.
    pub principal: Principal,
    /// How he is presented to the upstream.
    pub credential: Credential,
}

/// What is read, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadKey {
    /// Whose resource it is.
    pub upstream: UpstreamName,
    /// How it is asked for.
    pub method: Method,
    /// The URI as the upstream knows it.
    pub uri: Arc<str>,
    /// Who reads.
    pub context: AuthorizationContext,
}

/// Where a result is kept: for one context, or for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    upstream: UpstreamName,
    method: Method,
    uri: Arc<str>,
    /// `None`: everybody.
    only: Option<AuthorizationContext>,
}

impl Slot {
    fn of(key: &ReadKey, scope: Scope) -> Slot {
        let only = match scope {
            Scope::Public => None,
            Scope::Private => Some(key.context),
        };
        Slot { upstream: key.upstream.clone(), method: key.method, uri: Arc::clone(&key.uri), only }
    }
}

#[derive(Debug)]
struct Kept {
    result: Object,
    received: Instant,
    ttl: Duration,
    scope: Scope,
}

impl Kept {
    /// What a client is told now; `None` when it is no longer fresh.
    fn lifetime(&self, now: Instant) -> Option<Lifetime> {
        let ttl = (self.received + self.ttl).checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Lifetime { ttl, scope: self.scope })
    }
}

/// The state of an upstream's resources when one of them was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(u64);

/// What is kept of one upstream, for what it tells.
#[derive(Debug, Default)]
struct Index {
    /// Counts what it told: whatever was asked for before may be old.
    told: u64,
    /// Its last answer was not to be kept.
    is_unpromising: bool,
    by_uri: BTreeMap<Arc<str>, Vec<Slot>>,
    /// Entries at which those that are gone are swept out.
    sweep_at: usize,
}

/// How often something was found, and what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadCounts {
    /// Reads answered from here.
    pub hits: u64,
    /// Reads that could have been, had the resource been here.
    pub misses: u64,
    /// Results let go because their upstream told of a change.
    pub revoked: u64,
    /// Results held.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    revoked: AtomicU64,
}

/// See the module head.
#[derive(Debug)]
pub struct KeptReads {
    kept: Cache<Slot, Arc<Kept>>,
    /// `bounds.cache_entry`
    largest: usize,
    /// `bounds.cache_age`
    longest: Duration,
    indexes: Mutex<HashMap<UpstreamName, Index>>,
    counters: Counters,
    pub(super) turns: ReadTurns,
}

/// Kept no longer than it is fresh. By the clock of the machine: whether it is fresh is judged again when it is found.
struct WhileFresh;

#[expect(clippy::disallowed_types, reason = "the trait names the type; nothing is decided by it")]
impl Expiry<Slot, Arc<Kept>> for WhileFresh {
    fn expire_after_create(&self, _: &Slot, kept: &Arc<Kept>, _: std::time::Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Slot,
        kept: &Arc<Kept>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.ttl)
    }
}

/// What an entry costs besides its text.
const OVERHEAD: usize = 512;
/// Fewer entries than this are not worth a sweep.
const SWEEP_LEAST: usize = 64;

impl KeptReads {
    /// Empty, with the bounds of the configuration.
    pub fn new(bounds: &Bounds) -> KeptReads {
        let kept = Cache::builder()
            .max_capacity(bounds.cache_total as u64)
            .weigher(|slot: &Slot, kept: &Arc<Kept>| {
                let bytes = slot.uri.len() + kept.result.as_bytes().len() + OVERHEAD;
                u32::try_from(bytes).unwrap_or(u32::MAX)
            })
            .expire_after(WhileFresh)
            .build();
        KeptReads {
            kept,
            largest: bounds.cache_entry,
            longest: bounds.cache_age,
            indexes: Mutex::default(),
            counters: Counters::default(),
            turns: ReadTurns::default(),
        }
    }

    /// The result, if it is here, fresh, and for this reader; the permit is used up by it.
    pub fn find(&self, permit: Permit, key: &ReadKey, now: Instant) -> Option<(Object, Lifetime)> {
        debug_assert_eq!(permit.upstream(), &key.upstream, "a permit is for one upstream");
        let found = [Scope::Private, Scope::Public].into_iter().find_map(|scope| {
            let kept = self.kept.get(&Slot::of(key, scope))?;
            Some((kept.result.clone(), kept.lifetime(now)?))
        });
        if found.is_some() {
            self.counters.hits.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// To be called before the upstream is asked, for [`KeptReads::keep`].
    pub fn asking(&self, upstream: &UpstreamName) -> Asked {
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        Asked(self.lock().get(upstream).map_or(0, |index| index.told))
    }

    /// Whether it is worth waiting for what another reader is about to get: the upstream's last answer could be kept.
    pub fn is_promising(&self, upstream: &UpstreamName) -> bool {
        self.lock().get(upstream).is_none_or(|index| !index.is_unpromising)
    }

    /// Keeps a complete result as its upstream allows, unless that told of a change meanwhile; says what clients are told.
    pub fn keep(&self, key: &ReadKey, asked: Asked, result: &Object, now: Instant) -> Lifetime {
        let hints = Hints::of(result);
        let ttl = hints.ttl.unwrap_or_default().min(self.longest);
        let lifetime = Lifetime { ttl, scope: hints.scope };
        let size = result.as_bytes().len();
        let is_kept = !ttl.is_zero() && size <= self.largest;
        self.lock().entry(key.upstream.clone()).or_default().is_unpromising = !is_kept;
        if !is_kept {
            return lifetime;
        }
        // A copy: what was received may share a much larger piece of memory.
        let Ok(result) = Object::parse(Bytes::copy_from_slice(result.as_bytes()), Limits::NONE) else {
            return lifetime;
        };
        let kept = Arc::new(Kept { result, received: now, ttl, scope: hints.scope });
        let slot = Slot::of(key, hints.scope);
        let mut indexes = self.lock();
        let index = indexes.entry(key.upstream.clone()).or_default();
        if index.told != asked.0 {
            return Lifetime { ttl: Duration::ZERO, ..lifetime };
        }
        if index.by_uri.len() >= index.sweep_at.max(SWEEP_LEAST) {
            self.kept.run_pending_tasks();
            index.sweep(|slot| self.kept.contains_key(slot));
        }
        index.note(&slot);
        self.kept.insert(slot, kept);
        lifetime
    }

    /// The upstream said that a resource changed: whatever is kept of it, of what lies below it and of what it lies in is
    /// let go (S-RES-08).
    pub fn revoke(&self, upstream: &UpstreamName, uri: &str) {
        self.let_go(upstream, |index| index.take_around(uri));
    }

    /// The upstream said that its list of resources changed, or was connected anew.
    pub fn revoke_all(&self, upstream: &UpstreamName) {
        self.let_go(upstream, |index| std::mem::take(&mut index.by_uri).into_values().flatten().collect());
    }

    fn let_go(&self, upstream: &UpstreamName, take: impl FnOnce(&mut Index) -> Vec<Slot>) {
        let mut indexes = self.lock();
        let index = indexes.entry(upstream.clone()).or_default();
        index.told += 1;
        let taken = take(index);
        for slot in taken.iter().filter(|slot| self.kept.contains_key(*slot)) {
            self.counters.revoked.fetch_add(1, Ordering::Relaxed);
            self.kept.invalidate(slot);
        }
    }

    /// For people.
    pub fn counts(&self) -> ReadCounts {
        self.kept.run_pending_tasks();
        ReadCounts {
            hits: self.counters.hits.load(Ordering::Relaxed),
            misses: self.counters.misses.load(Ordering::Relaxed),
            revoked: self.counters.revoked.load(Ordering::Relaxed),
            entries: self.kept.entry_count(),
            bytes: self.kept.weighted_size(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UpstreamName, Index>> {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Forgets what is no longer there; seldom enough that it costs each entry little.
    fn sweep(&mut self, is_there: impl Fn(&Slot) -> bool) {
        self.by_uri.retain(|_, slots| {
            slots.retain(&is_there);
            !slots.is_empty()
        });
        self.sweep_at = self.by_uri.len() * 2;
    }

    fn note(&mut self, slot: &Slot) {
        let slots = self.by_uri.entry(Arc::clone(&slot.uri)).or_default();
        if !slots.contains(slot) {
            slots.push(slot.clone());
        }
    }

    /// What is kept of `uri`, of what begins with it, and of what it begins with up to a slash.
    fn take_around(&mut self, uri: &str) -> Vec<Slot> {
        let below = self.by_uri.range::<str, _>((Bound::Included(uri), Bound::Unbounded));
        let mut around: Vec<Arc<str>> = below
            .map(|(below, _)| below)
            .take_while(|below| below.starts_with(uri))
            .map(Arc::clone)
            .collect();
        for (at, _) in uri.match_indices('/') {
            // With and without the slash at its end.
            let above = [&uri[..at], &uri[..=at]].map(|above| self.by_uri.get_key_value(above));
            around.extend(above.into_iter().flatten().map(|(above, _)| Arc::clone(above)));
        }
        around.into_iter().filter_map(|uri| self.by_uri.remove(&uri)).flatten().collect()
    }
}

#[cfg(test)]
#[path = "kept_reads_tests.rs"]
mod tests;
