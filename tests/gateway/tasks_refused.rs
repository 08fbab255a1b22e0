//! What the extension does not let a client do (S-TX-08, -09).

use serde_json::json;

use crate::support::STATELESS;
use crate::support::upstream::Manner;
use crate::tasks_stage::{Stage, every, over_http};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

#[tokio::test]
async fn s_tx_08_without_the_capability_every_operation_is_refused_before_the_id_is_looked_at() {
    for pair in over_http().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        let own = stage.client.begin_id("one__long", json!({})).await;
        let silent = stage.gateway.stateless();
        for id in [own.as_str(), "never-given-out"] {
            let answers = [
                silent.task(id).await,
                silent.cancel_task(id).await,
                silent.update_task(id, json!({})).await,
                silent.request("subscriptions/listen", json!({ "notifications": { "taskIds": [id] } })).await,
            ];
            for answer in answers {
                answer.expect_error(400, -32021);
                let needed = &answer.error()["data"]["requiredCapabilities"];
                assert_eq!(*needed, json!({ "extensions": { EXTENSION: {} } }), "{pair:?}: {}", answer.raw);
            }
        }
        assert_eq!(stage.client.task(&own).await.result()["status"], "working", "{pair:?}");
    }
}

#[tokio::test]
async fn s_tx_09_methods_of_the_other_dialect_do_not_exist() {
    for pair in over_http() {
        let stage = Stage::set(pair, Manner::default()).await;
        let id = stage.client.begin_id("one__long", json!({})).await;
        let params = json!({ "taskId": id, "inputResponses": {} });
        if pair.has_extension_client() {
            for method in ["tasks/result", "tasks/list"] {
                stage.client.request(method, params.clone()).await.expect_error(404, -32601);
            }
            // The methods do not exist, whatever is declared.
            stage.gateway.stateless().request("tasks/list", json!({})).await.expect_error(404, -32601);
        } else {
            stage.client.request("tasks/update", params).await.expect_error(200, -32601);
        }
    }
}

#[tokio::test]
async fn s_tx_09_the_task_parameter_means_nothing_in_the_stateless_era() {
    for pair in every().into_iter().filter(|pair| pair.has_extension_client()) {
        let stage = Stage::set(pair, Manner::default()).await;
        for task in [json!({}), json!({ "ttl": 5 }), json!({ "ttl": "x" }), json!("x"), json!(null)] {
            let params = json!({ "name": "one__echo", "arguments": { "text": "it" }, "task": task });
            let answer = stage.client.request("tools/call", params.clone()).await;
            assert_eq!(answer.text(), "one did it", "{pair:?}: {task}");
            let undeclared = stage.gateway.stateless().request("tools/call", params).await;
            assert_eq!(undeclared.text(), "one did it", "{pair:?}: {task}");
        }
    }
}

#[tokio::test]
async fn s_tx_06_an_update_of_the_wrong_form_is_refused() {
    let pair = crate::tasks_stage::Pair {
        client: STATELESS,
        upstream: STATELESS,
        transport: crate::support::Transport::Http,
    };
    let stage = Stage::set(pair, Manner::default()).await;
    let id = stage.client.begin_id("one__long", json!({})).await;
    for wrong in [json!(null), json!([]), json!("x"), json!(1)] {
        let answer = stage.client.update_task(&id, wrong.clone()).await;
        assert_eq!(answer.error_code(), -32602, "{wrong}: {}", answer.raw);
    }
    let answer = stage.client.request("tasks/update", json!({ "taskId": id })).await;
    assert_eq!(answer.error_code(), -32602, "{}", answer.raw);
    assert!(stage.upstream.received("tasks/update").is_empty());
}
