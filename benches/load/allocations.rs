//! Heap blocks and bytes per call, counted by valgrind's dhat on the gateway itself.
//!
//! Always: the difference of two runs that differ in the number of calls alone, so that what starting and stopping
//! allocate cancels out. Exact counts: a regression shows without a stopwatch.

use anyhow::{Context as _, Result, ensure};

use crate::caller::{Caller, Era};
use crate::gateway::{Gateway, Server};
use crate::report::Report;
use crate::scratch::Scratch;
use crate::{Bench, HANDSHAKE, STATELESS};

/// Calls of the shorter and of the longer run.
const CALLS: (usize, usize) = (200, 1200);

/// Measures the section.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    for (name, era, revision) in
        [("2026-07-28", Era::Stateless, STATELESS), ("2025-11-25", Era::Handshake, HANDSHAKE)]
    {
        let few = count(bench, era, revision, CALLS.0).await?;
        let many = count(bench, era, revision, CALLS.1).await?;
        let per_call = |few: u64, many: u64| many.saturating_sub(few) as f64 / (CALLS.1 - CALLS.0) as f64;
        report.figure(&format!("heap blocks per call, {name}"), per_call(few.0, many.0), "");
        report.figure(&format!("heap bytes per call, {name}"), per_call(few.1, many.1), "B");
    }
    Ok(())
}

/// Blocks and bytes of a whole run with so many calls.
async fn count(bench: &Bench, era: Era, revision: &'static str, calls: usize) -> Result<(u64, u64)> {
    let directory = Scratch::new("dhat")?;
    let log = directory.path().join("log");
    let wrapper = [
        "valgrind".to_owned(),
        "--tool=dhat".to_owned(),
        format!("--log-file={}", log.display()),
        format!("--dhat-out-file={}", directory.path().join("dhat").display()),
    ];
    let servers = [Server::new("one", bench.upstream.address, 10, 1, revision)];
    let gateway = Gateway::start_under(&wrapper, &bench.gateway, &servers, 10).await?;
    let mut caller = Caller::open(&gateway.target, era, 1).await?;
    for turn in 0..calls {
        caller.echo("one__echo", &format!("turn {turn:5} of a small echo")).await?;
    }
    caller.close().await?;
    let status = gateway.stop().await?;
    ensure!(status.success(), "the gateway ended with {status}");
    total(&tokio::fs::read_to_string(&log).await?)
}

/// Reads `Total: 1,234 bytes in 56 blocks`.
fn total(log: &str) -> Result<(u64, u64)> {
    let line = log.lines().find_map(|line| line.split_once("Total:")).context("valgrind gave no total")?.1;
    let numbers: Vec<u64> =
        line.split_whitespace().filter_map(|word| word.replace(',', "").parse().ok()).collect();
    match numbers[..] {
        [bytes, blocks] => Ok((blocks, bytes)),
        _ => anyhow::bail!("not a total: {line}"),
    }
}
