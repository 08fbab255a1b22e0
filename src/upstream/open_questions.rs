//! Questions of one upstream that wait for a client, by the upstream's own id.
//!
//! Always: an id is open once at a time, and an entry is only ever removed by whoever made it or by the upstream's
//! withdrawal of that id, so that an id that is used again stands for the new question (S-CANC-04). Not here: putting them
//! (`questions`), which calls can have caused them (`calls`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use crate::protocol::frame::RequestId;

/// Questions of one connection that may be on their way to clients.
const OPEN_AT_ONCE: usize = 256;

/// Calls that can have caused a question; nearly always one.
pub(super) type Causes = SmallVec<[u64; 2]>;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct OpenQuestions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    open: HashMap<RequestId, OpenQuestion>,
}

#[derive(Debug)]
struct OpenQuestion {
    /// Tells it from an earlier one of the same id.
    number: u64,
    /// None where no call was under way.
    causes: Causes,
    /// Whether a person is asked, and sees it until it is over.
    is_prompt: bool,
    moot: CancellationToken,
}

/// Why a question is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// One with this id is open.
    Duplicate,
    TooMany,
}

/// A question that was taken on.
#[derive(Debug)]
pub(super) struct Opened {
    number: u64,
    /// Cancelled when no answer is of use any longer.
    pub(super) moot: CancellationToken,
}

impl OpenQuestions {
    /// Keeps a place for the answer.
    pub(super) fn open(&self, id: &RequestId, causes: Causes, is_prompt: bool) -> Result<Opened, NotOpened> {
        let mut table = self.lock();
        if table.open.contains_key(id) {
            return Err(NotOpened::Duplicate);
        }
        if table.open.len() >= OPEN_AT_ONCE {
            return Err(NotOpened::TooMany);
        }
        table.last += 1;
        let (number, moot) = (table.last, CancellationToken::new());
        table.open.insert(id.clone(), OpenQuestion { number, causes, is_prompt, moot: moot.clone() });
        Ok(Opened { number, moot })
    }

    /// Its answer is there; says whether the upstream still waits for it.
    pub(super) fn close(&self, id: &RequestId, question: &Opened) -> bool {
        let mut table = self.lock();
        let is_open = table.open.get(id).is_some_and(|open| open.number == question.number);
        if is_open {
            table.open.remove(id);
        }
        is_open
    }

    /// The upstream wants no answer.
    pub(super) fn withdraw(&self, id: &RequestId) {
        if let Some(question) = self.lock().open.remove(id) {
            question.moot.cancel();
        }
    }

    /// A call is over: what no other can have caused, nobody is to be asked any longer (S-CANC-06). After its answer that
    /// means people: which roots a client has, a server may well ask while a call happens to be under way, and use for
    /// those that follow.
    pub(super) fn call_ended(&self, call: u64, was_answered: bool) {
        for question in self.lock().open.values_mut() {
            let before = question.causes.len();
            question.causes.retain(|cause| *cause != call);
            let was_last = question.causes.is_empty() && before > 0;
            if was_last && (question.is_prompt || !was_answered) {
                question.moot.cancel();
            }
        }
    }

    /// Nobody is there to be answered.
    pub(super) fn end(&self) {
        for (_, question) in self.lock().open.drain() {
            question.moot.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn s_canc_04_an_id_that_is_used_again_stands_for_the_new_question() {
        let questions = OpenQuestions::default();
        let id = RequestId::text("q");
        let old = questions.open(&id, Causes::new(), true).expect("free");
        assert_eq!(questions.open(&id, Causes::new(), true).err(), Some(NotOpened::Duplicate));
        questions.withdraw(&id);
        assert!(old.moot.is_cancelled());
        let new = questions.open(&id, Causes::new(), true).expect("free again");
        assert!(!questions.close(&id, &old), "nobody waits for the old one");
        assert!(!new.moot.is_cancelled() && questions.close(&id, &new));
    }

    #[test]
    fn s_canc_06_a_prompt_ends_with_the_last_call_that_can_have_caused_it() {
        let questions = OpenQuestions::default();
        let open = |id, causes, is_prompt| {
            questions.open(&RequestId::text(id), causes, is_prompt).expect("free").moot
        };
        let prompt = open("prompt", smallvec![1, 2], true);
        let roots = open("roots", smallvec![1, 2], false);
        let by_itself = open("by itself", Causes::new(), true);
        questions.call_ended(1, false);
        assert!(!prompt.is_cancelled() && !roots.is_cancelled(), "it may be of the other");
        questions.call_ended(2, true);
        assert!(prompt.is_cancelled());
        assert!(!roots.is_cancelled() && !by_itself.is_cancelled());
        questions.end();
        assert!(roots.is_cancelled() && by_itself.is_cancelled());
    }
}
