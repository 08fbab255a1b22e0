//! What can go wrong between the gateway and one upstream.

use std::time::Duration;

use super::stdio::SendError;
use crate::names::UpstreamName;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{FrameFault, FrameFaultReason};

/// A call that ended without an answer of the upstream. Messages are for logs and operators: they may quote what the
/// system or the server said; clients get the texts of `downstream::respond`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    /// Down, still starting, or refusing connections; nothing was sent.
    #[error("not available: {why}")]
    Unavailable {
        /// What is known of the reason.
        why: String,
        /// When the gateway itself tries again.
        retry_after: Option<Duration>,
    },
    /// It no longer knew the session, and so did not look at the call (S-HTTPC-04).
    #[error("not available: it forgot the session")]
    SessionForgotten,
    /// It does not have the method.
    #[error("it does not offer {0}")]
    NotOffered(&'static str),
    /// Sent, and nothing came before the deadline.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection or the process ended after the call may have been read.
    #[error("connection lost: {why}")]
    Lost {
        /// How it ended.
        why: String,
    },
    /// It forgot the session while the call was under way; on a new one the call can be made again (S-HTTPC-04).
    #[error("connection lost: it forgot the session")]
    SessionLost,
    /// It answered something that is not MCP.
    #[error("protocol error: {why}")]
    Protocol {
        /// What was wrong with it.
        why: String,
    },
    /// It answered with JSON nested deeper or with more keys than the gateway reads.
    #[error("protocol error: {why}")]
    BeyondLimits {
        /// Which limit.
        why: String,
    },
    /// It found that headers and body of the request differ, and so did not look at the call (S-HTTPC-10).
    #[error("protocol error: it refuses the headers of the request")]
    HeadersRefused,
    /// It asks for credentials.
    #[error("authorization required")]
    AuthRequired,
    /// Its answer is larger than the limit.
    #[error("result too large")]
    TooLarge,
    /// Its queue is full, or it asked for patience; nothing was executed.
    #[error("overloaded")]
    Overloaded {
        /// When it may be tried again.
        retry_after: Option<Duration>,
    },
}

impl UpstreamError {
    /// Unavailable, for a reason.
    pub fn unavailable(why: impl Into<String>) -> Self {
        UpstreamError::Unavailable { why: why.into(), retry_after: None }
    }

    /// Lost, for a reason.
    pub fn lost(why: impl Into<String>) -> Self {
        UpstreamError::Lost { why: why.into() }
    }

    /// A protocol violation.
    pub fn protocol(why: impl Into<String>) -> Self {
        UpstreamError::Protocol { why: why.into() }
    }

    /// Whether the call may have run.
    pub fn ran(&self) -> Ran {
        match self {
            UpstreamError::Unavailable { .. }
            | UpstreamError::SessionForgotten
            | UpstreamError::NotOffered(_)
            | UpstreamError::HeadersRefused
            | UpstreamError::AuthRequired
            | UpstreamError::Overloaded { .. } => Ran::NotSent,
            UpstreamError::Timeout(_)
            | UpstreamError::Lost { .. }
            | UpstreamError::SessionLost
            | UpstreamError::Protocol { .. } => Ran::Unknown,
            UpstreamError::TooLarge | UpstreamError::BeyondLimits { .. } => Ran::Executed,
        }
    }

    /// The public reason.
    pub fn reason(&self) -> Reason {
        match self {
            UpstreamError::Unavailable { .. }
            | UpstreamError::SessionForgotten
            | UpstreamError::NotOffered(_) => Reason::UpstreamUnavailable,
            UpstreamError::Timeout(_) => Reason::UpstreamTimeout,
            UpstreamError::Lost { .. } | UpstreamError::SessionLost => Reason::UpstreamLost,
            UpstreamError::Protocol { .. }
            | UpstreamError::BeyondLimits { .. }
            | UpstreamError::HeadersRefused => Reason::UpstreamProtocolError,
            UpstreamError::AuthRequired => Reason::UpstreamAuthRequired,
            UpstreamError::TooLarge => Reason::ResultTooLarge,
            UpstreamError::Overloaded { .. } => Reason::Overloaded,
        }
    }

    /// The record that clients get.
    pub fn record<'a>(&self, upstream: &'a UpstreamName) -> FailureRecord<'a> {
        let retry_after = match self {
            UpstreamError::Unavailable { retry_after, .. } | UpstreamError::Overloaded { retry_after } => {
                *retry_after
            }
            _ => None,
        };
        FailureRecord {
            reason: self.reason(),
            upstream: Some(upstream),
            retryable: matches!(
                self,
                UpstreamError::Unavailable { .. }
                    | UpstreamError::SessionForgotten
                    | UpstreamError::SessionLost
                    | UpstreamError::Overloaded { .. }
            ),
            retry_after_ms: retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            outcome: self.ran(),
        }
    }
}

impl From<FrameFault> for UpstreamError {
    fn from(fault: FrameFault) -> Self {
        match fault.reason {
            FrameFaultReason::Limit(limit) => UpstreamError::BeyondLimits { why: limit.to_string() },
            FrameFaultReason::Parse(_) | FrameFaultReason::Invalid(_) => {
                UpstreamError::protocol(fault.to_string())
            }
        }
    }
}

impl From<SendError> for UpstreamError {
    fn from(refused: SendError) -> Self {
        match refused {
            SendError::Full => UpstreamError::Overloaded { retry_after: None },
            SendError::Closed => UpstreamError::unavailable("its process ended"),
            other => UpstreamError::unavailable(other.to_string()),
        }
    }
}
