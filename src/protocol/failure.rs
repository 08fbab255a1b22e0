//! Failures the gateway itself makes, as every client can read them (reliability: Errors; S-ERR-05).

use super::json::quote;
use crate::names::UpstreamName;

/// The closed list of reasons. Their texts are part of the public surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The upstream is down, not started, or refuses connections.
    UpstreamUnavailable,
    /// No answer before the deadline.
    UpstreamTimeout,
    /// The connection or process ended while the call was under way.
    UpstreamLost,
    /// The upstream answered something that is not MCP.
    UpstreamProtocolError,
    /// The upstream wants credentials that the gateway does not have.
    UpstreamAuthRequired,
    /// A queue or limit is full.
    Overloaded,
    /// The answer is larger than the limit.
    ResultTooLarge,
    /// The request is larger than the limit.
    RequestTooLarge,
    /// What the upstream asked for before it could answer was not given.
    InputRefused,
    /// The gateway, or the session of the call, came to its end.
    GatewayRestarted,
    /// A call that waited for its client came to an end that is not known.
    ParkedCallLost,
    /// What has to be kept cannot be kept or read now.
    StoreUnavailable,
}

impl Reason {
    /// Its name on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::UpstreamUnavailable => "upstream_unavailable",
            Reason::UpstreamTimeout => "upstream_timeout",
            Reason::UpstreamLost => "upstream_lost",
            Reason::UpstreamProtocolError => "upstream_protocol_error",
            Reason::UpstreamAuthRequired => "upstream_auth_required",
            Reason::Overloaded => "overloaded",
            Reason::ResultTooLarge => "result_too_large",
            Reason::RequestTooLarge => "request_too_large",
            Reason::InputRefused => "input_refused",
            Reason::GatewayRestarted => "gateway_restarted",
            Reason::ParkedCallLost => "parked_call_lost",
            Reason::StoreUnavailable => "store_unavailable",
        }
    }
}

/// Whether the call may have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// No byte of it reached the upstream.
    NotSent,
    /// It was sent and no answer came.
    Unknown,
    /// It ran; only its answer could not be given.
    Executed,
}

impl Ran {
    /// Its name on the wire, the value of `outcome`.
    pub const fn text(self) -> &'static str {
        match self {
            Ran::NotSent => "not_sent",
            Ran::Unknown => "unknown",
            Ran::Executed => "executed",
        }
    }
}

/// `{ reason, upstream, retryable, retryAfterMs?, outcome }`.
#[derive(Debug, Clone)]
pub struct FailureRecord<'a> {
    /// Why.
    pub reason: Reason,
    /// Which server.
    pub upstream: Option<&'a UpstreamName>,
    /// Whether trying again can help and is safe.
    pub retryable: bool,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
    /// Whether the call may have run.
    pub outcome: Ran,
}

impl FailureRecord<'_> {
    /// A failure that concerns no upstream.
    pub fn of_gateway(reason: Reason, retryable: bool, retry_after_ms: Option<u64>, outcome: Ran) -> Self {
        FailureRecord { reason, upstream: None, retryable, retry_after_ms, outcome }
    }

    /// The object as JSON.
    pub fn json(&self) -> String {
        let upstream =
            self.upstream.map(|name| format!(",\"upstream\":{}", quote(name.as_str()))).unwrap_or_default();
        let after = self.retry_after_ms.map(|ms| format!(",\"retryAfterMs\":{ms}")).unwrap_or_default();
        format!(
            "{{\"reason\":\"{}\"{upstream},\"retryable\":{}{after},\"outcome\":\"{}\"}}",
            self.reason.text(),
            self.retryable,
            self.outcome.text()
        )
    }
}
