//! The state of the gateway on its disk: made when there is something to keep, and refused when it cannot be trusted.

use std::path::Path;

use bytes::Bytes;
use redb::{ReadableDatabase as _, TableDefinition};
use switchyard::config::state::StateSettings;
use switchyard::store::clock::Clock;
use switchyard::store::records::{Expect, Space, Write};
use switchyard::store::{self, IfLocked, Stores};

use crate::support::HANDSHAKE;
use crate::support::command_line::Directory;
use crate::support::gateway::Plan;
use crate::support::pipe_client::PipeClient;

/// There is a server, or its lack would be told as well; nobody asks for it.
const FILE: &str =
    "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nservers: { one: { url: \"http://127.0.0.1:9/\" } }\n";
const NUMBERS: TableDefinition<'static, &'static str, u64> = TableDefinition::new("numbers");
const RECORDS: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("records");

/// A state with some records, still open.
async fn kept(directory: &Path) -> Stores {
    let settings = StateSettings::Directory(directory.join("state"));
    let stores = store::open(&settings, IfLocked::Refuse, Clock::system()).expect("nothing is there");
    let writes = (0..20u8).map(|number| Write::Put {
        space: Space::new("thing"),
        key: vec![number],
        value: Bytes::from(vec![number; 300]),
        owner: None,
        expires: None,
        expect: Expect::Any,
    });
    stores.records.write(writes.collect()).await.expect("the disk has space");
    stores
}

/// `serve` says in one line why it does not.
async fn refused(directory: &Directory, words: &str) {
    let ended = directory.run(&["serve"]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "exactly one line: {}", ended.stderr);
    assert!(ended.stderr.contains("store.redb") && ended.stderr.contains(words), "{}", ended.stderr);
    assert!(!ended.stdout.contains("endpoint "), "it never served: {}", ended.stdout);
}

#[tokio::test]
async fn a_gateway_with_nothing_to_keep_leaves_nothing_behind() {
    let directory = Directory::new().await;
    directory.write("gateway.yaml", FILE).await;
    let mut gateway = Plan::start_in(&directory.0, &["serve"]).await;
    gateway.handshake(HANDSHAKE).await;
    gateway.terminate().await;
    assert!(!directory.0.join("state").exists());
}

#[tokio::test]
async fn f50_a_state_that_cannot_be_trusted_is_refused_in_one_line() {
    let directory = Directory::new().await;
    directory.write("gateway.yaml", FILE).await;
    let stores = kept(&directory.0).await;
    refused(&directory, "in use by another process").await;
    let looked = directory.run(&["store", "check"]).await;
    assert!(looked.code() == 2 && looked.stderr.contains("in use"), "{looked:?}");
    stores.records.close().await;

    let file = directory.0.join("state/store.redb");
    let whole = tokio::fs::read(&file).await.expect("it was kept");
    {
        let newer = redb::Database::open(&file).expect("a whole store");
        let transaction = newer.begin_write().expect("begun");
        transaction.open_table(NUMBERS).expect("there").insert("format", 2).expect("written");
        transaction.commit().expect("written");
    }
    refused(&directory, "has format 2, and this release knows formats up to 1").await;

    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[..middle].fill(7);
    tokio::fs::write(&file, &damaged).await.expect("written");
    refused(&directory, "is damaged").await;
    tokio::fs::write(&file, &whole).await.expect("written");
    let mut gateway = Plan::start_in(&directory.0, &["serve"]).await;
    refused(&directory, "in use by another process").await;
    gateway.kill().await;
    let mut gateway = Plan::start_in(&directory.0, &["serve"]).await;
    gateway.terminate().await;
}

#[tokio::test]
async fn s_stdio_each_client_starts_its_own_and_the_second_keeps_state_in_memory() {
    let directory = Directory::new().await;
    let stores = kept(&directory.0).await;
    let file = format!("servers: {{}}\nstate: {}\n", directory.0.join("state").display());
    let mut client = PipeClient::with_file(&file).await;
    client.initialize(HANDSHAKE, serde_json::json!({})).await;
    assert!(client.stderr().contains("in use by another process"), "{}", client.stderr());
    client.expect_clean();
    stores.records.close().await;
}

#[tokio::test]
async fn f50_a_damaged_store_is_told_and_repaired() {
    let directory = Directory::new().await;
    let absent = directory.run(&["store", "check"]).await;
    assert_eq!(absent.code(), 2, "nothing is there: {absent:?}");
    kept(&directory.0).await.records.close().await;
    let whole = directory.run(&["store", "check", "state"]).await;
    assert!(whole.code() == 0 && whole.stdout.contains("records: 20 of thing\nok"), "{whole:?}");
    let nothing = directory.run(&["store", "repair", "state/store.redb"]).await;
    assert!(nothing.code() == 0 && nothing.stdout.contains("nothing is damaged"), "{nothing:?}");
    // One record rots below the engine's own checksums.
    let file = directory.0.join("state/store.redb");
    {
        let engine = redb::Database::open(&file).expect("a whole store");
        let transaction = engine.begin_write().expect("begun");
        {
            let mut records = transaction.open_table(RECORDS).expect("there");
            records.insert(&b"\x05thing\x03"[..], &b"rotten"[..]).expect("written");
        }
        transaction.commit().expect("written");
    }
    let damaged = directory.run(&["store", "check"]).await;
    assert!(damaged.code() == 1 && damaged.stdout.contains("damaged: thing 03"), "{damaged:?}");
    let repaired = directory.run(&["store", "repair"]).await;
    assert!(repaired.code() == 0 && repaired.stdout.contains("saved: 19 of thing"), "{repaired:?}");
    assert!(repaired.stdout.contains("lost: thing 03") && repaired.stdout.contains("store.damaged-1"));
    assert!(directory.0.join("state/store.damaged-1").exists());
    let again = directory.run(&["store", "check", "--json"]).await;
    let finding: serde_json::Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!((again.code(), &finding["records"]["thing"]), (0, &serde_json::json!(19)));
    let engine = redb::Database::open(&file).expect("a whole store");
    assert!(engine.begin_read().expect("begun").open_table(NUMBERS).is_ok());
}
