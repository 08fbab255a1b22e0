//! What a client does with tasks, in the dialect of its revision.
//!
//! Owns the requests of both dialects and following a task to its end. Always: a task of the core dialect is asked for
//! (`task`), one of the extension comes by itself to who declares it. Not here: what a story expects.

use serde_json::{Value, json};

use super::{Answer, Client, Exchange, Message};
use crate::support::{eventually, patiently};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";
const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// Something that a task asks of its client.
#[derive(Debug, Clone)]
pub(crate) struct TaskQuestion {
    /// The key of an input request, or the id of a request.
    pub(crate) key: Value,
    /// `elicitation/create`, …
    pub(crate) method: String,
    /// What is asked.
    pub(crate) params: Value,
}

/// How a task ended, said the same way for both dialects.
#[derive(Debug, Clone)]
pub(crate) struct TaskEnd {
    /// The final state in the words of the dialect.
    pub(crate) status: String,
    /// The whole task as `tasks/get` told it.
    pub(crate) task: Value,
    /// The result, or null.
    pub(crate) result: Value,
    /// The JSON-RPC error, or null.
    pub(crate) error: Value,
}

impl TaskEnd {
    /// The first text of the result.
    pub(crate) fn text(&self) -> &str {
        self.result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {self:?}"))
    }
}

/// Whether nothing follows this state.
pub(crate) fn is_over(task: &Value) -> bool {
    matches!(task["status"].as_str(), Some("completed" | "failed" | "cancelled"))
}

impl Client {
    /// The same client, declaring the extension; for the handshake era it declares nothing, as that has none.
    pub(crate) fn with_tasks(mut self) -> Client {
        if self.is_stateless() {
            self.capabilities["extensions"][EXTENSION] = json!({});
        }
        self
    }

    /// Call a tool as a task: with `task` in the core dialect, with the declared extension in the other.
    pub(crate) async fn call_as_task(&self, tool: &str, arguments: Value) -> Answer {
        self.call_with_ttl(tool, arguments, json!({})).await
    }

    /// As [`Client::call_as_task`], with this `task`.
    pub(crate) async fn call_with_ttl(&self, tool: &str, arguments: Value, task: Value) -> Answer {
        let mut params = json!({ "name": tool, "arguments": arguments });
        if !self.is_stateless() {
            params["task"] = task;
        }
        self.request("tools/call", params).await
    }

    /// Call a tool as a task; gives the task, or fails when there is none.
    pub(crate) async fn begin(&self, tool: &str, arguments: Value) -> Value {
        created(&self.call_as_task(tool, arguments).await)
    }

    /// As [`Client::begin`], giving the id alone.
    pub(crate) async fn begin_id(&self, tool: &str, arguments: Value) -> String {
        id_of(&self.begin(tool, arguments).await)
    }

    /// `tasks/get`.
    pub(crate) async fn task(&self, id: &str) -> Answer {
        self.request("tasks/get", json!({ "taskId": id })).await
    }

    /// `tasks/result`, left to be read.
    pub(crate) async fn open_task_result(&self, id: &str) -> Exchange {
        self.open("tasks/result", json!({ "taskId": id })).await
    }

    /// `tasks/result`, which waits for the end.
    pub(crate) async fn task_result(&self, id: &str) -> Answer {
        self.request("tasks/result", json!({ "taskId": id })).await
    }

    /// `tasks/cancel`.
    pub(crate) async fn cancel_task(&self, id: &str) -> Answer {
        self.request("tasks/cancel", json!({ "taskId": id })).await
    }

    /// `tasks/list`.
    pub(crate) async fn list_tasks(&self, cursor: Option<&str>) -> Answer {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor }));
        self.request("tasks/list", params).await
    }

    /// The ids in all pages of `tasks/list`.
    pub(crate) async fn all_task_ids(&self) -> Vec<String> {
        let (mut ids, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = self.list_tasks(cursor.as_deref()).await;
            ids.extend(page.result()["tasks"].as_array().into_iter().flatten().map(id_of));
            cursor = page.result()["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return ids;
            }
        }
    }

    /// `tasks/update`.
    pub(crate) async fn update_task(&self, id: &str, responses: Value) -> Answer {
        self.request("tasks/update", json!({ "taskId": id, "inputResponses": responses })).await
    }

    /// Look again and again until a task is in this state; gives it. A final state other than that fails the story.
    pub(crate) async fn until_status(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} to be {status}"), || async {
            let task = self.task(id).await.result().clone();
            assert!(task["status"] == status || !is_over(&task), "never {status}: {task}");
            (task["status"] == status).then_some(task)
        })
        .await
    }

    /// Look again and again until a task is over, and fetch what it came to.
    pub(crate) async fn until_over(&self, id: &str) -> TaskEnd {
        let task = eventually(&format!("{id} to be over"), || async {
            let task = self.task(id).await.result().clone();
            is_over(&task).then_some(task)
        })
        .await;
        self.end_of(id, task).await
    }

    /// What a task that is over came to.
    pub(crate) async fn end_of(&self, id: &str, task: Value) -> TaskEnd {
        let status = task["status"].as_str().expect("judged by the schema").to_owned();
        if self.is_stateless() {
            let (result, error) = (task["result"].clone(), task["error"].clone());
            return TaskEnd { status, task, result, error };
        }
        let answer = self.task_result(id).await;
        let mut result = answer.json["result"].clone();
        if !result.is_null() {
            assert_eq!(result["_meta"][RELATED_TASK]["taskId"], id, "{}", answer.raw);
        }
        if let Some(meta) = result.get_mut("_meta").and_then(Value::as_object_mut) {
            meta.remove(RELATED_TASK);
        }
        TaskEnd { status, task, result, error: answer.json["error"].clone() }
    }

    /// Follow a task to its end and answer what it asks: on `tasks/result` in the core dialect, by `tasks/update` in the
    /// other.
    pub(crate) async fn follow(
        &self,
        id: &str,
        mut reply: impl FnMut(&TaskQuestion) -> Value,
    ) -> (Vec<TaskQuestion>, TaskEnd) {
        let mut questions: Vec<TaskQuestion> = Vec::new();
        if !self.is_stateless() {
            let mut exchange = self.open_task_result(id).await;
            loop {
                let message = patiently("the end of a task", exchange.next()).await;
                let message = message.expect("tasks/result has a response");
                if message.is_response() {
                    break;
                }
                if message.json.get("id").is_some() {
                    questions.push(self.answer_of_task(id, &message, &mut reply).await);
                }
            }
            return (questions, self.until_over(id).await);
        }
        loop {
            let task = eventually(&format!("{id} to ask or end"), || async {
                let task = self.task(id).await.result().clone();
                (is_over(&task) || has_new(&task, &questions)).then_some(task)
            })
            .await;
            if is_over(&task) {
                return (questions, self.end_of(id, task).await);
            }
            for (key, request) in task["inputRequests"].as_object().into_iter().flatten() {
                if questions.iter().any(|known| known.key == **key) {
                    continue;
                }
                let method = request["method"].as_str().expect("judged by the schema").to_owned();
                let question = TaskQuestion { key: json!(key), method, params: request["params"].clone() };
                let answer = reply(&question);
                self.update_task(id, json!({ key: answer })).await.result();
                questions.push(question);
            }
        }
    }

    /// Answer a request that belongs to a task, on whatever stream it came.
    pub(crate) async fn answer_of_task(
        &self,
        id: &str,
        message: &Message,
        reply: &mut impl FnMut(&TaskQuestion) -> Value,
    ) -> TaskQuestion {
        let named = &message.params()["_meta"][RELATED_TASK]["taskId"];
        assert_eq!(named, id, "a request names the task that it belongs to (S-TASK-16): {}", message.raw);
        let question = TaskQuestion {
            key: message.json["id"].clone(),
            method: message.method().to_owned(),
            params: message.params().clone(),
        };
        let mut answer = reply(&question);
        answer["_meta"] = json!({ RELATED_TASK: { "taskId": id } });
        assert_eq!(self.respond(&question.key, answer).await, 202, "an answer to {} is taken", message.raw);
        question
    }
}

fn has_new(task: &Value, known: &[TaskQuestion]) -> bool {
    let mut keys = task["inputRequests"].as_object().into_iter().flatten().map(|(key, _)| key);
    keys.any(|key| known.iter().all(|known| known.key != **key))
}

/// The task of a `CreateTaskResult` of either dialect.
pub(crate) fn created(answer: &Answer) -> Value {
    let result = answer.result();
    let task = if result["resultType"] == "task" { result } else { &result["task"] };
    assert!(task["taskId"].is_string(), "no task: {}", answer.raw);
    task.clone()
}

/// The id of a task object.
pub(crate) fn id_of(task: &Value) -> String {
    task["taskId"].as_str().unwrap_or_else(|| panic!("no taskId: {task}")).to_owned()
}
