//! The rounds of a call whose upstream asks inside results, for a client that is asked by requests (era-bridge §4.2).
//!
//! Always: the client's one request covers all rounds; its upstream gets the same call again, its own keys answered and its
//! own state as it gave it; what a person takes to answer does not count as the upstream's time; rounds and time end. Nothing
//! of it is kept beyond the request. Not here: what a client may be shown (`session`), clients that make the rounds
//! themselves (`downstream::input_required`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::pages_visited::PagesVisited;
use super::{Call, Failure, GivenInput, Outcome, Switchboard};
use crate::config::bounds::Bounds;
use crate::names::UpstreamName;
use crate::protocol::era::{NEWEST_STATELESS, Revision};
use crate::protocol::frame::{Answer, Request, RequestId};
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::method::Method;
use crate::protocol::task::without_task;
use crate::protocol::translate::question::{Expecting, answer, is_accepted, parameters};
use crate::upstream::call::ClientPort;
use crate::upstream::error::UpstreamError;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::input::{Input, InputRequired};
use crate::upstream::messages::{AskClient, QuestionRefused};
use crate::upstream::put_question::PutQuestion;

/// Wait before an upstream that is not ready yet is asked again: at first, and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(10);

const CANCEL: &str = r#"{"action":"cancel"}"#;
const ACCEPT: &str = r#"{"action":"accept"}"#;

/// What bounds them.
#[derive(Debug)]
pub struct RoundRules {
    most: u32,
    /// How long a client may be silent.
    wait: Duration,
    /// The upstream's time over all rounds, pauses included.
    pub(super) upstream: Duration,
    /// A client's time for one question however much it tells of progress.
    maximum: Duration,
}

impl RoundRules {
    /// By these bounds.
    pub fn of(bounds: &Bounds) -> Self {
        RoundRules {
            most: u32::try_from(bounds.input_rounds).unwrap_or(u32::MAX),
            wait: bounds.input_timeout,
            upstream: bounds.call_maximum,
            maximum: bounds.input_timeout.max(bounds.call_maximum),
        }
    }
}

impl Switchboard {
    /// Asks the client, calls again, and so on until there is an answer.
    pub async fn make_rounds(
        &self,
        method: Method,
        call: &Call,
        revision: Revision,
        upstream: UpstreamName,
        mut asked: Box<InputRequired>,
    ) -> Result<Outcome, Failure> {
        let (Some(port), Some(handle)) = (&call.client.port, self.upstreams.get(&upstream)) else {
            return Err(Failure::NeedsInput { upstream, asked });
        };
        let asking =
            Asking { rules: &self.rounds, call, port, upstream: handle, pages: PagesVisited::default() };
        let (mut round, mut waited, mut again_after) = (0, Duration::ZERO, AGAIN_AFTER);
        let failed = |error| Failure::Upstream { upstream: upstream.clone(), error };
        loop {
            if asking.has_news(&asked) {
                round += 1;
                again_after = AGAIN_AFTER;
                if round > self.rounds.most {
                    let why = format!("it asked for input more than {} times", self.rounds.most);
                    return Err(failed(UpstreamError::protocol(why)));
                }
            } else {
                // It only wants to be asked again, or the person is not done with its page yet.
                let pause = again_after.min(self.rounds.upstream.saturating_sub(waited));
                tokio::time::sleep(pause).await;
                waited += pause;
                again_after = (again_after * 2).min(AGAIN_AFTER_AT_MOST);
            }
            if waited >= self.rounds.upstream {
                return Err(failed(UpstreamError::Timeout(waited)));
            }
            let responses = asking.responses(&asked).await?;
            let input = Arc::new(Input { responses, state: asked.state.clone() });
            let again = call.with_input(GivenInput { upstream: Some(upstream.clone()), input, round });
            let started = Instant::now();
            let ended = self.story(method, &again, revision).await;
            waited += started.elapsed();
            match ended {
                Err(Failure::NeedsInput { asked: next, .. }) => {
                    asking.pages.left_behind(port, &upstream, Some(&next.requests)).await;
                    asked = next;
                }
                ended => {
                    asking.pages.left_behind(port, &upstream, None).await;
                    return ended;
                }
            }
        }
    }
}

/// Questions of one call's upstream, on their way to its client.
pub(super) struct Asking<'a> {
    pub(super) rules: &'a RoundRules,
    pub(super) call: &'a Call,
    pub(super) port: &'a ClientPort,
    pub(super) upstream: &'a UpstreamHandle,
    pub(super) pages: PagesVisited,
}

impl Asking<'_> {
    /// Whether there is anything that nobody was asked yet.
    fn has_news(&self, asked: &InputRequired) -> bool {
        asked.requests.iter().any(|(_, entry)| !self.pages.is_agreed_to(entry))
    }

    /// `inputResponses` for exactly the keys that were asked for; `None` where nothing was.
    async fn responses(&self, asked: &InputRequired) -> Result<Option<bytes::Bytes>, Failure> {
        if asked.requests.is_empty() {
            return Ok(None);
        }
        let answers = try_join_all(asked.requests.iter().map(|(key, entry)| async move {
            let answer = self.response(&key, entry).await?;
            Ok::<_, Failure>((key, entry, answer))
        }))
        .await?;
        let mut members = Vec::with_capacity(answers.len());
        let mut agreed = Vec::new();
        for (key, entry, Response { text, accepted }) in &answers {
            members.push(format!("{}:{text}", quote(key)));
            if *accepted {
                agreed.push(*entry);
            }
        }
        for entry in agreed {
            self.pages.agreed_to(entry);
        }
        Ok(Some(format!("{{{}}}", members.join(",")).into()))
    }

    /// What the client answers to one of them, or what stands for an answer where it gives none.
    pub(super) async fn response(&self, key: &str, entry: &[u8]) -> Result<Response, Failure> {
        if self.pages.is_agreed_to(entry) {
            return Ok(Response { text: ACCEPT.to_owned(), accepted: true });
        }
        let faulty = || self.failed("it asks for input in a form that is none");
        let entry =
            Object::parse(bytes::Bytes::copy_from_slice(entry), Limits::default()).map_err(|_| faulty())?;
        let method = entry.text("method").ok_or_else(faulty)?.into_owned();
        let params = parameters(&entry).ok_or_else(faulty)?;
        let params = without_task(&self.pages.named(params).ok_or_else(faulty)?);
        let expecting = Expecting::of(&method, &params);
        let is_prompt = &*method == "elicitation/create";
        let request = Request { id: RequestId::text(key), method: method.into(), params };
        let asked = AskClient {
            upstream: self.upstream.name().clone(),
            asker: Arc::clone(self.upstream.asker()),
            per_minute: self.upstream.question_rate(),
            request,
            stream: self.call.events.clone(),
            otherwise: self.call.events.clone(),
            task: None,
        };
        let put = match PutQuestion::put(self.port, asked).await {
            Ok(put) => put,
            Err(QuestionRefused::Answered(result)) => {
                return Ok(Response::plain(String::from_utf8_lossy(result).into_owned()));
            }
            Err(QuestionRefused::Refused(_, why)) => return Err(self.refused(why)),
            Err(QuestionRefused::TooMany | QuestionRefused::TooOften | QuestionRefused::Gone) => {
                return self.unanswered(is_prompt);
            }
        };
        match put.answer(self.rules.wait, self.rules.maximum, |_| true).await {
            Some(given @ Answer::Result(_)) => {
                let accepted = is_accepted(&given) && expecting == Expecting::Visit;
                let Answer::Result(result) = given else { return self.unanswered(is_prompt) };
                match answer(expecting, NEWEST_STATELESS, &result) {
                    Ok(text) => Ok(Response { text: String::from_utf8_lossy(&text).into_owned(), accepted }),
                    Err((_, why)) => Err(self.refused(why)),
                }
            }
            Some(Answer::Error(_)) | None => self.unanswered(is_prompt),
        }
    }

    /// Nobody answered, or with an error, for which there is no place in what upstreams are told (era-bridge §9.3).
    fn unanswered(&self, is_prompt: bool) -> Result<Response, Failure> {
        if is_prompt {
            return Ok(Response::plain(CANCEL.to_owned()));
        }
        Err(self.refused("the client declined"))
    }

    fn refused(&self, why: &'static str) -> Failure {
        Failure::InputRefused { upstream: self.upstream.name().clone(), why }
    }

    pub(super) fn failed(&self, why: &'static str) -> Failure {
        Failure::Upstream { upstream: self.upstream.name().clone(), error: UpstreamError::protocol(why) }
    }
}

/// An answer to one of them.
pub(super) struct Response {
    /// The result object.
    pub(super) text: String,
    /// Whether a person agreed to visit a page.
    pub(super) accepted: bool,
}

impl Response {
    fn plain(text: String) -> Self {
        Response { text, accepted: false }
    }
}
