//! The rest of the story of a task of the core dialect: its questions and its end come by `tasks/result` (S-TASK-11, -17).
//!
//! Always: while that request is open the task is looked at as ever, so that a silent one does not hide an end, nor that the
//! task was forgotten; it is given up only when it is overdue. What is asked for the end of a completed task is never told
//! as its end unless it is a result. Not here: looks, and what follows from them (`story`).

use futures_util::future::LocalBoxFuture;

use super::pace::Refusals;
use super::story::{SENSELESS, Story};
use crate::dispatch::Failure;
use crate::protocol::code::INVALID_PARAMS;
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::task::{Status, TaskFacts};
use crate::upstream::error::UpstreamError;

type Answered = Result<Answer, UpstreamError>;

impl Story<'_> {
    /// `tasks/result` answers when the task is over, and carries what it asks until then.
    pub(super) async fn core(&mut self, mut facts: TaskFacts) -> Result<Answer, Failure> {
        // One that would not wait for the end is asked at the end alone.
        let mut waits = true;
        let mut refusals = Refusals::default();
        let mut open: Option<LocalBoxFuture<'static, Answered>> = None;
        loop {
            self.tell(&facts);
            let is_over = facts.status.is_terminal();
            let is_wanted = is_over || (waits && facts.status == Status::InputRequired);
            if open.is_none() && is_wanted && refusals.are_past() {
                open = Some(self.followed.result(self.permit()));
            }
            let answered = match &mut open {
                None => {
                    facts = self.next_facts().await?;
                    continue;
                }
                Some(result) if is_over => {
                    let patience = self.followed.upstream().settings().timeout;
                    let late = Err(UpstreamError::Timeout(patience));
                    tokio::time::timeout(patience, result).await.unwrap_or(late)
                }
                Some(result) => tokio::select! {
                    biased;
                    answered = result => answered,
                    next = self.next_facts() => {
                        facts = next?;
                        continue;
                    }
                },
            };
            open = None;
            match (facts.status, answered) {
                (_, Ok(Answer::Result(result))) => return Ok(self.over(Answer::Result(result))),
                (Status::Failed, Ok(error)) => return Ok(self.over(error)),
                (Status::Cancelled, Ok(Answer::Error(error))) => {
                    self.followed.is_over();
                    let upstream = self.followed.upstream().name().clone();
                    return Err(Failure::TaskCancelled { upstream, said: Some(Box::new(error)) });
                }
                (Status::Completed, Ok(Answer::Error(error))) => self.withheld(&error, &mut refusals)?,
                // An error of the task's, or of the request for it: its state tells.
                (Status::Working | Status::InputRequired, Ok(Answer::Error(_))) => waits = false,
                (_, Err(error)) => self.failed(error)?,
            }
            facts = self.next_facts().await?;
        }
    }

    /// The task was completed, so that this is no error of its own.
    fn withheld(&mut self, error: &ErrorObject, refusals: &mut Refusals) -> Result<(), Failure> {
        if error.code == INVALID_PARAMS {
            self.followed.is_over();
            return Err(self.lost("it no longer knows the result of the task"));
        }
        if refusals.another(&self.pace) >= SENSELESS {
            self.followed.is_over();
            let why = format!("its task is completed, and it does not give the result: {}", error.message());
            return Err(self.gave_up(UpstreamError::protocol(why)));
        }
        Ok(())
    }

    /// What is told of it next, or seen.
    async fn next_facts(&mut self) -> Result<TaskFacts, Failure> {
        match self.wait().await {
            Some(told) => Ok(told),
            None => Ok(self.look_again().await?.0),
        }
    }
}
