//! `Mcp-Method` and `Mcp-Name`: true mirrors of the body, in both directions (S-HDR).

use base64::Engine;
use serde_json::{Value, json};

use crate::support::client::{Client, Whole, header_safe};
use crate::support::{HANDSHAKE, STATELESS, Upstream, gateway, stateless_upstream};

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

async fn strict() -> (Upstream, crate::support::Gateway, Client) {
    let upstream = stateless_upstream("one")
        .tool("na\u{ef}ve")
        .show(|shown| {
            shown.resources.push(json!({ "uri": "test://one/caf%C3%A9?q=a b", "name": "odd" }));
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    (upstream, gateway, client)
}

fn named_requests() -> [(&'static str, Value); 3] {
    [
        ("tools/call", json!({ "name": "one__echo", "arguments": {} })),
        ("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } })),
        ("resources/read", json!({ "uri": "test://one/static" })),
    ]
}

#[tokio::test]
async fn s_hdr_01_method_and_name_are_mirrored_truly_or_refused() {
    let (upstream, _gateway, client) = strict().await;
    for (method, params) in named_requests() {
        let before = upstream.ledger().len();
        for (header, value) in [
            ("Mcp-Method", None),
            ("Mcp-Method", Some("tools/list")),
            ("Mcp-Method", Some("")),
            ("Mcp-Name", None),
            ("Mcp-Name", Some("other")),
            ("Mcp-Name", Some("")),
        ] {
            let answer = ask(&client, method, params.clone(), |_, headers| match value {
                Some(value) => headers.set(header, value),
                None => headers.remove(header),
            })
            .await;
            answer.expect_error(400, -32020);
        }
        assert_eq!(upstream.received(method).len(), 0, "{method}: nothing of it left, ledger was {before}");
        let served = ask(&client, method, params, |_, _| {}).await;
        assert_eq!(served.status, 200, "{}", served.body);
    }
    let listed =
        ask(&client, "tools/list", json!({}), |_, headers| headers.set("Mcp-Name", "whatever")).await;
    assert_eq!(listed.status, 200, "tools/list has no name to mirror: {}", listed.body);
}

#[tokio::test]
async fn s_hdr_02_names_of_headers_have_no_case_and_values_do() {
    let (_upstream, _gateway, client) = strict().await;
    let call = || json!({ "name": "one__echo", "arguments": {} });
    let lower = ask(&client, "tools/call", call(), |_, headers| {
        for (name, _) in &mut headers.0 {
            *name = name.to_ascii_lowercase();
        }
    })
    .await;
    assert_eq!(lower.status, 200, "{}", lower.body);
    let upper = ask(&client, "tools/call", call(), |_, headers| {
        for (name, _) in &mut headers.0 {
            *name = name.to_ascii_uppercase();
        }
    })
    .await;
    assert_eq!(upper.status, 200, "{}", upper.body);
    let padded = ask(&client, "tools/call", call(), |_, headers| {
        headers.set("Mcp-Method", "  tools/call\t");
        headers.set("Mcp-Name", " one__echo  ");
    })
    .await;
    assert_eq!(padded.status, 200, "{}", padded.body);
    ask(&client, "tools/list", json!({}), |_, headers| headers.set("Mcp-Method", "TOOLS/LIST"))
        .await
        .expect_error(400, -32020);
    ask(&client, "tools/call", call(), |_, headers| headers.set("Mcp-Name", "ONE__ECHO"))
        .await
        .expect_error(400, -32020);
}

#[tokio::test]
async fn s_hdr_03_sealed_values_are_opened_before_they_are_compared() {
    let (_upstream, _gateway, client) = strict().await;
    let seal = |text: &str| format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text));
    let call = || json!({ "name": "one__echo", "arguments": {} });
    let good =
        ask(&client, "tools/call", call(), |_, headers| headers.set("Mcp-Name", &seal("one__echo"))).await;
    assert_eq!(good.status, 200, "{}", good.body);
    for bad in [
        seal("one__other"),
        "=?base64?b25lX19lY2hv".to_owned(),
        "b25lX19lY2hv?=".to_owned(),
        "=?base64?b25lX19lY2h?=".to_owned(),
        "=?base64?b25lX19lY2hv=?=".to_owned(),
        "=?base64?b25l X19lY2hv?=".to_owned(),
        "=?base64?b25l_X19lY2hv?=".to_owned(),
        "=?base64?//79?=".to_owned(),
        "=?BASE64?b25lX19lY2hv?=".to_owned(),
    ] {
        let answer = ask(&client, "tools/call", call(), |_, headers| headers.set("Mcp-Name", &bad)).await;
        answer.expect_error(400, -32020);
    }
    // Names that need sealing are compared in their opened form and routed by the body.
    for uri in ["test://one/item/caf\u{e9}", "test://one/item/ x ", "test://one/item/=?base64?eA==?="] {
        let answer = ask(&client, "resources/read", json!({ "uri": uri }), |_, headers| {
            headers.set("Mcp-Name", &header_safe(uri));
        })
        .await;
        assert_eq!(answer.status, 200, "{uri:?}: {}", answer.body);
        assert_ne!(answer.json()["error"]["code"], -32020, "{uri:?}: {}", answer.body);
    }
}

#[tokio::test]
async fn s_hdr_06_s_httpc_09_mirrors_towards_upstreams_are_made_anew() {
    let (upstream, gateway, modern) = strict().await;
    let handshake = gateway.handshake(HANDSHAKE).await;
    for client in [&modern, &handshake] {
        for (method, params) in named_requests() {
            let answer = client.request(method, params).await;
            answer.result();
        }
    }
    for (method, name) in
        [("tools/call", "echo"), ("prompts/get", "greet"), ("resources/read", "test://one/static")]
    {
        let sent = upstream.received(method);
        assert_eq!(sent.len(), 2, "{method}");
        for received in sent {
            assert_eq!(received.headers.get("mcp-method"), Some(method));
            assert_eq!(received.headers.get("mcp-name"), Some(name), "the upstream's own name");
            assert_eq!(received.headers.get("mcp-protocol-version"), Some(STATELESS));
        }
    }
}
