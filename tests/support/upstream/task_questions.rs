//! What tasks of a scripted upstream ask, and how the gateway's answers come back to them.
//!
//! Owns putting questions (on `tasks/result`, on the standing way, in `inputRequests`) and taking answers. Always: in the
//! core dialect both name the task, else the story fails (S-TASK-16). Not here: the other methods (`task_methods`).

use std::sync::Arc;

use serde_json::{Value, json};

use super::task_methods::{RELATED_TASK, fault, found, willing};
use super::tasks::{AsksOn, Outcome, Question, Task};
use super::{Call, Shared, locked};

pub(super) fn answered(shared: &Arc<Shared>, id: &str, key: &str, answer: Value) {
    let is_stateless = shared.is_stateless();
    shared.change_task(id, |task| {
        if let Some(question) = task.questions.get_mut(key).filter(|question| question.answer.is_none()) {
            question.answer = Some(answer);
        }
        if task.waits() || task.is_over() {
            return;
        }
        task.status = "working".to_owned();
        let arguments = &task.begun_by.params()["arguments"];
        if arguments.get("ask").is_some() && arguments.get("after").is_none() && arguments["hold"] != true {
            let told: serde_json::Map<String, Value> = task
                .questions
                .iter()
                .map(|(key, question)| (key.clone(), question.answer.clone().unwrap_or_default()))
                .collect();
            let text = Value::Object(told).to_string();
            let result = json!({ "content": [{ "type": "text", "text": text }] });
            task.end(Outcome::Result(result), is_stateless);
        }
    });
}

/// Let a task ask.
pub(super) fn inquire(shared: &Arc<Shared>, id: &str, key: &str, method: &str, params: Value) {
    let asks_on = locked(&shared.desk).manner.asks_on;
    let is_put = !shared.is_stateless() && asks_on != AsksOn::Result;
    let question = Question { method: method.to_owned(), params: params.clone(), is_put, answer: None };
    let begun_by = shared.change_task(id, |task| {
        task.questions.insert(key.to_owned(), question);
        task.status = "input_required".to_owned();
        task.begun_by.clone()
    });
    if is_put {
        let (id, answer) = shared.expect_answer(method);
        let mut params = params;
        if asks_on == AsksOn::Standing {
            params["_meta"][RELATED_TASK] = json!({ "taskId": task_id(shared, &begun_by) });
        }
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let (shared, key) = (Arc::clone(shared), key.to_owned());
        tokio::spawn(async move {
            shared.tell_way(&begun_by, &message).await;
            if let Ok(answer) = answer.await {
                take_answer(&shared, &task_id(&shared, &begun_by), &key, answer, asks_on);
            }
        });
    }
}

/// The task that a call began.
fn task_id(shared: &Shared, begun_by: &super::Received) -> String {
    let desk = locked(&shared.desk);
    let own = |task: &&Task| {
        task.begun_by.raw == begun_by.raw
            && task.begun_by.session() == begun_by.session()
            && task.begun_by.connection == begun_by.connection
    };
    desk.tasks.values().rfind(own).map(|task| task.id.clone()).expect("it began one")
}

/// Take the answer message to a question of the core dialect; it names the task (S-TASK-16).
fn take_answer(shared: &Arc<Shared>, id: &str, key: &str, answer: Value, asks_on: AsksOn) {
    if let Some(result) = answer.get("result") {
        let named = &result["_meta"][RELATED_TASK]["taskId"];
        if asks_on != AsksOn::Unrelated && named != id {
            fault(shared, &format!("the answer of {id} names {named} (S-TASK-16): {answer}"));
        }
    }
    let told = answer.get("result").or(answer.get("error")).cloned().unwrap_or_default();
    let mut told = told;
    if let Some(members) = told.as_object_mut() {
        members.remove("_meta");
    }
    answered(shared, id, key, told);
}

/// `tasks/result`: what is asked meanwhile goes on its stream, the end is its answer.
pub(super) async fn result(call: Call) {
    let Some(mut call) = willing(call).await else { return };
    let Some(task) = found(&mut call).await else { return };
    let shared = Arc::clone(&call.shared);
    let mut changes = shared.changes.subscribe();
    let mut putting: Vec<(String, tokio::task::JoinHandle<()>)> = Vec::new();
    let mut left = call.left.clone();
    let outcome = loop {
        changes.borrow_and_update();
        let task = locked(&shared.desk).tasks.get(&task.id).cloned().expect("found above");
        if task.is_forgotten {
            return call.error(-32602, "Failed to retrieve task: Task has expired", Value::Null).await;
        }
        if task.is_over() {
            break task.outcome;
        }
        let open =
            task.questions.iter().filter(|(_, question)| !question.is_put && question.answer.is_none());
        for (key, question) in open {
            let mut params = question.params.clone();
            params["_meta"][RELATED_TASK] = json!({ "taskId": task.id });
            let (_, answer) = call.begin_to_ask(&question.method, params).await;
            put(&shared, &task.id, key, true);
            let (shared, id, told) = (Arc::clone(&shared), task.id.clone(), key.clone());
            let taking = tokio::spawn(async move {
                if let Ok(answer) = answer.await {
                    take_answer(&shared, &id, &told, answer, AsksOn::Result);
                }
            });
            putting.push((key.clone(), taking));
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = left.wait_for(|left| *left) => {
                // Whoever comes next is asked again.
                for (key, taking) in putting {
                    taking.abort();
                    put(&shared, &task.id, &key, false);
                }
                return;
            }
        }
    };
    match outcome {
        Some(Outcome::Result(result)) => {
            let mut result = call.complete(result);
            result["_meta"][RELATED_TASK] = json!({ "taskId": task.id });
            call.result(result).await;
        }
        Some(Outcome::Error(error)) => call.raw_error(&error.to_string()).await,
        None => call.error(-32603, "the task was cancelled", Value::Null).await,
    }
}

fn put(shared: &Shared, id: &str, key: &str, is_put: bool) {
    let mut desk = locked(&shared.desk);
    let question = desk.tasks.get_mut(id).and_then(|task| task.questions.get_mut(key));
    if let Some(question) = question.filter(|question| question.answer.is_none()) {
        question.is_put = is_put;
    }
}
