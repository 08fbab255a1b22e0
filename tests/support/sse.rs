//! Server-sent events, reading and writing.
//!
//! Owns the event stream syntax. Always: an event is given out only when its empty line has arrived. Not here: JSON.

use std::collections::VecDeque;

/// One event as it stood on the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// `id:`, if any.
    pub(crate) id: Option<String>,
    /// `event:`, if any.
    pub(crate) name: Option<String>,
    /// `data:` lines joined by line feeds; `None` when there was none.
    pub(crate) data: Option<String>,
    /// `retry:`, if any.
    pub(crate) retry: Option<u64>,
    /// Number of `data:` lines; clients of some suites read only single ones.
    pub(crate) data_lines: usize,
}

/// Collects pieces of a stream and gives out whole events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pending: Vec<u8>,
    open: Event,
    whole: VecDeque<Event>,
    /// Comment lines seen, which is what keep-alives are.
    pub(crate) comments: usize,
}

impl Events {
    /// Take in the next piece of the stream.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8(line).expect("event streams are UTF-8");
            self.take_line(line.trim_end_matches(['\n', '\r']));
        }
    }

    /// The next whole event.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.whole.pop_front()
    }

    /// Whether the stream stopped in the middle of an event.
    pub(crate) fn is_torn(&self) -> bool {
        !self.pending.is_empty() || self.open != Event::default()
    }

    fn take_line(&mut self, line: &str) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.open);
            if event != Event::default() {
                self.whole.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "id" => self.open.id = Some(value.to_owned()),
            "event" => self.open.name = Some(value.to_owned()),
            "retry" => self.open.retry = value.parse().ok(),
            "data" => {
                self.open.data_lines += 1;
                self.open.data = Some(match self.open.data.take() {
                    Some(before) => format!("{before}\n{value}"),
                    None => value.to_owned(),
                });
            }
            other => panic!("a field no event has: {other:?} in {line:?}"),
        }
    }
}

/// One message as an event.
pub(crate) fn event(message: &str) -> Vec<u8> {
    format!("event: message\ndata: {message}\n\n").into_bytes()
}
