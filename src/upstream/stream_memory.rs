//! What is remembered of one event stream of an upstream, so that it can be taken up again where it broke (S-HTTPC-08).
//!
//! Always: an id is only ever used for the stream that it came on; a stream that breaks off or cannot be opened, and
//! brings nothing new, is given up after a few attempts; no wait is longer than a limit, whatever the upstream asks for.
//! Not here: asking, reading.

use std::time::Duration;

use http::header::HeaderValue;

use crate::protocol::sse::SseEvent;

/// Attempts in a row that fail without a new event.
const FRUITLESS: u32 = 5;

/// An upstream that asks for a longer wait is asked again after this one.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// An upstream that asks for none must not keep the gateway busy.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// Longest wait between attempts that grew because nothing came of them.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// A longer id is not kept: it would travel in a header.
const LONGEST_ID: usize = 4096;

/// See the module head.
#[derive(Debug)]
pub(super) struct StreamMemory {
    last_id: Option<HeaderValue>,
    wait: Duration,
    fruitless: u32,
}

impl StreamMemory {
    /// Nothing was read yet; `wait` holds until the upstream names another.
    pub(super) fn new(wait: Duration) -> Self {
        StreamMemory { last_id: None, wait: wait.clamp(SHORTEST_WAIT, LONGEST_WAIT), fruitless: 0 }
    }

    /// Notes what an event says of its stream, whether or not it carries a message.
    pub(super) fn note(&mut self, event: &SseEvent) {
        if let Some(milliseconds) = event.retry {
            self.wait = Duration::from_millis(milliseconds).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        }
        if let Some(id) = &event.id {
            let id = (!id.is_empty()).then(|| id_header(id)).flatten();
            if id.is_some() && id != self.last_id {
                self.fruitless = 0;
            }
            self.last_id = id;
        }
        if !event.data.is_empty() {
            self.fruitless = 0;
        }
    }

    /// The stream of a call broke off: the wait and the id to go on with, unless there is no use in it.
    pub(super) fn resume(&mut self) -> Option<(Duration, HeaderValue)> {
        let id = self.last_id.clone()?;
        self.fruitless += 1;
        (self.fruitless <= FRUITLESS).then_some((self.wait, id))
    }

    /// The standing stream broke off or could not be opened: the wait and, where there is one, the id to go on with.
    /// It is never given up, but an id that nothing came of for a while is, and the waits grow.
    pub(super) fn reopen(&mut self) -> (Duration, Option<HeaderValue>) {
        self.fruitless = self.fruitless.saturating_add(1);
        if self.fruitless > FRUITLESS {
            self.last_id = None;
        }
        let growth = 1 << (self.fruitless - 1).min(10);
        (self.wait.max((self.wait * growth).min(LONGEST_BACKOFF)), self.last_id.clone())
    }

    /// The stream was of use, though perhaps a silent one: it lasted, or its server closed it to be asked again later.
    pub(super) fn was_good(&mut self) {
        self.fruitless = 0;
    }

    /// Whether there is an id to go on with.
    pub(super) fn can_resume(&self) -> bool {
        self.last_id.is_some()
    }

    /// The upstream does not know the id any longer, or never took one.
    pub(super) fn forget_id(&mut self) -> bool {
        self.last_id.take().is_some()
    }
}

fn id_header(id: &str) -> Option<HeaderValue> {
    let mut id = (id.len() <= LONGEST_ID).then(|| HeaderValue::from_bytes(id.as_bytes()).ok()).flatten()?;
    // An upstream's ids are its own business, in logs too (S-RESUM-06).
    id.set_sensitive(true);
    Some(id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn event(id: Option<&str>, retry: Option<u64>, data: &'static str) -> SseEvent {
        SseEvent { id: id.map(Into::into), event: None, data: Bytes::from_static(data.as_bytes()), retry }
    }

    fn resumed(memory: &mut StreamMemory) -> Option<(u128, String)> {
        let (wait, id) = memory.resume()?;
        Some((wait.as_millis(), String::from_utf8_lossy(id.as_bytes()).into_owned()))
    }

    #[test]
    fn s_httpc_08_the_last_id_and_retry_of_a_stream_are_what_it_goes_on_with() {
        let mut memory = StreamMemory::new(SECOND);
        assert_eq!(resumed(&mut memory), None, "without any id there is nothing to go on with");
        memory.note(&event(Some("a"), None, ""));
        assert_eq!(resumed(&mut memory), Some((1000, "a".into())), "an event without data counts");
        memory.note(&event(None, Some(500), ""));
        memory.note(&event(None, None, "{}"));
        assert_eq!(
            resumed(&mut memory),
            Some((500, "a".into())),
            "an event without an id leaves the last one"
        );
        memory.note(&event(Some("b"), Some(700), "{}"));
        assert_eq!(resumed(&mut memory), Some((700, "b".into())));
        memory.note(&event(Some(""), None, ""));
        assert_eq!(resumed(&mut memory), None, "an empty id forgets the last one");
        memory.note(&event(Some("c\u{1}"), None, ""));
        assert_eq!(resumed(&mut memory), None, "an id that no header can carry is none");
        let long: String = "x".repeat(LONGEST_ID + 1);
        memory.note(&event(Some(&long), None, ""));
        assert_eq!(resumed(&mut memory), None, "nor is one that is too long");
        memory.note(&event(Some("zwölf"), None, ""));
        assert_eq!(resumed(&mut memory), Some((700, "zwölf".into())));
    }

    #[test]
    fn s_httpc_07_a_stream_is_given_up_when_attempt_after_attempt_fails_and_brings_nothing_new() {
        let mut memory = StreamMemory::new(SECOND);
        memory.note(&event(Some("a"), None, ""));
        for _ in 0..FRUITLESS {
            assert!(memory.resume().is_some());
            // The same priming event again is nothing new.
            memory.note(&event(Some("a"), None, ""));
        }
        assert!(memory.resume().is_none());
        memory.note(&event(Some("b"), None, ""));
        assert!(memory.resume().is_some(), "a new event is");
        for _ in 0..3 * FRUITLESS {
            memory.was_good();
            assert!(memory.resume().is_some(), "nor is it a failure");
        }
    }

    #[test]
    fn s_httpc_07_an_upstream_can_ask_neither_for_a_rush_nor_for_an_eternity() {
        let mut memory = StreamMemory::new(SECOND);
        memory.note(&event(Some("a"), Some(0), ""));
        assert_eq!(memory.resume().map(|(wait, _)| wait), Some(SHORTEST_WAIT));
        memory.note(&event(Some("b"), Some(u64::MAX), ""));
        assert_eq!(memory.resume().map(|(wait, _)| wait), Some(LONGEST_WAIT));
    }

    #[test]
    fn the_standing_stream_is_tried_for_ever_but_ever_less_often() {
        let mut memory = StreamMemory::new(SECOND);
        memory.note(&event(Some("a"), None, "{}"));
        let waits: Vec<u64> = (0..9).map(|_| memory.reopen().0.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(memory.reopen().1, None, "its id led nowhere");
        memory.note(&event(Some("b"), None, "{}"));
        let (wait, id) = memory.reopen();
        assert_eq!((wait, id.as_ref().map(HeaderValue::as_bytes)), (SECOND, Some(&b"b"[..])));
        assert!(memory.forget_id() && !memory.forget_id());
    }
}
