//! The event streams of a session over streamable HTTP: that of each request, and the standing one.
//!
//! Always: a stream that breaks off, in whatever way, is taken up again from the last event that was read of it
//! (S-HTTPC-07), until the answer is there, on this stream or another; without an id it cannot be, and nobody knows what
//! became of the call. Not here: what is remembered of a stream (`stream_memory`), posting (`http_wire`).

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::calls::Reply;
use super::error::UpstreamError;
use super::http::{self as client, AnswerBody, EventReader, HttpAnswer, HttpFailure};
use super::http_wire::{Headers, HttpWire};
use super::incoming::Incoming;
use super::link::{FORGOTTEN, Link};
use super::oversized::Oversized;
use super::stream_memory::StreamMemory;
use crate::protocol::frame::Answer;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A standing stream that lived this long was a good one, though it may have had nothing to say.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Why reading a stream brought no answer.
enum Unanswered {
    /// It was closed in good order before: the server wants to be asked again later (SEP-1699).
    Closed,
    /// It broke off before; this is how.
    Broken(String),
    /// What it brought ends the call.
    Failed(UpstreamError),
}

/// What an attempt to open a stream came to.
enum Opened {
    Stream(Box<EventReader>),
    /// Perhaps the next attempt has more luck.
    NotNow(String),
    /// The server will have none of it.
    Refused(u16),
}

/// What a server says that does not know the session, or the event to go on from.
const UNKNOWN: u16 = 404;

/// What a server says that has no standing stream (S-HTTPC-06).
const HAS_NONE: u16 = 405;

impl HttpWire {
    /// Reads the stream of a request to its answer, taking it up again as often as it breaks off.
    pub(super) async fn read_until_answered(
        &self,
        link: &Arc<Link>,
        id: u64,
        mut reader: Box<EventReader>,
        answer: &mut Reply,
    ) -> Result<Answer, UpstreamError> {
        let mut memory = StreamMemory::new(self.endpoint.retry);
        loop {
            let why = tokio::select! {
                read = self.read(link, id, &mut reader, &mut memory) => match read {
                    Ok(answer) => {
                        reader.leave();
                        return Ok(answer);
                    }
                    Err(Unanswered::Failed(error)) => return Err(error),
                    Err(Unanswered::Closed) => {
                        memory.was_good();
                        "the stream ended before the answer".to_owned()
                    }
                    Err(Unanswered::Broken(why)) => why,
                },
                answer = &mut *answer => return answer.unwrap_or_else(|_| Err(link.lost())),
            };
            // A stream that is left must not hold the place of the one that follows it.
            drop(reader);
            reader = tokio::select! {
                resumed = self.resume(link, &mut memory, why) => resumed?,
                answer = &mut *answer => return answer.unwrap_or_else(|_| Err(link.lost())),
            };
        }
    }

    async fn read(
        &self,
        link: &Arc<Link>,
        id: u64,
        reader: &mut EventReader,
        memory: &mut StreamMemory,
    ) -> Result<Answer, Unanswered> {
        loop {
            match reader.next().await {
                Some(Ok(event)) => {
                    memory.note(&event);
                    if !event.data.is_empty()
                        && let Some(answer) =
                            self.take_json(link, id, event.data).map_err(Unanswered::Failed)?
                    {
                        return Ok(answer);
                    }
                }
                None => return Err(Unanswered::Closed),
                Some(Err(HttpFailure::EventTooLarge { start, .. })) => match Oversized::of(&start) {
                    Oversized::NoAnswer => {
                        tracing::warn!(upstream = %link.upstream, "passed over a message that is too large");
                    }
                    Oversized::AnswerTo(other) if other != id => {
                        link.calls.settle(other, Err(UpstreamError::TooLarge));
                    }
                    _ => return Err(Unanswered::Failed(UpstreamError::TooLarge)),
                },
                Some(Err(HttpFailure::Lost(why))) => return Err(Unanswered::Broken(why)),
                Some(Err(failure)) => return Err(Unanswered::Failed(failure.into())),
            }
        }
    }

    /// Takes up the stream of a request where it broke off, or says why nobody knows what became of the request.
    async fn resume(
        &self,
        link: &Arc<Link>,
        memory: &mut StreamMemory,
        mut why: String,
    ) -> Result<Box<EventReader>, UpstreamError> {
        while let Some((wait, last_id)) = memory.resume() {
            tracing::debug!(upstream = %link.upstream, %why, ?wait, "a stream is taken up again");
            tokio::time::sleep(wait).await;
            match self.open(Some(last_id)).await {
                Opened::Stream(reader) => return Ok(reader),
                Opened::NotNow(reason) => why = reason,
                // That of 404 too: it may be no more than the event that is forgotten. Whether the session is, shows
                // when something is posted.
                Opened::Refused(status) => {
                    return Err(UpstreamError::lost(format!(
                        "{why}; HTTP status {status} to its resumption"
                    )));
                }
            }
        }
        Err(UpstreamError::lost(why))
    }

    async fn open(&self, last_id: Option<HeaderValue>) -> Opened {
        let mut headers: Headers = self.headers();
        headers.extend(last_id.map(|id| (LAST_EVENT_ID, id)));
        match client::get(&self.endpoint.target, &headers, self.endpoint.limits).await {
            Ok(HttpAnswer { body: AnswerBody::Events(reader), .. }) => Opened::Stream(reader),
            Ok(reply) => match reply.status.as_u16() {
                // The broken stream may count as open yet (409), the server as busy.
                status @ (408 | 409 | 425 | 429 | 500 | 502..=599) => {
                    Opened::NotNow(format!("HTTP status {status}"))
                }
                status => Opened::Refused(status),
            },
            Err(failure) => Opened::NotNow(failure.to_string()),
        }
    }

    /// Keeps the standing stream open for as long as the link lives; a server without one is left alone for good.
    /// `asked` resolves when the first attempt has come to something.
    pub(super) async fn keep_standing_stream(&self, link: &Arc<Link>, asked: oneshot::Sender<()>) {
        tokio::select! {
            () = self.stand(link, asked) => {}
            () = link.until_ended() => {}
        }
    }

    async fn stand(&self, link: &Arc<Link>, asked: oneshot::Sender<()>) {
        let mut memory = StreamMemory::new(self.endpoint.retry);
        let mut incoming = Incoming::of(link, self.endpoint.json);
        let (mut asked, mut last_id, mut stood) = (Some(asked), None, false);
        let mut was_without = false;
        loop {
            let resumes = last_id.is_some();
            let opened = self.open(last_id).await;
            drop(asked.take());
            match opened {
                Opened::Stream(reader) => {
                    stood = true;
                    if was_without && !resumes {
                        link.catch_up();
                    }
                    let since = Instant::now();
                    let closed = read_standing(reader, &mut memory, &mut incoming).await;
                    if since.elapsed() >= GOOD_AFTER || (closed && memory.can_resume()) {
                        memory.was_good();
                    }
                }
                Opened::NotNow(why) => {
                    tracing::debug!(upstream = %link.upstream, %why, "standing stream not opened");
                }
                // Perhaps it is the id that it will not have.
                Opened::Refused(_) if resumes && memory.forget_id() => {}
                // It had a standing stream for this session.
                Opened::Refused(UNKNOWN) if stood && self.has_session() => return link.end(FORGOTTEN),
                // It had one, so this is passing: a token that is being renewed, a proxy that is being restarted.
                Opened::Refused(status) if stood && status != HAS_NONE => {
                    tracing::debug!(upstream = %link.upstream, status, "standing stream not opened again");
                }
                // What has just opened the session and does not know it does not know this way of asking.
                Opened::Refused(_) => return,
            }
            was_without = true;
            let (wait, id) = memory.reopen();
            tokio::time::sleep(wait).await;
            last_id = id;
        }
    }
}

/// Reads the standing stream to its end; says whether it was closed in good order.
async fn read_standing(
    mut reader: Box<EventReader>,
    memory: &mut StreamMemory,
    incoming: &mut Incoming<'_>,
) -> bool {
    while let Some(read) = reader.next().await {
        match read {
            Ok(event) => {
                memory.note(&event);
                if !event.data.is_empty() {
                    incoming.take(event.data);
                }
            }
            Err(HttpFailure::EventTooLarge { start, .. }) => incoming.too_large(&start),
            Err(_) => return false,
        }
    }
    true
}
