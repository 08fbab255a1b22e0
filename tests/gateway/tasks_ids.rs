//! Whose tasks are whose: equal ids of servers, and ids that nobody may use (S-TASK-07, -19, S-TX-12).

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::upstream::Manner;
use crate::support::{Gateway, HANDSHAKE, STATELESS, Transport, Upstream, gateway, upstream};
use crate::tasks_stage::{Pair, Stage, client, client_at, over_http};

/// Every way to use an id in the client's dialect; each answer has its request's id taken out.
async fn every_use(client: &Client, id: &str) -> Vec<(u16, Value)> {
    let mut answers = vec![client.task(id).await, client.cancel_task(id).await];
    match client.is_stateless() {
        true => answers.push(client.update_task(id, json!({})).await),
        false => answers.push(client.task_result(id).await),
    }
    answers.iter().map(|answer| (answer.status, answer.error().clone())).collect()
}

/// Ids that were never given out: nonsense, and near misses of a real one.
fn wrong_ids(real: &str) -> Vec<String> {
    let mut turned: Vec<u8> = real.bytes().collect();
    let middle = turned.len() / 2;
    turned[middle] = if turned[middle] == b'A' { b'B' } else { b'A' };
    let turned = String::from_utf8(turned).expect("ids of the gateway are ASCII");
    let mut wrong: Vec<String> =
        ["task-1", "made up", "..", "\u{1F600}", "{\"a\":1}"].map(str::to_owned).to_vec();
    wrong.extend([
        turned,
        format!("{real}A"),
        real[..real.len() - 1].to_owned(),
        real.to_lowercase(),
        "x".repeat(2_000),
    ]);
    wrong.retain(|wrong| wrong != real);
    wrong
}

#[tokio::test]
async fn s_task_19_foreign_expired_and_tampered_ids_are_as_unknown_as_those_that_never_were() {
    for pair in over_http() {
        let config = "profiles:\n  other: { servers: [one] }\n";
        let stage = Stage::with(pair, Manner::default(), config).await;
        let foreign = client_at(&stage.gateway.endpoint.at("/mcp/other"), pair.client).await;
        foreign.until_tools(&["one__echo"]).await;
        let own = stage.client.begin_id("one__long", json!({})).await;
        let unknown = every_use(&stage.client, "never-given-out").await;
        for (status, error) in &unknown {
            assert_eq!((*status, &error["code"]), (200, &json!(-32602)), "{pair:?}");
            assert!(!error.to_string().contains("never-given-out"), "ids are not told back: {error}");
        }
        assert_eq!(every_use(&foreign, &own).await, unknown, "{pair:?}: of another endpoint");
        for wrong in wrong_ids(&own) {
            assert_eq!(every_use(&stage.client, &wrong).await, unknown, "{pair:?}: {wrong:.80}");
        }
        assert_eq!(stage.client.task(&own).await.result()["status"], "working", "nothing happened to it");
        assert!(stage.upstream.received("tasks/cancel").is_empty(), "{pair:?}");
        if !pair.has_extension_client() {
            assert_eq!(foreign.all_task_ids().await, Vec::<String>::new());
            assert_eq!(stage.client.all_task_ids().await, [own]);
        }
    }
}

#[tokio::test]
async fn s_task_19_an_expired_id_is_as_unknown_as_any() {
    for pair in over_http() {
        let stage = Stage::with(pair, Manner::default(), "tasks: { ttl: 1s, max_ttl: 1s }").await;
        let id = stage.client.begin_id("one__long", json!({ "after": 5 })).await;
        stage.client.until_over(&id).await;
        crate::support::eventually("the task to be gone", || async {
            stage.client.task(&id).await.json.get("error").map(drop)
        })
        .await;
        let unknown = every_use(&stage.client, "never-given-out").await;
        assert_eq!(every_use(&stage.client, &id).await, unknown, "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_10_an_id_of_the_wrong_type_is_refused() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        for wrong in [json!(1), json!(null), json!(["a"]), json!({}), json!(true)] {
            for method in ["tasks/get", "tasks/cancel"] {
                for params in [json!({ "taskId": wrong }), json!({})] {
                    let answer = stage.client.request(method, params).await;
                    // No header can name what is no text, which is the other thing that is wrong.
                    let is_refused = answer.error_code() == -32602
                        || (pair.has_extension_client() && answer.error_code() == -32020);
                    assert!(is_refused, "{pair:?} {method} {wrong}: {}", answer.raw);
                }
            }
        }
    }
}

async fn two(revision: &str) -> (Upstream, Upstream, Gateway) {
    let one = upstream("one", revision, Transport::Http).tasks(Manner::default()).start().await;
    let two = upstream("two", revision, Transport::Http).tasks(Manner::default()).start().await;
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    (one, two, gateway)
}

#[tokio::test]
async fn s_task_07_two_servers_may_call_their_tasks_the_same() {
    for pair in over_http() {
        let (first, second, gateway) = two(pair.upstream).await;
        let client = client(&gateway, pair.client).await;
        client.until_tools(&["one__long", "two__long"]).await;
        let one = client.begin_id("one__long", json!({})).await;
        let two = client.begin_id("two__long", json!({})).await;
        assert_eq!(
            (first.until_task(1).await, second.until_task(1).await),
            ("task-1".into(), "task-1".into())
        );
        assert_ne!(one, two, "{pair:?}");
        second.complete("task-1", "of the second");
        assert_eq!(client.until_over(&two).await.text(), "of the second", "{pair:?}");
        assert_eq!(client.task(&one).await.result()["status"], "working", "{pair:?}");
        first.complete("task-1", "of the first");
        assert_eq!(client.until_over(&one).await.text(), "of the first", "{pair:?}");
    }
}

#[tokio::test]
async fn s_task_07_ids_tell_nothing_and_are_never_the_same() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        let mut ids = Vec::new();
        for _ in 0..30 {
            ids.push(stage.client.begin_id("one__long", json!({})).await);
        }
        for id in &ids {
            assert!(id.len() >= 22, "128 bits at least: {id}");
            // Five characters at least: chance writes a shorter word into a random id every so often.
            for secret in ["task-1", "one__long", "__long", "local"] {
                assert!(!id.contains(secret), "{id} tells {secret}");
            }
            assert!(id.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "fit for a header: {id}");
        }
        let beginnings: std::collections::BTreeSet<&str> =
            ids.iter().map(|id| &id[id.len() - 12..]).collect();
        assert_eq!(beginnings.len(), ids.len(), "{pair:?}: {ids:?}");
    }
}

#[tokio::test]
async fn s_tx_12_the_header_names_the_id_of_its_own_hop() {
    let pair = Pair { client: STATELESS, upstream: STATELESS, transport: Transport::Http };
    let stage = Stage::set(pair, Manner::default()).await;
    let id = stage.client.begin_id("one__long", json!({})).await;
    let other = stage.client.begin_id("one__long", json!({})).await;
    let params = stage.client.dress(json!({ "taskId": id }));
    let mut headers = stage.client.headers("tasks/get", &params);
    headers.set("Mcp-Name", &other);
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tasks/get", "params": params }).to_string();
    let refused = stage.client.endpoint.ask("POST", headers.clone(), body.as_bytes()).await;
    refused.expect_error(400, -32020);
    headers.remove("Mcp-Name");
    stage.client.endpoint.ask("POST", headers, body.as_bytes()).await.expect_error(400, -32020);
    stage.client.cancel_task(&id).await.result();
    let told = stage.upstream.until_received("tasks/cancel", 1).await;
    assert_eq!(told.headers.get("mcp-name"), told.params()["taskId"].as_str());
    assert_eq!(told.params()["taskId"], "task-1");
}

#[tokio::test]
async fn s_task_07_a_task_may_be_used_from_another_session_of_the_same_principal() {
    let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Http };
    let stage = Stage::set(pair, Manner::default()).await;
    let id = stage.client.begin_id("one__long", json!({})).await;
    let elsewhere = client(&stage.gateway, HANDSHAKE).await;
    stage.client.delete().await;
    assert_eq!(elsewhere.task(&id).await.result()["status"], "working");
    stage.upstream.complete("task-1", "still here");
    assert_eq!(elsewhere.until_over(&id).await.text(), "still here");
}

/// The connection or session by which each call of a tool came.
fn ways(upstream: &Upstream) -> Vec<String> {
    let calls = upstream.received("tools/call");
    let way = |call: &crate::support::upstream::Received| {
        call.session().map_or_else(|| format!("child {}", call.connection), str::to_owned)
    };
    calls.iter().map(way).collect()
}

#[tokio::test]
async fn s_stdio_08_s_root_03_tasks_of_a_session_meet_its_own_server_and_tell_its_own_roots() {
    for transport in [Transport::Stdio, Transport::Http] {
        let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport };
        let stage = Stage::set(pair, Manner::default()).await;
        let other = client(&stage.gateway, HANDSHAKE).await;
        other.until_tools(&["one__echo"]).await;
        let ask = json!({ "ask": { "where": { "method": "roots/list", "params": {} } } });
        for (client, home) in [(&stage.client, "file:///ada"), (&other, "file:///bob")] {
            client.call("one__echo", json!({})).await.text();
            let id = client.begin_id("one__long", ask.clone()).await;
            let roots = json!({ "roots": [{ "uri": home }] });
            let (_, end) = client.follow(&id, |_| roots.clone()).await;
            assert_eq!(end.text(), json!({ "where": roots }).to_string(), "{pair:?}");
        }
        stage.client.call("one__echo", json!({})).await.text();
        let ways = ways(&stage.upstream);
        assert_eq!(ways[0], ways[1], "{pair:?}: what the plain call left there, the task finds");
        assert_eq!(ways[0], ways[4], "{pair:?}: and the other way round");
        assert_eq!(ways[2], ways[3], "{pair:?}");
        assert_ne!(ways[0], ways[2], "{pair:?}: no two sessions meet");
    }
}

#[tokio::test]
async fn s_stdio_08_a_task_that_came_first_goes_on_without_its_session_and_leaves_it_its_connection() {
    for config in ["", "tasks: { host: on }"] {
        let pair = Pair { client: HANDSHAKE, upstream: HANDSHAKE, transport: Transport::Stdio };
        let stage = Stage::with(pair, Manner::default(), config).await;
        let first = stage.client.begin_id("one__long", json!({})).await;
        stage.upstream.until_task(1).await;
        stage.client.call("one__echo", json!({})).await.text();
        let ways = ways(&stage.upstream);
        assert_eq!(ways[0], ways[1], "{config}: opened for the session");
        let elsewhere = client(&stage.gateway, HANDSHAKE).await;
        stage.client.delete().await;
        stage.upstream.complete("task-1", "still here");
        assert_eq!(elsewhere.until_over(&first).await.text(), "still here", "{config}");
    }
}
