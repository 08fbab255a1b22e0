//! `tasks`: calls that clients follow from afar instead of waiting for their answers.

use std::time::Duration;

use globset::{Glob, GlobMatcher};

use super::check::Check;
use super::quantity::TimeSpan;
use super::section::{choice, section};
use super::written::{At, Key, Table, given};

const DEFAULT_TTL: &str = "24h";
const DEFAULT_MAX_TTL: &str = "168h";
const DEFAULT_SLOW_AFTER: &str = "10s";
const DEFAULT_EACH: usize = 1_000;
/// No task is kept for less.
const SHORTEST: Duration = Duration::from_secs(1);
/// Nor for more.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Checked: which calls can be tasks, how long tasks are kept, and how many there may be.
#[derive(Debug, Clone)]
pub struct TaskSettings {
    /// How long a task is kept whose client does not say, from its creation.
    pub ttl: Duration,
    /// The longest that a client may ask for.
    pub max_ttl: Duration,
    /// Whether the gateway makes tasks of calls to servers that make none.
    pub host: Hosting,
    /// The same for tools, by their public names: the first glob that fits.
    pub tools: Vec<(GlobMatcher, Hosting)>,
    /// When a call becomes a task by itself, where it is hosted and its client takes one.
    pub slow_after: Duration,
    /// Unfinished tasks of one principal.
    pub each: usize,
    /// Whether tasks are followed to their end for clients that know none.
    pub drive: bool,
}

/// Whether the gateway makes a task of a call to a server that makes none (S-TASK-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hosting {
    /// Where client and server speak of tasks in different dialects.
    Auto,
    /// Never.
    Off,
    /// For every tool.
    On,
}

impl TaskSettings {
    /// What holds for that tool.
    pub fn hosting(&self, public_name: &str) -> Hosting {
        let of_tool = self.tools.iter().find(|(glob, _)| glob.is_match(public_name));
        of_tool.map_or(self.host, |(_, hosting)| *hosting)
    }

    /// Whether any tool can be hosted whoever calls.
    pub fn hosts_any(&self) -> bool {
        self.host == Hosting::On || self.tools.iter().any(|(_, hosting)| *hosting == Hosting::On)
    }

    /// How long a task is kept whose client asks for this, in milliseconds.
    pub fn granted_ttl_ms(&self, asked_ms: Option<u64>) -> u64 {
        let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        asked_ms.unwrap_or(whole(self.ttl)).max(whole(SHORTEST)).min(whole(self.max_ttl))
    }
}

impl Default for TaskSettings {
    fn default() -> Self {
        TaskSettings {
            ttl: Duration::from_secs(24 * 60 * 60),
            max_ttl: Duration::from_secs(7 * 24 * 60 * 60),
            host: Hosting::Auto,
            tools: Vec::new(),
            slow_after: Duration::from_secs(10),
            each: DEFAULT_EACH,
            drive: true,
        }
    }
}

section! {
    /// Tasks: calls that clients follow from afar instead of waiting for their answers.
    struct WrittenTasks {
        /// How long a task is kept whose client does not say, from its creation.
        #[schemars(extend("default" = DEFAULT_TTL))]
        "ttl" ttl: TimeSpan,
        /// The longest that a client may ask for.
        #[schemars(extend("default" = DEFAULT_MAX_TTL))]
        "max_ttl" max_ttl: TimeSpan,
        /// Whether the gateway makes tasks of calls to servers that make none: `auto` where client and server speak of tasks
        /// in different dialects, `on` for every tool.
        #[schemars(extend("default" = "auto"))]
        "host" host: WrittenHosting,
        /// The same for tools, by globs of their public names; the first that fits counts.
        "tools" tools: Table<WrittenHosting>,
        /// When a call that is hosted becomes a task by itself, where its client takes one.
        #[schemars(extend("default" = DEFAULT_SLOW_AFTER))]
        "slow_after" slow_after: TimeSpan,
        /// Unfinished tasks of one caller; `overloaded`.
        #[schemars(extend("default" = DEFAULT_EACH))]
        "each" each: u64,
        /// Whether tasks are followed to their end for clients that know none.
        #[schemars(extend("default" = true))]
        "drive" drive: bool,
    }
}

choice! {
    /// `host`, and what tools have.
    struct WrittenHosting(Hosting) {
        "auto" => Hosting::Auto,
        "off" => Hosting::Off,
        "on" => Hosting::On,
    }
}

impl TaskSettings {
    /// Checks the section.
    pub(super) fn check(written: &Key<WrittenTasks>, check: &mut Check<'_>) -> Self {
        let mut tasks = TaskSettings::default();
        let Some(written) = given(written).map(|written| &written.value) else { return tasks };
        tasks.ttl = kept_for(&written.ttl, check).unwrap_or(tasks.ttl);
        tasks.max_ttl = kept_for(&written.max_ttl, check).unwrap_or(tasks.max_ttl);
        if tasks.ttl > tasks.max_ttl {
            let place = given(&written.ttl).or(given(&written.max_ttl)).map(|at| at.place.clone());
            check.conflict::<()>(&place.unwrap_or_default(), "`ttl` is longer than `max_ttl`");
        }
        if let Some(host) = given(&written.host) {
            tasks.host = host.value.0;
        }
        tasks.tools = tools(&written.tools, check);
        if let Some(slow_after) = given(&written.slow_after) {
            tasks.slow_after = slow_after.value.0;
        }
        if let Some(each) = given(&written.each) {
            tasks.each = usize::try_from(each.value).unwrap_or(usize::MAX);
            if each.value == 0 {
                check.bad::<()>(&each.place, "expected at least 1");
            }
        }
        if let Some(drive) = given(&written.drive) {
            tasks.drive = drive.value;
        }
        tasks
    }
}

fn kept_for(written: &Key<TimeSpan>, check: &mut Check<'_>) -> Option<Duration> {
    let At { value: TimeSpan(time), place } = given(written)?;
    if !(SHORTEST..=LONGEST).contains(time) {
        return check.bad(place, "expected a time from `1s` to `8784h`");
    }
    Some(*time)
}

fn tools(written: &Key<Table<WrittenHosting>>, check: &mut Check<'_>) -> Vec<(GlobMatcher, Hosting)> {
    let mut tools = Vec::new();
    for (glob, hosting) in given(written).map(|table| table.value.0.as_slice()).unwrap_or_default() {
        match Glob::new(&glob.value) {
            Ok(read) => {
                tools.extend(hosting.read().map(|hosting: &At<_>| (read.compile_matcher(), hosting.value.0)))
            }
            Err(error) => _ = check.bad::<()>(&glob.place, format!("not a glob: {}", error.kind())),
        }
    }
    tools
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;
    use crate::config::reference::ProcessEnvironment;

    fn tasks(text: &str) -> Result<TaskSettings, String> {
        let text = format!("servers: {{}}\ntasks: {text}");
        let read = parse(&text, Path::new("gateway.yaml"), &ProcessEnvironment);
        read.map(|settings| settings.tasks).map_err(|problems| problems.to_string())
    }

    #[test]
    fn s_task_22_the_first_glob_that_fits_says_whether_a_tool_is_hosted() {
        let tasks = tasks("{ host: on, tools: { 'one__*': off, 'one__slow': auto } }").expect("valid");
        assert_eq!(tasks.hosting("one__slow"), Hosting::Off);
        assert_eq!(tasks.hosting("two__slow"), Hosting::On);
        assert!(tasks.hosts_any());
    }

    #[test]
    fn s_task_08_a_ttl_is_granted_within_bounds() {
        let tasks = tasks("{ ttl: 1m, max_ttl: 1h }").expect("valid");
        let rows = [(None, 60_000), (Some(0), 1_000), (Some(5_000), 5_000), (Some(u64::MAX), 3_600_000)];
        for (asked, granted) in rows {
            assert_eq!(tasks.granted_ttl_ms(asked), granted, "{asked:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let rows = [
            ("{ ttl: 2h, max_ttl: 1h }", "longer than"),
            ("{ ttl: 10ms }", "expected a time from"),
            ("{ each: 0 }", "at least 1"),
            ("{ tools: { '[': on } }", "not a glob"),
            ("{ host: maybe }", "expected one of"),
            ("{ hosts: on }", "did you mean `host`"),
        ];
        for (text, told) in rows {
            let problems = tasks(text).expect_err("cannot be meant");
            assert!(problems.contains(told), "{text}: {problems}");
        }
    }
}
