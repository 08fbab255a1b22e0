//! What comes beside the core of the protocol: baggage, extensions, experiments, methods of others (S-EXT-02 to -05).

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::pipe_client::PipeClient;
use crate::support::{HANDSHAKE, STATELESS, Transport, gateway, upstream};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const BAGGAGE: &str = "tenant=acme,tier=gold";
const EVERY_HOP: [(&str, Transport); 4] = [
    (STATELESS, Transport::Http),
    (STATELESS, Transport::Stdio),
    (HANDSHAKE, Transport::Http),
    (HANDSHAKE, Transport::Stdio),
];

/// Call with baggage, in the metadata or in the headers.
async fn call_with_baggage(client: &Client, in_meta: bool) {
    let mut params = json!({ "name": "one__echo", "arguments": {} });
    if in_meta {
        params["_meta"] = json!({ "traceparent": PARENT, "baggage": BAGGAGE });
    }
    let params = client.dress(params);
    let mut headers = client.headers("tools/call", &params);
    if !in_meta {
        headers.set("traceparent", PARENT);
        headers.set("baggage", BAGGAGE);
    }
    let id = json!(client.fresh_id());
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string();
    client.open_raw(id, "tools/call", headers, body.as_bytes()).await.answer().await.result();
}

#[tokio::test]
async fn s_ext_02_baggage_goes_to_servers_of_the_own_house_alone_and_the_trace_to_all() {
    for (revision, transport) in EVERY_HOP {
        for (trust, is_told) in
            [(None, false), (Some("internal"), true), (Some("vendor"), false), (Some("untrusted"), false)]
        {
            let upstream = upstream("one", revision, transport).start().await;
            let more = trust.map_or(json!({}), |trust| json!({ "trust": trust }));
            let gateway = gateway().with_more("one", &upstream, more).start().await;
            for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
                client.until_tools(&["one__echo"]).await;
                for in_meta in [true, false] {
                    call_with_baggage(&client, in_meta).await;
                    let sent = upstream.received("tools/call").pop().expect("it arrived");
                    let meta = &sent.params()["_meta"];
                    let expected = if is_told { json!(BAGGAGE) } else { Value::Null };
                    assert_eq!(meta["baggage"], expected, "{trust:?}: {}", sent.raw);
                    let header = sent.headers.get("baggage");
                    assert!(header.is_none_or(|told| is_told && told == BAGGAGE), "{trust:?}: {header:?}");
                    assert!(meta["traceparent"].is_string(), "the trace goes on: {}", sent.raw);
                }
            }
        }
    }
}

/// What no hop is to show of another.
fn strangers() -> Value {
    json!({
        "extensions": { "com.example/strange": { "marker": "ext-marker" } },
        "experimental": { "com.example/odd": { "marker": "exp-marker" } },
    })
}

#[tokio::test]
async fn s_ext_03_04_what_the_gateway_does_not_know_is_not_declared_on_the_other_hop() {
    for (revision, transport) in EVERY_HOP {
        let mut offered = strangers();
        for feature in ["tools", "prompts", "resources"] {
            offered[feature] = json!({});
        }
        let upstream = upstream("one", revision, transport).capabilities(offered).lenient().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let mut modern = gateway.stateless();
        modern.capabilities = strangers();
        let legacy = gateway.handshake_with(HANDSHAKE, strangers()).await;
        for client in [&modern, &legacy] {
            client.until_tools(&["one__echo"]).await;
            client.call("one__echo", json!({})).await.result();
        }
        let discovered = modern.request("server/discover", json!({})).await;
        for shown in [discovered.raw.clone(), legacy.welcome.to_string()] {
            assert!(!shown.contains("-marker") && !shown.contains("com.example"), "{shown}");
        }
        for sent in upstream.ledger() {
            assert!(!sent.raw.contains("-marker") && !sent.raw.contains("com.example"), "{}", sent.raw);
        }
    }
}

#[tokio::test]
async fn s_ext_05_methods_of_others_are_not_found_in_the_words_of_the_client_s_era() {
    for (revision, transport) in EVERY_HOP {
        let upstream = upstream("one", revision, transport).start().await;
        let plan = gateway().with("one", &upstream);
        let gateway = plan.start().await;
        for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
            client.until_tools(&["one__echo"]).await;
            let status = if client.is_stateless() { 404 } else { 200 };
            for method in ["vendor/method", "com.example/tools/call", "tools/called", "notifications/odd"] {
                let params = client.dress(json!({}));
                let headers = client.headers(method, &params);
                let body = json!({ "jsonrpc": "2.0", "id": "mine", "method": method, "params": params });
                let answer = client.endpoint.ask("POST", headers, body.to_string().as_bytes()).await;
                answer.expect_error(status, -32601);
                assert_eq!(answer.json()["id"], "mine", "{}", answer.body);
            }
        }
        let mut pipe = PipeClient::with_file(&plan.file()).await;
        let refused = pipe.stateless("vendor/method", json!({})).await;
        assert_eq!(refused["error"]["code"], -32601, "{refused}");
        assert!(upstream.received("vendor/method").is_empty(), "nothing of it is passed on");
    }
}
