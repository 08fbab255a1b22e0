//! Whether a call costs more when there is ten times as much of everything around it.

use anyhow::Result;

use crate::caller::Era;
use crate::drive::{Leg, Work, interleave};
use crate::gateway::{Gateway, Server};
use crate::report::Report;
use crate::{Bench, HANDSHAKE};

/// Servers and tools of each, at the small size.
const SMALL: (usize, usize) = (2, 10);

/// Measures the section. What a call may cost more is noise alone: 1.15 of the small size.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let (servers, tools) = SMALL;
    let small = start(bench, servers, tools).await?;
    let more_tools = start(bench, servers, 10 * tools).await?;
    let more_servers = start(bench, 10 * servers, tools).await?;
    let leg = |name, gateway: &Gateway, sessions_each| Leg {
        name,
        target: gateway.target.clone(),
        era: Era::Handshake,
        work: Work::Echo("server1__echo".to_owned()),
        process: gateway.process.clone(),
        callers: bench.callers,
        sessions_each,
    };
    let legs = [
        leg("gateway, small", &small, 1),
        leg("gateway, 10 × tools", &more_tools, 1),
        leg("gateway, 10 × servers", &more_servers, 1),
        leg("gateway, 10 × sessions", &small, 10),
    ];
    let rounds = interleave(&legs, bench.timing).await?;
    report.legs("growth", &legs, &rounds);
    for (leg, grown) in legs.iter().zip(&rounds).skip(1) {
        let name = format!("processor time per call against the small size, {}", leg.name);
        report.budgeted(&name, grown.processor_against(&rounds[0]), "×", 1.15, 1.0);
    }
    Ok(())
}

async fn start(bench: &Bench, servers: usize, tools: usize) -> Result<Gateway> {
    let all: Vec<Server> = (0..servers)
        .map(|number| {
            Server::new(&format!("server{number}"), bench.upstream.address, tools, number, HANDSHAKE)
        })
        .collect();
    Gateway::start(&bench.gateway, &all, servers * tools).await
}
