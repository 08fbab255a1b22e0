//! Resources further on: every revision's codes, specific templates, links, sub-resources, collisions (S-RES).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, Transport, gateway, http_upstream, stdio_upstream, upstream,
};

#[tokio::test]
async fn s_res_02_every_revision_hears_of_a_missing_resource_in_its_own_code() {
    for upstream_revision in HANDSHAKE_REVISIONS.into_iter().chain([STATELESS]) {
        let code = if upstream_revision == STATELESS { -32602 } else { -32002 };
        let upstream = upstream("one", upstream_revision, Transport::Http)
            .on("resources/read", move |mut call| async move {
                let data = json!({ "uri": call.params()["uri"], "more": 1.5 });
                call.error(code, "no such resource", data).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in HANDSHAKE_REVISIONS.into_iter().chain([STATELESS]) {
            let client = gateway.client(revision).await;
            client.until_listed("resources", &["static"]).await;
            let answer = client.request("resources/read", json!({ "uri": "test://one/item/9" })).await;
            let expected = if revision == STATELESS { -32602 } else { -32002 };
            answer.expect_error(200, expected);
            assert_eq!(
                answer.error()["data"]["uri"],
                "test://one/item/9",
                "{upstream_revision} to {revision}"
            );
            assert_eq!(answer.error()["data"]["more"], 1.5, "{upstream_revision} to {revision}");
        }
    }
}

#[tokio::test]
async fn s_res_04_the_most_specific_template_leads_and_nobody_else_is_asked() {
    let template = |uri: &str| json!({ "uriTemplate": uri, "name": uri });
    let general = http_upstream("general")
        .show(|shown| shown.templates = vec![template("x://{host}/{+path}")])
        .start()
        .await;
    let special = stdio_upstream("special")
        .show(|shown| {
            shown.templates = vec![template("x://special/{id}"), template("x://special/{id}/parts/{part}")]
        })
        .start()
        .await;
    let gateway = gateway().with("general", &general).with("special", &special).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_listed("resourceTemplates", &["x://{host}/{+path}", "x://special/{id}"]).await;
    for (uri, who) in [
        ("x://special/7", "special"),
        ("x://special/7/parts/2", "special"),
        ("x://other/7", "general"),
        ("x://other/a/b/c", "general"),
        ("test://special/static", "special"),
    ] {
        let (before_general, before_special) =
            (general.received("resources/read").len(), special.received("resources/read").len());
        let read = client.request("resources/read", json!({ "uri": uri })).await;
        assert_eq!(read.result()["contents"][0]["text"], format!("{who} reads \"{uri}\""), "{}", read.raw);
        let asked = (
            general.received("resources/read").len() - before_general,
            special.received("resources/read").len() - before_special,
        );
        assert_eq!(
            asked,
            if who == "general" { (1, 0) } else { (0, 1) },
            "{uri} is asked of one server alone"
        );
    }
}

#[tokio::test]
async fn s_res_04_links_in_prompts_and_embedded_resources_are_learnt_too() {
    let one = http_upstream("one")
        .on("prompts/get", |mut call| async move {
            let link = json!({ "type": "resource_link", "uri": "learnt:from-prompt", "name": "l" });
            call.result(json!({ "messages": [{ "role": "user", "content": link }] })).await;
        })
        .on("tools/call", |mut call| async move {
            let resource =
                json!({ "type": "resource", "resource": { "uri": "learnt:embedded", "text": "x" } });
            call.result(json!({ "content": [resource] })).await;
        })
        .start()
        .await;
    let two = http_upstream("two").start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_listed("prompts", &["one__greet", "two__greet"]).await;
        client.call("one__echo", json!({})).await.result();
        client
            .request("prompts/get", json!({ "name": "one__greet", "arguments": { "who": "x" } }))
            .await
            .result();
        for uri in ["learnt:embedded", "learnt:from-prompt"] {
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            assert_eq!(read.result()["contents"][0]["text"], format!("one reads \"{uri}\""), "{revision}");
        }
    }
    assert_eq!(two.received("resources/read").len(), 0);
}

#[tokio::test]
async fn s_res_05_errors_and_templates_of_the_later_upstream_speak_in_its_exposed_uris() {
    let same = || json!({ "uriTemplate": "x://same/{id}", "name": "same" });
    let listed = || json!({ "uri": "x://listed", "name": "listed" });
    let plan = |name: &str| {
        http_upstream(name)
            .show(|shown| {
                shown.templates = vec![same()];
                shown.resources = vec![listed()];
            })
            .on("resources/read", |mut call| async move {
                if call.params()["uri"]
                    .as_str()
                    .is_some_and(|uri| uri.ends_with("missing") || uri == "x://listed")
                {
                    let data = json!({ "uri": call.params()["uri"] });
                    return call.error(-32002, "no such resource", data).await;
                }
                call.default().await;
            })
    };
    let (one, two) = (plan("one").start().await, plan("two").start().await);
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo", "two__echo"]).await;
        let templates = client.request("resources/templates/list", json!({})).await;
        let uris: Vec<String> = templates.result()["resourceTemplates"]
            .as_array()
            .expect("judged by the schema")
            .iter()
            .map(|template| template["uriTemplate"].as_str().expect("judged").to_owned())
            .collect();
        assert_eq!((uris.len(), uris[0].as_str()), (2, "x://same/{id}"), "{uris:?}");
        assert!(uris[1] != uris[0] && uris[1].contains("two"), "the later one names its upstream: {uris:?}");
        for (template, who) in [(&uris[0], "one"), (&uris[1], "two")] {
            let uri = template.replace("{id}", "7");
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            assert_eq!(
                read.result()["contents"][0]["text"],
                format!("{who} reads \"x://same/7\""),
                "{}",
                read.raw
            );
            assert_eq!(read.result()["contents"][0]["uri"], json!(uri), "{}", read.raw);
            let missing = template.replace("{id}", "missing");
            let answer = client.request("resources/read", json!({ "uri": missing })).await;
            assert_eq!(
                answer.error()["data"]["uri"],
                json!(missing),
                "in the client's words: {}",
                answer.raw
            );
            let reference = json!({ "ref": { "type": "ref/resource", "uri": template }, "argument": { "name": "id", "value": "" } });
            let values = client.request("completion/complete", reference).await;
            assert_eq!(values.result()["completion"]["values"], json!([format!("-{who}")]), "{}", values.raw);
        }
    }
}

#[tokio::test]
async fn s_res_08_an_update_of_a_part_reaches_those_who_watch_the_whole() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport)
            .show(|shown| {
                for name in ["dir", "dirty", "other"] {
                    shown.resources.push(json!({ "uri": format!("test://one/{name}"), "name": name }));
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_listed("resources", &["dir"]).await;
        let mut stream = client.standalone_stream().await;
        client.request("resources/subscribe", json!({ "uri": "test://one/dir" })).await.result();
        let subscribed = upstream.until_received("resources/subscribe", 1).await;
        upstream.until_standing_for(&subscribed).await;
        for uri in [
            "test://one/dirty",
            "test://one/other",
            "test://one/di",
            "test://one/dir/x",
            "test://one/dir/x/y?q#f",
            "test://one/dir",
        ] {
            upstream.tell(&subscribed, "notifications/resources/updated", json!({ "uri": uri })).await;
        }
        let mut told = Vec::new();
        for message in stream.messages_within(Duration::from_millis(700)).await {
            if message.method() == "notifications/resources/updated" {
                told.push(message.params()["uri"].clone());
            }
        }
        assert_eq!(told, ["test://one/dir/x", "test://one/dir/x/y?q#f", "test://one/dir"], "{transport:?}");
    }
}

fn widget_of(tool: &Value) -> Value {
    tool["_meta"]["ui"]["resourceUri"].clone()
}

#[tokio::test]
async fn s_res_10_what_a_tool_s_metadata_points_to_can_be_read_under_the_name_shown() {
    let plan = |name: &str, listed: bool| {
        http_upstream(name)
            .tool_as(json!({ "name": "app", "inputSchema": { "type": "object" },
                "_meta": { "ui": { "resourceUri": "ui://widget/main.html", "visibility": ["model"] }, "ui/resourceUri": "ui://widget/main.html" } }))
            .show(move |shown| {
                if listed {
                    shown.resources.push(json!({ "uri": "ui://widget/main.html", "name": "widget", "mimeType": "text/html;profile=mcp-app" }));
                }
            })
    };
    let (one, two) = (plan("one", true).start().await, plan("two", true).start().await);
    let both = gateway().with("one", &one).with("two", &two).start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = both.client(revision).await;
        let listing = client.until_tools(&["one__app", "two__app"]).await;
        for (name, who) in [("one__app", "one"), ("two__app", "two")] {
            let tools = listing.result()["tools"].as_array().expect("judged by the schema");
            let tool = tools.iter().find(|tool| tool["name"] == name).expect("listed");
            let uri = widget_of(tool);
            assert_eq!(tool["_meta"]["ui/resourceUri"], uri, "in both spellings: {tool}");
            assert_eq!(tool["_meta"]["ui"]["visibility"], json!(["model"]));
            let read = client.request("resources/read", json!({ "uri": uri })).await;
            let text = read.result()["contents"][0]["text"].as_str().expect("text").to_owned();
            assert_eq!(text, format!("{who} reads \"ui://widget/main.html\""), "{revision} {uri}");
            assert_eq!(read.result()["contents"][0]["uri"], uri);
        }
    }
    // Named by the tool alone, in no list.
    let (three, other) = (plan("three", false).start().await, http_upstream("four").start().await);
    let unlisted = gateway().with("four", &other).with("three", &three).start().await;
    let client = unlisted.handshake(HANDSHAKE).await;
    client.until_tools(&["three__app", "four__echo"]).await;
    let read = client.request("resources/read", json!({ "uri": "ui://widget/main.html" })).await;
    assert_eq!(read.result()["contents"][0]["text"], "three reads \"ui://widget/main.html\"");
}

#[tokio::test]
async fn s_trust_03_s_sec_12_templates_made_to_take_long_hold_nobody_up() {
    let slow =
        |n: usize| json!({ "uriTemplate": format!("x:{{+r}}{}/{{b}}{n}", "/{a}a".repeat(80)), "name": "t" });
    let evil = http_upstream("evil")
        .show(move |shown| shown.templates = (0..256).map(slow).collect())
        .on("tools/call", |mut call| async move {
            let link = |n: usize| json!({ "type": "resource_link", "uri": format!("x:{}{n}", "/a".repeat(2000)), "name": "l" });
            let links: Vec<Value> = (0..20).map(link).collect();
            call.result(json!({ "content": links })).await;
        })
        .start()
        .await;
    let calm = http_upstream("calm").start().await;
    let gateway = gateway().with("evil", &evil).with("calm", &calm).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["evil__echo", "calm__echo"]).await;
    let begun = tokio::time::Instant::now();
    let answer = client.call("evil__echo", json!({})).await;
    let links = answer.result()["content"].as_array().expect("links").len();
    assert_eq!(links, 20);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for twenty links", begun.elapsed());
    // What could not be looked at in time is wrapped, and leads to who named it.
    let last = answer.result()["content"][19]["uri"].as_str().expect("a URI").to_owned();
    let read = client.request("resources/read", json!({ "uri": last })).await;
    assert!(read.result()["contents"][0]["text"].as_str().expect("text").starts_with("evil reads"));
}
