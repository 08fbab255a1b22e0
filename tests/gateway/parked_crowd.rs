//! Many callers at once before one server: nobody is asked another's question, and no answer reaches another's call
//! (S-MRTR-04, S-ELIC-11, S-STDIO-08).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::parked::{ELICIT, Required, TOOL, able, answer, form, i_am};
use crate::support::client::Client;
use crate::support::upstream::UpstreamPlan;
use crate::support::{Gateway, HANDSHAKE, Transport, Upstream, gateway, upstream};

/// A server whose tool asks its caller twice who they are.
fn curious(transport: Transport) -> UpstreamPlan {
    upstream("one", HANDSHAKE, transport).on("tools/call", |mut call| async move {
        let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
        let mut heard = Vec::new();
        for round in 1..=2 {
            let answer = call.ask(ELICIT, form(&format!("{round}: are you {who}?"))).await;
            heard.push(answer["result"]["content"]["me"].as_str().unwrap_or("nobody").to_owned());
        }
        call.text(&format!("{who} is {}", heard.join(" and "))).await;
    })
}

async fn start(upstream: &Upstream) -> Gateway {
    gateway().with_more("one", upstream, json!({ "timeout": "50s" })).start().await
}

async fn crowd(transport: Transport, callers: usize) -> Upstream {
    let upstream = curious(transport).start().await;
    let gateway = start(&upstream).await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    let mut running = Vec::new();
    for caller in 0..callers {
        let client = Client::stateless(&gateway.endpoint, able()).quiet();
        running.push(tokio::spawn(async move {
            let who = format!("caller-{caller}.");
            let arguments = json!({ "who": who });
            let mut required = Required::of(&client.call(TOOL, arguments.clone()).await);
            for round in 1..=2 {
                let shown = required.params()["message"].as_str().unwrap_or_default().to_owned();
                assert_eq!(shown, format!("[one] {round}: are you {who}?"), "another's question");
                let next = answer(&client, &arguments, &required, i_am(&format!("{who}{round}"))).await;
                if round == 2 {
                    assert_eq!(next.text(), format!("{who} is {who}1 and {who}2"), "another's answer");
                } else {
                    required = Required::of(&next);
                }
            }
        }));
    }
    for caller in running {
        caller.await.expect("nobody saw what was not theirs");
    }
    upstream
}

#[tokio::test]
async fn s_mrtr_04_a_hundred_callers_of_one_process_are_never_mistaken() {
    let upstream = crowd(Transport::Stdio, 100).await;
    let children = upstream.births().len();
    assert!(children <= 5, "the gateway's own and four more: {children}");
}

#[tokio::test]
async fn s_mrtr_04_a_hundred_callers_of_one_session_are_never_mistaken() {
    let upstream = crowd(Transport::Http, 100).await;
    let sessions: HashSet<Value> =
        upstream.received("tools/call").iter().map(|call| json!(call.session())).collect();
    assert_eq!(sessions.len(), 1, "one session serves them all");
}

#[tokio::test]
async fn s_stdio_08_calls_that_follow_each_other_meet_the_same_process() {
    for transport in [Transport::Stdio, Transport::Http] {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = start(&upstream).await;
        let client = Client::stateless(&gateway.endpoint, able());
        client.until_tools(&[TOOL]).await;
        for _ in 0..5 {
            client.call(TOOL, json!({})).await.text();
        }
        let of: HashSet<_> = upstream
            .received("tools/call")
            .iter()
            .map(|call| call.session().map_or_else(|| call.connection.to_string(), str::to_owned))
            .collect();
        assert_eq!(of.len(), 1, "what a server keeps is found again: {transport:?}");
        let other = Client::stateless(&gateway.endpoint, json!({ "sampling": {} }));
        other.call(TOOL, json!({})).await.text();
        let last = upstream.received("tools/call").pop().expect("it was called");
        let its = last.session().map_or_else(|| last.connection.to_string(), str::to_owned);
        assert!(!of.contains(&its), "who can be asked other things has another: {transport:?}");
    }
}

/// A client that can be asked, with settings of its own for what it shows.
fn showing(gateway: &Gateway, settings: &str) -> Client {
    let settings: Value = serde_json::from_str(settings).expect("JSON");
    let extensions = json!({ "io.modelcontextprotocol/ui": settings });
    Client::stateless(&gateway.endpoint, json!({ "elicitation": {}, "extensions": extensions }))
}

#[tokio::test]
async fn s_life_07_what_clients_declare_forks_no_more_processes_than_the_bound() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).start().await;
    let gateway = gateway()
        .with_more("one", &upstream, json!({}))
        .config("bounds: { interactive_connections: 1 }")
        .start()
        .await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    for number in 0..12 {
        let client = showing(&gateway, &format!(r#"{{"version":{number}}}"#));
        client.call(TOOL, json!({})).await.text();
    }
    assert_eq!(upstream.received("tools/call").len(), 12, "each of them is served");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while upstream.connections() > 5 {
        assert!(tokio::time::Instant::now() < deadline, "{} at once", upstream.connections());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn s_stdio_08_however_it_is_written_the_same_meets_the_same_process() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).start().await;
    let gateway = start(&upstream).await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    for settings in [r#"{"a":1,"b":2}"#, r#"{ "b": 2, "a": 1 }"#] {
        showing(&gateway, settings).call(TOOL, json!({})).await.text();
    }
    let children: HashSet<_> = upstream.received("tools/call").iter().map(|call| call.connection).collect();
    assert_eq!(children.len(), 1);
    for forms in [json!({}), json!({ "form": {} })] {
        let client = Client::stateless(&gateway.endpoint, json!({ "elicitation": forms }));
        client.call(TOOL, json!({})).await.text();
    }
    let children: HashSet<_> = upstream.received("tools/call").iter().map(|call| call.connection).collect();
    assert_eq!(children.len(), 2, "forms are forms, named or not");
}

#[tokio::test]
async fn s_stdio_08_who_finds_no_free_process_waits_and_is_told_that_nothing_was_sent() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway()
        .with_more("one", &upstream, json!({ "timeout": "1s" }))
        .config("bounds: { interactive_connections: 1 }")
        .start()
        .await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    let arguments = crate::support::client::question(ELICIT, &form("who?"));
    let held = Required::of(&client.call(TOOL, arguments.clone()).await);
    client.call(TOOL, arguments.clone()).await.expect_failure("upstream_unavailable", "not_sent");
    assert_eq!(upstream.received("tools/call").len(), 1);
    let plain = gateway.stateless();
    plain.call(TOOL, arguments.clone()).await.text();
    let waiting = tokio::spawn({
        let (client, arguments) = (client.clone(), arguments.clone());
        async move { client.call(TOOL, arguments).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    answer(&client, &arguments, &held, i_am("me")).await.text();
    Required::of(&waiting.await.expect("it does not panic"));
}

#[tokio::test]
async fn s_httpc_05_a_connection_that_nobody_uses_is_ended() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { interactive_idle: 1s }").start().await;
    let client = Client::stateless(&gateway.endpoint, able());
    client.until_tools(&[TOOL]).await;
    client.call(TOOL, json!({})).await.text();
    let used = upstream.until_received("tools/call", 1).await;
    let ended = upstream
        .until("the end of a session", |ledger| ledger.iter().find(|one| one.verb == "DELETE").cloned())
        .await;
    assert_eq!(ended.session(), used.session());
    client.call(TOOL, json!({})).await.text();
    let next = upstream.until_received("tools/call", 2).await;
    assert_ne!(next.session(), used.session(), "another is opened for whoever comes");
}
