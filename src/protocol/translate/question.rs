//! A server's question as the client it is for may see it, and the client's answer as the server may (S-SAMP, S-ELIC).
//!
//! Always: what the client did not declare is not put to it; what it can understand keeps its bytes; who asks is said by
//! the gateway and not by the server; identifiers of one hop stay on it. Pure: new identifiers come in as a function.
//! Not here: whom a question is for, how long and how often it may be asked (`upstream::questions`, `session`).

mod answer;
mod elicitation;
mod inside;
mod sampling;
#[cfg(test)]
mod tests;
mod url_required;

use crate::protocol::capability::ClientCapabilities;
use crate::protocol::code::{INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::{Answer, RequestId};
use crate::protocol::json::{Object, quote};
use crate::protocol::splice::Edit;
use crate::protocol::task::{RELATED_TASK, related};

pub use answer::{Expecting, answer, is_answer};
pub use inside::{NotPut, parameters, puttable, without_context};
pub use url_required::{Page, UrlsNeeded, pages_required, url_required, urls_needed};

/// The server that asks, as its settings present it.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Its name for people.
    pub title: String,
    /// Whether messages for people begin with that name.
    pub title_in_message: bool,
    /// Whether it may ask for roots.
    pub roots: bool,
    /// Whether it may ask the client's model.
    pub sampling: bool,
    /// Whether it may ask the person.
    pub elicitation: bool,
    /// Whether it may have what else the client's conversation holds.
    pub context: bool,
}

/// One question on its way.
#[derive(Debug)]
pub struct Asking<'a> {
    /// Who asks.
    pub asker: &'a Asker,
    /// The revision of the client.
    pub revision: Revision,
    /// What the client declared.
    pub capabilities: &'a ClientCapabilities,
    /// The gateway's progress token, for questions that came with one.
    pub token: u64,
    /// The task that it belongs to, by the id this client knows; only where questions go out as requests (S-TASK-16).
    pub task: Option<&'a str>,
}

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is put to the client with these parameters.
    Put(Vec<u8>),
    /// The server is refused, with this code and text.
    Refused(i64, &'static str),
    /// The server is answered with this result, and nobody is asked.
    Answered(&'static [u8]),
}

/// Gives the identifier by which the client will know the elicitation that the server calls so; `None` when there are no
/// random bits to make it of.
pub type Mint<'m> = dyn FnMut(&str) -> Option<String> + 'm;

/// What says who asks.
pub(crate) const SERVER_KEY: &str = "switchyard/server";

const NOT_DECLARED: Asked = Asked::Refused(METHOD_NOT_FOUND, "the client did not declare this capability");
const NOT_ALLOWED: Asked = Asked::Refused(METHOD_NOT_FOUND, "this server may not ask for that here");

impl Asking<'_> {
    /// Whether the client offered to be asked this, and the server may ask it; else what becomes of the question.
    pub fn permitted(&self, method: &str) -> Result<(), Asked> {
        let (may, declared) = match method {
            "roots/list" => (self.asker.roots, self.capabilities.roots()),
            "sampling/createMessage" => (self.asker.sampling, self.capabilities.sampling()),
            "elicitation/create" => (self.asker.elicitation, self.capabilities.elicitation()),
            _ => (true, self.capabilities.answers_about_tasks(method)),
        };
        match (declared, may) {
            (false, _) => Err(NOT_DECLARED),
            (true, false) => Err(NOT_ALLOWED),
            (true, true) => Ok(()),
        }
    }

    /// The question as this client may see it.
    pub fn question(&self, method: &str, params: &Object, mint: &mut Mint<'_>) -> Asked {
        if let Err(instead) = self.permitted(method) {
            return instead;
        }
        let mut edit = Edit::of(params);
        edit.remove_meta(RELATED_TASK);
        // Who lets a server wish for a task has seen to it that both know what that is (S-TASK-24).
        if !self.capabilities.hosts_tasks_of(method) {
            edit.remove("task");
        }
        if let Some(task) = self.task {
            edit.set_meta(RELATED_TASK, related(task).into_bytes());
        }
        // Who answers with another request has no stream for progress.
        if progress_token(params).is_some() && self.revision.era() == Era::Handshake {
            edit.set_meta("progressToken", self.token.to_string().into_bytes());
        } else {
            edit.remove_meta("progressToken");
        }
        let adapted = match method {
            "sampling/createMessage" => self.sampling(params, &mut edit),
            "elicitation/create" => self.elicitation(params, &mut edit, mint),
            _ => Ok(()),
        };
        match adapted {
            Ok(()) => {
                let mut text = Vec::with_capacity(params.as_bytes().len() + 128);
                edit.write(&mut text);
                Asked::Put(text)
            }
            Err(instead) => instead,
        }
    }
}

/// Whether the person agreed to what an elicitation asks.
pub fn is_accepted(answer: &Answer) -> bool {
    matches!(answer, Answer::Result(result) if result.text("action").as_deref() == Some("accept"))
}

/// The server's own progress token, raw; what is neither string nor integer is none (S-PROG-01).
pub fn progress_token(params: &Object) -> Option<RequestId> {
    let raw = params.meta("progressToken")?;
    RequestId::from_raw(bytes::Bytes::copy_from_slice(raw))
}

impl Asker {
    /// Says who asks (S-ELIC-10).
    fn mark(&self, edit: &mut Edit<'_>) {
        edit.set_meta(SERVER_KEY, quote(&self.title).into_bytes());
    }

    fn mark_message(&self, message: &str, edit: &mut Edit<'_>) {
        if self.title_in_message {
            edit.set_text("message", &format!("[{}] {message}", self.title));
        }
    }
}

fn invalid(text: &'static str) -> Asked {
    Asked::Refused(INVALID_PARAMS, text)
}

fn written(edit: &Edit<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    edit.write(&mut text);
    text
}
