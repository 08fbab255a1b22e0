//! What each revision is shown of lists, results and messages (requirements section 33; S-LIFE-13, S-TOOL-09 to -12).

use serde_json::{Value, json};

use crate::support::json::raw_at;
use crate::support::{
    Client, HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, Transport, Upstream, gateway, http_upstream, upstream,
};

/// No client is of this revision: what only older or newer ones know.
const NEVER: &str = "9999";

fn every_revision() -> impl Iterator<Item = &'static str> {
    HANDSHAKE_REVISIONS.into_iter().chain([STATELESS])
}

fn icons() -> Value {
    json!([{ "src": "https://example.com/i.png", "mimeType": "image/png", "sizes": ["48x48"] }])
}

fn meta() -> Value {
    json!({ "com.example/kept": { "deep": [1, null] } })
}

fn annotations() -> Value {
    json!({ "audience": ["user"], "priority": 0.5, "lastModified": "2025-01-12T15:00:58Z" })
}

/// An upstream that shows everything its lists can hold.
async fn rich(revision: &str) -> Upstream {
    upstream("one", revision, Transport::Http)
        .tool_as(json!({
            "name": "rich", "title": "Rich", "description": "All of it.", "icons": icons(), "_meta": meta(),
            "annotations": { "title": "R", "readOnlyHint": true, "openWorldHint": false },
            "inputSchema": { "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
                "properties": { "a": { "$ref": "#/$defs/a" } }, "$defs": { "a": { "type": "string" } },
                "additionalProperties": false, "if": {}, "then": {} },
            "outputSchema": { "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] },
            "execution": { "taskSupport": "optional" },
        }))
        .show(|shown| {
            shown.prompts.push(json!({
                "name": "rich", "title": "Rich", "description": "d", "icons": icons(), "_meta": meta(),
                "arguments": [{ "name": "who", "title": "Who", "description": "d", "required": true }],
            }));
            shown.resources.push(json!({
                "uri": "test://one/rich", "name": "rich", "title": "Rich", "description": "d", "mimeType": "a/b",
                "size": 12, "icons": icons(), "_meta": meta(), "annotations": annotations(),
            }));
            shown.templates.push(json!({
                "uriTemplate": "test://one/rich/{id}", "name": "rich", "title": "Rich", "description": "d",
                "mimeType": "a/b", "icons": icons(), "_meta": meta(), "annotations": annotations(),
            }));
        })
        .start()
        .await
}

/// List, member, and the first revision that is shown it.
const SHOWN_SINCE: &[(&str, &str, &str)] = &[
    ("tools", "/description", "2024-11-05"),
    ("tools", "/inputSchema/$defs/a", "2024-11-05"),
    ("tools", "/inputSchema/additionalProperties", "2024-11-05"),
    ("tools", "/annotations/title", "2025-03-26"),
    ("tools", "/annotations/openWorldHint", "2025-03-26"),
    ("tools", "/annotations", "2025-03-26"),
    ("tools", "/title", "2025-06-18"),
    ("tools", "/outputSchema/required", "2025-06-18"),
    ("tools", "/outputSchema", "2025-06-18"),
    ("tools", "/_meta/com.example~1kept", "2025-06-18"),
    ("tools", "/icons", "2025-11-25"),
    ("tools", "/execution", NEVER),
    ("prompts", "/description", "2024-11-05"),
    ("prompts", "/arguments/0/required", "2024-11-05"),
    ("prompts", "/title", "2025-06-18"),
    ("prompts", "/arguments/0/title", "2025-06-18"),
    ("prompts", "/_meta/com.example~1kept", "2025-06-18"),
    ("prompts", "/icons", "2025-11-25"),
    ("resources", "/description", "2024-11-05"),
    ("resources", "/size", "2024-11-05"),
    ("resources", "/annotations/priority", "2024-11-05"),
    ("resources", "/annotations/lastModified", "2025-06-18"),
    ("resources", "/title", "2025-06-18"),
    ("resources", "/_meta/com.example~1kept", "2025-06-18"),
    ("resources", "/icons", "2025-11-25"),
    ("resourceTemplates", "/mimeType", "2024-11-05"),
    ("resourceTemplates", "/annotations/audience", "2024-11-05"),
    ("resourceTemplates", "/annotations/lastModified", "2025-06-18"),
    ("resourceTemplates", "/title", "2025-06-18"),
    ("resourceTemplates", "/_meta/com.example~1kept", "2025-06-18"),
    ("resourceTemplates", "/icons", "2025-11-25"),
];

#[tokio::test]
async fn s_life_13_s_tool_11_12_lists_show_each_revision_what_it_knows_and_keep_the_rest() {
    for upstream_revision in [HANDSHAKE, STATELESS] {
        let upstream = rich(upstream_revision).await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in every_revision() {
            let client = gateway.client(revision).await;
            let mut wrong = Vec::new();
            for list in ["tools", "prompts", "resources", "resourceTemplates"] {
                let name = if matches!(list, "tools" | "prompts") { "one__rich" } else { "rich" };
                let listing = client.until_listed(list, &[name]).await;
                let items = listing.result()[list].as_array().expect("judged by the schema");
                let item = items.iter().find(|item| item["name"] == name).expect("listed");
                for (_, member, since) in SHOWN_SINCE.iter().filter(|(of, ..)| *of == list) {
                    let (is, should) = (item.pointer(member).is_some(), revision >= *since);
                    if is != should {
                        wrong.push(format!("{list}{member} is {}", if is { "shown" } else { "lost" }));
                    }
                }
            }
            assert!(wrong.is_empty(), "{upstream_revision} to {revision}: {wrong:#?}");
        }
    }
}

/// Every kind of block with everything a block can carry.
const BLOCKS: &str = r#"[{"type":"text","text":"plain","annotations":{"audience":["user","assistant"],"priority":1.0,"lastModified":"2025-01-12T15:00:58Z"},"_meta":{"com.example/n":1.50}},{"type":"image","data":"QQ==","mimeType":"image/png","_meta":{"z":1,"a":2}},{"type":"audio","data":"UklGRg==","mimeType":"audio/wav","annotations":{"priority":0.0}},{"type":"resource_link","uri":"test://one/static","name":"the static one","title":"S","description":"d","mimeType":"text/plain","size":12345678901,"annotations":{"lastModified":"2025-01-12T15:00:58Z"}},{"type":"resource","resource":{"uri":"test://one/item/1","mimeType":"text/plain","text":"embedded text","_meta":{"k":[]}},"annotations":{"priority":0.25},"_meta":{}},{"type":"resource","resource":{"uri":"test://one/item/2","blob":"AAEC"}}]"#;

/// Serve [`BLOCKS`] as the content of tools and prompts.
async fn serving_blocks(revision: &str) -> Upstream {
    upstream("one", revision, Transport::Http)
        .on("tools/call", |mut call| async move {
            let result = call.complete(json!({})).to_string();
            let rest = result.trim_start_matches('{').to_owned();
            let separator = if rest == "}" { "" } else { "," };
            call.raw_result(&format!(r#"{{"content":{BLOCKS}{separator}{rest}"#)).await;
        })
        .on("prompts/get", |mut call| async move {
            let blocks: Vec<Value> = serde_json::from_str(BLOCKS).expect("they are JSON");
            let messages: Vec<Value> =
                blocks.into_iter().map(|block| json!({ "role": "user", "content": block })).collect();
            let result = call.complete(json!({ "messages": messages }));
            call.result(result).await;
        })
        .start()
        .await
}

#[tokio::test]
async fn s_tool_10_every_block_passes_byte_for_byte_where_it_is_known() {
    for upstream_revision in ["2025-06-18", HANDSHAKE, STATELESS] {
        let upstream = serving_blocks(upstream_revision).await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in ["2025-06-18", HANDSHAKE, STATELESS] {
            let client = gateway.client(revision).await;
            client.until_tools(&["one__echo"]).await;
            let answer = client.call("one__echo", json!({})).await;
            assert_eq!(answer.raw_result(&["content"]), BLOCKS, "{upstream_revision} to {revision}");
        }
    }
}

/// What a client of `revision` is shown of [`BLOCKS`]; each block was judged by its schema already.
fn expect_converted(revision: &str, shown: &[Value], raw: &str) {
    let kinds: Vec<&str> = shown.iter().map(|block| block["type"].as_str().expect("judged")).collect();
    let knows_audio = revision >= "2025-03-26";
    let expected =
        ["text", "image", if knows_audio { "audio" } else { "text" }, "text", "resource", "resource"];
    assert_eq!(kinds, expected, "{revision}: one block for each, in order: {raw}");
    assert_eq!(shown[0]["text"], "plain");
    assert_eq!(
        shown[0]["annotations"],
        json!({ "audience": ["user", "assistant"], "priority": 1.0 }),
        "{revision}"
    );
    assert_eq!(shown[1]["data"], "QQ==");
    if knows_audio {
        assert_eq!(
            shown[2],
            json!({ "type": "audio", "data": "UklGRg==", "mimeType": "audio/wav", "annotations": { "priority": 0.0 } })
        );
    } else {
        let told = shown[2]["text"].as_str().unwrap_or_default();
        assert!(told.contains("audio/wav") && !raw.contains("UklGRg=="), "an omission is told: {told:?}");
    }
    let linked = shown[3]["text"].as_str().unwrap_or_default();
    assert!(linked.contains("the static one") && linked.contains("test://one/static"), "{linked:?}");
    assert_eq!(
        shown[4],
        json!({ "type": "resource", "annotations": { "priority": 0.25 },
            "resource": { "uri": "test://one/item/1", "mimeType": "text/plain", "text": "embedded text" } })
    );
    assert_eq!(
        shown[5],
        json!({ "type": "resource", "resource": { "uri": "test://one/item/2", "blob": "AAEC" } })
    );
    assert!(!raw.contains("_meta") && !raw.contains("lastModified"), "{revision}: {raw}");
}

#[tokio::test]
async fn s_tool_10_s_life_13_blocks_an_older_client_does_not_know_are_told_in_text() {
    for upstream_revision in [HANDSHAKE, STATELESS] {
        let upstream = serving_blocks(upstream_revision).await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in ["2024-11-05", "2025-03-26"] {
            let client = gateway.handshake(revision).await;
            client.until_tools(&["one__echo"]).await;
            let answer = client.call("one__echo", json!({})).await;
            expect_converted(revision, answer.result()["content"].as_array().expect("judged"), &answer.raw);
        }
    }
}

#[tokio::test]
async fn s_prompt_02_messages_keep_their_roles_and_are_told_in_what_the_revision_knows() {
    let upstream = serving_blocks(HANDSHAKE).await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in every_revision() {
        let client = gateway.client(revision).await;
        client.until_listed("prompts", &["one__greet"]).await;
        let params = json!({ "name": "one__greet", "arguments": { "who": "x" } });
        let answer = client.request("prompts/get", params).await;
        let messages = answer.result()["messages"].as_array().expect("judged by the schema");
        assert!(messages.iter().all(|message| message["role"] == "user"), "{}", answer.raw);
        let shown: Vec<Value> = messages.iter().map(|message| message["content"].clone()).collect();
        if revision >= "2025-06-18" {
            let blocks: Vec<Value> = serde_json::from_str(BLOCKS).expect("they are JSON");
            assert_eq!(shown, blocks, "{revision}");
        } else {
            expect_converted(revision, &shown, &answer.raw);
        }
    }
}

const STRUCTURED: &str = r#"{"n":12345678901234567890,"f":1.0,"list":[{"z":1,"a":null}]}"#;

fn carries_json(answer: &crate::support::client::Answer, expected: &str) -> bool {
    let blocks = answer.result()["content"].as_array().expect("judged by the schema");
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    let squeezed =
        |text: &str| text.chars().filter(|character| !character.is_whitespace()).collect::<String>();
    texts.map(squeezed).any(|text| text.contains(&squeezed(expected)))
}

#[tokio::test]
async fn s_tool_09_structured_results_pass_unchanged_or_stay_readable_as_text() {
    for upstream_revision in ["2025-06-18", HANDSHAKE, STATELESS] {
        let upstream = upstream("one", upstream_revision, Transport::Http)
            .tool("told")
            .tool("silent")
            .on("tools/call", |mut call| async move {
                let own = json!(STRUCTURED).to_string();
                let content = match call.name() {
                    "told" => format!(r#"[{{"type":"text","text":{own}}}]"#),
                    _ => "[]".to_owned(),
                };
                let more = call.complete(json!({})).to_string();
                let more = more.trim_start_matches('{').to_owned();
                let separator = if more == "}" { "" } else { "," };
                let result = format!(r#"{{"content":{content},"structuredContent":{STRUCTURED},"isError":false{separator}{more}"#);
                call.raw_result(&result).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in every_revision() {
            let client = gateway.client(revision).await;
            client.until_tools(&["one__told", "one__silent"]).await;
            for tool in ["one__told", "one__silent"] {
                let answer = client.call(tool, json!({})).await;
                let shown = raw_at(&answer.raw, &["result", "structuredContent"]);
                if revision >= "2025-06-18" {
                    assert_eq!(shown, Some(STRUCTURED), "{upstream_revision} to {revision}");
                } else {
                    assert_eq!(shown, None, "{upstream_revision} to {revision}");
                    assert!(carries_json(&answer, STRUCTURED), "{revision}, {tool}: {}", answer.raw);
                    assert!(
                        tool.ends_with("silent")
                            || answer.result()["content"].as_array().is_some_and(|blocks| blocks.len() == 1),
                        "told once: {}",
                        answer.raw
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn s_tool_09_structured_results_that_are_no_objects_are_for_stateless_clients() {
    for (structured, schema) in [
        ("[1.0,2]", json!({ "type": "array" })),
        ("\"text\"", json!({ "type": "string" })),
        ("7", json!({})),
        ("null", json!({ "type": ["object", "null"] })),
    ] {
        let upstream = upstream("one", STATELESS, Transport::Http)
            .tool_as(json!({ "name": "odd", "inputSchema": { "type": "object" }, "outputSchema": schema }))
            .on("tools/call", move |mut call| async move {
                let more = call.complete(json!({})).to_string();
                let more = more.trim_start_matches('{');
                call.raw_result(&format!(r#"{{"content":[],"structuredContent":{structured},{more}"#)).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in every_revision() {
            let client = gateway.client(revision).await;
            let listing = client.until_tools(&["one__odd"]).await;
            let tools = listing.result()["tools"].as_array().expect("judged by the schema");
            let odd = tools.iter().find(|tool| tool["name"] == "one__odd").expect("listed");
            let answer = client.call("one__odd", json!({})).await;
            let shown = raw_at(&answer.raw, &["result", "structuredContent"]);
            if revision == STATELESS {
                assert_eq!((odd.get("outputSchema"), shown), (Some(&schema), Some(structured)));
            } else {
                assert_eq!((odd.get("outputSchema"), shown), (None, None), "{revision}: {}", answer.raw);
                let plain = structured.trim_matches('"');
                assert!(carries_json(&answer, plain), "{revision}: {}", answer.raw);
            }
        }
    }
}

#[tokio::test]
async fn s_res_09_s_life_13_all_that_is_read_passes_without_metadata_for_those_who_know_none() {
    let contents = r#"[{"uri":"test://one/static","mimeType":"text/plain","text":"a","_meta":{"com.example/k":1.0}},{"uri":"test://one/static/part","blob":"AAEC","mimeType":"a/b"}]"#;
    let upstream = http_upstream("one")
        .on("resources/read", move |mut call| async move {
            call.raw_result(&format!(r#"{{"contents":{contents},"_meta":{{"com.example/r":1}}}}"#)).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in every_revision() {
        let client = gateway.client(revision).await;
        client.until_listed("resources", &["static"]).await;
        let answer = client.request("resources/read", json!({ "uri": "test://one/static" })).await;
        if revision >= "2025-06-18" {
            assert_eq!(answer.raw_result(&["contents"]), contents, "{revision}");
        } else {
            assert!(answer.result()["contents"][0].get("_meta").is_none(), "{revision}: {}", answer.raw);
            assert_eq!(answer.result()["contents"][0]["text"], "a");
            assert_eq!(
                answer.result()["contents"][1],
                json!({ "uri": "test://one/static/part", "blob": "AAEC", "mimeType": "a/b" })
            );
        }
        assert_eq!(answer.result()["_meta"]["com.example/r"], 1, "results carry metadata in every revision");
    }
}

#[tokio::test]
async fn s_life_13_errors_of_tools_are_converted_like_their_results() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let audio = json!({ "type": "audio", "data": "AAAA", "mimeType": "audio/ogg" });
            call.result(json!({ "content": [audio], "isError": true, "structuredContent": { "why": "x" } }))
                .await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in every_revision() {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let answer = client.call("one__echo", json!({})).await;
        assert_eq!(answer.result()["isError"], true, "{}", answer.raw);
        let first = &answer.result()["content"][0]["type"];
        assert_eq!(first, if revision == "2024-11-05" { "text" } else { "audio" }, "{}", answer.raw);
    }
}

#[tokio::test]
async fn s_base_17_what_no_revision_names_passes_to_every_revision() {
    let upstream = http_upstream("one")
        .tool_as(json!({ "name": "odd", "inputSchema": { "type": "object" }, "x-vendor": { "a": [1] } }))
        .on("tools/call", |mut call| async move {
            let block = json!({ "type": "text", "text": "t", "x-vendor": 1 });
            call.result(json!({ "content": [block], "x-vendor": { "b": null } })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in every_revision() {
        let client: Client = gateway.client(revision).await;
        let listing = client.until_tools(&["one__odd"]).await;
        assert!(listing.raw.contains(r#""x-vendor":{"a":[1]}"#), "{revision}: {}", listing.raw);
        let answer = client.call("one__odd", json!({})).await;
        assert_eq!(answer.result()["x-vendor"], json!({ "b": null }), "{revision}: {}", answer.raw);
        assert_eq!(answer.result()["content"][0]["x-vendor"], 1, "{revision}: {}", answer.raw);
    }
}
