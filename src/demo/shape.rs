//! What features give, in the words of the caller's revision: newer fields left out, required ones added.
//!
//! Features are written once, in the newest form. Always: what leaves here fits the schema of the revision.

use serde_json::{Value, json};

use super::server::identity;
use super::wire::Object;
use crate::protocol::era::{Era, Revision};

const TITLES_SINCE: Revision = Revision::V2025_06_18;

/// A tool's definition.
pub(crate) fn tool(mut tool: Value, revision: Revision) -> Value {
    if let Some(tool) = tool.as_object_mut() {
        if revision != Revision::V2025_11_25 {
            // How tools stand to tasks is told in one revision only.
            tool.remove("execution");
        }
        if revision < Revision::V2025_03_26 {
            tool.remove("annotations");
        }
        if revision < TITLES_SINCE {
            tool.remove("title");
            tool.remove("outputSchema");
        }
    }
    tool
}

/// A prompt, resource or template in a list.
pub(crate) fn listed(mut item: Value, revision: Revision) -> Value {
    if revision < TITLES_SINCE
        && let Some(item) = item.as_object_mut()
    {
        item.remove("title");
        for argument in item.get_mut("arguments").and_then(Value::as_array_mut).into_iter().flatten() {
            argument.as_object_mut().map(|argument| argument.remove("title"));
        }
    }
    item
}

/// The result of a method, complete for the revision.
pub(crate) fn result(method: &str, mut result: Object, revision: Revision) -> Value {
    if let Some(content) = result.get_mut("content").and_then(Value::as_array_mut) {
        content.iter_mut().for_each(|block| adapt_content(block, revision));
    }
    for message in result.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        adapt_content(&mut message["content"], revision);
    }
    if revision < TITLES_SINCE {
        result.remove("structuredContent");
    }
    if revision.era() == Era::Stateless {
        complete(method, &mut result, revision);
    }
    Value::Object(result)
}

fn complete(method: &str, result: &mut Object, revision: Revision) {
    let kind = result.entry("resultType").or_insert_with(|| json!("complete")).clone();
    let meta = result.entry("_meta").or_insert_with(|| json!({}));
    meta["io.modelcontextprotocol/serverInfo"] = identity(revision);
    // Lists change at any time and are announced; what is read may differ the next moment.
    let lifetime = match method {
        "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            1000
        }
        "resources/read" => 0,
        _ => return,
    };
    if kind == "complete" {
        result.insert("ttlMs".to_owned(), json!(lifetime));
        result.insert("cacheScope".to_owned(), json!("public"));
    }
}

fn adapt_content(block: &mut Value, revision: Revision) {
    let told = match block["type"].as_str() {
        Some("audio") if revision < Revision::V2025_03_26 => {
            format!("(audio of type {} is left out: this revision has none)", block["mimeType"])
        }
        Some("resource_link") if revision < TITLES_SINCE => {
            format!(
                "{}: {}",
                block["name"].as_str().unwrap_or_default(),
                block["uri"].as_str().unwrap_or_default()
            )
        }
        _ => return,
    };
    *block = json!({ "type": "text", "text": told });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_revision_has_no_word_for_becomes_text() {
        let link = json!({"content": [{"type": "resource_link", "name": "a", "uri": "demo://a"}]});
        let link = link.as_object().unwrap();
        let old = result("tools/call", link.clone(), Revision::V2025_03_26);
        assert_eq!(old["content"][0], json!({"type": "text", "text": "a: demo://a"}));
        let new = result("tools/call", link.clone(), Revision::V2025_06_18);
        assert_eq!(new["content"][0]["type"], "resource_link");
    }

    #[test]
    fn only_stateless_results_carry_their_type_and_only_complete_ones_a_lifetime() {
        let read = || json!({"contents": []}).as_object().unwrap().clone();
        assert!(result("resources/read", read(), Revision::V2025_11_25).get("resultType").is_none());
        let complete = result("resources/read", read(), Revision::V2026_07_28);
        assert_eq!((&complete["resultType"], &complete["ttlMs"]), (&json!("complete"), &json!(0)));
        let mut asking = read();
        asking.insert("resultType".to_owned(), json!("input_required"));
        assert!(result("resources/read", asking, Revision::V2026_07_28).get("ttlMs").is_none());
    }
}
