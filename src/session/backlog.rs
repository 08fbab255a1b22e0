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
    /// Number and bytes of the last one that found a place beside all others.
    large: Option<(u64, usize)>,
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
            large: None,
            lost: 0,
            lost_answer: 0,
            lost_questions: VecDeque::new(),
        }
    }
}

impl Backlog {
    /// What `log` holds; up to `taken` a reader took it, and `lost` is what mattered and is gone, `lost_answer` of answers.
    pub(super) fn of(log: Box<dyn EventLog>, taken: u64, lost: u64, lost_answer: u64) -> Self {
        let mut backlog = Backlog { log, taken, lost, lost_answer, ..Backlog::default() };
        let mut position = taken;
        while let Some((number, event)) = backlog.log.after(position) {
            backlog.waiting(event.weight).add(&event.text);
            position = number;
        }
        backlog
    }

    /// A client has had everything up to `position`, whoever gave it: more than is known where the gateway ended meanwhile.
    pub(super) fn was_had(&mut self, position: u64) {
        while self.taken < position {
            let Some((number, event)) = self.log.after(self.taken).filter(|(number, _)| *number <= position)
            else {
                return;
            };
            self.taken = number;
            self.waiting(event.weight).remove(&event.text);
        }
    }

    /// Keeps an event, if it finds a place within `limit` bytes, and gives its number. One that lasts and is larger than
    /// that finds a place beside all others while it is the only such one: a question may hold a picture.
    pub(super) fn push(&mut self, event: LoggedEvent, limit: usize, attended: bool) -> Option<u64> {
        if !self.make_room(&event, limit, attended) {
            return None;
        }
        let length = event.text.len();
        self.waiting(event.weight).add(&event.text);
        let is_large = event.weight == Weight::Lasting && length > limit;
        let number = self.log.append(event);
        if is_large {
            self.large = Some((number, length));
        }
        Some(number)
    }

    fn make_room(&mut self, event: &LoggedEvent, limit: usize, attended: bool) -> bool {
        if event.weight == Weight::Answer {
            return true;
        }
        let length = event.text.len();
        if length > limit {
            return event.weight == Weight::Lasting && self.waiting_large() == 0;
        }
        let fits = |backlog: &Backlog| {
            let crowded = event.passes() && !attended && backlog.passing.events >= UNATTENDED;
            !crowded && backlog.waiting_before_answers() - backlog.waiting_large() + length <= limit
        };
        let is_question = event.asker.is_some();
        while !fits(self) {
            // The newest of what merely passes tells enough: older ones give way. Where nobody reads, news give way to
            // questions, which somebody waits for.
            let gave_way = self.forget_waiting(LoggedEvent::passes)
                || (is_question && !attended && self.forget_waiting(LoggedEvent::is_news));
            if !gave_way {
                return false;
            }
        }
        true
    }

    fn waiting_large(&self) -> usize {
        self.large.filter(|(number, _)| *number > self.taken).map_or(0, |(_, length)| length)
    }

    /// The next event after `position` that may be shown.
    pub(super) fn take_after(&mut self, position: u64) -> Option<(u64, Bytes)> {
        let (number, event) = self.log.take_after(position)?;
        if number > self.taken {
            self.taken = number;
            self.waiting(event.weight).remove(&event.text);
        }
        Some((number, event.text))
    }

    /// Whether there is an event after `position`, shown or not.
    pub(super) fn has_more(&self, position: u64) -> bool {
        self.log.after(position).is_some()
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
        self.log.forget_first();
        self.forgotten(number, event);
        true
    }

    /// Forgets what waits and merely passes.
    pub(super) fn forget_passing(&mut self) {
        while self.forget_waiting(LoggedEvent::passes) {}
    }

    /// Lets go of at least so many bytes of news that wait, the oldest, if there are so many.
    pub(super) fn forget_news(&mut self, bytes: usize) {
        let limit = self.bytes().saturating_sub(bytes);
        while self.bytes() > limit && self.forget_waiting(LoggedEvent::is_news) {}
    }

    fn forget_waiting(&mut self, such: fn(&LoggedEvent) -> bool) -> bool {
        let Some((number, event)) = self.log.forget_such(self.taken, such) else { return false };
        self.forgotten(number, event);
        true
    }

    /// Lets go of the oldest until no more than `limit` bytes are kept: of what was taken, of what merely passes, of all.
    pub(super) fn fit(&mut self, limit: usize) {
        while self.bytes() > limit && self.forget_taken(|_| true) {}
        while self.bytes() > limit && self.forget_waiting(LoggedEvent::passes) {}
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
        self.forgotten(number, event);
        true
    }

    fn forgotten(&mut self, number: u64, event: LoggedEvent) {
        if number > self.taken {
            self.waiting(event.weight).remove(&event.text);
        }
        if self.large.is_some_and(|(large, _)| large == number) {
            self.large = None;
        }
        self.note_loss(number, event.weight, event.asker);
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

    /// Whether this event waits to be taken.
    pub(super) fn is_waiting(&self, number: u64) -> bool {
        number > self.taken && self.log.after(number - 1).is_some_and(|(first_left, _)| first_left == number)
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
        backlog.push(LoggedEvent::new(Bytes::from_static(text.as_bytes()), weight), LIMIT, true).is_some()
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
        assert!(push(&mut backlog, "more", Weight::Lasting), "it takes no other's place");
        assert!(!push(&mut backlog, "another large picture", Weight::Lasting), "one at a time");
        assert_eq!(
            read(&mut backlog),
            ["an answer that nobody reads", "passes", "a question with a large picture", "more"],
            "in the order in which they were said"
        );
        assert!(push(&mut backlog, "another large picture", Weight::Lasting));
    }

    #[test]
    fn s_https_17_s_elic_11_where_nobody_reads_news_give_way_to_questions() {
        let mut backlog = Backlog::default();
        let lasting = |text: &'static str| LoggedEvent::new(text.into(), Weight::Lasting);
        let question = |text| lasting(text).asked_by(Some(CancellationToken::new()));
        for attended in [true, false] {
            assert!(backlog.push(lasting("news 1"), LIMIT, attended).is_some());
            assert!(backlog.push(lasting("2"), LIMIT, attended).is_some());
            assert!(backlog.push(lasting("news 3"), LIMIT, attended).is_none());
            assert_eq!(backlog.push(question("asks"), LIMIT, attended).is_some(), !attended);
            assert!(backlog.push(question("asks some more"), LIMIT, false).is_some(), "large as it is");
            let told = read(&mut backlog);
            assert_eq!(told.first().map(|first| &first[..] == b"news 1"), Some(attended), "{told:?}");
        }
        assert!(backlog.has_lost_since(0), "a client that comes back is told");
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
            assert!(backlog.push(LoggedEvent::new(text, Weight::Passing), 1 << 20, false).is_some());
        }
        let left = read(&mut backlog);
        assert_eq!(left.len(), UNATTENDED);
        assert_eq!(left.last().map(|text| &text[..]), Some(&b"999"[..]));
    }
}
