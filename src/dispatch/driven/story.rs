//! One task of an upstream, from one look to the next, until its end.
//!
//! Always: one look in each interval, whatever happens; what the upstream tells by itself takes its place; a connection that
//! fails is waited for, an answer that makes no sense only so often. Not here: how long all of it may take (`super`), the
//! end in the core dialect (`by_result`).

use std::sync::Arc;

use tokio::time::Instant;

use super::followed::{Followed, Looked};
use super::inputs::{TaskInputs, requests};
use super::pace::Pace;
use crate::dispatch::pages_visited::PagesVisited;
use crate::dispatch::rounds::Asking;
use crate::dispatch::task::TaskSink;
use crate::dispatch::{Call, Failure, Switchboard};
use crate::names::UpstreamName;
use crate::policy::Permit;
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Object, string};
use crate::protocol::task::{Dialect, Status, TaskFacts};
use crate::upstream::error::UpstreamError;
use crate::upstream::input::InputRequired;

/// Answers in a row that make no sense, before the task is given up.
pub(super) const SENSELESS: u32 = 5;

/// See the module head.
pub(super) struct Story<'a> {
    pub(super) board: &'a Switchboard,
    pub(super) call: &'a Call,
    /// Who keeps the gateway's record of it, if anybody does.
    pub(super) sink: Option<&'a Arc<dyn TaskSink>>,
    pub(super) followed: Followed,
    pub(super) pace: Pace,
    /// When it was last looked at, or told of itself.
    pub(super) looked: Instant,
}

impl Story<'_> {
    /// Tells it from there; without the object that said so, from the next look on.
    pub(super) async fn run(mut self, facts: TaskFacts, task: Option<Object>) -> Result<Answer, Failure> {
        let (facts, task) = match task {
            Some(task) => (facts, task),
            // What is known is from before.
            None => self.look_again().await?,
        };
        match self.followed.place().dialect() {
            Dialect::Core => self.core(facts).await,
            Dialect::Extension => self.extension(facts, task).await,
        }
    }

    /// The object of a task holds what it asks, and its end.
    async fn extension(&mut self, mut facts: TaskFacts, mut task: Object) -> Result<Answer, Failure> {
        let (board, call) = (self.board, self.call);
        let upstream = self.followed.upstream().clone();
        let asking = call.client.port.as_ref().map(|port| Asking {
            rules: &board.rounds,
            call,
            port,
            upstream: &upstream,
            pages: PagesVisited::default(),
        });
        let mut inputs = asking.as_ref().map(TaskInputs::new);
        loop {
            self.tell(&facts);
            let asked = (facts.status == Status::InputRequired).then(|| requests(&task)).flatten();
            if let Some(asking) = &asking {
                asking.pages.left_behind(asking.port, upstream.name(), asked.as_ref()).await;
            }
            match facts.status {
                Status::Completed => return self.completed(&task),
                Status::Failed => return self.ended_in_error(&task),
                Status::Cancelled => {
                    self.followed.is_over();
                    return Err(Failure::TaskCancelled { upstream: upstream.name().clone(), said: None });
                }
                Status::Working | Status::InputRequired => {}
            }
            match &mut inputs {
                Some(inputs) => inputs.asked(asked.as_ref())?,
                None => nobody_to_ask(upstream.name(), asked)?,
            }
            (facts, task) = self.look_while_asking(inputs.as_mut()).await?;
        }
    }

    /// Waits for the next look, and sends what is answered until then.
    async fn look_while_asking(
        &mut self,
        mut inputs: Option<&mut TaskInputs<'_>>,
    ) -> Result<(TaskFacts, Object), Failure> {
        loop {
            if let Some(inputs) = &mut inputs {
                self.send_answers(inputs).await?;
                let next = Instant::now() + self.pace.pause();
                // An answer brings the next look no closer: one in each interval, whatever happens.
                while let Ok(answered) = tokio::time::timeout_at(next, inputs.answered()).await {
                    answered?;
                    self.send_answers(inputs).await?;
                }
            } else {
                self.wait().await;
            }
            if let Some(seen) = self.look_once().await? {
                return Ok(seen);
            }
        }
    }

    /// What could not be sent is sent with what comes next.
    async fn send_answers(&mut self, inputs: &mut TaskInputs<'_>) -> Result<(), Failure> {
        if self.followed.is_doubtful() {
            return Ok(());
        }
        let Some(responses) = inputs.responses() else { return Ok(()) };
        let refused = match self.followed.update(self.permit(), &responses).await {
            Ok(Answer::Result(_)) => {
                inputs.acknowledged();
                return Ok(());
            }
            Ok(Answer::Error(refused)) => refused,
            Err(error) => return self.failed(error),
        };
        // It has not taken them (S-TX-06), and looks that go well meanwhile do not excuse that.
        if inputs.refusals.another(&self.pace) >= SENSELESS {
            let why = format!("it does not take the answers it asked for: {}", refused.message());
            return Err(self.gave_up(UpstreamError::protocol(why)));
        }
        Ok(())
    }

    pub(super) async fn look_again(&mut self) -> Result<(TaskFacts, Object), Failure> {
        loop {
            if let Some(seen) = self.look_once().await? {
                return Ok(seen);
            }
            self.wait().await;
        }
    }

    /// `None` when the look brought nothing, and another may.
    async fn look_once(&mut self) -> Result<Option<(TaskFacts, Object)>, Failure> {
        // Who gives this look up has looked all the same.
        self.looked = Instant::now();
        if self.followed.place().has_ended()
            && let Err(error) = self.followed.find_again(self.permit()).await
        {
            if let UpstreamError::Lost { .. } = error {
                self.followed.is_over();
                return Err(self.gave_up(error));
            }
            self.failed(error)?;
            return Ok(None);
        }
        match self.followed.look(self.permit()).await {
            Ok(Looked::Seen(facts, task)) => {
                self.seen(&facts);
                Ok(Some((facts, task)))
            }
            Ok(Looked::Forgotten) => {
                self.followed.is_over();
                Err(self.lost("it no longer knows the task"))
            }
            Ok(Looked::Refused(error)) => {
                self.failed(UpstreamError::protocol(format!(
                    "it does not tell of its task: {}",
                    error.message()
                )))?;
                Ok(None)
            }
            Err(error) => {
                self.failed(error)?;
                Ok(None)
            }
        }
    }

    fn seen(&mut self, facts: &TaskFacts) {
        self.pace.seen(facts.poll_ms);
        self.followed.known(facts);
        self.looked = Instant::now();
    }

    /// A request brought nothing; an error when there is no use in another.
    pub(super) fn failed(&mut self, error: UpstreamError) -> Result<(), Failure> {
        self.pace.failed();
        self.followed.may_be_lost();
        self.looked = Instant::now();
        let is_final = match &error {
            UpstreamError::TooLarge | UpstreamError::BeyondLimits { .. } | UpstreamError::NotOffered(_) => {
                true
            }
            UpstreamError::Protocol { .. } | UpstreamError::HeadersRefused => {
                self.pace.failures() >= SENSELESS
            }
            _ => false,
        };
        if is_final {
            return Err(self.gave_up(error));
        }
        let upstream = self.followed.upstream().name();
        tracing::debug!(%upstream, %error, "a task could not be looked at");
        Ok(())
    }

    /// Until the next look; what the upstream tells by itself takes its place (S-TASK-18).
    pub(super) async fn wait(&mut self) -> Option<TaskFacts> {
        let next = self.looked + self.pace.pause();
        let place = self.followed.place();
        if !place.has_ended()
            && let Ok(Some(facts)) = tokio::time::timeout_at(next, place.changed()).await
            && self.followed.is_told_by(&facts)
        {
            self.seen(&facts);
            return Some(facts);
        }
        // The connection may have ended meanwhile, which is no reason to hurry.
        tokio::time::sleep_until(next).await;
        None
    }

    fn completed(&mut self, task: &Object) -> Result<Answer, Failure> {
        let Some(result) = task.object("result") else {
            return Err(self.gave_up(UpstreamError::protocol("its task is completed and has no result")));
        };
        if let Some(kind) = result.get("resultType").filter(|kind| *kind != b"\"complete\"") {
            let kind = string(kind).unwrap_or_default();
            let why = format!("the result of its task has the type {kind}");
            return Err(self.gave_up(UpstreamError::protocol(why)));
        }
        Ok(self.over(Answer::Result(result)))
    }

    fn ended_in_error(&mut self, task: &Object) -> Result<Answer, Failure> {
        let error = task.object("error").and_then(|object| {
            let code = std::str::from_utf8(object.get("code")?).ok()?.parse().ok()?;
            Some(ErrorObject { code, object })
        });
        match error {
            Some(error) => Ok(self.over(Answer::Error(error))),
            None => Err(self.gave_up(UpstreamError::protocol("its task failed and has no error"))),
        }
    }

    pub(super) fn over(&mut self, answer: Answer) -> Answer {
        self.followed.is_over();
        answer
    }

    pub(super) fn gave_up(&self, error: UpstreamError) -> Failure {
        Failure::Upstream { upstream: self.followed.upstream().name().clone(), error }
    }

    pub(super) fn lost(&self, why: &str) -> Failure {
        self.gave_up(UpstreamError::lost(why))
    }

    pub(super) fn tell(&self, facts: &TaskFacts) {
        if let Some(sink) = self.sink {
            sink.status(facts);
        }
    }

    pub(super) fn permit(&self) -> Permit {
        self.board.policy.authorise(self.call.client.principal, self.followed.upstream().name())
    }
}

/// The caller said that it can be asked nothing, and so the upstream was told (era-bridge §9.4).
fn nobody_to_ask(upstream: &UpstreamName, asked: Option<Object>) -> Result<(), Failure> {
    match asked.filter(|requests| !requests.is_empty()) {
        None => Ok(()),
        Some(requests) => {
            let asked = Box::new(InputRequired { result: Object::empty(), requests, state: None });
            Err(Failure::NeedsInput { upstream: upstream.clone(), asked })
        }
    }
}
