//! Bad input of every kind: the stated error, nothing else harmed, nothing hangs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Connection};
use crate::support::gateway::{Plan, refused};
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, http_upstream, upstream, within,
};

const QUICK: &str =
    "bounds: { backoff_first: 100ms, backoff_longest: 500ms, start_deadline: 2s, probe_deadline: 500ms }";

async fn quick() -> (Upstream, Gateway, Client) {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { head_timeout: 2s }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    (upstream, gateway, client)
}

/// Nothing was harmed: the old session and a new one both work.
async fn all_is_well(gateway: &Gateway, client: &Client) {
    assert_eq!(client.call("one__echo", json!({ "well": true })).await.text(), r#"one echoes {"well":true}"#);
    let fresh = gateway.handshake(HANDSHAKE).await;
    assert_eq!(fresh.call("one__echo", json!({})).await.text(), "one echoes {}");
}

#[tokio::test]
async fn f34_bytes_that_are_no_text_are_parse_errors_and_harm_nobody() {
    let (upstream, gateway, client) = quick().await;
    let call = |text: &[u8]| {
        let mut body = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","arguments":{"t":""#.to_vec();
        body.extend_from_slice(text);
        body.extend_from_slice(br#""}}}"#);
        body
    };
    let with_bom = [b"\xef\xbb\xbf".as_slice(), &call(b"x")].concat();
    let utf16: Vec<u8> =
        String::from_utf8(call(b"x")).expect("ASCII").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let parse_errors: Vec<(&str, Vec<u8>)> = vec![
        ("a lone continuation byte", call(b"\x80")),
        ("an overlong slash", call(b"\xc0\xaf")),
        ("a surrogate in UTF-8", call(b"\xed\xa0\x80")),
        ("beyond Unicode", call(b"\xf4\x90\x80\x80")),
        ("a cut sequence", call(b"\xe2\x82")),
        ("a raw NUL", call(b"\x00")),
        ("a raw line feed in a string", call(b"\n")),
        ("a byte order mark", with_bom),
        ("UTF-16", utf16),
        ("a bad escape", call(br"\x41")),
        ("a cut escape", call(br"\u00")),
        ("Latin-1", call(b"caf\xe9")),
    ];
    let before = upstream.received("tools/call").len();
    for (kind, body) in parse_errors {
        let answer = client.endpoint.ask("POST", client.headers("", &json!({})), &body).await;
        assert_eq!((answer.status, answer.error_code()), (400, -32700), "{kind}: {}", answer.body);
    }
    assert_eq!(upstream.received("tools/call").len(), before, "none of it left");
    // Lone surrogates in escapes are grammatical JSON without being text: refused or relayed as they are.
    for escape in [br"\ud800".as_slice(), br"\udc00\ud800", br"\ud83d x"] {
        let answer = client.endpoint.ask("POST", client.headers("", &json!({})), &call(escape)).await;
        let refused = answer.status == 400 && matches!(answer.error_code(), -32700 | -32600);
        assert!(refused || answer.status == 200, "{answer:?}");
    }
    // An escaped NUL is text.
    let answer = client.endpoint.ask("POST", client.headers("", &json!({})), &call(br"\u0000")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    all_is_well(&gateway, &client).await;
}

#[tokio::test]
async fn f33_deep_nesting_is_refused_with_its_id_in_both_directions() {
    let upstream = http_upstream("one")
        .tool("deep")
        .on("tools/call", |mut call| async move {
            if call.name() == "deep" {
                let nested = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
                return call.raw_result(&format!(r#"{{"content":[],"deep":{nested}}}"#)).await;
            }
            call.default().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
        client.until_tools(&["one__deep"]).await;
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            for depth in [200, 5_000, 100_000] {
                let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let params = client.dress(json!({ "name": "one__echo", "arguments": {} }));
                let headers = client.headers("tools/call", &params);
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":"deep","method":"tools/call","x":{nested},"params":{params}}}"#
                );
                let answer = client.endpoint.ask("POST", headers, body.as_bytes()).await;
                assert_eq!(answer.error_code(), -32600, "{depth} of {open}: {}", answer.body);
                assert_eq!(answer.json()["id"], "deep", "{}", answer.body);
            }
        }
        let answer = client.call("one__deep", json!({})).await;
        answer.expect_failure("upstream_protocol_error", "executed");
        assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
    }
}

#[tokio::test]
async fn too_many_keys_are_refused() {
    let (_upstream, gateway, client) = quick().await;
    let many: Vec<String> = (0..10_050).map(|n| format!(r#""k{n}":0"#)).collect();
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"one__echo","arguments":{{{}}}}}}}"#,
        many.join(",")
    );
    let answer = client.endpoint.ask("POST", client.headers("", &json!({})), body.as_bytes()).await;
    assert_eq!((answer.error_code(), &answer.json()["id"]), (-32600, &json!(5)), "{}", answer.body);
    all_is_well(&gateway, &client).await;
}

#[tokio::test]
async fn keys_twice_are_refused_wherever_they_could_deceive() {
    let (upstream, gateway, client) = quick().await;
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","name":"one__other","arguments":{}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo"},"params":{"name":"one__echo"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","n\u0061me":"x","arguments":{}}}"#,
    ] {
        let answer = client.endpoint.ask("POST", client.headers("", &json!({})), body.as_bytes()).await;
        assert!(matches!(answer.error_code(), -32600 | -32602), "{body}: {}", answer.body);
    }
    assert_eq!(upstream.received("tools/call").len(), 0);
    // Case variants are other keys, not other spellings.
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"x","name":"one__echo","arguments":{}}}"#;
    let answer = client.endpoint.ask("POST", client.headers("", &json!({})), body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    all_is_well(&gateway, &client).await;
}

#[tokio::test]
async fn unlawful_http_is_closed_and_nothing_hangs() {
    let (upstream, mut gateway, client) = quick().await;
    let session = client.session.clone().expect("given at initialize");
    let host = gateway.endpoint.address;
    let fields = format!(
        "Host: {host}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nMcp-Session-Id: {session}\r\n"
    );
    let body =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"one__echo","arguments":{}}}"#;
    let length = body.len();
    let cases = [
        format!("POST /mcp HTTP/1.1\r\n{fields}Content-Length: {length}\r\nContent-Length: 3\r\n\r\n{body}"),
        format!(
            "POST /mcp HTTP/1.1\r\n{fields}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{body}"
        ),
        format!("POST /mcp HTTP/1.1\r\n{fields}Content-Length: -1\r\n\r\n{body}"),
        format!("POST /mcp HTTP/1.1\r\n{fields}Content-Length: 99999999999999999999\r\n\r\n{body}"),
        format!("POST /mcp HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{body}\r\n0\r\n\r\n"),
        format!("POST /mcp HTTP/1.1\r\n{fields}Transfer-Encoding: gzip\r\n\r\n{body}"),
        format!("POST /mcp HTTP/9.9\r\n{fields}Content-Length: {length}\r\n\r\n{body}"),
        format!("POST /mcp\r\n\r\n{body}"),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}".repeat(50),
    ];
    for wire in cases {
        let mut connection = Connection::open(host).await;
        connection.write(wire.as_bytes()).await;
        let answer = connection.read_to_close(Duration::from_secs(15)).await.unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 2") && !answer.starts_with("HTTP/1.0 2"), "{wire:?}\n{answer}");
    }
    assert_eq!(upstream.received("tools/call").len(), 0);
    let long = format!("POST /mcp HTTP/1.1\r\nHost: {host}\r\nX-Long: {}\r\n\r\n", "x".repeat(300_000));
    let mut connection = Connection::open(host).await;
    connection.write(long.as_bytes()).await;
    let answer = connection.read_to_close(Duration::from_secs(15)).await.unwrap_or_default();
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2"));
    assert!(gateway.is_alive());
    all_is_well(&gateway, &client).await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { head_timeout: 1s }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut slow = Connection::open(gateway.endpoint.address).await;
    slow.write(b"POST /mcp HTTP/1.1\r\nHost: ").await;
    let closed = slow.read_to_close(Duration::from_secs(10)).await;
    assert!(closed.is_some(), "a slow head is cut off at the limit");
    all_is_well(&gateway, &client).await;
}

#[tokio::test]
async fn a_bad_configuration_is_told_whole_with_places_and_suggestions() {
    let file = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nserverz: {}\nservers:\n  one:\n    urk: http://x/\n  two: { command: a, url: \"http://127.0.0.1:1/\" }\n";
    let ended = refused(file).await;
    assert!(!ended.status.success(), "{ended:?}");
    assert!(!ended.stdout.contains("endpoint "), "it never served: {ended:?}");
    let said = &ended.stderr;
    assert!(
        said.contains('3') && said.contains("serverz") && said.contains("servers"),
        "place and suggestion: {said}"
    );
    assert!(said.contains("urk") && said.contains("url"), "every problem at once: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for (broken, word) in [
        ("servers: [", ""),
        ("", ""),
        ("servers: { one: { url: \"ftp://127.0.0.1/\" } }", "url"),
        ("servers: { one: { command: \"\" } }", "command"),
        ("servers: { one: { url: \"http://127.0.0.1:1/\", protocol: 1999-01-01 } }", "protocol"),
        ("servers: { one: { url: \"http://127.0.0.1:1/\", timeout: fast } }", "timeout"),
        ("servers: { one: { url: \"http://127.0.0.1:1/\", headers: { Mcp-Name: x } } }", ""),
        ("servers: { one: { url: \"http://u:p@127.0.0.1:1/\" } }", "url"),
        (
            "servers: { one: { command: x, env: { A: \"${env:SURELY_NOT_SET_ANYWHERE}\" } } }",
            "SURELY_NOT_SET_ANYWHERE",
        ),
        ("bounds: { sessions: -1 }", "sessions"),
        ("listen: nowhere", "listen"),
        ("servers: { \"bad name!\": { command: x } }", "bad name!"),
        ("profiles: { p: { servers: [unknown] } }", "unknown"),
    ] {
        let text = if broken.contains("listen") {
            broken.to_owned()
        } else {
            format!("listen: 127.0.0.1:0\nadmin: off\n{broken}\n")
        };
        if broken.is_empty() {
            continue;
        }
        let ended = refused(&text).await;
        assert!(!ended.status.success(), "{broken}: {ended:?}");
        assert!(
            ended.stderr.contains(word) && !ended.stderr.contains("panicked"),
            "{broken}: {}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn a_missing_configuration_file_is_told_so() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
    command.args(["serve", "-c", "/nonexistent/gateway.yaml"]).kill_on_drop(true);
    let output =
        within(Duration::from_secs(20), "a refusal", command.output()).await.expect("the binary runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/gateway.yaml"));
}

/// A server that cannot work beside one that does: calls to nobody's tools fail clearly, the others are served.
async fn is_named_in_the_log(plan: Plan, words: &[&str]) {
    let good = http_upstream("good").start().await;
    let gateway = plan.with("good", &good).config(QUICK).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["good__echo"]).await;
        assert_eq!(client.call("good__echo", json!({})).await.text(), "good echoes {}");
        client.call("bad__echo", json!({})).await.expect_error(200, -32602);
    }
    eventually("the reason in log or status", || async {
        let log = gateway.stderr();
        let status = gateway.admin_get("/api/v1/servers").await.body;
        words.iter().all(|word| log.contains(word) || status.contains(word)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn f22_a_missing_command_is_named_and_others_work() {
    is_named_in_the_log(
        gateway().with_stdio("bad", "/nonexistent/program", &[]),
        &["bad", "/nonexistent/program"],
    )
    .await;
    is_named_in_the_log(
        gateway().with_stdio("bad", "surely-no-such-command", &["x"]),
        &["surely-no-such-command"],
    )
    .await;
}

#[tokio::test]
async fn f05_refused_unresolved_and_untrusted_upstreams_are_named_and_others_work() {
    let closed = http_upstream("closed").reserve();
    is_named_in_the_log(gateway().with_server("bad", closed.settings()), &["bad"]).await;
    is_named_in_the_log(gateway().with_http("bad", "http://surely-not-a-host.invalid/mcp"), &["bad"]).await;
    // A TLS client meets a server that speaks none.
    let plain = http_upstream("plain").start().await;
    is_named_in_the_log(gateway().with_http("bad", &format!("https://{}/mcp", plain.address())), &["bad"])
        .await;
}

#[tokio::test]
async fn an_upstream_of_neither_era_is_named_and_others_work() {
    let html = upstream("bad", HANDSHAKE, Transport::Http)
        .lenient()
        .on("*", |mut call| async move {
            call.http(200, &[("Content-Type", "text/html")], b"<html>It works!</html>").await;
        })
        .start()
        .await;
    is_named_in_the_log(gateway().with("bad", &html), &["bad"]).await;
    let missing = upstream("bad", HANDSHAKE, Transport::Http)
        .lenient()
        .on("*", |mut call| async move { call.http(404, &[], b"not here").await })
        .on("GET", |mut call| async move { call.http(404, &[], b"not here").await })
        .start()
        .await;
    is_named_in_the_log(gateway().with("bad", &missing), &["bad"]).await;
    let mute = upstream("bad", HANDSHAKE, Transport::Stdio)
        .lenient()
        .on("*", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    is_named_in_the_log(gateway().with("bad", &mute), &["bad"]).await;
}

#[tokio::test]
async fn f08_corrupt_answers_are_the_upstream_s_fault_and_stay_alone() {
    let cases: [(&str, &str); 9] = [
        ("html", "upstream_protocol_error"),
        ("broken", "upstream_protocol_error"),
        ("empty", "upstream_protocol_error"),
        ("wrong id", "upstream_protocol_error"),
        ("array", "upstream_protocol_error"),
        ("broken event", "upstream_protocol_error"),
        ("stream without answer", "upstream_"),
        ("500", "upstream_"),
        ("neither", "upstream_protocol_error"),
    ];
    for revision in [HANDSHAKE, STATELESS] {
        let upstream = upstream("one", revision, Transport::Http)
            .on("tools/call", |mut call| async move {
                let json = [("Content-Type", "application/json")];
                let kind = call.params()["arguments"]["kind"].as_str().unwrap_or_default().to_owned();
                match kind.as_str() {
                    "html" => {
                        call.http(200, &[("Content-Type", "text/html")], b"<html>secret internals</html>")
                            .await
                    }
                    "broken" => call.http(200, &json, b"{\"jsonrpc\":\"2.0\",").await,
                    "empty" => call.http(200, &json, b"").await,
                    "wrong id" => {
                        call.http(200, &json, br#"{"jsonrpc":"2.0","id":"nobody","result":{}}"#).await
                    }
                    "array" => call.http(200, &json, b"[1,2,3]").await,
                    "broken event" => {
                        call.say_bytes(b"data: {\"jsonrpc\":\n\n").await;
                        call.finish().await;
                    }
                    "stream without answer" => {
                        call.say_bytes(b": nothing\n\n").await;
                        call.finish().await;
                    }
                    "500" => {
                        call.http(500, &[("Content-Type", "text/html")], b"<html>secret internals</html>")
                            .await
                    }
                    "neither" => {
                        let message = format!(r#"{{"jsonrpc":"2.0","id":{}}}"#, call.id());
                        call.http(200, &json, message.as_bytes()).await;
                    }
                    "two" => {
                        call.stream().await;
                        let first = format!(
                            r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#,
                            call.id(),
                            call.complete(json!({ "content": [{ "type": "text", "text": "first" }] }))
                        );
                        let second = first.replace("first", "second");
                        call.say(&first).await;
                        call.say(&second).await;
                        call.finish().await;
                    }
                    _ => call.default().await,
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { call_maximum: 8s }").start().await;
        for client in [gateway.handshake(HANDSHAKE).await, gateway.stateless()] {
            client.until_tools(&["one__echo"]).await;
            for (kind, reason) in cases {
                let started = tokio::time::Instant::now();
                let answer = client.call("one__echo", json!({ "kind": kind })).await;
                assert!(started.elapsed() < Duration::from_secs(9), "{kind} hung");
                let told = answer.failure()["reason"].as_str().unwrap_or_default().to_owned();
                assert!(told.starts_with(reason), "{kind}: {}", answer.raw);
                assert!(!answer.raw.contains("secret internals"), "(S-ERR-06) {}", answer.raw);
                assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}", "after {kind}");
            }
            assert_eq!(client.call("one__echo", json!({ "kind": "two" })).await.text(), "first");
        }
    }
}

#[tokio::test]
async fn unknown_sessions_methods_and_profiles_leave_no_trace() {
    let (upstream, gateway, client) = quick().await;
    let before = upstream.ledger().len();
    let mut lost = client.clone();
    lost.session = Some("x".repeat(5_000));
    let status = lost.open("tools/list", json!({})).await.whole().await.status;
    assert!(matches!(status, 400 | 404 | 431), "{status}");
    for method in ["", "rpc.discover", "TOOLS/CALL", "tools/call ", "notifications/initialized\u{0}"] {
        let answer = client.request(method, json!({})).await;
        assert_eq!(answer.error_code(), -32601, "{method:?}: {}", answer.raw);
    }
    assert_eq!(upstream.ledger().len(), before);
    all_is_well(&gateway, &client).await;
}

#[tokio::test]
async fn a_thousand_bad_requests_leave_the_gateway_as_it_was() {
    let (_upstream, gateway, client) = quick().await;
    let mut seed = crate::support::generate::Seed(2_026);
    for _ in 0..300 {
        let mut body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} })
            .to_string()
            .into_bytes();
        for _ in 0..=seed.below(4) {
            let at = seed.below(body.len());
            match seed.below(3) {
                0 => body[at] = u8::try_from(seed.below(256)).expect("below 256"),
                1 => drop(body.remove(at)),
                _ => body.insert(at, u8::try_from(seed.below(256)).expect("below 256")),
            }
        }
        let answer = client.endpoint.ask("POST", client.headers("", &Value::Null), &body).await;
        assert!(answer.status < 500, "{answer:?} to {}", String::from_utf8_lossy(&body));
    }
    all_is_well(&gateway, &client).await;
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}
