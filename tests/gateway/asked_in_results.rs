//! What a stateless server asks comes inside results and nowhere else (S-MRTR-12, -14; S-STDIO-07, S-ROOT-04, S-SAMP-08,
//! S-ELIC-15).

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::pipe_client::PipeClient;
use crate::support::{
    STATELESS, TRANSPORTS, Transport, Upstream, gateway, stateless_upstream, upstream, within,
};

/// One question of each kind.
fn questions() -> Value {
    json!({
        "folders": { "method": "roots/list", "params": {} },
        "words": { "method": "sampling/createMessage", "params": {
            "messages": [{ "role": "user", "content": { "type": "text", "text": "say it" } }], "maxTokens": 5,
        } },
        "form": { "method": "elicitation/create", "params": {
            "mode": "form", "message": "who?",
            "requestedSchema": { "type": "object", "properties": { "name": { "type": "string" } } },
        } },
        "page": { "method": "elicitation/create", "params": {
            "mode": "url", "message": "look", "url": "https://example.com/a?b=c",
        } },
    })
}

fn answers() -> Value {
    json!({
        "folders": { "roots": [{ "uri": "file:///home/me" }] },
        "words": { "role": "assistant", "content": { "type": "text", "text": "it" }, "model": "m" },
        "form": { "action": "accept", "content": { "name": "me" } },
        "page": { "action": "accept" },
    })
}

fn able(mut client: Client) -> Client {
    client.capabilities = json!({ "roots": {}, "sampling": {}, "elicitation": { "form": {}, "url": {} } });
    client
}

/// An upstream that asks everything before it answers anything.
async fn asking(transport: Transport) -> Upstream {
    let mut plan = upstream("one", STATELESS, transport);
    for method in ["tools/call", "prompts/get", "resources/read"] {
        plan = plan.on(method, |mut call| async move {
            if call.params().get("inputResponses").is_some() {
                return call.default().await;
            }
            let state = format!("state of {}", call.method());
            let asked =
                json!({ "resultType": "input_required", "inputRequests": questions(), "requestState": state });
            call.result(asked).await;
        });
    }
    plan.start().await
}

fn askers() -> [(&'static str, Value); 3] {
    [
        ("tools/call", json!({ "name": "one__echo", "arguments": { "a": 1 } })),
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "me" } })),
        ("resources/read", json!({ "uri": "test://one/static" })),
    ]
}

#[tokio::test]
async fn s_root_04_s_samp_08_s_elic_15_every_question_of_a_stateless_server_is_a_part_of_a_result() {
    for transport in TRANSPORTS {
        let upstream = asking(transport).await;
        let gateway =
            gateway().with_more("one", &upstream, json!({ "ask": { "roots": true } })).start().await;
        let client = able(gateway.stateless());
        client.until_tools(&["one__echo"]).await;
        for (method, mut params) in askers() {
            let asked = client.request(method, params.clone()).await;
            let result = asked.result();
            assert_eq!(result["resultType"], "input_required", "{}", asked.raw);
            assert_eq!(result["inputRequests"], questions(), "as the server wrote them: {}", asked.raw);
            assert!(
                asked.before.iter().all(|message| message.json.get("id").is_none()),
                "{:?}",
                asked.before
            );
            params["inputResponses"] = answers();
            params["requestState"] = result["requestState"].clone();
            let answered = client.request(method, params).await;
            assert_eq!(answered.result()["resultType"], "complete", "{}", answered.raw);
            assert!(answered.before.iter().all(|message| message.json.get("id").is_none()));
            let sent = upstream.until_received(method, 2).await;
            assert_eq!(sent.params()["inputResponses"], answers(), "{}", sent.raw);
            assert_eq!(sent.params()["requestState"], format!("state of {method}"), "{}", sent.raw);
        }
        for sent in upstream.ledger() {
            assert!(
                !sent.method().is_empty() || sent.json.is_null(),
                "nobody answers a request: {}",
                sent.raw
            );
            assert_ne!(sent.method(), "notifications/roots/list_changed");
        }
    }
}

#[tokio::test]
async fn s_mrtr_12_answers_mean_nothing_where_nothing_can_be_asked() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = able(gateway.stateless());
    client.until_tools(&["one__echo"]).await;
    client.until_listed("prompts", &["one__greet"]).await;
    for (method, mut params) in [
        ("tools/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("server/discover", json!({})),
        (
            "completion/complete",
            json!({
                "ref": { "type": "ref/prompt", "name": "one__greet" }, "argument": { "name": "who", "value": "m" },
            }),
        ),
    ] {
        params["inputResponses"] = answers();
        params["requestState"] = json!("forged");
        let answer = client.request(method, params).await;
        assert_eq!(answer.result()["resultType"], "complete", "{method}: {}", answer.raw);
    }
    for sent in upstream.ledger() {
        assert!(!sent.raw.contains("inputResponses") && !sent.raw.contains("forged"), "{}", sent.raw);
    }
}

#[tokio::test]
async fn s_mrtr_14_what_came_of_answers_is_not_kept_and_questions_do_not_hold() {
    let upstream = asking(Transport::Http).await;
    let gateway = gateway().with_more("one", &upstream, json!({ "ask": { "roots": true } })).start().await;
    let client = able(gateway.stateless());
    client.until_tools(&["one__echo"]).await;
    let read = json!({ "uri": "test://one/static" });
    for round in 1..=3 {
        let asked = client.request("resources/read", read.clone()).await;
        let result = asked.result();
        assert_eq!(result["resultType"], "input_required", "asked each time: {}", asked.raw);
        assert!(result.get("ttlMs").is_none() && result.get("cacheScope").is_none(), "{}", asked.raw);
        let mut retry = read.clone();
        retry["inputResponses"] = answers();
        retry["requestState"] = result["requestState"].clone();
        client.request("resources/read", retry).await.result();
        assert_eq!(upstream.received("resources/read").len(), 2 * round, "each one was asked of the server");
    }
}

#[tokio::test]
async fn s_stdio_07_a_stateless_child_that_sends_requests_is_not_answered_and_its_call_goes_on() {
    let upstream = upstream("one", STATELESS, Transport::Stdio)
        .lenient()
        .on("tools/call", |mut call| async move {
            let (_, answered) = call.begin_to_ask("roots/list", json!({})).await;
            let (_, also) = call.begin_to_ask("ping", json!({})).await;
            call.pause(300).await;
            drop((answered, also));
            call.text("went on").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = able(gateway.stateless());
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "went on");
    for line in upstream.ledger() {
        assert!(!line.method().is_empty(), "a stateless pipe carries no responses of clients: {}", line.raw);
    }
}

#[tokio::test]
async fn s_stdio_07_on_a_stateless_pipe_a_notification_cancels_and_nothing_comes_afterwards() {
    for transport in TRANSPORTS {
        let (tell, mut told) = tokio::sync::mpsc::channel(1);
        let upstream = upstream("one", STATELESS, transport)
            .on("tools/call", move |mut call| {
                let tell = tell.clone();
                async move {
                    call.cancelled().await;
                    tell.send(()).await.ok();
                    // Too late for anybody.
                    call.text("too late").await;
                }
            })
            .start()
            .await;
        let mut client = PipeClient::with_file(&gateway().with("one", &upstream).file()).await;
        let id = client.open_stateless("tools/call", json!({ "name": "one__echo", "arguments": {} })).await;
        upstream.until_received("tools/call", 1).await;
        let cancel =
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } });
        client.line(&cancel.to_string()).await;
        within(std::time::Duration::from_secs(1), "the upstream to hear of it", told.recv()).await;
        let served = client.stateless("server/discover", json!({})).await;
        assert!(served.get("result").is_some(), "{served}");
        let (_, rest) = client.close().await;
        assert!(rest.iter().all(|message| message["id"] != id), "nothing comes for it: {rest:?}");
    }
}
