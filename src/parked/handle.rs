//! How a request reaches a call that waits for its client.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::actor::ParkedCall;
use super::inputs::Inputs;
use super::messages::Attach;
use super::state::Reply;
use crate::protocol::json::Object;
use crate::upstream::call::EventSink;

/// One call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ParkedHandle {
    pub(super) actor: Addr<ParkedCall>,
    pub(super) inputs: Arc<Inputs>,
}

impl ParkedHandle {
    /// What it asks; hears of pages that were completed even after its end.
    pub fn inputs(&self) -> &Arc<Inputs> {
        &self.inputs
    }

    /// Brings answers to a round, and waits for what comes of it. Dropping the future cancels the call, unless another
    /// request has taken it over (F25).
    pub async fn attach(&self, round: u32, responses: Option<Object>, sink: Option<EventSink>) -> Reply {
        let (reply, told) = oneshot::channel();
        let left = CancellationToken::new();
        let _leaves = left.clone().drop_guard();
        if self.actor.send(Attach { round, responses, sink, reply, left }).await.is_err() {
            return Reply::Lost;
        }
        told.await.unwrap_or(Reply::Lost)
    }
}
