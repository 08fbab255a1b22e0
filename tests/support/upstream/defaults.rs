//! How a well-behaved server of each era answers, and what it expects of the gateway.
//!
//! Owns the lawful answers and the check of incoming messages. Always: strict where the specification is. Not here:
//! transport.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use serde_json::{Value, json};

use super::{Call, Received, Shared, Shown, Transport, locked, over_http};
use crate::support::STATELESS;
use crate::support::schema::{self, Answers};

/// What the well-behaved server can do.
pub(super) fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": true },
        "completions": {},
        "logging": {},
    })
}

/// What it shows.
pub(super) fn shown(name: &str) -> Shown {
    Shown {
        tools: vec![json!({
            "name": "echo",
            "description": "Gives back its arguments.",
            "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } },
        })],
        prompts: vec![json!({
            "name": "greet",
            "description": "Greets somebody.",
            "arguments": [{ "name": "who", "description": "Whom to greet.", "required": true }],
        })],
        resources: vec![
            json!({ "uri": format!("test://{name}/static"), "name": "static", "mimeType": "text/plain" }),
        ],
        templates: vec![json!({ "uriTemplate": format!("test://{name}/item/{{id}}"), "name": "item" })],
        page: None,
    }
}

/// A result with what the era adds to it.
pub(super) fn complete(shared: &Shared, method: &str, result: Value) -> Value {
    let mut result = result;
    if shared.is_stateless() {
        result["resultType"] = json!("complete");
        let cacheable =
            method.ends_with("/list") || method == "resources/read" || method == "server/discover";
        if cacheable {
            result["ttlMs"] = json!(0);
            result["cacheScope"] = json!("private");
        }
        let identity = json!({ "name": shared.name, "version": "9" });
        result["_meta"]["io.modelcontextprotocol/serverInfo"] = identity;
    }
    result
}

/// Whether a message is taken without a word: notifications, and responses to what the upstream asked.
pub(super) fn takes_silently(shared: &Shared, received: &Received) -> bool {
    if received.json.get("method").is_some() {
        return received.json.get("id").is_none();
    }
    let Some(id) = received.json["id"].as_str() else { return received.json.get("error").is_some() };
    let asked = locked(&shared.awaiting).remove(id);
    if let Some(asked) = asked {
        let faults = schema::answer_faults(&shared.revision, &asked.method, &received.json);
        if !faults.is_empty() && !shared.is_lenient {
            locked(&shared.faults).push(format!("{faults:?} in {}", received.raw));
        }
        asked.answered.send(received.json.clone()).ok();
    }
    true
}

/// What is unlawful about a message of the gateway.
pub(super) fn fault_of(shared: &Shared, received: &Received) -> Option<String> {
    if shared.is_lenient || matches!(received.verb.as_str(), "GET" | "DELETE" | "CONNECT") {
        return None;
    }
    // A probe of the other era is lawful: the gateway cannot know beforehand.
    let method = received.method();
    if matches!((method, shared.is_stateless()), ("server/discover", false) | ("initialize", true)) {
        return None;
    }
    if received.json.is_null() {
        return Some(format!("not JSON: {}", received.raw));
    }
    let is_response = method.is_empty();
    let faults = if is_response {
        Vec::new()
    } else {
        schema::message_faults(&shared.revision, &received.json, Answers::Unreadable)
    };
    (!faults.is_empty()).then(|| format!("{faults:?} in {}", received.raw))
}

/// Answer as a well-behaved server.
pub(super) async fn answer(call: &mut Call) {
    match call.received.verb.as_str() {
        "GET" if call.shared.is_stateless() || !call.shared.has_standing_stream => {
            return call.http(405, &[], b"").await;
        }
        "GET" => return over_http::stand(call).await,
        "DELETE" if call.shared.is_stateless() => return call.http(405, &[], b"").await,
        "DELETE" => {
            let session = call.received.session().unwrap_or_default().to_owned();
            let known = locked(&call.shared.sessions).remove(&session);
            return call.http(if known { 200 } else { 404 }, &[], b"").await;
        }
        _ => {}
    }
    if call.shared.is_stateless() { answer_stateless(call).await } else { answer_handshake(call).await }
}

async fn answer_handshake(call: &mut Call) {
    let is_http = call.shared.transport == Transport::Http;
    match call.method() {
        "initialize" => return welcome(call).await,
        "server/discover" if !is_http => return call.error(-32601, "no such method", Value::Null).await,
        _ => {}
    }
    if is_http {
        let session = call.received.session().map(str::to_owned);
        let refusal = match session {
            None => Some((400, "no session id")),
            Some(id) if !locked(&call.shared.sessions).contains(&id) => {
                Some((call.shared.forgotten_status, "no such session"))
            }
            Some(_) => None,
        };
        if let Some((status, message)) = refusal {
            let body =
                json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": message } });
            return call
                .http(status, &[("Content-Type", "application/json")], body.to_string().as_bytes())
                .await;
        }
    }
    answer_method(call).await;
}

async fn welcome(call: &mut Call) {
    // A server that is started again gives none of its ids a second time.
    static SESSIONS: AtomicU64 = AtomicU64::new(0);
    let shared = std::sync::Arc::clone(&call.shared);
    let session = format!("{}-session-{}", shared.name, SESSIONS.fetch_add(1, Ordering::Relaxed));
    let mut result = json!({
        "protocolVersion": shared.revision,
        "capabilities": shared.capabilities,
        "serverInfo": { "name": format!("{}-itself", shared.name), "version": "9" },
    });
    if let Some(instructions) = &shared.instructions {
        result["instructions"] = json!(instructions);
    }
    let message = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id());
    println!("   [{}] => {message}", shared.name);
    if shared.transport == Transport::Http {
        locked(&shared.sessions).insert(session.clone());
    }
    let way = match shared.transport {
        Transport::Http => session.clone(),
        Transport::Stdio => super::standing::way_of(&call.received),
    };
    locked(&shared.greeted).insert(way, call.params()["capabilities"].clone());
    let fields = [("Content-Type", "application/json"), ("Mcp-Session-Id", session.as_str())];
    call.http(200, &fields, message.as_bytes()).await;
}

async fn answer_stateless(call: &mut Call) {
    if let Some((status, code, message, data)) = refusal_of(call) {
        let error = json!({ "jsonrpc": "2.0", "id": call.received.json["id"], "error":
            { "code": code, "message": message, "data": data } });
        println!("   [{}] => {status} {error}", call.shared.name);
        return call
            .http(status, &[("Content-Type", "application/json")], error.to_string().as_bytes())
            .await;
    }
    if call.method() == "server/discover" {
        let mut result =
            json!({ "supportedVersions": [STATELESS], "capabilities": call.shared.capabilities });
        if let Some(instructions) = &call.shared.instructions {
            result["instructions"] = json!(instructions);
        }
        let result = call.complete(result);
        return call.result(result).await;
    }
    if call.method() == "subscriptions/listen" {
        return super::listening::listen(call).await;
    }
    answer_method(call).await;
}

/// The strict checks of a stateless server, in the order of the specification.
fn refusal_of(call: &Call) -> Option<(u16, i64, String, Value)> {
    let (received, method) = (&call.received, call.method());
    if matches!(
        method,
        "initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe"
    ) {
        return Some((404, -32601, format!("no method {method}"), Value::Null));
    }
    let meta = &received.params()["_meta"];
    let version = &meta["io.modelcontextprotocol/protocolVersion"];
    if !version.is_string() || !meta["io.modelcontextprotocol/clientCapabilities"].is_object() {
        return Some((400, -32602, "metadata is missing".to_owned(), Value::Null));
    }
    if call.shared.transport == Transport::Http {
        let mismatch = |what: &str| Some((400, -32020, format!("{what} header mismatch"), Value::Null));
        if received.headers.get("mcp-protocol-version") != version.as_str() {
            return mismatch("MCP-Protocol-Version");
        }
        if received.headers.get("mcp-method") != Some(method) {
            return mismatch("Mcp-Method");
        }
        let name = match method {
            "tools/call" | "prompts/get" => received.params()["name"].as_str(),
            "resources/read" => received.params()["uri"].as_str(),
            "tasks/get" | "tasks/update" | "tasks/cancel" => received.params()["taskId"].as_str(),
            _ => None,
        };
        if name.is_some() && received.headers.get("mcp-name").map(unsealed).as_deref() != name {
            return mismatch("Mcp-Name");
        }
    }
    if version != STATELESS {
        let data = json!({ "supported": [STATELESS], "requested": version });
        return Some((400, -32022, "unsupported version".to_owned(), data));
    }
    None
}

/// A header value, decoded when it is sealed in base64.
pub(crate) fn unsealed(value: &str) -> String {
    let sealed = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let decoded = sealed.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    decoded.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| value.to_owned())
}

async fn answer_method(call: &mut Call) {
    let method = call.method().to_owned();
    let params = call.params().clone();
    let shown = locked(&call.shared.shown).clone();
    let result = match method.as_str() {
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => json!({}),
        "tools/list" => page("tools", &shown.tools, &shown, &params),
        "prompts/list" => page("prompts", &shown.prompts, &shown, &params),
        "resources/list" => page("resources", &shown.resources, &shown, &params),
        "resources/templates/list" => page("resourceTemplates", &shown.templates, &shown, &params),
        "tools/call" => {
            if !shown.tools.iter().any(|tool| tool["name"] == params["name"]) {
                return call.error(-32602, "unknown tool", json!({ "name": params["name"] })).await;
            }
            let arguments =
                crate::support::json::raw_at(&call.received.raw, &["params", "arguments"]).unwrap_or("{}");
            json!({ "content": [{ "type": "text", "text": format!("{} echoes {arguments}", call.shared.name) }] })
        }
        "prompts/get" => {
            let text = format!("{} greets {}", call.shared.name, params["arguments"]["who"]);
            json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": text } }] })
        }
        "resources/read" => {
            let text = format!("{} reads {}", call.shared.name, params["uri"]);
            json!({ "contents": [{ "uri": params["uri"], "mimeType": "text/plain", "text": text }] })
        }
        "completion/complete" => {
            let typed = params["argument"]["value"].as_str().unwrap_or_default();
            json!({ "completion": { "values": [format!("{typed}-{}", call.shared.name)], "total": 1, "hasMore": false } })
        }
        _ => return call.error(-32601, "no such method", Value::Null).await,
    };
    let result = call.complete(result);
    call.result(result).await;
}

/// One page of a list. The cursor of the page after the first is deliberately the empty string.
fn page(member: &str, items: &[Value], shown: &Shown, params: &Value) -> Value {
    let size = shown.page.unwrap_or(usize::MAX);
    let from = match params["cursor"].as_str() {
        None => 0,
        Some("") => size,
        Some(cursor) => cursor.strip_prefix("marker-cursor-").and_then(|n| n.parse().ok()).unwrap_or(0),
    };
    let until = from.saturating_add(size).min(items.len());
    let mut result = json!({ member: items[from.min(items.len())..until] });
    if until < items.len() {
        result["nextCursor"] =
            if until == size { json!("") } else { json!(format!("marker-cursor-{until}")) };
    }
    result
}
