//! Answering what a server asks, through the gateway, of the user behind a client.
//!
//! Owns the shape of such an exchange. Not here: what a story answers.

use serde_json::{Value, json, value::RawValue};

use super::{Answer, Client, Exchange, Message};

/// Arguments for a tool of [`crate::support::UpstreamPlan::asking`].
pub(crate) fn question(method: &str, params: &Value) -> Value {
    json!({ "method": method, "params": params })
}

impl Client {
    /// Call a tool with arguments of exactly this text and leave the answer to be read.
    pub(crate) async fn open_raw_call(&self, tool: &str, arguments: &str) -> Exchange {
        let id = json!(self.fresh_id());
        let params = self.dress(json!({ "name": tool }));
        let meta = params.get("_meta").map(|meta| format!(r#","_meta":{meta}"#)).unwrap_or_default();
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}{meta}}}}}"#
        );
        let headers = self.headers("tools/call", &params);
        self.open_raw(id, "tools/call", headers, body.as_bytes()).await
    }

    /// Read to the next request with this method and answer it; gives the request.
    pub(crate) async fn answer_next(&self, exchange: &mut Exchange, method: &str, result: Value) -> Message {
        let request = exchange.until_method(method).await;
        let status = self.respond(request.json.get("id").expect("a request has an id"), result).await;
        assert_eq!(status, 202, "an answer to {} is accepted", request.raw);
        request
    }

    /// Answer a request that the gateway sent with a result of exactly this text.
    pub(crate) async fn respond_raw(&self, id: &Value, result: &str) -> u16 {
        serde_json::from_str::<&RawValue>(result).expect("the story answers JSON");
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        self.post_silently(self.headers("", &Value::Null), &body).await
    }

    /// Let a tool of an asking upstream ask; the client answers each question that reaches it with `result`.
    pub(crate) async fn asked(&self, tool: &str, arguments: Value, result: &Value) -> Asked {
        let mut exchange = self.open_call(tool, arguments).await;
        let mut questions = Vec::new();
        loop {
            let message = exchange.next().await.expect("a call has a response");
            if message.json.get("method").is_none() {
                break;
            }
            if let Some(id) = message.json.get("id") {
                self.respond(id, result.clone()).await;
                questions.push(message);
            }
        }
        let answer = exchange.answered().await;
        let told = serde_json::from_str(answer.text()).unwrap_or(Value::Null);
        Asked { questions, told, answer }
    }
}

/// What came of a call whose tool asked something.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The questions that reached the client.
    pub(crate) questions: Vec<Message>,
    /// What the upstream was told, question by question.
    pub(crate) told: Value,
    /// The answer of the call.
    pub(crate) answer: Answer,
}

impl Asked {
    /// The only question, which must have reached the client.
    pub(crate) fn question(&self) -> &Message {
        assert_eq!(self.questions.len(), 1, "one question should have reached the client: {self:?}");
        &self.questions[0]
    }

    /// Fail unless nothing reached the client and the upstream was told this code.
    pub(crate) fn expect_refused(&self, code: i64) {
        assert!(self.questions.is_empty(), "nothing should have reached the client: {:?}", self.questions);
        assert_eq!(self.told[0]["error"]["code"], code, "the upstream was told {}", self.told);
    }
}
