//! Tools: names, order, errors, and upstreams that are slow (S-TOOL).

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    HANDSHAKE, STATELESS, Transport, gateway, http_upstream, stateless_upstream, stdio_upstream, upstream,
    within,
};

#[tokio::test]
async fn s_tool_01_03_05_lists_merge_in_configured_order_under_stable_names() {
    let one = http_upstream("one").tool("a__b").start().await;
    let two = stdio_upstream("two").start().await;
    let three = stateless_upstream("three").start().await;
    let plan =
        gateway().with("one", &one).with_more("two", &two, json!({ "prefix": "gh" })).with("three", &three);
    let expected = ["one__echo", "one__a__b", "gh__echo", "three__echo"];
    let first = plan.start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = first.client(revision).await;
        client.until_tools(&expected).await;
        for _ in 0..20 {
            let listing = client.request("tools/list", json!({})).await;
            assert_eq!(listing.names("tools"), expected);
        }
        assert_eq!(client.call("one__a__b", json!({ "x": 1 })).await.text(), r#"one echoes {"x":1}"#);
        assert_eq!(one.received("tools/call").last().expect("called").params()["name"], "a__b");
        assert_eq!(client.call("gh__echo", json!({})).await.text(), "two echoes {}");
    }
    // Another configured order and another process: other order, same names.
    let second = gateway()
        .with("three", &three)
        .with_more("two", &two, json!({ "prefix": "gh" }))
        .with("one", &one)
        .start()
        .await;
    let client = second.stateless();
    let listing = client.until_tools(&expected).await;
    assert_eq!(listing.names("tools"), ["three__echo", "gh__echo", "one__echo", "one__a__b"]);
}

#[tokio::test]
async fn s_tool_02_03_every_name_fits_is_unique_and_leads_back() {
    let mut odd: Vec<String> = [
        "dotted.name",
        "slash/name",
        "sp ace",
        "caf\u{e9}",
        "\u{1f600}",
        "a:b",
        "UPPER",
        "upper",
        "-",
        "_",
        "a__b__c",
        "tab\tname",
    ]
    .map(str::to_owned)
    .to_vec();
    for length in [1, 57, 58, 59, 60, 63, 64, 65, 100, 128, 200] {
        odd.push("x".repeat(length));
        odd.push(format!("{}y", "x".repeat(length)));
    }
    odd.sort_unstable();
    odd.dedup();
    let tools: Vec<Value> =
        odd.iter().map(|name| json!({ "name": name, "inputSchema": { "type": "object" } })).collect();
    let upstream = http_upstream("one")
        .show(|shown| shown.tools = tools)
        .on("tools/call", |mut call| async move {
            let name = call.name().to_owned();
            call.text(&name).await;
        })
        .start()
        .await;
    let plan = gateway().with("one", &upstream);
    let gateway = plan.start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__UPPER"]).await;
    let names = client.request("tools/list", json!({})).await.names("tools");
    assert_eq!(names.len(), odd.len(), "{names:?}");
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), odd.len(), "unique: {names:?}");
    for name in &names {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        assert!(fits, "{name:?}");
    }
    for (name, original) in names.iter().zip(&odd) {
        assert_eq!(client.call(name, json!({})).await.text(), original, "{name} leads back");
    }
    let restarted = plan.start().await;
    let client = restarted.handshake(HANDSHAKE).await;
    client.until_tools(&["one__UPPER"]).await;
    assert_eq!(client.request("tools/list", json!({})).await.names("tools"), names, "stable across restarts");
}

#[tokio::test]
async fn s_tool_04_without_a_prefix_everything_keeps_its_name() {
    let upstream = http_upstream("one").tool("a.b").start().await;
    let gateway = gateway().with_more("one", &upstream, json!({ "prefix": "" })).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        let listing = client.until_tools(&["echo"]).await;
        assert_eq!(listing.names("tools"), ["echo", "a.b"]);
        assert_eq!(client.call("a.b", json!({})).await.text(), "one echoes {}");
        assert_eq!(client.request("prompts/list", json!({})).await.names("prompts"), ["greet"]);
        client.request("prompts/get", json!({ "name": "greet", "arguments": { "who": "x" } })).await.result();
    }
}

#[tokio::test]
async fn s_tool_06_lists_do_not_depend_on_who_asked_what_before() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let first = gateway.handshake(HANDSHAKE).await;
    first.until_tools(&["one__echo"]).await;
    let before = first.request("tools/list", json!({})).await.result().clone();
    let second =
        gateway.handshake_with(HANDSHAKE, json!({ "sampling": {}, "elicitation": {}, "roots": {} })).await;
    second.call("one__echo", json!({})).await;
    second.request("resources/read", json!({ "uri": "test://one/item/7" })).await;
    second.request("logging/setLevel", json!({ "level": "debug" })).await;
    assert_eq!(second.request("tools/list", json!({})).await.result(), &before);
    assert_eq!(first.request("tools/list", json!({})).await.result(), &before);
}

#[tokio::test]
async fn s_tool_07_unknown_tools_and_malformed_parameters_are_invalid() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        for name in ["echo", "one__", "one__nothing", "two__echo", "__echo", "ONE__ECHO", ""] {
            client.call(name, json!({})).await.expect_error(200, -32602);
        }
        for params in [
            json!({ "name": "one__echo", "arguments": [1] }),
            json!({ "name": "one__echo", "arguments": "text" }),
        ] {
            client.request("tools/call", params).await.expect_error(200, -32602);
        }
    }
    let client = gateway.handshake(HANDSHAKE).await;
    for params in [json!({}), json!({ "name": 7 }), json!({ "name": null }), json!({ "arguments": {} })] {
        client.request("tools/call", params).await.expect_error(200, -32602);
    }
    assert_eq!(upstream.received("tools/call").len(), 0, "none of it left");
}

#[tokio::test]
async fn s_tool_08_tool_errors_pass_and_the_gateway_s_own_are_told_apart() {
    for transport in [Transport::Http, Transport::Stdio] {
        let mut upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.raw_result(
                    r#"{"content":[{"type":"text","text":"bad input"}],"isError":true,"why":1.0}"#,
                )
                .await;
            })
            .start()
            .await;
        let gateway = gateway()
            .with("one", &upstream)
            .config("bounds: { start_deadline: 2s, probe_deadline: 500ms }")
            .start()
            .await;
        for revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_tools(&["one__echo"]).await;
            let answer = client.call("one__echo", json!({})).await;
            assert_eq!(
                (answer.status, &answer.result()["isError"], answer.text()),
                (200, &json!(true), "bad input")
            );
            assert_eq!(answer.raw_result(&["why"]), "1.0");
            assert!(answer.result()["_meta"].get("switchyard/failure").is_none(), "{}", answer.raw);
        }
        let clients = [gateway.handshake(HANDSHAKE).await, gateway.stateless()];
        upstream.kill().await;
        for client in clients {
            let answer = client.call("one__echo", json!({})).await;
            assert_eq!(answer.status, 200, "{}", answer.raw);
            let failure = answer.failure();
            assert_eq!(failure["upstream"], "one", "{}", answer.raw);
            assert!(answer.result()["isError"] == true && answer.text().contains("one"), "{}", answer.raw);
        }
    }
}

#[tokio::test]
async fn s_tool_14_a_tool_that_vanished_is_told_by_its_upstream_and_the_list_follows() {
    let upstream = http_upstream("one")
        .tool("fleeting")
        .capabilities(json!({ "tools": {} }))
        .without_standing_stream()
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__fleeting"]).await;
    upstream.show(|shown| shown.tools.retain(|tool| tool["name"] != "fleeting"));
    let answer = client.call("one__fleeting", json!({})).await;
    answer.expect_error(200, -32602);
    assert_eq!(answer.error()["message"], "unknown tool", "the upstream's own words: {}", answer.raw);
    crate::support::eventually("the list to follow", || async {
        let names = client.request("tools/list", json!({})).await.names("tools");
        (names == ["one__echo"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s_tool_15_f03_a_hanging_upstream_delays_no_list_for_long() {
    let good = http_upstream("good").start().await;
    let hanging = http_upstream("bad")
        .on("tools/list", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    let gateway = gateway()
        .with("bad", &hanging)
        .with("good", &good)
        .config("bounds: { list_budget: 500ms }")
        .start()
        .await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["good__echo"]).await;
        let listing = within(
            Duration::from_secs(4),
            "a list with one upstream hanging",
            client.request("tools/list", json!({})),
        );
        assert_eq!(listing.await.names("tools"), ["good__echo"]);
        let call = within(Duration::from_secs(4), "a call beside it", client.call("good__echo", json!({})));
        assert_eq!(call.await.text(), "good echoes {}");
    }
}
