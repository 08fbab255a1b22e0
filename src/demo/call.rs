//! One request while it is served: what a feature may do besides answering.
//!
//! A feature asks the client the same way in both eras: in the handshake era the question is a request of our own and the feature
//! waits; in the stateless era the call ends with the question, and when it comes again with answers the feature runs anew and
//! finds them. Always: nothing is asked that the client did not declare; nothing waits longer than a minute for a client.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::caller::{Caller, log_rank};
use super::input::Input;
use super::outlet::Outlet;
use super::rounds::Answers;
use super::sealed::request_digest;
use super::server::Server;
use super::session::Session;
use super::tasks::{self, Task};
use super::wire::{self, Fault, MISSING_CAPABILITY, Object};
use crate::protocol::era::Revision;

const CLIENT_PATIENCE: Duration = Duration::from_secs(60);

/// Why a feature stopped without a result.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The request fails.
    Fault(Fault),
    /// The tool fails, in words for the model.
    Failed(String),
    /// Stateless era: the client is to come back with answers.
    InputRequired { requests: Object, state: Option<String> },
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// A request being served.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) caller: Caller,
    pub(crate) meta: Object,
    pub(crate) id: Value,
    pub(crate) outlet: Outlet,
    /// The task as which the tool is called, if it is.
    pub(crate) task: Option<Arc<Task>>,
    /// Binds a request state to this request.
    pub(super) digest: String,
    pub(super) answers: Mutex<Answers>,
}

impl Call {
    /// Reads metadata and answers out of the parameters; fails on answers or state that cannot be used.
    pub(crate) fn open(
        server: Arc<Server>,
        caller: Caller,
        outlet: Outlet,
        id: Value,
        method: &str,
        params: &Object,
    ) -> Result<Call, Fault> {
        let meta = params.get("_meta").and_then(Value::as_object).cloned().unwrap_or_default();
        let may_ask = matches!(method, "tools/call" | "prompts/get" | "resources/read");
        let mut call = Call {
            server,
            caller,
            meta,
            id,
            outlet,
            task: None,
            digest: String::new(),
            answers: Mutex::default(),
        };
        if may_ask && call.caller.is_stateless() {
            call.digest = request_digest(method, params);
            call.answers = Mutex::new(call.read_answers(params)?);
        }
        Ok(call)
    }

    /// The same call as the work of a task, which goes on when the request is over.
    pub(crate) fn of_task(&self, task: &Arc<Task>) -> Call {
        Call {
            server: Arc::clone(&self.server),
            caller: self.caller.clone(),
            meta: self.meta.clone(),
            id: self.id.clone(),
            outlet: Outlet::Nowhere,
            task: Some(Arc::clone(task)),
            digest: String::new(),
            answers: Mutex::default(),
        }
    }

    /// Sends a notification that belongs to this call.
    async fn tell(&self, method: &str, params: Value) {
        match &self.task {
            None => self.outlet.send(wire::notification(method, params)).await,
            // The extension has no notifications but that of the task itself.
            Some(task) => {
                let message = wire::notification(method, tasks::core::relate(task, params));
                task.outlet().send(message).await
            }
        };
    }

    /// Tells how far the work is, if the caller wants to know. A task says it also as its state.
    pub(crate) async fn progress(&self, progress: f64, total: f64, message: &str) {
        if let Some(task) = &self.task {
            task.say(message);
        }
        let Some(token) = self.meta.get("progressToken") else { return };
        let mut params =
            json!({ "progressToken": token, "progress": whole(progress), "total": whole(total) });
        if self.caller.revision >= Revision::V2025_03_26 {
            params["message"] = json!(message);
        }
        self.tell("notifications/progress", params).await;
    }

    /// Sends a log message, if the caller wants messages of that severity.
    pub(crate) async fn log(&self, level: &str, data: Value) -> bool {
        let threshold = match &self.caller.session {
            // The level of a session may change while the call runs.
            Some(session) => session.log_threshold(),
            None => self.caller.log_threshold,
        };
        let wanted = matches!((log_rank(level), threshold), (Some(rank), Some(least)) if rank >= least);
        if wanted {
            let params = json!({ "level": level, "logger": "demo", "data": data });
            self.tell("notifications/message", params).await;
        }
        wanted
    }

    /// Fails unless the client declared these capabilities.
    pub(crate) fn require(&self, needs: &Value) -> Result<(), Stop> {
        if self.caller.declares(needs) {
            return Ok(());
        }
        let names = needs.as_object().map(|needs| needs.keys().cloned().collect::<Vec<_>>().join(", "));
        let text = format!("this needs a client that declares the capability {}", names.unwrap_or_default());
        if self.caller.is_stateless() {
            let data = json!({ "requiredCapabilities": needs });
            return Err(Fault::new(MISSING_CAPABILITY, text).with_data(data).into());
        }
        Err(Stop::Failed(text))
    }

    /// Asks the client one thing.
    pub(crate) async fn ask(&self, key: &str, input: Input) -> Result<Value, Stop> {
        let mut answers = self.ask_all(&[(key, input)], true).await?;
        Ok(answers.remove(key).unwrap_or_default())
    }

    /// Asks several things at once. Stateless: with or without a request state, which carries the answers of earlier rounds.
    pub(crate) async fn ask_all(&self, inputs: &[(&str, Input)], with_state: bool) -> Result<Object, Stop> {
        for (_, input) in inputs {
            self.require(&input.needs)?;
            if self.caller.revision < input.since {
                return Err(Stop::Failed(format!(
                    "{} needs revision {} or later",
                    input.method, input.since
                )));
            }
        }
        if let Some(task) = &self.task {
            return task.ask(inputs).await;
        }
        match &self.caller.session {
            Some(session) if !self.caller.is_stateless() => self.ask_session(session, inputs).await,
            _ => self.ask_by_result(inputs, with_state),
        }
    }

    async fn ask_session(&self, session: &Arc<Session>, inputs: &[(&str, Input)]) -> Result<Object, Stop> {
        let questions = inputs.iter().map(|(key, input)| async move {
            let answer = self.request(session, input.method, &input.params_for(self.caller.revision)).await?;
            if !input.is_answered_by(&answer) {
                return Err(Stop::Failed(format!("the client's answer to {} is malformed", input.method)));
            }
            Ok(((*key).to_owned(), answer))
        });
        Ok(try_join_all(questions).await?.into_iter().collect())
    }

    /// Handshake era: a request of our own, and what the client answers.
    pub(super) async fn request(
        &self,
        session: &Arc<Session>,
        method: &str,
        params: &Value,
    ) -> Result<Value, Stop> {
        let (question, answer) = session.ask(&self.outlet);
        self.outlet.send(wire::request(question.number, method, params)).await;
        let answer = timeout(CLIENT_PATIENCE, answer).await;
        question.settle(matches!(answer, Ok(Ok(_))));
        answer
            .map_err(|_| Stop::Failed(format!("the client did not answer {method} in time")))?
            .map_err(|_| Stop::Failed("the session ended".to_owned()))?
            .map_err(|fault| Stop::Failed(format!("the client refused: {}", fault.message)))
    }

    /// Handshake era over HTTP: ends the connection that waits for this answer, which then has to be fetched.
    pub(crate) fn cut_connection(&self) {
        if let Outlet::Log(log) = &self.outlet {
            log.cut();
        }
    }

    /// Handshake era over HTTP: answers with a stream, whatever comes.
    pub(crate) fn answer_with_stream(&self) {
        if let Outlet::Log(log) = &self.outlet {
            log.commit();
        }
    }
}

/// A number without fraction is written as an integer.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 { json!(number as i64) } else { json!(number) }
}
