//! Sessions that outlived the gateway before this one (F26): they go on, and what their servers knew of them is told anew.
//!
//! Always: nothing is opened upstream before the client is back. Not here: what was kept (`session::kept`).

use std::sync::Arc;

use actix_web::web::Data;

use super::edge::Edge;
use super::initialize::{public_uris, released};
use crate::dispatch::{Call, Subscribing, TaskUse};
use crate::names::ProfileName;
use crate::protocol::frame::Notification;
use crate::protocol::json::{Limits, Object, quote};
use crate::session::SessionHandle;
use crate::session::messages::Subscribed;
use crate::telemetry::spans::{self, Target, Transport};
use crate::telemetry::trace_context::TraceContext;
use crate::upstream::messages::TellClient;

/// How often a server is asked to accept a subscription again, at most.
const ATTEMPTS: u32 = 10;

/// Has sessions go on that the gateway before this one kept, on this thread; those of endpoints that are no longer there
/// end. Before anybody is served.
pub async fn restore_sessions(edge: &Data<Edge>) -> anyhow::Result<()> {
    let restored = edge.sessions.restore(|row| {
        let profile = row.profile().map(ProfileName::new);
        edge.has_endpoint(profile.as_ref()).then(|| (public_uris(edge, profile), released(edge)))
    });
    let restored = restored.await?;
    if !restored.is_empty() {
        tracing::info!(sessions = restored.len(), "sessions of the gateway before this one go on");
    }
    Ok(())
}

/// A client is here: if its session had subscriptions before a restart, their servers are asked again.
pub(super) fn follow_again(edge: &Data<Edge>, session: &SessionHandle) {
    let subscribed = session.take_unfollowed();
    if subscribed.is_empty() {
        return;
    }
    let (edge, session) = (edge.clone(), session.clone());
    actix_web::rt::spawn(async move {
        for subscribed in subscribed {
            tokio::select! {
                () = session.until_ended() => return,
                () = edge.until_draining() => return,
                () = follow(&edge, &session, &subscribed) => {}
            }
        }
    });
}

/// Less and less often while it is refused: the client believes that it is told. What happened meanwhile nobody knows, so
/// that it is told once.
async fn follow(edge: &Edge, session: &SessionHandle, subscribed: &Subscribed) {
    let bounds = &edge.settings.bounds;
    let mut pause = bounds.backoff_first;
    for _ in 0..ATTEMPTS {
        if !session.still_follows(&subscribed.public) {
            return;
        }
        if follow_once(edge, session, subscribed).await {
            let uri = format!(r#"{{"uri":{}}}"#, quote(&subscribed.local));
            if let (Some(port), Some(params)) = (&session.client().port, object(uri)) {
                let notification = Notification { method: "notifications/resources/updated".into(), params };
                let upstream = subscribed.upstream.clone();
                port.tell(TellClient { upstream, in_loggers: false, is_expected: false, notification });
            }
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(bounds.backoff_longest);
    }
    tracing::warn!(session = ?session.id(), upstream = %subscribed.upstream, "a subscription from before the restart is not accepted");
}

async fn follow_once(edge: &Edge, session: &SessionHandle, subscribed: &Subscribed) -> bool {
    let Some(params) = object(format!(r#"{{"uri":{}}}"#, quote(&subscribed.public))) else { return false };
    let span =
        spans::request_span("resources/subscribe", Target::None, session.revision().text(), Transport::Http);
    let call = Call {
        client: Arc::clone(session.client()),
        client_name: Some(Arc::clone(session.client_name())),
        params,
        progress: false,
        log_level: session.wants_logs(),
        trace: TraceContext::parse(None, None, None),
        events: None,
        input: None,
        task: TaskUse::Plain,
        span,
    };
    let Subscribed { public, local, upstream } = subscribed;
    let (public, local, upstream) = (public.clone(), local.clone(), upstream.clone());
    let Ok(subscription) = edge.switchboard.kept_subscription(&call, public, local, upstream) else {
        return false;
    };
    let accepted =
        matches!(edge.switchboard.subscribe(&call, &subscription).await, Ok(Subscribing::Accepted));
    if accepted && !session.still_follows(&subscribed.public) {
        // Its client has changed its mind meanwhile.
        let _ = edge.switchboard.unsubscribe(&call, &subscription).await;
    }
    accepted
}

fn object(text: String) -> Option<Object> {
    Object::parse(text.into(), Limits::NONE).ok()
}
