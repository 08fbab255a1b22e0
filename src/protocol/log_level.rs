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

/// Whether a log message with these parameters is one that a client which wants `level` and above wants.
pub fn is_severe_enough(params: &Object, level: LogLevel) -> bool {
    params.get("level").and_then(LogLevel::from_raw).is_some_and(|severity| severity >= level)
}

/// Bytes of a log message's parameters that are looked into and passed on.
const LONGEST: usize = 64 * 1024;
/// Characters of a logger's name in a message that is longer.
const LONGEST_LOGGER: usize = 256;

/// Parameters of a log message for a client: the logger names the upstream where that is given, and the data has no
/// secrets (S-LOG-05). Of what is too long only the length is told. To be asked for after severity and rate, because
/// secrets are searched for in every byte.
pub fn log_params(upstream: Option<&str>, params: &Object) -> Vec<u8> {
    let logger = params.get("logger").and_then(string);
    let is_long = params.as_bytes().len() > LONGEST;
    let logger = logger.map(|logger| match is_long {
        true => Cow::Owned(logger.chars().take(LONGEST_LOGGER).collect()),
        false => logger,
    });
    let logger = match (upstream, logger) {
        (Some(upstream), Some(logger)) => Some(format!("{upstream}/{logger}")),
        (Some(upstream), None) => Some(upstream.to_owned()),
        (None, logger) => logger.map(Cow::into_owned),
    };
    let cut = Object::empty();
    let mut edit = Edit::of(if is_long { &cut } else { params });
    if is_long {
        let level = params.get("level").and_then(LogLevel::from_raw).unwrap_or(LogLevel::Info);
        edit.set_text("level", level.text());
        let length = params.get("data").map_or(0, <[u8]>::len);
        edit.set_text("data", &format!("{length} bytes were left out: too long for a log message"));
    } else if let Some(Cow::Owned(clean)) = params.get("data").map(redacted) {
        edit.set("data", clean);
    }
    if let Some(logger) = logger {
        edit.set_text("logger", &logger);
    }
    let mut text = Vec::new();
    edit.write(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    fn shown(upstream: Option<&str>, params: &str) -> String {
        let params = Object::parse(Bytes::copy_from_slice(params.as_bytes()), Limits::NONE).expect("valid");
        String::from_utf8(log_params(upstream, &params)).expect("UTF-8")
    }

    #[test]
    fn s_log_05_a_server_whose_names_have_no_prefix_keeps_its_loggers_too() {
        let log = r#"{"level":"error","logger":"engine","data":1}"#;
        assert!(shown(Some("one"), log).contains(r#""logger":"one/engine""#));
        assert_eq!(shown(None, log), log);
        assert_eq!(shown(None, r#"{"level":"error","data":1}"#), r#"{"level":"error","data":1}"#);
    }

    #[test]
    fn s_log_05_of_what_is_too_long_only_the_length_is_told() {
        let data = format!(r#""password=hunter2-{}""#, "x".repeat(LONGEST));
        let long = shown(Some("one"), &format!(r#"{{"level":"error","logger":"engine","data":{data}}}"#));
        assert!(long.len() < 200 && !long.contains("hunter2"), "{long}");
        assert!(long.contains(&data.len().to_string()), "{long}");
        assert!(long.contains(r#""level":"error""#) && long.contains(r#""logger":"one/engine""#), "{long}");
    }
}
