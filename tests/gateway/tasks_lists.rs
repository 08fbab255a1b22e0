//! `tasks/list`: the own tasks of all servers, page by page (S-TASK-13, -14).

use serde_json::json;

use crate::support::client::id_of;
use crate::support::upstream::Manner;
use crate::support::{HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, upstream};
use crate::tasks_stage::{Pair, Stage, client, client_at};

#[tokio::test]
async fn s_task_13_the_tasks_of_all_servers_are_listed_in_pages() {
    let mut upstreams = Vec::new();
    let mut plan = gateway().config("bounds: { page_size: 2 }\nprofiles:\n  other: { servers: [s1, s2] }\n");
    let kinds = TRANSPORTS.into_iter().flat_map(|way| [(HANDSHAKE, way), (STATELESS, way)]);
    for (number, (revision, transport)) in kinds.enumerate() {
        let name = format!("s{number}");
        let upstream = upstream(&name, revision, transport).tasks(Manner::default()).start().await;
        plan = plan.with(&name, &upstream);
        upstreams.push(upstream);
    }
    let gateway = plan.start().await;
    let client = client(&gateway, HANDSHAKE).await;
    crate::support::eventually("all servers", || async {
        let (mut listed, mut cursor) = (0, json!({}));
        loop {
            let page = client.request("tools/list", cursor).await;
            listed += page.names("tools").len();
            match page.result().get("nextCursor") {
                Some(next) => cursor = json!({ "cursor": next }),
                None => return (listed == 16).then_some(()),
            }
        }
    })
    .await;
    let other = client_at(&gateway.endpoint.at("/mcp/other"), HANDSHAKE).await;
    let mut began = Vec::new();
    for round in 0..2 {
        for number in 0..upstreams.len() {
            let after = if round == 0 { json!({ "after": 5 }) } else { json!({}) };
            began.push(client.begin_id(&format!("s{number}__long"), after).await);
        }
    }
    let foreign = other.begin_id("s1__long", json!({})).await;
    client.until_over(&began[0]).await;

    let first = client.list_tasks(None).await;
    assert_eq!(first.result()["tasks"].as_array().map(Vec::len), Some(2), "{}", first.raw);
    for task in first.result()["tasks"].as_array().expect("judged by the schema") {
        assert_eq!(client.task(&id_of(task)).await.result()["createdAt"], task["createdAt"]);
    }
    let mut listed = client.all_task_ids().await;
    assert_eq!(listed.len(), began.len(), "each once, and nothing of others");
    listed.sort();
    began.sort();
    assert_eq!(listed, began, "whatever can be got is listed, finished ones too");
    assert_eq!(other.all_task_ids().await, [foreign]);
    for upstream in &upstreams {
        assert!(upstream.received("tasks/list").is_empty(), "servers are not asked for the tasks of others");
    }
}

#[tokio::test]
async fn s_task_13_a_cursor_that_was_never_given_is_refused() {
    let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Http };
    let stage = Stage::with(pair, Manner::default(), "bounds: { page_size: 1 }").await;
    for _ in 0..2 {
        stage.client.begin("one__long", json!({})).await;
    }
    let next =
        stage.client.list_tasks(None).await.result()["nextCursor"].as_str().expect("two pages").to_owned();
    for wrong in ["", "made up", "1", &next[..next.len() - 1], &format!("{next}A")] {
        stage.client.list_tasks(Some(wrong)).await.expect_error(200, -32602);
    }
    for wrong in [json!(1), json!({}), json!(["a"])] {
        stage.client.request("tasks/list", json!({ "cursor": wrong })).await.expect_error(200, -32602);
    }
    let tools = stage.client.request("tools/list", json!({})).await.result()["nextCursor"].clone();
    stage.client.request("tasks/list", json!({ "cursor": tools })).await.expect_error(200, -32602);
    stage.client.request("tools/list", json!({ "cursor": next })).await.expect_error(200, -32602);
    assert_eq!(
        stage.client.list_tasks(Some(&next)).await.result()["tasks"].as_array().map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn s_task_13_a_page_is_what_it_was_while_new_tasks_come() {
    let pair = Pair { client: HANDSHAKE, upstream: STATELESS, transport: Transport::Http };
    let stage = Stage::with(pair, Manner::default(), "bounds: { page_size: 3 }").await;
    let mut began = Vec::new();
    for _ in 0..5 {
        began.push(stage.client.begin_id("one__long", json!({})).await);
    }
    let first = stage.client.list_tasks(None).await;
    let next = first.result()["nextCursor"].as_str().expect("two pages").to_owned();
    let late = stage.client.begin_id("one__long", json!({})).await;
    let mut seen: Vec<String> = first.result()["tasks"].as_array().into_iter().flatten().map(id_of).collect();
    let second = stage.client.list_tasks(Some(&next)).await;
    seen.extend(second.result()["tasks"].as_array().into_iter().flatten().map(id_of));
    seen.retain(|id| *id != late);
    seen.sort();
    began.sort();
    assert_eq!(seen, began, "each of the old ones once");
}

#[tokio::test]
async fn s_task_14_older_clients_and_those_of_the_other_era_have_no_list() {
    let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Http };
    let stage = Stage::set(pair, Manner::default()).await;
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18"] {
        let older = stage.gateway.handshake(revision).await;
        for method in ["tasks/list", "tasks/get", "tasks/result", "tasks/cancel"] {
            let answer = older.request(method, json!({ "taskId": "x" })).await;
            assert_eq!(answer.error_code(), -32601, "{revision} {method}: {}", answer.raw);
        }
    }
}
