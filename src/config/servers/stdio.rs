//! The check of a server that is a child process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::StdioSettings;
use super::written::WrittenServer;
use crate::config::check::Check;
use crate::config::reference;
use crate::config::secret::{Secret, looks_secret, names_secret};
use crate::config::written::{At, Given, Key, Table, Text, given};

const DEFAULT_IDLE_STOP: Duration = Duration::from_mins(5);

impl StdioSettings {
    /// Checks the keys of a server that has `command`.
    pub(super) fn check(written: &WrittenServer, check: &mut Check<'_>) -> Option<Self> {
        if let Some(headers) = given(&written.headers).filter(|headers| !headers.value.0.is_empty()) {
            check.conflict::<()>(&headers.place, "`headers` belongs to a server with `url`");
        }
        let command = given(&written.command).and_then(|command| program(command, check));
        let args = arguments(&written.args, check);
        let env = variables(&written.env, check);
        let cwd = given(&written.cwd).and_then(|cwd| directory(cwd, check));
        Some(StdioSettings {
            command: command?,
            args,
            env,
            cwd,
            idle_stop: at_least(&written.idle_stop, |span| span.0, Duration::from_secs(1), "`1s`", check)
                .unwrap_or(DEFAULT_IDLE_STOP),
            max_memory: at_least(&written.max_memory, |size| size.0, 1 << 20, "`1MiB`", check),
            max_cpu_seconds: at_least(&written.max_cpu_seconds, |seconds| *seconds, 1, "1", check),
            max_open_files: at_least(&written.max_open_files, |files| *files, 16, "16", check),
        })
    }
}

fn program(written: &At<Text>, check: &mut Check<'_>) -> Option<String> {
    let command = check.resolve(written)?;
    if command.trim().is_empty() {
        return check.bad(&written.place, "expected the name or path of a program");
    }
    if command.contains('\0') {
        return check.bad(&written.place, "a program's name has no zero character");
    }
    if command.starts_with('~') {
        return check.bad(&written.place, NO_HOME);
    }
    if command.contains(' ') && !command.contains('/') {
        return check.bad(&written.place, "expected the program alone; each argument is an item of `args`");
    }
    if !command.contains('/') {
        return Some(command);
    }
    // A path starts where the file's other paths do, whatever the directory of the child or of the gateway is.
    let path = check.environment.absolute(&check.folder.join(&command));
    Some(path.into_os_string().into_string().unwrap_or(command))
}

const NO_HOME: &str = "`~` is not expanded; write `${env:HOME}`";

fn arguments(written: &Key<Vec<Given<Text>>>, check: &mut Check<'_>) -> Vec<Secret> {
    let mut arguments = Vec::new();
    for item in
        given(written).map(|list| list.value.as_slice()).unwrap_or_default().iter().filter_map(Given::read)
    {
        let text = &item.value.0;
        let value = text.split_once('=').map_or(text.as_str(), |(_, value)| value);
        if looks_secret(value) && !reference::has_reference(text) {
            check
                .problems
                .lint(&item.place, "looks like a secret; keep it out of the file with `${env:NAME}`");
        }
        let Some(argument) = check.resolve(item) else { continue };
        if argument.contains('\0') {
            check.bad::<()>(&item.place, "an argument has no zero character");
        }
        arguments.push(Secret::new(argument));
    }
    arguments
}

fn variables(written: &Key<Table<Text>>, check: &mut Check<'_>) -> BTreeMap<String, Secret> {
    let mut variables = BTreeMap::new();
    let entries = given(written).map(|table| table.value.0.as_slice()).unwrap_or_default();
    for (name, value) in entries {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            check.bad::<()>(&name.place, "an environment variable's name is not empty and has no `=`");
        }
        let Some(value) = value.read() else { continue };
        lint_literal(&name.value, value, check);
        let Some(text) = check.resolve(value) else { continue };
        if text.contains('\0') {
            check.bad::<()>(&value.place, "an environment variable has no zero character");
        }
        variables.insert(name.value.clone(), Secret::new(text));
    }
    variables
}

/// Warns of a secret that stands in the file itself.
pub(super) fn lint_literal(name: &str, value: &At<Text>, check: &mut Check<'_>) {
    let text = &value.value.0;
    if !reference::has_reference(text) && (looks_secret(text) || (names_secret(name) && !text.is_empty())) {
        check.problems.lint(&value.place, "looks like a secret; keep it out of the file with `${env:NAME}`");
    }
}

fn directory(written: &At<Text>, check: &mut Check<'_>) -> Option<PathBuf> {
    let path = check.resolve(written)?;
    if path.is_empty() || path.contains('\0') {
        return check.bad(&written.place, "expected a directory");
    }
    if path.starts_with('~') {
        return check.bad(&written.place, NO_HOME);
    }
    Some(check.folder.join(path))
}

/// A value that is not below the least one that can work.
fn at_least<W, T: PartialOrd>(
    written: &Key<W>,
    value: impl Fn(&W) -> T,
    least: T,
    least_text: &str,
    check: &mut Check<'_>,
) -> Option<T> {
    let at = given(written)?;
    let value = value(&at.value);
    if value < least { check.bad(&at.place, format!("expected at least {least_text}")) } else { Some(value) }
}
