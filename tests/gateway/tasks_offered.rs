//! Who is told that there are tasks, and what the gateway tells a server that it can do (S-TASK-01…04, S-TX-01, -02, -15).

use serde_json::{Value, json};

use crate::support::upstream::Manner;
use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, Transport, gateway, http_upstream, stateless_upstream,
    upstream,
};
use crate::tasks_stage::{Pair, Stage, client, over_http};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

fn pair(client: &'static str, upstream: &'static str) -> Pair {
    Pair { client, upstream, transport: Transport::Http }
}

#[tokio::test]
async fn s_task_01_tasks_are_declared_to_clients_of_2025_11_25_alone() {
    for upstream in [HANDSHAKE, STATELESS] {
        let stage = Stage::set(pair(HANDSHAKE, upstream), Manner::default()).await;
        // A session that was opened before the server was known may have been told less.
        let declared = client(&stage.gateway, HANDSHAKE).await.welcome["capabilities"]["tasks"].clone();
        assert_eq!(declared, json!({ "list": {}, "cancel": {}, "requests": { "tools": { "call": {} } } }));
        for revision in &HANDSHAKE_REVISIONS[..3] {
            let old = stage.gateway.handshake(revision).await;
            assert_eq!(old.welcome["capabilities"].get("tasks"), None, "{revision}");
            assert_eq!(old.welcome["capabilities"].get("extensions"), None, "{revision}");
        }
    }
}

#[tokio::test]
async fn s_tx_01_the_extension_is_advertised_in_discover_and_never_the_old_capability() {
    for upstream in [HANDSHAKE, STATELESS] {
        let stage = Stage::set(pair(STATELESS, upstream), Manner::default()).await;
        let discovered = stage.client.request("server/discover", json!({})).await;
        let capabilities = &discovered.result()["capabilities"];
        assert!(capabilities["extensions"][EXTENSION].is_object(), "{capabilities}");
        assert_eq!(capabilities.get("tasks"), None);
    }
}

#[tokio::test]
async fn s_task_01_nothing_is_declared_where_nothing_can_be_a_task() {
    let plain = http_upstream("one").start().await;
    let gateway = gateway().with("one", &plain).start().await;
    gateway.handshake(HANDSHAKE).await.until_tools(&["one__echo"]).await;
    let session = gateway.handshake(HANDSHAKE).await;
    assert_eq!(session.welcome["capabilities"].get("tasks"), None);
    let discovered = gateway.stateless().request("server/discover", json!({})).await;
    assert_eq!(discovered.result()["capabilities"]["extensions"].get(EXTENSION), None);
}

#[tokio::test]
async fn s_task_03_each_tool_says_what_it_can_be() {
    let old = Stage::set(pair(HANDSHAKE, HANDSHAKE), Manner::default()).await;
    let support = |listed: &Value, name: &str| {
        let tools = listed["tools"].as_array().expect("judged by the schema");
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        tool["execution"]["taskSupport"].as_str().unwrap_or("forbidden").to_owned()
    };
    let listed = old.client.request("tools/list", json!({})).await;
    let rows = [("long", "optional"), ("must", "required"), ("never", "forbidden"), ("echo", "forbidden")];
    for (tool, expected) in rows {
        assert_eq!(support(listed.result(), &format!("one__{tool}")), expected, "{tool}");
    }
    for revision in ["2025-06-18", STATELESS] {
        let listed = old.gateway.client(revision).await.request("tools/list", json!({})).await;
        assert!(!listed.raw.contains("taskSupport"), "{revision} has no such member: {}", listed.raw);
    }
    let new = Stage::set(pair(HANDSHAKE, STATELESS), Manner::default()).await;
    let listed = new.client.request("tools/list", json!({})).await;
    for tool in ["long", "must", "echo"] {
        assert_eq!(support(listed.result(), &format!("one__{tool}")), "optional", "the gateway can host it");
    }
}

#[tokio::test]
async fn s_task_03_four_kinds_of_tools_are_called_in_both_styles() {
    let stage = Stage::set(pair(HANDSHAKE, HANDSHAKE), Manner::default()).await;
    for (tool, as_task, plainly) in
        [("long", true, true), ("must", true, false), ("never", false, true), ("echo", false, true)]
    {
        let name = format!("one__{tool}");
        let arguments = json!({ "text": tool, "after": 5 });
        let answer = stage.client.call_as_task(&name, arguments.clone()).await;
        match as_task {
            true => assert_eq!(answer.result()["task"]["status"], "working", "{tool}"),
            false => drop(answer.expect_error(200, -32601)),
        }
        let answer = stage.client.call(&name, arguments).await;
        match plainly {
            true => assert_eq!(answer.text(), format!("one did {tool}")),
            false => drop(answer.expect_error(200, -32601)),
        }
    }
}

#[tokio::test]
async fn s_task_04_task_on_anything_but_a_tool_call_is_ignored() {
    let stage = Stage::set(pair(HANDSHAKE, HANDSHAKE), Manner::default()).await;
    let params = json!({ "name": "one__greet", "arguments": { "who": "you" }, "task": { "ttl": 5 } });
    let greeted = stage.client.request("prompts/get", params).await;
    assert!(greeted.raw.contains("one greets"), "{}", greeted.raw);
    let older = stage.gateway.handshake("2025-06-18").await;
    let params = json!({ "name": "one__long", "arguments": { "text": "it" }, "task": {} });
    assert_eq!(older.request("tools/call", params).await.text(), "one did it");
    let plain = http_upstream("two").start().await;
    let gateway = gateway().with("two", &plain).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["two__echo"]).await;
    let answer = client.call_as_task("two__echo", json!({})).await;
    assert_eq!(answer.text(), "two echoes {}", "no task was offered by anyone");
}

#[tokio::test]
async fn s_tx_02_a_task_comes_with_the_request_that_declared_the_extension() {
    for upstream in [HANDSHAKE, STATELESS] {
        let stage = Stage::set(pair(STATELESS, upstream), Manner::default()).await;
        let silent = stage.gateway.stateless();
        let arguments = json!({ "text": "it", "after": 5 });
        for tool in ["one__long", "one__must"] {
            let task = stage.client.begin(tool, arguments.clone()).await;
            assert_eq!(task["resultType"], "task");
            // One that did not declare it has the plain result, of a tool that can do nothing but tasks too.
            assert_eq!(silent.call(tool, arguments.clone()).await.text(), "one did it");
        }
        assert_eq!(stage.client.call("one__echo", arguments).await.result()["resultType"], "complete");
    }
}

#[tokio::test]
async fn s_tx_14_the_old_capability_counts_for_nothing_in_the_stateless_era() {
    let stage = Stage::set(pair(STATELESS, HANDSHAKE), Manner::default()).await;
    let mut client = stage.gateway.stateless();
    client.capabilities = json!({ "tasks": { "requests": { "tools": { "call": {} } } } });
    let answer = client.call("one__long", json!({ "text": "it" })).await;
    assert_eq!(answer.text(), "one did it");
    client.task("whatever").await.expect_error(400, -32021);
    let mut old = stage.gateway.handshake_with(HANDSHAKE, json!({ "extensions": { EXTENSION: {} } })).await;
    old.capabilities = json!({});
    assert_eq!(old.call("one__long", json!({ "text": "it" })).await.text(), "one did it");
}

#[tokio::test]
async fn s_tx_15_the_server_is_told_of_the_extension_when_the_gateway_can_deal_with_a_task() {
    let upstream = stateless_upstream("one").tasks(Manner::default()).start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let plain = gateway.stateless();
    plain.until_tools(&["one__echo"]).await;
    let declared = || {
        let call = upstream.received("tools/call").pop().expect("it was called");
        let capabilities = &call.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        capabilities["extensions"].get(EXTENSION).is_some()
    };
    plain.call("one__long", json!({})).await.result();
    assert!(!declared(), "for a caller that did not declare it a plain call is made");
    client(&gateway, STATELESS).await.begin("one__long", json!({})).await;
    assert!(declared());
    plain.call("one__must", json!({ "after": 5 })).await.result();
    assert!(declared(), "the gateway drives it itself");
}

#[tokio::test]
async fn s_task_02_servers_are_told_of_the_tasks_of_clients_that_have_some() {
    for (has, pair) in over_http().into_iter().flat_map(|pair| [(true, pair), (false, pair)]) {
        if pair.has_extension_upstream() {
            continue;
        }
        let upstream = upstream("one", pair.upstream, pair.transport).tasks(Manner::default()).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let mut capabilities = json!({ "elicitation": {}, "sampling": {} });
        let own = json!({ "list": {}, "cancel": {}, "requests": { "elicitation": { "create": {} }, "sampling": { "createMessage": {} } } });
        if has {
            capabilities["tasks"] = own.clone();
        }
        let client = match pair.client {
            STATELESS => crate::support::Client::stateless(&gateway.endpoint, capabilities),
            handshake => gateway.handshake_with(handshake, capabilities).await,
        };
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.result();
        let declared = upstream.declared();
        let expected = (has && !pair.has_extension_client()).then_some(own);
        assert_eq!(declared.get("tasks").cloned(), expected, "{declared}");
    }
}

#[tokio::test]
async fn s_tx_02_who_comes_back_without_the_extension_is_given_no_task() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .capabilities(json!({ "tools": {}, "tasks": { "cancel": {}, "requests": { "tools": { "call": {} } } } }))
        .tool_as(json!({ "name": "must", "inputSchema": { "type": "object" }, "execution": { "taskSupport": "required" } }))
        .on("tools/call", |mut call| async move {
            let params = json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": {} } });
            call.ask("elicitation/create", params).await;
            let time = "2026-01-01T00:00:00Z";
            let task = json!({ "taskId": "t", "status": "working", "createdAt": time, "lastUpdatedAt": time, "ttl": 60_000 });
            call.result(json!({ "task": task })).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let mut client = gateway.stateless();
    client.capabilities = json!({ "elicitation": {}, "extensions": { EXTENSION: {} } });
    client.until_tools(&["one__must"]).await;
    let mut params = json!({ "name": "one__must", "arguments": {} });
    let asked = client.request("tools/call", params.clone()).await;
    let key =
        asked.result()["inputRequests"].as_object().and_then(|all| all.keys().next()).expect("a question");
    params["inputResponses"] = json!({ key: { "action": "decline" } });
    params["requestState"] = asked.result()["requestState"].clone();
    client.capabilities = json!({ "elicitation": {} });
    client.request("tools/call", params).await.expect_error(400, -32021);
    upstream.until_received("tasks/cancel", 1).await;
}
