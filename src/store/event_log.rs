//! What was sent on one stream, kept so that it can be sent again (S-RESUM-05).
//!
//! Always: events have growing numbers and leave in any order; what is left keeps its order. Not here: when something
//! must leave, who reads, what a number looks like to clients (`session::stream`, `session::event_id`).

use std::collections::VecDeque;

use bytes::Bytes;

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
}

/// The log of one stream. In memory here; a durable one keeps the same promises.
pub trait EventLog {
    /// Appends an event and gives its number: one more than the last, from 1 on.
    fn append(&mut self, event: LoggedEvent) -> u64;

    /// The first event that is left after `position`.
    fn after(&self, position: u64) -> Option<(u64, &LoggedEvent)>;

    /// Removes the oldest events of which `leaves` says so, as long as it says so for any that is left.
    fn remove(&mut self, leaves: &mut dyn FnMut(u64, &LoggedEvent) -> bool);

    /// The number of the newest event; 0 before the first.
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

impl EventLog for MemoryLog {
    fn append(&mut self, event: LoggedEvent) -> u64 {
        self.last += 1;
        self.bytes += event.text.len();
        self.events.push_back((self.last, event));
        self.last
    }

    fn after(&self, position: u64) -> Option<(u64, &LoggedEvent)> {
        let at = self.events.partition_point(|(number, _)| *number <= position);
        self.events.get(at).map(|(number, event)| (*number, event))
    }

    fn remove(&mut self, leaves: &mut dyn FnMut(u64, &LoggedEvent) -> bool) {
        let mut left = 0;
        self.events.retain(|(number, event)| {
            let stays = !leaves(*number, event);
            left += if stays { event.text.len() } else { 0 };
            stays
        });
        self.bytes = left;
        // A log that was long once must not stay large for good.
        if self.events.capacity() > 64 && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to_fit();
        }
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

    fn event(text: &'static str) -> LoggedEvent {
        LoggedEvent { text: Bytes::from_static(text.as_bytes()), weight: Weight::Passing }
    }

    #[test]
    fn s_resum_05_what_is_left_keeps_its_numbers_and_its_order() {
        let mut log = MemoryLog::default();
        for (number, text) in ["a", "bb", "ccc", "dddd"].into_iter().enumerate() {
            assert_eq!(log.append(event(text)), number as u64 + 1);
        }
        log.remove(&mut |number, _| number % 2 == 1);
        assert_eq!((log.bytes(), log.last()), (6, 4));
        let mut left = Vec::new();
        let mut position = 0;
        while let Some((number, event)) = log.after(position) {
            left.push((number, event.text.clone()));
            position = number;
        }
        assert_eq!(left, [(2, Bytes::from_static(b"bb")), (4, Bytes::from_static(b"dddd"))]);
        assert_eq!(log.append(event("e")), 5, "a number is never used again");
    }
}
