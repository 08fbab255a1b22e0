//! The stateless era: metadata and discovery (S-META, S-DISC).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Whole};
use crate::support::pipe_client::PipeClient;
use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, TRANSPORTS, gateway, http_upstream, stateless_upstream,
    upstream, within,
};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Send a request with metadata and headers changed.
async fn ask(
    client: &Client,
    method: &str,
    params: Value,
    change: impl FnOnce(&mut Value, &mut crate::support::http::Headers),
) -> Whole {
    let mut params = client.dress(params);
    let mut headers = client.headers(method, &params);
    change(&mut params, &mut headers);
    let body = json!({ "jsonrpc": "2.0", "id": "mine", "method": method, "params": params }).to_string();
    let answer = client.endpoint.ask("POST", headers, body.as_bytes()).await;
    assert_eq!(answer.json()["id"], "mine", "ids are echoed on errors too (S-ERR-04): {}", answer.body);
    answer
}

fn remove(params: &mut Value, key: &str) {
    params["_meta"].as_object_mut().expect("dressed").remove(key);
}

#[tokio::test]
async fn s_meta_01_07_version_and_capabilities_come_with_every_request() {
    let gateway = gateway().start().await;
    let client = gateway.stateless();
    for method in ["tools/list", "server/discover"] {
        let bare = ask(&client, method, json!({}), |params, _| *params = json!({})).await;
        bare.expect_error(400, -32602);
        for key in [VERSION, CAPABILITIES] {
            ask(&client, method, json!({}), |params, _| remove(params, key)).await.expect_error(400, -32602);
            for wrong in [json!(7), json!(null), json!([]), json!(true)] {
                let answer =
                    ask(&client, method, json!({}), |params, _| params["_meta"][key] = wrong.clone()).await;
                answer.expect_error(400, -32602);
            }
        }
        ask(&client, method, json!({}), |params, _| params["_meta"] = json!("x"))
            .await
            .expect_error(400, -32602);
        let odd = json!({ "sampling": true });
        ask(&client, method, json!({}), |params, _| params["_meta"][CAPABILITIES] = odd)
            .await
            .expect_error(400, -32602);
        let unknown =
            json!({ "tools": {}, "roots": { "listChanged": true }, "extensions": { "com.example/x": {} } });
        let served =
            ask(&client, method, json!({}), |params, _| params["_meta"][CAPABILITIES] = unknown).await;
        assert_eq!(served.status, 200, "unknown capabilities are nobody's business: {}", served.body);
    }
}

#[tokio::test]
async fn s_meta_02_who_the_client_is_may_stay_unsaid() {
    let upstream = stateless_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let params = json!({ "name": "one__echo", "arguments": {} });
    let answer =
        ask(&client, "tools/call", params, |params, _| remove(params, "io.modelcontextprotocol/clientInfo"))
            .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let sent = upstream.until_received("tools/call", 1).await;
    let identity = &sent.params()["_meta"]["io.modelcontextprotocol/clientInfo"];
    assert!(identity["name"].is_string(), "the gateway always says who it is: {}", sent.raw);
}

#[tokio::test]
async fn s_meta_03_10_a_version_not_served_is_refused_with_those_that_are() {
    let gateway = gateway().start().await;
    let client = gateway.stateless();
    let discovered = client.request("server/discover", json!({})).await;
    let served = discovered.result()["supportedVersions"].as_array().expect("judged by the schema").clone();
    for version in ["v999.0.0", "2099-01-01", "2025-06-18", HANDSHAKE] {
        let answer = ask(&client, "tools/list", json!({}), |params, headers| {
            params["_meta"][VERSION] = json!(version);
            headers.set("MCP-Protocol-Version", version);
        })
        .await;
        answer.expect_error(400, -32022);
        let data = &answer.json()["error"]["data"];
        assert_eq!(data["requested"], version, "{}", answer.body);
        assert_eq!(data["supported"], json!(served), "both lists are the same (S-META-10)");
    }
    let mut expected: Vec<&str> = HANDSHAKE_REVISIONS.to_vec();
    expected.push(STATELESS);
    expected.reverse();
    assert_eq!(json!(served), json!(expected), "all served versions, newest first");
}

#[tokio::test]
async fn s_meta_04_header_and_metadata_say_the_same_or_it_is_a_mismatch() {
    let gateway = gateway().start().await;
    let client = gateway.stateless();
    ask(&client, "tools/list", json!({}), |params, _| params["_meta"][VERSION] = json!("v999.0.0"))
        .await
        .expect_error(400, -32020);
    ask(&client, "tools/list", json!({}), |_, headers| headers.set("MCP-Protocol-Version", HANDSHAKE))
        .await
        .expect_error(400, -32020);
    ask(&client, "tools/list", json!({}), |_, headers| headers.remove("MCP-Protocol-Version"))
        .await
        .expect_error(400, -32020);
}

#[tokio::test]
async fn s_meta_06_upstreams_are_told_this_request_s_capabilities_and_no_others() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", STATELESS, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let plain = gateway.stateless();
        plain.until_tools(&["one__echo"]).await;
        let mut sampling = plain.clone();
        sampling.capabilities = json!({ "sampling": {} });
        for (client, who) in [(&sampling, "sampling"), (&plain, "plain"), (&sampling, "sampling again")] {
            client.call("one__echo", json!({ "who": who })).await.text();
        }
        for call in upstream.received("tools/call") {
            let meta = &call.params()["_meta"];
            assert_eq!(meta[VERSION], STATELESS);
            let declares = meta[CAPABILITIES].get("sampling").is_some();
            if call.params()["arguments"]["who"] == "plain" {
                assert!(!declares, "never remembered from another request: {}", call.raw);
            }
        }
    }
}

#[tokio::test]
async fn s_meta_08_the_body_is_the_truth_and_a_pipe_needs_no_mirror() {
    let upstream = stateless_upstream("one").start().await;
    let plan = gateway().with("one", &upstream);
    let mut pipe = PipeClient::with_file(&plan.file()).await;
    let params = json!({ "name": "one__echo", "arguments": { "over": "a pipe" } });
    // A call waits for the first list of a server that may have the tool.
    let answer = pipe.stateless("tools/call", params).await;
    assert_eq!(answer["result"]["content"][0]["text"], r#"one echoes {"over":"a pipe"}"#, "{answer}");

    let gateway = plan.start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    // A mirror that is in order says nothing that the body does not say, and headers of others are no mirrors.
    let params = json!({ "name": "one__echo", "arguments": { "over": "HTTP" } });
    let answer = ask(&client, "tools/call", params, |_, headers| {
        headers.set("Mcp-Session-Id", "of another era");
        headers.set("Last-Event-ID", "7");
        headers.set("Mcp-Uri", "test://one/static");
    })
    .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let sent = upstream.received("tools/call").pop().expect("it arrived");
    assert_eq!(sent.params()["arguments"]["over"], "HTTP", "{}", sent.raw);
}

#[tokio::test]
async fn s_disc_01_02_what_is_discovered_is_what_is_served() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let discovered = client.request("server/discover", json!({})).await;
    let result = discovered.result();
    assert_eq!(result["resultType"], "complete");
    assert!(result.get("serverInfo").is_none(), "identity is in _meta alone: {}", discovered.raw);
    let capabilities = &result["capabilities"];
    assert!(capabilities.get("tasks").is_none(), "{capabilities}");
    for (feature, methods) in [
        ("tools", &["tools/list"][..]),
        ("prompts", &["prompts/list"]),
        ("resources", &["resources/list", "resources/templates/list"]),
    ] {
        assert!(capabilities[feature].is_object(), "{feature}: {capabilities}");
        for method in methods {
            client.request(method, json!({})).await.result();
        }
    }
    assert!(capabilities["completions"].is_object(), "{capabilities}");
}

#[tokio::test]
async fn s_disc_05_discovery_asks_no_upstream() {
    let down = stateless_upstream("one").reserve();
    let gateway = gateway().with_server("one", down.settings()).start().await;
    let client = gateway.stateless();
    let discovered = within(
        Duration::from_secs(5),
        "discovery with all upstreams down",
        client.request("server/discover", json!({})),
    )
    .await;
    assert!(discovered.result()["capabilities"]["tools"].is_object(), "{}", discovered.raw);
}

#[tokio::test]
async fn s_err_02_no_code_of_the_other_era_reaches_a_stateless_client() {
    for code in [-32002, -32042, -32000] {
        let upstream = http_upstream("one")
            .on("resources/read", move |mut call| async move {
                let uri = call.params()["uri"].clone();
                let data = if code == -32042 { json!({ "elicitations": [] }) } else { json!({ "uri": uri }) };
                call.error(code, "an old code", data).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["static"]).await;
        // The schema judge of the client fails the story when the code is unlawful.
        let answer = client.request("resources/read", json!({ "uri": "test://one/static" })).await;
        answer.error();
    }
}
