//! The rounds of one call that waits for its client, as a plain state machine.
//!
//! Always: an answer of the wrong shape changes nothing; answers of a round are taken once, and a client that repeats a round
//! is told how far the call is instead (S-MRTR-07); a call that has ended says so to whoever comes next. Not here: time,
//! who is attached (`actor`), the questions themselves (`inputs`).

use std::sync::Arc;

use bytes::Bytes;

use super::inputs::Inputs;
use super::running::Ended;
use crate::dispatch::Failure;
use crate::names::UpstreamName;
use crate::protocol::json::{Limits, Object};
use crate::protocol::translate::question::is_answer;
use crate::upstream::error::UpstreamError;

/// What a client is asked at once.
#[derive(Debug, Clone)]
pub struct Round {
    /// Counted from 1.
    pub number: u32,
    /// `inputRequests`, never empty.
    pub requests: Bytes,
}

/// What a client that came back is told.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per request, and taken apart at once")]
pub enum Reply {
    /// The call is over.
    Ended(Ended),
    /// It asks more, or still.
    Asks(Round),
    /// An answer does not have the shape of its question; nothing was taken.
    Malformed(&'static str),
    /// The call came to an end that nobody knows, while its client was away.
    Lost,
    /// Its time was over before its client came.
    Expired,
    /// Another request waits for the call now.
    TakenOver,
    /// The server asked oftener than one call may; the call was cancelled.
    TooManyRounds(Option<UpstreamName>),
}

/// What is to be done for a client that came back.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per request, and taken apart at once")]
pub(super) enum Next {
    /// It is told this now.
    Tell(Reply),
    /// It is told when the call has something to tell.
    Wait,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct State {
    inputs: Arc<Inputs>,
    /// Rounds that one call may have.
    limit: usize,
    /// The newest that its client was told, counted on from those before the call was made. Questions that were shown
    /// before, and not answered, make none: that is their client's doing.
    round: u32,
    /// Its questions.
    shown: Vec<u64>,
    /// The newest question that its client was told.
    newest: u64,
    /// Whether its answers were taken.
    is_taken: bool,
    /// The end, until somebody fetches it.
    ended: Option<Ended>,
}

impl State {
    /// After so many rounds of the same call.
    pub(super) fn new(inputs: Arc<Inputs>, limit: usize, round: u32) -> Self {
        State { inputs, limit, round, shown: Vec::new(), newest: 0, is_taken: true, ended: None }
    }

    /// Everything that is asked now, as another round if anything of it is new; `None` when nothing is asked.
    pub(super) fn begin_round(&mut self) -> Option<Reply> {
        let (shown, requests) = self.inputs.requests(None)?;
        let newest = shown.iter().copied().max().unwrap_or(0);
        if newest > self.newest {
            if usize::try_from(self.round).unwrap_or(usize::MAX) >= self.limit {
                return Some(Reply::TooManyRounds(self.inputs.asker()));
            }
            (self.round, self.newest) = (self.round + 1, newest);
        }
        (self.shown, self.is_taken) = (shown, false);
        Some(Reply::Asks(Round { number: self.round, requests }))
    }

    /// A client came with answers to the questions of that round.
    pub(super) fn answered(&mut self, round: u32, responses: Option<&Object>) -> Next {
        if let Some(ended) = self.ended.take() {
            // Which roots there are is of use to those that follow.
            let answers = if round == self.round { self.read(responses) } else { Ok(Vec::new()) };
            for (number, answer) in answers.unwrap_or_default() {
                self.inputs.answer(number, answer);
            }
            return Next::Tell(reply_of(ended));
        }
        if round != self.round {
            // An earlier one again: it is told what is asked now, if anything is.
            return self.ask_again();
        }
        if self.is_taken {
            return Next::Wait;
        }
        let answers = match self.read(responses) {
            Ok(answers) => answers,
            Err(why) => return Next::Tell(Reply::Malformed(why)),
        };
        for (number, answer) in answers {
            self.inputs.answer(number, answer);
        }
        let misses_some = self.shown.iter().any(|number| self.inputs.expected(*number).is_some());
        self.is_taken = true;
        match misses_some {
            true => self.begin_round().map_or(Next::Wait, Next::Tell),
            false => Next::Wait,
        }
    }

    /// The answers to questions of this round that are still open; everything else in there is ignored (S-MRTR-09).
    fn read(&self, responses: Option<&Object>) -> Result<Vec<(u64, Object)>, &'static str> {
        const MISSHAPEN: &str = "an input response does not have the shape of what was asked for";
        let Some(responses) = responses else { return Ok(Vec::new()) };
        let mut answers = Vec::new();
        for number in &self.shown {
            let Some((key, expecting)) = self.inputs.expected(*number) else { continue };
            let Some(raw) = responses.share(&key) else { continue };
            if !is_answer(expecting, &raw) {
                return Err(MISSHAPEN);
            }
            answers.push((*number, Object::parse(raw, Limits::NONE).map_err(|_| MISSHAPEN)?));
        }
        Ok(answers)
    }

    fn ask_again(&self) -> Next {
        // What came since is asked in the next round.
        match self.inputs.requests(Some(&self.shown)).filter(|_| !self.is_taken) {
            Some((_, requests)) => Next::Tell(Reply::Asks(Round { number: self.round, requests })),
            None => Next::Wait,
        }
    }

    /// Whether anything is asked now.
    pub(super) fn asks(&self) -> bool {
        self.inputs.are_open()
    }

    /// Nobody answers any longer.
    pub(super) fn give_up(&self) {
        self.inputs.close();
    }

    /// The call is over and nobody is there to be told.
    pub(super) fn keep(&mut self, ended: Ended) {
        self.ended = Some(ended);
    }
}

/// An end that came while nobody was attached. A connection that was lost meanwhile has taken the call with it.
fn reply_of(ended: Ended) -> Reply {
    match ended {
        Err(Failure::Upstream { error: UpstreamError::Lost { .. } | UpstreamError::SessionLost, .. }) => {
            Reply::Lost
        }
        other => Reply::Ended(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Outcome;
    use crate::parked::inputs::tests::{FORM, inputs, object, pose};
    use crate::protocol::frame::Answer;

    const ALL: &str = r#"{"roots":{},"elicitation":{}}"#;
    const ROOTS: &str = r#"{"roots":[]}"#;

    fn round(reply: Option<Reply>) -> Round {
        match reply {
            Some(Reply::Asks(round)) => round,
            other => panic!("no round: {other:?}"),
        }
    }

    fn told(next: Next) -> Reply {
        match next {
            Next::Tell(reply) => reply,
            Next::Wait => panic!("nothing is told"),
        }
    }

    fn keys(round: &Round) -> Vec<String> {
        let requests = object(std::str::from_utf8(&round.requests).expect("UTF-8"));
        requests.iter().map(|(key, _)| key.into_owned()).collect()
    }

    fn is_answered(question: &mut crate::upstream::messages::Question) -> bool {
        matches!(question.answer.try_recv(), Ok(Answer::Result(_)))
    }

    #[test]
    fn s_mrtr_09_missing_answers_are_asked_for_again_and_others_are_ignored() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 16, 0);
        assert!(state.begin_round().is_none(), "nothing is asked");
        let mut form = pose(&inputs, "elicitation/create", FORM);
        let mut roots = pose(&inputs, "roots/list", "{}");
        assert_eq!(keys(&round(state.begin_round())), ["elicitation-1", "roots-2"]);
        let some = object(&format!(r#"{{"roots-2":{ROOTS},"roots-9":12345,"other":{{}}}}"#));
        let next = round(Some(told(state.answered(1, Some(&some)))));
        assert_eq!((keys(&next), next.number), (vec!["elicitation-1".to_owned()], 1));
        assert!(is_answered(&mut roots));
        let rest = object(r#"{"elicitation-1":{"action":"decline"}}"#);
        assert!(matches!(state.answered(1, Some(&rest)), Next::Wait));
        assert!(is_answered(&mut form));
    }

    #[test]
    fn s_mrtr_09_a_misshapen_answer_takes_nothing() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 16, 0);
        let mut form = pose(&inputs, "elicitation/create", FORM);
        let mut roots = pose(&inputs, "roots/list", "{}");
        round(state.begin_round());
        for bad in ["12345", "null", r#"{"action":"maybe"}"#, "[]"] {
            let answers = object(&format!(r#"{{"elicitation-1":{bad},"roots-2":{ROOTS}}}"#));
            assert!(matches!(told(state.answered(1, Some(&answers))), Reply::Malformed(_)), "{bad}");
        }
        assert!(!is_answered(&mut roots));
        let good = object(&format!(r#"{{"elicitation-1":{{"action":"cancel"}},"roots-2":{ROOTS}}}"#));
        assert!(matches!(state.answered(1, Some(&good)), Next::Wait));
        assert!(is_answered(&mut form) && is_answered(&mut roots));
    }

    #[test]
    fn s_mrtr_07_a_round_that_comes_again_delivers_nothing() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 16, 0);
        let _first = pose(&inputs, "roots/list", "{}");
        round(state.begin_round());
        let answers = object(&format!(r#"{{"roots-1":{ROOTS},"roots-2":{ROOTS}}}"#));
        assert!(matches!(state.answered(1, Some(&answers)), Next::Wait));
        assert!(matches!(state.answered(1, Some(&answers)), Next::Wait), "it may wait as well");
        let mut second = pose(&inputs, "roots/list", "{}");
        assert_eq!(round(state.begin_round()).number, 2);
        let again = round(Some(told(state.answered(1, Some(&answers)))));
        assert_eq!((again.number, keys(&again)), (2, vec!["roots-2".to_owned()]));
        assert!(!is_answered(&mut second), "it was not asked in that round");
    }

    #[test]
    fn s_mrtr_16_there_is_a_last_round() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 2, 0);
        for number in 1..=2 {
            let _question = pose(&inputs, "roots/list", "{}");
            assert_eq!(round(state.begin_round()).number, number);
            inputs.answer(u64::from(number), object(ROOTS));
        }
        let _question = pose(&inputs, "roots/list", "{}");
        assert!(matches!(state.begin_round(), Some(Reply::TooManyRounds(Some(_)))));
    }

    #[test]
    fn s_mrtr_16_rounds_are_counted_on_and_only_by_what_is_new() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 4, 2);
        let _first = pose(&inputs, "roots/list", "{}");
        assert_eq!(round(state.begin_round()).number, 3);
        for _ in 0..10 {
            let again = round(Some(told(state.answered(3, None))));
            assert_eq!((again.number, keys(&again)), (3, vec!["roots-1".to_owned()]));
        }
        let _second = pose(&inputs, "roots/list", "{}");
        assert_eq!(round(Some(told(state.answered(3, None)))).number, 4);
        let _third = pose(&inputs, "roots/list", "{}");
        assert!(matches!(told(state.answered(4, None)), Reply::TooManyRounds(Some(_))));
    }

    #[test]
    fn s_root_02_roots_that_come_after_the_end_are_delivered() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 16, 0);
        let mut roots = pose(&inputs, "roots/list", "{}");
        round(state.begin_round());
        state.keep(Ok(Outcome::Own(Bytes::from_static(b"{}"))));
        let answers = object(&format!(r#"{{"roots-1":{ROOTS}}}"#));
        assert!(matches!(told(state.answered(1, Some(&answers))), Reply::Ended(Ok(_))));
        assert!(is_answered(&mut roots));
    }

    #[test]
    fn s_mrtr_10_an_end_that_came_meanwhile_is_kept_for_whoever_comes() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 16, 0);
        let _question = pose(&inputs, "roots/list", "{}");
        round(state.begin_round());
        state.keep(Ok(Outcome::Own(Bytes::from_static(b"{}"))));
        let reply = told(state.answered(1, Some(&object(r#"{"roots-1":12345}"#))));
        assert!(matches!(reply, Reply::Ended(Ok(_))), "answers are needed no longer: {reply:?}");
        let lost = UpstreamError::lost("its process ended");
        state.keep(Err(Failure::Upstream { upstream: UpstreamName::new("one"), error: lost }));
        assert!(matches!(told(state.answered(1, None)), Reply::Lost));
    }

    #[test]
    fn s_canc_04_what_was_withdrawn_is_not_missed() {
        let inputs = inputs(ALL);
        let mut state = State::new(Arc::clone(&inputs), 16, 0);
        let question = pose(&inputs, "roots/list", "{}");
        round(state.begin_round());
        crate::upstream::client_port::Reach::withdraw(&inputs.port(), question.number);
        assert!(matches!(state.answered(1, None), Next::Wait));
    }
}
