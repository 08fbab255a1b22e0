//! What an operator sees of tasks and does with them, over the admin listener.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::client::{Client, Whole, created, id_of};
use crate::support::http::Headers;
use crate::support::upstream::Manner;
use crate::support::{Gateway, HANDSHAKE, STATELESS, Transport, Upstream, eventually, gateway, upstream};

const SECRET: &str = "hunter2-of-the-arguments";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn stage(revision: &str) -> (Upstream, Gateway, Client) {
    let one = upstream("one", revision, Transport::Http).tasks(Manner::default()).start().await;
    let gateway = gateway().with("one", &one).start().await;
    let client = gateway.stateless().with_tasks();
    client.until_tools(&["one__long"]).await;
    (one, gateway, client)
}

/// The rows of a page.
async fn rows(gateway: &Gateway, query: &str) -> Vec<Value> {
    let page = gateway.admin_get(&format!("/api/v1/tasks{query}")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    page.json()["tasks"].as_array().expect("rows").clone()
}

/// The number of the only task.
async fn number(gateway: &Gateway) -> String {
    let rows = rows(gateway, "").await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0]["task"].as_str().expect("a number").to_owned()
}

async fn post(gateway: &Gateway, path: &str, change: impl FnOnce(&mut Headers)) -> Whole {
    let mut headers = Headers::default();
    headers.set("Host", &gateway.admin.address.to_string());
    headers.set("Content-Type", "application/json");
    change(&mut headers);
    gateway.admin.at(path).ask("POST", headers, b"{}").await
}

#[tokio::test]
async fn a_row_says_whose_task_it_is_how_it_is_and_how_long_it_is_kept_and_nothing_of_its_contents() {
    for (revision, kind) in [(HANDSHAKE, "linked"), (STATELESS, "linked")] {
        let (one, gateway, client) = stage(revision).await;
        let params = json!({
            "name": "one__long",
            "arguments": { "text": SECRET },
            "_meta": { "traceparent": format!("00-{TRACE}-00f067aa0ba902b7-01") },
        });
        let id = id_of(&created(&client.request("tools/call", params).await));
        let row = rows(&gateway, "").await.remove(0);
        for (member, value) in [
            ("server", json!("one")),
            ("tool", json!("one__long")),
            ("principal", json!("local")),
            ("state", json!("working")),
            ("kind", json!(kind)),
            ("trace", json!(TRACE)),
        ] {
            assert_eq!(row[member], value, "{member} of {row}");
        }
        assert!(row["age_seconds"].as_u64().is_some_and(|age| age < 60), "{row}");
        assert!(row["ttl_left_seconds"].as_u64().is_some_and(|left| left > 60), "{row}");
        let shown = row["task"].as_str().expect("a number");
        assert!(!id.contains(shown), "the number leads nobody to the id");
        let theirs = one.until_task(1).await;
        one.complete(&theirs, SECRET);
        client.until_over(&id).await;
        let whole = gateway.admin_get("/api/v1/tasks").await.body;
        assert!(!whole.contains(SECRET) && !whole.contains(&id) && !whole.contains(&theirs), "{whole}");
        let one_row = gateway.admin_get(&format!("/api/v1/tasks/{shown}")).await.json();
        assert_eq!((&one_row["task"], &one_row["state"]), (&json!(shown), &json!("completed")));
    }
}

#[tokio::test]
async fn rows_are_chosen_by_state_server_and_principal_and_come_in_pages() {
    let (_one, gateway, client) = stage(STATELESS).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.begin_id("one__long", json!({})).await);
    }
    client.cancel_task(&ids[0]).await.result();
    client.cancel_task(&ids[1]).await.result();
    for (query, count) in [
        ("", 5),
        ("?state=working", 3),
        ("?state=cancelled", 2),
        ("?state=failed", 0),
        ("?server=one&principal=local", 5),
        ("?server=two", 0),
        ("?principal=nobody", 0),
        ("?state=working&limit=2", 2),
    ] {
        assert_eq!(rows(&gateway, query).await.len(), count, "{query}");
    }
    for wrong in ["?state=odd", "?limit=0", "?limit=x", "?cursor=%00", "?cursor=zz"] {
        let refused = gateway.admin_get(&format!("/api/v1/tasks{wrong}")).await;
        assert_eq!(refused.status, 400, "{wrong}: {}", refused.body);
    }
    let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = gateway.admin_get(&format!("/api/v1/tasks?limit=2{cursor}")).await.json();
        let rows = page["tasks"].as_array().expect("rows");
        assert!((1..=2).contains(&rows.len()), "{page}");
        seen.extend(rows.iter().map(|row| row["task"].as_str().expect("a number").to_owned()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 5);
}

#[tokio::test]
async fn a_result_is_shown_when_there_is_one() {
    let (one, gateway, client) = stage(STATELESS).await;
    let id = client.begin_id("one__long", json!({})).await;
    let path = format!("/api/v1/tasks/{}/result", number(&gateway).await);
    let early = gateway.admin_get(&path).await;
    assert_eq!(early.status, 409, "{}", early.body);
    assert!(early.json()["error"].as_str().is_some_and(|why| why.contains("not over")), "{}", early.body);
    one.complete(&one.until_task(1).await, "done");
    client.until_over(&id).await;
    let ending = gateway.admin_get(&path).await.json();
    assert_eq!(ending["state"], "completed");
    assert_eq!(ending["result"]["content"][0]["text"], "done");
    for unknown in ["ffffffffffff", "x", "..", ""] {
        let path = format!("/api/v1/tasks/{unknown}/result");
        assert_eq!(gateway.admin_get(&path).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn a_task_is_cancelled_by_who_may_and_by_no_page() {
    let (one, gateway, client) = stage(STATELESS).await;
    let id = client.begin_id("one__long", json!({})).await;
    let path = format!("/api/v1/tasks/{}/cancel", number(&gateway).await);
    let own = gateway.admin.address.to_string();
    let looked = gateway.admin_get(&path).await.status;
    assert!((404..=405).contains(&looked), "looking changes nothing: {looked}");
    for odd in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"]
    {
        let refused = post(&gateway, &path, |headers| headers.set("Content-Type", odd)).await;
        assert_eq!(refused.status, 415, "{odd}: {}", refused.body);
    }
    let foreign = post(&gateway, &path, |headers| headers.set("Origin", "https://evil.example.com")).await;
    assert_eq!(foreign.status, 403);
    let rebound = post(&gateway, &path, |headers| headers.set("Host", "evil.example.com")).await;
    assert_eq!(rebound.status, 403);
    for site in ["cross-site", "same-site"] {
        let page = post(&gateway, &path, |headers| headers.set("Sec-Fetch-Site", site)).await;
        assert_eq!(page.status, 403, "{site}");
    }
    assert_eq!(client.task(&id).await.result()["status"], "working", "nobody has cancelled it");

    let cancelled = post(&gateway, &path, |headers| headers.set("Origin", &format!("http://{own}"))).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(client.task(&id).await.result()["status"], "cancelled");
    one.until_received("tasks/cancel", 1).await;
    let again = post(&gateway, &path, |_| {}).await;
    assert_eq!(again.status, 409, "{}", again.body);
    assert_eq!(post(&gateway, "/api/v1/tasks/ffffffffffff/cancel", |_| {}).await.status, 404);
}

#[tokio::test]
async fn a_watch_shows_every_state_up_to_the_end() {
    let (one, gateway, client) = stage(STATELESS).await;
    client.begin_id("one__long", json!({})).await;
    let number = number(&gateway).await;
    let mut headers = Headers::default();
    headers.set("Host", &gateway.admin.address.to_string());
    let mut watch =
        gateway.admin.at(&format!("/api/v1/tasks/{number}/watch")).send("GET", headers, b"").await;
    let mut next = async || -> Option<Value> {
        let event = watch.event().await?;
        Some(serde_json::from_str(event.data.as_deref()?).expect("rows are JSON"))
    };
    let first = next().await.expect("the state now");
    assert_eq!((&first["task"], &first["state"]), (&json!(number), &json!("working")));
    one.complete(&one.until_task(1).await, "done");
    let mut states = Vec::new();
    while let Some(row) = next().await {
        states.push(row["state"].as_str().expect("a state").to_owned());
    }
    assert_eq!(states.last().map(String::as_str), Some("completed"), "{states:?}");
}

#[tokio::test]
async fn s_task_20_metrics_and_logs_tell_of_tasks_without_their_contents() {
    let (one, gateway, client) = stage(STATELESS).await;
    let ended = client.begin_id("one__long", json!({ "text": SECRET })).await;
    one.complete(&one.until_task(1).await, SECRET);
    client.until_over(&ended).await;
    let cancelled = client.begin_id("one__long", json!({ "text": SECRET })).await;
    client.cancel_task(&cancelled).await.result();
    let running = client.begin_id("one__long", json!({ "text": SECRET })).await;
    let metrics = gateway.admin_get("/metrics").await.body;
    for line in [
        "switchyard_tasks{state=\"working\"} 1",
        "switchyard_tasks{state=\"input_required\"} 0",
        "switchyard_tasks_created_total 3",
        "switchyard_tasks_ended_total{state=\"completed\"} 1",
        "switchyard_tasks_ended_total{state=\"cancelled\"} 1",
    ] {
        assert!(metrics.lines().any(|there| there == line), "no {line} in {metrics}");
    }
    let log = eventually("the lines of three tasks", || async {
        let log = gateway.stderr();
        let told = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        (told("a task begins") == 3 && told("a task is over") == 2).then_some(log)
    })
    .await;
    for row in rows(&gateway, "").await {
        let number = row["task"].as_str().expect("a number");
        let of_task: Vec<&str> = log.lines().filter(|line| line.contains(number)).collect();
        assert!(!of_task.is_empty(), "{number} is not in {log}");
        for part in ["upstream=one", "tool=one__long", "principal=local"] {
            assert!(of_task.iter().all(|line| line.contains(part)), "no {part} in {of_task:?}");
        }
    }
    for id in [&ended, &cancelled, &running] {
        assert!(!log.contains(id.as_str()), "an id is a key, and keys are not logged");
    }
    assert!(!log.contains(SECRET), "{log}");
}
