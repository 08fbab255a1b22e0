//! What a task of the extension asks while it runs (S-TX-06), put to its client one question per key.
//!
//! Always: a key is asked once in the life of its task, and answered once; what the upstream asks no longer is withdrawn.
//! Not here: how a client is asked (`rounds`), how answers travel (`super`).

use std::collections::{BTreeMap, HashSet};
use std::future::poll_fn;
use std::task::Poll;

use futures_util::future::{FutureExt as _, LocalBoxFuture};

use super::pace::Refusals;
use crate::dispatch::Failure;
use crate::dispatch::rounds::{Asking, Response};
use crate::protocol::json::{Limits, Object, quote};

/// Keys that one task may ask for in its life.
const KEYS: usize = 1_024;

type Answered = Result<Response, Failure>;

/// See the module head.
pub(super) struct TaskInputs<'a> {
    asking: &'a Asking<'a>,
    /// Every key so far.
    seen: HashSet<String>,
    open: BTreeMap<String, LocalBoxFuture<'a, Answered>>,
    /// Answers that the upstream has not acknowledged, as members.
    given: BTreeMap<String, String>,
    /// How often in a row the upstream did not take them.
    pub(super) refusals: Refusals,
}

impl<'a> TaskInputs<'a> {
    pub(super) fn new(asking: &'a Asking<'a>) -> Self {
        TaskInputs {
            asking,
            seen: HashSet::new(),
            open: BTreeMap::new(),
            given: BTreeMap::new(),
            refusals: Refusals::default(),
        }
    }

    /// The upstream asks this now, and nothing else.
    pub(super) fn asked(&mut self, requests: Option<&Object>) -> Result<(), Failure> {
        let asks = |key: &String| requests.is_some_and(|all| all.get(key).is_some());
        self.open.retain(|key, _| asks(key));
        if self.refusals.are_there() {
            // What it did not take and asks no longer has been settled.
            self.given.retain(|key, _| asks(key));
            if self.given.is_empty() {
                self.refusals = Refusals::default();
            }
        }
        for (key, entry) in requests.into_iter().flat_map(Object::iter) {
            if !self.seen.insert(key.to_string()) {
                continue;
            }
            if self.seen.len() > KEYS {
                return Err(self.asking.failed("it asks for input without end"));
            }
            let (asking, entry, of) = (self.asking, entry.to_vec(), key.to_string());
            let question = async move {
                let response = asking.response(&of, &entry).await?;
                if response.accepted {
                    asking.pages.agreed_to(&entry);
                }
                Ok(response)
            };
            let question = question.boxed_local();
            self.open.insert(key.into_owned(), question);
        }
        Ok(())
    }

    /// Resolves when there is another answer to be sent; fails when one cannot be given (era-bridge §9.3). Dropping the
    /// future loses nothing.
    pub(super) async fn answered(&mut self) -> Result<(), Failure> {
        let TaskInputs { open, given, .. } = self;
        let (key, answer) = poll_fn(|cx| {
            let ready = open.iter_mut().find_map(|(key, question)| match question.poll_unpin(cx) {
                Poll::Ready(answer) => Some((key.clone(), answer)),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        open.remove(&key);
        given.insert(key, answer?.text);
        Ok(())
    }

    /// `inputResponses` of what was not acknowledged yet; `None` when there is nothing, or it is too early for them after a
    /// refusal.
    pub(super) fn responses(&self) -> Option<String> {
        if !self.refusals.are_past() {
            return None;
        }
        let members: Vec<String> =
            self.given.iter().map(|(key, text)| format!("{}:{text}", quote(key))).collect();
        (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
    }

    /// The upstream has taken them.
    pub(super) fn acknowledged(&mut self) {
        self.given.clear();
        self.refusals = Refusals::default();
    }
}

/// What the object of such a task asks.
pub(super) fn requests(task: &Object) -> Option<Object> {
    let raw = task.share("inputRequests")?;
    // What stands twice in it would be read differently by others.
    Object::parse(raw, Limits::default()).ok()
}
