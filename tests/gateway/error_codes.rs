//! Every way to an error, for clients of both eras, and the codes that come (S-ERR; era-bridge §8).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::client::{Answer, Client};
use crate::support::{
    Gateway, HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, Transport, Upstream, gateway, http_upstream,
    stateless_upstream, upstream,
};

/// Codes that upstreams answer with.
const CODES: [i64; 17] = [
    -32700, -32600, -32601, -32602, -32603, -32002, -32042, -32020, -32021, -32022, -32000, -32019, -32023,
    -32099, -32100, -1, 42,
];

const METHODS: [&str; 4] = ["tools/call", "prompts/get", "resources/read", "completion/complete"];

fn params(method: &str) -> Value {
    match method {
        "tools/call" => json!({ "name": "one__echo", "arguments": {} }),
        "prompts/get" => json!({ "name": "one__greet", "arguments": { "who": "me" } }),
        "resources/read" => json!({ "uri": "test://one/static" }),
        _ => json!({
            "ref": { "type": "ref/prompt", "name": "one__greet" },
            "argument": { "name": "who", "value": "m" },
        }),
    }
}

/// What stands beside a code, as the revisions want it.
fn data(code: i64) -> Value {
    match code {
        -32002 => json!({ "uri": "test://one/static" }),
        -32042 => json!({ "elicitations": [{
            "mode": "url", "elicitationId": "e", "url": "https://example.com/", "message": "look",
        }] }),
        -32021 => json!({ "requiredCapabilities": { "sampling": {} } }),
        -32022 => json!({ "supported": ["2031-01-01"], "requested": STATELESS }),
        _ => json!({ "own": "words" }),
    }
}

/// An upstream that answers every call with the code that the test asks for, by a header of the call's `_meta`.
async fn refusing(revision: &str) -> Upstream {
    let mut plan = upstream("one", revision, Transport::Http).lenient();
    for method in METHODS {
        plan = plan.on(method, |mut call| async move {
            let code = call.params()["_meta"]["com.example/code"].as_i64().unwrap_or(-32603);
            let status = match code {
                -32022..=-32020 => 400,
                -32601 => 404,
                _ => 200,
            };
            let error = json!({ "code": code, "message": "own words", "data": data(code) });
            let message = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, call.id());
            let is_stateless = call.received.headers.get("mcp-method").is_some();
            let status = if is_stateless { status } else { 200 };
            call.http(status, &[("Content-Type", "application/json")], message.as_bytes()).await;
        });
    }
    plan.start().await
}

async fn provoke(client: &Client, method: &str, code: i64) -> Answer {
    let mut params = params(method);
    params["_meta"] = json!({ "com.example/code": code });
    let answer = client.request(method, params).await;
    let id = &answer.json["id"];
    assert!(id.is_i64() || id.is_string(), "the id is echoed: {}", answer.raw);
    answer
}

/// Instead of a code: a result with `isError`, and one without.
const TOOL_ERROR: i64 = 0;
const NO_ERROR: i64 = 1;

/// HTTP status and code.
fn told(answer: &Answer) -> (u16, i64) {
    match answer.json.get("error") {
        Some(error) => (answer.status, error["code"].as_i64().expect("a number")),
        None if answer.result()["isError"] == true => (answer.status, TOOL_ERROR),
        None => (answer.status, NO_ERROR),
    }
}

/// Rows of era-bridge §8: what a client of the era is told where its upstream answers so.
fn expected(client_is_stateless: bool, upstream_is_stateless: bool, method: &str, code: i64) -> (u16, i64) {
    let is_call = method == "tools/call";
    // A runtime failure of a known tool is for the model.
    let failure = (200, if is_call { TOOL_ERROR } else { -32603 });
    match code {
        // A server without completion completes nothing.
        -32601 if method == "completion/complete" => (200, NO_ERROR),
        -32700 | -32600 | -32603 | -32020 => (200, -32603),
        // Renegotiation is the gateway's business; here it fails. To the handshake era the code means nothing.
        -32022 if upstream_is_stateless => failure,
        -32022 => (200, -32603),
        -32601 if client_is_stateless => (200, -32603),
        -32002 if client_is_stateless => (200, -32602),
        -32021 if client_is_stateless => (400, -32021),
        -32021 => (200, -32602),
        -32042 => failure,
        -32099..=-32023 => (200, -32603),
        kept => (200, kept),
    }
}

#[tokio::test]
async fn s_err_01_02_03_every_code_of_an_upstream_becomes_the_one_of_the_client_s_era() {
    let mut emitted: [BTreeSet<i64>; 2] = Default::default();
    for upstream_revision in [HANDSHAKE, STATELESS] {
        let upstream = refusing(upstream_revision).await;
        let gateway = gateway().with("one", &upstream).start().await;
        let mut wrong = Vec::new();
        for client in clients(&gateway).await {
            client.until_tools(&["one__echo"]).await;
            client.until_listed("prompts", &["one__greet"]).await;
            client.until_listed("resources", &["static"]).await;
            for method in METHODS {
                for code in CODES {
                    let answer = provoke(&client, method, code).await;
                    let is_stateless = client.is_stateless();
                    let should = expected(is_stateless, upstream_revision == STATELESS, method, code);
                    if told(&answer) != should {
                        wrong.push(format!(
                            "{upstream_revision} to {}: {method} {code} should be {should:?}: {}",
                            client.revision, answer.raw
                        ));
                    }
                    emitted[usize::from(is_stateless)].insert(told(&answer).1);
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    let [to_handshake, to_stateless] = emitted;
    println!("handshake: {to_handshake:?}\nstateless: {to_stateless:?}");
    for code in [-32020, -32021, -32022] {
        assert!(!to_handshake.contains(&code), "{code} is of the other era (S-ERR-03)");
    }
    for code in [-32002, -32042] {
        assert!(!to_stateless.contains(&code), "{code} is of the other era (S-ERR-02)");
    }
    let reserved: Vec<_> = to_stateless.range(-32099..=-32020).collect();
    assert!(reserved.iter().all(|code| (-32022..=-32020).contains(*code)), "{reserved:?}");
}

async fn clients(gateway: &Gateway) -> Vec<Client> {
    let mut clients = vec![gateway.stateless()];
    for revision in HANDSHAKE_REVISIONS {
        clients.push(gateway.handshake(revision).await);
    }
    clients
}

#[tokio::test]
async fn s_err_01_not_found_is_told_with_the_uri_in_the_code_of_the_client_s_era() {
    for (upstream_revision, code) in [(HANDSHAKE, -32002), (STATELESS, -32602)] {
        let upstream = upstream("one", upstream_revision, Transport::Http)
            .on("resources/read", move |mut call| async move {
                let uri = call.params()["uri"].clone();
                call.error(code, "no such thing", json!({ "uri": uri })).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for client in clients(&gateway).await {
            client.until_listed("resources", &["static"]).await;
            let answer = client.request("resources/read", json!({ "uri": "test://one/static" })).await;
            let code = if client.is_stateless() { -32602 } else { -32002 };
            assert_eq!(told(&answer), (200, code), "{}", answer.raw);
            assert_eq!(answer.error()["data"]["uri"], "test://one/static", "{}", answer.raw);
        }
    }
    // Without the URI it is any other trouble with parameters.
    let vague = stateless_upstream("one")
        .on("resources/read", |mut call| async move { call.error(-32602, "what?", Value::Null).await })
        .start()
        .await;
    let gateway = gateway().with("one", &vague).start().await;
    for client in clients(&gateway).await {
        client.until_listed("resources", &["static"]).await;
        let answer = client.request("resources/read", json!({ "uri": "test://one/static" })).await;
        assert_eq!(told(&answer), (200, -32602), "{}", answer.raw);
    }
}

#[tokio::test]
async fn s_meta_05_a_missing_capability_is_told_with_400_to_the_stateless_era_and_as_parameters_to_the_other()
{
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            let required =
                json!({ "requiredCapabilities": { "sampling": {}, "elicitation": { "url": {} } } });
            let error = json!({ "code": -32021, "message": "it needs to sample", "data": required });
            let message = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, call.id());
            call.http(400, &[("Content-Type", "application/json")], message.as_bytes()).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let required = json!({ "sampling": {}, "elicitation": { "url": {} } });
    for client in clients(&gateway).await {
        client.until_tools(&["one__echo"]).await;
        let answer = client.call("one__echo", json!({})).await;
        let should = if client.is_stateless() { (400, -32021) } else { (200, -32602) };
        assert_eq!(told(&answer), should, "{}", answer.raw);
        let error = answer.error();
        assert_eq!(error["message"], "it needs to sample", "{}", answer.raw);
        assert_eq!(error["data"]["requiredCapabilities"], required, "{}", answer.raw);
    }
}

/// Every error that the gateway makes itself, as it is told to this client.
async fn own_errors(client: &Client) -> Vec<(&'static str, Answer)> {
    let mut told = Vec::new();
    for (what, method, params) in [
        ("unknown tool", "tools/call", json!({ "name": "one__nobody", "arguments": {} })),
        ("no tool", "tools/call", json!({ "name": "nobody" })),
        ("arguments of no object", "tools/call", json!({ "name": "one__echo", "arguments": [] })),
        ("unknown prompt", "prompts/get", json!({ "name": "one__nobody" })),
        ("unknown resource", "resources/read", json!({ "uri": "test://nowhere/at/all" })),
        (
            "unknown completion",
            "completion/complete",
            json!({
                "ref": { "type": "ref/prompt", "name": "one__nobody" }, "argument": { "name": "a", "value": "" },
            }),
        ),
        ("bad cursor", "tools/list", json!({ "cursor": "forged" })),
        ("down", "tools/call", json!({ "name": "down__echo", "arguments": {} })),
        ("unknown method", "vendor/method", json!({})),
    ] {
        told.push((what, client.request(method, params).await));
    }
    told
}

#[tokio::test]
async fn s_err_02_03_05_the_gateway_s_own_errors_have_codes_of_the_client_s_era_and_tell_nothing_internal() {
    let upstream = http_upstream("one").start().await;
    let secret = upstream.address().port().to_string();
    // With two servers, what nobody lists is nobody's.
    let other = stateless_upstream("two").start().await;
    let gateway = gateway().with("one", &upstream).with("two", &other).start().await;
    for client in clients(&gateway).await {
        client.until_tools(&["one__echo"]).await;
        for (what, answer) in own_errors(&client).await {
            let (status, code) = told(&answer);
            println!("{} {what}: {status} {code}", client.revision);
            let lawful: &[i64] = match what {
                "unknown method" => &[-32601],
                "unknown resource" if !client.is_stateless() => &[-32002],
                _ => &[-32602],
            };
            assert!(lawful.contains(&code), "{what}: {}", answer.raw);
            assert_eq!(
                status,
                if client.is_stateless() && code == -32601 { 404 } else { 200 },
                "{}",
                answer.raw
            );
            let message = answer.error()["message"].as_str().unwrap_or_default();
            assert!(!message.is_empty(), "{what}: {}", answer.raw);
            for internal in ["127.0.0.1", secret.as_str(), "src/", ".rs", "panicked"] {
                assert!(!answer.raw.contains(internal), "{what} tells {internal}: {}", answer.raw);
            }
        }
    }
}

#[tokio::test]
async fn s_err_04_the_id_comes_back_on_every_status_if_it_could_be_read() {
    let gateway = gateway().start().await;
    let client = gateway.stateless();
    for id in [json!(7), json!("seven"), json!(""), json!(-1), json!(9_007_199_254_740_993_u64)] {
        let dressed = client.dress(json!({}));
        let mut undressed = dressed.clone();
        undressed["_meta"] = json!({});
        for (method, params, header, status) in [
            ("tools/list", &undressed, None, 400),
            ("tools/list", &dressed, Some(("Mcp-Method", "prompts/list")), 400),
            ("tools/list", &dressed, Some(("MCP-Protocol-Version", HANDSHAKE)), 400),
            ("vendor/method", &dressed, None, 404),
            ("ping", &dressed, None, 404),
        ] {
            let mut headers = client.headers(method, params);
            if let Some((name, value)) = header {
                headers.set(name, value);
            }
            let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
            let answer = client.endpoint.ask("POST", headers, body.as_bytes()).await;
            assert_eq!((answer.status, &answer.json()["id"]), (status, &id), "{method}: {}", answer.body);
        }
    }
    // What could not be read has none.
    let headers = client.headers("tools/list", &json!({}));
    let answer = client.endpoint.ask("POST", headers, b"{\"jsonrpc\":\"2.0\",\"id\":7,").await;
    assert_eq!((answer.status, &answer.json()["id"]), (400, &Value::Null), "{}", answer.body);
}

#[tokio::test]
async fn s_err_06_failures_of_http_are_the_gateway_s_to_tell_and_their_bodies_stay_behind() {
    const PAGE: &str = "<html>internal-host.example: stack trace at line 7</html>";
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Http)
            .lenient()
            .on("tools/call", |mut call| async move {
                let html = [("Content-Type", "text/html")];
                let json = [("Content-Type", "application/json")];
                match call.params()["arguments"]["how"].as_str().unwrap_or_default() {
                    "500" => call.http(500, &html, PAGE.as_bytes()).await,
                    "502" => call.http(502, &html, PAGE.as_bytes()).await,
                    "503" => call.http(503, &html, PAGE.as_bytes()).await,
                    "404" => call.http(404, &html, PAGE.as_bytes()).await,
                    "200 html" => call.http(200, &html, PAGE.as_bytes()).await,
                    "200 text in json" => call.http(200, &json, PAGE.as_bytes()).await,
                    "500 in json" => call.http(500, &json, b"{\"detail\":\"internal-host.example\"}").await,
                    "half" => {
                        call.wire(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"js").await;
                        call.close().await;
                    }
                    "nothing" => call.close().await,
                    _ => call.default().await,
                }
            })
            .start()
            .await;
        let config = "bounds: { backoff_first: 50ms, backoff_longest: 100ms }";
        let gateway = gateway().with("one", &upstream).config(config).start().await;
        for client in clients(&gateway).await {
            client.until_tools(&["one__echo"]).await;
            for how in
                ["500", "502", "503", "404", "200 html", "200 text in json", "500 in json", "half", "nothing"]
            {
                let answer = client.call("one__echo", json!({ "how": how })).await;
                let failure = answer.failure();
                let reason = failure["reason"].as_str().unwrap_or_default();
                assert!(!reason.is_empty() && failure["upstream"] == "one", "{how}: {}", answer.raw);
                assert!(
                    failure["outcome"].is_string() && failure["retryable"].is_boolean(),
                    "{how}: {}",
                    answer.raw
                );
                for private in ["internal-host", "stack trace", "html", "127.0.0.1"] {
                    assert!(!answer.raw.contains(private), "{how} shows {private}: {}", answer.raw);
                }
                // A server that seems to have changed is looked at anew.
                crate::support::eventually("the server to be usable again", || async {
                    let answer = client.call("one__echo", json!({})).await;
                    answer.json["result"]["isError"].is_null().then_some(())
                })
                .await;
            }
        }
    }
}
