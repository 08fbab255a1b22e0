//! A failed call as its end is told and kept, in the words of no era: a result that a model can read, or a JSON-RPC error.
//!
//! Always: a failure of the gateway's own says which server, what happened, and whether the call may have run. Not here: codes
//! and statuses that differ between eras (`downstream::respond`).

use bytes::Bytes;

use super::Failure;
use crate::protocol::code::{INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::ErrorObject;
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::translate::question::UrlsNeeded;
use crate::upstream::error::UpstreamError;

/// The key under which a failed tool call explains itself to programs.
const FAILURE_KEY: &str = "switchyard/failure";

impl Failure {
    /// The result of a failed call of a known tool, for the model to read (S-TOOL-08); `None` where the failure is the
    /// caller's to mend, and a JSON-RPC error.
    pub fn as_result(&self) -> Option<Object> {
        let text = match self {
            Failure::InputRefused { .. } => format!("{self}. The call was given up before it could end."),
            // The headers are the gateway's own: nothing that a model could do better (era-bridge §8).
            Failure::Upstream { error: UpstreamError::HeadersRefused, .. } => return None,
            // Where it could be given it was asked for before.
            Failure::NeedsInput { upstream, .. } => {
                let error = UpstreamError::protocol("it asks for input that cannot be given");
                return Failure::Upstream { upstream: upstream.clone(), error }.as_result();
            }
            Failure::Upstream { .. } | Failure::UrlsNeeded { .. } | Failure::TaskCancelled { .. } => {
                self.text()
            }
            _ => return None,
        };
        let record = self.record()?;
        let text = quote(&text);
        let object = format!(
            r#"{{"content":[{{"type":"text","text":{text}}}],"isError":true,"_meta":{{"{FAILURE_KEY}":{record}}}}}"#
        );
        Object::parse(Bytes::from(object), Limits::NONE).ok()
    }

    /// The same as a JSON-RPC error, where no era has other words for it.
    pub fn as_error(&self) -> ErrorObject {
        let code = match self {
            Failure::TaskCancelled { said: Some(error), .. } => return ErrorObject::clone(error),
            Failure::UnknownTool
            | Failure::UnknownPrompt
            | Failure::UnknownReference
            | Failure::InvalidParams(_)
            | Failure::BadRequestState(_)
            | Failure::BadCursor(_)
            | Failure::UnknownResource { .. }
            | Failure::NotSubscribable { .. } => INVALID_PARAMS,
            Failure::NotDeclared | Failure::NotOffered(_) | Failure::NeedsTask | Failure::NoTask => {
                METHOD_NOT_FOUND
            }
            _ => INTERNAL_ERROR,
        };
        let data = self.record().map(|record| format!(r#","data":{record}"#)).unwrap_or_default();
        let text = format!(r#"{{"code":{code},"message":{}{data}}}"#, quote(&self.text()));
        let object = Object::parse(Bytes::from(text), Limits::NONE).unwrap_or_else(|_| Object::empty());
        ErrorObject { code, object }
    }

    /// What a client may read of it.
    pub fn text(&self) -> String {
        match self {
            Failure::Upstream { upstream, error } => public_text(upstream.as_str(), error),
            Failure::UrlsNeeded { upstream, needed } => urls_needed_text(upstream.as_str(), needed),
            Failure::InputRefused { why, .. } => format!("input was needed: {why}"),
            Failure::TaskCancelled { upstream, .. } => {
                format!("The server \"{upstream}\" cancelled the call. It may have run in part.")
            }
            other => other.to_string(),
        }
    }

    /// What programs may read of it, where it is a server's doing: raw JSON.
    pub fn record(&self) -> Option<String> {
        match self {
            Failure::Upstream { upstream, error } => Some(error.record(upstream).json()),
            Failure::InputRefused { upstream, .. } => {
                let (reason, upstream) = (Reason::InputRefused, Some(upstream));
                let (retryable, outcome) = (false, Ran::Unknown);
                Some(FailureRecord { reason, upstream, retryable, retry_after_ms: None, outcome }.json())
            }
            Failure::TaskCancelled { upstream, .. } => {
                Some(UpstreamError::lost("it cancelled the task").record(upstream).json())
            }
            Failure::UrlsNeeded { upstream, .. } => Some(missing_url_mode(upstream.as_str())),
            _ => None,
        }
    }
}

/// As for `-32021`: the client did not declare what the server needs.
fn missing_url_mode(upstream: &str) -> String {
    format!(
        r#"{{"reason":"missing_client_capability","upstream":{},"retryable":false,"requiredCapabilities":{{"elicitation":{{"url":{{}}}}}}}}"#,
        quote(upstream)
    )
}

/// What is needed, without the address: this client did not offer to show any (era-bridge §9.6).
fn urls_needed_text(upstream: &str, needed: &UrlsNeeded) -> String {
    let mut text = format!(
        "The server \"{upstream}\" needs something done in a browser first, and this client cannot open pages for it."
    );
    for message in &needed.messages {
        text.push_str(" It says: ");
        text.push_str(message);
    }
    text
}

/// What a client may read of an upstream's failure: which server, what happened, whether the call may have run.
fn public_text(upstream: &str, error: &UpstreamError) -> String {
    let what = match error {
        UpstreamError::Unavailable { .. } | UpstreamError::SessionForgotten => "is not available",
        UpstreamError::NotOffered(_) => "does not offer this",
        UpstreamError::Timeout(_) => "did not answer in time",
        UpstreamError::Lost { .. } | UpstreamError::SessionLost => "was lost while the call was under way",
        UpstreamError::Protocol { .. } | UpstreamError::BeyondLimits { .. } => {
            "answered with something that is not valid MCP"
        }
        UpstreamError::HeadersRefused => "refuses the gateway's request",
        UpstreamError::AuthRequired => "asks for credentials that the gateway does not have",
        UpstreamError::TooLarge => "answered with more than the gateway passes on",
        UpstreamError::Overloaded { .. } => "is overloaded",
    };
    let ran = match error.ran() {
        Ran::NotSent => "The call was not sent.",
        Ran::Unknown => "The call may have run.",
        Ran::Executed => "The call has run.",
    };
    format!("The server \"{upstream}\" {what}. {ran}")
}
