//! F50: a store that rots is refused or gives the right answers; a record that rots is told, and alone.

use std::sync::Arc;

use bytes::Bytes;

use super::super::layout::record_key;
use super::super::tables::{self, RECORDS};
use super::{Dice, Disk, SPACE};
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Expect, Position, Records as _, Write};

fn put(key: &str, value: Vec<u8>, expect: Expect) -> Write {
    Write::Put {
        space: SPACE,
        key: key.as_bytes().to_vec(),
        value: Bytes::from(value),
        owner: Some("me".to_owned()),
        expires: None,
        expect,
    }
}

#[tokio::test]
async fn f50_no_flipped_bit_of_any_page_gives_a_wrong_answer() {
    let disk = Disk::with(Vec::new());
    let store = disk.store();
    let mut dice = Dice(50);
    let mut good = Vec::new();
    for number in 0..600 {
        let value: Vec<u8> = (0..dice.below(2_400)).map(|at| (at % 251) as u8).collect();
        good.push((format!("{number:04}"), value));
    }
    for some in good.chunks(20) {
        let writes = some.iter().map(|(key, value)| put(key, value.clone(), Expect::Any)).collect();
        store.write(writes).await.expect("written");
    }
    store.close().await;
    let whole = disk.bytes();
    assert!(whole.len() > 900_000, "{}", whole.len());
    let (mut refused, mut right) = (0, 0);
    for page in 0..whole.len() / 4096 {
        let mut bytes = whole.clone();
        // The first page has all that is believed without a checksum.
        let place = if page % 3 == 0 { dice.below(320) } else { dice.below(4096) };
        bytes[page * 4096 + place] ^= 1 << dice.below(8);
        match Disk::with(bytes).engine() {
            Err(StoreError::Corrupt(_)) => refused += 1,
            Err(error) => panic!("page {page}, byte {place}: {error}"),
            Ok(engine) => {
                right += 1;
                let found = engine
                    .read(Default::default(), |snapshot| {
                        tables::list(snapshot, SPACE, "me", (Position::First, 10_000), 0)
                    })
                    .expect("a store that was opened answers");
                let found: Vec<_> =
                    found.items.into_iter().map(|(key, kept)| (key, kept.value.to_vec())).collect();
                let same = found
                    .iter()
                    .zip(&good)
                    .all(|(found, (key, value))| found.0 == key.as_bytes() && found.1 == *value);
                assert!(same && found.len() == good.len(), "page {page}, byte {place}: a wrong answer");
            }
        }
    }
    // All over what is believed first.
    for bit in (0..320 * 8).step_by(13) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match Disk::with(bytes).engine() {
            Err(StoreError::Corrupt(_)) => refused += 1,
            Err(error) => panic!("bit {bit} of the head: {error}"),
            Ok(engine) => {
                right += 1;
                let found = engine
                    .read(None, |snapshot| tables::get(snapshot, SPACE, b"0599", 0))
                    .expect("a store that was opened answers");
                assert_eq!(found.map(|kept| kept.value.to_vec()), Some(good[599].1.clone()), "bit {bit}");
            }
        }
    }
    println!("{refused} refused, {right} right");
    assert!(refused > 150, "{refused} refused, {right} right");
}

#[tokio::test]
async fn f50_a_damaged_record_is_told_and_alone() {
    let disk = Disk::with(Vec::new());
    let store = disk.store();
    for key in ["a", "b", "c"] {
        store.write(vec![put(key, key.into(), Expect::Any)]).await.expect("written");
    }
    // One bit of the value, below the engine's own checksums.
    let rot = |key: &'static [u8]| {
        let engine = Arc::clone(&store.engine);
        engine
            .change_all(|transaction| {
                let mut records = transaction.open_table(RECORDS)?;
                let record = record_key(SPACE, key);
                let mut bytes = records.get(record.as_slice())?.expect("there").value().to_vec();
                *bytes.last_mut().expect("not empty") ^= 1;
                records.insert(record.as_slice(), bytes.as_slice())?;
                Ok((true, ()))
            })
            .expect("rotten");
    };
    use redb::ReadableTable as _;
    rot(b"b");
    assert_eq!(store.get(SPACE, b"b").await, Err(StoreError::Damaged(SPACE)));
    assert_eq!(store.take(SPACE, b"b").await, Err(StoreError::Damaged(SPACE)));
    assert_eq!(&store.get(SPACE, b"a").await.expect("read").expect("whole").value[..], b"a");
    for page in [
        store.list(SPACE, "me", Position::First, 9).await.expect("listed"),
        store.scan(SPACE, Position::First, 9).await.expect("read"),
    ] {
        let keys: Vec<_> = page.items.iter().map(|(key, _)| &key[..]).collect();
        assert_eq!((keys, page.damaged), (vec![&b"a"[..], b"c"], vec![b"b".to_vec()]));
    }
    let absent = store.write(vec![put("b", vec![1], Expect::Absent)]).await;
    assert_eq!(absent, Err(WriteError::Conflict(0)), "something is there");
    let version = store.write(vec![put("b", vec![1], Expect::Version(2))]).await;
    assert_eq!(version, Err(StoreError::Damaged(SPACE).into()), "nobody knows which");
    store.write(vec![put("b", vec![1], Expect::Any)]).await.expect("it can be replaced");
    assert_eq!(&store.get(SPACE, b"b").await.expect("read").expect("whole again").value[..], [1]);
    rot(b"c");
    let gone = Write::Delete { space: SPACE, key: b"c".to_vec(), expect: Expect::Any };
    store.write(vec![gone]).await.expect("it can be removed");
    let listed = store.list(SPACE, "me", Position::First, 9).await.expect("listed");
    assert_eq!((listed.items.len(), listed.damaged.len()), (2, 0));
}
