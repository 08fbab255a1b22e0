//! What becomes of unfinished tasks after a start (F45).
//!
//! Always: a call is never sent again; a task of an upstream is followed to its end, whatever else was under way has failed,
//! with what is known of its outcome; only tasks that are not over are read. What a task asked before is asked no longer: its
//! upstream asks again, under keys that were not used before. Not here: following (`dispatch`).

use std::sync::Arc;
use std::time::Duration;

use super::actor::TaskActor;
use super::carried::CarriedInputs;
use super::inputs::TaskInputs;
use super::keeping::{OPEN, TASKS};
use super::record::{Ending, Intent, Record, TaskKey};
use super::registry::TaskRegistry;
use super::state::State;
use crate::auth::principal::Principal;
use crate::dispatch::{TaskLink, TaskSink};
use crate::names::{ProfileName, UpstreamName};
use crate::parked::{Inputs, Story};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::{Era, Revision};
use crate::store::error::StoreError;
use crate::store::records::Position;
use crate::upstream::events::{EventSink, event_queue};

/// Open tasks that are read at once.
const PAGE: usize = 256;
/// Between two attempts to read them.
const AGAIN: Duration = Duration::from_secs(1);
/// Events of a task that may wait: of progress, the newest is enough.
const EVENTS: usize = 4;

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
    /// gives a story, everything else has failed. Resolves with how many there were, when none is left unsettled; a store
    /// that does not answer is asked again, unless it says that it never will.
    pub async fn resume(
        self: &Arc<Self>,
        drive: impl Fn(Resumption) -> Option<Story>,
    ) -> Result<usize, StoreError> {
        let (mut after, mut count) = (None::<Vec<u8>>, 0);
        loop {
            match self.resume_page(after.as_deref(), &drive, &mut count).await {
                Ok(None) => break,
                Ok(next) => after = next,
                Err(error @ (StoreError::Busy | StoreError::Full | StoreError::Io(_))) => {
                    tracing::warn!(%error, "unfinished tasks are read a little later");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.resumed();
        tracing::info!(count, "unfinished tasks were found");
        Ok(count)
    }

    /// Goes on with the tasks of one page, and says where the next begins.
    async fn resume_page(
        self: &Arc<Self>,
        after: Option<&[u8]>,
        drive: &impl Fn(Resumption) -> Option<Story>,
        count: &mut usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let position = after.map_or(Position::First, Position::After);
        let page = self.records().scan(OPEN, position, PAGE).await?;
        // What cannot be read of an entry does not matter: it is its key that counts.
        let keys = page.items.iter().map(|(key, _)| key).chain(&page.damaged);
        for key in keys.filter_map(|key| TaskKey::of_bytes(key)) {
            // It may have been taken over when this page was read before.
            if self.live(key).is_none() {
                *count += usize::from(self.go_on(key, drive).await?);
            }
        }
        Ok(page.next)
    }

    /// Whether there was such a task.
    async fn go_on(
        self: &Arc<Self>,
        key: TaskKey,
        drive: &impl Fn(Resumption) -> Option<Story>,
    ) -> Result<bool, StoreError> {
        let kept = match self.records().get(TASKS, key.as_bytes()).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(false),
            // This one is lost; others are not.
            Err(error @ StoreError::Damaged(_)) => {
                tracing::error!(task = %key.number(), %error, "an unfinished task is lost");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let known = Record::decode(&kept.value).map_err(|error| error.to_string()).and_then(|record| {
            let principal = record.principal().ok_or("its principal is of no known kind")?;
            let revision = record.revision().ok_or("its revision is unknown")?;
            Ok((record, principal, revision))
        });
        match known {
            Ok((record, ..)) if record.status.is_terminal() => Ok(false),
            Ok((record, principal, revision)) => {
                self.take_over(key, record, principal, revision, drive);
                Ok(true)
            }
            Err(error) => {
                tracing::error!(task = %key.number(), error, "an unfinished task cannot be gone on with");
                Ok(false)
            }
        }
    }

    fn take_over(
        self: &Arc<Self>,
        key: TaskKey,
        record: Record,
        principal: Principal,
        revision: Revision,
        drive: &impl Fn(Resumption) -> Option<Story>,
    ) {
        let capabilities = record.capabilities();
        let inputs = match revision.era() {
            // No key of before comes again: there were fewer than milliseconds.
            Era::Stateless => {
                TaskInputs::Keyed(Inputs::counting_from(self.now_ms(), revision, capabilities.clone()))
            }
            Era::Handshake => TaskInputs::Carried(CarriedInputs::new(revision, capabilities.clone(), None)),
        };
        inputs.name(&record.id);
        let otherwise = Ending::gateway_restarted(&UpstreamName::new(&*record.upstream), record.intent);
        let is_resumable = record.intent == Intent::Dispatched && record.link.is_some();
        let (endpoint, trace_id) = (record.profile(), record.trace_id.clone());
        let link = record.link.clone().filter(|_| is_resumable);
        let place = self.claim_again(principal, key);
        let asked = inputs.clone();
        let story = |sink: Arc<dyn TaskSink>| {
            let (events, told) = event_queue(EVENTS);
            let story = drive(Resumption {
                link: link?,
                sink,
                principal,
                endpoint,
                revision,
                capabilities,
                inputs: asked,
                events,
                trace_id,
            })?;
            Some((story, told))
        };
        TaskActor::resume_task(place, State::resume(record), inputs, story, otherwise);
    }
}
