//! Who shares a connection to a server, and that nothing reaches another client because of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::support::client::{Client, Exchange};
use crate::support::upstream::Received;
use crate::support::{
    Call, Gateway, HANDSHAKE, TRANSPORTS, Transport, Upstream, eventually, gateway, upstream,
};

/// Long enough for what should not come to have come.
const A_WHILE: Duration = Duration::from_millis(300);

async fn behind(upstream: &Upstream, share: &str) -> Gateway {
    let more = json!({ "share": share, "ask": { "roots": true } });
    let gateway = gateway().with_more("one", upstream, more).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    gateway
}

async fn who(gateway: &Gateway, capabilities: Value) -> Client {
    gateway.handshake_with(HANDSHAKE, capabilities).await
}

/// Lists may change when they like.
async fn expect_nothing(stream: &mut Exchange, method: &str) {
    for message in stream.messages_within(A_WHILE).await {
        assert_ne!(message.method(), method, "{}", message.raw);
    }
}

/// The connection or session by which a message came.
fn way(upstream: &Upstream, tool_call: usize) -> String {
    let call = upstream.received("tools/call").remove(tool_call);
    call.session().map_or_else(|| format!("child {}", call.connection), str::to_owned)
}

fn declared(upstream: &Upstream) -> Vec<Value> {
    upstream.received("initialize").iter().map(|welcome| welcome.params()["capabilities"].clone()).collect()
}

async fn ask_by_form(call: &mut Call) -> String {
    let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
    let form = json!({ "message": who, "requestedSchema": { "type": "object", "properties": {} } });
    let answer = call.ask("elicitation/create", form).await;
    match answer.get("error") {
        Some(error) => error["code"].to_string(),
        None => format!("{}: {}", answer["result"]["action"], answer["result"]["content"]["me"]),
    }
}

#[tokio::test]
async fn s_life_07_sessions_share_by_principal_where_they_declare_the_same() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = behind(&upstream, "principal").await;
        let (ada, again) = (
            who(&gateway, json!({ "elicitation": {} })).await,
            who(&gateway, json!({ "elicitation": {} })).await,
        );
        let plain = who(&gateway, json!({})).await;
        for client in [&ada, &again, &plain] {
            client.call("one__echo", json!({})).await.text();
        }
        assert_eq!(way(&upstream, 0), way(&upstream, 1), "the same principal, the same capabilities");
        assert_ne!(way(&upstream, 0), way(&upstream, 2), "other capabilities");
        let mut declared = declared(&upstream);
        assert_eq!(declared.remove(0), json!({}), "the gateway's own, for lists");
        assert_eq!(declared, [json!({ "elicitation": {} }), json!({})], "nothing is over-declared");
    }
}

#[tokio::test]
async fn s_stdio_08_each_session_has_a_connection_of_its_own_unless_told_otherwise() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        gateway.stateless().until_tools(&["one__echo"]).await;
        for _ in 0..2 {
            who(&gateway, json!({})).await.call("one__echo", json!({})).await.text();
        }
        assert_ne!(way(&upstream, 0), way(&upstream, 1));
    }
}

#[tokio::test]
async fn s_stdio_08_s_elic_11_on_a_shared_child_a_question_of_two_calls_is_put_to_nobody() {
    let together = Arc::new(Barrier::new(2));
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", move |mut call| {
            let together = Arc::clone(&together);
            async move {
                let alone = call.params()["arguments"]["alone"] == true;
                if !alone {
                    together.wait().await;
                }
                let told = ask_by_form(&mut call).await;
                if !alone {
                    // Neither answers before both were told, or one would be alone for a moment.
                    together.wait().await;
                }
                call.text(&told).await;
            }
        })
        .start()
        .await;
    let gateway = behind(&upstream, "principal").await;
    let (ada, bob) = (
        who(&gateway, json!({ "elicitation": {} })).await,
        who(&gateway, json!({ "elicitation": {} })).await,
    );

    let mut alone = bob.open_call("one__echo", json!({ "who": "bob", "alone": true })).await;
    let question = alone.until_method("elicitation/create").await;
    bob.respond(&question.json["id"], json!({ "action": "accept", "content": { "me": "bob" } })).await;
    assert_eq!(alone.answer().await.text(), r#""accept": "bob""#, "the only call there is caused it");

    let running = [
        ada.open_call("one__echo", json!({ "who": "ada" })).await,
        bob.open_call("one__echo", json!({ "who": "bob" })).await,
    ];
    for exchange in running {
        let answer = exchange.answer().await;
        assert_eq!(answer.text(), r#""cancel": null"#, "refused, never guessed");
        assert!(
            answer.before.iter().all(|message| message.method() != "elicitation/create"),
            "nobody was asked"
        );
    }
    assert_eq!(way(&upstream, 1), way(&upstream, 2), "they did share it");
}

#[tokio::test]
async fn s_elic_11_on_a_shared_http_session_a_question_goes_to_the_client_of_its_stream() {
    let together = Arc::new(Barrier::new(2));
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/call", move |mut call| {
            let together = Arc::clone(&together);
            async move {
                together.wait().await;
                let told = ask_by_form(&mut call).await;
                together.wait().await;
                call.text(&told).await;
            }
        })
        .start()
        .await;
    let gateway = behind(&upstream, "principal").await;
    let mut running = Vec::new();
    for name in ["ada", "bob"] {
        let client = who(&gateway, json!({ "elicitation": {} })).await;
        let exchange = client.open_call("one__echo", json!({ "who": name })).await;
        running.push((name, client, exchange));
    }
    for (name, client, exchange) in &mut running {
        let question = exchange.until_method("elicitation/create").await;
        assert!(question.params()["message"].as_str().expect("text").ends_with(*name), "{}", question.raw);
        client.respond(&question.json["id"], json!({ "action": "accept", "content": { "me": name } })).await;
    }
    for (name, _, exchange) in running {
        assert_eq!(exchange.answer().await.text(), format!(r#""accept": "{name}""#));
    }
    assert_eq!(way(&upstream, 0), way(&upstream, 1), "they did share it");
}

#[tokio::test]
async fn s_stdio_08_a_connection_for_all_declares_nothing_and_its_questions_are_refused() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let told = ask_by_form(&mut call).await;
                call.text(&told).await;
            })
            .start()
            .await;
        let gateway = behind(&upstream, "all").await;
        for _ in 0..2 {
            let client = who(&gateway, json!({ "elicitation": {}, "sampling": {}, "roots": {} })).await;
            let answer = client.call("one__echo", json!({})).await;
            assert_eq!(answer.text(), "-32601");
            assert!(answer.before.is_empty(), "nobody was asked");
        }
        assert_eq!(declared(&upstream), [json!({})], "one connection for everybody, lists too");
    }
}

#[tokio::test]
async fn s_stdio_08_a_shared_connection_ends_with_the_last_of_its_sessions() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = behind(&upstream, "principal").await;
        let (first, last) = (who(&gateway, json!({})).await, who(&gateway, json!({})).await);
        for client in [&first, &last] {
            client.call("one__echo", json!({})).await.text();
        }
        assert_eq!(links(&gateway).await, 2);
        assert_eq!(first.delete().await, 204);
        assert_eq!(
            last.call("one__echo", json!({ "still": true })).await.text(),
            r#"one echoes {"still":true}"#
        );
        assert_eq!(way(&upstream, 0), way(&upstream, 2), "it outlives the session for which it was opened");
        assert_eq!(last.delete().await, 204);
        if transport == Transport::Http {
            let own = way(&upstream, 0);
            let ended = |ledger: &[Received]| {
                ledger
                    .iter()
                    .any(|message| message.verb == "DELETE" && message.session() == Some(&own))
                    .then_some(())
            };
            upstream.until("DELETE for the shared session (S-HTTPC-05)", ended).await;
        }
        eventually("the connection to be closed", || async { (links(&gateway).await == 1).then_some(()) })
            .await;
    }
}

async fn links(gateway: &Gateway) -> u64 {
    let servers: Value =
        serde_json::from_str(&gateway.admin_get("/api/v1/servers").await.body).expect("JSON");
    let rows = servers.as_array().or_else(|| servers["servers"].as_array()).expect("a list of servers");
    rows[0]["links"].as_u64().expect("a count")
}

#[tokio::test]
async fn s_res_07_three_subscribers_of_a_shared_connection_are_one_upstream() {
    for transport in TRANSPORTS {
        for share in ["principal", "all"] {
            println!("--- {transport:?}, shared by {share}");
            let upstream = upstream("one", HANDSHAKE, transport).start().await;
            let gateway = behind(&upstream, share).await;
            let uri = json!({ "uri": "test://one/static" });
            let (mut clients, mut streams) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let client = who(&gateway, json!({})).await;
                client.request("resources/subscribe", uri.clone()).await.result();
                streams.push(client.standalone_stream().await);
                clients.push(client);
            }
            let bystander = who(&gateway, json!({})).await;
            bystander.call("one__echo", json!({})).await.text();
            let mut bystanding = bystander.standalone_stream().await;
            let subscribed = upstream.until_received("resources/subscribe", 1).await;
            upstream.until_standing_for(&subscribed).await;

            // A part of what was subscribed to counts (S-RES-08), and each subscriber hears of it once.
            upstream
                .announce("notifications/resources/updated", json!({ "uri": "test://one/static/part" }))
                .await;
            for stream in &mut streams {
                let updated = stream.until_method("notifications/resources/updated").await;
                assert_eq!(updated.params()["uri"], "test://one/static/part");
                expect_nothing(stream, "notifications/resources/updated").await;
            }
            expect_nothing(&mut bystanding, "notifications/resources/updated").await;

            clients[0].request("resources/unsubscribe", uri.clone()).await.result();
            assert_eq!(clients[1].delete().await, 204);
            upstream.announce("notifications/resources/updated", uri.clone()).await;
            streams[2].until_method("notifications/resources/updated").await;
            expect_nothing(&mut streams[0], "notifications/resources/updated").await;
            assert_eq!(upstream.received("resources/subscribe").len(), 1, "one for all three");
            assert_eq!(upstream.received("resources/unsubscribe").len(), 0, "the third still wants it");

            assert_eq!(clients[2].delete().await, 204);
            let ended = upstream.until_received("resources/unsubscribe", 1);
            // With the last session the whole connection ends, where it is not the gateway's own.
            if share == "all" {
                assert_eq!(ended.await.params(), &uri);
                let fourth = who(&gateway, json!({})).await;
                fourth.request("resources/subscribe", uri.clone()).await.result();
                assert_eq!(upstream.received("resources/subscribe").len(), 2, "it begins anew");
                fourth.request("resources/unsubscribe", uri.clone()).await.result();
                assert_eq!(upstream.received("resources/unsubscribe").len(), 2);
            }
        }
    }
}

#[tokio::test]
async fn s_res_07_a_refused_subscription_is_kept_for_nobody() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("resources/subscribe", |mut call| async move {
            match call.count() {
                1 => call.error(-32000, "not now", Value::Null).await,
                _ => call.default().await,
            }
        })
        .start()
        .await;
    let gateway = behind(&upstream, "all").await;
    let client = who(&gateway, json!({})).await;
    let uri = json!({ "uri": "test://one/static" });
    assert!(client.request("resources/subscribe", uri.clone()).await.json.get("error").is_some());
    client.request("resources/subscribe", uri).await.result();
    assert_eq!(upstream.received("resources/subscribe").len(), 2, "the second asks again");
}

#[tokio::test]
async fn s_log_02_a_shared_connection_is_as_talkative_as_its_users_need() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                for level in ["debug", "error"] {
                    call.notify("notifications/message", json!({ "level": level, "data": level })).await;
                }
                call.text("said").await;
            })
            .start()
            .await;
        let gateway = behind(&upstream, "principal").await;
        let (ada, bob) = (who(&gateway, json!({})).await, who(&gateway, json!({})).await);
        ada.request("logging/setLevel", json!({ "level": "error" })).await.result();
        assert_eq!(logs(&ada).await, ["error"]);
        let mut expected = vec!["error"];
        assert_levels(&upstream, &expected).await;

        bob.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        assert_eq!(logs(&bob).await, ["debug", "error"]);
        assert_eq!(logs(&ada).await, ["error"], "each hears what it asked for");
        expected.push("debug");
        assert_levels(&upstream, &expected).await;

        ada.request("logging/setLevel", json!({ "level": "info" })).await.result();
        logs(&ada).await;
        assert_levels(&upstream, &expected).await;
        bob.request("logging/setLevel", json!({ "level": "warning" })).await.result();
        expected.push("info");
        assert_levels(&upstream, &expected).await;
        assert_eq!(ada.delete().await, 204);
        expected.push("warning");
        assert_levels(&upstream, &expected).await;
    }
}

async fn logs(client: &Client) -> Vec<String> {
    let answer = client.call("one__echo", json!({})).await;
    let logs = answer.before.iter().filter(|message| message.method() == "notifications/message");
    logs.map(|message| message.params()["data"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn s_log_02_a_level_that_was_not_taken_is_told_again_when_it_is_needed_next() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("logging/setLevel", move |mut call| async move {
                match call.count() {
                    1 => call.error(-32603, "not now", Value::Null).await,
                    // On HTTP the answer itself may be lost.
                    2 if transport == Transport::Http => call.http(503, &[], b"").await,
                    _ => call.default().await,
                }
            })
            .start()
            .await;
        let gateway = behind(&upstream, "principal").await;
        let client = who(&gateway, json!({})).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        let expected = ["debug"].repeat(if transport == Transport::Http { 3 } else { 2 });
        let until_taken = || async {
            client.call("one__echo", json!({})).await.text();
            (upstream.received("logging/setLevel").len() >= expected.len()).then_some(())
        };
        eventually("the level to be told again", until_taken).await;
        for _ in 0..3 {
            client.call("one__echo", json!({})).await.text();
        }
        assert_levels(&upstream, &expected).await;
    }
}

/// The levels that the upstream was told, in order, and no more of them.
async fn assert_levels(upstream: &Upstream, expected: &[&str]) {
    upstream.until_received("logging/setLevel", expected.len()).await;
    let told = upstream.received("logging/setLevel");
    let told: Vec<_> = told.iter().map(|set| set.params()["level"].as_str().unwrap_or_default()).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn s_log_02_a_server_without_logging_is_never_told_a_level() {
    let upstream =
        upstream("one", HANDSHAKE, Transport::Http).capabilities(json!({ "tools": {} })).start().await;
    let gateway = behind(&upstream, "principal").await;
    let client = who(&gateway, json!({})).await;
    client.call("one__echo", json!({})).await.text();
    client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
    client.call("one__echo", json!({})).await.text();
    assert_eq!(upstream.received("logging/setLevel").len(), 0);
}

#[tokio::test]
async fn s_log_04_what_belongs_to_no_call_of_a_connection_for_all_is_told_to_nobody() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = behind(&upstream, "all").await;
        let client = who(&gateway, json!({})).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        client.call("one__echo", json!({})).await.text();
        let mut stream = client.standalone_stream().await;
        upstream.until_standing().await;
        upstream.announce("notifications/message", json!({ "level": "error", "data": "whose?" })).await;
        expect_nothing(&mut stream, "notifications/message").await;
    }
}

#[tokio::test]
async fn s_root_02_changed_roots_are_told_on_a_shared_connection_only_while_nobody_else_uses_it() {
    let roots = json!({ "roots": { "listChanged": true } });
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).start().await;
    let gateway = behind(&upstream, "principal").await;
    let (ada, bob) = (who(&gateway, roots.clone()).await, who(&gateway, roots).await);
    ada.call("one__echo", json!({})).await.text();
    assert_eq!(ada.notify("notifications/roots/list_changed", json!({})).await, 202);
    upstream.until_received("notifications/roots/list_changed", 1).await;
    bob.call("one__echo", json!({})).await.text();
    for client in [&ada, &bob] {
        assert_eq!(client.notify("notifications/roots/list_changed", json!({})).await, 202);
        client.call("one__echo", json!({})).await.text();
    }
    assert_eq!(upstream.received("notifications/roots/list_changed").len(), 1, "whose would they be?");
}
