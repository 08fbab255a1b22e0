//! Asking a stateless upstream again what it is, once its own word for that is over (S-DISC-03).
//!
//! Always: asked while its lists are fetched, so by nobody's clock; what it said before stays when it does not answer. Not
//! here: what the answer means (`probe`), the first time (`greeting`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Affinity;
use super::connect::Address;
use super::error::UpstreamError;
use super::handle::UpstreamHandle;
use super::probe::{Facts, Lasting, Verdict, judge};
use crate::protocol::caching::Hints;

impl UpstreamHandle {
    /// As [`UpstreamHandle::connected`], asked again where that is due; at most every `relist_every`, however short its
    /// word is.
    pub async fn rediscovered(&self) -> Result<Arc<Facts>, UpstreamError> {
        let facts = self.connected().await?;
        let now = Instant::now();
        let is_due = facts.lasting.is_some_and(|lasting| {
            lasting.left(now).is_none_or(|left| left.is_zero())
                && now.saturating_duration_since(lasting.received) >= self.shared.bounds.relist_every
        });
        if !is_due {
            return Ok(facts);
        }
        let asked = tokio::time::timeout(self.shared.bounds.probe_deadline, self.discover(&facts)).await;
        let news = match asked {
            Ok(Some(Verdict::Stateless(news))) => news,
            // What else it may be by now is found out when calls fail. Not asked for again with every list.
            Ok(_) | Err(_) => {
                let lasting =
                    Lasting { received: now, hints: Hints { ttl: Some(Duration::ZERO), ..Hints::NONE } };
                Facts { lasting: Some(lasting), ..Facts::clone(&facts) }
            }
        };
        Ok(self.shared.renew_facts(&facts, news))
    }

    async fn discover(&self, facts: &Facts) -> Option<Verdict> {
        let (answer, status) = match &self.shared.address {
            Address::Http { stateless, .. } => {
                let answered = stateless.ask("server/discover", facts.revision).await.ok()?;
                (answered.answer, Some(answered.status))
            }
            Address::Stdio(_) => {
                let link = self.shared.open_link(Affinity::Shared)?;
                let params = format!(r#"{{"_meta":{}}}"#, super::encode::own_meta(facts.revision));
                (link.ask("server/discover", &params).await.ok()?, None)
            }
        };
        Some(judge(&answer, status, facts.revision))
    }
}
