//! What a listening needs of upstreams: that they are heard, and that they tell of resources (S-SUB-05).
//!
//! Always: whatever is waited for has a bound, and what did not come in time is left out rather than waited for longer; a
//! listening that is over follows nothing. Not here: what listeners are told (`listening`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use tokio::time::{Instant, timeout, timeout_at};

use super::resource::{Subscribing, Subscription};
use super::{Call, Switchboard, TaskUse};
use crate::names::UpstreamName;
use crate::protocol::json::{Limits, Object, quote};
use crate::upstream::call::Client;
use crate::upstream::fleet::Fleet;

/// Subscriptions that are asked of servers at a time, for one listening, where each is a request of its own.
const AT_ONCE: usize = 16;

/// Resources that are followed for a listening, until this is dropped.
#[derive(Debug)]
pub struct Following {
    client: Arc<Client>,
    upstreams: Arc<Fleet>,
    at: Vec<UpstreamName>,
}

impl Drop for Following {
    fn drop(&mut self) {
        // First, so that nobody follows anything more for it.
        self.client.closed.cancel();
        for upstream in self.at.iter().filter_map(|name| self.upstreams.get(name)) {
            upstream.release(self.client.affinity);
        }
    }
}

/// Who learns which resources a listening follows.
pub trait Follows {
    /// Updates of it may come from now on.
    fn begin(&self, subscription: &Subscription);
    /// Its server does not tell of it.
    fn refuse(&self, subscription: &Subscription);
}

impl Switchboard {
    /// Waits until the changes that an endpoint's upstreams tell of are heard, a moment at most.
    pub async fn until_heard(&self, client: &Client, limit: Duration) {
        let Some(view) = self.catalogue.view(client.profile.as_ref().map(|profile| profile.as_str())) else {
            return;
        };
        let upstreams = view.upstreams().iter().filter_map(|name| self.upstreams.get(name));
        let heard = join_all(upstreams.map(|upstream| upstream.until_heard()));
        // Those that are not heard now tell of everything when they are.
        let _ = timeout(limit, heard).await;
    }

    /// Follows resources by their public URIs for the caller, a listening: those that are known, and whose servers agree
    /// within `limit`.
    pub async fn follow(
        &self,
        call: &Call,
        uris: Vec<String>,
        limit: Duration,
        who: &dyn Follows,
    ) -> Following {
        let until = Instant::now() + limit;
        let mut following = Following {
            client: Arc::clone(&call.client),
            upstreams: Arc::clone(&self.upstreams),
            at: Vec::new(),
        };
        let calls = uris.iter().filter_map(|uri| call_about(call, uri));
        let found = join_all(calls.map(async |call| {
            let subscription = timeout_at(until, self.subscription(&call)).await;
            Some((subscription.ok()?.ok()?, call))
        }));
        let found: Vec<_> = found.await.into_iter().flatten().collect();
        for (subscription, _) in &found {
            if !following.at.contains(&subscription.upstream) {
                following.at.push(subscription.upstream.clone());
            }
        }
        // What is asked of a stateless server at a time is one request.
        let (together, one_by_one): (Vec<_>, Vec<_>) = found.into_iter().partition(|(subscription, _)| {
            let upstream = self.upstreams.get(&subscription.upstream);
            upstream.is_some_and(|upstream| upstream.subscribes_by_listening())
        });
        let ask = async |(subscription, call): (Subscription, Call)| {
            if Instant::now() >= until {
                // Polled once all the same, it would be asked of the server.
                return who.refuse(&subscription);
            }
            who.begin(&subscription);
            let asked = timeout_at(until, self.subscribe(&call, &subscription)).await;
            if !matches!(asked, Ok(Ok(Subscribing::Accepted))) {
                tracing::debug!(upstream = %subscription.upstream, "a resource is not followed");
                who.refuse(&subscription);
            }
        };
        tokio::join!(
            join_all(together.into_iter().map(ask)),
            stream::iter(one_by_one.into_iter().map(ask)).buffer_unordered(AT_ONCE).count()
        );
        following
    }
}

/// The same caller's call about one resource.
fn call_about(call: &Call, uri: &str) -> Option<Call> {
    let params = Bytes::from(format!(r#"{{"uri":{}}}"#, quote(uri)));
    Some(Call {
        client: Arc::clone(&call.client),
        client_name: call.client_name.clone(),
        params: Object::parse(params, Limits::NONE).ok()?,
        progress: false,
        log_level: None,
        trace: call.trace.clone(),
        events: None,
        input: None,
        task: TaskUse::Plain,
        span: call.span.clone(),
    })
}
