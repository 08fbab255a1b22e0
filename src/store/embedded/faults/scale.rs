//! Many records: a start that does not read them one by one, and pages that cost the same however many there are.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::Embedded;
use crate::store::clock::Clock;
use crate::store::places::Place;
use crate::store::records::{Expect, Position, Records as _, Space, Write};

const TASK: Space = Space::new("task");
const OPEN: Space = Space::new("task.open");
/// The full number without the debugger's slowness.
const RECORDS: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

fn put(space: Space, number: usize) -> Write {
    Write::Put {
        space,
        key: (number as u64).to_be_bytes().to_vec(),
        value: Bytes::from(vec![b'x'; 400]),
        owner: Some("me".to_owned()),
        expires: Some(u64::MAX - 1),
        expect: Expect::Any,
    }
}

/// The median time of a page somewhere in the list.
async fn page_time(store: &Embedded, records: usize) -> Duration {
    let mut times = Vec::new();
    for step in 0..101 {
        let from = (records as u64 * step / 102).to_be_bytes();
        let since = Instant::now();
        let page = store.list(TASK, "me", Position::After(&from), 50).await.expect("listed");
        times.push(since.elapsed());
        assert_eq!(
            page.items.len(),
            50.min(records - usize::try_from(u64::from_be_bytes(from)).expect("small") - 1)
        );
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn s_task_start_and_pages_do_not_grow_with_the_records() {
    let place = Place::new();
    let open =
        || Embedded::open(place.path("store.redb"), || Ok(()), false, Clock::system()).expect("opened");
    let store = open();
    let writes: Vec<_> = (0..RECORDS).map(|number| put(TASK, number)).collect();
    store.write(writes[..1_000].to_vec()).await.expect("written");
    let few = page_time(&store, 1_000).await;
    for some in writes[1_000..].chunks(2_000) {
        store.write(some.to_vec()).await.expect("written");
    }
    store.write((0..20).map(|number| put(OPEN, number)).collect()).await.expect("written");
    let many = page_time(&store, RECORDS).await;
    // Killed: nothing is closed in order, and everything is looked at.
    let bytes = std::fs::copy(place.path("store.redb"), place.path("killed.redb")).expect("copied");
    store.close().await;
    let since = Instant::now();
    let killed =
        Embedded::open(place.path("killed.redb"), || Ok(()), false, Clock::system()).expect("opened");
    let unfinished = killed.scan(OPEN, Position::First, 1_000).await.expect("read");
    let start = since.elapsed();
    assert_eq!(unfinished.items.len(), 20);
    println!(
        "{RECORDS} records, {bytes} bytes: start {start:?}; a page of 50: {few:?} of 1000, {many:?} of all"
    );
    assert!(start < Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 }), "{start:?}");
    assert!(many < few * 4 + Duration::from_millis(2), "{few:?} with few, {many:?} with many");

    let mut times = Vec::new();
    for number in 0..101u64 {
        let since = Instant::now();
        let key = (number * 37).to_be_bytes();
        killed.get(TASK, &key).await.expect("read").expect("there");
        times.push(since.elapsed());
    }
    times.sort();
    println!("a read: {:?}; of it in the engine: {:?}", times[50], engine_time(&killed));
}

/// The median time of a cached read, without the way to another thread.
fn engine_time(store: &Embedded) -> Duration {
    let mut times: Vec<_> = (0..101u64)
        .map(|number| {
            let since = Instant::now();
            let key = (number * 37).to_be_bytes();
            let found =
                store.engine.read(None, |snapshot| super::super::tables::get(snapshot, TASK, &key, 0));
            assert!(found.expect("read").is_some());
            since.elapsed()
        })
        .collect();
    times.sort();
    times[50]
}
