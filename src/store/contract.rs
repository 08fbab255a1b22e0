//! The promises of [`Records`], each a test, told of every back end; and all of them at once against a model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;

use super::clock::Clock;
use super::error::{StoreError, WriteError};
use super::leases::{Leases as _, RecordedLeases};
use super::records::{Expect, KEY_LIMIT, Kept, Page, Position, Records, Space, Write};
use super::streams::{Caps, RecordedStreams, Streams as _};

const SPACE: Space = Space::new("thing");
/// Begins as the other does, so that mixed-up prefixes show.
const OTHER: Space = Space::new("thing.more");
const NOW: u64 = 1_000_000;

/// An empty store of one back end, its clock, and what must live as long.
pub(super) struct Fresh {
    pub(super) records: Arc<dyn Records>,
    pub(super) clock: Clock,
    pub(super) hand: &'static AtomicU64,
    pub(super) _place: Option<super::places::Place>,
}

impl Fresh {
    pub(super) fn new(open: impl FnOnce(Clock) -> (Arc<dyn Records>, Option<super::places::Place>)) -> Self {
        let (clock, hand) = Clock::by_hand(NOW);
        let (records, place) = open(clock);
        Fresh { records, clock, hand, _place: place }
    }

    async fn put(&self, key: &str, value: &str) -> u64 {
        self.write(vec![put(key, value)]).await.expect("nothing is expected")[0]
    }

    async fn write(&self, writes: Vec<Write>) -> Result<Vec<u64>, WriteError> {
        self.records.write(writes).await
    }

    async fn value(&self, key: &str) -> Option<String> {
        let kept = self.records.get(SPACE, key.as_bytes()).await.expect("a store that answers");
        kept.map(|kept| String::from_utf8(kept.value.to_vec()).expect("text"))
    }
}

pub(super) fn put(key: &str, value: &str) -> Write {
    put_as(key, value, None, None, Expect::Any)
}

fn put_as(key: &str, value: &str, owner: Option<&str>, expires: Option<u64>, expect: Expect) -> Write {
    Write::Put {
        space: SPACE,
        key: key.as_bytes().to_vec(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        owner: owner.map(str::to_owned),
        expires,
        expect,
    }
}

fn delete(key: &str, expect: Expect) -> Write {
    Write::Delete { space: SPACE, key: key.as_bytes().to_vec(), expect }
}

fn keys(page: &Page) -> Vec<String> {
    page.items.iter().map(|(key, _)| String::from_utf8(key.clone()).expect("text")).collect()
}

/// Each promise for one back end: a module of tests.
macro_rules! keeps_the_contract {
    ($back_end:ident, $open:expr) => {
        mod $back_end {
            use super::*;

            keeps_the_contract!(@ $open;
                what_is_put_is_there_as_it_was_put
                versions_grow_and_are_never_used_twice
                a_transaction_is_all_or_nothing
                expectations_are_of_the_time_before_the_transaction
                of_many_that_change_one_record_none_is_lost
                one_of_all_that_take_a_record_gets_it
                what_has_expired_is_not_there
                purging_removes_what_has_expired_and_nothing_else
                lists_have_the_records_of_one_owner_in_order
                a_list_goes_on_where_its_last_page_ended_whatever_was_changed
                a_record_moves_with_its_owner
                scans_have_every_record_of_a_space_in_both_directions
                keys_are_any_bytes
                what_is_too_long_is_refused
                streams_number_their_events_and_keep_to_their_caps
                writers_of_one_stream_do_not_overwrite_each_other
                a_lease_has_one_holder_and_a_growing_fence
            );

            #[test]
            fn t5_behaves_as_the_model() {
                behaves_as_the_model(&$open);
            }
        }
    };
    (@ $open:expr; $($promise:ident)+) => {
        $(#[tokio::test]
        async fn $promise() {
            super::$promise(Fresh::new($open)).await;
        })+
    };
}

async fn what_is_put_is_there_as_it_was_put(store: Fresh) {
    assert_eq!(store.value("a").await, None);
    let version =
        store.write(vec![put_as("a", "1", Some("me"), Some(NOW + 5), Expect::Any)]).await.expect("put")[0];
    let kept = Kept {
        version,
        value: Bytes::from_static(b"1"),
        owner: Some("me".to_owned()),
        expires: Some(NOW + 5),
    };
    assert_eq!(store.records.get(SPACE, b"a").await, Ok(Some(kept)));
    assert_eq!(store.records.get(OTHER, b"a").await, Ok(None), "spaces are apart");
    store.put("a", "").await;
    assert_eq!(store.value("a").await.as_deref(), Some(""), "nothing is a value");
    store.write(vec![delete("a", Expect::Any), delete("b", Expect::Any)]).await.expect("removed");
    assert_eq!(store.value("a").await, None);
}

async fn versions_grow_and_are_never_used_twice(store: Fresh) {
    let mut last = 0;
    for round in 0..4 {
        for key in ["a", "b"] {
            let version = store.put(key, "x").await;
            assert!(version > last, "round {round}: {version} after {last}");
            last = version;
        }
        store.write(vec![delete("a", Expect::Any)]).await.expect("removed");
    }
    let conflict = store.write(vec![put_as("b", "y", None, None, Expect::Version(1))]).await;
    assert_eq!(conflict, Err(WriteError::Conflict(0)), "an old version is no version of the record");
    let both = store.write(vec![put("a", "1"), put("b", "2")]).await.expect("put");
    assert!(both[1] > both[0] && both[0] > last, "{both:?}");
}

async fn a_transaction_is_all_or_nothing(store: Fresh) {
    store.put("there", "old").await;
    let conflict = store
        .write(vec![
            put("new", "1"),
            put("there", "changed"),
            delete("gone", Expect::Version(7)),
            put_as("there", "2", None, None, Expect::Absent),
        ])
        .await;
    assert_eq!(conflict, Err(WriteError::Conflict(2)), "the first that does not hold is named");
    assert_eq!((store.value("new").await, store.value("there").await), (None, Some("old".to_owned())));
    store.write(vec![put("new", "1"), put("there", "2")]).await.expect("put");
    assert_eq!(store.value("new").await.as_deref(), Some("1"));
    assert_eq!(store.value("there").await.as_deref(), Some("2"));
    assert_eq!(store.write(Vec::new()).await, Ok(Vec::new()), "nothing is easily done");
}

async fn expectations_are_of_the_time_before_the_transaction(store: Fresh) {
    let absent = |value| put_as("a", value, None, None, Expect::Absent);
    store.write(vec![absent("1"), absent("2")]).await.expect("it was absent before");
    assert_eq!(store.value("a").await.as_deref(), Some("2"), "the later one stays");
    store.write(vec![put("a", "3"), delete("a", Expect::Any)]).await.expect("removed");
    assert_eq!(store.value("a").await, None);
}

async fn of_many_that_change_one_record_none_is_lost(store: Fresh) {
    store.put("count", "0").await;
    let one = || async {
        for _ in 0..10 {
            loop {
                let kept = store.records.get(SPACE, b"count").await.expect("read").expect("there");
                let count: u32 = std::str::from_utf8(&kept.value).expect("text").parse().expect("number");
                let next =
                    put_as("count", &(count + 1).to_string(), None, None, Expect::Version(kept.version));
                match store.write(vec![next]).await {
                    Ok(_) => break,
                    Err(WriteError::Conflict(0)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    futures_util::future::join_all((0..8).map(|_| one())).await;
    assert_eq!(store.value("count").await.as_deref(), Some("80"));
}

async fn one_of_all_that_take_a_record_gets_it(store: Fresh) {
    assert_eq!(store.records.take(SPACE, b"once").await, Ok(None));
    store.put("once", "x").await;
    let all = futures_util::future::join_all((0..20).map(|_| store.records.take(SPACE, b"once"))).await;
    let got: Vec<_> = all.into_iter().filter_map(|taken| taken.expect("a store that answers")).collect();
    assert_eq!(got.len(), 1);
    assert_eq!(&got[0].value[..], b"x");
    assert_eq!(store.value("once").await, None);
}

async fn what_has_expired_is_not_there(store: Fresh) {
    let version =
        store.write(vec![put_as("a", "1", Some("me"), Some(NOW + 10), Expect::Any)]).await.expect("put")[0];
    store.hand.store(NOW + 9, Ordering::Relaxed);
    assert_eq!(store.value("a").await.as_deref(), Some("1"), "until its end");
    store.hand.store(NOW + 10, Ordering::Relaxed);
    assert_eq!(store.value("a").await, None);
    assert_eq!(store.records.take(SPACE, b"a").await, Ok(None));
    assert!(store.records.list(SPACE, "me", Position::First, 9).await.expect("listed").items.is_empty());
    assert!(store.records.scan(SPACE, Position::First, 9).await.expect("read").items.is_empty());
    let again = put_as("a", "2", None, None, Expect::Version(version));
    assert_eq!(store.write(vec![again]).await, Err(WriteError::Conflict(0)));
    store.write(vec![put_as("a", "3", None, None, Expect::Absent)]).await.expect("it is absent");
    assert_eq!(store.records.purge(9).await, Ok(0), "the end of the old record went with it");
    assert_eq!(store.value("a").await.as_deref(), Some("3"));
}

async fn purging_removes_what_has_expired_and_nothing_else(store: Fresh) {
    for (key, end) in [("a", Some(NOW + 1)), ("b", Some(NOW + 2)), ("c", Some(NOW + 3)), ("d", None)] {
        store.write(vec![put_as(key, key, Some("me"), end, Expect::Any)]).await.expect("put");
    }
    store.write(vec![put_as("b", "later", Some("me"), Some(NOW + 9), Expect::Any)]).await.expect("put");
    assert_eq!(store.records.purge(9).await, Ok(0));
    store.hand.store(NOW + 3, Ordering::Relaxed);
    assert_eq!(store.records.purge(1).await, Ok(1), "as many as asked for");
    assert_eq!(store.records.purge(9).await, Ok(1));
    assert_eq!(store.records.purge(9).await, Ok(0));
    // Whoever's clock says what: the rest was not touched.
    store.hand.store(NOW, Ordering::Relaxed);
    let left = store.records.list(SPACE, "me", Position::First, 9).await.expect("listed");
    assert_eq!(keys(&left), ["b", "d"]);
}

async fn lists_have_the_records_of_one_owner_in_order(store: Fresh) {
    for key in ["c", "a", "e", "b", "d"] {
        store.write(vec![put_as(key, key, Some("me"), None, Expect::Any)]).await.expect("put");
    }
    for (key, owner) in [("x", Some("m")), ("y", Some("me2")), ("z", None), ("w", Some(""))] {
        store.write(vec![put_as(key, key, owner, None, Expect::Any)]).await.expect("put");
    }
    let first = store.records.list(SPACE, "me", Position::First, 2).await.expect("listed");
    assert_eq!(
        (keys(&first), first.next.as_deref()),
        (vec!["a".to_owned(), "b".to_owned()], Some(&b"b"[..]))
    );
    let rest = store.records.list(SPACE, "me", Position::After(b"b"), 9).await.expect("listed");
    assert_eq!((keys(&rest), rest.next), (vec!["c".to_owned(), "d".to_owned(), "e".to_owned()], None));
    let last = store.records.list(SPACE, "me", Position::Last, 2).await.expect("listed");
    assert_eq!((keys(&last), last.next.as_deref()), (vec!["e".to_owned(), "d".to_owned()], Some(&b"d"[..])));
    let before = store.records.list(SPACE, "me", Position::Before(b"d"), 3).await.expect("listed");
    assert_eq!((keys(&before), before.next), (vec!["c".to_owned(), "b".to_owned(), "a".to_owned()], None));
    assert_eq!(keys(&store.records.list(SPACE, "", Position::First, 9).await.expect("listed")), ["w"]);
    assert_eq!(keys(&store.records.list(SPACE, "m", Position::Last, 9).await.expect("listed")), ["x"]);
    assert!(store.records.list(OTHER, "me", Position::First, 9).await.expect("listed").items.is_empty());
}

async fn a_list_goes_on_where_its_last_page_ended_whatever_was_changed(store: Fresh) {
    for key in ["a", "b", "c", "d"] {
        store.write(vec![put_as(key, key, Some("me"), None, Expect::Any)]).await.expect("put");
    }
    let first = store.records.list(SPACE, "me", Position::First, 2).await.expect("listed");
    let next = first.next.expect("more follow");
    let added = put_as("c2", "c2", Some("me"), None, Expect::Any);
    store.write(vec![delete("a", Expect::Any), delete("b", Expect::Any), added]).await.expect("changed");
    let rest = store.records.list(SPACE, "me", Position::After(&next), 9).await.expect("listed");
    assert_eq!(keys(&rest), ["c", "c2", "d"]);
}

async fn a_record_moves_with_its_owner(store: Fresh) {
    store.write(vec![put_as("a", "1", Some("me"), None, Expect::Any)]).await.expect("put");
    store.write(vec![put_as("a", "2", Some("you"), None, Expect::Any)]).await.expect("put");
    assert!(store.records.list(SPACE, "me", Position::First, 9).await.expect("listed").items.is_empty());
    assert_eq!(keys(&store.records.list(SPACE, "you", Position::First, 9).await.expect("listed")), ["a"]);
    store.records.take(SPACE, b"a").await.expect("taken");
    assert!(store.records.list(SPACE, "you", Position::First, 9).await.expect("listed").items.is_empty());
}

async fn scans_have_every_record_of_a_space_in_both_directions(store: Fresh) {
    for key in ["b", "a", "c"] {
        store.put(key, key).await;
    }
    let elsewhere = Write::Put {
        space: OTHER,
        key: b"aa".to_vec(),
        value: Bytes::new(),
        owner: None,
        expires: None,
        expect: Expect::Any,
    };
    store.write(vec![elsewhere]).await.expect("put");
    let page = store.records.scan(SPACE, Position::First, 2).await.expect("read");
    assert_eq!((keys(&page), page.next.as_deref()), (vec!["a".to_owned(), "b".to_owned()], Some(&b"b"[..])));
    let page = store.records.scan(SPACE, Position::After(b"aa"), 9).await.expect("read");
    assert_eq!((keys(&page), page.next), (vec!["b".to_owned(), "c".to_owned()], None));
    let page = store.records.scan(SPACE, Position::Last, 2).await.expect("read");
    assert_eq!((keys(&page), page.next.as_deref()), (vec!["c".to_owned(), "b".to_owned()], Some(&b"b"[..])));
    let page = store.records.scan(SPACE, Position::Before(b"b"), 9).await.expect("read");
    assert_eq!((keys(&page), page.next), (vec!["a".to_owned()], None));
}

async fn keys_are_any_bytes(store: Fresh) {
    let all: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"a\xff", b"\xff", b"\xff\xff"];
    for key in all {
        let owner = Some("me".to_owned());
        let (key, value) = (key.to_vec(), Bytes::copy_from_slice(key));
        store
            .write(vec![Write::Put {
                space: SPACE,
                key,
                value,
                owner,
                expires: None,
                expect: Expect::Absent,
            }])
            .await
            .expect("put");
    }
    for key in all {
        assert_eq!(store.records.get(SPACE, key).await.expect("read").expect("there").value, key);
    }
    for position in [Position::First, Position::Last] {
        let listed = store.records.list(SPACE, "me", position, 9).await.expect("listed");
        let scanned = store.records.scan(SPACE, position, 9).await.expect("read");
        let mut found: Vec<_> = listed.items.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(listed, scanned);
        if position == Position::Last {
            found.reverse();
        }
        assert_eq!(found, all);
    }
}

async fn what_is_too_long_is_refused(store: Fresh) {
    let longest = "k".repeat(KEY_LIMIT);
    let whole = put_as(&longest, "x", Some(&longest), None, Expect::Any);
    store.write(vec![whole]).await.expect("the longest fits");
    let longer = format!("{longest}k");
    for write in
        [put(&longer, "x"), put_as("a", "x", Some(&longer), None, Expect::Any), delete(&longer, Expect::Any)]
    {
        assert_eq!(store.write(vec![put("b", "x"), write]).await, Err(StoreError::TooLong.into()));
    }
    assert_eq!(store.value("b").await, None);
    assert_eq!(store.records.get(SPACE, longer.as_bytes()).await, Ok(None));
}

fn caps(events: u64, bytes: u64) -> Caps {
    Caps { events, bytes, expires: Some(NOW + 100) }
}

async fn numbers(streams: &RecordedStreams, stream: &str, after: u64, limit: usize) -> Vec<u64> {
    let events = streams.replay(stream, after, limit).await.expect("read");
    events
        .into_iter()
        .map(|(number, event)| {
            assert_eq!(event, number.to_string(), "each number has its event");
            number
        })
        .collect()
}

async fn streams_number_their_events_and_keep_to_their_caps(store: Fresh) {
    let streams = RecordedStreams::new(Arc::clone(&store.records));
    assert!(numbers(&streams, "a", 0, 9).await.is_empty());
    for number in 1..=5u64 {
        let event = Bytes::from(number.to_string());
        assert_eq!(streams.append("a", event.clone(), caps(3, 1_000)).await, Ok(number));
        // Streams whose names begin alike are others.
        streams.append("aa", event, caps(9, 1_000)).await.expect("appended");
    }
    assert_eq!(numbers(&streams, "a", 0, 9).await, [3, 4, 5]);
    assert_eq!(numbers(&streams, "a", 3, 1).await, [4]);
    assert_eq!(numbers(&streams, "a", 5, 9).await, [0u64; 0]);
    assert_eq!(numbers(&streams, "aa", 1, 9).await, [2, 3, 4, 5]);
    assert_eq!(streams.append("a", Bytes::from_static(b"6"), caps(9, 2)).await, Ok(6));
    assert_eq!(numbers(&streams, "a", 0, 9).await, [5, 6], "two bytes");
    streams.trim("a", 5).await.expect("trimmed");
    assert_eq!(numbers(&streams, "a", 0, 9).await, [6]);
    streams.trim("a", 100).await.expect("trimmed");
    assert_eq!(numbers(&streams, "a", 0, 9).await, [0u64; 0]);
    assert_eq!(
        streams.append("a", Bytes::from_static(b"7"), caps(9, 9)).await,
        Ok(7),
        "no number comes again"
    );
    streams.trim("none", 3).await.expect("there is nothing to trim");
    store.hand.store(NOW + 100, Ordering::Relaxed);
    assert_eq!(numbers(&streams, "a", 0, 9).await, [0u64; 0], "it has expired");
}

async fn writers_of_one_stream_do_not_overwrite_each_other(store: Fresh) {
    let streams = RecordedStreams::new(Arc::clone(&store.records));
    let many = (0..20).map(|_| streams.append("a", Bytes::from_static(b"x"), caps(100, 1_000)));
    let mut given: Vec<_> = futures_util::future::join_all(many)
        .await
        .into_iter()
        .map(|number| number.expect("appended"))
        .collect();
    given.sort_unstable();
    assert_eq!(given, (1..=20).collect::<Vec<_>>());
    assert_eq!(streams.replay("a", 0, 100).await.expect("read").len(), 20);
}

async fn a_lease_has_one_holder_and_a_growing_fence(store: Fresh) {
    let leases = RecordedLeases::new(Arc::clone(&store.records), store.clock);
    let time = std::time::Duration::from_millis(10);
    let many = (0..8).map(|node| {
        let leases = &leases;
        async move { leases.acquire("a", &format!("node{node}"), time).await.expect("asked") }
    });
    let held: Vec<_> = futures_util::future::join_all(many).await.into_iter().flatten().collect();
    let [first] = held.as_slice() else { panic!("one holder: {held:?}") };
    assert_eq!(leases.holder("a").await, Ok(Some(first.node.clone())));
    assert_eq!(leases.acquire("a", &first.node, time).await, Ok(None), "not even its holder");
    store.hand.store(NOW + 9, Ordering::Relaxed);
    let renewed = leases.renew(first.clone(), time).await.expect("asked").expect("held");
    assert_eq!(renewed.fence, first.fence);
    store.hand.store(NOW + 18, Ordering::Relaxed);
    assert_eq!(leases.acquire("a", "late", time).await, Ok(None));
    store.hand.store(NOW + 19, Ordering::Relaxed);
    assert_eq!(leases.holder("a").await, Ok(None), "its time is over");
    let second = leases.acquire("a", "late", time).await.expect("asked").expect("free");
    assert!(second.fence > first.fence);
    assert_eq!(leases.renew(renewed.clone(), time).await, Ok(None), "it is lost");
    leases.release(renewed).await.expect("no error");
    assert_eq!(leases.holder("a").await, Ok(Some("late".to_owned())), "the loser releases nothing");
    leases.release(second).await.expect("released");
    assert_eq!(leases.holder("a").await, Ok(None));
}

/// What a store is meant to be, told in the plainest way.
#[derive(Debug, Default)]
struct Model {
    sequence: u64,
    records: Vec<(Vec<u8>, Kept)>,
}

impl Model {
    fn there(&self, key: &[u8], now: u64) -> Option<&Kept> {
        let kept = self.records.iter().find(|(found, _)| found == key).map(|(_, kept)| kept);
        kept.filter(|kept| kept.expires.is_none_or(|end| now < end))
    }

    fn remove(&mut self, key: &[u8]) {
        self.records.retain(|(found, _)| found != key);
    }

    fn write(&mut self, writes: &[Write], now: u64) -> Result<Vec<u64>, WriteError> {
        for (index, write) in writes.iter().enumerate() {
            let (Write::Put { key, expect, .. } | Write::Delete { key, expect, .. }) = write;
            let there = self.there(key, now).map(|kept| kept.version);
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => there.is_none(),
                Expect::Version(version) => there == Some(*version),
            };
            if !holds {
                return Err(WriteError::Conflict(index));
            }
        }
        let mut versions = Vec::new();
        for write in writes {
            self.sequence += 1;
            versions.push(self.sequence);
            let (Write::Put { key, .. } | Write::Delete { key, .. }) = write;
            self.remove(key);
            if let Write::Put { key, value, owner, expires, .. } = write.clone() {
                self.records.push((key, Kept { version: self.sequence, value, owner, expires }));
            }
        }
        Ok(versions)
    }

    fn page(&self, owner: Option<&str>, now: u64) -> Vec<(Vec<u8>, Kept)> {
        let mut items: Vec<_> = self.records.clone();
        items.retain(|(_, kept)| kept.expires.is_none_or(|end| now < end));
        items.retain(|(_, kept)| owner.is_none() || kept.owner.as_deref() == owner);
        items.sort_by(|(one, _), (other, _)| one.cmp(other));
        items
    }
}

/// A key; owner and end of what is put, if anything is; how many writes ago the expected version was made.
type Change = (u8, Option<(u8, Option<u64>)>, Option<u64>);

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Change>),
    Take(u8),
    Purge(usize),
    Wait(u64),
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..6u8, prop::option::of((0..3u8, prop::option::of(0..30u64))), prop::option::of(0..20u64));
    prop::collection::vec(
        prop_oneof![
            6 => prop::collection::vec(change, 0..4).prop_map(Step::Write),
            1 => (0..6u8).prop_map(Step::Take),
            1 => (0..3usize).prop_map(Step::Purge),
            2 => (1..8u64).prop_map(Step::Wait),
            2 => (1..4usize).prop_map(Step::Look),
        ],
        1..40,
    )
}

fn behaves_as_the_model(open: &dyn Fn(Clock) -> (Arc<dyn Records>, Option<super::places::Place>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) }, |(steps in steps())| {
        runtime.block_on(follow(Fresh::new(open), steps));
    });
}

async fn follow(store: Fresh, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut now = NOW;
    for step in steps {
        match step {
            Step::Wait(time) => {
                now += time;
                store.hand.store(now, Ordering::Relaxed);
            }
            Step::Take(key) => {
                let expected = model.there(&[key], now).cloned();
                assert_eq!(store.records.take(SPACE, &[key]).await, Ok(expected.clone()));
                if expected.is_some() {
                    model.remove(&[key]);
                }
            }
            Step::Purge(limit) => {
                assert!(store.records.purge(limit).await.expect("purged") <= limit);
            }
            Step::Look(limit) => look(&store, &model, limit, now).await,
            Step::Write(changes) => {
                let writes: Vec<_> = changes
                    .into_iter()
                    .map(|(key, change, expect)| {
                        // Versions count from 1; 0 stands for absence.
                        let expect = expect.map_or(Expect::Any, |version| {
                            if version == 0 {
                                Expect::Absent
                            } else {
                                Expect::Version(model.sequence.saturating_sub(version))
                            }
                        });
                        let (space, key) = (SPACE, vec![key]);
                        match change {
                            None => Write::Delete { space, key, expect },
                            Some((owner, end)) => Write::Put {
                                space,
                                value: Bytes::copy_from_slice(&[owner, key[0]]),
                                key,
                                owner: (owner > 0).then(|| format!("owner{owner}")),
                                expires: end.map(|end| now + end),
                                expect,
                            },
                        }
                    })
                    .collect();
                let expected = model.write(&writes, now);
                assert_eq!(store.write(writes).await, expected);
            }
        }
    }
    look(&store, &model, 2, now).await;
    store.records.close().await;
}

/// Everything that can be seen is as the model has it.
async fn look(store: &Fresh, model: &Model, limit: usize, now: u64) {
    for key in 0..6u8 {
        assert_eq!(store.records.get(SPACE, &[key]).await, Ok(model.there(&[key], now).cloned()));
    }
    for owner in [None, Some("owner1"), Some("owner2")] {
        let expected = model.page(owner, now);
        for backwards in [false, true] {
            let mut seen: Vec<(Vec<u8>, Kept)> = Vec::new();
            let mut from: Option<Vec<u8>> = None;
            loop {
                let position = match (&from, backwards) {
                    (None, false) => Position::First,
                    (Some(key), false) => Position::After(key),
                    (None, true) => Position::Last,
                    (Some(key), true) => Position::Before(key),
                };
                let page = match owner {
                    Some(owner) => store.records.list(SPACE, owner, position, limit).await,
                    None => store.records.scan(SPACE, position, limit).await,
                };
                let page = page.expect("a store that answers");
                assert!(page.items.len() <= limit && page.damaged.is_empty());
                seen.extend(page.items);
                match page.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
            if backwards {
                seen.reverse();
            }
            assert_eq!(seen, expected);
        }
    }
}

keeps_the_contract!(memory, |clock| -> (Arc<dyn Records>, _) {
    (Arc::new(crate::store::memory::Memory::new(clock)), None)
});

keeps_the_contract!(embedded, |clock| -> (Arc<dyn Records>, _) {
    (Arc::new(crate::store::embedded::Embedded::in_memory(clock)), None)
});

keeps_the_contract!(embedded_on_disk, |clock| -> (Arc<dyn Records>, _) {
    let place = crate::store::places::Place::new();
    (
        Arc::new(
            crate::store::embedded::Embedded::open(place.path("store.redb"), || Ok(()), false, clock)
                .expect("opened"),
        ),
        Some(place),
    )
});
