//! What is kept of one stream: events that wait for a reader, and events that were taken but may be asked for again.
//!
//! Always: what waits is bounded in bytes; what merely passes gives way to what lasts, older to newer; an answer always
//! finds a place. What mattered and is gone is remembered as lost, and who asked a question that is gone can be told. Not here: readers and wake-ups (`stream`), budgets of
//! sessions (`streams`).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::store::event_log::{EventLog, LoggedEvent, MemoryLog, Weight};

/// Passing events that wait on a stream which nobody reads.
const UNATTENDED: usize = 64;
/// Questions remembered that are gone: as many as a session may have open.
const LOST_QUESTIONS: usize = 64;

#[derive(Debug)]
pub(super) struct Backlog {
    log: Box<dyn EventLog>,
    /// Number of the last event that a reader took.
    taken: u64,
    passing: Waiting,
    lasting: Waiting,
    answers: Waiting,
    /// The newest event that mattered and is gone though it may not have arrived.
    lost: u64,
    /// As `lost`, of answers.
    lost_answer: u64,
    /// The newest questions that were taken, may not have arrived, and are gone; and who asked them.
    lost_questions: VecDeque<(u64, CancellationToken)>,
}

/// What no reader took yet.
#[derive(Debug, Default)]
struct Waiting {
    events: usize,
    bytes: usize,
}

impl Waiting {
    fn add(&mut self, text: &Bytes) {
        self.events += 1;
        self.bytes += text.len();
    }

    fn remove(&mut self, text: &Bytes) {
        self.events -= 1;
        self.bytes -= text.len();
    }
}

impl Default for Backlog {
    fn default() -> Self {
        Backlog {
            log: Box::<MemoryLog>::default(),
            taken: 0,
            passing: Waiting::default(),
            lasting: Waiting::default(),
            answers: Waiting::default(),
            lost: 0,
            lost_answer: 0,
            lost_questions: VecDeque::new(),
        }
    }
}

impl Backlog {
    /// Keeps an event, if it finds a place within `limit` bytes. One that lasts always does while no other waits, however
    /// large it is: a question may hold a picture.
    pub(super) fn push(&mut self, event: LoggedEvent, limit: usize, attended: bool) -> bool {
        if !self.make_room(event.text.len(), event.weight, limit, attended) {
            return false;
        }
        self.waiting(event.weight).add(&event.text);
        self.log.append(event);
        true
    }

    fn make_room(&mut self, length: usize, weight: Weight, limit: usize, attended: bool) -> bool {
        let fits = |backlog: &Backlog| {
            let crowded = weight == Weight::Passing && !attended && backlog.passing.events >= UNATTENDED;
            let within = backlog.passing.bytes + backlog.lasting.bytes + length <= limit;
            let alone = weight == Weight::Lasting && backlog.lasting.events == 0;
            !crowded && (within || (alone && backlog.passing.events == 0))
        };
        if weight == Weight::Answer {
            return true;
        }
        while !fits(self) {
            // The newest of what merely passes tells enough: older ones give way.
            if !self.forget_oldest_passing() {
                return false;
            }
        }
        true
    }

    /// The next event after `position`.
    pub(super) fn take_after(&mut self, position: u64) -> Option<(u64, Bytes)> {
        let (number, event) = self.log.after(position)?;
        if number > self.taken {
            self.taken = number;
            self.waiting(event.weight).remove(&event.text);
        }
        Some((number, event.text))
    }

    fn waiting(&mut self, weight: Weight) -> &mut Waiting {
        match weight {
            Weight::Passing => &mut self.passing,
            Weight::Lasting => &mut self.lasting,
            Weight::Answer => &mut self.answers,
        }
    }

    /// Keeps at most `keep` bytes of what was taken, the newest.
    pub(super) fn trim(&mut self, keep: usize) {
        while self.bytes() - self.waiting_bytes() > keep && self.forget_taken(|_| true) {}
    }

    /// Keeps nothing of what was taken that is older than `age`.
    pub(super) fn forget_older(&mut self, age: Duration) {
        while self.forget_taken(|event| event.at.elapsed() >= age) {}
    }

    /// Forgets the oldest event that was taken, if there is one and it may go.
    fn forget_taken(&mut self, may_go: impl Fn(&LoggedEvent) -> bool) -> bool {
        let oldest = self.log.after(0).filter(|(number, event)| *number <= self.taken && may_go(event));
        let Some((number, event)) = oldest else { return false };
        self.note_loss(number, event.weight, event.asker);
        self.log.forget_first();
        true
    }

    /// Forgets what waits and merely passes.
    pub(super) fn forget_passing(&mut self) {
        while self.forget_oldest_passing() {}
    }

    fn forget_oldest_passing(&mut self) -> bool {
        let Some(gone) = self.log.forget_passing(self.taken) else { return false };
        self.passing.remove(&gone.text);
        true
    }

    /// Lets go of the oldest until no more than `limit` bytes are kept: of what was taken, of what merely passes, of all.
    pub(super) fn fit(&mut self, limit: usize) {
        while self.bytes() > limit && self.forget_taken(|_| true) {}
        while self.bytes() > limit && self.forget_oldest_passing() {}
        while self.bytes() > limit && self.forget_oldest() {}
    }

    /// Lets go of at least so many bytes of what was taken, if there are so many.
    pub(super) fn shed(&mut self, bytes: usize) {
        let limit = self.bytes().saturating_sub(bytes);
        while self.bytes() > limit && self.forget_taken(|_| true) {}
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        while self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((number, event)) = self.log.forget_first() else { return false };
        if number > self.taken {
            self.waiting(event.weight).remove(&event.text);
        }
        self.note_loss(number, event.weight, event.asker);
        true
    }

    fn note_loss(&mut self, number: u64, weight: Weight, asker: Option<CancellationToken>) {
        if weight != Weight::Passing {
            self.lost = self.lost.max(number);
        }
        if weight == Weight::Answer {
            self.lost_answer = self.lost_answer.max(number);
        }
        match asker {
            Some(asker) if number > self.taken => asker.cancel(),
            Some(asker) => {
                if self.lost_questions.len() >= LOST_QUESTIONS {
                    self.lost_questions.pop_front();
                }
                self.lost_questions.push_back((number, asker));
            }
            None => {}
        }
    }

    /// A client has got no further than `position`: who asked what it can no longer be given learns that.
    pub(super) fn tell_lost_since(&mut self, position: u64) {
        while let Some((_, asker)) = self.lost_questions.pop_back_if(|(number, _)| *number > position) {
            asker.cancel();
        }
    }

    /// Whether something that mattered after `position` is gone.
    pub(super) fn has_lost_since(&self, position: u64) -> bool {
        self.lost > position
    }

    /// Whether an answer after `position` is gone.
    pub(super) fn has_lost_answer_since(&self, position: u64) -> bool {
        self.lost_answer > position
    }

    /// Number of the last event that a reader took.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Number of the newest event.
    pub(super) fn last(&self) -> u64 {
        self.log.last()
    }

    /// Bytes kept.
    pub(super) fn bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Bytes of what no reader took yet.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_before_answers() + self.answers.bytes
    }

    /// The same without answers.
    pub(super) fn waiting_before_answers(&self) -> usize {
        self.passing.bytes + self.lasting.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 10;

    fn push(backlog: &mut Backlog, text: &'static str, weight: Weight) -> bool {
        backlog.push(LoggedEvent::new(Bytes::from_static(text.as_bytes()), weight), LIMIT, true)
    }

    fn read(backlog: &mut Backlog) -> Vec<Bytes> {
        let mut position = backlog.taken();
        std::iter::from_fn(|| {
            let (number, text) = backlog.take_after(position)?;
            position = number;
            Some(text)
        })
        .collect()
    }

    #[test]
    fn s_https_17_what_waits_is_bounded_and_what_lasts_outlasts_what_passes() {
        let mut backlog = Backlog::default();
        for _ in 0..100 {
            assert!(push(&mut backlog, "passes", Weight::Passing), "older ones give way");
        }
        assert!(push(&mut backlog, "question", Weight::Lasting), "progress gives way");
        assert!(!push(&mut backlog, "another", Weight::Lasting), "a slow reader is not waited for");
        assert!(!push(&mut backlog, "passes", Weight::Passing), "what lasts gives way to nothing");
        assert!(push(&mut backlog, "a long answer", Weight::Answer), "always room");
        assert_eq!(read(&mut backlog), ["question", "a long answer"]);
        assert_eq!(backlog.waiting_bytes(), 0);
    }

    #[test]
    fn s_samp_05_a_question_with_a_picture_finds_a_place_and_answers_that_wait_are_in_nobody_s_way() {
        let mut backlog = Backlog::default();
        assert!(push(&mut backlog, "an answer that nobody reads", Weight::Answer));
        assert!(push(&mut backlog, "passes", Weight::Passing));
        assert!(push(&mut backlog, "a question with a large picture", Weight::Lasting));
        assert!(!push(&mut backlog, "more", Weight::Lasting));
        assert_eq!(
            read(&mut backlog),
            ["an answer that nobody reads", "a question with a large picture"],
            "in the order in which they were said"
        );
    }

    #[test]
    fn s_resum_05_what_is_gone_is_known_to_be_lost() {
        let mut backlog = Backlog::default();
        push(&mut backlog, "question", Weight::Lasting);
        push(&mut backlog, "answer", Weight::Answer);
        assert_eq!(read(&mut backlog).len(), 2);
        backlog.trim(8);
        assert!(backlog.has_lost_since(0) && !backlog.has_lost_since(1), "the question, which was first");
        assert!(!backlog.has_lost_answer_since(0), "the answer is there");
        backlog.forget_older(Duration::ZERO);
        assert!(backlog.has_lost_answer_since(1) && !backlog.has_lost_answer_since(2));
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn s_resum_05_nobody_s_stream_keeps_the_newest_of_what_passes() {
        let mut backlog = Backlog::default();
        for number in 0..1000_u32 {
            let text = Bytes::from(number.to_string());
            assert!(backlog.push(LoggedEvent::new(text, Weight::Passing), 1 << 20, false));
        }
        let left = read(&mut backlog);
        assert_eq!(left.len(), UNATTENDED);
        assert_eq!(left.last().map(|text| &text[..]), Some(&b"999"[..]));
    }
}
