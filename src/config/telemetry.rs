//! `telemetry`: where logs and traces go.

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
