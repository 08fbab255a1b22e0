//! The data-plane HTTP client: one request, one answer, over connections that its own caller drives.
//!
//! Always: nothing is sent twice except when the connection ended before a byte of the request was written; redirects
//! are not followed; nothing is decompressed; dropping a future or an answer closes the connection it was using.
//! Not here: what the messages mean, sessions, deadlines of calls (the caller drops the future), retries.
//!
//! There is no background task per connection: whoever waits for an answer or an event polls its connection too, so a
//! call costs no wake-up between tasks, and idle connections of a thread simply lie in its pool (`pool`).

mod answer;
mod connect;
mod connection;
mod events;
mod failure;
mod pool;
mod target;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderName, HeaderValue};
use http::{Method, Request};
use http_body_util::Full;

pub use answer::{AnswerBody, HttpAnswer};
pub use events::EventReader;
pub use failure::{HttpFailure, Sent};
pub use target::{HttpTarget, TargetFault};

use connection::SendFault;

/// What one exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Largest JSON body, and largest event of a stream, in bytes.
    pub result: usize,
    /// Longest time to a connection, TLS included.
    pub connect: Duration,
}

/// Headers of one request besides the target's fixed ones, which they replace where names are equal.
pub type ExtraHeaders = [(HeaderName, HeaderValue)];

/// Sends one message and waits for the head of its answer, and for the body when it is JSON.
pub async fn post(
    target: &HttpTarget,
    extra: &ExtraHeaders,
    body: Bytes,
    limits: HttpLimits,
) -> Result<HttpAnswer, HttpFailure> {
    exchange(target, target.post(extra, body), limits).await
}

/// Asks for an event stream.
pub async fn get(
    target: &HttpTarget,
    extra: &ExtraHeaders,
    limits: HttpLimits,
) -> Result<HttpAnswer, HttpFailure> {
    let mut request = target.bare(Method::GET, extra);
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    exchange(target, request, limits).await
}

/// Ends what the headers name, a session.
pub async fn delete(
    target: &HttpTarget,
    extra: &ExtraHeaders,
    limits: HttpLimits,
) -> Result<HttpAnswer, HttpFailure> {
    exchange(target, target.bare(Method::DELETE, extra), limits).await
}

async fn exchange(
    target: &HttpTarget,
    mut request: Request<Full<Bytes>>,
    limits: HttpLimits,
) -> Result<HttpAnswer, HttpFailure> {
    while let Some(mut connection) = pool::take(target.id()) {
        match connection.send(request).await {
            Ok(response) => return answer::receive(target.id(), connection, response, limits).await,
            // It ended while it was idle and hyper gives the request back untouched.
            Err(SendFault::Unsent(unsent)) => request = *unsent,
            Err(SendFault::Failed(failure)) => return Err(failure),
        }
    }
    // Rare and large: on the heap, so that not every call carries the room for it.
    let mut connection = Box::pin(connect::connect(target, limits.connect)).await?;
    match connection.send(request).await {
        Ok(response) => answer::receive(target.id(), connection, response, limits).await,
        Err(SendFault::Unsent(_)) => Err(HttpFailure::Closed),
        Err(SendFault::Failed(failure)) => Err(failure),
    }
}
