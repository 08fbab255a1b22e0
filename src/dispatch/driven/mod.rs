//! From a task of an upstream to the end that its call would have had without it, in both dialects (era-bridge §7).
//!
//! Reading order: `pace` (when to look), `followed` (the requests about one task), `identity` (whether it is that one still),
//! `inputs` (what one of the extension asks), `story` (from one look to the next), `by_result` (how one of the core dialect
//! ends), `cancelling` (one that is given up), and here who has it told. Always: the end is a result or an error as of a
//! plain call, whatever the dialect calls it
//! (era-bridge §7.1); a task that is given up is cancelled upstream; nothing of it is waited for without end. Not here: what
//! clients see of it (`tasks`), whether a call may become one (`wish`).

mod by_result;
mod cancelling;
mod followed;
mod identity;
mod inputs;
mod pace;
mod story;

use std::sync::Arc;
use std::time::Duration;

pub(super) use followed::Followed;
use pace::Pace;
use story::Story;
use tokio::time::Instant;

use super::task::{BegunTask, TaskLink, TaskSink};
use super::tool::Aim;
use super::{Call, Failure, Outcome, Switchboard, TaskUse};
use crate::catalog::snapshot::View;
use crate::config::servers::TransportSettings;
use crate::names::UpstreamName;
use crate::protocol::json::Object;
use crate::protocol::task::{IMMEDIATE_RESPONSE, TaskFacts};
use crate::upstream::error::UpstreamError;
use crate::upstream::task::CreatedTask;

/// After the upstream's own time for a task: clocks differ.
const GRACE: Duration = Duration::from_secs(30);

impl Switchboard {
    /// A call became a task of its upstream's: what its caller gets of that.
    pub(super) async fn became_task(&self, call: &Call, begun: BegunTask) -> Result<Outcome, Failure> {
        match &call.task {
            TaskUse::Offered => Ok(Outcome::Task(Box::new(begun))),
            TaskUse::Plain | TaskUse::Unasked => self.drive_begun(call, begun, None).await,
            TaskUse::Owned(sink) => {
                sink.linked(begun.link()).await;
                sink.made_upstream(begun.created.result.meta(IMMEDIATE_RESPONSE));
                self.driven(call, begun, sink).await
            }
        }
    }

    /// Goes on with a task that is kept, until it ends as its call would have ended without any. Dropping the future cancels
    /// it upstream.
    pub async fn driven(
        &self,
        call: &Call,
        begun: BegunTask,
        sink: &Arc<dyn TaskSink>,
    ) -> Result<Outcome, Failure> {
        self.drive_begun(call, begun, Some(sink)).await
    }

    /// The task that an upstream made of a call; whoever drops it has cancelled it.
    pub(super) fn begun(
        &self,
        call: &Call,
        aim: &Aim<'_>,
        created: CreatedTask,
        view: Arc<View>,
    ) -> Result<BegunTask, Failure> {
        let place = created.place.clone();
        let mut followed = Followed::new(self, call, aim.upstream, place, &created.facts)?;
        followed.known(&created.facts);
        let (upstream, tool) = (aim.upstream.clone(), aim.public.to_owned());
        Ok(BegunTask { upstream, tool, created, view, followed })
    }

    /// Whether a task from before the gateway was restarted may be found again: children took theirs with them.
    pub fn may_find_again(&self, link: &TaskLink) -> bool {
        let upstream = self.upstreams.get(&UpstreamName::new(&*link.upstream));
        upstream.is_some_and(|upstream| matches!(upstream.settings().transport, TransportSettings::Http(_)))
    }

    /// The same of a task that is known from before the gateway was restarted (S-TASK-21).
    pub async fn driven_again(
        &self,
        call: &Call,
        link: &TaskLink,
        sink: &Arc<dyn TaskSink>,
    ) -> Result<Outcome, Failure> {
        let upstream = UpstreamName::new(&*link.upstream);
        let failed = |error| Failure::Upstream { upstream: upstream.clone(), error };
        let profile = call.client.profile.as_ref().map(|profile| profile.as_str());
        let view = self.catalogue.view(profile).ok_or(Failure::UnknownEndpoint)?;
        let Some(handle) = self.upstreams.get(&upstream) else {
            return Err(failed(UpstreamError::lost("it was removed")));
        };
        let mut pace = Pace::of(link.facts.poll_ms);
        let place = loop {
            let permit = self.policy.authorise(call.client.principal, &upstream);
            match handle.task_place(permit, &link.place, &link.id, &call.client).await {
                Ok(place) => break place,
                Err(error @ UpstreamError::Lost { .. }) => return Err(failed(error)),
                Err(error) => {
                    tracing::debug!(%upstream, %error, "a task from before is not reached yet");
                    pace.failed();
                    tokio::time::sleep(pace.pause()).await;
                }
            }
        };
        let followed = Followed::found(self, call, link, place)?;
        self.drive(call, (followed, view), (link.facts.clone(), None), Some(sink)).await
    }

    async fn drive(
        &self,
        call: &Call,
        (mut followed, view): (Followed, Arc<View>),
        (facts, task): (TaskFacts, Option<Object>),
        sink: Option<&Arc<dyn TaskSink>>,
    ) -> Result<Outcome, Failure> {
        let upstream = followed.upstream().name().clone();
        let longest = match sink {
            None => Some(self.rounds.upstream),
            Some(_) => facts.ttl_ms.map(|ttl| Duration::from_millis(ttl).saturating_add(GRACE)),
        };
        followed.known(&facts);
        let pace = Pace::of(facts.poll_ms);
        let story = Story { board: self, call, sink, followed, pace, looked: Instant::now() };
        let run = story.run(facts, task);
        let told = match longest.and_then(|longest| Some((longest, Instant::now().checked_add(longest)?))) {
            None => run.await,
            Some((longest, until)) => {
                let error = UpstreamError::Timeout(longest);
                let late = Failure::Upstream { upstream: upstream.clone(), error };
                tokio::time::timeout_at(until, run).await.unwrap_or(Err(late))
            }
        };
        Ok(Outcome::Relayed { answer: told?, upstream, view })
    }

    async fn drive_begun(
        &self,
        call: &Call,
        begun: BegunTask,
        sink: Option<&Arc<dyn TaskSink>>,
    ) -> Result<Outcome, Failure> {
        let BegunTask { created, view, mut followed, .. } = begun;
        let CreatedTask { facts, result, place } = created;
        // Where it is found again, nothing holds on to the old one.
        drop(place);
        followed.belongs_to(call);
        self.drive(call, (followed, view), (facts, Some(result)), sink).await
    }
}
