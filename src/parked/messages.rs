//! The inbox of a call that waits for its client.

use actix::Message;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::state::Reply;
use crate::protocol::json::Object;
use crate::upstream::call::EventSink;

/// A client came back.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Attach {
    /// The round that it answers.
    pub(super) round: u32,
    /// Its answers, by key.
    pub(super) responses: Option<Object>,
    /// Where the call tells what happens to it from now on.
    pub(super) sink: Option<EventSink>,
    /// What it is told.
    pub(super) reply: oneshot::Sender<Reply>,
    /// Cancelled when it waits no longer.
    pub(super) left: CancellationToken,
}
