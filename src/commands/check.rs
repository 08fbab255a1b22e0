//! `check`: is this configuration good, and, with `--probe`, are its servers there?

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use actix::prelude::*;
use clap::Args;
use serde::Serialize;

use super::table::table;
use super::{complain, say, say_json};
use crate::config::{self, problem::ProblemKind};
use crate::gateway;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::messages::UpstreamNews;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Connect to every server and say which era it speaks
    #[arg(long)]
    probe: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Probed {
    server: String,
    reached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    era: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    problems: &'a config::problem::Problems,
    #[serde(skip_serializing_if = "Option::is_none")]
    servers: Option<Vec<Probed>>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let reading = config::read(&arguments.config);
    let Some(settings) = reading.settings.filter(|_| !reading.problems.has_errors()) else {
        if arguments.json {
            say_json(&Report { problems: &reading.problems, servers: None });
        } else {
            complain(&reading.problems.to_string());
        }
        // A file that is not there or is no YAML cannot be judged key by key.
        let unreadable = reading.problems.iter().any(|problem| problem.kind == ProblemKind::Unreadable);
        return ExitCode::from(if unreadable { 2 } else { 1 });
    };
    if !arguments.json && !reading.problems.is_empty() {
        complain(&reading.problems.to_string());
    }
    let servers = if arguments.probe {
        match actix_rt::System::new().block_on(probe_all(&settings)) {
            Ok(servers) => Some(servers),
            Err(error) => {
                complain(&format!("{error:#}"));
                return ExitCode::from(2);
            }
        }
    } else {
        None
    };
    let all_reached = servers.iter().flatten().all(|server| server.reached);
    if arguments.json {
        say_json(&Report { problems: &reading.problems, servers });
    } else if let Some(servers) = &servers {
        let rows = servers.iter().map(|server| {
            vec![
                server.server.clone(),
                if server.reached { "ok".into() } else { "FAILED".into() },
                server.era.unwrap_or_default().into(),
                server.revision.unwrap_or_default().into(),
                server.problem.clone().unwrap_or_default(),
            ]
        });
        say(&table(&["SERVER", "STATE", "ERA", "REVISION", "PROBLEM"], rows));
    } else {
        say(&format!("{}: ok, {} servers", arguments.config.display(), settings.servers.len()));
    }
    ExitCode::from(u8::from(!all_reached))
}

async fn probe_all(settings: &config::Settings) -> anyhow::Result<Vec<Probed>> {
    let fleet = gateway::fleet(settings)?;
    let nobody = Nobody.start().recipient();
    fleet.iter().for_each(|upstream| upstream.start(nobody.clone()));
    // The supervisors start with the next turn of the loop.
    tokio::task::yield_now().await;
    let limit = settings.bounds.start_deadline + Duration::from_secs(1);
    let probed = futures_util::future::join_all(fleet.iter().map(|upstream| probe(upstream, limit))).await;
    fleet.retire().await;
    Ok(probed)
}

async fn probe(upstream: &UpstreamHandle, limit: Duration) -> Probed {
    let outcome = tokio::time::timeout(limit, upstream.connected()).await;
    let status = upstream.status();
    let (reached, problem) = match outcome {
        Ok(Ok(_)) => (true, None),
        Ok(Err(error)) => (false, Some(status.why.clone().unwrap_or_else(|| error.to_string()))),
        Err(_) => (false, Some("no answer in time".into())),
    };
    Probed {
        server: upstream.name().to_string(),
        reached,
        era: status.era,
        revision: status.revision,
        problem,
    }
}

/// Takes the news of upstreams that are only probed.
struct Nobody;

impl Actor for Nobody {
    type Context = Context<Self>;
}

impl Handler<UpstreamNews> for Nobody {
    type Result = ();

    fn handle(&mut self, _: UpstreamNews, _: &mut Self::Context) {}
}
