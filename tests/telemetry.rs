//! Logs of a whole process: set up once, written to stderr, flushed at the end.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use switchyard::config::telemetry::{LogForm, TelemetrySettings};
use switchyard::telemetry::setup::{SetupError, install};
use switchyard::telemetry::spans::{Target, Transport, request_span};

/// Tells the test below that it is the process under test.
const COLLECTOR: &str = "SWITCHYARD_TEST_COLLECTOR";

#[test]
fn a_process_logs_json_to_stderr_and_ends_in_time_beside_a_dead_collector() {
    if let Ok(collector) = std::env::var(COLLECTOR) {
        return process_under_test(collector);
    }
    // Bound and never accepting.
    let dead = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let begin = tokio::time::Instant::now();
    let text = stderr_of_myself(&format!("http://{}", dead.local_addr().expect("bound")));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());

    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let messages: Vec<_> = lines.iter().filter_map(|line| line["fields"]["message"].as_str()).collect();
    assert_eq!(
        messages.iter().filter(|message| message.starts_with("line ")).count(),
        1000,
        "every line arrives"
    );
    assert!(messages.contains(&"debug, because RUST_LOG wins"), "{messages:?}");
    assert!(messages.contains(&"spans were not exported"), "{messages:?}");
}

fn process_under_test(collector: String) {
    let settings = TelemetrySettings {
        otlp: Some(collector),
        logs: LogForm::Json,
        level: "error".to_owned(),
        sample: 1.0,
    };
    let guard = install(&settings).expect("the first time");
    assert!(matches!(install(&settings), Err(SetupError::Again(_))));
    for number in 0..1000 {
        tracing::info!("line {number}");
    }
    tracing::debug!("debug, because RUST_LOG wins");
    drop(request_span("tools/list", Target::None, "2025-11-25", Transport::Http));
    drop(guard);
}

/// Runs this test once more in a process of its own; its stderr.
#[expect(clippy::disallowed_methods, reason = "a test that looks at a whole process waits for it")]
fn stderr_of_myself(collector: &str) -> String {
    let mut child = std::process::Command::new(std::env::current_exe().expect("a test has a binary"))
        .args([
            "--exact",
            "a_process_logs_json_to_stderr_and_ends_in_time_beside_a_dead_collector",
            "--nocapture",
        ])
        .env(COLLECTOR, collector)
        .env("RUST_LOG", "debug")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test starts again");
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("it ends").success(), "{text}");
    text
}
