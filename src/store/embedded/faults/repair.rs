//! F50: what `switchyard store` says of a damaged store, and what it saves of one.

#![expect(clippy::disallowed_methods, reason = "a test reads files as it likes")]

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{Embedded, check, repair};
use super::{Dice, SPACE};
use crate::store::clock::Clock;
use crate::store::error::StoreError;
use crate::store::places::Place;
use crate::store::records::{Expect, Kept, Position, Records as _, Write};

async fn filled(place: &Place) -> Vec<(Vec<u8>, Kept)> {
    let store = open(place);
    let mut dice = Dice(5);
    for part in 0..20 {
        let writes = (0..20).map(|number| Write::Put {
            space: SPACE,
            key: format!("{part:02}.{number:02}").into_bytes(),
            // Some need pages of their own.
            value: Bytes::from(vec![b'x'; dice.below(300) * if dice.below(20) == 0 { 100 } else { 1 }]),
            owner: Some("me".to_owned()),
            expires: (number % 2 == 0).then_some(u64::MAX - 1),
            expect: Expect::Any,
        });
        store.write(writes.collect()).await.expect("written");
    }
    let all = store.scan(SPACE, Position::First, 1_000).await.expect("read").items;
    store.close().await;
    all
}

fn open(place: &Place) -> Embedded {
    Embedded::open(place.path("store.redb"), || Ok(()), false, Clock::system()).expect("opened")
}

#[tokio::test]
async fn f50_a_look_changes_nothing_and_a_repair_saves_what_verifies() {
    let place = Place::new();
    let file = place.path("store.redb");
    assert!(matches!(check(&file), Err(StoreError::Io(_))), "nothing is there");
    let good = filled(&place).await;
    assert_eq!(good.len(), 400);
    let whole = std::fs::read(&file).expect("read");
    let finding = check(&place.path("")).expect("a directory stands for its store");
    assert!(finding.is_whole(), "{finding:?}");
    assert_eq!(finding.records, BTreeMap::from([("thing".to_owned(), 400)]));
    assert_eq!(repair(&file).expect("looked at"), None);
    assert_eq!(std::fs::read(&file).expect("read"), whole, "looking changes nothing");

    let store = open(&place);
    assert_eq!(check(&file), Err(StoreError::Locked), "not while a gateway runs");
    assert_eq!(repair(&file), Err(StoreError::Locked));
    store.close().await;

    let whole = std::fs::read(&file).expect("read");
    let mut dice = Dice(6);
    let mut least = good.len();
    for round in 0..25 {
        let mut bytes = whole.clone();
        // Rot in some pages, and in some rounds at the very beginning.
        for _ in 0..1 + dice.below(4) {
            let at = if round % 5 == 0 { dice.below(320) } else { dice.below(bytes.len()) };
            bytes[at] ^= 1 << dice.below(8);
        }
        std::fs::write(&file, &bytes).expect("written");
        let finding = check(&file).expect("looked at");
        let Some(repaired) = repair(&file).expect("repaired") else {
            assert!(finding.is_whole());
            continue;
        };
        assert!(!finding.is_whole());
        assert_eq!(std::fs::read(&repaired.kept_as).expect("kept"), bytes, "the old one stays as it was");
        assert!(check(&file).expect("looked at").is_whole());
        let store = open(&place);
        let saved = store.list(SPACE, "me", Position::First, 1_000).await.expect("listed");
        assert!(saved.damaged.is_empty());
        assert_eq!(repaired.saved.get("thing").copied().unwrap_or_default(), saved.items.len());
        for (key, kept) in &saved.items {
            let (_, right) =
                good.iter().find(|(found, _)| found == key).expect("no record comes from nowhere");
            assert_eq!(kept, right, "round {round}: a wrong answer");
        }
        least = least.min(saved.items.len());
        let version = store
            .write(vec![Write::Delete { space: SPACE, key: b"x".to_vec(), expect: Expect::Any }])
            .await
            .expect("it works again")[0];
        assert!(version > 1 << 32, "versions of lost records are not used again");
        store.close().await;
    }
    assert!(least > 300, "one repair saved {least} of 400 records");
}
