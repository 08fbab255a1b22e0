//! HTTP+SSE, the transport of 2024-11-05, for clients that know no other: a stream that carries everything, and an
//! address for POSTs that the stream's first event names (S-SSE-01).
//!
//! Always: the stream is the client, so its end ends the session and whatever it started (S-SSE-03); the address holds
//! 128 random bits that open nothing else; both endpoints are guarded as `/mcp` is (S-SSE-02).
//!
//! The published text says that server messages are events of the stream and leaves the statuses of POSTs open. So every
//! answer and error is an event, and a POST is answered 202 when its message was taken. A text whose error cannot name it,
//! because no id could be read, gets 400 and the error as body besides: on the stream nobody could tell whose it is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use dashmap::DashMap;

use super::body::{EventStream, Framing, stream_head};
use super::edge::Edge;
use super::exchange::json;
use super::http::{Inbound, accepted, guarded, not_allowed, plain, stops};
use super::pipe::{Kind, Pipe, Taken};
use super::request_body::read_json;
use super::respond;
use crate::names::ProfileName;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::sse;
use crate::session::table::{Seat, random_bits};
use crate::telemetry::spans::Transport;

/// The open streams by the token of their addresses.
#[derive(Debug, Default)]
pub(super) struct Pipes(DashMap<u128, Arc<Pipe>>);

impl Pipes {
    /// The pipe of that token at that endpoint. Unknown, malformed and foreign ones are alike.
    fn find(&self, query: &str, profile: Option<&ProfileName>) -> Option<Arc<Pipe>> {
        let token = parse_token(query)?;
        let pipe = self.0.get(&token).map(|entry| Arc::clone(entry.value()))?;
        (pipe.profile() == profile).then_some(pipe)
    }
}

/// `/sse`: GET opens the stream.
pub(super) async fn stream(edge: Data<Edge>, request: HttpRequest) -> HttpResponse {
    guarded(&edge, &request, async || {
        let inbound = Inbound::of(&edge, &request);
        if !edge.has_endpoint(inbound.profile.as_ref()) {
            return plain(StatusCode::NOT_FOUND, "no such endpoint");
        }
        match *request.method() {
            Method::GET if edge.is_draining() => stops(),
            Method::GET if !inbound.accepts.events => {
                plain(StatusCode::NOT_ACCEPTABLE, "accept text/event-stream")
            }
            Method::GET => open(&inbound),
            _ => not_allowed("use GET", "GET, OPTIONS"),
        }
    })
    .await
}

/// `/messages`: POST brings a message.
pub(super) async fn messages(edge: Data<Edge>, request: HttpRequest, payload: Payload) -> HttpResponse {
    guarded(&edge, &request, async || {
        let inbound = Inbound::of(&edge, &request);
        if !edge.has_endpoint(inbound.profile.as_ref()) {
            return plain(StatusCode::NOT_FOUND, "no such endpoint");
        }
        match *request.method() {
            Method::POST => post(&inbound, request.query_string(), payload).await,
            _ => not_allowed("use POST", "POST, OPTIONS"),
        }
    })
    .await
}

fn open(inbound: &Inbound<'_>) -> HttpResponse {
    let edge = inbound.edge;
    // A stream counts as a session from its first byte on.
    let (Ok(seat), Ok(token)) = (edge.sessions.reserve(), random_bits()) else {
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "too many sessions");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    tracing::info!("a client uses HTTP+SSE of 2024-11-05, which is deprecated; /mcp serves every revision");
    let profile = inbound.profile.clone();
    let address = address(profile.as_ref(), token);
    let kind = Kind { profile, transport: Transport::Http, both_eras: false };
    let (pipe, reader) = Pipe::new(edge, kind);
    edge.pipes.0.insert(token, Arc::clone(&pipe));
    actix_web::rt::spawn(attend(edge.clone(), Arc::clone(&pipe), token, seat));
    let mut greeting = Vec::new();
    sse::write_event(&mut greeting, None, Some("endpoint"), address.as_bytes());
    let framing = Framing::plain(&edge.settings.bounds).greeting(greeting);
    stream_head().body(PipeBody { events: EventStream::of(reader, framing, None), pipe })
}

/// Waits for the stream's end, and ends everything with it.
async fn attend(edge: Data<Edge>, pipe: Arc<Pipe>, token: u128, seat: Seat) {
    let silence = tokio::time::sleep(edge.settings.bounds.first_message);
    tokio::select! {
        () = pipe.until_left() => {}
        () = pipe.until_opened() => pipe.until_left().await,
        () = edge.until_draining() => {}
        () = silence => tracing::debug!("a stream of HTTP+SSE ends: nobody initialized"),
    }
    edge.pipes.0.remove(&token);
    pipe.end("its stream ended").await;
    drop(seat);
}

async fn post(inbound: &Inbound<'_>, query: &str, payload: Payload) -> HttpResponse {
    let Some(pipe) = inbound.edge.pipes.find(query, inbound.profile.as_ref()) else {
        return unknown_session();
    };
    let body = match read_json(inbound, payload).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    match pipe.take(inbound.edge, body, &|params| inbound.trace(params)).await {
        Taken::Yes => accepted(),
        Taken::Nameless(error) => json(error),
        Taken::Gone => unknown_session(),
    }
}

fn unknown_session() -> HttpResponse {
    let text = "unknown session; open a new stream";
    json(respond::error(None, StatusCode::NOT_FOUND, INVALID_REQUEST, text, None))
}

const TOKEN: &str = "sessionId";

fn address(profile: Option<&ProfileName>, token: u128) -> String {
    match profile {
        Some(profile) => format!("/messages/{profile}?{TOKEN}={token:032x}"),
        None => format!("/messages?{TOKEN}={token:032x}"),
    }
}

fn parse_token(query: &str) -> Option<u128> {
    let mut tokens = query.split('&').filter_map(|pair| pair.strip_prefix(TOKEN)?.strip_prefix('='));
    let token = tokens.next().filter(|_| tokens.next().is_none())?;
    let digits = token.len() == 32 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u128::from_str_radix(token, 16).ok())?
}

/// The stream's body. actix drops it when it has ended and when the client has left.
struct PipeBody {
    events: EventStream,
    pipe: Arc<Pipe>,
}

impl MessageBody for PipeBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        self.events.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.events).poll_next(cx)
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        self.pipe.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_sse_01_an_address_is_relative_and_its_token_reads_back() {
        let profile = ProfileName::new("work");
        for (profile, start) in
            [(None, "/messages?sessionId="), (Some(&profile), "/messages/work?sessionId=")]
        {
            for token in [0, 7, u128::MAX] {
                let address = address(profile, token);
                assert!(address.starts_with(start), "{address}");
                let (_, query) = address.split_once('?').expect("it has a query");
                assert_eq!(parse_token(query), Some(token));
            }
        }
    }

    #[test]
    fn s_sse_02_nothing_else_is_a_token() {
        let good = "0123456789abcdef0123456789abcdef";
        assert!(parse_token(&format!("a=b&sessionId={good}")).is_some());
        for query in [
            String::new(),
            "sessionId".to_owned(),
            "sessionId=".to_owned(),
            format!("sessionid={good}"),
            format!("sessionId=+{}", &good[1..]),
            format!("sessionId={good}0"),
            format!("sessionId={}", good.to_uppercase()),
            format!("sessionId={good}&sessionId={good}"),
        ] {
            assert_eq!(parse_token(&query), None, "{query}");
        }
    }
}
