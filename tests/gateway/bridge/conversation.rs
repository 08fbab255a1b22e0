//! A call and the questions on the way to its answer, told the same way for clients of both eras.
//!
//! A client of the handshake era is asked by requests on the stream of its call; one of the stateless era by results that
//! end its request, which it sends again with the answers. Always: what every answer of the era must be is checked here
//! (`InputRequired`), so that rows speak of their feature alone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Exchange, Message};
use crate::support::{Client, within};

/// Longest conversation of a row, so that one that goes in circles ends.
const MOST_ROUNDS: usize = 20;

/// What reached the client as a question.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The key of an input request, or the id of a request.
    pub(super) key: Value,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub(super) method: String,
    /// What is asked.
    pub(super) params: Value,
}

/// What the client does about a question.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Answer with this result.
    Give(Value),
    /// Answer with an error of this code; only the handshake era can.
    Refuse(i64),
    /// Say nothing.
    Silence,
}

/// A form's content, sent.
pub(super) fn accept(content: Value) -> Reply {
    Reply::Give(json!({ "action": "accept", "content": content }))
}

/// A form or page answered with this action and nothing else.
pub(super) fn action(action: &str) -> Reply {
    Reply::Give(json!({ "action": action }))
}

/// What a model says.
pub(super) fn sampled(text: &str) -> Reply {
    Reply::Give(json!({ "role": "assistant", "model": "none", "content": { "type": "text", "text": text } }))
}

/// A client of either era, as rows know it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The client itself.
    pub(super) client: Client,
}

/// A call that came to its end.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Everything that was asked, in order.
    pub(super) questions: Vec<Question>,
    /// The final answer.
    pub(super) answer: Answer,
    /// The `requestState` of each round, in the stateless era.
    pub(super) states: Vec<Option<String>>,
    /// Progress of each request that the client sent.
    pub(super) progress: Vec<Vec<f64>>,
    /// Every notification on the way.
    pub(super) notices: Vec<Message>,
}

impl Conversation {
    /// The only question.
    pub(super) fn question(&self) -> &Question {
        assert_eq!(self.questions.len(), 1, "one question should have come: {:?}", self.questions);
        &self.questions[0]
    }
}

/// What a stateless client is told instead of an answer.
#[derive(Debug)]
pub(super) struct InputRequired {
    /// What is asked, by key.
    pub(super) questions: Vec<Question>,
    /// What to send back with the answers.
    pub(super) state: Option<String>,
}

impl InputRequired {
    /// Read the answer of a stateless request, if it is not final.
    pub(super) fn read(answer: &Answer) -> Option<InputRequired> {
        let result = answer.json.get("result").filter(|result| result["resultType"] == "input_required")?;
        assert_eq!(answer.status, 200, "{}", answer.raw);
        for member in ["ttlMs", "cacheScope", "content"] {
            assert!(
                result.get(member).is_none(),
                "{member} on a result that asks (S-MRTR-14): {}",
                answer.raw
            );
        }
        let questions: Vec<Question> = result["inputRequests"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, request)| Question {
                key: json!(key),
                method: request["method"].as_str().expect("judged by the schema").to_owned(),
                params: request["params"].clone(),
            })
            .collect();
        for question in &questions {
            let params = &question.params;
            assert!(params.get("elicitationId").is_none(), "2026-07-28 has no such identifiers: {params}");
            assert!(params.get("task").is_none(), "2026-07-28 has no such tasks: {params}");
        }
        let state = result["requestState"].as_str().map(str::to_owned);
        assert!(state.is_some() || !questions.is_empty(), "neither questions nor state: {}", answer.raw);
        Some(InputRequired { questions, state })
    }

    /// The same answer for every question.
    pub(super) fn all(&self, reply: &Value) -> Value {
        self.questions.iter().map(|question| (question.key_text(), reply.clone())).collect()
    }
}

impl Question {
    fn key_text(&self) -> String {
        self.key.as_str().map_or_else(|| self.key.to_string(), str::to_owned)
    }
}

/// The parameters of a tool call.
pub(super) fn tool(name: &str, arguments: Value) -> Value {
    json!({ "name": format!("demo__{name}"), "arguments": arguments })
}

impl Caller {
    /// Call a tool of the demo server that asks nothing.
    pub(super) async fn call(&self, name: &str, arguments: Value) -> Answer {
        self.client.request("tools/call", tool(name, arguments)).await
    }

    /// Call a tool and answer what it asks.
    pub(super) async fn converse(
        &self,
        name: &str,
        arguments: Value,
        reply: impl FnMut(&Question) -> Reply,
    ) -> Conversation {
        self.converse_about("tools/call", tool(name, arguments), 1, reply).await
    }

    /// Send any request and answer what is asked on the way, once `together` questions are there.
    pub(super) async fn converse_about(
        &self,
        method: &str,
        params: Value,
        together: usize,
        reply: impl FnMut(&Question) -> Reply,
    ) -> Conversation {
        // A bound on the whole, besides those on each message: a gateway that goes on asking must not hang the story.
        let conversation = async {
            match self.client.is_stateless() {
                true => self.by_rounds(method, params, together, reply).await,
                false => self.by_requests(method, params, together, reply).await,
            }
        };
        within(Duration::from_secs(60), "the end of a conversation", conversation).await
    }

    fn with_token(&self, params: &Value) -> (Value, Value) {
        let token = json!(format!("token {}", self.client.fresh_id()));
        let mut params = params.clone();
        params["_meta"]["progressToken"] = token.clone();
        (params, token)
    }

    async fn by_requests(
        &self,
        method: &str,
        params: Value,
        together: usize,
        mut reply: impl FnMut(&Question) -> Reply,
    ) -> Conversation {
        let (params, token) = self.with_token(&params);
        let mut exchange = self.client.open(method, params).await;
        let (mut questions, mut waiting, mut notices) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let message = exchange.next().await.expect("a request has a response");
            if message.is_response() {
                break;
            }
            let Some(id) = message.json.get("id") else {
                notices.push(message);
                continue;
            };
            let question = Question {
                key: id.clone(),
                method: message.method().to_owned(),
                params: message.params().clone(),
            };
            waiting.push(question);
            if waiting.len() == together {
                // The last one first: which answer belongs to which question is told by ids alone.
                while let Some(question) = waiting.pop() {
                    self.reply(&question, reply(&question)).await;
                    questions.push(question);
                }
            }
        }
        assert!(waiting.is_empty(), "asked, but never together: {waiting:?}");
        let answer = exchange.answered().await;
        let progress = vec![progress_of(&answer, &token)];
        Conversation { questions, answer, states: Vec::new(), progress, notices }
    }

    /// Answer a request of the gateway.
    pub(super) async fn reply(&self, question: &Question, reply: Reply) {
        let status = match reply {
            Reply::Give(result) => self.client.respond(&question.key, result).await,
            Reply::Refuse(code) => self.client.refuse(&question.key, code, "the user said no").await,
            Reply::Silence => return,
        };
        assert_eq!(status, 202, "an answer to {question:?} is accepted");
    }

    async fn by_rounds(
        &self,
        method: &str,
        params: Value,
        together: usize,
        mut reply: impl FnMut(&Question) -> Reply,
    ) -> Conversation {
        let (mut params, mut progress) = (params, Vec::new());
        let (mut questions, mut states, mut notices) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..MOST_ROUNDS {
            let (dressed, token) = self.with_token(&params);
            let answer = self.client.request(method, dressed).await;
            progress.push(progress_of(&answer, &token));
            notices.extend(answer.before.iter().cloned());
            let Some(round) = InputRequired::read(&answer) else {
                return Conversation { questions, answer, states, progress, notices };
            };
            let is_together = round.questions.is_empty() || round.questions.len() >= together;
            assert!(is_together, "not asked together: {}", answer.raw);
            let mut responses = BTreeMap::new();
            for question in round.questions {
                if let Reply::Give(result) = reply(&question) {
                    responses.insert(question.key_text(), result);
                }
                questions.push(question);
            }
            params["inputResponses"] = json!(responses);
            let object = params.as_object_mut().expect("parameters are an object");
            match &round.state {
                Some(state) => object.insert("requestState".to_owned(), json!(state)),
                None => object.remove("requestState"),
            };
            states.push(round.state);
        }
        panic!("no end after {MOST_ROUNDS} rounds: {questions:?}");
    }

    /// Send a stateless request that has to be asked something.
    pub(super) async fn first_round(&self, method: &str, params: &Value) -> InputRequired {
        let answer = self.client.request(method, params.clone()).await;
        InputRequired::read(&answer).unwrap_or_else(|| panic!("nothing was asked: {}", answer.raw))
    }

    /// Send a stateless request again with answers and state.
    pub(super) async fn retry(
        &self,
        method: &str,
        params: &Value,
        responses: Value,
        state: Option<&str>,
    ) -> Answer {
        let mut answer = self.open_retry(method, params, responses, state).await.answer().await;
        self.client.keep(&mut answer);
        answer
    }

    /// As [`Caller::retry`], leaving the answer to be read.
    pub(super) async fn open_retry(
        &self,
        method: &str,
        params: &Value,
        responses: Value,
        state: Option<&str>,
    ) -> Exchange {
        let mut params = params.clone();
        params["inputResponses"] = responses;
        if let Some(state) = state {
            params["requestState"] = json!(state);
        }
        self.client.open(method, params).await
    }

    /// What the demo server counted.
    pub(super) async fn counters(&self) -> Value {
        self.call("counters", json!({})).await.result()["structuredContent"].clone()
    }
}

/// The values of the progress before an answer; each must name the token, and be more than the one before.
fn progress_of(answer: &Answer, token: &Value) -> Vec<f64> {
    for message in &answer.before {
        if message.method() == "notifications/progress" {
            assert_eq!(message.params()["progressToken"], *token, "{}", message.raw);
        }
    }
    let values = answer.progress();
    assert!(values.is_sorted_by(|a, b| a < b), "progress only grows (S-PROG): {values:?}");
    values
}
