//! What came back: status, the few headers that matter, and a body that is read, streamed or turned away.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use hyper::body::{Body, Incoming};

use super::HttpLimits;
use super::connection::Connection;
use super::events::EventReader;
use super::failure::HttpFailure;
use super::pool;
use super::target::TargetId;

/// A body that nobody reads is taken off the connection when it ends within this.
const DRAINED_BYTES: usize = 64 * 1024;
const DRAINED_TIME: Duration = Duration::from_millis(100);
/// So many of them on one thread; the connections of further ones are closed.
const LEAVING_AT_ONCE: usize = 64;

/// The answer to one request. A redirect is an answer like any other.
#[derive(Debug)]
pub struct HttpAnswer {
    /// HTTP status.
    pub status: StatusCode,
    /// `mcp-session-id`; its `Debug` shows nothing (S-HTTPC-02).
    pub session: Option<HeaderValue>,
    /// Every `www-authenticate`, in order.
    pub www_authenticate: Vec<HeaderValue>,
    /// `retry-after`.
    pub retry_after: Option<HeaderValue>,
    /// The body.
    pub body: AnswerBody,
}

/// A body by its kind.
#[derive(Debug)]
pub enum AnswerBody {
    /// None, or of no length.
    Empty,
    /// `application/json`, whole and not yet looked into.
    Json(Bytes),
    /// `text/event-stream` of a success.
    Events(Box<EventReader>),
    /// Anything else, with its content type; it was not read.
    Other(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Events,
    Other,
}

impl Kind {
    fn of(headers: &HeaderMap) -> Kind {
        let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let essence = value[..end].trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/json") {
            Kind::Json
        } else if essence.eq_ignore_ascii_case(b"text/event-stream") {
            Kind::Events
        } else {
            Kind::Other
        }
    }
}

/// Reads the answer as far as its kind asks for.
pub(super) async fn receive(
    target: TargetId,
    connection: Connection,
    response: Response<Incoming>,
    limits: HttpLimits,
) -> Result<HttpAnswer, HttpFailure> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(HttpFailure::Protocol(Cow::Borrowed("nobody asked for another protocol")));
    }
    let kind = Kind::of(&head.headers);
    let stream = BodyStream { target, connection, body };
    let body = match kind {
        _ if stream.is_at_end() => {
            stream.finish();
            AnswerBody::Empty
        }
        Kind::Json => {
            plain(&head.headers)?;
            stream.read(limits.result).await?
        }
        Kind::Events if head.status.is_success() => {
            plain(&head.headers)?;
            AnswerBody::Events(Box::new(EventReader::new(stream, limits.result)))
        }
        Kind::Events | Kind::Other => stream.turn_away(&head.headers).await,
    };
    Ok(HttpAnswer {
        status: head.status,
        session: head.headers.remove("mcp-session-id").map(|mut session| {
            session.set_sensitive(true);
            session
        }),
        www_authenticate: head.headers.get_all(WWW_AUTHENTICATE).iter().cloned().collect(),
        retry_after: head.headers.remove(RETRY_AFTER),
        body,
    })
}

fn plain(headers: &HeaderMap) -> Result<(), HttpFailure> {
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(HttpFailure::Protocol(Cow::Borrowed("a content coding that was not accepted")))
        }
        _ => Ok(()),
    }
}

/// A body with the connection it comes over; dropped unfinished, it closes the connection.
pub(super) struct BodyStream {
    target: TargetId,
    connection: Connection,
    body: Incoming,
}

impl BodyStream {
    pub(super) fn is_at_end(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(super) async fn data(&mut self) -> Option<Result<Bytes, HttpFailure>> {
        poll_fn(|cx| self.connection.poll_data(&mut self.body, cx)).await
    }

    /// Frees the connection for the next request.
    pub(super) fn finish(self) {
        drop(self.body);
        pool::put(self.target, self.connection);
    }

    /// The whole body; one that arrives in one piece is not copied.
    async fn read(mut self, limit: usize) -> Result<AnswerBody, HttpFailure> {
        let declared = usize::try_from(self.body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > limit {
            return Err(HttpFailure::TooLarge { limit });
        }
        let mut single = Bytes::new();
        let mut joined = BytesMut::new();
        let mut length = 0;
        while !self.is_at_end() {
            let Some(data) = self.data().await else { break };
            let data = data?;
            length += data.len();
            if length > limit {
                return Err(HttpFailure::TooLarge { limit });
            }
            if length == data.len() {
                single = data;
                continue;
            }
            if joined.is_empty() {
                joined.reserve(declared.max(length));
                joined.extend_from_slice(&std::mem::take(&mut single));
            }
            joined.extend_from_slice(&data);
        }
        self.finish();
        Ok(match length {
            0 => AnswerBody::Empty,
            _ if joined.is_empty() => AnswerBody::Json(single),
            _ => AnswerBody::Json(joined.freeze()),
        })
    }

    /// Passes over a body of no use; keeps the connection only when the body ends soon.
    async fn turn_away(mut self, headers: &HeaderMap) -> AnswerBody {
        // Whether the rest would have come is of no interest: status and headers are the answer.
        if let Some(passed) = self.pass_over().await {
            self.finish();
            if passed == 0 {
                return AnswerBody::Empty;
            }
        }
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        AnswerBody::Other(String::from_utf8_lossy(content_type).into())
    }

    /// Reads on to the end, and gives how much that was; `None` where it does not come soon.
    async fn pass_over(&mut self) -> Option<usize> {
        let passing = async {
            let mut passed = 0;
            while let Some(data) = self.data().await {
                passed += data.ok()?.len();
                if passed > DRAINED_BYTES {
                    return None;
                }
            }
            Some(passed)
        };
        tokio::time::timeout(DRAINED_TIME, passing).await.ok().flatten()
    }

    /// What was wanted of the body is read. The connection is kept when the rest ends soon, for which nobody waits; mostly
    /// the end is here already.
    pub(super) fn leave(mut self) {
        match self.connection.poll_data(&mut self.body, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(None) => return self.finish(),
            Poll::Ready(Some(Err(_))) => return,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        let Some(place) = Leaving::begin() else { return };
        tokio::task::spawn_local(async move {
            let _place = place;
            if self.pass_over().await.is_some() {
                self.finish();
            }
        });
    }
}

/// A body of this thread whose end is awaited by nobody.
struct Leaving;

thread_local! {
    static LEAVING: Cell<usize> = const { Cell::new(0) };
}

impl Leaving {
    fn begin() -> Option<Leaving> {
        let others = LEAVING.get();
        (others < LEAVING_AT_ONCE).then(|| {
            LEAVING.set(others + 1);
            Leaving
        })
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // The thread may be ending.
        let _ = LEAVING.try_with(|leaving| leaving.set(leaving.get() - 1));
    }
}
