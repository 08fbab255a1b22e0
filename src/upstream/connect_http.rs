//! Opening a connection over HTTP: the newest transport that the upstream knows.
//!
//! Always: stateless before streamable HTTP before HTTP+SSE, unless the configuration or the shared connection says which;
//! a session that was opened is ended with its link. Not here: what is common to all attempts (`connect`).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::connect::{Address, Attempt, AttemptFailed, Connected, EndOnDrop};
use super::error::UpstreamError;
use super::greeting::HandshakeFailed;
use super::http_wire::{Endpoint, HttpWire, post_initialized};
use super::incoming::Incoming;
use super::link::{Link, Wire};
use super::probe::Facts;
use super::sse_wire::SseWire;
use super::stateless::StatelessHttp;
use crate::protocol::era::Revision;

/// Longest wait for a standing stream before calls go ahead (S-HTTPC-06): some servers say nothing, not even a status,
/// until they have an event.
const STANDING_WAIT: Duration = Duration::from_millis(250);

/// Longest wait for an upstream that is told that its session ended.
const FAREWELL: Duration = Duration::from_secs(2);

impl Attempt {
    pub(super) async fn open_http(
        &self,
        endpoint: &Endpoint,
        stateless: &StatelessHttp,
    ) -> Result<Connected, AttemptFailed> {
        if self.over_sse {
            // The other half is for the handshake.
            return Ok(self.open_sse(endpoint, self.start_deadline / 2).await?);
        }
        if self.must_probe()
            && let Some(facts) = self.probe_http(stateless).await?
        {
            return Ok(Connected::Stateless { facts });
        }
        let wire = Wire::Http(HttpWire::new(endpoint.clone()));
        let guard = EndOnDrop(Some(self.link(wire, None)));
        let link = guard.link();
        self.end_session_with(Arc::clone(link));
        let facts = match self.shake_hands(link).await {
            Err(HandshakeFailed::Refused(error)) if self.is_found() => {
                let era_changed = matches!(self.probe_http(stateless).await, Ok(Some(_)));
                return Err(AttemptFailed { error, era_changed });
            }
            Err(HandshakeFailed::Refused(error)) => return self.fall_back(guard, endpoint, error).await,
            Err(HandshakeFailed::Other(error)) => return Err(error.into()),
            Ok(facts) => facts,
        };
        if let Wire::Http(wire) = &link.wire {
            wire.negotiated(facts.revision);
            post_initialized(&wire.endpoint, wire.headers()).await?;
        }
        link.opened(facts);
        open_standing_stream(link).await;
        Ok(Connected::Link(guard.keep()))
    }

    /// Goes on in a session that was opened before, without a handshake; `None` where that cannot be. Whether the server
    /// knows it still is found out by the first request.
    pub(super) fn take_up(&self, session: &str, revision: Revision, known: &Facts) -> Option<Arc<Link>> {
        let Address::Http { endpoint, .. } = &self.address else { return None };
        let wire = HttpWire::taken_up(endpoint.clone(), session, revision)?;
        let link = self.link(Wire::Http(wire), None);
        // Milliseconds grow faster than ids do, and stay whole numbers for everybody until long after us.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        link.calls.begin_behind(u64::try_from(now).unwrap_or(0));
        self.end_session_with(Arc::clone(&link));
        link.opened(Facts { revision, ..known.clone() });
        let standing = Arc::clone(&link);
        tokio::task::spawn_local(async move { open_standing_stream(&standing).await });
        Some(link)
    }

    /// What does not know streamable HTTP may know the transport before it (S-HTTPC-11, S-SSE-05).
    async fn fall_back(
        &self,
        refused: EndOnDrop,
        endpoint: &Endpoint,
        error: UpstreamError,
    ) -> Result<Connected, AttemptFailed> {
        if !matches!(&refused.link().wire, Wire::Http(wire) if wire.is_unknown_to_it()) {
            return Err(error.into());
        }
        drop(refused);
        self.open_sse(endpoint, self.probe_deadline).await.map_err(|other| {
            let why = match error {
                UpstreamError::Unavailable { why, .. } => why,
                error => error.to_string(),
            };
            UpstreamError::unavailable(format!("{why}; as HTTP+SSE: {other}")).into()
        })
    }

    async fn open_sse(&self, endpoint: &Endpoint, wait: Duration) -> Result<Connected, UpstreamError> {
        let (wire, reader) = SseWire::open(endpoint, wait).await?;
        let guard = EndOnDrop(Some(self.link(Wire::Sse(wire), None)));
        let link = guard.link();
        let (reading, json) = (Arc::clone(link), self.json);
        tokio::task::spawn_local(async move {
            // If reading panics, the link must still end.
            let guard = EndOnDrop(Some(reading));
            SseWire::read(guard.link(), reader, &mut Incoming::of(guard.link(), json)).await;
        });
        let facts = self.shake_hands(link).await.map_err(HandshakeFailed::error)?;
        if let Wire::Sse(wire) = &link.wire {
            wire.negotiated(facts.revision);
            post_initialized(wire.endpoint(), wire.headers()).await?;
        }
        link.opened(facts);
        tracing::info!(upstream = %self.upstream, "connected over HTTP+SSE, a transport of the past");
        Ok(Connected::Link(guard.keep()))
    }

    /// However the link ends, the upstream's session ends with it (S-HTTPC-05), if the upstream still knows one.
    fn end_session_with(&self, link: Arc<Link>) {
        self.errands.spawn_local(async move {
            link.until_ended().await;
            if let Wire::Http(wire) = &link.wire
                && !link.was_forgotten()
                // Its tasks go on, and are looked for in it when the gateway is there again (S-TASK-21).
                && !link.tasks.has_any()
                && tokio::time::timeout(FAREWELL, wire.delete_session()).await.is_err()
            {
                tracing::debug!(upstream = %link.upstream, "the upstream did not say that its session ended");
            }
        });
    }
}

/// Asks for the standing stream, which is kept from then on, before any call is made.
async fn open_standing_stream(link: &Arc<Link>) {
    let (asked, first) = oneshot::channel();
    let standing = Arc::clone(link);
    tokio::task::spawn_local(async move {
        if let Wire::Http(wire) = &standing.wire {
            wire.keep_standing_stream(&standing, asked).await;
        }
    });
    // Whether there is one, and whether that was told in time, makes no difference.
    let _ = tokio::time::timeout(STANDING_WAIT, first).await;
}
