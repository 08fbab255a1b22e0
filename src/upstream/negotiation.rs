//! A stateless call that is refused for its revision or its headers: what the refusal means, and when to ask again
//! (S-META-09, S-HTTPC-10).
//!
//! Always: only a refusal that says nothing was run leads to another request; a server that names a stateless revision is
//! never greeted with `initialize`. Not here: sending (`route`), opening connections (`greeting`), new headers (`dispatch`).

use super::error::UpstreamError;
use super::probe::{Verdict, judge};
use super::stateless::Answered;
use crate::protocol::code::{HEADER_MISMATCH, UNSUPPORTED_VERSION};
use crate::protocol::era::Revision;
use crate::protocol::frame::Answer;

/// Requests of one call that an upstream may refuse for their revision, the first included: refusals can be transient.
pub(super) const ATTEMPTS: usize = 3;

/// What became of one request.
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and a box would be an allocation per call"
)]
pub(super) enum Settled {
    /// The upstream's answer.
    Answered(Answer),
    /// Nothing was run; the upstream wants this revision named.
    Again(Revision),
}

/// Judges an answer to a request that named `asked`, over HTTP.
pub(super) fn settle(answered: Answered, asked: Revision) -> Result<Settled, UpstreamError> {
    match (&answered.answer, answered.status) {
        (Answer::Error(error), 400) if error.code == HEADER_MISMATCH => Err(UpstreamError::HeadersRefused),
        // The refusal of a message comes with 400. Behind another status it is anything.
        (Answer::Error(error), _) if error.code == HEADER_MISMATCH => {
            Err(UpstreamError::protocol("it tells of headers that differ from the message it has taken"))
        }
        (_, status) => settle_answer(answered.answer, Some(status), asked),
    }
}

/// The same where there is no status, on a pipe.
pub(super) fn settle_answer(
    answer: Answer,
    status: Option<u16>,
    asked: Revision,
) -> Result<Settled, UpstreamError> {
    if !matches!(&answer, Answer::Error(error) if error.code == UNSUPPORTED_VERSION) {
        return Ok(Settled::Answered(answer));
    }
    match judge(&answer, status, asked) {
        Verdict::Retry(revision) => Ok(Settled::Again(revision)),
        Verdict::Handshake => Err(UpstreamError::unavailable("it speaks another era of the protocol now")),
        Verdict::NoCommonRevision | Verdict::Stateless(_) | Verdict::Itself => {
            Err(UpstreamError::unavailable("it speaks no revision that the gateway knows"))
        }
    }
}

/// Every attempt was refused.
pub(super) fn refused_too_often() -> UpstreamError {
    UpstreamError::unavailable("it refuses every revision it names itself")
}
