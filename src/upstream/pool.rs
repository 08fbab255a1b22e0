//! Connections for callers without a session that can be asked something: which of them serves which call
//! (era-bridge §2, §4.3).
//!
//! Always: callers of one principal that can be asked the same meet the same connections in the same order, so that what
//! a server keeps for a connection is found again by the next call; where questions do not name their call, a connection
//! serves one call at a time, and callers beyond the bound wait in the order in which they came. Not here: opening and
//! closing (`connections`), doubts about what earlier calls left behind (`route`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::call::{Affinity, Client, UpstreamCall};
use super::declared::declared;
use super::users::representative;
use crate::auth::principal::Principal;
use crate::config::servers::{AskSettings, Share};
use crate::protocol::method::Method;

/// See the module head.
#[derive(Debug)]
pub(super) struct Pool {
    share: Share,
    ask: AskSettings,
    /// Connections of one key that may be used at once, where each serves one call at a time.
    per_key: usize,
    table: Mutex<Table>,
}

/// Whose, and what they declare.
type Key = (Principal, Bytes);

#[derive(Debug, Default)]
struct Table {
    /// Connections so far.
    numbers: u64,
    groups: HashMap<Key, Group>,
}

#[derive(Debug)]
struct Group {
    /// In the order in which they were opened.
    seats: Vec<Place>,
    /// A permit for each that may be taken by a call alone.
    room: Arc<Semaphore>,
}

/// One connection.
#[derive(Debug)]
struct Place {
    /// Stands for all who use it: declares what they declare, and can be asked nothing itself.
    client: Arc<Client>,
    calls: usize,
}

/// A connection for one call, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat<'p> {
    pool: &'p Pool,
    key: Key,
    client: Arc<Client>,
    /// Given back last.
    _room: Option<OwnedSemaphorePermit>,
}

impl Seat<'_> {
    /// For whom the connection is opened.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Pool {
    pub(super) fn new(share: Share, ask: AskSettings, per_key: usize) -> Self {
        Pool { share, ask, per_key: per_key.max(1), table: Mutex::default() }
    }

    /// What is declared for this call; `None` where nothing is, so that the connection for all does: the caller can be
    /// asked nothing, this server may ask nothing, or this method cannot be answered by a question (S-MRTR-01).
    pub(super) fn set_for(&self, call: &UpstreamCall<'_>) -> Option<Bytes> {
        let client = &call.circumstances.client;
        let may_ask = matches!(client.affinity, Affinity::Caller(_))
            && client.can_be_asked()
            && self.share != Share::All
            && matches!(call.method, Method::CallTool | Method::GetPrompt | Method::ReadResource);
        may_ask.then(|| declared(&client.capabilities, self.ask)).filter(|set| **set != *b"{}")
    }

    /// A connection for this call: alone where that is asked for, as soon as one is free.
    pub(super) async fn take(&self, caller: &Client, set: Bytes, alone: bool) -> Seat<'_> {
        let key = (caller.principal, set);
        let room = match alone {
            true => {
                let room = Arc::clone(&self.lock().group(&key, self.per_key).room);
                room.acquire_owned().await.ok()
            }
            false => None,
        };
        let client = self.lock().seat(&key, caller, self.per_key, alone);
        Seat { pool: self, key, client, _room: room }
    }

    /// Forgets connections that nobody uses and that are not open.
    pub(super) fn tidy(&self, is_open: impl Fn(Affinity) -> bool) {
        self.lock().groups.retain(|_, group| {
            group.seats.retain(|place| place.calls > 0 || is_open(place.client.affinity));
            // Whoever waits for room has a share of it.
            !group.seats.is_empty() || Arc::strong_count(&group.room) > 1
        });
    }

    fn leave(&self, key: &Key, connection: Affinity) {
        let mut table = self.lock();
        let group = table.groups.get_mut(key);
        let place =
            group.and_then(|group| group.seats.iter_mut().find(|place| place.client.affinity == connection));
        if let Some(place) = place {
            place.calls = place.calls.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn group(&mut self, key: &Key, room: usize) -> &mut Group {
        let fresh = || Group { seats: Vec::new(), room: Arc::new(Semaphore::new(room)) };
        self.groups.entry(key.clone()).or_insert_with(fresh)
    }

    /// The first that is free, or a new one.
    fn seat(&mut self, key: &Key, caller: &Client, room: usize, alone: bool) -> Arc<Client> {
        let mut seats = self.group(key, room).seats.iter_mut();
        if let Some(place) = seats.find(|place| !alone || place.calls == 0) {
            place.calls += 1;
            return Arc::clone(&place.client);
        }
        self.numbers += 1;
        let client = representative(caller, Affinity::Pooled(self.numbers));
        self.group(key, room).seats.push(Place { client: Arc::clone(&client), calls: 1 });
        client
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.pool.leave(&self.key, self.client.affinity);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::upstream::connections::tests::client;

    fn pool(per_key: usize) -> Pool {
        Pool::new(Share::Session, AskSettings::default_for(true), per_key)
    }

    fn form() -> Bytes {
        Bytes::from_static(br#"{"elicitation":{}}"#)
    }

    /// A seat that is to be had at once.
    fn seat(pool: &Pool, set: Bytes, alone: bool) -> Option<Seat<'_>> {
        let caller = client(Affinity::of_one_call());
        pool.take(&caller, set, alone).now_or_never()
    }

    #[test]
    fn s_stdio_08_calls_that_follow_each_other_meet_the_same_connection() {
        let pool = pool(2);
        let first = seat(&pool, form(), true).expect("free");
        let second = seat(&pool, form(), true).expect("another");
        let (one, two) = (first.client().affinity, second.client().affinity);
        assert_ne!(one, two, "one call at a time");
        assert!(seat(&pool, form(), true).is_none(), "no more than the bound");
        let other = seat(&pool, Bytes::from_static(br#"{"roots":{}}"#), true).expect("others have their own");
        assert_ne!(other.client().affinity, one);
        drop(second);
        drop(first);
        assert_eq!(seat(&pool, form(), true).expect("free").client().affinity, one);
        assert!(other.client().port.is_none(), "who stands for all can be asked nothing");
    }

    #[test]
    fn s_mrtr_04_where_questions_name_their_calls_one_connection_serves_all() {
        let pool = pool(1);
        let seats: Vec<_> = (0..100).map(|_| seat(&pool, form(), false).expect("shared")).collect();
        let first = seats[0].client().affinity;
        assert!(seats.iter().all(|seat| seat.client().affinity == first));
    }

    #[tokio::test]
    async fn s_stdio_08_who_waits_for_a_connection_waits_in_turn() {
        let pool = pool(1);
        let held = seat(&pool, form(), true).expect("free");
        let (one, two) = (client(Affinity::of_one_call()), client(Affinity::of_one_call()));
        let mut first = Box::pin(pool.take(&one, form(), true));
        let mut second = Box::pin(pool.take(&two, form(), true));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(second.as_mut().now_or_never().is_none(), "it is the other's turn");
        drop(first.await);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn what_is_neither_open_nor_used_is_forgotten() {
        let pool = pool(2);
        let held = seat(&pool, form(), true).expect("free");
        let affinity = held.client().affinity;
        pool.tidy(|_| false);
        drop(held);
        pool.tidy(|open| open == affinity);
        assert_eq!(seat(&pool, form(), true).expect("free").client().affinity, affinity);
        pool.tidy(|_| false);
        assert!(pool.lock().groups.is_empty());
    }
}
