//! The gateway dies at chosen calls of its store: before a transaction, and after it, before anybody is told (F45, I3, I4).
//!
//! Always: debug builds only, where `SWITCHYARD_FAILPOINTS` says at which transaction the process aborts. Not here: random
//! moments (`tasks_killed`), what is checked (`tasks_ledger`).

use serde_json::json;

use crate::support::Upstream;
use crate::tasks_killed::{clients, plan, servers};
use crate::tasks_ledger::{Ledger, dispatched, end_all, settle};

/// Transactions of the store after which nothing new happens to a few tasks.
const TRANSACTIONS: usize = 10;

/// Let the gateway die at its `nth` transaction, by this failpoint, and look at every promise afterwards.
async fn die(servers: &[Upstream], failpoint: &str, nth: usize) {
    println!("=== {failpoint}={nth}");
    let environment = format!("{failpoint}={nth}");
    let mut gateway = plan(servers).environment("SWITCHYARD_FAILPOINTS", &environment).start().await;
    let before = clients(&gateway).await;
    let ledger = Ledger::default();
    let mut number = 0;
    let died = async {
        loop {
            for client in &before {
                for (tool, after) in [("one__long", Some(1)), ("two__long", None), ("old__echo", Some(60))] {
                    number += 1;
                    let mut arguments = json!({ "text": format!("{failpoint}-{nth}-{number}") });
                    if let Some(after) = after {
                        arguments["after"] = json!(after);
                    }
                    if ledger.call(client, tool, arguments).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    crate::support::patiently("the gateway to die at its transaction", died).await;
    assert!(!gateway.ended().await.success(), "it was to die of the failpoint");
    gateway.start_again_with(&[]).await;
    let after = clients(&gateway).await;
    let known = end_all(servers);
    let counts = dispatched(servers);
    let faults = settle(&ledger.handles(), &after, &counts, &known).await;
    assert!(faults.is_empty(), "{failpoint}={nth}: {faults:#?}");
    let twice: Vec<_> = dispatched(servers).into_iter().filter(|(_, count)| *count > 1).collect();
    assert!(twice.is_empty(), "{failpoint}={nth}: {twice:?}");
    servers.iter().for_each(Upstream::clear);
}

#[tokio::test]
async fn f45_dying_before_a_transaction_loses_nothing_that_was_promised() {
    let servers = servers().await;
    for nth in 1..=TRANSACTIONS {
        die(&servers, "abort_before_commit", nth).await;
    }
}

#[tokio::test]
async fn f45_dying_after_a_transaction_before_anyone_is_told_makes_no_call_twice() {
    let servers = servers().await;
    for nth in 1..=TRANSACTIONS {
        die(&servers, "abort_after_commit", nth).await;
    }
}
