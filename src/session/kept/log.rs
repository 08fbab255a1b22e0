//! One stream's events, in memory and on the disk: a reader gets what is written.

use std::sync::Arc;

use super::journal::{Journal, Mark};
use super::rows::Kind;
use crate::protocol::frame::{Frame, RequestId};
use crate::protocol::json::Limits;
use crate::store::event_log::{EventLog, LoggedEvent, MemoryLog};

/// See the module head.
#[derive(Debug)]
pub(in crate::session) struct KeptLog {
    memory: MemoryLog,
    stream: u64,
    journal: Arc<Journal>,
    mark: Arc<Mark>,
    /// Whether it is to be known what was taken: of streams that are read without a place (S-HTTPS-09).
    notes_taken: bool,
}

impl KeptLog {
    /// Of that stream; what `memory` holds is written already.
    pub(in crate::session) fn of(
        memory: MemoryLog,
        stream: u64,
        journal: &Arc<Journal>,
        mark: &Arc<Mark>,
    ) -> Self {
        let (journal, mark) = (Arc::clone(journal), Arc::clone(mark));
        KeptLog { memory, stream, journal, mark, notes_taken: false }
    }

    /// With word of what was taken.
    pub(in crate::session) fn noting_taken(self) -> Self {
        KeptLog { notes_taken: true, ..self }
    }

    fn gone(&self, gone: Option<(u64, LoggedEvent)>) -> Option<(u64, LoggedEvent)> {
        gone.inspect(|(number, event)| self.journal.gone(self.stream, *number, Kind::of(event)))
    }
}

impl EventLog for KeptLog {
    fn append(&mut self, event: LoggedEvent) -> u64 {
        let (kind, text) = (Kind::of(&event), event.text.clone());
        let number = self.memory.append(event);
        self.journal.said(self.stream, number, kind, text);
        number
    }

    fn after(&self, position: u64) -> Option<(u64, LoggedEvent)> {
        self.memory.after(position)
    }

    fn take_after(&mut self, position: u64) -> Option<(u64, LoggedEvent)> {
        let (number, event) = self.memory.after(position)?;
        if number > self.mark.event() {
            return None;
        }
        if self.notes_taken {
            self.journal.taken(self.stream, number);
        }
        Some((number, event))
    }

    fn forget_first(&mut self) -> Option<(u64, LoggedEvent)> {
        let gone = self.memory.forget_first();
        self.gone(gone)
    }

    fn forget_such(&mut self, position: u64, such: fn(&LoggedEvent) -> bool) -> Option<(u64, LoggedEvent)> {
        let gone = self.memory.forget_such(position, such);
        self.gone(gone)
    }

    fn last(&self) -> u64 {
        self.memory.last()
    }

    fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

/// The number of the question that this text asks.
pub(in crate::session) fn question_number(text: &bytes::Bytes) -> Option<u64> {
    match Frame::parse(text.clone(), Limits::NONE) {
        Ok(Frame::Request(request)) => RequestId::as_number(&request.id),
        _ => None,
    }
}
