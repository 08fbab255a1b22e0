//! An answer that is a stream of events.

use std::fmt;

use super::answer::BodyStream;
use super::failure::HttpFailure;
use crate::protocol::sse::{SseEvent, SseFault, SseParser};

/// Reads events as they come. Dropping it closes the connection, which is how a call over a stream is cancelled
/// (S-HTTPC-13); read to its end, the connection serves further requests.
pub struct EventReader {
    /// `None` once it ended.
    stream: Option<BodyStream>,
    parser: SseParser,
}

impl EventReader {
    pub(super) fn new(stream: BodyStream, limit: usize) -> Self {
        EventReader { stream: Some(stream), parser: SseParser::new(limit) }
    }

    /// The next event; `None` when the stream ended. A failure is the last item. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<SseEvent, HttpFailure>> {
        loop {
            match self.parser.next_event() {
                Some(Ok(event)) => return Some(Ok(event)),
                Some(Err(SseFault::TooLarge { limit })) => {
                    self.stream = None;
                    return Some(Err(HttpFailure::TooLarge { limit }));
                }
                None => {}
            }
            match self.stream.as_mut()?.data().await {
                Some(Ok(chunk)) => self.parser.push(chunk),
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

impl fmt::Debug for EventReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReader").field("open", &self.stream.is_some()).finish_non_exhaustive()
    }
}
