//! Memory at start, of idle sessions and of large results; processor time of opening and closing a session.

use anyhow::Result;

use crate::caller::{Caller, Era};
use crate::drive::{Leg, Work, interleave};
use crate::gateway::{Gateway, Server};
use crate::report::Report;
use crate::{Bench, HANDSHAKE};

const MIB: f64 = 1024.0 * 1024.0;
/// Sessions that are opened before counting, so that pools and tables have their first size.
const WARM: usize = 50;
/// Callers that open and close sessions at once.
const OPENERS: usize = 8;

/// Measures the section.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let servers = [Server::new("one", bench.upstream.address, 10, 1, HANDSHAKE)];
    let gateway = Gateway::start(&bench.gateway, &servers, 10).await?;
    report.budgeted(
        "resident memory after start",
        gateway.process.resident()? as f64 / MIB,
        "MiB",
        30.0,
        20.0,
    );
    idle_sessions(bench, &gateway, report).await?;
    open_and_close(bench, &gateway, report).await?;
    report.figure("resident memory, peak", gateway.process.resident_peak()? as f64 / MIB, "MiB");
    drop(gateway);
    // One that has no memory left over from earlier work to hide the copies in.
    let gateway = Gateway::start(&bench.gateway, &servers, 10).await?;
    large_result(&gateway, report).await
}

/// Opens many sessions with a stream each, lets each make one call, and closes them; then all of it again, because
/// what an allocator keeps shows less each time, and what leaks shows as much.
async fn idle_sessions(bench: &Bench, gateway: &Gateway, report: &mut Report) -> Result<()> {
    let count = if bench.quick { 200 } else { bench.sessions };
    for _ in 0..WARM {
        Caller::open(&gateway.target, Era::Handshake, 1).await?.close().await?;
    }
    let before = gateway.process.resident()?;
    let each = |before: u64, after: u64| (after as f64 - before as f64) / count as f64 / 1024.0;
    let [opened, called, closed] = live_and_end(count, gateway).await?;
    let name = format!("resident memory per idle session with an open stream, of {count}");
    report.budgeted(&name, each(before, opened), "KiB", 32.0, 16.0);
    report.figure("the same after one call in each", each(before, called), "KiB");
    report.figure("kept per session after all were closed", each(before, closed), "KiB");
    let mut kept = closed;
    for turn in ["second", "third", "fourth", "fifth"] {
        let [.., closed] = live_and_end(count, gateway).await?;
        report.figure(&format!("kept more per session after the {turn} time"), each(kept, closed), "KiB");
        kept = closed;
    }
    Ok(())
}

/// Resident memory with `count` sessions open, after a call in each, and after closing them.
async fn live_and_end(count: usize, gateway: &Gateway) -> Result<[u64; 3]> {
    let mut sessions = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..count {
        // The caller's own connection is closed again: an idle session holds its stream and nothing else.
        let caller = Caller::open(&gateway.target, Era::Handshake, 1).await?;
        streams.push(caller.open_stream().await?);
        sessions.push(caller.disconnect());
    }
    let opened = gateway.process.resident()?;
    let mut idle = Vec::new();
    for session in sessions {
        let mut caller = session.reconnect().await?;
        caller.echo("one__echo", "now it has called").await?;
        idle.push(caller.disconnect());
    }
    let called = gateway.process.resident()?;
    drop(streams);
    for session in idle {
        session.reconnect().await?.close().await?;
    }
    Ok([opened, called, gateway.process.resident()?])
}

async fn open_and_close(bench: &Bench, gateway: &Gateway, report: &mut Report) -> Result<()> {
    let leg = Leg {
        name: "open and close a session",
        target: gateway.target.clone(),
        era: Era::Handshake,
        work: Work::Session,
        process: gateway.process.clone(),
        callers: OPENERS,
        sessions_each: 0,
    };
    let legs = [leg];
    let rounds = interleave(&legs, bench.timing).await?;
    report.legs(&format!("{OPENERS} callers"), &legs, &rounds);
    let processor = rounds[0].median().processor;
    report.budgeted("processor time to open and close a session", processor, "µs", 150.0, 80.0);
    Ok(())
}

async fn large_result(gateway: &Gateway, report: &mut Report) -> Result<()> {
    const SIZE: usize = 1024 * 1024;
    let mut caller = Caller::open(&gateway.target, Era::Handshake, 1).await?;
    caller.blob("one__blob", 1).await?;
    let before = gateway.process.resident()?;
    gateway.process.reset_peak()?;
    for _ in 0..20 {
        caller.blob("one__blob", SIZE).await?;
    }
    let above = gateway.process.resident_peak()?.saturating_sub(before);
    report.budgeted("memory of a 1 MiB result, in copies of it", above as f64 / SIZE as f64, "×", 3.0, 1.0);
    caller.close().await
}
