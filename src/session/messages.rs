//! The inbox of a session's actor, besides the questions and news of upstreams (`upstream::messages`).

use std::sync::Arc;

use actix::Message;
use bytes::Bytes;

use super::stream::StreamReader;
use crate::names::UpstreamName;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::translate::question::Asker;
use crate::upstream::events::EventSink;

/// The client has sent `notifications/initialized`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ClientReady;

/// The client answered a question.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ClientAnswered {
    /// The gateway's number for it.
    pub number: u64,
    /// Result or error.
    pub answer: Answer,
}

/// The client cancelled a call: what was asked on its stream is asked no longer (S-CANC-06).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CallCancelled {
    /// The stream of the call.
    pub stream: EventSink,
}

/// The client tells how far it is with a question.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ClientProgressed {
    /// Parameters of its `notifications/progress`.
    pub params: Object,
}

/// An upstream refuses a call until pages are visited: give the error object that this client may see, if there is one.
#[derive(Debug, Message)]
#[rtype(result = "Option<Bytes>")]
pub struct RequireUrls {
    /// Who refuses.
    pub upstream: UpstreamName,
    /// How it presents itself.
    pub asker: Arc<Asker>,
    /// Its error object.
    pub error: Object,
}

/// The client opens its standing stream.
#[derive(Debug, Message)]
#[rtype(result = "Result<StreamReader, StreamTaken>")]
pub struct OpenStream {
    /// The last event that reached the client, where it says so.
    pub resume: Option<u64>,
}

/// There is one standing stream per session, and it is open (S-HTTPS-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session's stream is already open")]
pub struct StreamTaken;

/// The client is subscribed to a resource from now on; whether it was not before.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Subscribed {
    /// The URI the client uses.
    pub public: String,
    /// The URI the upstream uses.
    pub local: String,
    /// Whose resource it is.
    pub upstream: UpstreamName,
}

/// The client no longer wants updates of this resource.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unsubscribed {
    /// The URI the client uses.
    pub public: String,
}

/// The client ends a subscription: forget it, whatever becomes of the rest.
#[derive(Debug, Message)]
#[rtype(result = "StoppedFollowing")]
pub struct StopFollowing {
    /// The URI the client uses.
    pub public: String,
    /// The upstream's URI, and whose it is, where the session knows of no such subscription.
    pub otherwise: Option<(String, UpstreamName)>,
}

/// What the end of a subscription leaves.
#[derive(Debug, PartialEq, Eq)]
pub enum StoppedFollowing {
    /// Nothing is known of it.
    Unknown,
    /// The client follows the same resource under another name.
    StillFollowed,
    /// Nothing: its server can be told.
    Over {
        /// The URI the upstream uses.
        local: String,
        /// Whose resource it is.
        upstream: UpstreamName,
    },
}

/// Lists that this session sees have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ListsChanged {
    /// `notifications/tools/list_changed`
    pub tools: bool,
    /// `notifications/prompts/list_changed`
    pub prompts: bool,
    /// `notifications/resources/list_changed`, for `resources/list`
    pub resources: bool,
    /// `notifications/resources/list_changed`, for `resources/templates/list`
    pub templates: bool,
}

/// A task that this session began is in another state.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TaskChanged {
    /// Members of the task object as its client knows it, without braces.
    pub members: String,
    /// Whether nothing follows.
    pub is_over: bool,
}

/// Answered when everything that was sent before was handled.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Settle;

/// The session ends: by DELETE, idleness or drain.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EndSession {
    /// Why, for the log.
    pub why: &'static str,
}

/// A method that was named as a failpoint arrived; debug builds only.
#[cfg(debug_assertions)]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PanicNow;
