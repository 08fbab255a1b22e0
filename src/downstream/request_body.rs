//! The body of a POST: taken whole, as it is, within its size and its time.
//!
//! Always: nothing is unpacked; a body that is too large is refused unread where its length is told, one that comes too
//! slowly is not waited for (F28). Not here: heads, which the listener bounds; what the body says.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::error::PayloadError;
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::exchange::json;
use super::http::{Inbound, plain};
use super::respond;
use crate::protocol::accept::is_json;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::failure::{FailureRecord, Ran, Reason};

/// Reads a body that says it is JSON.
pub(super) async fn read_json(inbound: &Inbound<'_>, payload: Payload) -> Result<Bytes, HttpResponse> {
    if !is_json(inbound.values("content-type")) {
        return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json"));
    }
    // Nothing is ever unpacked, so there is nothing that could grow.
    if inbound.value("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bodies are not taken compressed"));
    }
    read_body(inbound, payload).await
}

/// Reads the body within its limit. One that arrives in one piece, as most do, is not copied.
async fn read_body(inbound: &Inbound<'_>, mut payload: Payload) -> Result<Bytes, HttpResponse> {
    let limit = inbound.edge.settings.bounds.request_body;
    let length = inbound.value("content-length").and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let unreadable = |_| plain(StatusCode::BAD_REQUEST, "the body could not be read");
    let mut pace = Pace::of(inbound);
    let Some(first) = pace.next(&mut payload).await? else { return Ok(Bytes::new()) };
    let first = first.map_err(unreadable)?;
    if first.len() > limit {
        return Err(too_large());
    }
    if length == Some(first.len()) {
        return Ok(first);
    }
    let mut body = BytesMut::with_capacity(length.unwrap_or(first.len()));
    body.extend_from_slice(&first);
    while let Some(chunk) = pace.next(&mut payload).await? {
        let chunk = chunk.map_err(unreadable)?;
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// How slowly a body may come (F28).
struct Pace {
    grace: Duration,
    rate: usize,
    received: usize,
    /// From the first wait on: most bodies are there with their head.
    since: Option<Instant>,
}

impl Pace {
    fn of(inbound: &Inbound<'_>) -> Pace {
        let bounds = &inbound.edge.settings.bounds;
        Pace { grace: bounds.head_timeout, rate: bounds.body_rate, received: 0, since: None }
    }

    /// The next piece of the body, unless it is too late.
    async fn next(
        &mut self,
        payload: &mut Payload,
    ) -> Result<Option<Result<Bytes, PayloadError>>, HttpResponse> {
        let piece = match payload.next().now_or_never() {
            Some(piece) => piece,
            None => {
                let since = *self.since.get_or_insert_with(Instant::now);
                let earned = u64::try_from(self.received / self.rate).unwrap_or(u64::MAX);
                let until = since + self.grace + Duration::from_secs(earned);
                tokio::time::timeout_at(until, payload.next()).await.map_err(|_| too_slow())?
            }
        };
        self.received += piece.as_ref().and_then(|piece| piece.as_ref().ok()).map_or(0, Bytes::len);
        Ok(piece)
    }
}

/// The rest of the body is not waited for, so the connection is of no more use.
fn too_slow() -> HttpResponse {
    let mut response = plain(StatusCode::REQUEST_TIMEOUT, "the body came too slowly");
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

fn too_large() -> HttpResponse {
    let data = FailureRecord::of_gateway(Reason::RequestTooLarge, false, None, Ran::NotSent).json();
    json(respond::error(
        None,
        StatusCode::PAYLOAD_TOO_LARGE,
        INVALID_REQUEST,
        "the request is too large",
        Some(&data),
    ))
}
