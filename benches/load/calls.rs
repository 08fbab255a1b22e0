//! Small echo calls: direct, through nginx, through the gateway in the four pairings of eras.
//!
//! Always: without nginx or without the gateway, what is left is measured and the reason is reported.

use anyhow::{Context as _, Result};

use crate::caller::{Era, Target};
use crate::drive::{Leg, Rounds, Work, interleave};
use crate::gateway::{Gateway, Server};
use crate::nginx::Nginx;
use crate::process::ProcessTree;
use crate::report::Report;
use crate::{Bench, HANDSHAKE, STATELESS};

const DIRECT: &str = "direct";
const NGINX: &str = "nginx";
const PLAIN_STATELESS: &str = "gateway 2026-07-28 > 2026-07-28";
const PLAIN_HANDSHAKE: &str = "gateway 2025-11-25 > 2025-11-25";
const CROSSED: [&str; 2] = ["gateway 2026-07-28 > 2025-11-25", "gateway 2025-11-25 > 2026-07-28"];

/// Tools of each server; small, as the list is not what is measured here.
const TOOLS: usize = 10;

/// Measures the section.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut legs = vec![direct(bench)?];
    let nginx = Nginx::start(bench.upstream.address, bench.workers, b"").await;
    match &nginx {
        Ok(nginx) => {
            report.machine("nginx", nginx.version.clone());
            legs.push(beside_nginx(bench, nginx));
        }
        Err(error) => report.skip("nginx", error),
    }
    let servers = [
        Server::new("stateless", bench.upstream.address, TOOLS, 1, STATELESS),
        Server::new("handshake", bench.upstream.address, TOOLS, 2, HANDSHAKE),
    ];
    let gateway = Gateway::start(&bench.gateway, &servers, 2 * TOOLS).await;
    match &gateway {
        Ok(gateway) => legs.extend(through(bench, gateway)),
        Err(error) => report.skip("gateway", error),
    }
    let rounds = interleave(&legs, bench.timing).await?;
    report.legs(&format!("{} callers", bench.callers), &legs, &rounds);
    busy_figures(&legs, &rounds, report);

    // Crossed eras add nothing to what one session at a time tells.
    legs.retain(|leg| !CROSSED.contains(&leg.name));
    legs.iter_mut().for_each(|leg| leg.callers = 1);
    let rounds = interleave(&legs, bench.timing).await?;
    report.legs("1 caller", &legs, &rounds);
    latency_figures(&legs, &rounds, report);
    Ok(())
}

fn leg(
    bench: &Bench,
    name: &'static str,
    target: &Target,
    era: Era,
    tool: &str,
    process: &ProcessTree,
) -> Leg {
    Leg {
        name,
        target: target.clone(),
        era,
        work: Work::Echo(tool.to_owned()),
        process: process.clone(),
        callers: bench.callers,
        sessions_each: 1,
    }
}

/// Here the upstream's own processor time is counted, to show that it does not weigh.
fn direct(bench: &Bench) -> Result<Leg> {
    let target = Target { address: bench.upstream.address, path: format!("/{TOOLS}/0/mcp") };
    let process = ProcessTree::of(bench.upstream.process().context("the upstream ended")?)?;
    Ok(leg(bench, DIRECT, &target, Era::Stateless, "echo", &process))
}

fn beside_nginx(bench: &Bench, nginx: &Nginx) -> Leg {
    let target = Target { address: nginx.address, path: format!("/{TOOLS}/0/mcp") };
    leg(bench, NGINX, &target, Era::Stateless, "echo", &nginx.process)
}

fn through(bench: &Bench, gateway: &Gateway) -> [Leg; 4] {
    [
        (PLAIN_STATELESS, Era::Stateless, "stateless__echo"),
        (PLAIN_HANDSHAKE, Era::Handshake, "handshake__echo"),
        (CROSSED[0], Era::Stateless, "handshake__echo"),
        (CROSSED[1], Era::Handshake, "stateless__echo"),
    ]
    .map(|(name, era, tool)| leg(bench, name, &gateway.target, era, tool, &gateway.process))
}

fn find<'a>(legs: &[Leg], rounds: &'a [Rounds], name: &str) -> Option<&'a Rounds> {
    legs.iter().position(|leg| leg.name == name).map(|at| &rounds[at])
}

fn busy_figures(legs: &[Leg], rounds: &[Rounds], report: &mut Report) {
    let rounds_of = |name| find(legs, rounds, name);
    if let Some(direct) = rounds_of(DIRECT) {
        report.figure("processor time of the upstream itself per call", direct.median().processor, "µs");
    }
    for path in [PLAIN_STATELESS, PLAIN_HANDSHAKE, CROSSED[0], CROSSED[1]] {
        if let (Some(gateway), Some(nginx)) = (rounds_of(path), rounds_of(NGINX)) {
            let name = format!("processor time per call against nginx, {path}");
            report.budgeted(&name, gateway.processor_against(nginx), "×", 2.0, 1.5);
        }
    }
    if let (Some(handshake), Some(stateless)) = (rounds_of(PLAIN_HANDSHAKE), rounds_of(PLAIN_STATELESS)) {
        let name = "processor time, session path against stateless path";
        report.budgeted(name, handshake.processor_against(stateless), "×", 1.25, 1.1);
    }
}

fn latency_figures(legs: &[Leg], rounds: &[Rounds], report: &mut Report) {
    let rounds_of = |name| find(legs, rounds, name);
    let Some(direct) = rounds_of(DIRECT) else { return };
    if let Some(nginx) = rounds_of(NGINX) {
        report.figure("added latency at one caller, median, nginx", nginx.latency_above(direct), "µs");
    }
    for path in [PLAIN_STATELESS, PLAIN_HANDSHAKE] {
        if let Some(gateway) = rounds_of(path) {
            let name = format!("added latency at one caller, median, {path}");
            report.budgeted(&name, gateway.latency_above(direct), "µs", 80.0, 40.0);
        }
    }
}
