//! Bad input of every kind: the stated error, nothing else harmed, nothing hangs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Connection};
use crate::support::{Gateway, HANDSHAKE, Upstream, gateway, http_upstream};

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

#[tokio::test]
async fn s_base_02_ids_longer_than_any_client_needs_are_refused_without_being_repeated() {
    let (upstream, gateway, client) = quick().await;
    for id in [format!("\"{}\"", "i".repeat(257)), "7".repeat(65)] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"one__echo"}}}}"#);
        let refused = client.endpoint.ask("POST", client.headers("", &json!({})), body.as_bytes()).await;
        assert_eq!((refused.status, refused.error_code()), (400, -32600), "{}", refused.body);
        assert_eq!(refused.json()["id"], Value::Null, "{}", refused.body);
    }
    assert!(upstream.received("tools/call").is_empty());
    all_is_well(&gateway, &client).await;
}
