//! S-STDIO-09, S-SEC-08: what a child is given.

use std::collections::{BTreeMap, BTreeSet};

use rustix::process::Signal;
use serde_json::{Value, json};
use switchyard::config::secret::Secret;
use switchyard::upstream::stdio::{Line, ProcessSettings, start};

use crate::support::*;

const ALLOWED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ"];

async fn told(settings: ProcessSettings) -> (Value, u32) {
    let mut process = start(settings).unwrap();
    let told = serde_json::from_str(&process.text().await).unwrap();
    (told, process.control.pid())
}

#[tokio::test]
async fn s_stdio_09_only_the_allowlist_and_the_configuration_are_in_the_environment() {
    // Cargo's variables stand for the gateway's own.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let (mut settings, _) = evil(&["surroundings"]);
    settings.env.insert("TOKEN".into(), Secret::new("configured"));
    settings.env.insert("HOME".into(), Secret::new("/elsewhere"));
    let (told, _) = told(settings).await;
    let names: BTreeSet<&str> = told["environment"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ALLOWED.into_iter().filter(|name| std::env::var_os(name).is_some()).chain([
        "HOME",
        "TOKEN",
        "SWITCHYARD_DEPTH",
    ]);
    assert_eq!(names, expected.collect());
    assert_eq!(told["environment"]["TOKEN"], "configured");
    assert_eq!(told["environment"]["SWITCHYARD_DEPTH"], "1", "how many gateways stand above it");
    assert_eq!(told["environment"]["HOME"], "/elsewhere");
    assert_eq!(told["environment"]["PATH"], std::env::var("PATH").unwrap());
}

#[tokio::test]
async fn s_sec_08_a_child_has_three_files_and_no_terminal() {
    // Files of the gateway that a careless start would pass on.
    let _file = std::fs::File::open("/dev/null").unwrap();
    let _socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (settings, _) = evil(&["surroundings"]);
    let (told, pid) = told(settings).await;
    assert_eq!(told["fds"], json!([0, 1, 2]));
    assert_eq!(told["has_terminal"], false);
    assert_eq!((&told["session"], &told["group_is_own"]), (&json!(pid), &json!(true)));
}

#[tokio::test]
async fn s_sec_08_signals_mean_to_a_child_what_they_mean_to_any_program() {
    let mut process = start(settings("cat", &["/proc/self/status"])).unwrap();
    let mut status = BTreeMap::new();
    while let Some(Line::Text(line)) = soon(process.output.recv()).await {
        let line = String::from_utf8(line.to_vec()).unwrap();
        let (field, value) = line.split_once(':').unwrap();
        status.insert(field.to_owned(), value.trim().to_owned());
    }
    let mask = |field: &str| u64::from_str_radix(&status[field], 16).unwrap();
    assert_eq!(mask("SigBlk"), 0);
    // We ourselves ignore SIGPIPE and catch SIGTERM and SIGCHLD.
    for signal in [Signal::PIPE, Signal::TERM, Signal::CHILD] {
        assert_eq!(mask("SigIgn") & (1 << (signal.as_raw() - 1)), 0, "{signal:?} is ignored");
    }
}

#[tokio::test]
async fn s_sec_08_directory_arguments_and_limits_are_as_configured() {
    let directory = std::env::temp_dir().canonicalize().unwrap();
    let (mut settings, _) = evil(&["surroundings", "a b", "--", "", "--memory"]);
    settings.cwd = Some(directory.clone());
    settings.max_open_files = Some(50);
    settings.max_cpu_seconds = Some(20);
    let (told, _) = told(settings).await;
    assert_eq!(told["cwd"], directory.to_str().unwrap());
    assert_eq!(
        told["arguments"].as_array().unwrap()[..4],
        [json!("a b"), json!("--"), json!(""), json!("--memory")]
    );
    assert_eq!((&told["files"], &told["cpu"]), (&json!([50, 50]), &json!([20, 21])));
}
