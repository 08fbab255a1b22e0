//! Reading a resource that may have been read before.
//!
//! Always: what is shown again was complete, fresh by its server's own word, and made for this reader or for all; a request
//! that answers a question, or says more than which resource it wants, always goes to its server (S-MRTR-14, S-CACHE-03).
//! Not here: what is kept and for how long (`upstream::kept_reads`).

use std::sync::Arc;

use tokio::time::Instant;

use super::forward::Leg;
use super::{Call, Failure, Switchboard};
use crate::protocol::caching::{Hints, Lifetime};
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::kept_reads::{AuthorizationContext, Credential, ReadKey};

/// What a read gave.
pub(super) enum Read {
    /// A complete result, and what clients are told of how long it is good.
    Complete(Object, Lifetime),
    /// Anything else, for this caller alone.
    Other(Answer),
}

impl Switchboard {
    /// As [`Switchboard::forward`], from what is kept where that will do.
    pub(super) async fn read_through(&self, call: &Call, leg: Leg<'_>) -> Result<Read, Failure> {
        let Some(upstream) = self.upstreams.get(leg.upstream).filter(|upstream| says_how_long(upstream))
        else {
            return Ok(of_the_gateways_own(self.forward(call, leg).await?));
        };
        let Some(key) = key(call, &leg) else {
            return Ok(of_this_moment(self.forward(call, leg).await?));
        };
        let reads = self.upstreams.reads();
        let find =
            || reads.find(self.policy.authorise(call.client.principal, &key.upstream), &key, Instant::now());
        if let Some((result, lifetime)) = find() {
            return Ok(Read::Complete(result, self.told(lifetime)));
        }
        // Asking takes as long as it may by itself: waiting for others adds little to that.
        let patience = self.list_budget.min(upstream.settings().timeout);
        let turn = match reads.is_promising(&key.upstream) {
            true => Some(Box::pin(reads.turn(&key, patience)).await),
            false => None,
        };
        // It may have come while others asked for it.
        if let Some((result, lifetime)) = turn.as_ref().and_then(|_| find()) {
            return Ok(Read::Complete(result, self.told(lifetime)));
        }
        let asked = reads.asking(&key.upstream);
        let answer = match self.forward(call, leg).await {
            Ok(answer) => answer,
            Err(failure) => {
                turn.iter().for_each(|turn| turn.is_for_nobody_else());
                return Err(failure);
            }
        };
        let lifetime = match &answer {
            Answer::Result(result) if is_complete(result) => reads.keep(&key, asked, result, Instant::now()),
            _ => Lifetime::NONE,
        };
        if lifetime.ttl.is_zero() {
            turn.iter().for_each(|turn| turn.is_for_nobody_else());
        }
        Ok(match answer {
            Answer::Result(result) if is_complete(&result) => Read::Complete(result, self.told(lifetime)),
            other => Read::Other(other),
        })
    }
}

/// Only the stateless era has words for it.
fn says_how_long(upstream: &UpstreamHandle) -> bool {
    upstream.known_facts().is_some_and(|facts| facts.revision.era() == Era::Stateless)
}

/// `None` where what was read before can be no answer: to a request that depends on more than its URI.
fn key(call: &Call, leg: &Leg<'_>) -> Option<ReadKey> {
    let is_plain =
        call.input.is_none() && call.params.iter().all(|(name, _)| matches!(&*name, "uri" | "_meta"));
    is_plain.then(|| ReadKey {
        upstream: leg.upstream.clone(),
        method: leg.method,
        uri: Arc::from(leg.local.as_deref().unwrap_or_default()),
        context: AuthorizationContext { principal: call.client.principal, credential: Credential::OfGateway },
    })
}

fn is_complete(result: &Object) -> bool {
    matches!(result.get("resultType"), None | Some(b"\"complete\""))
}

/// Of a server that has no words for how long its answers are good: not kept by anybody (S-CACHE-02).
fn of_the_gateways_own(answer: Answer) -> Read {
    match answer {
        Answer::Result(result) if is_complete(&result) => Read::Complete(result, Lifetime::NONE),
        other => Read::Other(other),
    }
}

/// The answer to what depends on more than can be asked again.
fn of_this_moment(answer: Answer) -> Read {
    match answer {
        Answer::Result(result) if is_complete(&result) => {
            let scope = Hints::of(&result).scope;
            Read::Complete(result, Lifetime { scope, ..Lifetime::NONE })
        }
        other => Read::Other(other),
    }
}
