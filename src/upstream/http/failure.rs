//! Why an exchange has no answer, and whether the upstream may have seen the request.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;

use bytes::Bytes;

/// Whether the upstream may have acted on the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Certainly not: no byte of it was written.
    NotSent,
    /// Nobody can tell.
    MaybeSent,
}

/// An exchange that did not bring the answer it should have.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HttpFailure {
    /// No connection: name, address, port or TLS.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No connection in time.
    #[error("cannot connect: timed out")]
    ConnectTimeout,
    /// The upstream closed a new connection before the request was written.
    #[error("connection closed before the request was sent")]
    Closed,
    /// The connection ended before the whole answer was there.
    #[error("connection lost: {0}")]
    Lost(String),
    /// A body beyond the limit.
    #[error("answer larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// An event beyond the limit. The stream goes on behind it.
    #[error("event larger than {limit} bytes")]
    EventTooLarge {
        /// The limit.
        limit: usize,
        /// How its data begins.
        start: Bytes,
    },
    /// What came is not what HTTP or this protocol allows.
    #[error("not a valid answer: {0}")]
    Protocol(Cow<'static, str>),
}

impl HttpFailure {
    /// Whether the upstream may have seen the request.
    pub fn sent(&self) -> Sent {
        match self {
            HttpFailure::Connect(_) | HttpFailure::ConnectTimeout | HttpFailure::Closed => Sent::NotSent,
            HttpFailure::Lost(_)
            | HttpFailure::TooLarge { .. }
            | HttpFailure::EventTooLarge { .. }
            | HttpFailure::Protocol(_) => Sent::MaybeSent,
        }
    }

    /// No connection, with every cause in one line.
    pub(super) fn connect(error: &(dyn Error + 'static)) -> Self {
        HttpFailure::Connect(chain(error))
    }

    /// What hyper says about a request that it began to write.
    pub(super) fn exchange(error: &hyper::Error) -> Self {
        if error.is_parse() {
            return HttpFailure::Protocol(Cow::Owned(chain(error)));
        }
        HttpFailure::Lost(chain(error))
    }
}

/// An error and its causes; a cause that only repeats what was said is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            let _ = write!(text, ": {part}");
        }
        cause = error.source();
    }
    text
}
