//! Whether an upstream still speaks the era it was found to speak (S-LIFE-14).
//!
//! Always: an answer alone only raises a doubt, because any server may use any code; a link is given up only when the
//! upstream itself says, asked once, that it speaks the other era. Not here: acting on it (`connections`).

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::probe::{Verdict, judge};
use super::stateless::{Answered, StatelessHttp};
use crate::protocol::code::{
    HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION,
};
use crate::protocol::era::NEWEST_STATELESS;
use crate::protocol::frame::Answer;

/// An upstream is asked at most this often, however many doubts there are.
const BETWEEN_CHECKS: Duration = Duration::from_secs(1);

/// Asks one at a time; whoever comes meanwhile waits for that answer.
#[derive(Debug, Default)]
pub(super) struct EraCheck(Mutex<Option<Instant>>);

impl EraCheck {
    /// Whether the upstream says that it speaks the stateless era now. Asks nothing if it was asked a moment ago.
    pub(super) async fn has_become_stateless(&self, stateless: &StatelessHttp, deadline: Duration) -> bool {
        let mut last = self.0.lock().await;
        if last.is_some_and(|last| last.elapsed() < BETWEEN_CHECKS) {
            return false;
        }
        let asked = stateless.ask("server/discover", NEWEST_STATELESS);
        let answered = tokio::time::timeout(deadline, asked).await;
        *last = Some(Instant::now());
        let Ok(Ok(Answered { answer, status })) = answered else { return false };
        matches!(judge(&answer, Some(status), NEWEST_STATELESS), Verdict::Stateless(_) | Verdict::Retry(_))
    }
}

/// An answer that an upstream of the handshake era would give to a stateless call.
pub(super) fn doubts_stateless(answered: &Result<Answered, UpstreamError>) -> bool {
    match answered {
        Err(UpstreamError::Protocol { .. }) => true,
        Err(_) => false,
        Ok(Answered { answer: Answer::Error(error), status }) => match (*status, error.code) {
            (_, UNSUPPORTED_VERSION) => true,
            (400, code) => !matches!(code, MISSING_CAPABILITY | HEADER_MISMATCH | INVALID_PARAMS),
            (404, code) => code != METHOD_NOT_FOUND,
            _ => false,
        },
        Ok(_) => false,
    }
}

/// An answer that an upstream of the stateless era would give to a call on a link.
pub(super) fn doubts_handshake(answered: &Result<Answer, UpstreamError>) -> bool {
    match answered {
        // A status without JSON-RPC: 400, 404 or 405.
        Err(UpstreamError::Protocol { .. }) => true,
        Ok(Answer::Error(error)) => match error.code {
            HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION => true,
            INVALID_PARAMS => error.message().contains("_meta"),
            _ => false,
        },
        _ => false,
    }
}
