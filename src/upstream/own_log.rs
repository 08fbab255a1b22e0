//! An upstream's log messages that are nobody's in particular: they end up in the gateway's own log (S-LOG-04).
//!
//! Always: whatever the upstream sends, lines are bounded in length and number, hold no secrets that can be told by their
//! look, and are one line each. Not here: whose a message is (`link`).

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tracing::Level;

use crate::names::UpstreamName;
use crate::protocol::json::Object;
use crate::protocol::log_level::LogLevel;
use crate::protocol::redact::redacted;

/// Bytes kept of what a message says.
const SAID: usize = 1024;
/// Bytes kept of the name of its logger.
const LOGGER: usize = 64;
/// Messages logged in a second, and at once after a quiet time.
const LOGGED_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

/// The place of one connection in the gateway's log.
#[derive(Debug)]
pub(super) struct OwnLog {
    rate: DefaultDirectRateLimiter,
}

impl Default for OwnLog {
    fn default() -> Self {
        OwnLog { rate: RateLimiter::direct(Quota::per_second(LOGGED_PER_SECOND)) }
    }
}

impl OwnLog {
    /// Writes the parameters of a log message of `upstream` at the level nearest to its own.
    pub(super) fn write(&self, upstream: &UpstreamName, params: &Object) {
        macro_rules! write_at {
            ($level:expr) => {
                // What is not shown takes nothing from the rate of what is.
                if tracing::enabled!($level) && self.rate.check().is_ok() {
                    let logger = params.get("logger").map(|logger| readable(logger, LOGGER));
                    let data = readable(params.get("data").unwrap_or_default(), SAID);
                    tracing::event!($level, %upstream, logger, "the server logs: {data}");
                }
            };
        }
        match params.get("level").and_then(LogLevel::from_raw) {
            None | Some(LogLevel::Debug) => write_at!(Level::DEBUG),
            Some(LogLevel::Info | LogLevel::Notice) => write_at!(Level::INFO),
            Some(LogLevel::Warning) => write_at!(Level::WARN),
            Some(LogLevel::Error | LogLevel::Critical | LogLevel::Alert | LogLevel::Emergency) => {
                write_at!(Level::ERROR);
            }
        }
    }
}

/// Raw JSON on one line, without secrets and cut to `most` bytes. Cut last: half a secret has no look.
fn readable(raw: &[u8], most: usize) -> String {
    let clean = redacted(raw);
    let text = String::from_utf8_lossy(&clean);
    let kept = &text[..text.floor_char_boundary(most)];
    kept.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::protocol::json::Limits;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("whole").write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a log at `shown` holds after these messages, by line.
    fn written(shown: Level, messages: impl IntoIterator<Item = String>) -> Vec<String> {
        let written = Written::default();
        let out = written.clone();
        let log = tracing_subscriber::fmt()
            .with_max_level(shown)
            .with_ansi(false)
            .without_time()
            .with_writer(move || out.clone())
            .finish();
        let own_log = OwnLog::default();
        tracing::subscriber::with_default(log, || {
            for params in messages {
                let params = Object::parse(params.into(), Limits::default()).expect("valid");
                own_log.write(&UpstreamName::new("one"), &params);
            }
        });
        let bytes = written.0.lock().expect("whole").clone();
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
    }

    #[test]
    fn s_log_04_levels_become_the_nearest_of_the_gateways_own() {
        for (level, expected) in [
            ("debug", None),
            ("shout", None),
            ("info", Some("INFO")),
            ("notice", Some("INFO")),
            ("warning", Some("WARN")),
            ("error", Some("ERROR")),
            ("critical", Some("ERROR")),
            ("alert", Some("ERROR")),
            ("emergency", Some("ERROR")),
        ] {
            let message = format!(r#"{{"level":"{level}","logger":"engine","data":{{"hot":true}}}}"#);
            let lines = written(Level::INFO, [message]);
            let Some(expected) = expected else {
                assert!(lines.is_empty(), "{level}: {lines:?}");
                continue;
            };
            let [line] = &lines[..] else { panic!("{level}: {lines:?}") };
            assert!(line.trim_start().starts_with(expected), "{level}: {line}");
            for part in [r#"the server logs: {"hot":true}"#, "upstream=one", "engine"] {
                assert!(line.contains(part), "{level}: {line}");
            }
        }
    }

    #[test]
    fn s_log_05_the_gateways_own_log_is_given_no_secrets_and_no_floods() {
        let secret = "Bearer abcdef0123456789abcdef0123456789";
        // The secret would be cut in two.
        let data = format!("{}{secret}", "é".repeat((SAID - 20) / 2));
        let lines =
            written(Level::INFO, [format!(r#"{{"level":"error","data":"{data}{}"}}"#, "x".repeat(5000))]);
        assert!(!lines[0].contains("abcdef0123") && lines[0].len() < SAID + 200, "{lines:?}");
        assert!(lines[0].contains("éé"), "{lines:?}");

        let flood = (0..500).map(|n| format!(r#"{{"level":"error","data":{n}}}"#));
        let kept = written(Level::INFO, flood).len();
        assert!((20..200).contains(&kept), "{kept} lines of 500");
        // What nobody sees takes no place.
        let quiet = (0..500).map(|_| r#"{"level":"debug","data":1}"#.to_owned());
        let loud = [r#"{"level":"error","data":"the end"}"#.to_owned()];
        assert_eq!(written(Level::INFO, quiet.chain(loud)).len(), 1);
    }

    #[test]
    fn s_log_05_a_terminal_is_given_no_orders() {
        assert_eq!(readable("\"a\u{9b}2Jb\"".as_bytes(), 100), "\"a\u{fffd}2Jb\"");
        assert_eq!(readable("éé".as_bytes(), 3), "é");
    }
}
