//! What clients were told of tasks before the gateway was killed, and what has to be true of it afterwards (I3, I4, F45).
//!
//! Owns the handles and the callers that gather them. Always: a handle is written down as soon as the client has it, so
//! that losing one is noticed. Not here: killing (`tasks_killed`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::client::{Client, TaskEnd, is_over};
use crate::support::generate::Seed;
use crate::support::upstream::Outcome;
use crate::support::{HANDSHAKE, Upstream};

/// A task that a client was told of.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    /// The revision of the client.
    pub(crate) revision: String,
    /// The gateway's id.
    pub(crate) id: String,
    /// What the call said, which no other call says.
    pub(crate) tag: String,
    /// Whether the client wished it cancelled.
    pub(crate) is_cancelled: bool,
    /// The final state the client has seen.
    pub(crate) seen: Option<String>,
}

/// Everything that clients were told in one trial.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    handles: Mutex<Vec<Handle>>,
}

impl Ledger {
    /// What is written down so far.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.handles.lock().expect("nobody panics while holding it").clone()
    }

    fn write(&self, handle: Handle) -> usize {
        let mut handles = self.handles.lock().expect("nobody panics while holding it");
        handles.push(handle);
        handles.len() - 1
    }

    fn note(&self, at: usize, note: impl FnOnce(&mut Handle)) {
        note(&mut self.handles.lock().expect("nobody panics while holding it")[at]);
    }

    /// Call a tool; what it became is written down. Nothing when the gateway is gone.
    pub(crate) async fn call(
        &self,
        client: &Client,
        tool: &str,
        arguments: Value,
    ) -> std::io::Result<Option<usize>> {
        let tag = arguments["text"].as_str().expect("calls of a trial have a tag").to_owned();
        let mut params = json!({ "name": tool, "arguments": arguments });
        if !client.is_stateless() {
            params["task"] = json!({});
        }
        let answer = client.attempt("tools/call", params).await?;
        let result = &answer["result"];
        let task = if result["resultType"] == "task" { result } else { &result["task"] };
        let Some(id) = task["taskId"].as_str() else {
            let is_result = result["content"].is_array();
            assert!(is_result && client.is_stateless(), "{tool} of {tag}: {answer}");
            return Ok(None);
        };
        let (revision, id) = (client.revision.clone(), id.to_owned());
        Ok(Some(self.write(Handle { revision, id, tag, is_cancelled: false, seen: None })))
    }

    /// Go on calling, looking and cancelling until the gateway is gone.
    pub(crate) async fn storm(self: Arc<Ledger>, client: Client, name: String, mut seed: Seed) {
        for number in 0.. {
            let tools = ["one__long", "two__long", "old__echo"];
            let tool = tools[usize::try_from(seed.next() % 3).expect("small")];
            let mut arguments = json!({ "text": format!("{name}-{number}") });
            if !seed.next().is_multiple_of(3) {
                arguments["after"] = json!(seed.next() % 150);
            }
            let Ok(at) = self.call(&client, tool, arguments).await else { return };
            let Some(at) = at else { continue };
            let id = self.handles()[at].id.clone();
            if seed.next().is_multiple_of(5) {
                self.note(at, |handle| handle.is_cancelled = true);
                let Ok(answer) = client.attempt("tasks/cancel", json!({ "taskId": id })).await else {
                    return;
                };
                if answer["result"]["status"] == "cancelled" {
                    self.note(at, |handle| handle.seen = Some("cancelled".to_owned()));
                }
            }
            let Ok(answer) = client.attempt("tasks/get", json!({ "taskId": id })).await else { return };
            let task = &answer["result"];
            assert!(task["status"].is_string(), "a task that was just made: {answer}");
            if is_over(task) {
                let status = task["status"].as_str().map(str::to_owned);
                self.note(at, |handle| handle.seen = status);
            }
        }
    }
}

/// What a check after a restart found wrong.
pub(crate) type Faults = Vec<String>;

/// How often each call reached an upstream; and end what still runs there.
pub(crate) fn dispatched(upstreams: &[Upstream]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for upstream in upstreams {
        for call in upstream.received("tools/call") {
            let tag = call.params()["arguments"]["text"].as_str().unwrap_or_default().to_owned();
            *counts.entry(tag).or_default() += 1;
        }
    }
    counts
}

/// End every task that upstreams still have, with the words of its own call. Gives the tags of those that the gateway had
/// looked at before: it knew them.
pub(crate) fn end_all(upstreams: &[Upstream]) -> Vec<String> {
    let mut known = Vec::new();
    for task in upstreams
        .iter()
        .flat_map(|upstream| upstream.all_tasks().into_iter().map(move |task| (upstream, task)))
    {
        let (upstream, task) = task;
        if task.is_over() {
            continue;
        }
        let tag = task.begun_by.params()["arguments"]["text"].as_str().unwrap_or_default().to_owned();
        let text = format!("told {tag}");
        upstream.end(&task.id, Outcome::Result(json!({ "content": [{ "type": "text", "text": text }] })));
        if !task.polls.is_empty() {
            known.push(tag);
        }
    }
    known
}

/// Follow every handle to its end with clients that came after the restart, and tell what is wrong.
pub(crate) async fn settle(
    handles: &[Handle],
    clients: &[Client],
    counts: &HashMap<String, usize>,
    known: &[String],
) -> Faults {
    let ends = handles.iter().map(|handle| async move {
        let client =
            clients.iter().find(|client| client.revision == handle.revision).expect("both are there");
        let answer = client.task(&handle.id).await;
        let status = answer.json["result"]["status"].as_str();
        let legal = ["working", "input_required", "completed", "failed", "cancelled"];
        if status.is_none_or(|status| !legal.contains(&status)) {
            return vec![format!("lost: {handle:?}: {}", answer.raw)];
        }
        let end = client.until_over(&handle.id).await;
        faults_of(handle, &end, counts, known.contains(&handle.tag))
    });
    join_all(ends).await.into_iter().flatten().collect()
}

fn faults_of(handle: &Handle, end: &TaskEnd, counts: &HashMap<String, usize>, is_known: bool) -> Faults {
    let mut faults = Vec::new();
    let mut fault = |what: &str| faults.push(format!("{what}: {handle:?} came to {end:?}"));
    if handle.seen.as_ref().is_some_and(|seen| *seen != end.status) {
        fault("a final state changed");
    }
    let by_result = &end.result["_meta"]["switchyard/failure"];
    let failure = if end.error.is_null() { by_result } else { &end.error["data"] };
    match (end.status.as_str(), failure["reason"].as_str()) {
        ("cancelled", _) if handle.is_cancelled => {}
        ("cancelled", _) => fault("nobody cancelled it"),
        (_, Some("gateway_restarted")) => {
            let reached = counts.get(&handle.tag).copied().unwrap_or_default();
            match failure["outcome"].as_str() {
                Some("unknown") => {}
                Some("not_sent") if reached == 0 => {}
                _ => fault("an outcome that is not true"),
            }
            if is_known {
                fault("the gateway knew where it was");
            }
        }
        // A cancellation that was on its way when the gateway was killed may have reached the server alone.
        (_, Some(_)) if handle.is_cancelled => {}
        (_, Some(_)) => fault("no reason to fail"),
        ("completed", None) => {
            if !end.text().ends_with(&handle.tag) {
                fault("the words of another call");
            }
        }
        _ => fault("no such end"),
    }
    faults
}

/// Handles that `tasks/list` does not tell of.
pub(crate) async fn unlisted(handles: &[Handle], clients: &[Client]) -> Faults {
    let client = clients.iter().find(|client| client.revision == HANDSHAKE).expect("it is there");
    let listed: std::collections::HashSet<String> = client.all_task_ids().await.into_iter().collect();
    let missing = handles.iter().filter(|handle| !listed.contains(&handle.id));
    missing.map(|handle| format!("not listed: {handle:?}")).collect()
}

/// Wait until enough tasks are under way.
pub(crate) async fn begin_many(ledger: &Ledger, clients: &[Client], name: &str, count: usize) {
    let begun = (0..count).map(|number| async move {
        let client = &clients[number % clients.len()];
        let tool = ["one__long", "two__long", "old__echo"][number / clients.len() % 3];
        let arguments = json!({ "text": format!("{name}-held-{number}") });
        let held = tokio::time::timeout(Duration::from_secs(20), ledger.call(client, tool, arguments)).await;
        held.expect("a task in time").expect("the gateway runs").expect("a task for what is held")
    });
    join_all(begun).await;
}
