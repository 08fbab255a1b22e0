//! `servers` and `tools`: rows of the admin listener as tables.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AdminAddress, LIMITS, block_on, target};
use crate::commands::table::table;
use crate::commands::{fail, say, say_json};
use crate::upstream::http::{self as client, AnswerBody};

#[derive(Debug, Args)]
pub(in crate::commands) struct Arguments {
    #[command(flatten)]
    address: AdminAddress,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::commands) struct ToolsArguments {
    #[command(flatten)]
    inspection: Arguments,
    /// What this profile's endpoint shows
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

/// What a table shows of a row.
trait Row: DeserializeOwned {
    const HEADING: &'static [&'static str];

    fn cells(self) -> Vec<String>;
}

#[derive(Deserialize)]
struct Server {
    name: String,
    state: String,
    transport: String,
    revision: Option<String>,
    tools: Option<usize>,
    prompts: Option<usize>,
    resources: Option<usize>,
    why: Option<String>,
}

impl Row for Server {
    const HEADING: &'static [&'static str] =
        &["NAME", "STATE", "TRANSPORT", "REVISION", "TOOLS", "PROMPTS", "RESOURCES", "WHY"];

    fn cells(self) -> Vec<String> {
        let count = |count: Option<usize>| count.map(|count| count.to_string()).unwrap_or_default();
        vec![
            self.name,
            self.state,
            self.transport,
            self.revision.unwrap_or_default(),
            count(self.tools),
            count(self.prompts),
            count(self.resources),
            self.why.unwrap_or_default(),
        ]
    }
}

#[derive(Deserialize)]
struct Tool {
    name: String,
    server: String,
    original: String,
    description: Option<String>,
}

impl Row for Tool {
    const HEADING: &'static [&'static str] = &["NAME", "SERVER", "ORIGINAL", "DESCRIPTION"];

    fn cells(self) -> Vec<String> {
        let description = self.description.unwrap_or_default();
        let first = description.lines().next().unwrap_or_default().to_owned();
        vec![self.name, self.server, self.original, first]
    }
}

pub(in crate::commands) fn servers(arguments: &Arguments) -> ExitCode {
    show::<Server>(arguments, "/api/v1/servers")
}

pub(in crate::commands) fn tools(arguments: &ToolsArguments) -> ExitCode {
    let path = match &arguments.profile {
        None => "/api/v1/tools".to_owned(),
        Some(profile) if is_key(profile) => format!("/api/v1/tools?profile={profile}"),
        Some(profile) => return fail(&format!("{profile:?} cannot be the name of a profile")),
    };
    show::<Tool>(&arguments.inspection, &path)
}

/// Names of profiles need no escaping in an address.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

fn show<R: Row>(arguments: &Arguments, path: &str) -> ExitCode {
    match arguments.address.url().and_then(|admin| fetch(&format!("{admin}{path}"))) {
        Ok(body) => shown::<R>(arguments, &body).unwrap_or_else(|why| fail(&format!("{why:#}"))),
        Err(why) => fail(&format!("{why:#}")),
    }
}

fn shown<R: Row>(arguments: &Arguments, body: &[u8]) -> anyhow::Result<ExitCode> {
    const ODD: &str = "the answer is not that of a gateway of this version";
    if arguments.json {
        let rows: Value = serde_json::from_slice(body).context(ODD)?;
        return Ok(say_json(&rows));
    }
    let rows: Vec<R> = serde_json::from_slice(body).context(ODD)?;
    Ok(say(&table(R::HEADING, rows.into_iter().map(R::cells))))
}

fn fetch(url: &str) -> anyhow::Result<Bytes> {
    let answer = block_on(client::get(&target(url)?, &[], LIMITS));
    let answer = answer.with_context(|| format!("no gateway answers at {url}"))?;
    match answer.body {
        AnswerBody::Json(body) if answer.status.is_success() => Ok(body),
        _ => bail!("{url} answered {}", answer.status),
    }
}
