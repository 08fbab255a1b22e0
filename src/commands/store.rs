//! `store`: looks at the state of a gateway that does not run, and repairs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{complain, say, say_json};
use crate::store::embedded::{self, Finding, Repaired};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read every record; exit code 0 if all are whole, 1 if something is damaged, 2 if the store cannot be looked at
    Check(Place),
    /// Save every record that can be read into a new store; the damaged one stays beside it. Exit codes as for check
    Repair(Place),
}

#[derive(Debug, Args)]
struct Place {
    /// The directory of `state`, or the store's file in it
    #[arg(value_name = "PATH", default_value = "state")]
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.verb {
        Verb::Check(place) => check(place),
        Verb::Repair(place) => repair(place),
    }
}

fn check(place: &Place) -> ExitCode {
    let finding = match embedded::check(&place.path) {
        Ok(finding) => finding,
        Err(why) => return impossible(&place.path, &why),
    };
    if place.json {
        say_json(&finding);
    } else {
        say(&described(&finding));
    }
    ExitCode::from(u8::from(!finding.is_whole()))
}

fn repair(place: &Place) -> ExitCode {
    let repaired = match embedded::repair(&place.path) {
        Ok(repaired) => repaired,
        Err(why) => return impossible(&place.path, &why),
    };
    if place.json {
        say_json(&repaired);
    } else {
        say(&repaired.as_ref().map_or_else(|| "nothing is damaged".to_owned(), told));
    }
    ExitCode::SUCCESS
}

fn impossible(path: &Path, why: &impl std::fmt::Display) -> ExitCode {
    complain(&format!("{}: {why}", path.display()));
    ExitCode::from(2)
}

fn described(finding: &Finding) -> String {
    let mut lines = counts("records", &finding.records);
    lines.extend(finding.damaged.iter().map(|record| format!("damaged: {record}")));
    lines.extend(finding.broken.iter().map(|why| format!("damaged: {why}")));
    lines.push(
        if finding.is_whole() { "ok" } else { "`switchyard store repair` saves what can be read" }.to_owned(),
    );
    lines.join("\n")
}

fn told(repaired: &Repaired) -> String {
    let mut lines = counts("saved", &repaired.saved);
    lines.extend(repaired.found.damaged.iter().map(|record| format!("lost: {record}")));
    if let Some(why) = &repaired.found.broken {
        lines.push(format!("it was damaged as a whole: {why}"));
    }
    if repaired.searched {
        lines
            .push("its pages were searched one by one: records that had been removed may be back".to_owned());
    }
    lines.push(format!("the damaged store is kept as {}", repaired.kept_as.display()));
    lines.join("\n")
}

fn counts(word: &str, of: &BTreeMap<String, usize>) -> Vec<String> {
    of.iter().map(|(space, count)| format!("{word}: {count} of {space}")).collect()
}
