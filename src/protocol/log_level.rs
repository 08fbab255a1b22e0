//! The eight syslog levels of MCP logging.

use std::borrow::Cow;

use super::json::{Object, string};
use super::redact::redacted;
use super::splice::Edit;

/// Severity, least severe first, so that `level >= wanted` reads "severe enough".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `notice`
    Notice,
    /// `warning`
    Warning,
    /// `error`
    Error,
    /// `critical`
    Critical,
    /// `alert`
    Alert,
    /// `emergency`
    Emergency,
}

const LEVELS: [(LogLevel, &str); 8] = [
    (LogLevel::Debug, "debug"),
    (LogLevel::Info, "info"),
    (LogLevel::Notice, "notice"),
    (LogLevel::Warning, "warning"),
    (LogLevel::Error, "error"),
    (LogLevel::Critical, "critical"),
    (LogLevel::Alert, "alert"),
    (LogLevel::Emergency, "emergency"),
];

impl LogLevel {
    /// Reads a raw JSON string.
    pub fn from_raw(raw: &[u8]) -> Option<LogLevel> {
        let name = string(raw)?;
        LEVELS.iter().find(|(_, known)| *known == name).map(|(level, _)| *level)
    }

    /// The level stored as a number before.
    pub fn from_number(number: u8) -> Option<LogLevel> {
        LEVELS.get(usize::from(number)).map(|(level, _)| *level)
    }

    /// Its name on the wire.
    pub fn text(self) -> &'static str {
        LEVELS[self as usize].1
    }
}

/// Parameters of a log message for a client that wants `level` and above, its logger naming the upstream and its data
/// without secrets (S-LOG-05);
/// `None` when it is not severe enough.
pub fn log_params(upstream: &str, params: &Object, level: LogLevel) -> Option<Vec<u8>> {
    let severity = params.get("level").and_then(LogLevel::from_raw)?;
    if severity < level {
        return None;
    }
    let logger = match params.get("logger").and_then(string) {
        Some(logger) => format!("{upstream}/{logger}"),
        None => upstream.to_owned(),
    };
    let mut edit = Edit::of(params);
    edit.set_text("logger", &logger);
    if let Some(Cow::Owned(clean)) = params.get("data").map(redacted) {
        edit.set("data", clean);
    }
    let mut text = Vec::new();
    edit.write(&mut text);
    Some(text)
}
