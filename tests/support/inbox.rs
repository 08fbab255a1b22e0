//! Messages of a connection that carries everything on one way: a pipe, or the stream of the HTTP+SSE transport.
//!
//! Owns their order and which request each answers. Always: a message is judged by the schema of its revision when it is
//! taken; what nobody took stays. Not here: how bytes come.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;
use tokio::sync::mpsc;

use super::schema::{self, Answers};
use super::{HANDSHAKE, patiently};

/// What came and was not taken yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    arriving: mpsc::Receiver<Value>,
    kept: VecDeque<Value>,
    asked: HashMap<String, (String, String)>,
    /// The revision of whatever answers no request.
    pub(crate) revision: String,
}

impl Inbox {
    /// An inbox and where to put messages.
    pub(crate) fn new() -> (mpsc::Sender<Value>, Inbox) {
        let (sender, arriving) = mpsc::channel(65_536);
        let inbox =
            Inbox { arriving, kept: VecDeque::new(), asked: HashMap::new(), revision: HANDSHAKE.to_owned() };
        (sender, inbox)
    }

    /// A request was sent in this revision.
    pub(crate) fn asked(&mut self, id: &Value, method: &str, revision: &str) {
        self.asked.insert(id.to_string(), (method.to_owned(), revision.to_owned()));
    }

    /// The first message that fits, or fail naming what was awaited.
    pub(crate) async fn take(&mut self, awaited: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.kept.iter().position(&fits) {
            return self.kept.remove(at).expect("found above");
        }
        patiently(awaited, async {
            loop {
                let message = self.arriving.recv().await;
                let message =
                    message.unwrap_or_else(|| panic!("the connection ended without {awaited}: {self:#?}"));
                self.judge(&message);
                if fits(&message) {
                    return message;
                }
                self.kept.push_back(message);
            }
        })
        .await
    }

    /// The response to the request with this id.
    pub(crate) async fn response(&mut self, id: &Value) -> Value {
        let fits = |message: &Value| message.get("method").is_none() && message["id"] == *id;
        self.take(&format!("the response to {id}"), fits).await
    }

    /// The next request or notification with this method.
    pub(crate) async fn method(&mut self, method: &str) -> Value {
        self.take(method, |message| message["method"] == method).await
    }

    /// Everything that came and was not taken, to the end of the connection.
    pub(crate) async fn rest(mut self) -> Vec<Value> {
        patiently("the end of the connection", async {
            while let Some(message) = self.arriving.recv().await {
                self.judge(&message);
                self.kept.push_back(message);
            }
        })
        .await;
        self.kept.into()
    }

    fn judge(&self, message: &Value) {
        // A batch is judged by its members; who may get one is told by the story.
        if let Some(members) = message.as_array() {
            return members.iter().for_each(|member| self.judge(member));
        }
        let asked = self.asked.get(&message["id"].to_string()).filter(|_| message.get("method").is_none());
        let (revision, answers) = match asked {
            Some((method, revision)) => (revision, Answers::Method(method)),
            None => (&self.revision, Answers::Unreadable),
        };
        let faults = schema::message_faults(revision, message, answers);
        assert!(faults.is_empty(), "the gateway broke {revision}: {faults:#?}\n{message}");
    }
}
