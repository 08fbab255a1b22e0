//! `telemetry`: where logs and traces go.

use super::address::http_url;
use super::check::Check;
use super::section::{choice, nearest, section};
use super::written::{At, Key, Text, given};

const DEFAULT_LEVEL: &str = "info,actix_server=warn";
const DEFAULT_SAMPLE: f64 = 1.0;

/// Checked: logs on stderr, traces to a collector.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// OTLP/HTTP base address, for example `http://127.0.0.1:4318`; `None` exports nothing.
    pub otlp: Option<String>,
    /// Form of the log lines.
    pub logs: LogForm,
    /// Filter in the `RUST_LOG` syntax; `RUST_LOG` itself wins.
    pub level: String,
    /// Share of traces recorded when the caller did not decide, 0 to 1.
    pub sample: f64,
}

/// Form of the log lines on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        TelemetrySettings {
            otlp: None,
            logs: LogForm::Text,
            level: DEFAULT_LEVEL.to_owned(),
            sample: DEFAULT_SAMPLE,
        }
    }
}

section! {
    /// Where logs and traces go.
    struct WrittenTelemetry {
        /// OTLP/HTTP base address of a collector, such as `http://127.0.0.1:4318`; without it nothing is exported.
        "otlp" otlp: Text,
        /// Form of the log lines on stderr.
        #[schemars(extend("default" = "text"))]
        "logs" logs: WrittenLogForm,
        /// Which log lines are written, in the `RUST_LOG` syntax; the variable `RUST_LOG` wins.
        #[schemars(extend("default" = DEFAULT_LEVEL))]
        "level" level: Text,
        /// Share of traces recorded when the caller did not decide, 0 to 1.
        #[schemars(extend("default" = DEFAULT_SAMPLE))]
        "sample" sample: f64,
    }
    not served: "audit";
}

choice! {
    /// `logs`.
    struct WrittenLogForm(LogForm) {
        "text" => LogForm::Text,
        "json" => LogForm::Json,
    }
}

impl TelemetrySettings {
    /// Checks the section.
    pub(super) fn check(written: &Key<WrittenTelemetry>, check: &mut Check<'_>) -> Self {
        let mut telemetry = TelemetrySettings::default();
        let Some(written) = given(written).map(|written| &written.value) else { return telemetry };
        if let Some(otlp) = given(&written.otlp) {
            telemetry.otlp = collector(otlp, check);
        }
        if let Some(logs) = given(&written.logs) {
            telemetry.logs = logs.value.0;
        }
        if let Some(level) = given(&written.level) {
            telemetry.level = filter(level, check).unwrap_or(telemetry.level);
        }
        if let Some(sample) = given(&written.sample) {
            telemetry.sample = sample.value;
            if !(0.0..=1.0).contains(&sample.value) {
                check.bad::<()>(&sample.place, "expected a share from 0 (none) to 1 (all)");
            }
        }
        telemetry
    }
}

fn collector(written: &At<Text>, check: &mut Check<'_>) -> Option<String> {
    let text = check.resolve(written)?;
    match http_url(&text) {
        Ok(url) if url.query().is_some() => {
            check.bad(&written.place, "a collector's base address has no query (`?…`)")
        }
        Ok(_) => Some(text.trim_end_matches('/').to_owned()),
        Err(reason) => check.bad(&written.place, reason),
    }
}

/// A filter that means what it seems to: a bare word is a level, as a misspelt one would silently become a target.
fn filter(written: &At<Text>, check: &mut Check<'_>) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = check.resolve(written)?;
    for directive in text.split(',').map(str::trim) {
        let is_level = LEVELS.contains(&directive.to_ascii_lowercase().as_str());
        if is_level || directive.contains(['=', '[', ':']) {
            continue;
        }
        let meant = nearest(directive, LEVELS.into_iter()).map(|level| format!("; did you mean `{level}`?"));
        let expected =
            format!("expected {}, or `target=level`", LEVELS.map(|level| format!("`{level}`")).join(", "));
        return check.bad(&written.place, expected + &meant.unwrap_or_default());
    }
    match tracing_subscriber::EnvFilter::builder().parse(&text) {
        Ok(_) => Some(text),
        Err(error) => check.bad(&written.place, format!("not a log filter: {error}")),
    }
}
