//! The gateway is killed with tasks in flight, at random moments, again and again (F45, T2).
//!
//! Fifty trials run with the ordinary tests. `TRIALS=1000 cargo test --test gateway f45_killed -- --nocapture` makes it a
//! thousand and writes what came of them to `tests/results/tasks-killed.json`; `SEED=…` repeats a run.
//!
//! Always: one state directory and the same servers for each fifty trials, so that what an earlier trial left behind is
//! there in the later ones, and looking at all of it stays cheap. Not here: what is checked (`tasks_ledger`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::support::client::Client;
use crate::support::gateway::Plan;
use crate::support::generate::Seed;
use crate::support::upstream::Manner;
use crate::support::{Gateway, HANDSHAKE, STATELESS, Transport, Upstream, gateway, upstream};
use crate::tasks_ledger::{Ledger, begin_many, dispatched, end_all, settle, unlisted};
use crate::tasks_stage::client;

/// Tasks that are under way when the storm begins.
const HELD: usize = 24;

/// Trials of the ordinary tests, in two tests that run beside each other.
const ORDINARY: u64 = 50;

/// Trials over one state directory.
const OVER_ONE_STATE: usize = 50;

/// Callers of the storm.
const CALLERS: u64 = 6;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A server of each dialect, and one that knows no tasks.
pub(crate) async fn servers() -> Vec<Upstream> {
    let manner = || Manner { poll_ms: Some(100), ..Manner::default() };
    let hosted = upstream("old", "2025-06-18", Transport::Http).on("tools/call", |mut call| async move {
        let arguments = call.params()["arguments"].clone();
        match arguments["after"].as_u64() {
            Some(after) => call.pause(after).await,
            None => return call.disconnected().await,
        }
        call.text(&format!("old did {}", arguments["text"].as_str().unwrap_or_default())).await;
    });
    vec![
        upstream("one", HANDSHAKE, Transport::Http).tasks(manner()).quiet().start().await,
        upstream("two", STATELESS, Transport::Http).tasks(manner()).quiet().start().await,
        hosted.quiet().start().await,
    ]
}

/// A gateway before them.
pub(crate) fn plan(servers: &[Upstream]) -> Plan {
    let config =
        "tasks: { host: on, slow_after: 20ms }\nbounds: { backoff_first: 50ms, backoff_longest: 200ms }\n";
    let plan = gateway().with("one", &servers[0]).with("two", &servers[1]).with("old", &servers[2]);
    plan.config(config)
}

/// A client of each dialect.
pub(crate) async fn clients(gateway: &Gateway) -> Vec<Client> {
    let mut clients = Vec::new();
    for revision in [HANDSHAKE, STATELESS] {
        let first = client(gateway, revision).await.quiet();
        first.until_tools(&["one__long", "two__long", "old__echo"]).await;
        // A session is told of tasks when its servers are known.
        clients.push(client(gateway, revision).await.quiet());
    }
    clients
}

/// What came of a run.
#[derive(Debug, Default)]
struct Tally {
    handles: usize,
    resumed: usize,
    faults: Vec<String>,
}

/// One trial: twenty-four tasks and more under way, a kill, a start, and every promise looked at.
async fn trial(gateway: &mut Gateway, servers: &[Upstream], seed: u64, tally: &mut Tally) {
    let mut dice = Seed(seed);
    let before = clients(gateway).await;
    let ledger = Arc::new(Ledger::default());
    let name = format!("s{seed}");
    begin_many(&ledger, &before, &name, HELD).await;
    let storm = (0..CALLERS).map(|caller| {
        let client = before[usize::try_from(caller % 2).expect("small")].clone();
        tokio::spawn(Arc::clone(&ledger).storm(
            client,
            format!("{name}-{caller}"),
            Seed(seed ^ (caller << 32)),
        ))
    });
    let storm: Vec<_> = storm.collect();
    tokio::time::sleep(Duration::from_micros(dice.next() % 250_000)).await;
    gateway.kill().await;
    for caller in join_all(storm).await {
        if let Err(e) = caller {
            tally.faults.push(format!("seed {seed}: a caller was told what is not true: {e}"));
        }
    }
    gateway.start_again().await;
    let after = clients(gateway).await;
    let handles = ledger.handles();
    let known = end_all(servers);
    let counts = dispatched(servers);
    let mut faults = settle(&handles, &after, &counts, &known).await;
    let again = dispatched(servers);
    let twice = again.iter().filter(|(_, count)| **count > 1);
    faults.extend(twice.map(|(tag, count)| format!("dispatched {count} times: {tag}")));
    let own: Vec<_> = handles.iter().filter(|handle| handle.revision == HANDSHAKE).cloned().collect();
    faults.extend(unlisted(&own, &after).await);
    tally.faults.extend(faults.into_iter().map(|fault| format!("seed {seed}: {fault}")));
    tally.handles += handles.len();
    tally.resumed += known.len();
    servers.iter().for_each(Upstream::clear);
}

/// Trials with the seeds from `first` on.
async fn run(first: u64, trials: u64) -> Tally {
    let mut tally = Tally::default();
    let mut seeds = (first..first + trials).peekable();
    while seeds.peek().is_some() {
        let servers = servers().await;
        let mut gateway = plan(&servers).start().await;
        for seed in seeds.by_ref().take(OVER_ONE_STATE) {
            trial(&mut gateway, &servers, seed, &mut tally).await;
            assert!(tally.faults.is_empty(), "{} faults: {:#?}", tally.faults.len(), tally.faults);
        }
    }
    tally
}

/// Half of the ordinary trials; all of them in the first half when there are to be more.
async fn half(part: u64) {
    let asked = std::env::var("TRIALS").ok().and_then(|text| text.parse().ok());
    let trials = match (asked, part) {
        (None, _) => ORDINARY / 2,
        (Some(trials), 0) => trials,
        (Some(_), _) => return,
    };
    let first = number("SEED", 1) + part * trials;
    let began = Instant::now();
    let tally = run(first, trials).await;
    println!(
        "{trials} trials from seed {first}: {} handles, {} tasks of servers taken up again, 0 lost, 0 dispatched twice, {:?}",
        tally.handles,
        tally.resumed,
        began.elapsed()
    );
    assert!(tally.handles >= usize::try_from(trials).expect("few") * HELD, "{tally:?}");
    assert!(tally.resumed > 0, "some tasks have to be taken up again: {tally:?}");
    if asked.is_some() {
        let result = json!({
            "trials": trials, "first seed": first, "handles": tally.handles, "resumed": tally.resumed,
            "lost": 0, "dispatched twice": 0, "seconds": began.elapsed().as_secs(),
        });
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/results/tasks-killed.json");
        let text = serde_json::to_string_pretty(&result).expect("it was a value") + "\n";
        tokio::fs::write(path, text).await.expect("the folder of results is there");
    }
}

#[tokio::test]
async fn f45_killed_at_random_moments_no_task_is_lost_and_no_call_made_twice() {
    half(0).await;
}

#[tokio::test]
async fn f45_killed_at_further_random_moments_no_task_is_lost_and_no_call_made_twice() {
    half(1).await;
}

#[tokio::test]
async fn f45_these_trials_notice_a_gateway_that_keeps_nothing() {
    let servers = servers().await;
    let mut gateway = plan(&servers).config("state: memory").start().await;
    let mut tally = Tally::default();
    trial(&mut gateway, &servers, 1, &mut tally).await;
    let lost = tally.faults.iter().filter(|fault| fault.contains("lost: ")).count();
    assert!(lost >= HELD, "{lost} of {} were noticed: {:#?}", tally.handles, tally.faults);
}
