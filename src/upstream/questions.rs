//! Requests that a handshake-era upstream makes: `ping`, sampling, elicitation, roots.
//!
//! Always: each gets exactly one answer under the upstream's own id; a question that cannot be put to the one client it
//! concerns is answered by the gateway (era-bridge §9.1), never put to another.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::call::Affinity;
use super::link::{Link, OpenQuestion};
use super::messages::{AskClient, QuestionRefused, WithdrawQuestion};
use crate::protocol::frame::{Answer, Request, RequestId};
use crate::protocol::json::quote;
use crate::protocol::message;

const METHOD_NOT_FOUND: i64 = -32601;
const INTERNAL_ERROR: i64 = -32603;
const USER_REJECTED: i64 = -1;

/// Answers a question, or starts a task that will.
pub(super) fn serve(link: &Arc<Link>, request: Request, cause: Option<u64>) {
    match &*request.method {
        "ping" => link.send(message::result(&request.id, b"{}")),
        "sampling/createMessage" | "elicitation/create" | "roots/list" => relay(link, request, cause),
        _ => link.send(error(&request.id, METHOD_NOT_FOUND, "method not found")),
    }
}

fn relay(link: &Arc<Link>, request: Request, cause: Option<u64>) {
    let withdrawn = CancellationToken::new();
    // A pipe does not say which call a question belongs to; with one call in flight there is no doubt.
    let cause = cause.or_else(|| link.calls.only_call());
    let question = OpenQuestion { cause, moot: withdrawn.clone() };
    link.lock_questions().insert(request.id.clone(), question);
    let link = Arc::clone(link);
    tokio::task::spawn_local(async move {
        let id = request.id.clone();
        let answer = put(&link, request, cause, &withdrawn).await;
        // A withdrawn question is no longer in the table, and its asker wants no answer.
        if link.lock_questions().remove(&id).is_some() {
            link.send(answer);
        }
    });
}

/// Puts the question to the client and gives the whole answer message for the upstream.
async fn put(
    link: &Arc<Link>,
    request: Request,
    cause: Option<u64>,
    withdrawn: &CancellationToken,
) -> Vec<u8> {
    let (id, method) = (request.id.clone(), request.method.clone());
    if link.affinity() == Affinity::Shared {
        return error(&id, METHOD_NOT_FOUND, "this connection declares no such capability");
    }
    let Some(port) = link.port_of(cause) else {
        return unanswerable(&id, &method);
    };
    let stream = link.stream_of(cause);
    let asked = AskClient { upstream: link.upstream.clone(), request, stream };
    let question = match port.ask.send(asked).await {
        Ok(Ok(question)) => question,
        Ok(Err(QuestionRefused::NotDeclared)) => {
            return error(&id, METHOD_NOT_FOUND, "the client did not declare this capability");
        }
        Ok(Err(QuestionRefused::TooMany)) | Err(_) => return unanswerable(&id, &method),
    };
    let mut withdraw = WithdrawOnDrop { port, number: question.number, settled: false };
    let answer = tokio::select! {
        answer = question.answer => answer.ok(),
        () = tokio::time::sleep(link.input_timeout) => None,
        () = withdrawn.cancelled() => None,
    };
    withdraw.settled = answer.is_some();
    match answer {
        Some(Answer::Result(object)) => message::result(&id, object.as_bytes()),
        Some(Answer::Error(refusal)) => message::error(&id, refusal.object.as_bytes()),
        None => unanswerable(&id, &method),
    }
}

/// Tells the session that a question is moot, however the wait for its answer ended.
struct WithdrawOnDrop {
    port: super::call::ClientPort,
    number: u64,
    settled: bool,
}

impl Drop for WithdrawOnDrop {
    fn drop(&mut self) {
        if !self.settled && self.port.withdraw.try_send(WithdrawQuestion { number: self.number }).is_err() {
            tracing::debug!("the session of a withdrawn question is gone");
        }
    }
}

/// The gateway's own answer to a question that reaches nobody (era-bridge §9.1).
fn unanswerable(id: &RequestId, method: &str) -> Vec<u8> {
    match method {
        "elicitation/create" => message::result(id, br#"{"action":"cancel"}"#),
        "sampling/createMessage" => error(id, USER_REJECTED, "nobody can be asked"),
        _ => error(id, INTERNAL_ERROR, "nobody can be asked"),
    }
}

fn error(id: &RequestId, code: i64, text: &str) -> Vec<u8> {
    message::error(id, format!(r#"{{"code":{code},"message":{}}}"#, quote(text)).as_bytes())
}
