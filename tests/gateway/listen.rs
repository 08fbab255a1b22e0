//! Stateless clients that listen: what they are told, and when (S-SUB).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Exchange, Message};
use crate::support::gateway::signal_process;
use crate::support::pipe_client::PipeClient;
use crate::support::upstream::Upstream;
use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, Transport, eventually, gateway, http_upstream, stateless_upstream,
    upstream, within,
};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const TOOLS: &str = "notifications/tools/list_changed";
const PROMPTS: &str = "notifications/prompts/list_changed";
const RESOURCES: &str = "notifications/resources/list_changed";
const UPDATED: &str = "notifications/resources/updated";

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// Ask to be told, and wait for the acknowledgement; gives what it honours.
async fn listen_as(client: &Client, id: Value, filter: Value) -> (Exchange, Value) {
    let params = json!({ "notifications": filter });
    let mut stream = client.open_as(id.clone(), "subscriptions/listen", params).await;
    let first = stream.next().await.expect("a stream begins with its acknowledgement");
    assert_eq!(first.method(), ACKNOWLEDGED, "{}", first.raw);
    assert_eq!(*subscription(&first), id);
    (stream, first.params()["notifications"].clone())
}

async fn listen(client: &Client, filter: Value) -> (Exchange, Value) {
    listen_as(client, json!(client.fresh_id()), filter).await
}

/// Wait until the first lists are old news.
async fn settle(client: &Client) {
    let (mut stream, _) = listen(client, everything()).await;
    while !stream.messages_within(Duration::from_millis(500)).await.is_empty() {}
}

fn subscription(message: &Message) -> &Value {
    match message.is_response() {
        true => &message.json["result"]["_meta"][SUBSCRIPTION],
        false => &message.params()["_meta"][SUBSCRIPTION],
    }
}

/// Show one more tool and say so.
async fn change_tools(upstream: &Upstream, name: &str) {
    upstream.show(|shown| shown.tools.push(tool(name)));
    upstream.announce(TOOLS, json!({})).await;
}

fn everything() -> Value {
    json!({ "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true })
}

#[tokio::test]
async fn s_sub_01_s_sub_02_the_acknowledgement_says_what_is_honoured() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["static"]).await;
    let known = "test://one/static";
    for (asked, honoured) in [
        (json!({}), json!({})),
        (json!({ "toolsListChanged": true }), json!({ "toolsListChanged": true })),
        (
            json!({ "toolsListChanged": false, "promptsListChanged": true }),
            json!({ "promptsListChanged": true }),
        ),
        (json!({ "resourcesListChanged": true }), json!({ "resourcesListChanged": true })),
        (everything(), everything()),
        (json!({ "resourceSubscriptions": [] }), json!({})),
        (
            json!({ "resourceSubscriptions": [known, "nowhere:at-all", "no uri"], "more": 1 }),
            json!({ "resourceSubscriptions": [known] }),
        ),
    ] {
        let (_stream, acknowledged) = listen(&client, asked.clone()).await;
        assert_eq!(acknowledged, honoured, "of {asked}");
    }
    for wrong in [
        json!({}),
        json!({ "notifications": null }),
        json!({ "notifications": [] }),
        json!({ "notifications": { "toolsListChanged": "yes" } }),
        json!({ "notifications": { "resourceSubscriptions": "x:1" } }),
        json!({ "notifications": { "resourceSubscriptions": [7] } }),
    ] {
        client.request("subscriptions/listen", wrong).await.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn s_sub_03_s_https_15_every_message_has_the_id_in_its_type_and_proxies_let_it_pass() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let ids = [json!(1), json!("1"), json!(9_007_199_254_740_991_i64), json!("a \"b\" ü")];
    let mut streams = Vec::new();
    for id in &ids {
        let (mut stream, _) = listen_as(&client, id.clone(), everything()).await;
        let headers = &stream.head().await.headers;
        assert_eq!(headers.get("content-type"), Some("text/event-stream"));
        assert_eq!(headers.get("x-accel-buffering"), Some("no"));
        assert_eq!(headers.get("cache-control"), Some("no-cache"));
        assert_eq!(headers.get("mcp-session-id"), None, "there are no sessions here (S-HTTPS-13)");
        streams.push(stream);
    }
    change_tools(&upstream, "new").await;
    for (stream, id) in streams.iter_mut().zip(&ids) {
        assert_eq!(*subscription(&stream.until_method(TOOLS).await), *id);
    }
}

#[tokio::test]
async fn s_sub_04_s_sub_07_each_stream_carries_what_it_asked_for_and_nothing_else() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("prompts", &["one__greet"]).await;
    settle(&client).await;
    let (mut prompts, _) = listen(&client, json!({ "promptsListChanged": true })).await;
    let (mut tools, _) = listen(&client, json!({ "toolsListChanged": true })).await;
    let (mut all, _) = listen(&client, everything()).await;
    let (mut none, _) = listen(&client, json!({})).await;
    change_tools(&upstream, "new").await;
    tools.until_method(TOOLS).await;
    all.until_method(TOOLS).await;
    upstream.show(|shown| shown.prompts.push(json!({ "name": "new" })));
    upstream.announce(PROMPTS, json!({})).await;
    assert_eq!(prompts.next().await.expect("open").method(), PROMPTS);
    all.until_method(PROMPTS).await;
    upstream.show(|shown| shown.resources.push(json!({ "uri": "test://one/new", "name": "new" })));
    upstream.announce(RESOURCES, json!({})).await;
    all.until_method(RESOURCES).await;
    for stream in [&mut prompts, &mut tools, &mut none] {
        stream.expect_quiet(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn s_sub_04_neither_progress_nor_logs_of_calls_come_on_it() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.notify("notifications/message", json!({ "level": "error", "data": "of the call" })).await;
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    upstream.until_standing().await;
    settle(&client).await;
    let (mut stream, _) = listen(&client, everything()).await;
    client.open_call_with_progress("one__echo", json!("t")).await.answer().await.text();
    upstream.announce("notifications/message", json!({ "level": "error", "data": "of nobody" })).await;
    stream.expect_quiet(Duration::from_millis(400)).await;
}

#[tokio::test]
async fn s_sub_05_a_change_in_the_instant_of_the_acknowledgement_is_told() {
    for revision in [HANDSHAKE, STATELESS] {
        for transport in TRANSPORTS {
            let upstream = upstream("one", revision, transport).start().await;
            let gateway = gateway().with("one", &upstream).start().await;
            let client = gateway.stateless();
            // Nothing is waited for: the first client that listens comes before the upstream is there.
            let (mut first, _) = listen(&client, everything()).await;
            change_tools(&upstream, "one").await;
            within(Duration::from_secs(5), "the first change", first.until_method(TOOLS)).await;
            client.until_tools(&["one__one"]).await;
            let (mut second, _) = listen(&client, everything()).await;
            change_tools(&upstream, "two").await;
            within(Duration::from_secs(3), "the second change", second.until_method(TOOLS)).await;
            let listed = client.request("tools/list", json!({})).await;
            assert!(
                listed.names("tools").contains(&"one__two".to_owned()),
                "{revision} {transport:?}: what is told can be seen (S-LIST-03)"
            );
        }
    }
}

#[tokio::test]
async fn s_sub_05_the_acknowledgement_waits_for_those_upstream_but_not_for_ever() {
    let slow = stateless_upstream("slow")
        .on("subscriptions/listen", |mut call| async move {
            call.pause(600).await;
            call.default().await;
        })
        .start()
        .await;
    let mute = stateless_upstream("mute")
        .on("subscriptions/listen", |mut call| async move {
            call.stream().await;
            call.disconnected().await;
        })
        .start()
        .await;
    let slow_alone = gateway().with("slow", &slow).start().await;
    let client = slow_alone.stateless();
    let (mut stream, _) = listen(&client, everything()).await;
    assert_eq!(slow.listens().len(), 1, "it hears before its client is told so");
    change_tools(&slow, "new").await;
    within(Duration::from_secs(3), "the change", stream.until_method(TOOLS)).await;
    let beside = gateway().with("mute", &mute).config("bounds: { list_budget: 500ms }").start().await;
    let client = beside.stateless();
    client.until_tools(&["mute__echo"]).await;
    within(Duration::from_secs(3), "a bounded wait", listen(&client, everything())).await;
    assert!(mute.listens().is_empty());
}

#[tokio::test]
async fn s_sub_06_s_sub_12_clients_share_one_stream_upstream_and_none_makes_it_list_again() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    upstream.until_listens("once", |listens| listens.len() == 1).await;
    let lists = upstream.received("tools/list").len();
    for _ in 0..30 {
        let opened = listen(&client, everything());
        within(Duration::from_secs(2), "a quick acknowledgement", opened).await;
    }
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(listen(&client, everything()).await.0);
    }
    assert_eq!(upstream.listens(), [everything()]);
    assert_eq!(upstream.received("subscriptions/listen").len(), 1);
    assert_eq!(upstream.received("tools/list").len(), lists);
    change_tools(&upstream, "new").await;
    for stream in &mut streams {
        stream.until_method(TOOLS).await;
    }
}

#[tokio::test]
async fn s_sub_09_a_broken_stream_upstream_is_opened_again_and_what_changed_meanwhile_is_told() {
    for transport in TRANSPORTS {
        for with_result in [true, false] {
            let upstream = upstream("one", STATELESS, transport).start().await;
            let gateway = gateway().with("one", &upstream).start().await;
            let client = gateway.stateless();
            client.until_listed("resources", &["static"]).await;
            settle(&client).await;
            let mut filter = everything();
            filter["resourceSubscriptions"] = json!(["test://one/static"]);
            let (mut stream, _) = listen(&client, filter).await;
            upstream.show(|shown| shown.tools.push(tool("meanwhile")));
            upstream.end_listens(with_result).await;
            let mut told = Vec::new();
            while !(told.contains(&TOOLS.to_owned()) && told.contains(&UPDATED.to_owned())) {
                let message = stream.next().await.expect("the client's stream stays");
                told.push(message.method().to_owned());
            }
            assert_eq!(told.len(), 2, "{transport:?}: other lists are as they were: {told:?}");
            upstream.until_listens("again", |listens| listens.len() == 1).await;
            change_tools(&upstream, "afterwards").await;
            stream.until_method(TOOLS).await;
        }
    }
}

#[tokio::test]
async fn s_sub_09_a_restarted_server_is_listened_to_again() {
    for transport in TRANSPORTS {
        let mut upstream = upstream("one", STATELESS, transport).start().await;
        let gateway = gateway()
            .with("one", &upstream)
            .config("bounds: { backoff_first: 100ms, backoff_longest: 300ms }")
            .start()
            .await;
        let client = gateway.stateless();
        client.until_listed("resources", &["static"]).await;
        let (mut stream, honoured) =
            listen(&client, json!({ "resourceSubscriptions": ["test://one/static"] })).await;
        assert_eq!(honoured["resourceSubscriptions"], json!(["test://one/static"]));
        let again = match transport {
            Transport::Http => {
                let address = upstream.address();
                upstream.kill().await;
                let start = || stateless_upstream("one").start_at(address);
                upstream = eventually("its address to be free", start).await;
                &upstream
            }
            Transport::Stdio => {
                let pid = upstream.births()[0]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
                signal_process(pid.expect("a child tells its pid"), rustix::process::Signal::KILL);
                &upstream
            }
        };
        stream.until_method(UPDATED).await;
        again
            .until_listens("the resource", |listens| {
                listens.iter().any(|listen| listen["resourceSubscriptions"] == json!(["test://one/static"]))
            })
            .await;
        again.announce(UPDATED, json!({ "uri": "test://one/static" })).await;
        assert_eq!(stream.until_method(UPDATED).await.params()["uri"], "test://one/static");
    }
}

#[tokio::test]
async fn s_sub_10_a_stopping_gateway_answers_the_request_to_listen() {
    let upstream = stateless_upstream("one").start().await;
    let mut gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    settle(&client).await;
    let (mut one, _) = listen_as(&client, json!("a"), everything()).await;
    let (mut two, _) = listen_as(&client, json!(7), json!({})).await;
    let stopping = gateway.terminate();
    let reading = async {
        for (stream, id) in [(&mut one, json!("a")), (&mut two, json!(7))] {
            let last = stream.next().await.expect("the request is answered");
            assert!(last.is_response(), "{}", last.raw);
            assert_eq!((&last.json["id"], subscription(&last)), (&id, &id));
            assert_eq!(last.json["result"]["resultType"], "complete");
            assert!(stream.next().await.is_none(), "and that is the end of the stream");
        }
    };
    let (status, ()) = tokio::join!(stopping, reading);
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn s_sub_11_streams_are_bounded_and_a_silent_one_is_kept_alive() {
    let gateway =
        gateway().config("bounds: { listens: 3, principal_listens: 2, keep_alive: 100ms }").start().await;
    let client = gateway.stateless();
    let (mut one, _) = listen(&client, everything()).await;
    let (two, _) = listen(&client, everything()).await;
    let refused = client.request("subscriptions/listen", json!({ "notifications": {} })).await;
    refused.expect_error(200, -32603).expect_failure("overloaded", "not_sent");
    one.expect_quiet(Duration::from_millis(450)).await;
    assert!(one.comments() >= 2, "comments keep it alive, not {}", one.comments());
    two.cut(true);
    eventually("the place of one that left", || async {
        let mut next = client.open("subscriptions/listen", json!({ "notifications": {} })).await;
        (next.next().await.expect("an answer").method() == ACKNOWLEDGED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_https_07_a_client_that_takes_no_stream_cannot_listen() {
    let gateway = gateway().start().await;
    let client = gateway.stateless();
    let params = client.dress(json!({ "notifications": {} }));
    let mut headers = client.headers("subscriptions/listen", &params);
    headers.set("Accept", "application/json");
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params });
    let answer = client.endpoint.ask("POST", headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 406, "{}", answer.body);
}

#[tokio::test]
async fn s_sub_04_s_https_19_an_endpoint_tells_of_its_own_lists() {
    let one = stateless_upstream("one").start().await;
    let two = stateless_upstream("two").start().await;
    let gateway = gateway()
        .with("one", &one)
        .with("two", &two)
        .config("profiles: { work: { servers: [two] } }")
        .start()
        .await;
    let all = gateway.stateless();
    let mut work = gateway.stateless();
    work.endpoint = work.endpoint.at("/mcp/work");
    all.until_tools(&["one__echo", "two__echo"]).await;
    work.until_tools(&["two__echo"]).await;
    settle(&all).await;
    let (mut of_all, _) = listen(&all, everything()).await;
    let (mut of_work, _) = listen(&work, everything()).await;
    change_tools(&one, "new").await;
    of_all.until_method(TOOLS).await;
    of_work.expect_quiet(Duration::from_millis(300)).await;
    change_tools(&two, "new").await;
    of_all.until_method(TOOLS).await;
    of_work.until_method(TOOLS).await;
}

/// Ask on the pipe, and wait for the acknowledgement; gives the id and what is honoured.
async fn listen_on_pipe(client: &mut PipeClient, filter: Value) -> (Value, Value) {
    client.inbox.revision = STATELESS.to_owned();
    let id = client.open_stateless("subscriptions/listen", json!({ "notifications": filter })).await;
    let first = client.inbox.method(ACKNOWLEDGED).await;
    assert_eq!(first["params"]["_meta"][SUBSCRIPTION], id);
    (id, first["params"]["notifications"].clone())
}

#[tokio::test]
async fn s_sub_08_on_a_pipe_a_listening_ends_by_its_cancellation() {
    let upstream = stateless_upstream("one").start().await;
    let mut client = PipeClient::with_file(&gateway().with("one", &upstream).file()).await;
    client.inbox.revision = STATELESS.to_owned();
    upstream.until_listens("once", |listens| listens.len() == 1).await;
    let (one, honoured) = listen_on_pipe(&mut client, everything()).await;
    assert_eq!(honoured, everything());
    let (two, _) = listen_on_pipe(&mut client, json!({ "toolsListChanged": true })).await;
    change_tools(&upstream, "new").await;
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(client.inbox.method(TOOLS).await["params"]["_meta"][SUBSCRIPTION].clone());
    }
    told.sort_by_key(Value::to_string);
    assert_eq!(told, [one.clone(), two.clone()], "each under its own id (S-SUB-07)");
    let cancelled =
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": one } });
    client.line(&cancelled.to_string()).await;
    // Answered behind it, so that the cancellation was read.
    client.stateless("server/discover", json!({})).await;
    change_tools(&upstream, "newer").await;
    assert_eq!(client.inbox.method(TOOLS).await["params"]["_meta"][SUBSCRIPTION], two);
    client.stateless("tools/list", json!({})).await;
    let refused = client.stateless("subscriptions/listen", json!({})).await;
    assert_eq!(refused["error"]["code"], -32602);
    let (status, rest) = client.close().await;
    assert!(status.success());
    let told = rest.iter().filter(|message| message["method"] == TOOLS);
    assert_eq!(told.count(), 0, "nothing is told after the cancellation: {rest:?}");
    let ends: Vec<&Value> = rest
        .iter()
        .filter(|message| message["method"] == "notifications/cancelled" || message.get("method").is_none())
        .collect();
    assert_eq!(ends.len(), 2, "the other one is ended, and the first needs no end: {rest:?}");
    assert_eq!(ends[0]["params"]["requestId"], two, "first the notification (S-SUB-10)");
    assert_eq!((&ends[1]["id"], &ends[1]["result"]["_meta"][SUBSCRIPTION]), (&two, &two));
}
