//! A question put to a client, from its way out to its answer.
//!
//! Always: who waits no longer has withdrawn it, however the wait ended. Not here: what may be asked, and what the answer
//! means.

use std::time::Duration;

use super::call::Activity;
use super::client_port::ClientPort;
use super::messages::{AskClient, Question, QuestionRefused};
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;

/// See the module head. Dropping it withdraws the question.
#[derive(Debug)]
pub struct PutQuestion {
    port: ClientPort,
    question: Question,
    settled: bool,
}

impl PutQuestion {
    /// Puts it.
    pub async fn put(port: &ClientPort, asked: AskClient) -> Result<Self, QuestionRefused> {
        let question = port.ask(asked).await?;
        Ok(PutQuestion { port: port.clone(), question, settled: false })
    }

    /// Waits for the answer, as long as the client is heard of every `wait`, and at most `maximum`; `None` when there will be
    /// none. `goes_on` says of its progress whether that is a sign of life.
    pub async fn answer(
        mut self,
        wait: Duration,
        maximum: Duration,
        mut goes_on: impl FnMut(&Object) -> bool,
    ) -> Option<Answer> {
        let activity = Activity::starting_now();
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.question.progress.changed() => {
                    let progress = self.question.progress.borrow_and_update().clone();
                    if progress.is_some_and(|progress| goes_on(&progress)) {
                        activity.touch();
                    }
                }
                answer = &mut self.question.answer => {
                    self.settled = answer.is_ok();
                    return answer.ok();
                }
                () = activity.expired(wait, maximum) => return None,
                () = self.question.lost.cancelled() => return None,
            }
        }
    }
}

impl Drop for PutQuestion {
    fn drop(&mut self) {
        if !self.settled {
            self.port.withdraw(self.question.number);
        }
    }
}
