//! From settings to working logs and traces, and their orderly end.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanProcessor,
};
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::collector::{CollectorClient, CountedBatches, CountedExporter, EXPORT_DEADLINE, SpanCount};
use super::log_queue::LogQueue;
use super::spans::TARGET;
use crate::config::telemetry::{LogForm, TelemetrySettings};

/// Why logs and traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `RUST_LOG` or `telemetry.level` is no filter.
    #[error("the log filter cannot be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter could not be built.
    #[error("traces cannot be exported")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A thread or the certificates are missing.
    #[error("logs or traces lack something of the machine")]
    Machine(#[from] io::Error),
    /// The process has a subscriber already.
    #[error("logs and traces are set up already")]
    Again(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Spans waiting for export, at most; further ones are dropped.
const SPAN_QUEUE: usize = 8192;
/// Longest wait of a span for its batch.
const BATCH_DELAY: Duration = Duration::from_secs(2);
/// Longest wait for the collector at the end.
const LAST_EXPORT: Duration = Duration::from_secs(3);
/// Longest wait for stderr at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Keeps logs and traces flowing; dropped last, it sends what is still queued, within bounds.
#[derive(Debug)]
pub struct TelemetryGuard {
    log: LogQueue,
    traces: Option<(SdkTracerProvider, Arc<SpanCount>)>,
}

impl TelemetryGuard {
    /// Spans that could not be exported so far.
    pub fn dropped_spans(&self) -> u64 {
        self.traces.as_ref().map_or(0, |(_, count)| count.dropped(false))
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some((provider, count)) = &self.traces {
            if let Err(error) = provider.shutdown_with_timeout(LAST_EXPORT) {
                tracing::warn!(%error, "the last spans were not exported in time");
            }
            let dropped = count.dropped(true);
            if dropped > 0 {
                tracing::warn!(dropped, "spans were not exported");
            }
        }
        self.log.flush(LAST_LINES);
    }
}

/// Sets up logs and traces for the whole process, once.
pub fn install(settings: &TelemetrySettings) -> Result<TelemetryGuard, SetupError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.trim().is_empty() => wanted,
        _ => settings.level.clone(),
    };
    let tell_dropped = match settings.logs {
        LogForm::Text => |count| format!("WARN {count} log lines were dropped: stderr is too slow"),
        LogForm::Json => |count| {
            format!(
                r#"{{"level":"WARN","message":"log lines were dropped: stderr is too slow","count":{count}}}"#
            )
        },
    };
    let log = LogQueue::start(io::stderr(), tell_dropped)?;
    let traces = match &settings.otlp {
        Some(base) => Some(exporting(base, settings.sample)?),
        None => None,
    };
    let tracer = traces.as_ref().map(|(provider, _)| provider.tracer("switchyard"));
    let form = LineForm { form: settings.logs, colour: io::stderr().is_terminal() };
    tracing::subscriber::set_global_default(subscriber(&filter, form, log.clone(), tracer)?)?;
    Ok(TelemetryGuard { log, traces })
}

/// How log lines look.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineForm {
    pub(super) form: LogForm,
    pub(super) colour: bool,
}

/// Logs to `writer`, and the gateway's own spans to `tracer`.
pub(super) fn subscriber<W>(
    filter: &str,
    line: LineForm,
    writer: W,
    tracer: Option<SdkTracer>,
) -> Result<impl Subscriber + Send + Sync + use<W>, SetupError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(line.colour && line.form == LogForm::Text);
    let lines = match line.form {
        LogForm::Text => lines.boxed(),
        LogForm::Json => lines.json().with_span_list(false).boxed(),
    };
    Ok(Registry::default().with(tracer.map(trace_layer)).with(lines.with_filter(filter)))
}

/// Spans of `spans` and nothing else: neither events nor what libraries trace can bring a secret into a trace.
fn trace_layer<S>(tracer: SdkTracer) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(tracing_subscriber::filter::FilterExt::and(
            Targets::new().with_target(TARGET, Level::DEBUG),
            tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span()),
        ))
}

/// Traces to the collector at `base`.
pub(super) fn exporting(base: &str, sample: f64) -> Result<(SdkTracerProvider, Arc<SpanCount>), SetupError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(CollectorClient::new(base.starts_with("https:"))?)
        .with_endpoint(format!("{base}/v1/traces"))
        .with_timeout(EXPORT_DEADLINE)
        // What one export fails to send is dropped: waiting would only make the queue overflow instead.
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    let count = Arc::new(SpanCount::default());
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(SPAN_QUEUE)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let exporter = CountedExporter::new(exporter, count.clone());
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let provider = provider(CountedBatches { batches, count: count.clone() }, sample);
    Ok((provider, count))
}

/// A provider that follows the caller's decision to record a trace, and decides itself where there is none.
pub(super) fn provider(processor: impl SpanProcessor + 'static, sample: f64) -> SdkTracerProvider {
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
        .with_resource(Resource::builder().with_service_name("switchyard").with_attribute(version).build())
        .build()
}
