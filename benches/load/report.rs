//! The figures, for people as a table and for programs as JSON, each beside the budget that it should keep.
//!
//! Always: a figure that could not be taken is listed with the reason, never left out.
//! Not here: measuring.

use serde_json::{Value, json};

use crate::drive::{Leg, Rounds, Sample};

/// What a figure may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Not above this.
    pub(crate) limit: f64,
    /// Better not above this.
    pub(crate) stretch: f64,
}

/// One figure.
#[derive(Debug, Clone)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    budget: Option<Budget>,
}

impl Figure {
    fn verdict(&self) -> &'static str {
        match self.budget {
            None => "",
            Some(budget) if self.value <= budget.stretch => "ok (stretch)",
            Some(budget) if self.value <= budget.limit => "ok",
            // Not a number is over, too.
            Some(_) => "OVER",
        }
    }
}

/// Everything that a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    legs: Vec<(String, Sample)>,
    figures: Vec<Figure>,
    skipped: Vec<(String, String)>,
    errors: Vec<String>,
}

impl Report {
    /// Notes what the run ran on.
    pub(crate) fn machine(&mut self, name: &'static str, value: impl Into<String>) {
        self.machine.push((name, value.into()));
    }

    /// Adds what a group of legs gave.
    pub(crate) fn legs(&mut self, group: &str, legs: &[Leg], rounds: &[Rounds]) {
        for (leg, rounds) in legs.iter().zip(rounds) {
            let (name, sample) = (format!("{group}, {}", leg.name), rounds.median());
            if let Some(error) = &sample.first_error {
                self.errors.push(format!("{name}: {} callers ended: {error}", sample.errors));
            }
            self.legs.push((name, sample));
        }
    }

    /// Adds a figure without a budget.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.to_owned(), value, unit, budget: None });
    }

    /// Adds a figure with its budget and the stretch of it.
    pub(crate) fn budgeted(&mut self, name: &str, value: f64, unit: &'static str, limit: f64, stretch: f64) {
        let budget = Some(Budget { limit, stretch });
        self.figures.push(Figure { name: name.to_owned(), value, unit, budget });
    }

    /// Says what was not measured, and why.
    pub(crate) fn skip(&mut self, what: &str, why: &anyhow::Error) {
        self.skipped.push((what.to_owned(), format!("{why:#}")));
    }

    /// Wrong answers, if any.
    pub(crate) fn errors(&self) -> &[String] {
        &self.errors
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.machine {
            out.push_str(&format!("{name:<12} {value}\n"));
        }
        out.push_str(&format!(
            "\n{:<50} {:>9} {:>8} {:>8} {:>8} {:>8} {:>9} {:>6}\n",
            "leg", "answers/s", "p50 µs", "p90", "p99", "p99.9", "cpu µs", "errors"
        ));
        for (name, sample) in &self.legs {
            let [middle, high, higher, highest] = sample.latency;
            out.push_str(&format!(
                "{name:<50} {:>9.0} {middle:>8.0} {high:>8.0} {higher:>8.0} {highest:>8.0} {:>9.1} {:>6}\n",
                sample.rate, sample.processor, sample.errors
            ));
        }
        out.push_str(&format!(
            "\n{:<74} {:>10} {:<6} {:>8} {:>8}\n",
            "figure", "value", "", "budget", "stretch"
        ));
        for figure in &self.figures {
            let Figure { name, value, unit, budget } = figure;
            let (limit, stretch) = budget.map_or_else(Default::default, |budget| {
                (budget.limit.to_string(), budget.stretch.to_string())
            });
            let line =
                format!("{name:<74} {value:>10.2} {unit:<6} {limit:>8} {stretch:>8}  {}", figure.verdict());
            out.push_str(line.trim_end());
            out.push('\n');
        }
        for (what, why) in &self.skipped {
            out.push_str(&format!("\nskipped: {what}: {why}\n"));
        }
        for error in &self.errors {
            out.push_str(&format!("\nWRONG: {error}\n"));
        }
        out
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        let leg = |(name, sample): &(String, Sample)| {
            let [p50, p90, p99, p999] = sample.latency;
            json!({
                "name": name, "answers": sample.calls, "answersPerSecond": sample.rate,
                "latencyMicroseconds": { "p50": p50, "p90": p90, "p99": p99, "p99.9": p999 },
                "processorMicrosecondsPerAnswer": sample.processor,
                "errors": sample.errors, "firstError": sample.first_error,
            })
        };
        let figure = |figure: &Figure| {
            json!({
                "name": figure.name, "value": figure.value, "unit": figure.unit,
                "budget": figure.budget.map(|budget| budget.limit),
                "stretch": figure.budget.map(|budget| budget.stretch),
                "within": figure.budget.map(|budget| figure.value <= budget.limit),
            })
        };
        let skip = |(what, why): &(String, String)| json!({ "what": what, "why": why });
        json!({
            "machine": self.machine.iter().map(|(name, value)| (*name, value.as_str())).collect::<std::collections::BTreeMap<_, _>>(),
            "legs": self.legs.iter().map(leg).collect::<Vec<_>>(),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(skip).collect::<Vec<_>>(),
            "errors": self.errors,
        })
    }
}
