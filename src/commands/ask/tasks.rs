//! `tasks`: what a running gateway knows of tasks, and their cancellation, over the admin listener.
//!
//! Always: a task is named by the first characters of its number, as logs and lists show it; what the gateway refuses is
//! told in its own words. Not here: what may be seen and done (`admin::tasks`).

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::Value;

use super::call::show_result;
use super::{AdminAddress, LIMITS, block_on, target};
use crate::commands::table::table;
use crate::commands::visible::{json as visible_json, one_line};
use crate::commands::{fail, say, say_json};
use crate::upstream::http::{self as client, AnswerBody, EventReader, HttpAnswer};

/// Rows asked for at once; as many pages are fetched as there are.
const PAGE: usize = 500;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::commands) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: ListArguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List tasks, the newest first (what happens without any verb)
    List(ListArguments),
    /// Show one task
    Get(OneArguments),
    /// Show how a task ended: what its call gave; exit code 1 if that is an error, or if it is not over
    Result(OneArguments),
    /// Cancel a task; exit code 1 if it is over already
    Cancel(OneArguments),
    /// Show a task again whenever it changes, until it is over
    Watch(OneArguments),
}

#[derive(Debug, Args)]
struct ListArguments {
    #[command(flatten)]
    address: AdminAddress,
    /// Only tasks in this state
    #[arg(long)]
    state: Option<StateName>,
    /// Only tasks of this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only tasks of this caller
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct OneArguments {
    /// The task: the first characters of its number, as many as make it the only one
    task: String,
    #[command(flatten)]
    address: AdminAddress,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum StateName {
    Working,
    InputRequired,
    Completed,
    Failed,
    Cancelled,
}

/// A row, as far as a table shows it.
#[derive(Debug, Deserialize)]
struct Task {
    task: String,
    state: String,
    server: String,
    tool: String,
    principal: String,
    age_seconds: u64,
    ttl_left_seconds: u64,
    kind: String,
    #[serde(default)]
    progress: String,
    #[serde(default)]
    trace: String,
}

const HEADING: &[&str] =
    &["TASK", "STATE", "SERVER", "TOOL", "PRINCIPAL", "AGE", "LEFT", "KIND", "TRACE", "PROGRESS"];

impl Task {
    fn cells(self) -> Vec<String> {
        let (age, left) = (span(self.age_seconds), span(self.ttl_left_seconds));
        let Task { task, state, server, tool, principal, kind, trace, progress, .. } = self;
        vec![task, state, server, tool, principal, age, left, kind, trace, progress]
    }
}

/// A time as people read it, by its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    tasks: Vec<Value>,
    next: Option<String>,
}

pub(in crate::commands) fn run(arguments: &Arguments) -> ExitCode {
    let done = match &arguments.verb {
        None => list(&arguments.list),
        Some(Verb::List(arguments)) => list(arguments),
        Some(Verb::Get(one)) => get(one),
        Some(Verb::Result(one)) => result(one),
        Some(Verb::Cancel(one)) => cancel(one),
        Some(Verb::Watch(one)) => watch(one),
    };
    done.unwrap_or_else(|why| fail(&format!("{why:#}")))
}

fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let mut query = format!("limit={PAGE}");
    if let Some(state) = arguments.state.and_then(|state| state.to_possible_value()) {
        query.push_str(&format!("&state={}", state.get_name()));
    }
    for (key, name) in [("server", &arguments.server), ("principal", &arguments.principal)] {
        if let Some(name) = name {
            query.push_str(&format!("&{key}={}", plain(name)?));
        }
    }
    let admin = arguments.address.url()?;
    let mut rows = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let cursor = next.map(|next| format!("&cursor={next}")).unwrap_or_default();
        let url = format!("{admin}/api/v1/tasks?{query}{cursor}");
        let page: Page = read(&said(&url, block_on(client::get(&target(&url)?, &[], LIMITS)))?)?;
        rows.extend(page.tasks);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    if arguments.json {
        return Ok(say_json(&rows));
    }
    let rows: Vec<Task> = rows.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    Ok(say(&table(HEADING, rows.into_iter().map(Task::cells))))
}

fn get(one: &OneArguments) -> anyhow::Result<ExitCode> {
    let url = one.url("")?;
    show(one, &said(&url, block_on(client::get(&target(&url)?, &[], LIMITS)))?)
}

fn cancel(one: &OneArguments) -> anyhow::Result<ExitCode> {
    let url = one.url("/cancel")?;
    let body = Bytes::from_static(b"{}");
    show(one, &said(&url, block_on(client::post(&target(&url)?, &[], body, LIMITS)))?)
}

fn result(one: &OneArguments) -> anyhow::Result<ExitCode> {
    let url = one.url("/result")?;
    let ending: Value = read(&said(&url, block_on(client::get(&target(&url)?, &[], LIMITS)))?)?;
    match (&ending["result"], &ending["error"]) {
        (Value::Null, Value::Null) => bail!("the task was cancelled, and has no result"),
        (Value::Null, error) if one.json => {
            say_json(error);
            Ok(ExitCode::FAILURE)
        }
        (Value::Null, error) => {
            let message = error["message"].as_str().unwrap_or("an error without a message");
            bail!("{message} ({})", error["code"])
        }
        (result, _) => Ok(show_result(result, one.json)),
    }
}

fn watch(one: &OneArguments) -> anyhow::Result<ExitCode> {
    let url = one.url("/watch")?;
    let target = target(&url)?;
    block_on(async {
        let answer = client::get(&target, &[], LIMITS).await;
        let answer = answer.with_context(|| format!("no gateway answers at {url}"))?;
        match answer.body {
            AnswerBody::Events(events) => follow(one, *events).await,
            _ => said(&url, Ok(answer)).and_then(|_| bail!("{url} is not that of a gateway of this version")),
        }
    })
}

async fn follow(one: &OneArguments, mut events: EventReader) -> anyhow::Result<ExitCode> {
    let mut last = None;
    while let Some(event) = events.next().await {
        let row: Value = read(&event?.data)?;
        if one.json {
            // One a line, so that each can be read when it comes.
            say(&visible_json(&row.to_string()));
        } else {
            let task: Task = serde_json::from_value(row.clone())?;
            say(&format!("{} {} {}", span(task.age_seconds), task.state, one_line(&task.progress)));
        }
        last = row["state"].as_str().map(str::to_owned);
    }
    match last.as_deref() {
        Some("completed" | "failed" | "cancelled") => Ok(ExitCode::SUCCESS),
        _ => bail!("the gateway ended the watch before the task was over"),
    }
}

fn show(one: &OneArguments, body: &[u8]) -> anyhow::Result<ExitCode> {
    if one.json {
        return Ok(say_json(&read::<Value>(body)?));
    }
    let row: Task = read(body)?;
    Ok(say(&table(HEADING, std::iter::once(row.cells()))))
}

impl OneArguments {
    fn url(&self, verb: &str) -> anyhow::Result<String> {
        Ok(format!("{}/api/v1/tasks/{}{verb}", self.address.url()?, plain(&self.task)?))
    }
}

/// Names that need no escaping in an address, which all of these are.
fn plain(name: &str) -> anyhow::Result<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    ensure!(!name.is_empty() && name.bytes().all(is_plain), "{name:?} cannot be such a name");
    Ok(name)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body).context("the answer is not that of a gateway of this version")
}

/// The body of a success; otherwise what the gateway says instead.
fn said(url: &str, answer: Result<HttpAnswer, client::HttpFailure>) -> anyhow::Result<Bytes> {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let answer = answer.with_context(|| format!("no gateway answers at {url}"))?;
    match answer.body {
        AnswerBody::Json(body) if answer.status.is_success() => Ok(body),
        AnswerBody::Json(body) => Err(match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => anyhow!(refusal.error),
            Err(_) => anyhow!("{url} answered {}", answer.status),
        }),
        _ => bail!("{url} answered {}", answer.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_two_largest_units() {
        let rows = [(0, "0s"), (59, "59s"), (61, "1m1s"), (3_600, "1h0m"), (90_061, "1d1h")];
        for (seconds, text) in rows {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn a_name_is_no_way_to_another_address() {
        for odd in ["", "a/b", "a?b", "a b", "a%2f"] {
            assert!(plain(odd).is_err(), "{odd:?}");
        }
        assert!(plain("3f2a_9-x.y").is_ok());
    }
}
