//! Log messages further on: levels shared and fresh, who may see them, what is cut from them (S-LOG).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Exchange, Message};
use crate::support::upstream::UpstreamPlan;
use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, TRANSPORTS, Transport, Upstream, eventually, gateway,
    stdio_upstream, upstream, within,
};

const LOG: &str = "notifications/message";
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// A server whose tool logs once at every level.
fn chatty(name: &str, transport: Transport) -> UpstreamPlan {
    upstream(name, HANDSHAKE, transport).on("tools/call", |mut call| async move {
        for level in LEVELS {
            call.notify(LOG, json!({ "level": level, "logger": "engine", "data": level })).await;
        }
        call.text("done").await;
    })
}

/// Call and gather the log messages of the call's stream and the standing one.
async fn logged(client: &Client, stream: &mut Exchange) -> Vec<Message> {
    let mut messages = client.call("one__echo", json!({})).await.before;
    messages.extend(stream.messages_within(Duration::from_millis(300)).await);
    messages.retain(|message| message.method() == LOG);
    messages
}

fn levels(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.params()["level"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn s_log_01_every_level_lets_through_itself_and_what_is_worse() {
    let upstream = chatty("one", Transport::Http).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (at, level) in LEVELS.into_iter().enumerate() {
        let revision = HANDSHAKE_REVISIONS[at % 4];
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        client.request("logging/setLevel", json!({ "level": level })).await.result();
        let messages = logged(&client, &mut stream).await;
        assert_eq!(levels(&messages), LEVELS[at..], "{revision} at {level}");
    }
}

#[tokio::test]
async fn s_log_06_a_fresh_session_hears_warnings_and_what_is_worse() {
    for transport in TRANSPORTS {
        let upstream = chatty("one", transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        assert_eq!(levels(&logged(&client, &mut stream).await), LEVELS[3..], "{transport:?}");
    }
}

#[tokio::test]
async fn s_log_02_servers_without_logging_are_never_told_a_level() {
    for transport in TRANSPORTS {
        let mute = upstream("one", HANDSHAKE, transport).capabilities(json!({ "tools": {} })).start().await;
        let gateway = gateway().with("one", &mute).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        client.call("one__echo", json!({})).await.text();
        client.request("logging/setLevel", json!({ "level": "error" })).await.result();
        client.call("one__echo", json!({})).await.text();
        assert_eq!(mute.received("logging/setLevel").len(), 0, "{transport:?}");
    }
}

async fn until_level(upstream: &Upstream, level: &str) {
    eventually(&format!("the server to be at {level}"), || async {
        (upstream.received("logging/setLevel").last()?.params()["level"] == level).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_log_02_a_shared_server_has_the_most_verbose_level_anybody_needs() {
    for transport in TRANSPORTS {
        for share in ["principal", "all"] {
            let upstream = chatty("one", transport).start().await;
            let gateway = gateway().with_more("one", &upstream, json!({ "share": share })).start().await;
            let (calm, keen) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
            calm.until_tools(&["one__echo"]).await;
            let (mut to_calm, mut to_keen) = (calm.standalone_stream().await, keen.standalone_stream().await);
            calm.request("logging/setLevel", json!({ "level": "error" })).await.result();
            logged(&calm, &mut to_calm).await;
            keen.request("logging/setLevel", json!({ "level": "debug" })).await.result();
            assert_eq!(levels(&logged(&keen, &mut to_keen).await), LEVELS, "{share} over {transport:?}");
            until_level(&upstream, "debug").await;
            assert_eq!(levels(&logged(&calm, &mut to_calm).await), LEVELS[4..], "{share} over {transport:?}");
            to_keen.never("nothing", Duration::from_millis(10)).await;
            keen.request("logging/setLevel", json!({ "level": "alert" })).await.result();
            until_level(&upstream, "error").await;
            keen.request("logging/setLevel", json!({ "level": "info" })).await.result();
            until_level(&upstream, "info").await;
            drop(to_keen);
            assert!((200..300).contains(&keen.delete().await));
            until_level(&upstream, "error").await;
        }
    }
}

#[tokio::test]
async fn s_log_04_what_belongs_to_no_request_stays_out_of_stateless_streams() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.pause(400).await;
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        upstream.until_standing().await;
        upstream
            .announce(LOG, json!({ "level": "error", "logger": "engine", "data": "marker-background" }))
            .await;
        eventually("the gateway's own log to have it", || async {
            gateway.stderr().contains("marker-background").then_some(())
        })
        .await;
        // The same while a request runs that asked for logs, but not for those of others.
        let params = json!({ "name": "one__echo", "arguments": {}, "_meta": { "io.modelcontextprotocol/logLevel": "debug" } });
        let running = client.open("tools/call", params).await;
        let call = upstream.until_received("tools/call", 1).await;
        if transport == Transport::Http {
            upstream.until_standing_for(&call).await;
            upstream.tell(&call, LOG, json!({ "level": "error", "data": "marker-elsewhere" })).await;
        }
        let answer = running.answer().await;
        assert!(answer.before.iter().all(|message| message.method() != LOG), "nobody's logs: {answer:?}");
    }
}

#[tokio::test]
async fn s_log_05_loggers_name_their_server_whether_they_have_a_name_or_not() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.notify(LOG, json!({ "level": "error", "logger": "engine", "data": 1 })).await;
                call.notify(LOG, json!({ "level": "error", "data": { "f": 1.0, "none": null } })).await;
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let messages = logged(&client, &mut stream).await;
        assert_eq!(messages.len(), 2, "{messages:?}");
        let logger = |at: usize| messages[at].params()["logger"].as_str().unwrap_or_default();
        assert!(logger(0).starts_with("one") && logger(0).ends_with("engine"), "{:?}", logger(0));
        assert!(logger(1).starts_with("one"), "{:?}", logger(1));
        assert!(messages[1].raw.contains(r#""f":1.0"#), "data passes as it is: {}", messages[1].raw);
    }
}

#[tokio::test]
async fn s_log_05_a_server_whose_tools_have_no_prefix_keeps_its_loggers_names() {
    for (revision, transport) in
        [(HANDSHAKE, Transport::Http), (HANDSHAKE, Transport::Stdio), (STATELESS, Transport::Http)]
    {
        let upstream = upstream("one", revision, transport)
            .on("tools/call", |mut call| async move {
                call.notify(LOG, json!({ "level": "error", "logger": "engine", "data": 1 })).await;
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with_more("one", &upstream, json!({ "prefix": "" })).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["echo"]).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        let answer = client.call("echo", json!({})).await;
        let logged = answer.before.iter().find(|message| message.method() == LOG).expect("its log");
        assert_eq!(logged.params()["logger"], "engine", "{}", logged.raw);
    }
}

#[tokio::test]
async fn s_log_05_f11_logs_that_belong_to_no_call_are_heard_in_part() {
    let upstream = stdio_upstream("one").quiet().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await.quiet();
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    client.call("one__echo", json!({})).await.text();
    let call = upstream.until_received("tools/call", 1).await;
    upstream.until_standing_for(&call).await;
    for n in 0..2_000 {
        // Small talk first: it takes nothing of what errors may have.
        upstream.tell(&call, LOG, json!({ "level": "debug", "data": n })).await;
    }
    for n in 0..2_000 {
        upstream.tell(&call, LOG, json!({ "level": "error", "data": n })).await;
    }
    let heard = stream.messages_within(Duration::from_secs(1)).await;
    let heard: Vec<_> = heard.iter().filter(|message| message.method() == LOG).collect();
    assert!((1..1_000).contains(&heard.len()), "{} of 2,000 at once", heard.len());
    assert_eq!(heard[0].params()["data"], 0, "the first error is heard");
}

/// Things that look like secrets, each with the part that must not be shown.
const SECRETS: [(&str, &str); 8] = [
    ("Authorization: Bearer abcdef0123456789abcdef0123456789", "abcdef0123456789abcdef0123456789"),
    (
        "pushed with ghp_0123456789abcdefghijABCDEFGHIJ012345 today",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    ),
    ("key sk-proj-0123456789abcdefghijABCDEFGHIJ0123456789", "0123456789abcdefghijABCDEFGHIJ0123456789"),
    (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    ),
    ("aws AKIAIOSFODNN7EXAMPLE in use", "AKIAIOSFODNN7EXAMPLE"),
    ("login with password=hunter2-hunter2 failed", "hunter2-hunter2"),
    ("GET https://example.com/?access_token=Zm9vYmFyYmF6cXV4MTIzNDU2", "Zm9vYmFyYmF6cXV4MTIzNDU2"),
    ("xoxb-123456789012-abcdefABCDEF", "xoxb-123456789012-abcdefABCDEF"),
];

#[tokio::test]
async fn s_log_05_what_looks_like_a_secret_is_not_passed_on() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            for (text, _) in SECRETS {
                call.notify(LOG, json!({ "level": "error", "data": text })).await;
                call.notify(LOG, json!({ "level": "error", "data": { "deep": [{ "note": text }] } })).await;
            }
            call.notify(
                LOG,
                json!({ "level": "error", "data": { "password": "hunter3-hunter3", "user": "ada" } }),
            )
            .await;
            call.notify(LOG, json!({ "level": "error", "data": "the bear lost its tokens in build 4711" }))
                .await;
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    let messages = logged(&client, &mut stream).await;
    assert_eq!(messages.len(), SECRETS.len() * 2 + 2, "messages are kept, secrets are not");
    let all: String = messages.iter().map(|message| message.raw.as_str()).collect();
    let shown: Vec<&str> = SECRETS
        .iter()
        .map(|(_, secret)| *secret)
        .chain(["hunter3-hunter3"])
        .filter(|secret| all.contains(secret))
        .collect();
    assert!(shown.is_empty(), "passed on: {shown:?}");
    assert!(all.contains("the bear lost its tokens in build 4711"), "plain words stay");
    assert!(all.contains("ada") && all.contains("pushed with"), "what surrounds a secret stays");
    assert!(
        SECRETS.iter().all(|(_, secret)| !gateway.stderr().contains(secret)),
        "nor into the gateway's log"
    );
}

#[tokio::test]
async fn s_log_05_a_server_that_never_stops_talking_is_heard_in_part() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                for n in 0..20_000 {
                    call.notify(LOG, json!({ "level": "error", "data": { "n": n } })).await;
                }
                call.text("done").await;
            })
            .quiet()
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await.quiet();
        client.until_tools(&["one__echo"]).await;
        let answered = client.call("one__echo", json!({}));
        let answer = within(Duration::from_secs(15), "the call to end", answered).await;
        assert_eq!(answer.text(), "done");
        let heard = answer.before.iter().filter(|message| message.method() == LOG).count();
        assert!(heard < 10_000, "{heard} of 20,000 at once is no limit ({transport:?})");
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn s_log_01_messages_reach_the_session_that_caused_them_and_no_other() {
    for transport in TRANSPORTS {
        let upstream = chatty("one", transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let (caller, bystander) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
        caller.until_tools(&["one__echo"]).await;
        bystander.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        bystander.request("prompts/list", json!({})).await.result();
        let mut to_bystander = bystander.standalone_stream().await;
        let mut to_caller = caller.standalone_stream().await;
        let mine: Vec<Value> =
            logged(&caller, &mut to_caller).await.iter().map(|log| log.params()["data"].clone()).collect();
        assert_eq!(mine, LEVELS[3..], "{transport:?}");
        to_bystander.never(LOG, Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn s_log_01_a_new_level_holds_for_calls_under_way() {
    for transport in [Transport::Http, Transport::Stdio] {
        let go_on = Arc::new(tokio::sync::Notify::new());
        let awaited = Arc::clone(&go_on);
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| {
                let awaited = Arc::clone(&awaited);
                async move {
                    for said in ["heard", "unheard"] {
                        awaited.notified().await;
                        call.notify("notifications/message", json!({ "level": "debug", "data": said })).await;
                    }
                    call.text("done").await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        let mut call = client.open_call("one__echo", json!({})).await;
        upstream.until_received("tools/call", 1).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        go_on.notify_one();
        let on_its_way = tokio::select! {
            told = call.until_method("notifications/message") => told,
            told = stream.until_method("notifications/message") => told,
        };
        assert_eq!(on_its_way.params()["data"], "heard", "{transport:?}");
        client.request("logging/setLevel", json!({ "level": "error" })).await.result();
        go_on.notify_one();
        let answer = call.answer().await;
        let later = stream.messages_within(Duration::from_millis(300)).await;
        let told = answer.before.iter().chain(&later).filter(|told| told.method() == "notifications/message");
        let unwanted: Vec<&Value> =
            told.map(|told| &told.params()["data"]).filter(|data| **data != "heard").collect();
        assert!(unwanted.is_empty(), "{transport:?}: {unwanted:?}");
    }
}
