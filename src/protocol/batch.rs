//! Batches: arrays of messages, which revision 2025-03-26 has.
//!
//! Always: an array is found to be JSON, and its elements are counted, before the first of them is read, and one is read at
//! a time; whatever the array costs its sender, it costs its reader a few bytes an element, of so many elements. Each
//! is judged by itself: what is wrong with one, a limit that it passes even, does no harm to the others. Not here: what
//! may stand beside what in a batch, and in which sessions.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::frame::{Frame, FrameFault, FrameFaultReason, parse_fault};
use super::json::{Limits, Span};
use super::scan::Scanner;

/// The elements of an array, in order, each read when it is asked for.
#[derive(Debug)]
pub struct Batch {
    text: Bytes,
    limits: Limits,
    spans: std::vec::IntoIter<Span>,
    whole: bool,
}

impl Batch {
    /// Whether a text is to be read as a batch.
    pub fn is_one(text: &[u8]) -> bool {
        text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
    }

    /// Finds the elements of `text`, at most so many: what comes after that many and one more is not looked at.
    pub fn read(text: Bytes, most: usize, limits: Limits) -> Result<Self, FrameFault> {
        // Each element is held to the limits when it is read, under its own id.
        let mut scanner = Scanner::over(&text, Limits::NONE).map_err(parse_fault)?;
        let mut spans = Vec::new();
        let whole = scanner
            .array(|span| {
                if spans.len() == most {
                    return ControlFlow::Break(());
                }
                spans.push(span);
                ControlFlow::Continue(())
            })
            .map_err(parse_fault)?
            .is_continue();
        if whole {
            scanner.end().map_err(parse_fault)?;
        }
        Ok(Batch { text, limits, spans: spans.into_iter(), whole })
    }

    /// Whether it has no more elements than could be taken.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

impl Iterator for Batch {
    type Item = Result<Frame, FrameFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.spans.next()?;
        Some(Frame::parse(self.text.slice(span.start..span.end), self.limits))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Batch {}

/// The messages of a text: the one that it is, or those of a batch.
#[derive(Debug)]
pub enum Messages {
    /// Not read yet.
    One(Option<Bytes>, Limits),
    /// Those not read yet.
    Batch(Batch),
    /// What looked like a batch and is none.
    Fault(Option<FrameFault>),
}

impl Messages {
    /// Those of `text`; of a batch, at most so many, and a fault for the others.
    pub fn of(text: Bytes, most: usize, limits: Limits) -> Self {
        if !Batch::is_one(&text) {
            return Messages::One(Some(text), limits);
        }
        match Batch::read(text, most, limits) {
            Ok(batch) => Messages::Batch(batch),
            Err(fault) => Messages::Fault(Some(fault)),
        }
    }
}

impl Iterator for Messages {
    type Item = Result<Frame, FrameFault>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Messages::One(text, limits) => text.take().map(|text| Frame::parse(text, *limits)),
            Messages::Batch(batch) => batch.next().or_else(|| {
                let cut = !std::mem::replace(&mut batch.whole, true);
                cut.then(|| Err(FrameFault::of_text(FrameFaultReason::Invalid("the batch is too long"))))
            }),
            Messages::Fault(fault) => fault.take().map(Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::Fault;

    const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

    fn messages(text: &str, most: usize) -> Vec<Result<Frame, FrameFault>> {
        Messages::of(Bytes::copy_from_slice(text.as_bytes()), most, Limits::default()).collect()
    }

    #[test]
    fn s_base_18_an_array_is_read_no_further_than_it_may_reach() {
        // What follows the first element beyond the bound is not even JSON.
        let text = format!(" [{PING},{PING},{PING} nonsense");
        let batch =
            Batch::read(Bytes::from(text.clone()), 2, Limits::default()).expect("as far as it is read");
        assert_eq!((batch.len(), batch.is_whole()), (2, false));
        let read = messages(&text, 2);
        let [Ok(_), Ok(_), Err(fault)] = &read[..] else { panic!("{read:?}") };
        assert_eq!(fault.reason, FrameFaultReason::Invalid("the batch is too long"));
        assert!(Batch::read(Bytes::from(text), 3, Limits::default()).is_err(), "none of it is taken");
        assert_eq!(messages(&format!("[{PING},{PING}]"), 2).len(), 2);
        assert_eq!(messages(PING, 0).len(), 1);
        assert!(messages(" [ ] ", 2).is_empty());
    }

    #[test]
    fn s_base_18_s_https_14_a_limit_that_one_element_passes_is_its_own_matter() {
        let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
        let call = format!(r#"{{"jsonrpc":"2.0","id":"deep","method":"m","params":{{"a":{deep}}}}}"#);
        let read = messages(&format!("[{PING},{call},{deep}]"), 3);
        let [Ok(Frame::Request(_)), Err(own), Err(other)] = &read[..] else { panic!("{read:?}") };
        assert_eq!(own.reason, FrameFaultReason::Limit(Fault::TooDeep));
        assert_eq!(own.id.as_ref().expect("readable").as_bytes(), b"\"deep\"");
        assert!(own.asks && other.id.is_none() && matches!(other.reason, FrameFaultReason::Invalid(_)));
    }

    #[test]
    fn s_base_01_an_array_that_is_no_json_holds_no_messages() {
        for text in [format!("[{PING}"), format!("[{PING},]"), format!("[{PING}]x"), "[\u{1}]".to_owned()] {
            let read = messages(&text, 9);
            assert!(
                matches!(&read[..], [Err(fault)] if matches!(fault.reason, FrameFaultReason::Parse(_))),
                "{read:?}"
            );
        }
    }
}
