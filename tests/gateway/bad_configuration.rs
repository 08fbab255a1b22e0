//! Configurations that cannot be served, and servers in them that cannot work.

use std::time::Duration;

use serde_json::json;

use crate::support::gateway::{Plan, refused};
use crate::support::{HANDSHAKE, STATELESS, Transport, eventually, gateway, http_upstream, upstream, within};

const QUICK: &str =
    "bounds: { backoff_first: 100ms, backoff_longest: 500ms, start_deadline: 2s, probe_deadline: 500ms }";

#[tokio::test]
async fn a_bad_configuration_is_told_whole_with_places_and_suggestions() {
    let file = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nserverz: {}\nservers:\n  one:\n    urk: http://x/\n  two: { command: a, url: \"http://127.0.0.1:1/\" }\n";
    let ended = refused(file).await;
    assert!(!ended.status.success(), "{ended:?}");
    assert!(!ended.stdout.contains("endpoint "), "it never served: {ended:?}");
    let said = &ended.stderr;
    assert!(
        said.contains('3') && said.contains("serverz") && said.contains("servers"),
        "place and suggestion: {said}"
    );
    assert!(said.contains("urk") && said.contains("url"), "every problem at once: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for (broken, word) in [
        ("servers: [", ""),
        ("", ""),
        ("servers: { one: { url: \"ftp://127.0.0.1/\" } }", "url"),
        ("servers: { one: { command: \"\" } }", "command"),
        ("servers: { one: { url: \"http://127.0.0.1:1/\", protocol: 1999-01-01 } }", "protocol"),
        ("servers: { one: { url: \"http://127.0.0.1:1/\", timeout: fast } }", "timeout"),
        ("servers: { one: { url: \"http://127.0.0.1:1/\", headers: { Mcp-Name: x } } }", ""),
        ("servers: { one: { url: \"http://u:p@127.0.0.1:1/\" } }", "url"),
        (
            "servers: { one: { command: x, env: { A: \"${env:SURELY_NOT_SET_ANYWHERE}\" } } }",
            "SURELY_NOT_SET_ANYWHERE",
        ),
        ("bounds: { sessions: -1 }", "sessions"),
        ("listen: nowhere", "listen"),
        ("servers: { \"bad name!\": { command: x } }", "bad name!"),
        ("profiles: { p: { servers: [unknown] } }", "unknown"),
    ] {
        let text = if broken.contains("listen") {
            broken.to_owned()
        } else {
            format!("listen: 127.0.0.1:0\nadmin: off\n{broken}\n")
        };
        if broken.is_empty() {
            continue;
        }
        let ended = refused(&text).await;
        assert!(!ended.status.success(), "{broken}: {ended:?}");
        assert!(
            ended.stderr.contains(word) && !ended.stderr.contains("panicked"),
            "{broken}: {}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn a_missing_configuration_file_is_told_so() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
    command.args(["serve", "-c", "/nonexistent/gateway.yaml"]).kill_on_drop(true);
    let output =
        within(Duration::from_secs(20), "a refusal", command.output()).await.expect("the binary runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/gateway.yaml"));
}

/// A server that cannot work beside one that does: calls to nobody's tools fail clearly, the others are served.
async fn is_named_in_the_log(plan: Plan, words: &[&str]) {
    let good = http_upstream("good").start().await;
    let gateway = plan.with("good", &good).config(QUICK).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["good__echo"]).await;
        assert_eq!(client.call("good__echo", json!({})).await.text(), "good echoes {}");
        client.call("bad__echo", json!({})).await.expect_failure("upstream_unavailable", "not_sent");
    }
    eventually("the reason in log or status", || async {
        let log = gateway.stderr();
        let status = gateway.admin_get("/api/v1/servers").await.body;
        words.iter().all(|word| log.contains(word) || status.contains(word)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn f22_a_missing_command_is_named_and_others_work() {
    is_named_in_the_log(
        gateway().with_stdio("bad", "/nonexistent/program", &[]),
        &["bad", "/nonexistent/program"],
    )
    .await;
    is_named_in_the_log(
        gateway().with_stdio("bad", "surely-no-such-command", &["x"]),
        &["surely-no-such-command"],
    )
    .await;
}

#[tokio::test]
async fn f05_refused_unresolved_and_untrusted_upstreams_are_named_and_others_work() {
    let closed = http_upstream("closed").reserve();
    is_named_in_the_log(gateway().with_server("bad", closed.settings()), &["bad"]).await;
    is_named_in_the_log(gateway().with_http("bad", "http://surely-not-a-host.invalid/mcp"), &["bad"]).await;
    // A TLS client meets a server that speaks none.
    let plain = http_upstream("plain").lenient().start().await;
    is_named_in_the_log(gateway().with_http("bad", &format!("https://{}/mcp", plain.address())), &["bad"])
        .await;
}

#[tokio::test]
async fn an_upstream_of_neither_era_is_named_and_others_work() {
    let html = upstream("bad", HANDSHAKE, Transport::Http)
        .lenient()
        .on("*", |mut call| async move {
            call.http(200, &[("Content-Type", "text/html")], b"<html>It works!</html>").await;
        })
        .start()
        .await;
    is_named_in_the_log(gateway().with("bad", &html), &["bad"]).await;
    let missing = upstream("bad", HANDSHAKE, Transport::Http)
        .lenient()
        .on("*", |mut call| async move { call.http(404, &[], b"not here").await })
        .on("GET", |mut call| async move { call.http(404, &[], b"not here").await })
        .start()
        .await;
    is_named_in_the_log(gateway().with("bad", &missing), &["bad"]).await;
    let mute = upstream("bad", HANDSHAKE, Transport::Stdio)
        .lenient()
        .on("*", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    is_named_in_the_log(gateway().with("bad", &mute), &["bad"]).await;
}
