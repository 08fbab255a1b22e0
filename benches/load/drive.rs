//! The closed loop: so many callers, each sending its next request when the last one was answered.
//!
//! Always: legs that are compared run in turns within one run, because the machine is noisy; they are compared round by round
//! and the median is reported. An answer that is wrong ends its caller and is counted.
//! Not here: what is asked (`caller`), what the figures should be (`report`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::caller::{Caller, Era, Target};
use crate::process::ProcessTree;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Before counting starts.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) measured: Duration,
    /// Turns of every leg.
    pub(crate) rounds: usize,
}

/// What each caller repeats.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Call this echoing tool.
    Echo(String),
    /// List all tools; the answer has about this size.
    List(usize),
    /// Fetch a file of this size.
    Fetch(usize),
    /// Open and close a session.
    Session,
}

/// One way through which the work goes.
#[derive(Debug, Clone)]
pub(crate) struct Leg {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Where requests go.
    pub(crate) target: Target,
    /// How the client speaks.
    pub(crate) era: Era,
    /// What is repeated.
    pub(crate) work: Work,
    /// Whose processor time is counted.
    pub(crate) process: ProcessTree,
    /// Callers at once, each on a connection of its own.
    pub(crate) callers: usize,
    /// Sessions that each caller rotates over.
    pub(crate) sessions_each: usize,
}

/// What one leg gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// Answers counted.
    pub(crate) calls: u64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Latency in microseconds at 50, 90, 99 and 99.9 %.
    pub(crate) latency: [f64; 4],
    /// Microseconds of processor time per answer.
    pub(crate) processor: f64,
    /// Callers that ended with an error.
    pub(crate) errors: u64,
    /// What the first of them saw.
    pub(crate) first_error: Option<String>,
}

#[derive(Default)]
struct Tally {
    stopped: Cell<bool>,
    calls: Cell<u64>,
    latencies: RefCell<Vec<u64>>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
}

/// What all rounds of one leg gave.
#[derive(Debug)]
pub(crate) struct Rounds(Vec<Sample>);

impl Rounds {
    /// The median of every figure.
    pub(crate) fn median(&self) -> Sample {
        median_of(&self.0)
    }

    /// The median over the rounds of what `figure` makes of this leg and another one in the same round, which ran
    /// under the same conditions.
    pub(crate) fn beside(&self, other: &Rounds, figure: impl Fn(&Sample, &Sample) -> f64) -> f64 {
        median(self.0.iter().zip(&other.0).map(|(this, other)| figure(this, other)).collect())
    }

    /// Processor time per answer as a multiple of another leg's.
    pub(crate) fn processor_against(&self, other: &Rounds) -> f64 {
        self.beside(other, |this, other| this.processor / other.processor)
    }

    /// Median latency above another leg's, in microseconds.
    pub(crate) fn latency_above(&self, other: &Rounds) -> f64 {
        self.beside(other, |this, other| this.latency[0] - other.latency[0])
    }
}

/// Runs all legs in turns, and gives the rounds of each.
pub(crate) async fn interleave(legs: &[Leg], timing: Timing) -> Result<Vec<Rounds>> {
    let mut samples = vec![Vec::new(); legs.len()];
    for _ in 0..timing.rounds {
        for (leg, samples) in legs.iter().zip(&mut samples) {
            samples.push(run(leg, timing).await.with_context(|| leg.name)?);
        }
    }
    Ok(samples.into_iter().map(Rounds).collect())
}

async fn run(leg: &Leg, timing: Timing) -> Result<Sample> {
    let mut callers = Vec::new();
    for _ in 0..leg.callers {
        callers.push(Caller::open(&leg.target, leg.era, leg.sessions_each).await?);
    }
    let tally = Rc::new(Tally::default());
    let lanes: Vec<_> = callers
        .into_iter()
        .enumerate()
        .map(|(lane, caller)| tokio::task::spawn_local(repeat(caller, lane, leg.work.clone(), tally.clone())))
        .collect();
    tokio::time::sleep(timing.warm_up).await;
    tally.latencies.borrow_mut().clear();
    let (calls, processor, started) = (tally.calls.get(), leg.process.processor_time()?, Instant::now());
    tokio::time::sleep(timing.measured).await;
    let calls = tally.calls.get() - calls;
    let processor = leg.process.processor_time()? - processor;
    let elapsed = started.elapsed();
    let latency = percentiles(&mut tally.latencies.borrow_mut());
    tally.stopped.set(true);
    for lane in lanes {
        lane.await.context("a caller panicked")?;
    }
    // Times come in hundredths of a second; so many answers take more than one.
    ensure!(calls < 5000 || !processor.is_zero(), "the processes that did the work are not the ones counted");
    Ok(Sample {
        calls,
        rate: calls as f64 / elapsed.as_secs_f64(),
        latency,
        processor: processor.as_secs_f64() * 1e6 / calls.max(1) as f64,
        errors: tally.errors.get(),
        first_error: tally.first_error.take(),
    })
}

async fn repeat(mut caller: Caller, lane: usize, work: Work, tally: Rc<Tally>) {
    let mut turn = 0_u64;
    while !tally.stopped.get() {
        turn += 1;
        let started = Instant::now();
        let done = match &work {
            Work::Echo(tool) => caller.echo(tool, &format!("lane {lane} turn {turn} of a small echo")).await,
            Work::List(size) => caller.list_unread(*size).await,
            Work::Fetch(size) => caller.fetch(*size).await,
            Work::Session => cycle(&mut caller).await,
        };
        if let Err(error) = done {
            return note(&tally, &error);
        }
        tally.calls.set(tally.calls.get() + 1);
        tally.latencies.borrow_mut().push(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    if let Err(error) = caller.close().await {
        note(&tally, &error);
    }
}

async fn cycle(caller: &mut Caller) -> Result<()> {
    caller.open_session().await?;
    caller.close_session().await
}

fn note(tally: &Tally, error: &anyhow::Error) {
    tally.errors.set(tally.errors.get() + 1);
    tally.first_error.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
}

fn percentiles(nanoseconds: &mut [u64]) -> [f64; 4] {
    nanoseconds.sort_unstable();
    [0.5, 0.9, 0.99, 0.999].map(|part| {
        let rank = ((nanoseconds.len() as f64 * part) as usize).min(nanoseconds.len().saturating_sub(1));
        nanoseconds.get(rank).map_or(f64::NAN, |value| *value as f64 / 1000.0)
    })
}

fn median_of(rounds: &[Sample]) -> Sample {
    let of = |figure: &dyn Fn(&Sample) -> f64| median(rounds.iter().map(figure).collect());
    Sample {
        calls: rounds.iter().map(|sample| sample.calls).sum(),
        rate: of(&|sample| sample.rate),
        latency: [0, 1, 2, 3].map(|part| of(&|sample| sample.latency[part])),
        processor: of(&|sample| sample.processor),
        errors: rounds.iter().map(|sample| sample.errors).sum(),
        first_error: rounds.iter().find_map(|sample| sample.first_error.clone()),
    }
}

/// The middle one, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => f64::NAN,
    }
}
