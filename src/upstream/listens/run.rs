//! Does what was decided: opens streams, leaves them, and watches the clock.
//!
//! Always: whatever ends this task ends every stream that it opened. Not here: what streams say (`over_http`, `over_pipe`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use super::state::{Effect, Ending, Filter, Verdict, Wake};
use super::{Heard, StandingListen, Way, over_http, over_pipe};
use crate::names::UpstreamName;
use crate::protocol::era::Era;
use crate::protocol::frame::Notification;
use crate::protocol::json::{Limits, Object, quote};
use crate::upstream::arrivals::tell_followers;
use crate::upstream::call::Affinity;
use crate::upstream::changes::{Changes, note_change};
use crate::upstream::messages::{EraMistaken, EraRecipient, NewsRecipient};
use crate::upstream::subscriptions::Subscriptions;

/// To whom goes what is heard.
pub(in crate::upstream) struct Telling {
    pub(in crate::upstream) upstream: UpstreamName,
    pub(in crate::upstream) changes: Arc<Changes>,
    pub(in crate::upstream) news: NewsRecipient,
    pub(in crate::upstream) followers: Arc<Subscriptions>,
    pub(in crate::upstream) era: EraRecipient,
}

impl Telling {
    pub(super) fn tell(&self, heard: Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Changed(list) => note_change(&self.changes, &self.upstream, &self.news, list),
            Heard::Updated(notification) => {
                tell_followers(&self.upstream, &self.followers, Affinity::Shared, &notification);
            }
        }
    }

    /// Has the era looked at again.
    pub(super) fn doubt_era(&self) {
        if self.era.try_send(EraMistaken { believed: Era::Stateless }).is_err() {
            tracing::debug!(upstream = %self.upstream, "the actor is busy; its era stays as it was");
        }
    }

    /// Whatever would have been told may have happened: a needless look costs less than one that is never taken.
    fn look_at(&self, filter: Filter) {
        for list in filter.lists {
            self.tell(Heard::Changed(list));
        }
        for uri in filter.uris {
            let params = Bytes::from(format!(r#"{{"uri":{}}}"#, quote(&uri)));
            if let Ok(params) = Object::parse(params, Limits::NONE) {
                let method = "notifications/resources/updated".into();
                self.tell(Heard::Updated(Box::new(Notification { method, params })));
            }
        }
    }
}

/// What is under way.
struct Running {
    listen: Arc<StandingListen>,
    telling: Arc<Telling>,
    streams: JoinSet<Ending>,
    numbers: HashMap<Id, u64>,
    open: HashMap<u64, AbortHandle>,
    waits: JoinSet<Wake>,
}

/// Runs until it is dropped. Must be called on the thread that serves upstreams.
pub(in crate::upstream) async fn run(listen: Arc<StandingListen>, telling: Telling) {
    let mut running = Running {
        listen,
        telling: Arc::new(telling),
        streams: JoinSet::new(),
        numbers: HashMap::new(),
        open: HashMap::new(),
        waits: JoinSet::new(),
    };
    loop {
        while let Some((effect, way)) = running.listen.take() {
            running.carry_out(effect, way);
        }
        tokio::select! {
            () = running.listen.work.notified() => {}
            Some(Ok(wake)) = running.waits.join_next() => running.listen.due(wake),
            Some(ended) = running.streams.join_next_with_id() => running.stream_ended(ended),
        }
    }
}

impl Running {
    fn carry_out(&mut self, effect: Effect, way: Option<Way>) {
        match effect {
            Effect::Open { stream, filter } => self.open(stream, filter, way),
            Effect::Close(stream) => {
                if let Some(stream) = self.open.remove(&stream) {
                    stream.abort();
                }
            }
            Effect::WakeAfter(wake, wait) => {
                self.waits.spawn_local(async move {
                    tokio::time::sleep(wait).await;
                    wake
                });
            }
            // Nobody waits for it: it was accepted before, and is not for now. Whoever wants it next asks again.
            Effect::Verdict { uri, verdict: Verdict::Refused | Verdict::Unreachable } => {
                tracing::warn!(upstream = %self.telling.upstream, "a subscription was not renewed");
                self.telling.followers.refuse(Affinity::Shared, &uri);
            }
            Effect::Verdict { uri, verdict: Verdict::Accepted } => {
                self.telling.followers.accept(Affinity::Shared, &uri);
            }
            Effect::LookAt(filter) => self.telling.look_at(filter),
        }
    }

    fn open(&mut self, stream: u64, filter: Filter, way: Option<Way>) {
        let (listen, telling) = (Arc::clone(&self.listen), Arc::clone(&self.telling));
        let handle = self.streams.spawn_local(async move {
            match way {
                Some(Way::Http(stateless, revision)) => {
                    over_http::listen(&listen, &telling, stream, &filter, &stateless, revision).await
                }
                Some(Way::Pipe(link)) => over_pipe::listen(&listen, stream, &filter, &link).await,
                None => Ending::Over(Duration::ZERO),
            }
        });
        self.numbers.insert(handle.id(), stream);
        self.open.insert(stream, handle);
    }

    fn stream_ended(&mut self, ended: Result<(Id, Ending), tokio::task::JoinError>) {
        let (id, ending) = match ended {
            Ok((id, ending)) => (id, Some(ending)),
            Err(error) if error.is_cancelled() => (error.id(), None),
            Err(error) => (error.id(), Some(Ending::Over(Duration::ZERO))),
        };
        let Some(stream) = self.numbers.remove(&id) else { return };
        self.open.remove(&stream);
        match ending {
            Some(ending) => {
                tracing::debug!(upstream = %self.telling.upstream, ?ending, "a listen stream ended");
                self.listen.ended(stream, ending);
            }
            None => self.listen.left(stream),
        }
    }
}

/// How long a stream has lasted, as its ending says it.
pub(super) fn over(since: Instant) -> Ending {
    Ending::Over(since.elapsed())
}
