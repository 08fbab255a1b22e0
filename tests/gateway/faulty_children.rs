//! stdio children that hurt (F14 to F24): only their own calls suffer, and they are usable again or clearly not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::{Plan, is_running, signal_process};
use crate::support::{Client, Gateway, HANDSHAKE, STATELESS, eventually, gateway, within};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faulty_child.py");

fn mark() -> String {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).expect("the system has randomness");
    format!("story-{:x}", u64::from_le_bytes(random))
}

fn child(mode: &str, mark: &str, more: Value) -> Value {
    let mut entry = json!({ "command": "python3", "args": [PROGRAM, mode, "--mark", mark] });
    for (key, value) in more.as_object().expect("more keys are an object") {
        entry[key] = value.clone();
    }
    entry
}

fn plan(mark: &str, more: Value) -> Plan {
    gateway()
        .with_server("bad", child("tools", mark, more))
        .with_server("good", child("tools", mark, json!({})))
}

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 1s, stdio_line: 4MiB, write_stall: 2s, stop_eof: 500ms, stop_term: 500ms }";

/// Processes whose command line holds `mark`.
async fn marked(mark: &str) -> Vec<u32> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir("/proc").await.expect("Linux has it");
    while let Ok(Some(entry)) = entries.next_entry().await {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = tokio::fs::read(format!("/proc/{pid}/cmdline")).await.unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(mark) && is_running(pid).await {
            found.push(pid);
        }
    }
    found
}

async fn none_left(mark: &str) {
    eventually("all processes of the child to be gone", || async {
        marked(mark).await.is_empty().then_some(())
    })
    .await;
}

async fn ready(gateway: &Gateway, revision: &str) -> Client {
    let client = gateway.client(revision).await;
    client.until_tools(&["bad__echo", "good__echo"]).await;
    client.call("good__echo", json!({})).await.text();
    client
}

/// The other child never noticed, and the bad one works again.
async fn recovers(client: &Client) {
    assert_eq!(client.call("good__echo", json!({ "a": 1 })).await.text(), r#"{"a": 1}"#);
    eventually("the child to be usable again", || async {
        let answer = client.call("bad__echo", json!({ "b": 2 })).await;
        (answer.json["result"]["content"][0]["text"] == r#"{"b": 2}"#).then_some(())
    })
    .await;
}

#[tokio::test]
async fn f14_a_child_that_crashes_in_a_call_fails_its_calls_at_once_and_is_usable_again() {
    let mark = mark();
    let gateway = plan(&mark, json!({})).config(QUICK).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = ready(&gateway, revision).await;
        let params =
            json!({ "name": "bad__slow", "arguments": { "seconds": 30 }, "_meta": { "progressToken": 1 } });
        let mut waiting = client.open("tools/call", params).await;
        waiting.until_method("notifications/progress").await;
        let crash =
            within(Duration::from_secs(5), "the crash to be told", client.call("bad__crash", json!({})))
                .await;
        crash.expect_failure("upstream_lost", "unknown");
        if revision == HANDSHAKE {
            // One session, one child: whatever else it was doing is lost as well.
            let lost = within(Duration::from_secs(5), "the other call to be told", waiting.answer()).await;
            lost.expect_failure("upstream_lost", "unknown");
        }
        recovers(&client).await;
    }
    drop(gateway);
    none_left(&mark).await;
}

#[tokio::test]
async fn f15_f22_a_crash_loop_backs_off_and_says_why() {
    let mark = mark();
    let begun = tokio::time::Instant::now();
    let gateway = gateway()
        .with_server("bad", child("dies", &mark, json!({})))
        .with_server("good", child("tools", &mark, json!({})))
        .config("bounds: { backoff_first: 500ms, backoff_longest: 1s }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["good__echo"]).await;
    // An attempt is at most two starts: one that was asked for its era and one that was not. Between attempts it waits
    // nothing, 0.5 s, 1 s, each a fifth less at most.
    eventually("the fourth attempt", || async {
        let log = gateway.stderr();
        let starts = log.lines().filter(|line| line.contains("process started") && line.contains("=bad"));
        (starts.count() >= 7).then_some(())
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(1_200), "it does not wait: {:?}", begun.elapsed());
    eventually("its last words in the status", || async {
        gateway.admin_get("/api/v1/servers").await.body.contains("cannot find my database").then_some(())
    })
    .await;
    assert_eq!(client.call("good__echo", json!({})).await.text(), "{}");
}

#[tokio::test]
async fn f16_what_is_no_message_is_skipped() {
    let mark = mark();
    let gateway = plan(&mark, json!({})).config(QUICK).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = ready(&gateway, revision).await;
        assert_eq!(client.call("bad__garbage", json!({})).await.text(), "after the garbage");
        assert_eq!(client.call("bad__echo", json!({})).await.text(), "{}", "the session lives");
    }
}

#[tokio::test]
async fn f17_a_line_without_end_is_cut_and_memory_stays_flat() {
    let mark = mark();
    let gateway = plan(&mark, json!({})).config(QUICK).start().await;
    let client = ready(&gateway, HANDSHAKE).await;
    let before = resident(gateway.pid()).await;
    let answer = within(
        Duration::from_secs(15),
        "the cut to be told",
        client.call("bad__huge_line", json!({ "mebibytes": 400 })),
    )
    .await;
    let reason = answer.failure()["reason"].clone();
    assert!(
        reason == "upstream_protocol_error" || reason == "result_too_large" || reason == "upstream_lost",
        "{}",
        answer.raw
    );
    let grown = resident(gateway.pid()).await.saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes");
    recovers(&client).await;
}

/// Resident memory of a process in bytes.
async fn resident(pid: u32) -> u64 {
    let status = tokio::fs::read_to_string(format!("/proc/{pid}/status")).await.expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[tokio::test]
async fn f18_a_child_that_reads_nothing_is_restarted_and_its_replies_still_count() {
    let mark = mark();
    let gateway = plan(&mark, json!({ "timeout": "10s" })).config(QUICK).start().await;
    let client = ready(&gateway, HANDSHAKE).await;
    assert_eq!(client.call("bad__deaf", json!({})).await.text(), "deaf now", "its replies are still read");
    let mut running = Vec::new();
    for _ in 0..8 {
        running.push(client.open_call("bad__echo", json!({ "filler": "x".repeat(100_000) })).await);
    }
    for exchange in running {
        let answer =
            within(Duration::from_secs(18), "a call to a deaf child to end", exchange.answer()).await;
        let reason = answer.failure()["reason"].as_str().unwrap_or_default().to_owned();
        assert!(
            matches!(
                reason.as_str(),
                "upstream_lost" | "upstream_timeout" | "overloaded" | "upstream_unavailable"
            ),
            "{}",
            answer.raw
        );
    }
    recovers(&client).await;
}

#[tokio::test]
async fn f19_a_flood_on_stderr_blocks_nobody() {
    let mark = mark();
    let gateway = plan(&mark, json!({})).config(QUICK).start().await;
    let client = ready(&gateway, STATELESS).await;
    let flooding = client.open_call("bad__flood_stderr", json!({ "mebibytes": 30 })).await;
    for n in 0..5 {
        assert_eq!(client.call("good__echo", json!({ "n": n })).await.text(), format!(r#"{{"n": {n}}}"#));
    }
    assert_eq!(flooding.answer().await.text(), "flooded");
    assert!(gateway.stderr().len() < 5 << 20, "the log is limited, but has {} bytes", gateway.stderr().len());
}

#[tokio::test]
async fn f20_f21_no_process_outlives_its_owner_however_it_hides() {
    let mark = mark();
    let mut gateway = plan(&mark, json!({}))
        .with_server("deafened", child("stubborn", &mark, json!({})))
        .config(QUICK)
        .start()
        .await;
    let client = ready(&gateway, HANDSHAKE).await;
    client.until_tools(&["deafened__echo"]).await;
    client.call("deafened__echo", json!({})).await.text();
    assert_eq!(client.call("bad__daemons", json!({})).await.text(), "left");
    assert!(marked(&mark).await.len() >= 7, "the daemons run");
    assert!((200..300).contains(&client.delete().await));
    let status = gateway.terminate().await;
    assert!(status.success(), "{status:?}");
    none_left(&mark).await;
}

#[tokio::test]
async fn f20_no_process_outlives_a_gateway_that_was_killed() {
    let mark = mark();
    let mut gateway = plan(&mark, json!({})).config(QUICK).start().await;
    let client = ready(&gateway, HANDSHAKE).await;
    assert_eq!(client.call("bad__daemons", json!({})).await.text(), "left");
    assert!(marked(&mark).await.len() >= 6, "the daemons run");
    gateway.kill().await;
    none_left(&mark).await;
}

#[tokio::test]
async fn f22_a_child_that_never_answers_is_given_up_at_the_start_deadline() {
    let mark = mark();
    let gateway = gateway()
        .with_server("bad", child("mute", &mark, json!({})))
        .with_server("good", child("tools", &mark, json!({})))
        .config("bounds: { start_deadline: 1s, probe_deadline: 300ms, list_budget: 500ms }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["good__echo"]).await;
    let listing =
        within(Duration::from_secs(4), "a list beside it", client.request("tools/list", json!({}))).await;
    assert!(listing.names("tools").iter().all(|name| name.starts_with("good__")));
    client.call("bad__echo", json!({})).await.expect_failure("upstream_unavailable", "not_sent");
}

#[tokio::test]
async fn f23_a_child_that_eats_memory_or_files_is_the_only_one_to_suffer() {
    let mark = mark();
    let limits = json!({ "max_memory": "120MiB", "max_open_files": 64, "timeout": "15s" });
    let gateway = plan(&mark, limits).config(QUICK).start().await;
    let client = ready(&gateway, HANDSHAKE).await;
    let opened = client.call("bad__eat_files", json!({})).await;
    let count: u32 = opened.text().strip_prefix("opened ").and_then(|n| n.parse().ok()).expect("a number");
    assert!(count < 64, "{count} files");
    let answer = client.call("bad__eat_memory", json!({ "mebibytes": 1_000 })).await;
    answer.expect_failure("upstream_lost", "unknown");
    recovers(&client).await;
}

#[tokio::test]
async fn f23_a_child_that_eats_processor_time_is_ended_at_its_limit() {
    let mark = mark();
    let gateway = plan(&mark, json!({ "max_cpu_seconds": 2, "timeout": "30s" })).config(QUICK).start().await;
    let client = ready(&gateway, HANDSHAKE).await;
    let spinning = client.open_call("bad__spin", json!({})).await;
    assert_eq!(client.call("good__echo", json!({})).await.text(), "{}", "meanwhile the other one answers");
    spinning.answer().await.expect_failure("upstream_lost", "unknown");
    recovers(&client).await;
}

#[tokio::test]
async fn f24_a_closed_stdout_and_half_a_line_are_crashes() {
    let mark = mark();
    let gateway = plan(&mark, json!({})).config(QUICK).start().await;
    let client = ready(&gateway, HANDSHAKE).await;
    for fault in ["bad__close_stdout", "bad__half_line"] {
        let answer =
            within(Duration::from_secs(8), "the fault to be told", client.call(fault, json!({}))).await;
        answer.expect_failure("upstream_lost", "unknown");
        recovers(&client).await;
    }
    drop(client);
    drop(gateway);
    none_left(&mark).await;
}

#[tokio::test]
async fn f08_f33_f34_strays_and_corrupt_lines_harm_only_their_own_call() {
    let mark = mark();
    let gateway = plan(&mark, json!({ "timeout": "3s" })).config(QUICK).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = ready(&gateway, revision).await;
        assert_eq!(client.call("bad__two_replies", json!({})).await.text(), "first");
        assert_eq!(client.call("bad__wrong_id", json!({})).await.text(), "for you");
        assert_eq!(client.call("bad__storm", json!({})).await.text(), "after the storm");
        for tool in ["bad__not_utf8", "bad__broken_json", "bad__deep"] {
            let answer =
                within(Duration::from_secs(8), "a corrupt reply to be told", client.call(tool, json!({})))
                    .await;
            answer.failure();
            recovers(&client).await;
        }
        // A lone surrogate is relayed as it came or told as the upstream's fault, but nothing breaks.
        client.call("bad__surrogate", json!({})).await;
        recovers(&client).await;
    }
}

#[tokio::test]
async fn s_stdio_04_a_child_killed_from_outside_is_started_again() {
    let (doomed, neighbour) = (mark(), mark());
    let gateway = gateway()
        .with_server("bad", child("tools", &doomed, json!({})))
        .with_server("good", child("tools", &neighbour, json!({})))
        .config(QUICK)
        .start()
        .await;
    let client = ready(&gateway, HANDSHAKE).await;
    client.call("bad__echo", json!({})).await.text();
    let undisturbed = marked(&neighbour).await;
    for _ in 0..3 {
        for pid in marked(&doomed).await {
            signal_if_python(pid).await;
        }
        recovers(&client).await;
    }
    assert_eq!(marked(&neighbour).await, undisturbed, "the neighbour's processes are the same ones");
}

/// Kill the child itself, but nothing that the gateway put around it.
async fn signal_if_python(pid: u32) {
    let name = tokio::fs::read_to_string(format!("/proc/{pid}/comm")).await.unwrap_or_default();
    if name.starts_with("python") {
        signal_process(pid, rustix::process::Signal::KILL);
    }
}
