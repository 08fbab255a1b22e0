//! The load benchmark: what a call, a list and a session cost through the gateway, beside nginx and going direct.
//!
//! `cargo bench --bench load [-- --quick] [--json FILE]`. Never a timed test: it fails on wrong answers alone, and
//! prints each figure beside its budget.
//!
//! Always: upstream, proxy and load each have a process of their own; what is compared runs in turns in one run.
//!
//! ```text
//! main       arguments, order of the sections
//! calls      small echo calls: direct, nginx, the four pairings of eras
//! memory     start, idle sessions, large results; opening and closing sessions
//! lists      merged list against a static body
//! growth     ten times the tools, servers, sessions
//! listens    streams of changes: memory of idle ones, one change told to all
//! allocations  heap blocks per call
//! report     table, JSON, budgets
//! drive      the closed loop        caller   one client, checking its answers
//! upstream   the fast MCP server    nginx, gateway   the proxies
//! process    processor time, memory wire     HTTP/1.1    scratch   temporary directories
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are for the terminal")]

mod allocations;
mod caller;
mod calls;
mod drive;
mod gateway;
mod growth;
mod listens;
mod lists;
mod memory;
mod nginx;
mod process;
mod report;
mod scratch;
mod upstream;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::drive::Timing;
use crate::report::Report;
use crate::upstream::Upstream;

/// The revision of the handshake era that is measured.
const HANDSHAKE: &str = "2025-11-25";
/// The revision of the stateless era.
const STATELESS: &str = "2026-07-28";

/// Load on the gateway, beside nginx and going direct.
#[derive(Debug, Parser)]
struct Arguments {
    /// A smoke run of at most 20 s; its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Write everything to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure these sections only.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    /// Callers at once.
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Seconds counted per leg and round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Idle sessions, each with an open stream, whose memory is measured; at most 10,000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=10_000))]
    sessions: u64,
    /// Measure this gateway instead of the one just built.
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_switchyard"))]
    gateway: PathBuf,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
    /// What this program is when it runs itself again.
    #[arg(long, hide = true)]
    role: Option<Role>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Calls,
    Memory,
    Lists,
    Growth,
    Listens,
    Allocations,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Upstream,
}

/// What every section works with.
struct Bench {
    upstream: Upstream,
    gateway: PathBuf,
    timing: Timing,
    callers: usize,
    workers: usize,
    quick: bool,
    sessions: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.context("no runtime").and_then(|runtime| {
        tokio::task::LocalSet::new().block_on(&runtime, async {
            match arguments.role {
                Some(Role::Upstream) => upstream::serve().await.map(|()| true),
                None => measure(&arguments).await,
            }
        })
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and says whether all answers were right.
async fn measure(arguments: &Arguments) -> Result<bool> {
    raise_file_limit()?;
    let bench = Bench {
        upstream: Upstream::start().await?,
        gateway: arguments.gateway.clone(),
        timing: timing(arguments),
        callers: arguments.callers,
        workers: std::thread::available_parallelism()?.get(),
        quick: arguments.quick,
        sessions: usize::try_from(arguments.sessions)?,
    };
    let mut report = Report::default();
    describe(&bench, &mut report).await;
    let wanted = |section| arguments.only.is_empty() || arguments.only.contains(&section);
    if wanted(Section::Calls) {
        calls::measure(&bench, &mut report).await?;
    }
    if wanted(Section::Memory) {
        attempt(memory::measure(&bench, &mut report).await, "memory and sessions", &mut report);
    }
    if wanted(Section::Lists) {
        attempt(lists::measure(&bench, &mut report).await, "merged lists", &mut report);
    }
    if wanted(Section::Growth) {
        attempt(growth::measure(&bench, &mut report).await, "growth", &mut report);
    }
    if wanted(Section::Listens) {
        attempt(listens::measure(&bench, &mut report).await, "streams of changes", &mut report);
    }
    if wanted(Section::Allocations) && !bench.quick {
        attempt(allocations::measure(&bench, &mut report).await, "allocations", &mut report);
    }
    println!("{}", report.table());
    if let Some(file) = &arguments.json {
        tokio::fs::write(file, serde_json::to_vec_pretty(&report.json())?).await?;
    }
    Ok(report.errors().is_empty())
}

/// A section that cannot be measured leaves the others alone.
fn attempt(section: Result<()>, name: &str, report: &mut Report) {
    if let Err(error) = section {
        report.skip(name, &error);
    }
}

fn timing(arguments: &Arguments) -> Timing {
    if arguments.quick {
        return Timing {
            warm_up: Duration::from_millis(150),
            measured: Duration::from_millis(500),
            rounds: 1,
        };
    }
    Timing {
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs_f64(arguments.seconds),
        rounds: arguments.rounds,
    }
}

/// A thousand streams need a file each, here and in the gateway, which inherits the limit.
fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}

async fn describe(bench: &Bench, report: &mut Report) {
    let processors = tokio::fs::read_to_string("/proc/cpuinfo").await.unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or_default().trim_start_matches([' ', '\t', ':']);
    let load = tokio::fs::read_to_string("/proc/loadavg").await.unwrap_or_default();
    report.machine("processor", format!("{} × {model}", bench.workers));
    report.machine("load before", load.split(' ').next().unwrap_or_default());
    let Timing { warm_up, measured, rounds } = bench.timing;
    report.machine(
        "timing",
        format!("{} callers, {rounds} rounds of {measured:?} after {warm_up:?}", bench.callers),
    );
}
