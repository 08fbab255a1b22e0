//! The stateless era over HTTP, as a client: every call is one POST that says everything about itself.
//!
//! Always: headers are made from the body that is sent, never copied from a client (S-HDR-06); dropping a call closes its
//! stream, which cancels it (S-HTTPC-13).

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::call::{Activity, CallEvent, UpstreamCall};
use super::encode::own_meta;
use super::error::UpstreamError;
use super::http::{self as client, AnswerBody, EventReader, HttpFailure};
use super::http_wire::{Endpoint, Headers, VERSION_HEADER, bad_status, seconds, trace_headers};
use super::oversized::Oversized;
use crate::config::servers::AskSettings;
use crate::names::UpstreamName;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, Frame, RequestId};
use crate::protocol::headers as header_text;
use crate::protocol::json::Limits;
use crate::protocol::message;

const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");

/// An upstream that is spoken to without a session.
#[derive(Debug)]
pub(super) struct StatelessHttp {
    logger_name: Option<UpstreamName>,
    /// What it may ask of clients, which is what they are said to be able to do.
    ask: AskSettings,
    endpoint: Endpoint,
    next: AtomicU64,
}

/// An answer and the status it came with.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) status: u16,
}

/// What a request for a stream came to.
#[expect(clippy::large_enum_variant, reason = "made once per stream")]
pub(super) enum Opened {
    /// A stream, under the id of its request.
    Events { id: u64, reader: Box<EventReader> },
    /// An answer instead.
    Answered(Answered),
}

impl StatelessHttp {
    /// `logger_name` is the name that loggers of this upstream begin with, if they do.
    pub(super) fn new(logger_name: Option<UpstreamName>, ask: AskSettings, endpoint: Endpoint) -> Self {
        StatelessHttp { logger_name, ask, endpoint, next: AtomicU64::new(0) }
    }

    /// Makes a call and waits for its answer.
    pub(super) async fn call(
        &self,
        call: &UpstreamCall<'_>,
        revision: Revision,
        activity: Option<&Activity>,
    ) -> Result<Answered, UpstreamError> {
        let id = self.next_id();
        let text = Bytes::from(call.encode(id, revision, self.ask, call.circumstances.task));
        let mut headers = base_headers(revision, call.method.name());
        if let Some(target) = &call.target {
            headers.push((NAME_HEADER, header_text::value(target)));
        }
        headers.extend(call.param_headers.iter().cloned());
        trace_headers(&mut headers, call);
        self.exchange(id, &headers, text, |event| {
            if let (CallEvent::Progress(_), Some(activity)) = (&event, activity) {
                activity.touch();
            }
            if let Some(events) = &call.circumstances.events {
                // A full sink means a slow reader; progress and logs are what may be dropped.
                let _ = events.push(event);
            }
        })
        .await
    }

    /// Makes a request of the gateway's own.
    pub(super) async fn ask(&self, method: &str, revision: Revision) -> Result<Answered, UpstreamError> {
        let id = self.next_id();
        let params = format!(r#"{{"_meta":{}}}"#, own_meta(revision));
        let text = Bytes::from(message::request(id, method, params.as_bytes()));
        self.exchange(id, &base_headers(revision, method), text, |_| {}).await
    }

    /// Makes a request of the gateway's own whose answer is a stream.
    pub(super) async fn open_stream(
        &self,
        method: &str,
        params: &str,
        revision: Revision,
    ) -> Result<Opened, UpstreamError> {
        let id = self.next_id();
        let text = Bytes::from(message::request(id, method, params.as_bytes()));
        let headers = base_headers(revision, method);
        let reply = client::post(&self.endpoint.target, &headers, text, self.endpoint.limits).await?;
        let (status, retry_after) = (reply.status.as_u16(), seconds(reply.retry_after.as_ref()));
        match reply.body {
            AnswerBody::Events(reader) if reply.status.is_success() => Ok(Opened::Events { id, reader }),
            AnswerBody::Json(body) => match self.take_answer(id, body) {
                Ok(answer) => Ok(Opened::Answered(Answered { answer, status })),
                Err(error) if reply.status.is_success() => Err(error),
                Err(_) => Err(bad_status(status, retry_after)),
            },
            _ => Err(bad_status(status, retry_after)),
        }
    }

    /// Limits on the structure of what it sends.
    pub(super) fn json_limits(&self) -> Limits {
        self.endpoint.json
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn exchange(
        &self,
        id: u64,
        headers: &Headers,
        text: Bytes,
        on_event: impl FnMut(CallEvent),
    ) -> Result<Answered, UpstreamError> {
        let reply = client::post(&self.endpoint.target, headers, text, self.endpoint.limits).await?;
        let (status, retry_after) = (reply.status.as_u16(), seconds(reply.retry_after.as_ref()));
        let answer = match reply.body {
            AnswerBody::Json(body) => self.take_answer(id, body).map_err(|error| {
                // A refusal whose body is no JSON-RPC says more by its status.
                if reply.status.is_success() { error } else { bad_status(status, retry_after) }
            })?,
            AnswerBody::Events(reader) if reply.status.is_success() => {
                self.read(id, reader, on_event).await?
            }
            AnswerBody::Other(kind) if reply.status.is_success() => {
                return Err(UpstreamError::protocol(format!("its answer has content type {kind:?}")));
            }
            AnswerBody::Empty if reply.status.is_success() => {
                return Err(UpstreamError::protocol("its answer is empty"));
            }
            _ => return Err(bad_status(status, retry_after)),
        };
        Ok(Answered { answer, status })
    }

    fn take_answer(&self, id: u64, body: Bytes) -> Result<Answer, UpstreamError> {
        match Frame::parse(body, self.endpoint.json)? {
            Frame::Response(response) => match response.id.as_ref().map(RequestId::as_number) {
                Some(number) if number != Some(id) => {
                    Err(UpstreamError::protocol("it answered under another id"))
                }
                _ => Ok(response.answer),
            },
            _ => Err(UpstreamError::protocol("its answer is not a response")),
        }
    }

    async fn read(
        &self,
        id: u64,
        mut reader: Box<EventReader>,
        mut on_event: impl FnMut(CallEvent),
    ) -> Result<Answer, UpstreamError> {
        while let Some(event) = reader.next().await {
            let event = match event {
                Err(HttpFailure::EventTooLarge { start, .. })
                    if Oversized::of(&start) == Oversized::NoAnswer =>
                {
                    continue;
                }
                event => event?,
            };
            if event.data.is_empty() {
                continue;
            }
            let frame = match Frame::parse(event.data, self.endpoint.json) {
                Ok(frame) => frame,
                // It was not to be the answer.
                Err(fault) if fault.asks => {
                    tracing::debug!(%fault, "skipped what is not a message");
                    continue;
                }
                Err(fault) => return Err(fault.into()),
            };
            match frame {
                Frame::Response(response) => match response.id.as_ref().and_then(RequestId::as_number) {
                    Some(number) if number != id => tracing::debug!("dropped an answer that nobody awaits"),
                    _ => {
                        reader.leave();
                        return Ok(response.answer);
                    }
                },
                Frame::Notification(notification) => match &*notification.method {
                    "notifications/progress" if token_is(&notification.params, id) => {
                        on_event(CallEvent::Progress(Box::new(notification.params)));
                    }
                    "notifications/message" => {
                        on_event(CallEvent::Log(self.logger_name.clone(), Box::new(notification.params)))
                    }
                    _ => {}
                },
                // A stateless server asks inside results, never by requests (S-HTTPC-14).
                Frame::Request(request) => {
                    tracing::warn!(method = %request.method, "ignored a server-initiated request")
                }
            }
        }
        Err(UpstreamError::lost("the stream ended before the answer"))
    }
}

fn token_is(params: &crate::protocol::json::Object, id: u64) -> bool {
    params.get("progressToken") == Some(id.to_string().as_bytes())
}

fn base_headers(revision: Revision, method: &str) -> Headers {
    let mut headers = Headers::new();
    headers.push((VERSION_HEADER, HeaderValue::from_static(revision.text())));
    // Method names come from the gateway's own table.
    if let Ok(method) = HeaderValue::from_str(method) {
        headers.push((METHOD_HEADER, method));
    }
    headers
}
