//! The set for the official suite, in revisions and over transports that the suite does not reach.

use serde_json::{Value, json};
use switchyard::protocol::era::{REVISIONS, Revision};

use crate::client::{Client, text_of};

async fn every_tool(revision: Revision, over_http: bool) {
    let mut client = Client::meet(revision, over_http, &["--tools", "conformance"]).await;
    client.log_level = Some("debug");
    let listed = client.request("tools/list", json!({})).await.unwrap();
    for tool in listed["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        // These need more than a plain client: to resume a stream, and to mirror a parameter.
        if over_http && matches!(name, "test_reconnection" | "test_custom_header") {
            continue;
        }
        let arguments = json!({
            "prompt": "Hello?", "message": "Hello!", "region": "eu", "name": "Ada", "seconds": 0, "filename": "a.txt",
        });
        let result = client.request("tools/call", json!({"name": name, "arguments": arguments})).await;
        if refused_without_a_task(revision, tool) {
            result.unwrap_err();
            continue;
        }
        let result = match result {
            Err(crash) if name == "protocol_error_job" => {
                assert_eq!(crash["code"], -32603);
                continue;
            }
            result => result.unwrap_or_else(|error| panic!("{name} failed: {error}")),
        };
        let needs_forms = name.contains("elicitation") || name.contains("state") || name.contains("multi");
        let fails = match name {
            "test_error_handling" | "failing_job" => true,
            "confirm_delete" | "test_tool_with_task" => revision < Revision::V2025_06_18,
            "test_elicitation_sep1330_enums" => revision < Revision::V2025_11_25,
            // It streams, and asks nothing.
            "test_multiple_content_types" | "test_streaming_elicitation" => false,
            _ => needs_forms && revision < Revision::V2025_06_18,
        };
        assert_eq!(result["isError"] == true, fails, "{name} in {revision}: {result}");
    }
    for prompt in client.request("prompts/list", json!({})).await.unwrap()["prompts"].as_array().unwrap() {
        let asks = prompt["name"] == "test_input_required_result_prompt";
        let arguments = json!({"arg1": "one", "arg2": "two", "resourceUri": "test://example-resource"});
        let got =
            client.request("prompts/get", json!({"name": prompt["name"], "arguments": arguments})).await;
        assert_eq!(got.is_err(), asks && revision < Revision::V2025_06_18, "{prompt} in {revision}");
    }
}

/// Tools that are nothing but tasks, where the revision knows tasks and the call asks for none.
fn refused_without_a_task(revision: Revision, tool: &Value) -> bool {
    let only_a_task = matches!(tool["name"].as_str(), Some("failing_job" | "test_tool_with_task"));
    only_a_task && revision >= Revision::V2025_11_25
}

#[tokio::test]
async fn every_conformance_tool_in_every_revision_over_stdio() {
    for revision in REVISIONS {
        every_tool(revision, false).await;
    }
}

#[tokio::test]
async fn every_conformance_tool_in_every_revision_over_http() {
    for revision in REVISIONS {
        every_tool(revision, true).await;
    }
}

#[tokio::test]
async fn the_same_tools_ask_the_same_things_in_both_eras() {
    let mut asked = Vec::new();
    for revision in [Revision::V2025_11_25, Revision::V2026_07_28] {
        let mut client = Client::meet(revision, true, &["--tools", "conformance"]).await;
        for name in ["multi_round", "multiple_inputs", "capabilities", "list_roots", "request_state"] {
            client.call(&format!("test_input_required_result_{name}"), json!({})).await;
        }
        let mut questions: Vec<_> =
            client.asked.iter().map(|it| (it["method"].clone(), it["params"].clone())).collect();
        questions.sort_by_key(|question: &(Value, Value)| format!("{question:?}"));
        asked.push(questions);
    }
    assert_eq!(asked[0].len(), 10);
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn s_mrtr_08_answers_count_without_state_where_none_was_given() {
    let mut client = Client::meet(Revision::V2026_07_28, true, &["--tools", "conformance"]).await;
    let tool = "test_input_required_result_elicitation";
    let given = json!({"user_name": {"action": "accept", "content": {"name": "Ada"}}, "other": {"a": 1}});
    let greeted = client.request("tools/call", json!({"name": tool, "inputResponses": given})).await.unwrap();
    assert_eq!((text_of(&greeted), client.asked.len()), ("Hello, Ada!", 0));
    for malformed in [json!(null), json!({"user_name": 12345})] {
        let refused = client.request("tools/call", json!({"name": tool, "inputResponses": malformed})).await;
        assert_eq!(refused.unwrap_err()["code"], -32602);
    }
}
