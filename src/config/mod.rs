//! `gateway.yaml`: read, checked, explained.
//!
//! Owns the file format. Each section's module has the section as written (its keys, reader and schema in one
//! declaration), as checked (what the rest of the gateway uses), and the check between them.
//! Always: a `Settings` value is complete and consistent; every problem of a file is reported at once with line and
//! column. Not here: sockets, processes, clients: those are built from `Settings` by `gateway`.

mod address;
pub mod bounds;
mod check;
pub mod listen;
mod loops;
pub mod names;
mod node;
pub mod problem;
pub mod profiles;
mod quantity;
pub mod reference;
pub mod revisions;
pub mod secret;
mod section;
pub mod servers;
pub mod sessions;
pub mod state;
pub mod tasks;
pub mod telemetry;
mod written;

#[cfg(test)]
mod tests;

use std::path::Path;

use bounds::Bounds;
use bounds::written::WrittenBounds;
use check::{Check, KEY_PATTERN};
use listen::{DEFAULT_ADMIN, DEFAULT_LISTEN, ListenSettings, Listeners};
use names::{NameSettings, WrittenNames};
use node::Value;
use problem::{Place, ProblemKind, Problems};
use profiles::{ProfileSettings, WrittenProfile};
use reference::{Environment, ProcessEnvironment};
use revisions::ServedRevisions;
use section::section;
use servers::ServerSettings;
use servers::written::WrittenServer;
use sessions::{DEFAULT_SESSIONS, SessionSettings};
use state::{DEFAULT_STATE, StateSettings};
use tasks::{TaskSettings, WrittenTasks};
use telemetry::{TelemetrySettings, WrittenTelemetry};
use written::{At, Given, Ignored, Table, Text, Written, given};

use crate::names::UpstreamName;
use crate::protocol::era::{REVISIONS, Revision};

/// Checked configuration; nothing in it needs a further default.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Listeners.
    pub listen: ListenSettings,
    /// Revisions that clients may speak.
    pub revisions: ServedRevisions,
    /// Upstreams in the order of the file.
    pub servers: Vec<ServerSettings>,
    /// Profiles in the order of the file.
    pub profiles: Vec<ProfileSettings>,
    /// Public names.
    pub names: NameSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// Tasks.
    pub tasks: TaskSettings,
    /// Where state is kept.
    pub state: StateSettings,
    /// Whether sessions are part of it.
    pub sessions: SessionSettings,
    /// Limits.
    pub bounds: Bounds,
}

section! {
    /// Configuration of the Switchyard MCP gateway. Strings may hold `${env:NAME}`, `${file:path}` (relative to this
    /// file) and `${exe}` (the gateway's own program); `$${` is the text `${`.
    struct WrittenSettings {
        /// For editors: the schema of this file.
        "$schema" schema: Ignored,
        /// Address of the MCP endpoint; loopback only in this release. Port 0 takes a free one.
        #[schemars(extend("default" = DEFAULT_LISTEN))]
        "listen" listen: listen::Address,
        /// Address for health, readiness and inspection, or `off`.
        #[schemars(extend("default" = DEFAULT_ADMIN))]
        "admin" admin: listen::Address,
        /// The address clients use when it is not `listen`.
        "public_url" public_url: Text,
        /// Origins of web pages that may use the gateway, besides those of this machine.
        "origins" origins: Vec<Given<Text>>,
        /// Host names by which the gateway may be called, besides those of this machine.
        "hosts" hosts: Vec<Given<Text>>,
        /// Whether clients of the deprecated HTTP+SSE transport of 2024-11-05 are served, at `/sse` and `/messages`.
        #[schemars(extend("default" = true))]
        "http_sse" http_sse: bool,
        /// Protocol revisions that clients may speak; all of them by default.
        #[schemars(extend("items" = { "enum": REVISIONS.map(Revision::text) }))]
        "revisions" revisions: Vec<Given<Text>>,
        /// The MCP servers behind the gateway. A key is 1 to 32 of `A-Z a-z 0-9 _ -`.
        #[schemars(extend("propertyNames" = { "pattern": KEY_PATTERN }))]
        "servers" servers: Table<WrittenServer>,
        /// The same, as clients' `mcp.json` calls it; not both.
        #[schemars(extend("propertyNames" = { "pattern": KEY_PATTERN }))]
        "mcpServers" mcp_servers: Table<WrittenServer>,
        /// Named views of the catalogue, each with an endpoint `/mcp/{profile}`.
        #[schemars(extend("propertyNames" = { "pattern": KEY_PATTERN }))]
        "profiles" profiles: Table<WrittenProfile>,
        /// How public names are formed.
        "names" names: WrittenNames,
        /// Logs and traces.
        "telemetry" telemetry: WrittenTelemetry,
        /// Tasks: calls that clients follow from afar instead of waiting for their answers.
        "tasks" tasks: WrittenTasks,
        /// Directory of what must outlive the gateway, relative to this file and made when needed; or `memory`, to keep
        /// nothing.
        #[schemars(extend("default" = DEFAULT_STATE))]
        "state" state: Text,
        /// `durable`: sessions and what was sent on their streams outlive the gateway, in `state`; `memory`: they end with
        /// it.
        #[schemars(extend("default" = DEFAULT_SESSIONS))]
        "sessions" sessions: Text,
        /// Limits.
        "bounds" bounds: WrittenBounds,
    }
    not served: "auth", "policy", "limits";
    elsewhere:
        "inputs" => "the gateway asks nobody; write `${env:NAME}` where an input is used",
        "mcp" => "move what is below it to the top of the file",
        "host" => "write `listen: 127.0.0.1:PORT`",
        "port" => "write `listen: 127.0.0.1:PORT`";
}

/// What came of reading a file: settings, unless there are errors; and everything there is to say.
#[derive(Debug)]
pub struct Reading {
    /// Absent when `problems` has errors.
    pub settings: Option<Settings>,
    /// Errors and warnings, in the order of the file.
    pub problems: Problems,
}

impl Reading {
    /// The settings, or the problems that prevent them. Drops warnings of good settings.
    pub fn into_result(self) -> Result<Settings, Problems> {
        self.settings.ok_or(self.problems)
    }
}

/// Larger than any configuration, smaller than memory.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// Reads where a gateway with this file listens. Nothing else of it is judged or resolved, so that whoever asks a running
/// gateway needs none of its secrets. Blocks, as [`load`].
pub fn read_listeners(path: &Path) -> Result<Listeners, Problems> {
    let mut problems = Problems::of(path.display().to_string());
    let Some(text) = read_text(path, &mut problems) else { return Err(problems) };
    let written = read_written(&text, &mut problems);
    let mut check = Check::new(problems, path, &ProcessEnvironment);
    written.and_then(|written| Listeners::check(&written, &mut check)).ok_or(check.problems)
}

/// Reads and checks a file in the surroundings of this process. Blocks: call it before the runtime serves.
pub fn load(path: &Path) -> Result<Settings, Problems> {
    read(path).into_result()
}

/// As [`load`], and keeps the warnings.
pub fn read(path: &Path) -> Reading {
    let mut problems = Problems::of(path.display().to_string());
    match read_text(path, &mut problems) {
        Some(text) => examine(&text, path, &ProcessEnvironment),
        None => Reading { settings: None, problems },
    }
}

fn read_text(path: &Path, problems: &mut Problems) -> Option<String> {
    let text = reference::read_bounded(path, FILE_LIMIT);
    text.inspect_err(|error| {
        let message = format!("the configuration cannot be read: {error}");
        problems.error(ProblemKind::Unreadable, &Place::default(), message);
    })
    .ok()
}

/// Checks a text. Pure but for what `environment` does; `origin` names the file, and relative paths start in its folder.
pub fn parse(text: &str, origin: &Path, environment: &dyn Environment) -> Result<Settings, Problems> {
    examine(text, origin, environment).into_result()
}

/// As [`parse`], and keeps the warnings.
pub fn examine(text: &str, origin: &Path, environment: &dyn Environment) -> Reading {
    let mut problems = Problems::of(origin.display().to_string());
    let written = read_written(text, &mut problems);
    let mut check = Check::new(problems, origin, environment);
    let settings = written.and_then(|written| Settings::check(&written, &mut check));
    let mut problems = check.problems;
    problems.sort();
    let settings = settings.filter(|_| !problems.has_errors());
    Reading { settings, problems }
}

fn read_written(text: &str, problems: &mut Problems) -> Option<WrittenSettings> {
    let node = node::parse(text, problems)?;
    // A file of comments alone says nothing, which is fine.
    if matches!(node.value, Value::Null) {
        return Some(WrittenSettings::default());
    }
    WrittenSettings::read(
        &node,
        &Place { path: String::new(), line: node.line, column: node.column },
        problems,
    )
}

/// The JSON Schema of the file, generated from the types that read it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(WrittenSettings).to_value()
}

impl Settings {
    /// Checks all sections; what is absent has its default, and so may have what is wrong: errors discard the settings.
    fn check(written: &WrittenSettings, check: &mut Check<'_>) -> Option<Self> {
        let listen = ListenSettings::check(written, check);
        let revisions = ServedRevisions::check(&written.revisions, check);
        let names = NameSettings::check(&written.names, check);
        let telemetry = TelemetrySettings::check(&written.telemetry, check);
        let tasks = TaskSettings::check(&written.tasks, check);
        let state = StateSettings::check(&written.state, check);
        let sessions = SessionSettings::check(&written.sessions, &state, check);
        let bounds = Bounds::check(&written.bounds, check);
        let table = server_table(written, check);
        let servers = servers::check_all(table, &names, &bounds, check);
        loops::refuse(table, &servers, listen.as_ref(), check);
        lint_servers(written, &servers, check);
        let keys = table.map(|table| table.value.0.as_slice()).unwrap_or_default();
        let keys: Vec<_> = keys.iter().map(|(key, _)| UpstreamName::new(key.value.as_str())).collect();
        let profiles = profiles::check_all(&written.profiles, &keys, check);
        Some(Settings {
            listen: listen?,
            revisions,
            servers,
            profiles,
            names,
            telemetry,
            tasks,
            state,
            sessions,
            bounds,
        })
    }
}

/// The servers, by whichever name the file calls them.
fn server_table<'w>(
    written: &'w WrittenSettings,
    check: &mut Check<'_>,
) -> Option<&'w At<Table<WrittenServer>>> {
    let (ours, theirs) = (given(&written.servers), given(&written.mcp_servers));
    if let (Some(_), Some(theirs)) = (&written.servers, theirs) {
        check.conflict::<()>(
            &theirs.place,
            "`servers` and `mcpServers` are the same key; put all servers below one",
        );
    }
    ours.or(theirs)
}

fn lint_servers(written: &WrittenSettings, servers: &[ServerSettings], check: &mut Check<'_>) {
    let given_place = |key| given(key).map(|at: &At<_>| at.place.clone());
    let place = given_place(&written.servers).or(given_place(&written.mcp_servers)).unwrap_or_default();
    // Servers that were refused are no missing servers.
    if check.problems.has_errors() {
        return;
    }
    if servers.is_empty() {
        check.problems.lint(&place, "there is no server; the gateway will offer nothing");
    } else if !servers.iter().any(|server| server.enabled) {
        check.problems.lint(&place, "every server is switched off; the gateway will offer nothing");
    }
}
