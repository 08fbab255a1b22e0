//! Why a story ended without an answer of an upstream.

use super::request_state::NotValid;
use crate::catalog::pages::BadCursor;
use crate::names::UpstreamName;
use crate::protocol::frame::ErrorObject;
use crate::protocol::translate::question::UrlsNeeded;
use crate::upstream::error::UpstreamError;
use crate::upstream::input::InputRequired;

/// Each variant has one wire form per era, in `downstream::respond`.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No such tool, or one that the caller may not see: the same answer (S-TOOL-07).
    #[error("unknown tool")]
    UnknownTool,
    /// No such prompt.
    #[error("unknown prompt")]
    UnknownPrompt,
    /// No server has such a resource; the URI is the caller's.
    #[error("resource not found")]
    UnknownResource {
        /// The URI asked for.
        uri: String,
    },
    /// No server tells of updates of this resource; the URI is the caller's.
    #[error("updates of this resource are not told")]
    NotSubscribable {
        /// The URI asked for.
        uri: String,
    },
    /// A completion for something that does not exist.
    #[error("unknown completion reference")]
    UnknownReference,
    /// The endpoint was removed while it was in use.
    #[error("unknown endpoint")]
    UnknownEndpoint,
    /// Parameters that no upstream could understand.
    #[error("invalid params: {0}")]
    InvalidParams(&'static str),
    /// A request state that was not handed out here for this, or is too old.
    #[error("{0}")]
    BadRequestState(#[from] NotValid),
    /// A cursor that was not handed out here, or whose list has changed since.
    #[error("invalid cursor")]
    BadCursor(#[from] BadCursor),
    /// The upstream that owns the target does not offer this.
    #[error("the server does not offer {0}")]
    NotOffered(&'static str),
    /// No upstream of the endpoint offers the feature, and the endpoint has said so.
    #[error("method not found")]
    NotDeclared,
    /// The upstream wants pages visited first, and the caller cannot be shown any.
    #[error("{upstream} needs something done in a browser first")]
    UrlsNeeded {
        /// Which.
        upstream: UpstreamName,
        /// What it says they are for.
        needed: UrlsNeeded,
    },
    /// The upstream asks something before it answers, and the caller is to call again with what it is asked for.
    #[error("{upstream} asks for input")]
    NeedsInput {
        /// Which.
        upstream: UpstreamName,
        /// What it asks.
        asked: Box<InputRequired>,
    },
    /// The client did not give what the upstream asked for, and there is no way to tell the upstream so.
    #[error("{upstream} was not given what it asked for: {why}")]
    InputRefused {
        /// Which.
        upstream: UpstreamName,
        /// Why not.
        why: &'static str,
    },
    /// The tool works as a task alone, and the caller can do nothing with one.
    #[error("this tool works as a task alone")]
    NeedsTask,
    /// The tool works without tasks alone.
    #[error("this tool cannot be called as a task")]
    NoTask,
    /// The upstream cancelled the task that it had made of the call.
    #[error("{upstream} cancelled the task")]
    TaskCancelled {
        /// Which.
        upstream: UpstreamName,
        /// What it says in place of a result, where its dialect has words for it.
        said: Option<Box<ErrorObject>>,
    },
    /// The upstream did not answer.
    #[error("{upstream}: {error}")]
    Upstream {
        /// Which.
        upstream: UpstreamName,
        /// What went wrong.
        error: UpstreamError,
    },
}
