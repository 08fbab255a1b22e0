//! What was sent on one stream, kept so that it can be sent again (S-RESUM-05).
//!
//! Always: events have growing numbers, and what is left keeps its order. Not here: when something must leave, who reads,
//! what a number looks like to clients (`session::stream`, `session::event_id`).

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Progress, logs: the newest tells enough.
    Passing,
    /// Questions and their withdrawals, changes: nobody says them again.
    Lasting,
    /// The answer of the stream's request.
    Answer,
}

/// One event of a stream.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// The message, on one line.
    pub text: Bytes,
    /// How much it matters.
    pub weight: Weight,
    /// When it was said.
    pub at: Instant,
    /// Of a question: cancelled when the client can no longer get it.
    pub asker: Option<CancellationToken>,
}

impl LoggedEvent {
    /// Said now, and no question.
    pub fn new(text: Bytes, weight: Weight) -> Self {
        LoggedEvent { text, weight, at: Instant::now(), asker: None }
    }

    /// Whether something newer tells enough.
    pub fn passes(&self) -> bool {
        self.weight == Weight::Passing
    }

    /// Whether it lasts and nobody waits for it to be answered.
    pub fn is_news(&self) -> bool {
        self.weight == Weight::Lasting && self.asker.is_none()
    }

    /// A question, if somebody asks.
    pub fn asked_by(self, asker: Option<CancellationToken>) -> Self {
        LoggedEvent { asker, ..self }
    }
}

/// The log of one stream. In memory here; a durable one keeps the same promises.
pub trait EventLog: std::fmt::Debug + Send {
    /// Appends an event and gives its number: one more than the last, from 1 on.
    fn append(&mut self, event: LoggedEvent) -> u64;

    /// The first event that is left after `position`.
    fn after(&self, position: u64) -> Option<(u64, LoggedEvent)>;

    /// The same for a reader: nothing that may still be lost is shown.
    fn take_after(&mut self, position: u64) -> Option<(u64, LoggedEvent)> {
        self.after(position)
    }

    /// Forgets the oldest event that is left.
    fn forget_first(&mut self) -> Option<(u64, LoggedEvent)>;

    /// Forgets the oldest event after `position` that is `such` a one.
    fn forget_such(&mut self, position: u64, such: fn(&LoggedEvent) -> bool) -> Option<(u64, LoggedEvent)>;

    /// The number of the newest event; 0 before the first. Forgetting changes nothing about it.
    fn last(&self) -> u64;

    /// Bytes of what is left.
    fn bytes(&self) -> usize;
}

/// [`EventLog`] in memory: it ends with the process.
#[derive(Debug, Default)]
pub struct MemoryLog {
    last: u64,
    bytes: usize,
    events: VecDeque<(u64, LoggedEvent)>,
}

impl MemoryLog {
    /// What was left of one, in the order of its numbers; the next event has a number larger than `last`.
    pub fn of(last: u64, events: impl IntoIterator<Item = (u64, LoggedEvent)>) -> Self {
        let events: VecDeque<_> = events.into_iter().collect();
        let newest = events.back().map_or(0, |(number, _)| *number);
        let bytes = events.iter().map(|(_, event)| event.text.len()).sum();
        MemoryLog { last: last.max(newest), bytes, events }
    }

    fn place_after(&self, position: u64) -> usize {
        self.events.partition_point(|(number, _)| *number <= position)
    }

    fn forget(&mut self, place: usize) -> Option<(u64, LoggedEvent)> {
        let (number, event) = self.events.remove(place)?;
        self.bytes -= event.text.len();
        // A log that was long once must not stay large for good.
        if self.events.capacity() > 64 && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
        Some((number, event))
    }
}

impl EventLog for MemoryLog {
    fn append(&mut self, event: LoggedEvent) -> u64 {
        self.last += 1;
        self.bytes += event.text.len();
        self.events.push_back((self.last, event));
        self.last
    }

    fn after(&self, position: u64) -> Option<(u64, LoggedEvent)> {
        self.events.get(self.place_after(position)).cloned()
    }

    fn forget_first(&mut self) -> Option<(u64, LoggedEvent)> {
        self.forget(0)
    }

    fn forget_such(&mut self, position: u64, such: fn(&LoggedEvent) -> bool) -> Option<(u64, LoggedEvent)> {
        let from = self.place_after(position);
        let place = from + self.events.range(from..).position(|(_, event)| such(event))?;
        self.forget(place)
    }

    fn last(&self) -> u64 {
        self.last
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &'static str, weight: Weight) -> LoggedEvent {
        LoggedEvent::new(Bytes::from_static(text.as_bytes()), weight)
    }

    #[test]
    fn s_resum_05_what_is_left_keeps_its_numbers_and_its_order() {
        let mut log = MemoryLog::default();
        let weights = [Weight::Passing, Weight::Lasting, Weight::Passing, Weight::Answer];
        for (number, (text, weight)) in ["a", "bb", "ccc", "dddd"].into_iter().zip(weights).enumerate() {
            assert_eq!(log.append(event(text, weight)), number as u64 + 1);
        }
        assert_eq!(&log.forget_first().expect("there are four").1.text[..], b"a");
        assert_eq!(&log.forget_such(0, LoggedEvent::passes).expect("the third").1.text[..], b"ccc");
        assert!(log.forget_such(0, LoggedEvent::passes).is_none(), "nothing that merely passes is left");
        assert_eq!((log.bytes(), log.last()), (6, 4));
        let mut left = Vec::new();
        let mut position = 0;
        while let Some((number, event)) = log.after(position) {
            left.push((number, event.text));
            position = number;
        }
        assert_eq!(left, [(2, Bytes::from_static(b"bb")), (4, Bytes::from_static(b"dddd"))]);
        assert_eq!(log.append(event("e", Weight::Passing)), 5, "a number is never used again");
    }
}
