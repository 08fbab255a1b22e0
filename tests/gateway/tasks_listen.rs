//! Stateless clients that listen for their tasks: `subscriptions/listen` with `taskIds` (S-TX-08, S-TX-10).

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Client, Exchange, Message};
use crate::support::pipe_client::PipeClient;
use crate::support::upstream::{Manner, Outcome};
use crate::support::{
    Gateway, HANDSHAKE, STATELESS, Transport, Upstream, gateway, http_upstream, patiently, upstream,
};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const TASK: &str = "notifications/tasks";

/// An upstream of `revision` that keeps tasks, and a gateway before it.
async fn stage(revision: &str) -> (Upstream, Gateway, Client) {
    let one = upstream("one", revision, Transport::Http).tasks(Manner::default()).start().await;
    let gateway = gateway().with("one", &one).start().await;
    let client = gateway.stateless().with_tasks();
    client.until_tools(&["one__long"]).await;
    (one, gateway, client)
}

/// Listen for these tasks; gives the stream behind its acknowledgement, and the ids in that.
async fn listen(client: &Client, ids: &[&str]) -> (Exchange, Value) {
    let id = client.fresh_id();
    let params = json!({ "notifications": { "taskIds": ids } });
    let mut stream = client.open_as(json!(id), "subscriptions/listen", params).await;
    let first = stream.next().await.expect("a stream begins with its acknowledgement");
    assert_eq!(first.method(), ACKNOWLEDGED, "{}", first.raw);
    assert_eq!(first.params()["_meta"][SUBSCRIPTION], id);
    (stream, first.params()["notifications"].clone())
}

/// The task of a notification, without what says of which listening it is.
fn told(message: &Message) -> Value {
    assert_eq!(message.method(), TASK, "{}", message.raw);
    let mut task = message.params().clone();
    let meta = task["_meta"].as_object_mut().expect("it names its listening");
    assert!(meta.remove(SUBSCRIPTION).is_some(), "{}", message.raw);
    if meta.is_empty() {
        task.as_object_mut().expect("an object").remove("_meta");
    }
    task
}

/// What `tasks/get` says of a task, without what belongs to the answer.
async fn got(client: &Client, id: &str) -> Value {
    let mut task = client.task(id).await.result().clone();
    let members = task.as_object_mut().expect("an object");
    assert_eq!(members.remove("resultType"), Some(json!("complete")));
    members.remove("_meta");
    task
}

/// The next notification of that task in that state.
async fn until(stream: &mut Exchange, id: &str, status: &str) -> Value {
    patiently(&format!("{id} to be told {status}"), async {
        loop {
            let task = told(&stream.next().await.expect("the stream stays open"));
            if task["taskId"] == id && task["status"] == status {
                return task;
            }
        }
    })
    .await
}

#[tokio::test]
async fn s_tx_08_s_tx_14_task_ids_need_the_declared_extension_before_any_is_looked_at() {
    let one = http_upstream("one").start().await;
    let gateway = gateway().with("one", &one).start().await;
    let required = json!({ "extensions": { EXTENSION: {} } });
    let declared = [json!({}), json!({ "tasks": { "list": {}, "cancel": {} } }), json!({ "extensions": {} })];
    for capabilities in declared {
        let client = Client::stateless(&gateway.endpoint, capabilities);
        for ids in [json!(["unknown"]), json!([]), json!(7), json!([7])] {
            let params = json!({ "notifications": { "toolsListChanged": true, "taskIds": ids } });
            let refused = client.request("subscriptions/listen", params).await;
            refused.expect_error(400, -32021);
            assert_eq!(refused.error()["data"]["requiredCapabilities"], required, "of {ids}");
        }
    }
    let client = gateway.stateless().with_tasks();
    for wrong in [json!("t"), json!([7]), json!(null)] {
        let params = json!({ "notifications": { "taskIds": wrong } });
        client.request("subscriptions/listen", params).await.expect_error(200, -32602);
    }
    let (_stream, honoured) = listen(&client, &["unknown"]).await;
    assert_eq!(honoured, json!({}), "an unknown task is left out, and no error");

    let mut pipe = PipeClient::with_url(one.settings()["url"].as_str().expect("over HTTP")).await;
    pipe.inbox.revision = STATELESS.to_owned();
    let asked = json!({ "notifications": { "taskIds": ["unknown"] } });
    let refused = pipe.stateless("subscriptions/listen", asked.clone()).await;
    assert_eq!(refused["error"]["code"], -32021, "{refused}");
    let mut declared = asked;
    declared["_meta"][CAPABILITIES] = required;
    pipe.open_stateless("subscriptions/listen", declared).await;
    let acknowledged = pipe.inbox.method(ACKNOWLEDGED).await;
    assert_eq!(acknowledged["params"]["notifications"], json!({}));
}

#[tokio::test]
async fn s_tx_10_each_change_is_told_as_tasks_get_would_tell_it() {
    for revision in [HANDSHAKE, STATELESS] {
        let (one, _gateway, client) = stage(revision).await;
        let id = client.begin_id("one__long", json!({})).await;
        let (mut stream, honoured) = listen(&client, &[&id]).await;
        assert_eq!(honoured, json!({ "taskIds": [id] }));
        let theirs = one.until_task(1).await;
        one.change(&theirs, |task| task.message = Some("half way".to_owned()));
        let half = patiently("the words of the server", async {
            loop {
                let task = told(&stream.next().await.expect("open"));
                if task["statusMessage"] == "half way" {
                    return task;
                }
            }
        })
        .await;
        assert_eq!(half, got(&client, &id).await);
        one.complete(&theirs, "done");
        let over = until(&mut stream, &id, "completed").await;
        assert_eq!(over["result"]["content"][0]["text"], "done", "{over}");
        assert_eq!(over, got(&client, &id).await);
        stream.expect_quiet(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn s_tx_10_a_task_that_asks_is_told_with_its_questions_and_without_them_once_answered() {
    let (_one, _gateway, client) = stage(STATELESS).await;
    let mut client = client;
    client.capabilities["elicitation"] = json!({ "form": {} });
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
    let question =
        json!({ "method": "elicitation/create", "params": { "message": "Who?", "requestedSchema": schema } });
    let id = client.begin_id("one__long", json!({ "ask": { "who": question } })).await;
    let (mut stream, _) = listen(&client, &[&id]).await;
    let asking = until(&mut stream, &id, "input_required").await;
    assert_eq!(asking, got(&client, &id).await);
    let keys: Vec<&String> =
        asking["inputRequests"].as_object().expect("what is asked").iter().map(|(key, _)| key).collect();
    let answer = json!({ "action": "accept", "content": { "name": "Ada" } });
    client.update_task(&id, json!({ keys[0]: answer })).await.result();
    let over = until(&mut stream, &id, "completed").await;
    assert_eq!(over, got(&client, &id).await);
}

#[tokio::test]
async fn s_tx_10_s_tx_12_foreign_and_unknown_ids_are_left_out_alike() {
    let one = upstream("one", STATELESS, Transport::Http).tasks(Manner::default()).start().await;
    let plan = gateway().with("one", &one).config("profiles: { half: { servers: [one] } }");
    let gateway = plan.start().await;
    let client = gateway.stateless().with_tasks();
    let elsewhere = Client::stateless(&gateway.endpoint.at("/mcp/half"), json!({})).with_tasks();
    for client in [&client, &elsewhere] {
        client.until_tools(&["one__long"]).await;
    }
    let own = client.begin_id("one__long", json!({})).await;
    let foreign = elsewhere.begin_id("one__long", json!({})).await;
    let theirs = one.until_task(1).await;
    let mut tampered = own.clone();
    tampered.replace_range(..1, if own.starts_with('A') { "B" } else { "A" });
    let (_stream, honoured) = listen(&client, &[&foreign, &tampered, "unknown", &theirs, &own, ""]).await;
    assert_eq!(honoured, json!({ "taskIds": [own] }));
    let (mut stream, honoured) = listen(&client, &[&foreign]).await;
    assert_eq!(honoured, json!({}));
    for id in one.all_tasks().into_iter().map(|task| task.id) {
        one.complete(&id, "done");
    }
    elsewhere.until_over(&foreign).await;
    stream.expect_quiet(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn s_tx_10_whatever_changed_before_a_client_listened_is_told_at_once() {
    let (one, _gateway, client) = stage(STATELESS).await;
    let working = client.begin_id("one__long", json!({})).await;
    let ended = client.begin_id("one__long", json!({ "after": 1, "text": "done" })).await;
    let cancelled = client.begin_id("one__long", json!({})).await;
    client.until_over(&ended).await;
    client.cancel_task(&cancelled).await.result();
    let (mut stream, honoured) = listen(&client, &[&working, &ended, &cancelled]).await;
    let ids: BTreeSet<&str> =
        honoured["taskIds"].as_array().expect("ids").iter().filter_map(Value::as_str).collect();
    assert_eq!(ids, BTreeSet::from([&*working, &ended, &cancelled]));
    let mut missing = vec![got(&client, &ended).await, got(&client, &cancelled).await];
    while !missing.is_empty() {
        let task = told(&stream.next().await.expect("open"));
        missing.retain(|missing| *missing != task);
    }
    let theirs = one.all_tasks().into_iter().find(|task| !task.is_over()).expect("one is under way");
    one.end(&theirs.id, Outcome::Error(json!({ "code": -32000, "message": "broken" })));
    let failed = until(&mut stream, &working, "failed").await;
    assert_eq!(failed["error"]["message"], "broken", "{failed}");
}

#[tokio::test]
async fn s_tx_10_tasks_are_told_on_a_pipe_too() {
    let one = upstream("one", STATELESS, Transport::Http).tasks(Manner::default()).start().await;
    let mut pipe = PipeClient::with_file(&gateway().with("one", &one).file()).await;
    pipe.inbox.revision = STATELESS.to_owned();
    let declared = json!({ CAPABILITIES: { "extensions": { EXTENSION: {} } } });
    let begun = patiently("the call to become a task", async {
        loop {
            let call = json!({ "name": "one__long", "arguments": {}, "_meta": declared });
            let answer = pipe.stateless("tools/call", call).await;
            if answer["result"]["resultType"] == "task" {
                return answer["result"]["taskId"].clone();
            }
        }
    })
    .await;
    let listen = json!({ "notifications": { "taskIds": [begun, "unknown"] }, "_meta": declared });
    let id = pipe.open_stateless("subscriptions/listen", listen).await;
    let acknowledged = pipe.inbox.method(ACKNOWLEDGED).await;
    assert_eq!(acknowledged["params"]["notifications"], json!({ "taskIds": [begun] }));
    one.complete(&one.until_task(1).await, "done");
    let told = patiently("its end", async {
        loop {
            let told = pipe.inbox.method(TASK).await;
            if told["params"]["status"] == "completed" {
                return told;
            }
        }
    })
    .await;
    assert_eq!(told["params"]["_meta"][SUBSCRIPTION], id);
    let got = pipe.stateless("tasks/get", json!({ "taskId": begun, "_meta": declared })).await;
    for member in ["taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "result"] {
        assert_eq!(told["params"][member], got["result"][member], "{member} of {told}");
    }
}

#[tokio::test]
async fn s_tx_10_in_the_instant_of_listening_no_end_is_missed() {
    let (_one, _gateway, client) = stage(STATELESS).await;
    let mut streams = Vec::new();
    for after in 0..20 {
        let id = client.begin_id("one__long", json!({ "after": after * 3, "text": "done" })).await;
        streams.push((listen(&client, &[&id]).await.0, id));
    }
    for (stream, id) in &mut streams {
        until(stream, id, "completed").await;
    }
}
