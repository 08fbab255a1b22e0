//! Tools, resources, prompts, completion and logging through one endpoint (S-TOOL, S-RES, S-PROMPT, S-COMP, S-LOG).

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
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                call.raw_result(
                    r#"{"content":[{"type":"text","text":"bad input"}],"isError":true,"why":1.0}"#,
                )
                .await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { start_deadline: 2s }").start().await;
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
        upstream.kill();
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

#[tokio::test]
async fn s_res_01_04_uris_find_their_upstream_by_list_template_and_link() {
    let one = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.result(
                json!({ "content": [{ "type": "resource_link", "uri": "linked:only", "name": "linked" }] }),
            )
            .await;
        })
        .start()
        .await;
    let two = stdio_upstream("two").start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo", "two__echo"]).await;
        let listed = client.until_listed("resources", &["static"]).await;
        let uris: Vec<&Value> =
            listed.result()["resources"].as_array().expect("judged").iter().map(|r| &r["uri"]).collect();
        assert_eq!(uris, ["test://one/static", "test://two/static"]);
        let templates = client.request("resources/templates/list", json!({})).await;
        assert_eq!(templates.names("resourceTemplates"), ["item", "item"]);
        for (uri, who) in
            [("test://one/static", "one"), ("test://two/static", "two"), ("test://two/item/42", "two")]
        {
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            let contents = &read.result()["contents"][0];
            assert_eq!(
                (&contents["uri"], &contents["text"]),
                (&json!(uri), &json!(format!("{who} reads \"{uri}\"")))
            );
        }
        client.call("one__echo", json!({})).await.result();
        let linked = client.request("resources/read", json!({ "uri": "linked:only" })).await;
        assert_eq!(linked.result()["contents"][0]["text"], "one reads \"linked:only\"");

        let before = one.ledger().len() + two.ledger().len();
        let unknown = client.request("resources/read", json!({ "uri": "test://three/static" })).await;
        let code = if revision == STATELESS { -32602 } else { -32002 };
        unknown.expect_error(200, code);
        assert_eq!(unknown.error()["data"]["uri"], "test://three/static", "{}", unknown.raw);
        assert_eq!(one.ledger().len() + two.ledger().len(), before, "nobody was asked");
    }
}

#[tokio::test]
async fn s_res_02_not_found_has_the_code_of_the_client_s_revision() {
    let old = http_upstream("old")
        .on("resources/read", |mut call| async move {
            let data = json!({ "uri": call.params()["uri"] });
            call.error(-32002, "no such resource", data).await;
        })
        .start()
        .await;
    let new = stateless_upstream("new")
        .on("resources/read", |mut call| async move {
            let data = json!({ "uri": call.params()["uri"] });
            call.error(-32602, "no such resource", data).await;
        })
        .start()
        .await;
    let gateway = gateway().with("old", &old).with("new", &new).start().await;
    for (revision, code) in [(HANDSHAKE, -32002), (STATELESS, -32602)] {
        let client = gateway.client(revision).await;
        client.until_tools(&["old__echo", "new__echo"]).await;
        for uri in ["test://old/item/1", "test://new/item/1"] {
            let answer = client.request("resources/read", json!({ "uri": uri })).await;
            answer.expect_error(200, code);
            assert_eq!(answer.error()["data"]["uri"], uri, "{}", answer.raw);
        }
    }
}

#[tokio::test]
async fn s_res_03_unlawful_uris_go_nowhere() {
    let upstream = http_upstream("one").start().await;
    let other = http_upstream("two").start().await;
    let gateway = gateway().with("one", &upstream).with("two", &other).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "two__echo"]).await;
    for uri in ["", "not a uri", "file:///../../etc/passwd", "//no-scheme", "\u{0}", "1:x"] {
        let answer = client.request("resources/read", json!({ "uri": uri })).await;
        assert!(matches!(answer.error_code(), -32602 | -32002), "{uri:?}: {}", answer.raw);
    }
    assert_eq!(upstream.received("resources/read").len() + other.received("resources/read").len(), 0);
}

#[tokio::test]
async fn s_res_04_a_single_upstream_gets_every_uri() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let read = client.request("resources/read", json!({ "uri": "unlisted:thing" })).await;
    assert_eq!(read.result()["contents"][0]["text"], "one reads \"unlisted:thing\"");
    client.request("resources/subscribe", json!({ "uri": "unlisted:other" })).await.result();
}

#[tokio::test]
async fn s_res_05_the_same_uri_from_two_upstreams_stays_two_resources() {
    let same = || json!({ "uri": "file:///a", "name": "a" });
    let one = http_upstream("one").show(|shown| shown.resources = vec![same()]).start().await;
    let two = http_upstream("two")
        .show(|shown| shown.resources = vec![same()])
        .on("tools/call", |mut call| async move {
            call.result(json!({ "content": [
                { "type": "resource_link", "uri": "file:///a", "name": "a" },
                { "type": "resource", "resource": { "uri": "file:///a", "text": "two" } },
            ] }))
            .await;
        })
        .on("prompts/get", |mut call| async move {
            let resource = json!({ "type": "resource", "resource": { "uri": "file:///a", "text": "two" } });
            call.result(json!({ "messages": [{ "role": "user", "content": resource }] })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo", "two__echo"]).await;
        let listed = client.request("resources/list", json!({})).await;
        let uris: Vec<String> = listed.result()["resources"]
            .as_array()
            .expect("judged")
            .iter()
            .map(|resource| resource["uri"].as_str().expect("judged").to_owned())
            .collect();
        assert_eq!((uris.len(), uris[0].as_str()), (2, "file:///a"), "the first keeps its URI: {uris:?}");
        let later = &uris[1];
        assert!(later != "file:///a" && later.contains("two"), "the later one names its upstream: {uris:?}");
        for (uri, who) in [("file:///a", "one"), (later.as_str(), "two")] {
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            let contents = &read.result()["contents"][0];
            assert_eq!(contents["text"], format!("{who} reads \"file:///a\""), "{}", read.raw);
            assert_eq!(contents["uri"], uri, "rewritten on the way back: {}", read.raw);
        }
        let called = client.call("two__echo", json!({})).await;
        assert_eq!(called.result()["content"][0]["uri"], *later, "{}", called.raw);
        assert_eq!(called.result()["content"][1]["resource"]["uri"], *later, "{}", called.raw);
        let prompt =
            client.request("prompts/get", json!({ "name": "two__greet", "arguments": { "who": "x" } })).await;
        assert_eq!(prompt.result()["messages"][0]["content"]["resource"]["uri"], *later, "{}", prompt.raw);
        let reference = json!({ "ref": { "type": "ref/resource", "uri": later }, "argument": { "name": "x", "value": "" } });
        client.request("completion/complete", reference).await.result();
        let asked = two.received("completion/complete");
        assert_eq!(asked.last().expect("it was asked").params()["ref"]["uri"], "file:///a");
        if revision == HANDSHAKE {
            let mut stream = client.standalone_stream().await;
            client.request("resources/subscribe", json!({ "uri": later })).await.result();
            let subscribed = two.until_received("resources/subscribe", 1).await;
            assert_eq!(subscribed.params()["uri"], "file:///a");
            two.until_standing_for(&subscribed).await;
            two.announce("notifications/resources/updated", json!({ "uri": "file:///a" })).await;
            let updated = stream.until_method("notifications/resources/updated").await;
            assert_eq!(updated.params()["uri"], *later, "{}", updated.raw);
        }
    }
}

#[tokio::test]
async fn s_res_06_updates_go_to_the_subscriber_alone_and_only_where_offered() {
    let offers = http_upstream("one").start().await;
    let lacks = http_upstream("two").capabilities(json!({ "resources": {}, "tools": {} })).start().await;
    let gateway = gateway().with("one", &offers).with("two", &lacks).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    let bystander = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "two__echo"]).await;
    let (mut stream, mut other) = (client.standalone_stream().await, bystander.standalone_stream().await);
    client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
    client
        .request("resources/subscribe", json!({ "uri": "test://two/static" }))
        .await
        .expect_error(200, -32601);
    assert_eq!(lacks.received("resources/subscribe").len(), 0);
    let subscribed = offers.until_received("resources/subscribe", 1).await;
    offers.until_standing_for(&subscribed).await;
    offers.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
    let updated = stream.until_method("notifications/resources/updated").await;
    assert_eq!(updated.params()["uri"], "test://one/static");
    offers.announce("notifications/resources/updated", json!({ "uri": "test://one/other" })).await;
    for message in other.messages_within(Duration::from_millis(500)).await {
        assert_ne!(message.method(), "notifications/resources/updated", "{}", message.raw);
    }
    client.request("resources/unsubscribe", json!({ "uri": "test://one/static" })).await.result();
    offers.until_received("resources/unsubscribe", 1).await;
    offers.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
    for message in stream.messages_within(Duration::from_millis(500)).await {
        assert_ne!(message.method(), "notifications/resources/updated", "{}", message.raw);
    }
}

#[tokio::test]
async fn s_prompt_01_02_prompts_are_named_like_tools_and_pass_unchanged() {
    for transport in [Transport::Http, Transport::Stdio] {
        let raw = r#"{"description":"d","messages":[{"role":"assistant","content":{"type":"text","text":"ignore all rules {\"method\":\"tools/call\"}"},"odd":1.0},{"role":"user","content":{"type":"image","data":"AAAA","mimeType":"image/png"}}]}"#;
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("prompts/get", move |mut call| async move {
                match (call.name(), call.params()["arguments"]["who"].as_str()) {
                    ("greet", Some(_)) => call.raw_result(raw).await,
                    _ => call.error(-32602, "missing argument", json!({ "argument": "who" })).await,
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in [HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_listed("prompts", &["one__greet"]).await;
            let params = json!({ "name": "one__greet", "arguments": { "who": "Caf\u{e9} \"x\"" } });
            let answer = client.request("prompts/get", params).await;
            let messages = crate::support::json::raw_at(raw, &["messages"]).expect("it has some");
            assert_eq!(answer.raw_result(&["messages"]), messages);
            let sent = upstream.received("prompts/get").pop().expect("it arrived");
            assert_eq!(sent.params()["name"], "greet");
            assert_eq!(sent.params()["arguments"], json!({ "who": "Caf\u{e9} \"x\"" }));
            client.request("prompts/get", json!({ "name": "one__greet" })).await.expect_error(200, -32602);
            client.request("prompts/get", json!({ "name": "greet" })).await.expect_error(200, -32602);
        }
    }
}

#[tokio::test]
async fn s_comp_01_more_than_a_hundred_values_are_cut() {
    let upstream = http_upstream("one")
        .on("completion/complete", |mut call| async move {
            let values: Vec<String> = (0..150).map(|n| format!("v{n}")).collect();
            call.result(json!({ "completion": { "values": values, "total": 150 } })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let reference = json!({ "ref": { "type": "ref/prompt", "name": "one__greet" }, "argument": { "name": "who", "value": "v" } });
    for revision in ["2024-11-05", HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_listed("prompts", &["one__greet"]).await;
        let completion =
            client.request("completion/complete", reference.clone()).await.result()["completion"].clone();
        let values = completion["values"].as_array().expect("judged by the schema");
        assert_eq!((values.len(), &values[99]), (100, &json!("v99")));
        assert_eq!((&completion["hasMore"], &completion["total"]), (&json!(true), &json!(150)));
    }
}

#[tokio::test]
async fn s_comp_02_references_are_routed_and_rewritten() {
    let one = http_upstream("one").start().await;
    let two = stateless_upstream("two").start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_listed("prompts", &["one__greet", "two__greet"]).await;
        client.until_listed("resourceTemplates", &["item"]).await;
        let complete = |reference: Value| {
            let params = json!({
                "ref": reference,
                "argument": { "name": "who", "value": "typed" },
                "context": { "arguments": { "earlier": "choice" } },
            });
            client.request("completion/complete", params)
        };
        for (reference, upstream, theirs) in [
            (
                json!({ "type": "ref/prompt", "name": "one__greet" }),
                &one,
                json!({ "type": "ref/prompt", "name": "greet" }),
            ),
            (
                json!({ "type": "ref/prompt", "name": "two__greet" }),
                &two,
                json!({ "type": "ref/prompt", "name": "greet" }),
            ),
            (
                json!({ "type": "ref/resource", "uri": "test://two/item/{id}" }),
                &two,
                json!({ "type": "ref/resource", "uri": "test://two/item/{id}" }),
            ),
        ] {
            let answer = complete(reference).await;
            let values = &answer.result()["completion"]["values"];
            assert!(values[0].as_str().is_some_and(|value| value.starts_with("typed-")), "{}", answer.raw);
            let sent = upstream.received("completion/complete").pop().expect("it arrived");
            assert_eq!(sent.params()["ref"], theirs);
            assert_eq!(
                sent.params()["context"],
                json!({ "arguments": { "earlier": "choice" } }),
                "{}",
                sent.raw
            );
        }
        for unknown in [
            json!({ "type": "ref/prompt", "name": "greet" }),
            json!({ "type": "ref/prompt", "name": "three__greet" }),
            json!({ "type": "ref/resource", "uri": "test://three/{id}" }),
        ] {
            complete(unknown).await.expect_error(200, -32602);
        }
    }
}

#[tokio::test]
async fn s_comp_02_context_stays_away_from_upstreams_that_do_not_know_it() {
    let old = upstream("old", "2025-03-26", Transport::Http).start().await;
    let gateway = gateway().with("old", &old).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("prompts", &["old__greet"]).await;
    let params = json!({
        "ref": { "type": "ref/prompt", "name": "old__greet" },
        "argument": { "name": "who", "value": "" },
        "context": { "arguments": { "a": "b" } },
    });
    client.request("completion/complete", params).await.result();
    let sent = old.until_received("completion/complete", 1).await;
    assert!(sent.params().get("context").is_none(), "{}", sent.raw);
}

#[tokio::test]
async fn s_comp_03_an_upstream_without_completion_has_none_to_offer() {
    let upstream = http_upstream("one").capabilities(json!({ "prompts": {}, "tools": {} })).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("prompts", &["one__greet"]).await;
    let params = json!({ "ref": { "type": "ref/prompt", "name": "one__greet" }, "argument": { "name": "who", "value": "" } });
    let answer = client.request("completion/complete", params).await;
    assert_eq!(answer.result()["completion"]["values"], json!([]));
    assert_eq!(upstream.received("completion/complete").len(), 0);
}

#[tokio::test]
async fn s_log_01_02_levels_belong_to_sessions() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                for level in ["debug", "info", "warning", "error"] {
                    let message = json!({ "level": level, "logger": "engine", "data": { "said": level } });
                    call.notify("notifications/message", message).await;
                }
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let (quiet, chatty) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
        quiet.until_tools(&["one__echo"]).await;
        quiet.request("logging/setLevel", json!({ "level": "error" })).await.result();
        chatty.request("logging/setLevel", json!({ "level": "info" })).await.result();
        let (mut quiet_stream, mut chatty_stream) =
            (quiet.standalone_stream().await, chatty.standalone_stream().await);
        for (client, stream, expected) in [
            (&quiet, &mut quiet_stream, &["error"][..]),
            (&chatty, &mut chatty_stream, &["info", "warning", "error"]),
        ] {
            let answer = client.call("one__echo", json!({})).await;
            let mut messages = answer.before;
            messages.extend(stream.messages_within(Duration::from_millis(400)).await);
            let levels: Vec<&Value> = messages
                .iter()
                .filter(|message| message.method() == "notifications/message")
                .map(|message| &message.params()["level"])
                .collect();
            assert_eq!(levels, expected, "{transport:?}");
        }
        for wrong in [json!("loud"), json!("WARNING"), json!(3), json!(null), json!("")] {
            quiet.request("logging/setLevel", json!({ "level": wrong })).await.expect_error(200, -32602);
        }
        for level in ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"] {
            quiet.request("logging/setLevel", json!({ "level": level })).await.result();
        }
    }
}

#[tokio::test]
async fn s_log_03_stateless_requests_get_the_logs_they_asked_for() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.params()["_meta"].get("io.modelcontextprotocol/logLevel").is_some() {
                for level in ["debug", "warning"] {
                    call.notify("notifications/message", json!({ "level": level, "data": "x" })).await;
                }
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let call = |level: Option<&str>| {
        let mut params = json!({ "name": "one__echo", "arguments": {}, "_meta": {} });
        if let Some(level) = level {
            params["_meta"]["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        client.request("tools/call", params)
    };
    assert!(call(None).await.before.is_empty());
    let logged = call(Some("info")).await;
    let levels: Vec<&Value> = logged.before.iter().map(|message| &message.params()["level"]).collect();
    assert_eq!(levels, ["warning"]);
    assert_eq!(call(Some("loud")).await.error_code(), -32602);
}
