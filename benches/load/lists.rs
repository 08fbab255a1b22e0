//! The merged list of ten servers with a hundred tools each, warm, beside nginx serving a static body of that size.

use anyhow::{Result, ensure};

use crate::caller::{Caller, Era, Target};
use crate::drive::{Leg, Work, interleave};
use crate::gateway::{Gateway, Server};
use crate::nginx::Nginx;
use crate::report::Report;
use crate::{Bench, HANDSHAKE, STATELESS};

const SERVERS: usize = 10;
const TOOLS: usize = 100;
/// Callers at once; the answers are large.
const LISTERS: usize = 8;

/// Measures the section.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let servers: Vec<Server> = (0..SERVERS)
        .map(|number| {
            let revision = if number % 2 == 0 { STATELESS } else { HANDSHAKE };
            Server::new(&format!("server{number}"), bench.upstream.address, TOOLS, number, revision)
        })
        .collect();
    let gateway = Gateway::start(&bench.gateway, &servers, SERVERS * TOOLS).await?;
    let mut caller = Caller::open(&gateway.target, Era::Stateless, 0).await?;
    let (mut names, size) = caller.list().await?;
    names.sort();
    names.dedup();
    ensure!(names.len() == SERVERS * TOOLS, "{} different names", names.len());
    report.figure("merged list, size of the answer", size as f64 / 1024.0, "KiB");

    let nginx = Nginx::start(bench.upstream.address, bench.workers, &vec![b' '; size]).await?;
    let leg = |name, target: Target, era, work, process| Leg {
        name,
        target,
        era,
        work,
        process,
        callers: LISTERS,
        sessions_each: 1,
    };
    let fetch = |name, path: &str| {
        let target = Target { address: nginx.address, path: path.to_owned() };
        leg(name, target, Era::Stateless, Work::Fetch(size), nginx.process.clone())
    };
    let list =
        |name, era, size| leg(name, gateway.target.clone(), era, Work::List(size), gateway.process.clone());
    let mut session = Caller::open(&gateway.target, Era::Handshake, 1).await?;
    let (_, session_size) = session.list().await?;
    session.close().await?;
    let legs = [
        fetch("nginx, static body", "/static"),
        fetch("nginx, static body copied (no sendfile)", "/copied/static"),
        list("gateway, merged list, 2026-07-28", Era::Stateless, size),
        list("gateway, merged list, 2025-11-25", Era::Handshake, session_size),
    ];
    let rounds = interleave(&legs, bench.timing).await?;
    report.legs(&format!("{LISTERS} callers"), &legs, &rounds);
    let [sent, copied, stateless, handshake] = &rounds[..] else { unreachable!("there are four legs") };
    // A body that is made in memory has to be copied to the socket; sendfile never copies it.
    for (era, list) in [("2026-07-28", stateless), ("2025-11-25", handshake)] {
        let name = format!("merged list against the copied static body, {era}");
        report.budgeted(&name, list.processor_against(copied), "×", 1.5, 1.1);
        report.figure(&format!("merged list against sendfile, {era}"), list.processor_against(sent), "×");
    }
    Ok(())
}
