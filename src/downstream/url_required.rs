//! An upstream that refuses a call until pages are visited (error `-32042`), towards clients of the handshake era.
//!
//! Always: a client that opens pages gets them under identifiers of its session; any other is told what is needed and
//! never where (S-ELIC-09). Not here: stateless clients, to which nothing of the kind was offered (`respond`).

use std::sync::Arc;

use super::edge::Edge;
use crate::dispatch::{Failure, Outcome};
use crate::names::UpstreamName;
use crate::protocol::code::URL_ELICITATION_REQUIRED;
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::translate::question::urls_needed;
use crate::session::SessionHandle;
use crate::session::messages::RequireUrls;

/// Leaves every other end of a story as it is.
pub(super) async fn relay(
    edge: &Edge,
    session: &SessionHandle,
    ended: Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    match ended {
        Ok(Outcome::Relayed { answer: Answer::Error(error), upstream, .. })
            if error.code == URL_ELICITATION_REQUIRED =>
        {
            required(edge, session, upstream, error).await
        }
        other => other,
    }
}

async fn required(
    edge: &Edge,
    session: &SessionHandle,
    upstream: UpstreamName,
    error: ErrorObject,
) -> Result<Outcome, Failure> {
    let needed = urls_needed(&error.object);
    if let Some(handle) = edge.switchboard.upstreams.get(&upstream) {
        let asker = Arc::clone(handle.asker());
        let required = RequireUrls { upstream: upstream.clone(), asker, error: error.object };
        if let Some(object) = session.urls_required(required).await {
            return Ok(Outcome::Refused(object));
        }
    }
    Err(Failure::UrlsNeeded { upstream, needed })
}
