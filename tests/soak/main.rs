//! A hundred clients that all use the same request ids, three upstreams, a minute: no answer crosses over, and
//! afterwards the gateway is as small as before.
//!
//! `SWITCHYARD_SOAK_SECONDS` makes it longer, `SWITCHYARD_SOAK_SEED` repeats a run.
//!
//! Always: the gateway is a black box, and the soak's own judgement is tested against stand-ins that are wrong on
//! purpose.

mod client;
mod footprint;
mod gateway;
mod judge;
mod random;
mod upstream;
#[path = "../../benches/load/wire.rs"]
mod wire;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::client::{Client, Era, Tally};
use crate::footprint::{Footprint, open_files};
use crate::gateway::Gateway;
use crate::upstream::{Mischief, NAMES, Upstream};

const CLIENTS: u64 = 100;

/// Runs all clients for so long; both eras, the same ids.
async fn run_clients(endpoint: &client::Endpoint, seed: u64, time: Duration) -> Result<Rc<Tally>> {
    let tally = Rc::new(Tally::default());
    let until = Instant::now() + time;
    let mut running = Vec::new();
    for number in 0..CLIENTS {
        let era = if number % 2 == 0 { Era::Handshake } else { Era::Stateless };
        let client = Client::open(endpoint.clone(), era, number, seed, tally.clone()).await?;
        running.push(tokio::task::spawn_local(client.run(until)));
    }
    for client in running {
        client.await.context("a client panicked")?.context("a client could not go on")?;
    }
    Ok(tally)
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn no_answer_crosses_over_and_memory_returns_to_its_baseline() -> Result<()> {
    let seed = number_from_environment("SWITCHYARD_SOAK_SEED", 1);
    let time = Duration::from_secs(number_from_environment("SWITCHYARD_SOAK_SECONDS", 60));
    LocalSet::new().run_until(soak(seed, time)).await
}

#[expect(clippy::print_stderr, reason = "what happened belongs to the run's output")]
async fn soak(seed: u64, time: Duration) -> Result<()> {
    let mut upstreams = Vec::new();
    for name in NAMES {
        upstreams.push(Upstream::start(name, Mischief::None).await?);
    }
    let gateway = Gateway::start(&upstreams).await?;

    // Pools, tables and the allocator reach their size under the same load first.
    let warm_up = run_clients(gateway.endpoint(), seed ^ 0xffff, Duration::from_secs(10).min(time)).await?;
    ensure!(warm_up.faults().is_empty(), "while warming up: {:#?}", warm_up.faults());
    let baseline = settled(&gateway, &upstreams, None).await.context("after warming up")?;

    let tally = run_clients(gateway.endpoint(), seed, time).await?;
    ensure!(tally.faults().is_empty(), "seed {seed}: {:#?}", tally.faults());
    let seconds = time.as_secs();
    tally.ensure_everything_happened(seconds)?;
    for upstream in &upstreams {
        ensure!(upstream.faults().is_empty(), "{}: {:#?}", upstream.name(), upstream.faults());
    }
    let after = settled(&gateway, &upstreams, Some(&baseline)).await.context("after the soak")?;
    let cancelled: u64 = upstreams.iter().map(Upstream::cancelled).sum();
    ensure!(cancelled > 0, "no cancellation reached an upstream");
    eprintln!("{tally:?}; {cancelled} cancellations reached upstreams; {baseline} before, {after} after");
    gateway.stop().await
}

/// Waits until nothing is going on any more and, given a baseline, until the gateway is as small as it was then.
async fn settled(
    gateway: &Gateway,
    upstreams: &[Upstream],
    baseline: Option<&Footprint>,
) -> Result<Footprint> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let still_open = gateway.sessions().await?;
        let in_flight: usize = upstreams.iter().map(Upstream::in_flight).sum();
        let footprint = Footprint::of(gateway.process()?, upstreams)?;
        let excess = baseline.and_then(|baseline| footprint.excess_over(baseline));
        if still_open == 0 && in_flight == 0 && excess.is_none() {
            return Ok(footprint);
        }
        ensure!(
            Instant::now() < deadline,
            "{still_open} sessions and {in_flight} upstream calls are left, {footprint}, {excess:?}; open: {:#?}",
            open_files(gateway.process()?)?
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Lets the clients work against a stand-in for the gateway, and gives what they complain about. On a busy machine little
/// happens in two seconds: while `is_enough` says no, they go on, for a minute at most.
async fn complaints_about(mischief: Mischief, is_enough: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
    let work = async {
        let stand_in = Upstream::start("stand-in", mischief).await?;
        let endpoint = client::Endpoint::new(stand_in.address(), "/mcp");
        let mut complaints = Vec::new();
        let mut round = 0;
        loop {
            let tally = run_clients(&endpoint, 7 + round, Duration::from_secs(2)).await?;
            complaints.extend(tally.faults());
            let happened = tally.ensure_everything_happened(1);
            round += 1;
            match (is_enough(&complaints) && happened.is_ok(), round) {
                (true, _) => return Ok(complaints),
                (false, 30) => return happened.map(|()| complaints),
                (false, _) => {}
            }
        }
    };
    LocalSet::new().run_until(work).await
}

#[tokio::test]
async fn the_clients_have_nothing_to_say_against_a_right_stand_in() -> Result<()> {
    let complaints = complaints_about(Mischief::None, |_| true).await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

#[tokio::test]
async fn the_clients_notice_every_kind_of_crossing() -> Result<()> {
    for (mischief, word) in [
        (Mischief::ForeignAnswer, "foreign answer"),
        (Mischief::ForeignId, "foreign id"),
        (Mischief::WrongUpstream, "foreign answer"),
        (Mischief::ForeignProgress, "foreign progress"),
        (Mischief::TwoAnswers, "answered twice"),
        (Mischief::NoAnswer, "no answer"),
        (Mischief::AnswerOnOtherStream, "answer on the session's stream"),
    ] {
        let is_told = |said: &[String]| said.iter().any(|said| said.contains(word));
        let complaints = complaints_about(mischief, is_told).await?;
        ensure!(is_told(&complaints), "{mischief:?}: {complaints:#?}");
    }
    Ok(())
}
