//! Messages that are posted without anybody waiting: notifications, and answers to what an upstream asked.
//!
//! Always: an answer, which a person may have given, is posted again where its loss may be a passing one, and never lost
//! without a word; a notification is posted once. Not here: what the messages say, and calls (`http_wire`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::http::{self as client, HttpFailure};
use super::http_wire::{Endpoint, Headers, SESSION_HEADER, seconds};
use super::link::{FORGOTTEN, Link};

/// Messages of one link that may be under way.
pub(super) const IN_BACKGROUND: usize = 256;

/// Pauses before an answer is posted again.
const AGAIN: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// Longest pause that an upstream can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Posted {
    /// The next one will do as well.
    Notification,
    /// Somebody waits for it, and taking it twice is harmless.
    Answer,
}

/// Why a message did not arrive.
enum Undelivered {
    /// It may at another time.
    NotNow(String, Option<Duration>),
    /// Nor would it at another time, or it has arrived after all.
    Refused(String),
    /// The upstream does not know the session (S-HTTPC-04).
    Forgotten,
}

/// Posts a notification or an answer.
pub(super) fn post_in_background(
    endpoint: &Endpoint,
    headers: Headers,
    link: &Arc<Link>,
    text: Bytes,
    what: Posted,
) {
    // An upstream that provokes answers without end and takes none of them gets no more.
    let Ok(place) = Arc::clone(&link.in_background).try_acquire_owned() else {
        tracing::warn!(upstream = %link.upstream, "a message was dropped: too many are under way");
        return;
    };
    let (endpoint, link) = (endpoint.clone(), Arc::clone(link));
    tokio::task::spawn_local(async move {
        let _place = place;
        let mut pauses = match what {
            Posted::Notification => [].iter(),
            Posted::Answer => AGAIN.iter(),
        };
        let why = loop {
            match deliver(&endpoint, &headers, &link, text.clone()).await {
                Ok(()) => return,
                Err(Undelivered::Forgotten) => return link.end(FORGOTTEN),
                Err(Undelivered::Refused(why)) => break why,
                Err(Undelivered::NotNow(why, after)) => {
                    let Some(pause) = pauses.next() else { break why };
                    tokio::select! {
                        () = tokio::time::sleep(after.unwrap_or_default().clamp(*pause, LONGEST_PAUSE)) => {}
                        () = link.until_ended() => break why,
                    }
                }
            }
        };
        match what {
            Posted::Answer if !link.has_ended() => {
                tracing::warn!(upstream = %link.upstream, %why, "an answer to its question was not delivered");
            }
            _ => tracing::debug!(upstream = %link.upstream, %why, "a message was not delivered"),
        }
    });
}

async fn deliver(
    endpoint: &Endpoint,
    headers: &Headers,
    link: &Link,
    text: Bytes,
) -> Result<(), Undelivered> {
    let post = client::post(&endpoint.target, headers, text, endpoint.limits);
    let reply = match tokio::time::timeout(link.ask_deadline, post).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(failure @ (HttpFailure::TooLarge { .. } | HttpFailure::Protocol(_)))) => {
            return Err(Undelivered::Refused(failure.to_string()));
        }
        Ok(Err(failure)) => return Err(Undelivered::NotNow(failure.to_string(), None)),
        Err(_) => return Err(Undelivered::Refused("it was not acknowledged".to_owned())),
    };
    let has_session = || link.is_over_sse() || headers.iter().any(|(name, _)| *name == SESSION_HEADER);
    let why = || format!("HTTP status {}", reply.status.as_u16());
    match reply.status.as_u16() {
        200..=299 => Ok(()),
        404 if has_session() => Err(Undelivered::Forgotten),
        429 | 500..=599 => Err(Undelivered::NotNow(why(), seconds(reply.retry_after.as_ref()))),
        _ => Err(Undelivered::Refused(why())),
    }
}
