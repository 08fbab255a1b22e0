//! Finding out the era of an upstream, and shaking hands where that is the custom (S-HTTPC-11, S-STDIO-05, S-LIFE-02).
//!
//! Always: a pinned revision is never departed from; one that is only known from another connection may turn out wrong.
//! Not here: what the answers mean (`probe`), starting and ending what answers (`connect`).

use std::sync::Arc;

use super::call::Affinity;
use super::connect::{Attempt, Expected};
use super::declared::{declared, declared_alone};
use super::encode::initialize_params;
use super::error::UpstreamError;
use super::link::Link;
use super::probe::{Facts, Verdict, initialized, is_itself, judge};
use super::stateless::StatelessHttp;
use crate::protocol::era::{Era, NEWEST_HANDSHAKE, NEWEST_STATELESS, Revision};
use crate::protocol::frame::Answer;

/// Probes that a server may refuse with another revision before the gateway gives up (S-META-09).
const PROBES: usize = 3;

/// Why there was no handshake.
pub(super) enum HandshakeFailed {
    /// What answered does not shake hands: perhaps it is of the other era.
    Refused(UpstreamError),
    /// Anything else.
    Other(UpstreamError),
}

impl HandshakeFailed {
    pub(super) fn error(self) -> UpstreamError {
        match self {
            HandshakeFailed::Refused(error) | HandshakeFailed::Other(error) => error,
        }
    }
}

impl Attempt {
    pub(super) fn pinned(&self) -> Option<Revision> {
        match self.expected {
            Some(Expected::Pinned(revision)) => Some(revision),
            Some(Expected::Found(_)) | None => None,
        }
    }

    /// Whether a probe tells more than is known.
    pub(super) fn must_probe(&self) -> bool {
        self.expected.is_none_or(|expected| expected.revision().era() == Era::Stateless)
    }

    /// Whether the era is only known from another connection.
    pub(super) fn is_found(&self) -> bool {
        matches!(self.expected, Some(Expected::Found(_)))
    }

    /// `None` means the handshake era.
    pub(super) async fn probe_http(&self, stateless: &StatelessHttp) -> Result<Option<Facts>, UpstreamError> {
        self.probe(async |revision| {
            let asked = stateless.ask("server/discover", revision);
            match tokio::time::timeout(self.probe_deadline, asked).await {
                Ok(Ok(answered)) => Ok(judge(&answered.answer, Some(answered.status), revision)),
                // Whatever is not an answer of the stateless era is a reason to shake hands, except what says that
                // nothing would be understood now, in any era.
                Ok(Err(
                    error @ (UpstreamError::Unavailable { .. }
                    | UpstreamError::AuthRequired
                    | UpstreamError::Overloaded { .. }),
                )) => Err(error),
                Ok(Err(_)) | Err(_) => Ok(Verdict::Handshake),
            }
        })
        .await
    }

    /// `None` means the handshake era.
    pub(super) async fn probe_pipe(&self, link: &Arc<Link>) -> Result<Option<Facts>, UpstreamError> {
        self.probe(async |revision| {
            let params = format!(r#"{{"_meta":{}}}"#, super::encode::own_meta(revision));
            match tokio::time::timeout(self.probe_deadline, link.ask("server/discover", &params)).await {
                Ok(Ok(answer)) => Ok(judge(&answer, None, revision)),
                Ok(Err(error)) => Err(error),
                // Silence is what many handshake servers answer before `initialize`.
                Err(_) => Ok(Verdict::Handshake),
            }
        })
        .await
    }

    /// Asks again, with the revision that the upstream names, as often as is reasonable.
    async fn probe(
        &self,
        ask: impl AsyncFn(Revision) -> Result<Verdict, UpstreamError>,
    ) -> Result<Option<Facts>, UpstreamError> {
        let pinned = self.pinned();
        let mut revision = pinned.unwrap_or(NEWEST_STATELESS);
        for _ in 0..PROBES {
            match ask(revision).await? {
                Verdict::Stateless(facts) => return Ok(Some(facts)),
                Verdict::Retry(other) => revision = other,
                Verdict::Handshake if pinned.is_none() => return Ok(None),
                Verdict::Handshake => {
                    return Err(UpstreamError::unavailable("it does not speak the pinned revision"));
                }
                Verdict::NoCommonRevision => return Err(no_common_revision()),
                Verdict::Itself => return Err(itself()),
            }
        }
        Err(UpstreamError::unavailable("it refuses every revision it names itself"))
    }

    pub(super) async fn greet_pipe(&self, link: &Arc<Link>) -> Result<Facts, HandshakeFailed> {
        if !self.must_probe() {
            return self.shake_hands_on_pipe(link).await;
        }
        if let Some(facts) = self.probe_pipe(link).await.map_err(HandshakeFailed::Other)? {
            return Ok(facts);
        }
        match self.shake_hands_on_pipe(link).await {
            // A server that took long to start may have found the probe first after all, and keeps to the era of the
            // first message: now that it is awake it answers in time.
            Err(HandshakeFailed::Refused(error)) => match self.probe_pipe(link).await {
                Ok(Some(facts)) => Ok(facts),
                Ok(None) | Err(_) => Err(HandshakeFailed::Refused(error)),
            },
            greeted => greeted,
        }
    }

    pub(super) async fn shake_hands_on_pipe(&self, link: &Arc<Link>) -> Result<Facts, HandshakeFailed> {
        let facts = self.shake_hands(link).await?;
        link.notify("notifications/initialized", "");
        Ok(facts)
    }

    pub(super) async fn shake_hands(&self, link: &Arc<Link>) -> Result<Facts, HandshakeFailed> {
        let offered = self.expected.map_or(NEWEST_HANDSHAKE, Expected::revision);
        let capabilities = &self.client.capabilities;
        let declared = match self.client.affinity {
            Affinity::Session(_) => declared_alone(capabilities, self.ask, offered),
            _ => declared(capabilities, self.ask),
        };
        let params = initialize_params(offered, &declared);
        let refused = |why: String| HandshakeFailed::Refused(UpstreamError::unavailable(why));
        let facts = match link.ask("initialize", &params).await {
            Ok(Answer::Result(result)) => initialized(&result).map_err(refused)?,
            Ok(Answer::Error(error)) if is_itself(&error) => return Err(HandshakeFailed::Other(itself())),
            Ok(Answer::Error(error)) => {
                return Err(refused(format!("it refused initialize: {}", error.message())));
            }
            Err(UpstreamError::Protocol { why }) => {
                return Err(refused(format!("it speaks neither era of the protocol: {why}")));
            }
            Err(error) => return Err(HandshakeFailed::Other(error)),
        };
        match self.pinned() {
            Some(pinned) if pinned != facts.revision => Err(HandshakeFailed::Other(
                UpstreamError::unavailable(format!("it speaks {}, not the pinned {pinned}", facts.revision)),
            )),
            _ => Ok(facts),
        }
    }
}

fn itself() -> UpstreamError {
    UpstreamError::unavailable("it is this gateway itself; leave it out of the configuration")
}

fn no_common_revision() -> UpstreamError {
    UpstreamError::unavailable("it speaks no revision that the gateway knows")
}
