//! The commands that look at a configuration: what they print, and the exit code they end with.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::command_line::Directory;
use crate::support::{
    HANDSHAKE, STATELESS, eventually, gateway, http_upstream, patiently, stateless_upstream,
};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml");

#[tokio::test]
async fn check_tells_by_its_exit_code_what_a_configuration_is_worth() {
    let directory = Directory::new().await;
    directory.write("good.yaml", "servers: { one: { url: \"http://127.0.0.1:1/mcp\" } }").await;
    directory.write("bad.yaml", "serverz: {}\nlisten: 0.0.0.0:80\nservers: { one: { urk: x } }").await;
    let mcp_json = json!({ "mcpServers": { "time": { "command": "uvx", "args": ["mcp-server-time"] } } });
    directory.write("mcp.json", &mcp_json.to_string()).await;

    let good = directory.run(&["check", "-c", "good.yaml"]).await;
    assert_eq!((good.code(), good.stderr.as_str()), (0, ""));
    assert!(good.stdout.contains("good.yaml") && good.stdout.contains("ok"), "{}", good.stdout);
    assert_eq!(directory.run(&["check", "-c", "mcp.json"]).await.code(), 0, "an mcp.json as it is");
    assert_eq!(directory.run(&["check", "-c", CONFIGURATION]).await.code(), 0, "the shipped one");

    let bad = directory.run(&["check", "-c", "bad.yaml"]).await;
    assert_eq!((bad.code(), bad.stdout.as_str()), (1, ""));
    for (place, words) in
        [("bad.yaml:1:1", "`servers`"), ("bad.yaml:2:9", "loopback"), ("bad.yaml:3:19", "`url`")]
    {
        let told = bad.stderr.lines().any(|line| line.starts_with(place) && line.contains(words));
        assert!(told, "{place} {words} in {}", bad.stderr);
    }
    let as_json = directory.run(&["check", "-c", "bad.yaml", "--json"]).await;
    assert_eq!((as_json.code(), as_json.stderr.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&as_json.stdout).expect("nothing but JSON");
    let lines: Vec<&Value> =
        report["problems"].as_array().expect("a list").iter().map(|problem| &problem["line"]).collect();
    assert!(
        lines.contains(&&json!(1)) && lines.contains(&&json!(2)) && lines.contains(&&json!(3)),
        "{report}"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_exits_with_2() {
    let directory = Directory::new().await;
    for arguments in [
        &["check", "-c", "/nonexistent/gateway.yaml"][..],
        &["serve", "-c", "/nonexistent/gateway.yaml"],
        &["check"],
        &["serve"],
        &[],
    ] {
        let ended = directory.run(arguments).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{arguments:?}");
        let file = if arguments.len() > 1 { "/nonexistent/gateway.yaml" } else { "gateway.yaml" };
        assert!(ended.stderr.contains(file), "{arguments:?} names the file: {}", ended.stderr);
    }
    directory.write("broken.yaml", "servers: [").await;
    for verb in ["check", "serve"] {
        let ended = directory.run(&[verb, "-c", "broken.yaml"]).await;
        assert_eq!(ended.code(), 2, "no YAML is unusable, not merely wrong");
        assert!(ended.stderr.starts_with("broken.yaml:1:"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn check_probe_says_which_servers_are_there_and_leaves_nothing_running() {
    let directory = Directory::new().await;
    let old = http_upstream("old").start().await;
    let new = stateless_upstream("new").start().await;
    let nobody = http_upstream("nobody").reserve();
    let demo = json!({ "command": "${exe}", "args": ["demo-server"], "cwd": directory.0 });
    let all = gateway().with("old", &old).with("new", &new).with_server("demo", demo);
    directory.write("all.yaml", &all.file()).await;
    directory.write("one-missing.yaml", &all.with_server("gone", nobody.settings()).file()).await;

    let well = directory.run(&["check", "--probe", "-c", "all.yaml"]).await;
    assert_eq!(well.code(), 0);
    let row = |name: &str| well.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("old").contains("handshake") && row("old").contains(HANDSHAKE), "{}", well.stdout);
    assert!(row("new").contains("stateless") && row("new").contains(STATELESS), "{}", well.stdout);
    assert!(row("demo").contains("ok"), "{}", well.stdout);
    eventually("the probed child to be gone", || async {
        runs_in(&directory.0).await.is_none().then_some(())
    })
    .await;
    assert!(old.received("tools/call").is_empty() && new.received("tools/call").is_empty());
    assert!(old.sessions().is_empty(), "the session of the probe was ended (S-HTTPC-05)");

    let poor = directory.run(&["check", "--probe", "--json", "-c", "one-missing.yaml"]).await;
    assert_eq!(poor.code(), 1, "a server that is not there is a problem");
    let report: Value = serde_json::from_str(&poor.stdout).expect("nothing but JSON");
    let reached: Vec<(&Value, &Value)> = report["servers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|server| (&server["server"], &server["reached"]))
        .collect();
    let expected = [("old", true), ("new", true), ("demo", true), ("gone", false)];
    assert_eq!(json!(reached), json!(expected));
    assert!(report["servers"][3]["problem"].as_str().is_some_and(|why| why.contains("refused")), "{report}");
}

/// A process whose working directory is `directory`.
async fn runs_in(directory: &Path) -> Option<PathBuf> {
    let mut entries = tokio::fs::read_dir("/proc").await.expect("Linux has it");
    while let Ok(Some(entry)) = entries.next_entry().await {
        if tokio::fs::read_link(entry.path().join("cwd")).await.is_ok_and(|cwd| cwd == directory) {
            return Some(entry.path());
        }
    }
    None
}

#[tokio::test]
async fn schema_accepts_what_is_shipped_and_refuses_what_is_misspelt() {
    let directory = Directory::new().await;
    let printed = directory.run(&["schema"]).await;
    assert_eq!((printed.code(), printed.stderr.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&printed.stdout).expect("nothing but JSON");
    let schema = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let shipped = tokio::fs::read_to_string(CONFIGURATION).await.expect("it is shipped");
    let shipped: Value = serde_saphyr::from_str(&shipped).expect("it is YAML");
    assert!(schema.is_valid(&shipped), "{shipped}");
    let plain = gateway().with_stdio("a", "x", &["y"]).with_http("b", "http://127.0.0.1:1/");
    let plain: Value = serde_saphyr::from_str(&plain.file()).expect("it is YAML");
    assert!(schema.is_valid(&plain), "{plain}");
    for wrong in [
        json!({ "serverz": {} }),
        json!({ "servers": { "one": { "urk": "http://127.0.0.1:1/" } } }),
        json!({ "servers": { "one": { "url": 7 } } }),
        json!({ "bounds": { "sessions": "many" } }),
        json!({ "telemetry": { "logs": "xml" } }),
        json!([]),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
}

#[tokio::test]
async fn a_command_whose_reader_has_gone_ends_quietly() {
    let directory = Directory::new().await;
    for arguments in [&["schema"][..], &["check", "--json", "-c", CONFIGURATION], &["check", "-c", "nothing"]]
    {
        let (reader, writer) = std::io::pipe().expect("pipes are to be had");
        drop(reader);
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.args(arguments).current_dir(&directory.0).kill_on_drop(true);
        command.stderr(writer.try_clone().expect("pipes are to be had")).stdout(writer);
        let status = patiently("the command to end", command.status()).await.expect("it was built");
        let expected = if arguments.contains(&"nothing") { 2 } else { 0 };
        assert_eq!(status.code(), Some(expected), "{arguments:?}");
    }
}
