//! A question that becomes a task of the client (2025-11-25): it is asked, looked after, and its answer fetched.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::demo::call::{Call, Stop};
use crate::demo::input::Input;
use crate::demo::session::Session;
use crate::protocol::era::Revision;

/// How long the client may take, in milliseconds.
const TTL_MS: u64 = 60_000;
/// How often we look where the client does not say.
const POLL_MS: u64 = 200;
/// Never more often than this.
const LEAST_POLL_MS: u64 = 20;
const MOST_POLLS: usize = 600;

impl Call {
    /// Asks the client, who answers with a task of its own; fails for a client that does not declare such tasks. Gives the answer
    /// and the states in which the task was seen.
    pub(crate) async fn ask_as_task(&self, input: &Input) -> Result<(Value, Vec<String>), Stop> {
        self.require(&input.needs)?;
        let session = match &self.caller.session {
            Some(session) if self.caller.revision == Revision::V2025_11_25 => session,
            _ => return Err(Stop::Failed("this needs revision 2025-11-25".to_owned())),
        };
        if !self.client_hosts(input.method) {
            let reason = format!("this needs a client that declares tasks for {}", input.method);
            return Err(Stop::Failed(reason));
        }
        let mut params = input.params_for(self.caller.revision);
        params["task"] = json!({ "ttl": TTL_MS });
        let begun = self.request(session, input.method, &params).await?;
        match begun["task"]["taskId"].as_str() {
            Some(id) => self.look_after(session, id).await,
            None => Err(Stop::Failed(format!("the client made no task of {}", input.method))),
        }
    }

    /// Whether the client declares that requests of this method can be tasks of its own.
    fn client_hosts(&self, method: &str) -> bool {
        let declared = &self.caller.capabilities["tasks"]["requests"];
        method.split_once('/').is_some_and(|(family, name)| declared[family][name].is_object())
    }

    async fn look_after(&self, session: &Arc<Session>, id: &str) -> Result<(Value, Vec<String>), Stop> {
        let named = json!({ "taskId": id });
        let mut seen: Vec<String> = Vec::new();
        for _ in 0..MOST_POLLS {
            let task = self.request(session, "tasks/get", &named).await?;
            let status = task["status"].as_str().unwrap_or("nothing").to_owned();
            if seen.last() != Some(&status) {
                seen.push(status.clone());
            }
            match status.as_str() {
                "working" | "input_required" => {}
                "completed" => return Ok((self.request(session, "tasks/result", &named).await?, seen)),
                ended => return Err(Stop::Failed(format!("the client's task ended as {ended}"))),
            }
            let wait = task["pollInterval"].as_u64().unwrap_or(POLL_MS).max(LEAST_POLL_MS);
            sleep(Duration::from_millis(wait)).await;
        }
        Err(Stop::Failed("the client's task does not end".to_owned()))
    }
}
