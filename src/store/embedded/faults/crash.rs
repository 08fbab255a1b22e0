//! F46, F47: what is on the disk after the power failed is some of what was written, and all of what was synced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::super::engine::Engine;
use super::super::tables;
use super::{Dice, Disk, Operation, SPACE, apply};
use crate::store::records::{Expect, Position, Records as _, Write};

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// A disk's log, and what the store holds after each write of it.
struct Story {
    log: Vec<Operation>,
    states: Vec<Content>,
}

/// Writes two records together each time, so that a half transaction shows; removes some; up to three at once.
async fn story(seed: u64, writes: usize) -> Story {
    let disk = Disk::with(Vec::new());
    disk.is_recording.store(true, Ordering::Relaxed);
    let store = disk.store();
    let mut dice = Dice(seed);
    let mut states = vec![Content::new()];
    while states.len() <= writes {
        let mut together = Vec::new();
        for _ in 0..=dice.below(3) {
            let mut content = states.last().expect("one").clone();
            let number = states.len();
            let slot = dice.below(12);
            let mut changes = Vec::new();
            for side in ["left", "right"] {
                let key = format!("{side}/{slot}").into_bytes();
                if number % 5 == 4 {
                    content.remove(&key);
                    changes.push(Write::Delete { space: SPACE, key, expect: Expect::Any });
                    continue;
                }
                let mut value = format!("{number}:").into_bytes();
                value.resize(value.len() + dice.below(3_000), b'x');
                content.insert(key.clone(), value.clone());
                changes.push(Write::Put {
                    space: SPACE,
                    key,
                    value: Bytes::from(value),
                    owner: Some("me".to_owned()),
                    expires: None,
                    expect: Expect::Any,
                });
            }
            states.push(content);
            together.push(store.write(changes));
        }
        for written in futures_util::future::join_all(together).await {
            written.expect("a healthy disk");
        }
        let acknowledged = states.len() - 1;
        disk.log(|| Operation::Acknowledged(acknowledged));
    }
    store.close().await;
    disk.log(|| Operation::Acknowledged(states.len() - 1));
    let log = std::mem::take(&mut *disk.log.lock().expect("not poisoned"));
    Story { log, states }
}

/// What may be on the disk if the power fails after so many operations: everything synced, and any part of the rest.
fn image(base: &[u8], unsynced: &[Operation], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = base.to_vec();
    // In a third of the images a suffix is lost, in a third any subset, in a third nothing.
    let way = dice.below(3);
    let kept = dice.below(unsynced.len() + 1);
    for (index, operation) in unsynced.iter().enumerate() {
        let is_lost = match way {
            0 => index >= kept,
            1 => dice.below(2) == 0,
            _ => false,
        };
        if is_lost {
            continue;
        }
        match operation {
            Operation::Write(offset, data) => {
                // A disk writes sectors: the last write may be there in part.
                let is_torn = way < 2 && dice.below(8) == 0;
                let length = if is_torn { dice.below(data.len() / 512 + 1) * 512 } else { data.len() };
                apply(&mut bytes, *offset, &data[..length]);
            }
            Operation::Length(length) => bytes.resize(usize::try_from(*length).expect("small"), 0),
            Operation::Founded(whole) => bytes.clone_from(whole),
            Operation::Sync | Operation::Acknowledged(_) => {}
        }
    }
    bytes
}

fn replay(bytes: &mut Vec<u8>, operations: &[Operation]) {
    for operation in operations {
        match operation {
            Operation::Write(offset, data) => apply(bytes, *offset, data),
            Operation::Length(length) => bytes.resize(usize::try_from(*length).expect("small"), 0),
            Operation::Founded(whole) => bytes.clone_from(whole),
            Operation::Sync | Operation::Acknowledged(_) => {}
        }
    }
}

/// The end of the last sync before `point`.
fn synced(log: &[Operation], point: usize) -> usize {
    log[..point]
        .iter()
        .rposition(|operation| matches!(operation, Operation::Sync | Operation::Founded(_)))
        .map_or(0, |last| last + 1)
}

fn content(engine: &Engine) -> Content {
    let page = engine
        .read(Default::default(), |snapshot| tables::scan(snapshot, SPACE, (Position::First, 1_000), 0))
        .expect("a store that answers");
    assert!(page.damaged.is_empty() && page.next.is_none());
    let listed = engine
        .read(Default::default(), |snapshot| tables::list(snapshot, SPACE, "me", (Position::First, 1_000), 0))
        .expect("a store that answers");
    assert_eq!(page, listed, "the owner's index says the same");
    page.items.into_iter().map(|(key, kept)| (key, kept.value.to_vec())).collect()
}

/// Opens the image and compares: it must hold every acknowledged write, and of the others each whole or not at all.
fn check(disk: &Arc<Disk>, story: &Story, point: usize) {
    let before = &story.log[..point];
    let acknowledged = before.iter().rev().find_map(|operation| match operation {
        Operation::Acknowledged(count) => Some(*count),
        _ => None,
    });
    let engine = disk.engine().unwrap_or_else(|error| panic!("crash after {point}: {error}"));
    let content = content(&engine);
    let first = acknowledged.unwrap_or(0);
    let possible = &story.states[first..(first + 4).min(story.states.len())];
    assert!(possible.contains(&content), "crash after {point}: {acknowledged:?} were acknowledged");
}

#[tokio::test]
async fn f47_no_crash_image_lacks_what_was_acknowledged_or_has_half_a_transaction() {
    const IMAGES: usize = 2_000;
    let story = story(47, 120).await;
    let mut dice = Dice(4_700);
    let (mut base, mut based_on) = (Vec::new(), 0);
    for number in 0..IMAGES {
        // Points in order, so that the part that lasts grows along.
        let point = story.log.len() * (number + 1) / IMAGES;
        let last = synced(&story.log, point);
        replay(&mut base, &story.log[based_on..last]);
        based_on = last;
        let bytes = image(&base, &story.log[last..point], &mut dice);
        check(&Disk::with(bytes), &story, point);
    }
}

#[tokio::test]
async fn f46_a_start_that_is_killed_anywhere_is_followed_by_one_that_succeeds() {
    let story = story(46, 30).await;
    let mut dice = Dice(4_600);
    // Among the first points are those of the founding of the store.
    for number in 0..40 {
        let point = if number < 20 { number } else { dice.below(story.log.len()) };
        let last = synced(&story.log, point);
        let mut base = Vec::new();
        replay(&mut base, &story.log[..last]);
        let first = image(&base, &story.log[last..point], &mut dice);
        let disk = Disk::with(first.clone());
        disk.is_recording.store(true, Ordering::Relaxed);
        check(&disk, &story, point);
        let recovery = std::mem::take(&mut *disk.log.lock().expect("not poisoned"));
        for _ in 0..10 {
            let killed = dice.below(recovery.len() + 1);
            let last = synced(&recovery, killed);
            let mut base = first.clone();
            replay(&mut base, &recovery[..last]);
            check(&Disk::with(image(&base, &recovery[last..killed], &mut dice)), &story, point);
        }
    }
}
