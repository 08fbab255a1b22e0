//! F48, F49: disks that are full, that fail, and that hang.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::Embedded;
use super::{Dice, Disk, SPACE};
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Expect, Records, Write};

fn put(key: usize, value: &[u8]) -> Vec<Write> {
    vec![Write::Put {
        space: SPACE,
        key: format!("{key:05}").into_bytes(),
        value: Bytes::copy_from_slice(value),
        owner: None,
        expires: None,
        expect: Expect::Any,
    }]
}

async fn value(store: &Embedded, key: usize) -> Result<Option<Bytes>, StoreError> {
    Ok(store.get(SPACE, format!("{key:05}").as_bytes()).await?.map(|kept| kept.value))
}

/// Writes until the disk is full; gives how many were written.
async fn fill(store: &Embedded) -> usize {
    for key in 0.. {
        match store.write(put(key, &[7; 10_000])).await {
            Ok(_) => {}
            Err(WriteError::Store(StoreError::Full)) => return key,
            Err(error) => panic!("{error}"),
        }
        assert!(key < 10_000, "the disk never fills");
    }
    unreachable!("the loop has no end of its own")
}

/// Polls until a write succeeds.
async fn written_in_the_end(store: &Embedded, key: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.write(put(key, b"late")).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn all_there(store: &Embedded, written: usize) {
    for key in 0..written {
        assert_eq!(value(store, key).await.expect("reads go on").expect("it was acknowledged").len(), 10_000);
    }
}

#[tokio::test]
async fn f48_a_full_disk_refuses_writes_reads_go_on_and_space_heals_it() {
    for is_stuffed in [false, true] {
        let disk = Disk::with(Vec::new());
        let store = disk.store();
        for key in 0..30 {
            store.write(put(key, &[7; 10_000])).await.expect("there is space");
        }
        // Either no growth is possible, or no byte can be changed at all.
        if is_stuffed { &disk.is_stuffed } else { &disk.is_full }.store(true, Ordering::Relaxed);
        let written = fill(&store).await.max(30);
        for _ in 0..20 {
            assert_eq!(store.write(put(written, &[7; 200_000])).await, Err(StoreError::Full.into()));
            all_there(&store, written).await;
        }
        disk.heal();
        written_in_the_end(&store, written).await;
        all_there(&store, written).await;
        store.close().await;
        let again = disk.store();
        all_there(&again, written).await;
        assert_eq!(value(&again, written).await.expect("read").as_deref(), Some(&b"late"[..]));
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "a small disk is made by another program")]
async fn f48_a_small_tmpfs_fills_and_heals() {
    let place = crate::store::places::Place::new();
    let disk = place.path("disk");
    std::fs::create_dir(&disk).expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "switchyard-test"])
        .arg(&disk)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: only root can mount a small disk");
        return;
    }
    let story = tokio::spawn({
        let disk = disk.clone();
        async move {
            let clock = crate::store::clock::Clock::system();
            std::fs::write(disk.join("ballast"), vec![0; 1_000_000]).expect("space");
            let store = Embedded::open(disk.join("store.redb"), || Ok(()), false, clock).expect("opened");
            let written = fill(&store).await;
            assert!(written > 5, "{written}");
            all_there(&store, written).await;
            assert_eq!(store.write(put(written, &[7; 300_000])).await, Err(StoreError::Full.into()));
            all_there(&store, written).await;
            std::fs::remove_file(disk.join("ballast")).expect("removed");
            written_in_the_end(&store, written).await;
            all_there(&store, written).await;
            store.close().await;
        }
    })
    .await;
    let _ = std::process::Command::new("umount").arg(&disk).output();
    story.expect("the story ends well");
}

#[tokio::test]
async fn f49_what_a_failing_disk_did_not_keep_was_never_acknowledged() {
    let disk = Disk::with(Vec::new());
    let store = disk.store();
    let mut dice = Dice(49);
    // What each key may hold: what was acknowledged last, and what was tried since.
    let mut possible: BTreeMap<usize, Vec<Option<Vec<u8>>>> = BTreeMap::new();
    let mut failures = 0;
    for round in 0..200 {
        disk.failures.store(1 + u32::try_from(dice.below(6)).expect("small"), Ordering::Relaxed);
        disk.fails_after.store(1 + u32::try_from(dice.below(25)).expect("small"), Ordering::Relaxed);
        for step in 0..4 {
            let key = dice.below(10);
            let mut content = format!("{round}.{step}").into_bytes();
            content.resize(content.len() + dice.below(4_000), b'x');
            let values = possible.entry(key).or_insert_with(|| vec![None]);
            match store.write(put(key, &content)).await {
                Ok(_) => *values = vec![Some(content)],
                Err(WriteError::Store(StoreError::Io(_))) => {
                    failures += 1;
                    values.push(Some(content));
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        disk.heal();
        for (key, values) in &mut possible {
            let found = value(&store, *key).await.expect("a healthy disk").map(|value| value.to_vec());
            assert!(values.contains(&found), "round {round}: key {key} lost what was acknowledged");
            *values = vec![found];
        }
    }
    assert!(failures > 100, "only {failures} writes failed");
    written_in_the_end(&store, 77).await;
}

#[tokio::test]
async fn f49_what_waits_for_a_hanging_disk_is_shed_and_never_written() {
    let disk = Disk::with(Vec::new());
    let store = Arc::new(disk.store());
    store.write(put(0, b"before")).await.expect("written");
    disk.hang(true);
    let stuck = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.write(put(1, b"stuck")).await }
    });
    while !disk.is_syncing.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    let since = Instant::now();
    let many = (2..1_500).map(|key| store.write(put(key, b"behind")));
    let shed = futures_util::future::join_all(many).await;
    assert!(
        shed.iter().all(|shed| *shed == Err(StoreError::Busy.into())),
        "{:?}",
        shed.iter().find(|s| s.is_ok())
    );
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert!(!stuck.is_finished(), "what was begun waits for the truth");
    assert_eq!(value(&store, 0).await.expect("reads go on").as_deref(), Some(&b"before"[..]));
    disk.hang(false);
    stuck.await.expect("no panic").expect("written in the end");
    assert_eq!(value(&store, 1).await.expect("read").as_deref(), Some(&b"stuck"[..]));
    store.write(put(2_000, b"after")).await.expect("written");
    for key in [2, 700, 1_499] {
        assert_eq!(value(&store, key).await, Ok(None));
    }
}

#[tokio::test]
async fn s_task_many_writes_share_a_sync() {
    let disk = Disk::with(Vec::new());
    let store = disk.store();
    store.write(put(0, b"first")).await.expect("written");
    disk.is_recording.store(true, Ordering::Relaxed);
    for written in futures_util::future::join_all((1..200).map(|key| store.write(put(key, b"x")))).await {
        written.expect("written");
    }
    let log = disk.log.lock().expect("not poisoned");
    let syncs = log.iter().filter(|operation| matches!(operation, super::Operation::Sync)).count();
    assert!((1..60).contains(&syncs), "{syncs} syncs for 199 writes");
}
