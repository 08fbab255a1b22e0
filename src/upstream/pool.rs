//! Connections for callers without a session that can be asked something: which of them serves which call
//! (era-bridge §2, §4.3).
//!
//! Always: callers of one principal that can be asked the same meet the same connections in the same order, so that what
//! a server keeps for a connection is found again by the next call; where questions do not name their call, a connection
//! serves one call at a time, and callers beyond the bound wait in the order in which they came. Whatever its callers
//! declare, one principal has a bounded number of connections: for one that declares something new, the one that was
//! unused longest gives way. Not here: opening and closing (`connections`), doubts about what earlier calls left behind
//! (`route`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::call::{Affinity, Client, UpstreamCall};
use super::declared::meaning;
use super::shared::Shared;
use super::users::representative;
use crate::auth::principal::Principal;
use crate::config::servers::{AskSettings, Share};
use crate::protocol::method::Method;

/// How many times the connections of one key a principal may have, whatever its callers declare.
const KEYS_AT_ONCE: usize = 4;

/// See the module head.
#[derive(Debug)]
pub(super) struct Pool {
    share: Share,
    ask: AskSettings,
    /// Connections of one key that may be used at once, where each serves one call at a time.
    per_key: u32,
    table: Mutex<Table>,
}

/// Whose, and what they declare.
type Key = (Principal, Bytes);

#[derive(Debug, Default)]
struct Table {
    /// Connections so far.
    numbers: u64,
    groups: HashMap<Key, Group>,
    /// A permit for each connection of a principal that may be in use.
    principals: HashMap<Principal, Arc<Semaphore>>,
    /// As many again for its tasks, which keep theirs for longer than anybody would wait.
    principals_tasks: HashMap<Principal, Arc<Semaphore>>,
}

#[derive(Debug)]
struct Group {
    /// In the order in which they were opened.
    seats: Vec<Place>,
    /// A permit for each that may be taken by a call alone. Where calls share one, whoever first takes it has them all
    /// until it is taken.
    room: Arc<Semaphore>,
}

/// One connection.
#[derive(Debug)]
struct Place {
    /// Stands for all who use it: declares what they declare, and can be asked nothing itself.
    client: Arc<Client>,
    calls: usize,
    /// While calls use it: its share of what its principal's calls may use.
    permit: Option<OwnedSemaphorePermit>,
    /// Tasks, and calls that may become some.
    tasks: usize,
    /// While those use it: its share of what its principal's tasks may use.
    permit_of_tasks: Option<OwnedSemaphorePermit>,
    /// Since when nobody uses it.
    unused_since: Instant,
    /// Its connection failed, and is not opened again before.
    rests_until: Option<Instant>,
}

/// What a connection is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Call,
    Task,
}

/// How a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Open,
    /// Open, and what it asks may be of a call that was given up.
    Doubtful,
    NotOpen,
}

/// A connection for one call, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat<'p> {
    pool: &'p Pool,
    key: Key,
    client: Arc<Client>,
    used_for: Use,
    displaced: Option<Affinity>,
    /// Given back last.
    _room: Option<OwnedSemaphorePermit>,
}

impl Seat<'_> {
    /// For whom the connection is opened.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The connection that gave way to this one, to be closed before this one is opened.
    pub(super) fn displaced(&self) -> Option<Affinity> {
        self.displaced
    }
}

impl Pool {
    pub(super) fn new(share: Share, ask: AskSettings, per_key: usize) -> Self {
        let per_key = u32::try_from(per_key.clamp(1, 1 << 16)).unwrap_or(1);
        Pool { share, ask, per_key, table: Mutex::default() }
    }

    /// What is declared for this call, the same for all that mean the same; `None` where nothing is, so that the
    /// connection for all does: the caller can be asked nothing, this server may ask nothing, or this method cannot be
    /// answered by a question (S-MRTR-01).
    pub(super) fn set_for(&self, call: &UpstreamCall<'_>) -> Option<Bytes> {
        // What such a caller lists itself are tools that are shown only where they may ask (era-bridge §9.10).
        let may_ask = matches!(
            call.method,
            Method::CallTool | Method::GetPrompt | Method::ReadResource | Method::ListTools
        );
        may_ask.then(|| self.set_of(&call.circumstances.client)).flatten()
    }

    /// What is declared for calls of this caller that can be answered by a question.
    pub(super) fn set_of(&self, client: &Client) -> Option<Bytes> {
        let has_no_session = matches!(client.affinity, Affinity::Caller(_)) || client.has_lost_its_session();
        let may_be_asked = has_no_session && client.can_be_asked() && self.share != Share::All;
        may_be_asked.then(|| meaning(&client.capabilities, self.ask)).filter(|set| **set != *b"{}")
    }

    /// A connection for this call: alone where that is asked for, as soon as one is free. One that is in doubt or rests is
    /// taken only where there is no room for another.
    pub(super) async fn take(
        &self,
        caller: &Client,
        set: Bytes,
        alone: bool,
        standing: impl Fn(Affinity) -> Standing,
    ) -> Seat<'_> {
        let key = (caller.principal, set);
        let used_for = Use::Call;
        let joined =
            |client| Seat { pool: self, key: key.clone(), client, used_for, displaced: None, _room: None };
        if !alone && let Some(client) = self.lock().join(&key) {
            return joined(client);
        }
        let (room, used) = self.lock().bounds(&key, self.per_key);
        let room = room.acquire_many_owned(if alone { 1 } else { self.per_key }).await.ok();
        if !alone && let Some(client) = self.lock().join(&key) {
            return joined(client);
        }
        let permit = used.acquire_owned().await.ok();
        let whose = (&key, caller, used_for);
        let (client, displaced) = self.lock().seat(whose, self.per_key, permit, |place| match alone {
            true => place.rank(standing(place.client.affinity)),
            false => Some(Rank::Ready),
        });
        Seat { pool: self, key, client, used_for, displaced, _room: room.filter(|_| alone) }
    }

    /// A connection for a call that may become a task, at once with others: its questions name their task. Where calls
    /// have connections to themselves, all tasks share one that is none of those. `None` where the principal's tasks have as
    /// many as they may: nobody waits for the end of a task, and no call for room that tasks keep (era-bridge §4.3).
    pub(super) fn take_for_task(&self, caller: &Client, set: Bytes, has_exclusive: bool) -> Option<Seat<'_>> {
        let set = match has_exclusive {
            true => Bytes::from([&set[..], b" of tasks"].concat()),
            false => set,
        };
        let (key, used_for) = ((caller.principal, set), Use::Task);
        let mut table = self.lock();
        let (client, displaced) = match table.join_for_task(&key) {
            Some(client) => (client, None),
            None => {
                let permit = table.bound_of_tasks(&key, self.per_key).try_acquire_owned().ok()?;
                table.seat((&key, caller, used_for), self.per_key, Some(permit), |_| Some(Rank::Ready))
            }
        };
        drop(table);
        Some(Seat { pool: self, key, client, used_for, displaced, _room: None })
    }

    /// The connection failed, and is not opened again before.
    pub(super) fn rests(&self, connection: Affinity, until: Instant) {
        let mut table = self.lock();
        let mut places = table.groups.values_mut().flat_map(|group| &mut group.seats);
        if let Some(place) = places.find(|place| place.client.affinity == connection) {
            place.rests_until = Some(until);
        }
    }

    /// Forgets connections that nobody uses and that are not open.
    pub(super) fn tidy(&self, is_open: impl Fn(Affinity) -> bool) {
        let mut table = self.lock();
        table.groups.retain(|_, group| {
            group.seats.retain(|place| !place.is_unused() || is_open(place.client.affinity));
            // Whoever waits for room has a share of it.
            !group.seats.is_empty() || Arc::strong_count(&group.room) > 1
        });
        table.principals.retain(|_, used| Arc::strong_count(used) > 1);
        table.principals_tasks.retain(|_, used| Arc::strong_count(used) > 1);
    }

    fn leave(&self, key: &Key, connection: Affinity, used_for: Use) {
        let mut table = self.lock();
        let group = table.groups.get_mut(key);
        let place =
            group.and_then(|group| group.seats.iter_mut().find(|place| place.client.affinity == connection));
        let Some(place) = place else { return };
        let (users, permit) = match used_for {
            Use::Call => (&mut place.calls, &mut place.permit),
            Use::Task => (&mut place.tasks, &mut place.permit_of_tasks),
        };
        *users = users.saturating_sub(1);
        let permit = permit.take_if(|_| *users == 0);
        if place.is_unused() {
            place.unused_since = Instant::now();
        }
        drop(table);
        drop(permit);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's share of a connection of the pool, for longer than a call.
#[derive(Debug)]
pub(super) struct KeptSeat {
    shared: Arc<Shared>,
    key: Key,
    connection: Affinity,
}

impl KeptSeat {
    /// One more share of the same connection.
    pub(super) fn of(seat: &Seat<'_>, shared: &Arc<Shared>) -> Self {
        let (key, connection) = (seat.key.clone(), seat.client.affinity);
        seat.pool.lock().stay(&key, connection);
        KeptSeat { shared: Arc::clone(shared), key, connection }
    }
}

impl Drop for KeptSeat {
    fn drop(&mut self) {
        self.shared.pool.leave(&self.key, self.connection, Use::Task);
    }
}

/// In which order connections are taken by calls that have one to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Ready,
    ToBeOpened,
    /// From here on another connection is better.
    Doubtful,
    Resting,
}

impl Place {
    /// `None` while it is used.
    fn rank(&self, standing: Standing) -> Option<Rank> {
        let rests = self.rests_until.is_some_and(|until| Instant::now() < until);
        let rank = match standing {
            Standing::Open => Rank::Ready,
            Standing::Doubtful => Rank::Doubtful,
            Standing::NotOpen if rests => Rank::Resting,
            Standing::NotOpen => Rank::ToBeOpened,
        };
        self.is_unused().then_some(rank)
    }

    fn is_unused(&self) -> bool {
        self.calls == 0 && self.tasks == 0
    }

    /// One more who uses it.
    fn enter(&mut self, used_for: Use, permit: Option<OwnedSemaphorePermit>) {
        match used_for {
            Use::Call => (self.calls, self.permit) = (self.calls + 1, permit),
            Use::Task => (self.tasks, self.permit_of_tasks) = (self.tasks + 1, permit),
        }
    }
}

impl Table {
    fn group(&mut self, key: &Key, per_key: u32) -> &mut Group {
        let fresh = || Group { seats: Vec::new(), room: Arc::new(Semaphore::new(count(per_key))) };
        self.groups.entry(key.clone()).or_insert_with(fresh)
    }

    /// What is to be had of this key, and of its principal.
    fn bounds(&mut self, key: &Key, per_key: u32) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let room = Arc::clone(&self.group(key, per_key).room);
        let fresh = || Arc::new(Semaphore::new(count(per_key) * KEYS_AT_ONCE));
        (room, Arc::clone(self.principals.entry(key.0).or_insert_with(fresh)))
    }

    fn bound_of_tasks(&mut self, key: &Key, per_key: u32) -> Arc<Semaphore> {
        let fresh = || Arc::new(Semaphore::new(count(per_key) * KEYS_AT_ONCE));
        Arc::clone(self.principals_tasks.entry(key.0).or_insert_with(fresh))
    }

    /// The connection that calls of this key share and are using.
    fn join(&mut self, key: &Key) -> Option<Arc<Client>> {
        let place = self.groups.get_mut(key)?.seats.iter_mut().find(|place| place.calls > 0)?;
        place.calls += 1;
        Some(Arc::clone(&place.client))
    }

    /// The connection that tasks of this key share and are using.
    fn join_for_task(&mut self, key: &Key) -> Option<Arc<Client>> {
        let place = self.groups.get_mut(key)?.seats.iter_mut().find(|place| place.tasks > 0)?;
        place.tasks += 1;
        Some(Arc::clone(&place.client))
    }

    /// One more task that uses a connection that tasks use.
    fn stay(&mut self, key: &Key, connection: Affinity) {
        let group = self.groups.get_mut(key);
        let place =
            group.and_then(|group| group.seats.iter_mut().find(|place| place.client.affinity == connection));
        if let Some(place) = place {
            place.tasks += 1;
        }
    }

    /// The best that is free, or a new one, and which gave way to it.
    fn seat(
        &mut self,
        (key, caller, used_for): (&Key, &Client, Use),
        per_key: u32,
        permit: Option<OwnedSemaphorePermit>,
        rank: impl Fn(&Place) -> Option<Rank>,
    ) -> (Arc<Client>, Option<Affinity>) {
        let seats = &self.group(key, per_key).seats;
        let is_full = seats.len() >= count(per_key);
        let ranked = seats.iter().enumerate().filter_map(|(at, place)| Some((rank(place)?, at)));
        let best = ranked.min();
        let known = best.filter(|(rank, _)| is_full || *rank < Rank::Doubtful);
        // Without room, who has a permit finds one unused: another's, which gives way, or one of its own.
        let (known, displaced) = match known {
            None if self.has_all(key.0, used_for, per_key) => match self.displace(key) {
                None => (best, None),
                displaced => (None, displaced),
            },
            known => (known, None),
        };
        self.numbers += 1;
        let number = self.numbers;
        let seats = &mut self.group(key, per_key).seats;
        if let Some(place) = known.and_then(|(_, at)| seats.get_mut(at)) {
            place.enter(used_for, permit);
            return (Arc::clone(&place.client), displaced);
        }
        let client = representative(caller, Affinity::Pooled(number));
        let (place, unused_since) = (Arc::clone(&client), Instant::now());
        let (calls, tasks, rests_until) = (0, 0, None);
        let (no_permit, permit_of_tasks) = (None, None);
        let mut place = Place {
            client: place,
            calls,
            permit: no_permit,
            tasks,
            permit_of_tasks,
            unused_since,
            rests_until,
        };
        place.enter(used_for, permit);
        seats.push(place);
        (client, displaced)
    }

    /// Whether this principal has all connections that it may have for this: unused ones, and those that are used so.
    fn has_all(&self, principal: Principal, used_for: Use, per_key: u32) -> bool {
        let own = self.groups.iter().filter(|((of, _), _)| *of == principal);
        let counts = |place: &&Place| match used_for {
            Use::Call => place.calls > 0 || place.is_unused(),
            Use::Task => place.tasks > 0 || place.is_unused(),
        };
        own.flat_map(|(_, group)| &group.seats).filter(counts).count() >= count(per_key) * KEYS_AT_ONCE
    }

    /// Has the connection of another key give way that was unused longest.
    fn displace(&mut self, for_key: &Key) -> Option<Affinity> {
        let others = self.groups.iter_mut().filter(|(key, _)| key.0 == for_key.0 && *key != for_key);
        let idlest = others.filter_map(|(_, group)| {
            let unused = group.seats.iter().enumerate().filter(|(_, place)| place.is_unused());
            let (since, at) = unused.map(|(at, place)| (place.unused_since, at)).min()?;
            Some((since, at, group))
        });
        let (_, at, group) = idlest.min_by_key(|(since, ..)| *since)?;
        let place = group.seats.remove(at);
        // Whoever looks after connections closes it even if nobody tells.
        place.client.closed.cancel();
        Some(place.client.affinity)
    }
}

fn count(per_key: u32) -> usize {
    usize::try_from(per_key).unwrap_or(usize::MAX)
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.pool.leave(&self.key, self.client.affinity, self.used_for);
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
        pool.take(&caller, set, alone, |_| Standing::Open).now_or_never()
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

    #[test]
    fn s_task_17_tasks_wait_for_no_turn_and_take_none() {
        let pool = pool(1);
        let _alone = seat(&pool, form(), true).expect("free");
        let caller = client(Affinity::of_one_call());
        let take = |has_exclusive| pool.take_for_task(&caller, form(), has_exclusive);
        let tasks: Vec<_> = (0..20).map(|_| take(true).expect("at once")).collect();
        let of_tasks = tasks[0].client().affinity;
        assert!(tasks.iter().all(|seat| seat.client().affinity == of_tasks), "one for all");
        assert_ne!(of_tasks, _alone.client().affinity, "and none that a call has to itself");
        let shared = self::pool(1);
        let call = seat(&shared, form(), false).expect("free");
        let task = shared.take_for_task(&caller, form(), false).expect("at once");
        assert_eq!(task.client().affinity, call.client().affinity, "where all share, all do");
    }

    #[test]
    fn s_mrtr_04_tasks_of_many_kinds_leave_calls_their_room_and_have_a_bound_of_their_own() {
        for alone in [true, false] {
            let pool = pool(1);
            let caller = client(Affinity::of_one_call());
            let take = |number| pool.take_for_task(&caller, key(number), alone);
            let tasks: Vec<_> = (0..KEYS_AT_ONCE).map(|number| take(number).expect("room")).collect();
            assert!(take(50).is_none(), "refused at once");
            assert!(take(0).is_some(), "one more of a kind needs no other connection");
            // Of the same kinds, of others, and as many as without tasks.
            for first in [0, 60] {
                let numbers = first..first + KEYS_AT_ONCE;
                let calls: Vec<_> = numbers.map(|number| seat(&pool, key(number), alone)).collect();
                assert!(calls.iter().all(Option::is_some), "calls do not wait for tasks");
                assert!(seat(&pool, key(99), alone).is_none(), "calls have their bound still");
            }
            let lasting = tasks[0].client();
            assert!(!lasting.closed.is_cancelled(), "what tasks use does not give way");
            assert_eq!(take(0).expect("used").client().affinity, lasting.affinity);
            drop(tasks);
            assert!(take(50).is_some(), "room again");
        }
    }

    #[test]
    fn s_mrtr_04_a_connection_that_only_a_task_keeps_is_no_share_of_the_calls() {
        let pool = pool(1);
        let caller = client(Affinity::of_one_call());
        let call = seat(&pool, form(), false).expect("free");
        let task = pool.take_for_task(&caller, form(), false).expect("free");
        let shared = call.client().affinity;
        assert_eq!(task.client().affinity, shared);
        drop(call);
        let others: Vec<_> = (0..KEYS_AT_ONCE).map(|number| seat(&pool, key(number), false)).collect();
        assert!(others.iter().all(Option::is_some), "its permit was given back");
        assert!(seat(&pool, form(), false).is_none(), "to use it costs one, as any other does");
        drop(others);
        assert_eq!(seat(&pool, form(), false).expect("free").client().affinity, shared);
    }

    #[tokio::test]
    async fn s_stdio_08_who_waits_for_a_connection_waits_in_turn() {
        let pool = pool(1);
        let held = seat(&pool, form(), true).expect("free");
        let (one, two) = (client(Affinity::of_one_call()), client(Affinity::of_one_call()));
        let mut first = Box::pin(pool.take(&one, form(), true, |_| Standing::Open));
        let mut second = Box::pin(pool.take(&two, form(), true, |_| Standing::Open));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(second.as_mut().now_or_never().is_none(), "it is the other's turn");
        drop(first.await);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn s_elic_11_a_connection_in_doubt_is_left_alone_while_there_is_room() {
        let pool = pool(2);
        let first = seat(&pool, form(), true).expect("free").client().affinity;
        let caller = client(Affinity::of_one_call());
        let take = |doubtful: fn(Affinity, Affinity) -> bool| {
            let standing = |of| if doubtful(of, first) { Standing::Doubtful } else { Standing::Open };
            let taken = pool.take(&caller, form(), true, standing).now_or_never();
            taken.expect("free").client().affinity
        };
        let other = take(|of, first| of == first);
        assert_ne!(other, first);
        assert_eq!(take(|_, _| false), first, "it is taken again when the doubt is over");
        assert_eq!(take(|_, _| true), first, "there is no room for a third");
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

    fn key(number: usize) -> Bytes {
        Bytes::from(format!(r#"{{"elicitation":{{}},"extensions":"{number}"}}"#))
    }

    #[test]
    fn s_life_07_whatever_its_callers_declare_a_principal_has_a_bounded_number_of_connections() {
        for alone in [true, false] {
            let pool = pool(1);
            let places = || pool.lock().groups.values().map(|group| group.seats.len()).sum::<usize>();
            let mut opened = Vec::new();
            for number in 0..12 {
                let seat = seat(&pool, key(number), alone).expect("one of the unused gives way");
                let idlest = number.checked_sub(KEYS_AT_ONCE).map(|at: usize| &opened[at]);
                assert_eq!(seat.displaced(), idlest.map(|client: &Arc<Client>| client.affinity));
                assert!(idlest.is_none_or(|client| client.closed.is_cancelled()), "it is closed");
                opened.push(Arc::clone(seat.client()));
                assert!(places() <= KEYS_AT_ONCE);
            }
            let used: Vec<_> =
                (20..20 + KEYS_AT_ONCE).map(|number| seat(&pool, key(number), alone)).collect();
            assert!(used.iter().all(Option::is_some));
            assert!(seat(&pool, key(99), alone).is_none(), "all are in use");
            drop(used);
            assert!(seat(&pool, key(99), alone).is_some());
            assert!(places() <= KEYS_AT_ONCE);
        }
    }

    #[tokio::test]
    async fn s_mrtr_04_who_waits_for_a_connection_that_another_opens_meanwhile_joins_it() {
        let pool = pool(1);
        let mut used: Vec<_> = (0..KEYS_AT_ONCE).map(|number| seat(&pool, key(number), false)).collect();
        let caller = client(Affinity::of_one_call());
        let mut first = Box::pin(pool.take(&caller, form(), false, |_| Standing::Open));
        let mut second = Box::pin(pool.take(&caller, form(), false, |_| Standing::Open));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        used.pop();
        let first = first.await;
        assert_eq!(second.await.client().affinity, first.client().affinity);
    }

    #[test]
    fn f01_a_connection_that_rests_is_taken_last() {
        let pool = pool(2);
        let (one, two) = (seat(&pool, form(), true).expect("free"), seat(&pool, form(), true).expect("free"));
        let (first, second) = (one.client().affinity, two.client().affinity);
        drop((one, two));
        let caller = client(Affinity::of_one_call());
        let take = |open: Option<Affinity>| {
            let standing = |of| if Some(of) == open { Standing::Open } else { Standing::NotOpen };
            let taken = pool.take(&caller, form(), true, standing).now_or_never();
            taken.expect("free").client().affinity
        };
        assert_eq!(take(Some(second)), second, "what is open comes first");
        pool.rests(first, Instant::now() + std::time::Duration::from_secs(60));
        assert_eq!(take(None), second, "what may be opened at once comes next");
        pool.rests(second, Instant::now() + std::time::Duration::from_secs(60));
        assert_eq!(take(None), first, "there is no room for a third");
        let alone = self::pool(2);
        let resting = seat(&alone, form(), true).expect("free").client().affinity;
        alone.rests(resting, Instant::now() + std::time::Duration::from_secs(60));
        let other = alone.take(&caller, form(), true, |_| Standing::NotOpen).now_or_never();
        assert_ne!(other.expect("there is room").client().affinity, resting);
    }
}
