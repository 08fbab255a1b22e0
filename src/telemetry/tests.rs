//! Traces and logs as a collector and an operator see them.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor, SpanData, SpanExporter,
};
use tracing::Span;

use super::collector::{CountedExporter, SpanCount};
use super::setup::{LineForm, exporting, provider, subscriber};
use super::spans::{
    Ending, Peer, Target, Transport, outgoing, record_ending, record_session, record_target, request_span,
    set_parent, upstream_span,
};
use super::trace_context::TraceContext;
use crate::config::telemetry::LogForm;
use crate::names::SessionId;

const CLIENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const REVISION: &str = "2025-11-25";

/// Where a test's log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no test panics while logging").clone())
            .expect("lines are text")
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics while logging").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One gateway's telemetry with a collector in memory.
struct Observed {
    provider: SdkTracerProvider,
    spans: InMemorySpanExporter,
    lines: Lines,
}

impl Observed {
    fn new(sample: f64) -> Self {
        let spans = InMemorySpanExporter::default();
        let provider = provider(SimpleSpanProcessor::new(spans.clone()), sample);
        Observed { provider, spans, lines: Lines::default() }
    }

    /// Runs a story with this telemetry.
    fn during<T>(&self, filter: &str, form: LogForm, story: impl FnOnce() -> T) -> T {
        with_subscriber(filter, form, &self.lines, Some(&self.provider), story)
    }

    fn finished(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().expect("an exporter in memory")
    }

    fn span(&self, kind: &SpanKind) -> SpanData {
        self.finished().into_iter().find(|span| span.span_kind == *kind).expect("such a span")
    }
}

fn with_subscriber<T>(
    filter: &str,
    form: LogForm,
    lines: &Lines,
    provider: Option<&SdkTracerProvider>,
    story: impl FnOnce() -> T,
) -> T {
    let lines = lines.clone();
    let tracer = provider.map(|provider| provider.tracer("test"));
    let line = LineForm { form, colour: false };
    let subscriber = subscriber(filter, line, move || lines.clone(), tracer).expect("a good filter");
    tracing::subscriber::with_default(subscriber, story)
}

fn from_client(traceparent: &str) -> TraceContext {
    TraceContext::parse(Some(traceparent), Some("vendor=1"), Some("tenant=acme"))
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.to_string())
}

fn http_peer() -> Peer<'static> {
    Peer { upstream: "github", transport: Transport::Http, address: Some(("mcp.example.com", 443)) }
}

/// One call through a gateway: what the upstream was told.
fn one_call(incoming: &TraceContext, ending: Ending) -> TraceContext {
    let request = request_span("tools/call", Target::None, REVISION, Transport::Http);
    set_parent(&request, incoming);
    record_session(&request, SessionId(0xdead_beef_u128 << 96));
    record_target(&request, "tools/call", Target::Tool("github__search"));
    let upstream =
        upstream_span(&request, "tools/call", Target::Tool("github__search"), REVISION, http_peer());
    let told = outgoing(&upstream, incoming);
    record_ending(&upstream, ending);
    record_ending(&request, ending);
    told
}

#[test]
fn s_ext_01_a_trace_continues_through_two_gateways() {
    let (near, far) = (Observed::new(1.0), Observed::new(1.0));
    let incoming = from_client(CLIENT);
    let between = near.during("off", LogForm::Text, || one_call(&incoming, Ending::Result));
    let told = far.during("off", LogForm::Text, || one_call(&between, Ending::Result));

    let chain = [
        near.span(&SpanKind::Server),
        near.span(&SpanKind::Client),
        far.span(&SpanKind::Server),
        far.span(&SpanKind::Client),
    ];
    let trace = chain[0].span_context.trace_id();
    assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(chain[0].parent_span_id.to_string(), "b7ad6b7169203331");
    for pair in chain.windows(2) {
        assert_eq!(pair[1].span_context.trace_id(), trace);
        assert_eq!(
            pair[1].parent_span_id,
            pair[0].span_context.span_id(),
            "{} below {}",
            pair[1].name,
            pair[0].name
        );
    }
    assert_eq!(
        told.parent.map(|parent| parent.to_string()),
        Some(format!("00-{trace}-{}-01", chain[3].span_context.span_id()))
    );
    assert_eq!((told.state.as_deref(), told.baggage.as_deref()), (Some("vendor=1"), Some("tenant=acme")));
}

#[test]
fn spans_follow_the_conventions_for_mcp() {
    let observed = Observed::new(1.0);
    observed.during("off", LogForm::Text, || one_call(&TraceContext::default(), Ending::ToolError));
    let (request, upstream) = (observed.span(&SpanKind::Server), observed.span(&SpanKind::Client));
    for span in [&request, &upstream] {
        assert_eq!(span.name, "tools/call github__search");
        let has = |key: &str, value: &str| assert_eq!(attribute(span, key).as_deref(), Some(value), "{key}");
        has("mcp.method.name", "tools/call");
        has("mcp.protocol.version", REVISION);
        has("gen_ai.tool.name", "github__search");
        has("gen_ai.operation.name", "execute_tool");
        has("network.transport", "tcp");
        has("error.type", "tool_error");
        assert_eq!(span.status, Status::error(""));
        assert_eq!(attribute(span, "gen_ai.prompt.name"), None);
        assert!(!span.attributes.iter().any(|pair| pair.key.as_str().starts_with("otel.")));
    }
    assert_eq!(attribute(&request, "mcp.session.id").as_deref(), Some("session-deadbeef"));
    assert_eq!(attribute(&upstream, "switchyard.upstream.name").as_deref(), Some("github"));
    assert_eq!(attribute(&upstream, "server.address").as_deref(), Some("mcp.example.com"));
    assert_eq!(attribute(&upstream, "server.port").as_deref(), Some("443"));
}

#[test]
fn endings_are_told_from_a_small_set() {
    for (ending, error, code) in [
        (Ending::Result, None, None),
        (Ending::RpcError(-32602), Some("-32602"), Some("-32602")),
        (Ending::Failure("upstream_timeout"), Some("upstream_timeout"), None),
    ] {
        let observed = Observed::new(1.0);
        observed.during("off", LogForm::Text, || one_call(&TraceContext::default(), ending));
        let span = observed.span(&SpanKind::Server);
        assert_eq!(attribute(&span, "error.type").as_deref(), error);
        assert_eq!(attribute(&span, "rpc.response.status_code").as_deref(), code);
        assert_eq!(span.status, if error.is_some() { Status::error("") } else { Status::Unset });
    }
}

#[test]
fn inventions_of_a_client_are_folded() {
    let observed = Observed::new(1.0);
    observed.during("off", LogForm::Text, || {
        drop(request_span("made/up\u{1b}[31m", Target::None, REVISION, Transport::Stdio));
        drop(request_span("tools/call", Target::UnknownTool, REVISION, Transport::Stdio));
        drop(request_span("prompts/get", Target::UnknownPrompt, REVISION, Transport::Stdio));
    });
    let names: Vec<_> = observed.finished().into_iter().map(|span| span.name.into_owned()).collect();
    assert_eq!(names, ["_OTHER", "tools/call _OTHER", "prompts/get _OTHER"]);
    assert!(
        observed
            .finished()
            .iter()
            .all(|span| attribute(span, "network.transport").as_deref() == Some("pipe"))
    );
}

#[test]
fn without_an_exporter_the_clients_context_is_passed_on_unchanged() {
    let incoming = from_client(CLIENT);
    for filter in ["info", "debug", "off"] {
        let told = with_subscriber(filter, LogForm::Text, &Lines::default(), None, || {
            one_call(&incoming, Ending::Result)
        });
        assert_eq!(told, incoming, "{filter}");
        let none = TraceContext::default();
        let told = with_subscriber(filter, LogForm::Text, &Lines::default(), None, || {
            one_call(&none, Ending::Result)
        });
        assert_eq!(told, none, "nothing is invented: {filter}");
    }
}

#[test]
fn the_clients_decision_to_record_goes_before_the_share() {
    let unsampled = CLIENT.replace("-01", "-00");
    for (parent, sample, recorded) in
        [(Some(CLIENT), 0.0, 2), (Some(unsampled.as_str()), 1.0, 0), (None, 0.0, 0), (None, 1.0, 2)]
    {
        let observed = Observed::new(sample);
        let incoming = TraceContext::parse(parent, None, None);
        let told = observed.during("off", LogForm::Text, || one_call(&incoming, Ending::Result));
        assert_eq!(observed.finished().len(), recorded, "{parent:?} {sample}");
        let told = told.parent.expect("with an exporter there is always a parent");
        assert_eq!(told.sampled(), recorded > 0, "the next peer hears the decision");
        assert!(incoming.parent.is_none_or(|theirs| theirs.trace_id == told.trace_id));
    }
}

#[test]
fn json_lines_are_json_and_name_the_request() {
    let observed = Observed::new(1.0);
    observed.during("debug", LogForm::Json, || {
        let request = request_span("tools/call", Target::Tool("time__now"), REVISION, Transport::Http);
        request.in_scope(|| tracing::warn!(upstream = "time", "slow \"answer\"\nfrom upstream"));
    });
    let text = observed.lines.text();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let [line] = lines.as_slice() else { panic!("one line: {text}") };
    assert_eq!((&line["level"], &line["fields"]["upstream"]), (&"WARN".into(), &"time".into()));
    assert_eq!(line["fields"]["message"], "slow \"answer\"\nfrom upstream");
    assert_eq!(line["span"]["gen_ai.tool.name"], "time__now");
}

#[test]
fn text_lines_have_no_colours_where_nobody_looks() {
    let observed = Observed::new(1.0);
    observed.during("info", LogForm::Text, || tracing::info!(port = 8080, "serving"));
    let text = observed.lines.text();
    assert!(text.contains("serving") && text.contains("port=8080") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn events_and_foreign_spans_are_never_exported() {
    let observed = Observed::new(1.0);
    observed.during("off", LogForm::Text, || {
        let request = request_span("tools/call", Target::Tool("a__b"), REVISION, Transport::Http);
        request.in_scope(|| {
            tracing::error!(password = "hunter2", "an event with what must not leave");
            tracing::info_span!("library", authorization = "hunter2").in_scope(|| ());
        });
    });
    let [span] = observed.finished().try_into().expect("the request's span alone");
    assert!(!format!("{span:?}").contains("hunter2"), "{span:?}");
}

/// A collector that takes one connection; gives back what it got, once `answer` has been sent.
fn collector(answer: &'static [u8]) -> (String, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the exporter connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut got = Vec::new();
        let mut part = [0; 4096];
        while !is_whole(&got) {
            let count = stream.read(&mut part).expect("the exporter sends");
            got.extend_from_slice(&part[..count]);
        }
        stream.write_all(answer).expect("the exporter listens");
        got
    });
    (base, server)
}

/// Whether a request has all the bytes that its head announces.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body_start = request.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    length.is_some_and(|length| request.len() >= body_start + length)
}

#[test]
fn spans_reach_a_collector_over_http() {
    let (base, server) = collector(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let (provider, count) = exporting(&base, 1.0).expect("an exporter");
    with_subscriber("off", LogForm::Text, &Lines::default(), Some(&provider), || {
        one_call(&TraceContext::default(), Ending::Result)
    });
    provider.shutdown_with_timeout(Duration::from_secs(10)).expect("in time");
    let got = String::from_utf8_lossy(&server.join().expect("no panic")).into_owned();
    assert!(got.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{got}");
    for wanted in ["application/x-protobuf", "switchyard", "tools/call github__search"] {
        assert!(got.contains(wanted), "{wanted} in {got}");
    }
    assert_eq!(count.dropped(true), 0);
}

#[test]
fn a_dead_collector_costs_spans_and_nothing_else() {
    // Bound and not accepting: connections succeed and are never answered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let (provider, count) = exporting(&base, 1.0).expect("an exporter");
    let calls: u64 = 20_000;
    with_subscriber("off", LogForm::Text, &Lines::default(), Some(&provider), || {
        for _ in 0..calls {
            one_call(&TraceContext::default(), Ending::Result);
        }
    });
    // Gives up at its bound, although the export in flight has a longer deadline.
    assert!(provider.shutdown_with_timeout(Duration::from_millis(200)).is_err());
    assert_eq!(count.dropped(true), 2 * calls);
}

#[test]
fn what_a_collector_refuses_is_counted() {
    let (base, server) = collector(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let (provider, count) = exporting(&base, 1.0).expect("an exporter");
    with_subscriber("off", LogForm::Text, &Lines::default(), Some(&provider), || {
        one_call(&TraceContext::default(), Ending::Result)
    });
    assert!(provider.force_flush().is_err());
    server.join().expect("no panic");
    assert_eq!((count.dropped(false), count.dropped(true)), (2, 2));
    _ = provider.shutdown_with_timeout(Duration::from_secs(10));
}

/// Takes spans or not, as it is told.
#[derive(Debug, Default)]
struct Moody(AtomicBool);

impl SpanExporter for Moody {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        if self.0.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(OTelSdkError::InternalFailure("away".to_owned()))
        }
    }
}

#[test]
fn an_outage_is_logged_once_and_so_is_its_end() {
    let lines = Lines::default();
    let exporter = CountedExporter::new(Moody::default(), Arc::new(SpanCount::default()));
    let export = || _ = exporter.export(Vec::new()).now_or_never().expect("it never waits");
    with_subscriber("info", LogForm::Text, &lines, None, || {
        for takes in [false, false, false, true, true] {
            exporter.exporter.0.store(takes, Ordering::Relaxed);
            export();
        }
    });
    let text = lines.text();
    let told: Vec<_> = text.lines().collect();
    assert!(told.len() == 2 && told[0].contains("takes no spans") && told[1].contains("again"), "{told:?}");
}

/// Not a check but a figure: `cargo test --release --lib cost_of_a_span -- --ignored --nocapture`.
#[test]
#[ignore = "prints times for a person to judge"]
fn cost_of_a_span() {
    let round = |name: &str| {
        let begin = tokio::time::Instant::now();
        let count: u32 = 200_000;
        for _ in 0..count {
            let request =
                request_span("tools/call", Target::Tool("github__search"), REVISION, Transport::Http);
            let upstream =
                upstream_span(&request, "tools/call", Target::Tool("search"), REVISION, http_peer());
            std::hint::black_box(outgoing(&upstream, &TraceContext::default()));
            record_ending(&upstream, Ending::Result);
        }
        println!("{name}: {:?} for the two spans of a call", begin.elapsed() / count);
    };
    let quiet = Lines::default();
    with_subscriber("info", LogForm::Text, &quiet, None, || round("log filter info, no exporter"));
    with_subscriber("info,switchyard::span=debug", LogForm::Text, &quiet, None, || {
        round("log filter debug, no exporter")
    });
    for sample in [0.0, 0.01, 1.0] {
        let (provider, _) = exporting("http://127.0.0.1:9", sample).expect("an exporter");
        with_subscriber("info", LogForm::Text, &quiet, Some(&provider), || {
            round(&format!("exporter, share {sample}"))
        });
        _ = provider.shutdown_with_timeout(Duration::from_millis(200));
    }
    assert!(Span::none().is_disabled());
}
