//! What the HTTP endpoint refuses, and with which status.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use switchyard::protocol::era::Revision;

use crate::client::{Client, text_of};
use crate::pipe::start_http;
use crate::web::{POST, send};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

async fn status(url: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    send(Method::POST, url, headers, body).await.status.as_u16()
}

#[tokio::test]
async fn s_https_07_content_type_and_accept_are_checked() {
    let (_server, url) = start_http(&[]).await;
    let (json_type, both) = (POST[0], POST[1]);
    assert_eq!(status(&url, &[("content-type", "text/plain"), both], PING).await, 415);
    assert_eq!(status(&url, &[both], PING).await, 415);
    for accept in ["application/json", "text/event-stream", "text/html"] {
        assert_eq!(status(&url, &[json_type, ("accept", accept)], PING).await, 406, "{accept}");
    }
    assert_eq!(status(&url, &[json_type], PING).await, 406);
    for accept in ["*/*", "application/*, text/event-stream;q=0.5"] {
        assert_eq!(status(&url, &[json_type, ("accept", accept)], "{").await, 400, "{accept}");
    }
    assert_eq!(status(&url, &[("content-type", "application/json; charset=utf-8"), both], "{").await, 400);
}

#[tokio::test]
async fn s_https_02_other_hosts_and_origins_are_refused() {
    let client = Client::meet(Revision::V2025_11_25, true, &[]).await;
    let base = [POST[0], POST[1], ("mcp-session-id", client.session())];
    let with = |name, value| [base.as_slice(), &[(name, value)]].concat();
    for host in ["evil.example.com", "localhost.evil.example.com:80"] {
        assert_eq!(status(client.url(), &with("host", host), PING).await, 403, "{host}");
    }
    for origin in ["http://evil.example.com", "null", "file://localhost"] {
        assert_eq!(status(client.url(), &with("origin", origin), PING).await, 403, "{origin}");
    }
    for origin in ["http://localhost:1234", "https://127.0.0.1", "http://[::1]:5"] {
        assert_eq!(status(client.url(), &with("origin", origin), PING).await, 200, "{origin}");
    }
    for method in [Method::GET, Method::DELETE] {
        let answer = send(method, client.url(), &with("origin", "http://evil.example.com"), "").await;
        assert_eq!(answer.status, 403);
    }
}

#[tokio::test]
async fn s_https_01_other_methods_and_bodies_are_refused() {
    let (_server, url) = start_http(&[]).await;
    for method in [Method::PUT, Method::PATCH, Method::OPTIONS, Method::GET, Method::DELETE] {
        assert_eq!(
            send(method.clone(), &url, &[("accept", "text/event-stream")], "").await.status,
            405,
            "{method}"
        );
    }
    let broken = send(Method::POST, &url, &POST, "{").await.value().await;
    assert_eq!(broken["error"]["code"], -32700);
    assert_eq!(status(&url, &POST, "[]").await, 400);
    assert_eq!(status(&url, &POST, &"x".repeat(17 << 20)).await, 413);
}

async fn refused(
    client: &mut Client,
    change: impl Fn(&mut Vec<(&'static str, String)>, &mut Value),
) -> (u16, i64) {
    let mut message = client.compose("tools/call", json!({"name": "echo", "arguments": {"text": "hi"}}));
    let mut headers = client.headers("tools/call", &message["params"]);
    change(&mut headers, &mut message);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = send(Method::POST, client.url(), &headers, &message.to_string()).await;
    let status = answer.status.as_u16();
    let body = answer.value().await;
    crate::schema::check(Revision::V2026_07_28, &body, Some("tools/call"));
    assert_eq!(body["id"], message["id"], "errors carry the id of their request");
    (status, body["error"]["code"].as_i64().unwrap_or_default())
}

fn set(headers: &mut [(&'static str, String)], name: &str, value: &str) {
    headers.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, old)| value.clone_into(old));
}

#[tokio::test]
async fn s_meta_01_metadata_and_version_are_checked_in_order() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &[]).await;
    const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    let c = &mut client;
    assert_eq!(refused(c, |_, _| {}).await, (200, 0));
    assert_eq!(refused(c, |_, m| m["params"]["_meta"] = json!({})).await, (400, -32602));
    assert_eq!(
        refused(c, |_, m| m["params"]["_meta"][CAPABILITIES] = json!({"roots": true})).await,
        (400, -32602)
    );
    assert_eq!(refused(c, |_, m| m["params"]["_meta"][VERSION] = json!("v9")).await, (400, -32020));
    assert_eq!(refused(c, |h, _| h.retain(|it| it.0 != "mcp-protocol-version")).await, (400, -32020));
    let both = |h: &mut Vec<(&'static str, String)>, m: &mut Value| {
        set(h, "mcp-protocol-version", "v9");
        m["params"]["_meta"][VERSION] = json!("v9");
    };
    assert_eq!(refused(c, both).await, (400, -32022));
    let level = "io.modelcontextprotocol/logLevel";
    assert_eq!(refused(c, |_, m| m["params"]["_meta"][level] = json!("loud")).await, (400, -32602));
    assert_eq!(refused(c, |h, _| h.push(("mcp-session-id", "stray".to_owned()))).await, (200, 0));
}

#[tokio::test]
async fn s_hdr_01_method_and_name_headers_agree_with_the_body() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &[]).await;
    let c = &mut client;
    let encoded = format!("=?base64?{}?=", STANDARD.encode("echo"));
    assert_eq!(refused(c, |h, _| set(h, "mcp-name", &encoded)).await, (200, 0));
    assert_eq!(refused(c, |h, _| set(h, "mcp-name", "ECHO")).await, (400, -32020));
    assert_eq!(refused(c, |h, _| set(h, "mcp-name", "=?base64?!?=")).await, (400, -32020));
    assert_eq!(refused(c, |h, _| h.retain(|it| it.0 != "mcp-name")).await, (400, -32020));
    assert_eq!(refused(c, |h, _| set(h, "mcp-method", "TOOLS/CALL")).await, (400, -32020));
    assert_eq!(refused(c, |h, _| h.retain(|it| it.0 != "mcp-method")).await, (400, -32020));
    let removed = |h: &mut Vec<(&'static str, String)>, m: &mut Value| {
        set(h, "mcp-method", "ping");
        m["method"] = json!("ping");
    };
    assert_eq!(refused(c, removed).await, (404, -32601));
    let unknown = |h: &mut Vec<(&'static str, String)>, m: &mut Value| {
        set(h, "mcp-name", "nothing");
        m["params"]["name"] = json!("nothing");
    };
    assert_eq!(refused(c, unknown).await, (200, -32602));
}

#[tokio::test]
async fn s_meta_05_an_undeclared_capability_is_named_with_status_400() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &[]).await;
    client.capabilities = json!({"elicitation": {}});
    let call = client.compose("tools/call", json!({"name": "sample"}));
    let answer = client.post(&call).await;
    assert_eq!(answer.status, 400);
    let body = answer.value().await;
    assert_eq!(body["error"]["code"], -32021);
    assert_eq!(body["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
    let by_url = client.request("tools/call", json!({"name": "ask_url"})).await.unwrap_err();
    assert_eq!(by_url["data"]["requiredCapabilities"], json!({"elicitation": {"url": {}}}));
}

#[tokio::test]
async fn s_mrtr_05_request_state_holds_for_its_own_request_only() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &[]).await;
    let call = client.compose("tools/call", json!({"name": "ask"}));
    let asked = client.post(&call).await.value().await;
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    let answers = json!({"name": {"action": "accept", "content": {"name": "Ada"}}});
    let again =
        |tool: &str, state: &str| json!({"name": tool, "inputResponses": answers, "requestState": state});
    for (tool, state) in
        [("ask", format!("{state}x")), ("ask", "made-up".to_owned()), ("sample", state.clone())]
    {
        let refused = client.request("tools/call", again(tool, &state)).await.unwrap_err();
        assert_eq!(refused["code"], -32602, "{tool}");
    }
    let greeted = client.request("tools/call", again("ask", &state)).await.unwrap();
    assert_eq!(text_of(&greeted), "Hello, Ada!");
    let listed = client.request("tools/list", json!({"inputResponses": 1, "requestState": "x"})).await;
    assert!(listed.is_ok(), "other methods do not look at answers");
}

#[tokio::test]
async fn s_hdr_05_mirrored_parameters_agree_with_the_body() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &["--tools", "conformance"]).await;
    for (region, header, code) in [
        (json!("us-west1"), Some("us-west1".to_owned()), 0),
        (json!("grüße"), Some(format!("=?base64?{}?=", STANDARD.encode("grüße"))), 0),
        (json!("us-west1"), Some("eu".to_owned()), -32020),
        (json!("us-west1"), None, -32020),
        (Value::Null, None, 0),
    ] {
        let call = client
            .compose("tools/call", json!({"name": "test_custom_header", "arguments": {"region": region}}));
        let mut headers = client.headers("tools/call", &call["params"]);
        headers.extend(header.map(|header| ("mcp-param-region", header)));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = send(Method::POST, client.url(), &headers, &call.to_string()).await;
        assert_eq!(answer.value().await["error"]["code"].as_i64().unwrap_or_default(), code, "{region}");
    }
}
