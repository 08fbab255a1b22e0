//! A gateway whose store holds very many tasks starts as quickly, and answers as quickly, as one with a hundred (T5).
//!
//! 20,000 of them in the ordinary tests; `MANY=100000 cargo test --release --test many_tasks -- --nocapture` for the figure of
//! the requirements. The tasks are made by the store's own interface: a hundred are made by calls, and what is kept of them is
//! copied under keys of its own, older than any.
//!
//! Always: figures are compared with those of the same gateway on the same machine a moment before; of several tries the
//! best counts, for a busy machine is only ever slower.
#![cfg(test)]

#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "most of it is for the other stories")]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use switchyard::config::state::StateSettings;
use switchyard::store::clock::Clock;
use switchyard::store::records::{Expect, Kept, Position, Records, Space, Write};
use switchyard::store::{IfLocked, open};
use tokio::time::Instant;

use support::upstream::Manner;
use support::{Client, Gateway, HANDSHAKE, gateway, stateless_upstream};

/// Tasks that are made by calls.
const FEW: usize = 100;
/// Tries of what is measured.
const TRIES: usize = 30;
/// Writes of one transaction.
const TOGETHER: usize = 1_000;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// After an orderly end.
    start: Duration,
    /// After a kill.
    start_killed: Duration,
    page: Duration,
    get: Duration,
}

async fn client(gateway: &Gateway) -> Client {
    let client = gateway.handshake_with(HANDSHAKE, json!({})).await.quiet();
    client.until_tools(&["one__echo"]).await;
    client
}

/// Start the gateway again a few times, and measure.
async fn measure(gateway: &mut Gateway, id: &str) -> Figures {
    let (mut start, mut start_killed) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        assert!(gateway.terminate().await.success());
        let began = Instant::now();
        gateway.start_again().await;
        start = start.min(began.elapsed());
        // Something was just written, which the engine has to take up after a kill.
        let client = client(gateway).await;
        client.begin_id("one__echo", json!({ "text": "it" })).await;
        gateway.kill().await;
        let began = Instant::now();
        gateway.start_again().await;
        start_killed = start_killed.min(began.elapsed());
    }
    let client = client(gateway).await;
    let (mut page, mut get) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        let began = Instant::now();
        let listed = client.list_tasks(None).await;
        page = page.min(began.elapsed());
        let tasks = listed.result()["tasks"].as_array().map(Vec::len);
        assert!(tasks.is_some_and(|tasks| tasks > 10), "{}", listed.raw);
        assert!(listed.result()["nextCursor"].is_string(), "there are more: {}", listed.raw);
        let began = Instant::now();
        let told = client.task(id).await;
        get = get.min(began.elapsed());
        assert_eq!(told.result()["status"], "completed");
    }
    Figures { start, start_killed, page, get }
}

/// Every record of a space.
async fn all(records: &dyn Records, space: Space) -> Vec<(Vec<u8>, Kept)> {
    let (mut found, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let position = after.as_deref().map_or(Position::First, Position::After);
        let page = records.scan(space, position, 100).await.expect("the store can be read");
        assert!(page.damaged.is_empty());
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

/// Copy what is kept of tasks until there are `count`, each under a key of its own.
async fn multiply(directory: PathBuf, count: usize) {
    let settings = StateSettings::Directory(directory.join("state"));
    let stores = tokio::task::spawn_blocking(move || open(&settings, IfLocked::Refuse, Clock::system()));
    let stores = stores.await.expect("it opens or fails").expect("the gateway has let go of it");
    let records = stores.records.as_ref();
    let (tasks, results) = (Space::new("task"), Space::new("task.result"));
    let (of_tasks, of_results) = (all(records, tasks).await, all(records, results).await);
    assert!(of_tasks.len() >= FEW && of_results.len() >= FEW, "{} and {}", of_tasks.len(), of_results.len());
    let mut writes = Vec::new();
    for number in FEW..count {
        for (space, originals) in [(tasks, &of_tasks), (results, &of_results)] {
            let (key, kept) = &originals[number % FEW];
            writes.push(copy(space, key, kept, number));
        }
        if writes.len() >= TOGETHER || number + 1 == count {
            stores.records.write(std::mem::take(&mut writes)).await.expect("there is room");
        }
    }
    stores.records.close().await;
}

fn copy(space: Space, key: &[u8], kept: &Kept, number: usize) -> Write {
    let mut key = key.to_vec();
    // The time of creation comes first.
    let (time, rest) = key.split_at_mut(8);
    let created = u64::from_be_bytes(time.try_into().expect("eight bytes"));
    time.copy_from_slice(&(created - number as u64).to_be_bytes());
    rest[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let (value, owner, expires) = (kept.value.clone(), kept.owner.clone(), kept.expires);
    Write::Put { space, key, value, owner, expires, expect: Expect::Absent }
}

#[tokio::test]
async fn t5_very_many_tasks_cost_a_start_a_page_and_a_look_nothing() {
    let count = std::env::var("MANY").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let upstream = stateless_upstream("one").tasks(Manner::default()).quiet().start().await;
    let mut gateway = gateway().with("one", &upstream).config("bounds: { page_size: 50 }").start().await;
    let first = client(&gateway).await;
    let mut ids = Vec::new();
    for _ in 0..FEW {
        ids.push(first.begin_id("one__echo", json!({ "text": "it" })).await);
    }
    for id in &ids {
        assert_eq!(first.until_over(id).await.status, "completed");
    }
    let few = measure(&mut gateway, &ids[7]).await;
    assert!(gateway.terminate().await.success());
    let began = Instant::now();
    multiply(gateway.directory().to_owned(), count).await;
    println!("{count} tasks were made in {:?}", began.elapsed());
    gateway.start_again().await;
    let many = measure(&mut gateway, &ids[7]).await;
    println!("with {FEW}: {few:?}\nwith {count}: {many:?}");
    let longest = many.start.max(many.start_killed);
    assert!(longest <= Duration::from_secs(2), "{many:?}");
    for (what, few, many) in [("a page", few.page, many.page), ("a look", few.get, many.get)] {
        assert!(
            many <= few * 3 + Duration::from_millis(2),
            "{what}: {few:?} with {FEW}, {many:?} with {count}"
        );
    }
}
