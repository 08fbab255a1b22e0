//! What becomes of unfinished tasks after a start.

use std::sync::Arc;

use super::inputs::TaskInputs;
use crate::auth::principal::Principal;
use crate::dispatch::{TaskLink, TaskSink};
use crate::names::ProfileName;
use crate::parked::Story;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::upstream::events::EventSink;

use super::registry::TaskRegistry;
use crate::store::error::StoreError;

/// An upstream's task that is to be followed again: everything that is known of its client and its call.
pub struct Resumption {
    /// The upstream's task.
    pub link: TaskLink,
    /// What the story tells.
    pub sink: Arc<dyn TaskSink>,
    /// Whose.
    pub principal: Principal,
    /// At which endpoint.
    pub endpoint: Option<ProfileName>,
    /// What its client speaks.
    pub revision: Revision,
    /// What its client can be asked.
    pub capabilities: ClientCapabilities,
    /// How it is asked ([`TaskInputs::port`]).
    pub inputs: TaskInputs,
    /// Where the story tells progress.
    pub events: EventSink,
    /// The trace that its call belongs to.
    pub trace_id: Option<String>,
}

impl TaskRegistry {
    /// Goes on, on this thread, with what was unfinished when the gateway ended: tasks of upstreams are followed where `drive`
    /// gives a story, everything else has failed (F45). Reads the open tasks alone; resolves when none is left unsettled.
    pub async fn resume(
        self: &Arc<Self>,
        drive: impl Fn(Resumption) -> Option<Story>,
    ) -> Result<usize, StoreError> {
        todo!()
    }
}
