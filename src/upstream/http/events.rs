//! An answer that is a stream of events.

use std::fmt;

use super::answer::BodyStream;
use super::failure::HttpFailure;
use crate::protocol::sse::{SseEvent, SseFault, SseParser};

/// Bytes that are read before whatever else the thread has to do has its turn, however fast they come (F11).
const TURN: usize = 256 * 1024;

/// An event costs no less than so many bytes.
const EVENT: usize = 4 * 1024;

/// Reads events as they come. Dropping it closes the connection, which is how a call over a stream is cancelled
/// (S-HTTPC-13); read to its end, or left where that comes soon, the connection serves further requests.
pub struct EventReader {
    /// `None` once it ended.
    stream: Option<BodyStream>,
    parser: SseParser,
    /// Bytes read in this turn.
    read: usize,
}

impl EventReader {
    pub(super) fn new(stream: BodyStream, limit: usize) -> Self {
        EventReader { stream: Some(stream), parser: SseParser::new(limit), read: 0 }
    }

    /// The next event; `None` when the stream ended. A failure is the last item, unless it is of one event alone.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<SseEvent, HttpFailure>> {
        loop {
            if self.read >= TURN {
                self.read = 0;
                tokio::task::yield_now().await;
            }
            match self.parser.next_event() {
                Some(Ok(event)) => {
                    self.read += EVENT;
                    return Some(Ok(event));
                }
                Some(Err(SseFault::TooLarge { limit, start })) => {
                    return Some(Err(HttpFailure::EventTooLarge { limit, start }));
                }
                None => {}
            }
            match self.stream.as_mut()?.data().await {
                Some(Ok(chunk)) => {
                    self.read += chunk.len();
                    self.parser.push(chunk);
                }
                Some(Err(failure)) => {
                    self.stream = None;
                    return Some(Err(failure));
                }
                None => {
                    self.stream.take()?.finish();
                    return None;
                }
            }
        }
    }
}

impl EventReader {
    /// What was wanted of it has been read. Needs to be in a `LocalSet`.
    pub fn leave(mut self) {
        if let Some(stream) = self.stream.take() {
            stream.leave();
        }
    }
}

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").field("open", &self.stream.is_some()).finish_non_exhaustive()
    }
}
