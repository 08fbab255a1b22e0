//! Parameters of tools that headers repeat: derived towards upstreams, judged from clients (S-HDR-04, -05, -07 to -10).

use serde_json::{Value, json};

use crate::support::client::{Client, Whole, header_safe};
use crate::support::http::Headers;
use crate::support::pipe_client::PipeClient;
use crate::support::upstream::UpstreamPlan;
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, Transport, Upstream, gateway, stateless_upstream, upstream,
};

/// Every type that can be repeated, and one that cannot.
fn typed() -> Value {
    json!({ "name": "typed", "inputSchema": { "type": "object", "properties": {
        "text": { "type": "string", "x-mcp-header": "Text" },
        "count": { "type": "integer", "x-mcp-header": "Count" },
        "flag": { "type": "boolean", "x-mcp-header": "Flag" },
        "where": { "type": "object", "properties": {
            "deep": { "type": "object", "properties": {
                "zone": { "type": "string", "x-mcp-header": "Zone" },
            } },
        } },
        "number": { "type": "number" },
        "plain": { "type": "string" },
    } } })
}

/// Arguments as they stand in the body, and what is to be repeated of them.
const REPEATED: [(&str, &[(&str, &str)]); 24] = [
    // The five examples of the specification.
    (r#"{"text":"us-west1"}"#, &[("mcp-param-text", "us-west1")]),
    (r#"{"text":"Hello, 世界"}"#, &[("mcp-param-text", "=?base64?SGVsbG8sIOS4lueVjA==?=")]),
    (r#"{"text":" padded "}"#, &[("mcp-param-text", "=?base64?IHBhZGRlZCA=?=")]),
    (r#"{"text":"line1\nline2"}"#, &[("mcp-param-text", "=?base64?bGluZTEKbGluZTI=?=")]),
    (r#"{"text":"=?base64?literal?="}"#, &[("mcp-param-text", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=")]),
    // What would be two headers, were it not sealed.
    (r#"{"text":"a\r\nx-evil: 1"}"#, &[("mcp-param-text", "=?base64?YQ0KeC1ldmlsOiAx?=")]),
    (r#"{"text":"a\rb"}"#, &[("mcp-param-text", "=?base64?YQ1i?=")]),
    (r#"{"text":"a\u0000b"}"#, &[("mcp-param-text", "=?base64?YQBi?=")]),
    (r#"{"text":"\tindented"}"#, &[("mcp-param-text", "=?base64?CWluZGVudGVk?=")]),
    (r#"{"text":"us west 1"}"#, &[("mcp-param-text", "us west 1")]),
    (r#"{"text":"us\u002dwest1"}"#, &[("mcp-param-text", "us-west1")]),
    (r#"{"text":""}"#, &[("mcp-param-text", "")]),
    (r#"{"text":null,"flag":null}"#, &[]),
    (r#"{}"#, &[]),
    (r#"{"count":42}"#, &[("mcp-param-count", "42")]),
    (r#"{"count":-7}"#, &[("mcp-param-count", "-7")]),
    (r#"{"count":0}"#, &[("mcp-param-count", "0")]),
    (r#"{"count":42.0}"#, &[("mcp-param-count", "42")]),
    (r#"{"count":9007199254740991}"#, &[("mcp-param-count", "9007199254740991")]),
    (r#"{"count":-9007199254740991}"#, &[("mcp-param-count", "-9007199254740991")]),
    (r#"{"flag":false}"#, &[("mcp-param-flag", "false")]),
    (r#"{"flag":true,"number":1.5,"plain":"x"}"#, &[("mcp-param-flag", "true")]),
    (r#"{"where":{"deep":{"zone":"é"}}}"#, &[("mcp-param-zone", "=?base64?w6k=?=")]),
    (r#"{"where":{"zone":"no","deep":[]},"zone":"no"}"#, &[]),
];

/// Fields that repeat parameters.
fn repeated(headers: &Headers) -> Vec<(String, String)> {
    let mut found: Vec<_> = headers
        .0
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| name.starts_with("mcp-param-"))
        .collect();
    found.sort();
    found
}

/// Call with arguments of exactly this text and these fields besides.
async fn call(client: &Client, tool: &str, arguments: &str, fields: &[(&str, &str)]) -> Whole {
    let params = client.dress(json!({ "name": tool, "arguments": "ARGUMENTS" }));
    let mut headers = client.headers("tools/call", &params);
    for (name, value) in fields {
        headers.0.push(((*name).to_owned(), (*value).to_owned()));
    }
    let body =
        json!({ "jsonrpc": "2.0", "id": "mine", "method": "tools/call", "params": params }).to_string();
    let body = body.replace(r#""ARGUMENTS""#, arguments);
    let exchange = client.endpoint.send("POST", headers, body.as_bytes()).await;
    let answer = exchange.whole().await;
    if answer.status != 200 || answer.body.starts_with('{') {
        assert_eq!(answer.json()["id"], "mine", "ids are echoed (S-ERR-04): {}", answer.body);
    }
    answer
}

async fn showing(plan: UpstreamPlan) -> (Upstream, Gateway) {
    let upstream = plan.tool_as(typed()).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn s_hdr_04_03_10_every_value_is_repeated_as_the_specification_writes_it() {
    let (upstream, gateway) = showing(stateless_upstream("one")).await;
    for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
        client.until_tools(&["one__typed"]).await;
        for (arguments, expected) in REPEATED {
            // A client of the stateless era says the same headers, and none of them is passed on as it is.
            let fields = if client.is_stateless() { expected } else { &[] };
            let answer = call(&client, "one__typed", arguments, fields).await;
            assert_eq!(answer.status, 200, "{arguments}: {}", answer.body);
            let sent = upstream.received("tools/call").pop().expect("it arrived");
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(repeated(&sent.headers), expected, "{arguments}");
            assert_eq!(sent.headers.get("x-evil"), None, "{arguments}");
            assert_eq!(sent.raw_param(&["arguments"]), arguments, "the body stays as it came");
        }
    }
}

#[tokio::test]
async fn s_hdr_04_a_client_on_a_pipe_has_its_parameters_repeated_as_well() {
    let (upstream, _gateway) = showing(stateless_upstream("one")).await;
    let mut client = PipeClient::with_file(&gateway().with("one", &upstream).file()).await;
    client.initialize(HANDSHAKE, json!({})).await;
    client.until_tool("one__typed").await;
    let params = json!({ "name": "one__typed", "arguments": { "text": "eu", "count": 3 } });
    client.request("tools/call", params).await;
    let sent = upstream.until_received("tools/call", 1).await;
    let expected = [("mcp-param-count", "3"), ("mcp-param-text", "eu")];
    assert_eq!(repeated(&sent.headers), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
}

#[tokio::test]
async fn s_hdr_05_inbound_parameters_are_held_against_the_body_by_the_schema_that_is_shown() {
    let (upstream, gateway) = showing(stateless_upstream("one")).await;
    let client = gateway.stateless();
    client.until_tools(&["one__typed"]).await;
    let arguments = r#"{"text":"us-west1","count":42}"#;
    let (text, count) = (("Mcp-Param-Text", "us-west1"), ("Mcp-Param-Count", "42"));
    for fields in [
        &[text, count][..],
        &[("mcp-param-TEXT", "  us-west1\t"), count],
        &[text, ("Mcp-Param-Count", "42.0")],
        &[("Mcp-Param-Text", "=?base64?dXMtd2VzdDE=?="), count],
        &[text, count, ("Mcp-Param-Unknown", "whatever"), ("Mcp-Param-Plain", "x")],
    ] {
        let answer = call(&client, "one__typed", arguments, fields).await;
        assert_eq!(answer.status, 200, "{fields:?}: {}", answer.body);
    }
    let served = upstream.received("tools/call").len();
    for fields in [
        &[][..],
        &[text],
        &[count],
        &[("Mcp-Param-Text", "US-WEST1"), count],
        &[("Mcp-Param-Text", ""), count],
        &[text, ("Mcp-Param-Count", "43")],
        &[text, ("Mcp-Param-Count", "0x2A")],
        &[text, count, ("Mcp-Param-Text", "us-west1")],
        &[text, count, ("Mcp-Param-Flag", "true")],
        &[("Mcp-Param-Text", "=?base64?dXMtd2VzdDE?="), count],
        &[("Mcp-Param-Text", "=?base64?dXMtd2V$dDE=?="), count],
        &[("Mcp-Param-Text", "caf\u{e9}"), count],
    ] {
        call(&client, "one__typed", arguments, fields).await.expect_error(400, -32020);
    }
    assert_eq!(upstream.received("tools/call").len(), served, "nothing of what was refused left");
}

#[tokio::test]
async fn s_hdr_07_annotations_stay_on_tools_of_every_kind_of_server() {
    for (revision, transport) in [
        (STATELESS, Transport::Http),
        (STATELESS, Transport::Stdio),
        (HANDSHAKE, Transport::Http),
        (HANDSHAKE, Transport::Stdio),
    ] {
        let (upstream, gateway) = showing(upstream("one", revision, transport)).await;
        for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
            let listed = client.until_tools(&["one__typed"]).await;
            let tools = listed.result()["tools"].as_array().expect("a list");
            let tool = tools.iter().find(|tool| tool["name"] == "one__typed").expect("it is there");
            assert_eq!(tool["inputSchema"], typed()["inputSchema"], "{revision} {transport:?}");
            let fields: &[_] = if client.is_stateless() { &[("Mcp-Param-Text", "eu")] } else { &[] };
            let answer = call(&client, "one__typed", r#"{"text":"eu"}"#, fields).await;
            assert_eq!(answer.status, 200, "{revision} {transport:?}: {}", answer.body);
        }
        for sent in upstream.received("tools/call") {
            let is_told = (revision, transport) == (STATELESS, Transport::Http);
            assert_eq!(!repeated(&sent.headers).is_empty(), is_told, "{revision} {transport:?}");
        }
    }
}

#[tokio::test]
async fn s_hdr_08_mirrors_on_requests_of_the_handshake_era_mean_nothing() {
    let (upstream, gateway) = showing(stateless_upstream("one")).await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__typed"]).await;
    let fields = [("Mcp-Method", "tools/list"), ("Mcp-Name", "=?base64?broken"), ("Mcp-Param-Text", "other")];
    let answer = call(&client, "one__typed", r#"{"text":"eu"}"#, &fields).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let sent = upstream.until_received("tools/call", 1).await;
    assert_eq!(sent.headers.get("mcp-method"), Some("tools/call"));
    assert_eq!(sent.headers.get("mcp-name"), Some("typed"));
    assert_eq!(repeated(&sent.headers), [("mcp-param-text".to_owned(), "eu".to_owned())]);
}

#[tokio::test]
async fn s_hdr_09_tools_with_unlawful_annotations_are_left_out_and_the_others_stay() {
    let string = |header: &str| json!({ "type": "string", "x-mcp-header": header });
    let bad = [
        ("empty", json!({ "a": string("") })),
        ("space", json!({ "a": string("My Region") })),
        ("colon", json!({ "a": string("Region:Primary") })),
        ("control", json!({ "a": string("Region\t1") })),
        ("lines", json!({ "a": string("a\r\nb") })),
        ("foreign", json!({ "a": string("R\u{e9}gion") })),
        ("twice", json!({ "a": string("MyField"), "b": string("myfield") })),
        ("number", json!({ "a": { "type": "number", "x-mcp-header": "A" } })),
        ("object", json!({ "a": { "type": "object", "x-mcp-header": "A" } })),
        ("array", json!({ "a": { "type": "array", "x-mcp-header": "A" } })),
        ("items", json!({ "a": { "type": "array", "items": string("A") } })),
        ("choice", json!({ "a": { "anyOf": [string("A")] } })),
        ("condition", json!({ "a": { "if": string("A"), "then": {} } })),
        ("no_text", json!({ "a": { "type": "string", "x-mcp-header": 7 } })),
    ];
    let mut plan = stateless_upstream("one").tool_as(typed());
    for (name, properties) in &bad {
        let schema = json!({ "type": "object", "properties": properties });
        plan = plan.tool_as(json!({ "name": name, "inputSchema": schema }));
    }
    let upstream = plan.start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
        let listed = client.until_tools(&["one__typed", "one__echo"]).await.names("tools");
        assert_eq!(listed.len(), 2, "{listed:?}");
        for (name, _) in &bad {
            let answer = client.call(&format!("one__{name}"), json!({ "a": "x" })).await;
            assert_eq!(answer.error()["code"], -32602, "{name}: {}", answer.raw);
        }
    }
    assert!(upstream.received("tools/call").is_empty());
    for (name, _) in &bad {
        assert!(gateway.stderr().contains(name), "the log says that {name} was left out");
    }
}

#[tokio::test]
async fn s_hdr_10_heads_that_are_too_large_are_refused_and_names_end_no_line() {
    let upstream = stateless_upstream("one")
        .show(|shown| {
            shown.resources.push(json!({ "uri": "test://one/a%0D%0Ab", "name": "encoded" }));
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let large = "x".repeat(200 << 10);
    let params = client.dress(json!({}));
    let mut headers = client.headers("tools/list", &params);
    headers.set("Mcp-Param-Large", &large);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params }).to_string();
    let answer = client.endpoint.ask("POST", headers, body.as_bytes()).await;
    assert!(matches!(answer.status, 400 | 413 | 431), "{} {}", answer.status, answer.body);

    for uri in ["test://one/item/a\r\nx-evil: 1", "test://one/item/a\nb", "test://one/a%0D%0Ab"] {
        for client in [gateway.stateless(), gateway.handshake(HANDSHAKE).await] {
            client.request("resources/read", json!({ "uri": uri })).await;
        }
    }
    for sent in upstream.received("resources/read") {
        let uri = sent.params()["uri"].as_str().expect("a text");
        assert_eq!(sent.headers.get("mcp-name"), Some(header_safe(uri).as_str()));
        assert_eq!(sent.headers.get("x-evil"), None, "{uri:?}");
    }
    assert!(upstream.received("resources/read").len() >= 2);
}
