//! Questions of upstreams that the client of one session has not answered yet.
//!
//! Always: a client is asked only what it declared, under a number of the gateway's own (S-SAMP-01); an answer counts
//! once. Not here: on which stream a question goes out (`state`), whose question it is (`upstream::questions`).

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Request};
use crate::protocol::message;
use crate::protocol::splice::Edit;
use crate::upstream::call::EventSink;
use crate::upstream::messages::{Question, QuestionRefused};

/// Questions that may wait for answers at once.
const QUESTIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Questions {
    revision: Revision,
    capabilities: ClientCapabilities,
    last_number: u64,
    pending: HashMap<u64, PendingQuestion>,
}

#[derive(Debug)]
struct PendingQuestion {
    answer: oneshot::Sender<Answer>,
    /// The stream it was put on; what follows it goes there as well.
    stream: Option<EventSink>,
}

impl Questions {
    pub(super) fn new(revision: Revision, capabilities: ClientCapabilities) -> Self {
        Questions { revision, capabilities, last_number: 0, pending: HashMap::new() }
    }

    /// Takes a question on: where its answer will arrive, and the message for the client.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        stream: Option<EventSink>,
    ) -> Result<(Question, Bytes), QuestionRefused> {
        self.pending.retain(|_, question| !question.answer.is_closed());
        if !self.declared(request) {
            return Err(QuestionRefused::NotDeclared);
        }
        if self.pending.len() >= QUESTIONS {
            return Err(QuestionRefused::TooMany);
        }
        self.last_number += 1;
        let number = self.last_number;
        let (answer, answered) = oneshot::channel();
        let text = question_text(number, request, self.revision);
        self.pending.insert(number, PendingQuestion { answer, stream });
        Ok((Question { number, answer: answered }, text))
    }

    fn declared(&self, request: &Request) -> bool {
        match &*request.method {
            "sampling/createMessage" => self.capabilities.sampling(),
            "roots/list" => self.capabilities.roots(),
            "elicitation/create" => {
                let form = matches!(request.params.text("mode").as_deref(), None | Some("form"));
                form && self.capabilities.elicitation_form()
            }
            _ => false,
        }
    }

    /// Hands an answer to whoever asked; one that nobody asked for is ignored.
    pub(super) fn answered(&mut self, number: u64, answer: Answer) {
        if let Some(question) = self.pending.remove(&number) {
            // The upstream may have withdrawn its question meanwhile.
            let _ = question.answer.send(answer);
        }
    }

    /// Gives up on a question that is still open: what to tell the client, and on which stream.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<(Bytes, Option<EventSink>)> {
        let question = self.pending.remove(&number)?;
        let params = format!(r#"{{"requestId":{number},"reason":"no longer needed"}}"#);
        let text = message::notification("notifications/cancelled", params.as_bytes()).into();
        Some((text, question.stream))
    }

    pub(super) fn open(&self) -> usize {
        self.pending.len()
    }
}

fn question_text(number: u64, request: &Request, revision: Revision) -> Bytes {
    let mut params = Edit::of(&request.params);
    params.remove_meta("progressToken").remove("task");
    if revision < Revision::V2025_11_25 {
        params.remove("mode");
    }
    let mut text = Vec::with_capacity(request.params.as_bytes().len() + 32);
    params.write(&mut text);
    message::request(number, &request.method, &text).into()
}
