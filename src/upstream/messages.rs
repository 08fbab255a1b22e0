//! The inbox of the actor of an upstream, and the messages upstreams send upward.

use std::num::NonZeroU32;
use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::call::{Affinity, Client, EventSink};
use super::connect::{AttemptFailed, Connected};
use super::error::UpstreamError;
use super::link::Link;
use super::link_tasks::{LinkTask, NotEntered};
use crate::names::UpstreamName;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::{Answer, Notification, Request};
use crate::protocol::json::Object;
use crate::protocol::translate::question::Asker;

/// Takes news of upstreams.
pub type NewsRecipient = Recipient<UpstreamNews>;
/// Takes the ends of links.
pub(super) type EndRecipient = Recipient<LinkEnded>;
/// Takes doubts about links.
pub(super) type DoubtRecipient = Recipient<LinkDoubted>;
/// Takes doubts about the era.
pub(super) type EraRecipient = Recipient<EraMistaken>;

/// How far a connection is. Watched by every call that waits for it.
#[derive(Debug, Clone)]
pub enum Progress<L> {
    /// Process, connection or handshake under way.
    Starting,
    /// Open for calls.
    Ready(L),
    /// The upstream is spoken to without one.
    NotNeeded,
    /// It could not be opened.
    Failed(UpstreamError),
}

/// How far a link is.
pub type LinkProgress = Progress<Arc<Link>>;

/// Give me the link for this caller, opening it if need be.
#[derive(Debug, Message)]
#[rtype(result = "watch::Receiver<LinkProgress>")]
pub struct OpenLink {
    /// For whom: a session, or who stands for those who share it (`users`).
    pub client: Arc<Client>,
}

/// The caller is gone: close what was its own.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ReleaseLink {
    /// Whose.
    pub affinity: Affinity,
}

/// An attempt to connect ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ConnectSettled {
    pub(super) affinity: Affinity,
    pub(super) number: u64,
    pub(super) outcome: Result<Connected, AttemptFailed>,
}

/// A link is no longer usable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LinkEnded {
    pub(super) affinity: Affinity,
    pub(super) number: u64,
}

/// Nobody knows any longer whom this link's questions are for, because calls were given up on it and not answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct LinkDoubted {
    pub(super) affinity: Affinity,
    pub(super) number: u64,
}

/// A subscription was asked for, and whoever did waits for no answer; nobody else may want it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct SubscriptionAbandoned {
    /// Over which it was asked for.
    pub(super) connection: Affinity,
    pub(super) uri: String,
}

/// Go on in a session over HTTP that was opened before the gateway was restarted, for a task that was made in it; `None`
/// where that cannot be. Sessions that several tasks were made in are taken up once.
#[derive(Debug, Message)]
#[rtype(result = "Option<(Arc<Link>, Result<Arc<LinkTask>, NotEntered>)>")]
pub(super) struct TakeUp {
    pub(super) client: Arc<Client>,
    /// Its `Mcp-Session-Id`.
    pub(super) session: String,
    pub(super) revision: Revision,
    /// The upstream's id of the task.
    pub(super) id: String,
}

/// What the gateway believed of the upstream's era turned out wrong.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct EraMistaken {
    /// So that a doubt that comes late changes nothing.
    pub(super) believed: Era,
}

/// Stop everything: the gateway shuts down or the server was removed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Retire {
    /// Resolved when every process of this upstream is gone and its sessions are ended, as far as it lets them.
    pub(super) done: oneshot::Sender<()>,
}

/// A method that was named as a failpoint is about to be called; debug builds only (F56).
#[cfg(debug_assertions)]
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct PanicNow;

/// Which list an upstream said has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// `notifications/tools/list_changed`
    Tools,
    /// `notifications/prompts/list_changed`
    Prompts,
    /// `notifications/resources/list_changed`: resources and templates
    Resources,
}

/// News of an upstream for the catalogue.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UpstreamNews {
    /// Of which one.
    pub upstream: UpstreamName,
    /// What happened.
    pub kind: NewsKind,
}

/// What happened to an upstream.
#[derive(Debug, Clone)]
pub enum NewsKind {
    /// It can be asked now.
    Connected,
    /// It could not be reached, for this reason.
    Failed(String),
    /// One of its lists changed.
    ListChanged(ListKind),
    /// It did not know something that its list has.
    ListDoubtful(ListKind),
}

/// Ask the client behind a session, on the stream of the call that caused the question when there is one.
#[derive(Debug, Message)]
#[rtype(result = "Result<Question, QuestionRefused>")]
pub struct AskClient {
    /// Who asks.
    pub upstream: UpstreamName,
    /// How it presents itself, and what it may ask.
    pub asker: Arc<Asker>,
    /// How many questions a minute it may put to this client.
    pub per_minute: NonZeroU32,
    /// The upstream's request; its id stays on its hop.
    pub request: Request,
    /// The stream of the causing call.
    pub stream: Option<EventSink>,
    /// That of a call which may be the causing one, for a client that reads no other.
    pub otherwise: Option<EventSink>,
    /// The task that it belongs to, by the id its client knows (S-TASK-16).
    pub task: Option<Arc<str>>,
}

/// A question under way to the client.
#[derive(Debug)]
pub struct Question {
    /// The gateway's number for it.
    pub number: u64,
    /// Where the answer will arrive; closed without one when the session ends.
    pub answer: oneshot::Receiver<Answer>,
    /// The client's newest progress on it: parameters of `notifications/progress`.
    pub progress: watch::Receiver<Option<Object>>,
    /// Cancelled when the question was lost on its way to the client.
    pub lost: CancellationToken,
}

/// Why a client cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuestionRefused {
    /// It may not be asked this.
    #[error("{1} ({0})")]
    Refused(i64, &'static str),
    /// It cannot be shown this; the upstream is given this result.
    #[error("answered without asking")]
    Answered(&'static [u8]),
    /// Too many open questions.
    #[error("too many open questions")]
    TooMany,
    /// Too many questions in a short time.
    #[error("too many questions in a short time")]
    TooOften,
    /// The client is there no longer.
    #[error("nobody is there to be asked")]
    Gone,
}

/// The upstream no longer waits for an answer (S-CANC-04).
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct WithdrawQuestion {
    /// The gateway's number for it.
    pub number: u64,
}

/// Tell the client something that belongs to no call.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TellClient {
    /// Who tells.
    pub upstream: UpstreamName,
    /// Whether loggers name it.
    pub in_loggers: bool,
    /// Whether it is about something that this client is being told of, and may come before that; it is never dropped.
    pub is_expected: bool,
    /// The upstream's notification.
    pub notification: Notification,
}

#[cfg(test)]
pub(super) mod tests {
    use actix::prelude::*;

    use super::*;

    /// Takes news and makes nothing of it.
    struct Deaf;

    impl Actor for Deaf {
        type Context = Context<Self>;
    }

    impl Handler<UpstreamNews> for Deaf {
        type Result = ();

        fn handle(&mut self, _: UpstreamNews, _: &mut Self::Context) {}
    }

    /// Somebody for news, on this thread.
    pub(in crate::upstream) fn nobody_in_particular() -> NewsRecipient {
        Deaf.start().recipient()
    }
}
