//! Subscribing and unsubscribing over a connection that others may share, and over the one that takes its place.
//!
//! Always: a follower is entered before the upstream is asked, so that no update is early, and leaves again when it is
//! refused or stops waiting; whoever asks the upstream about a resource has its turn. Not here: who follows what
//! (`subscriptions`).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::backoff::Backoff;
use super::call::{Affinity, UpstreamCall};
use super::connect::Address;
use super::error::UpstreamError;
use super::handle::UpstreamHandle;
use super::link::Link;
use super::listens::Verdict;
use super::messages::SubscriptionAbandoned;
use super::shared::Shared;
use super::subscriptions::Subscriptions;
use crate::protocol::code::INVALID_PARAMS;
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object, quote};

impl UpstreamHandle {
    /// Asks the upstream only where nobody follows the resource over this connection yet.
    pub(super) async fn subscribe(
        &self,
        affinity: Affinity,
        call: &UpstreamCall<'_>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let (client, subscriptions) = (&call.circumstances.client, &self.shared.subscriptions);
        let Some(uri) = &call.target else {
            return self.call_on_link((affinity, client), call, None, sent).await;
        };
        if !subscriptions.have_room(client.affinity) {
            return Err(UpstreamError::Overloaded { retry_after: None });
        }
        let link = self.link(affinity, client, call.circumstances.log_level).await?;
        let connection = link.affinity();
        let tidy = TidyOnDrop { subscriptions, connection, uri };
        let turn = subscriptions.turn(&link.client, uri);
        let held = turn.lock_owned().await;
        let is_followed = subscriptions.is_followed(connection, uri);
        subscriptions.add(connection, client, uri);
        if is_followed {
            return Ok(Answer::Result(Object::empty()));
        }
        let mut entered = LeaveOnDrop { handle: self, tidy: &tidy, session: client.affinity, became: None };
        let mut answer = self.call_on_link((affinity, client), call, None, sent).await?;
        if matches!(answer, Answer::Result(_)) && link.has_ended() {
            // The one that was opened meanwhile knew nothing of it.
            answer = self.call_on_link((affinity, client), call, None, sent).await?;
        }
        let is_accepted = matches!(answer, Answer::Result(_));
        if is_accepted {
            subscriptions.accept(connection, uri);
        }
        entered.became = Some(is_accepted);
        drop(entered);
        drop(held);
        Ok(answer)
    }

    /// Tells the upstream only where nobody else follows the resource over this connection.
    pub(super) async fn unsubscribe(
        &self,
        affinity: Affinity,
        call: &UpstreamCall<'_>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let (client, subscriptions) = (&call.circumstances.client, &self.shared.subscriptions);
        let Some(uri) = &call.target else {
            return self.call_on_link((affinity, client), call, None, sent).await;
        };
        let link = self.link(affinity, client, call.circumstances.log_level).await?;
        let connection = link.affinity();
        let _tidy = TidyOnDrop { subscriptions, connection, uri };
        let turn = subscriptions.turn(&link.client, uri);
        let _held = turn.lock_owned().await;
        if !subscriptions.remove(connection, client.affinity, uri) {
            return Ok(Answer::Result(Object::empty()));
        }
        self.call_on_link((affinity, client), call, None, sent).await
    }
}

impl UpstreamHandle {
    /// As `subscribe`, of a stateless upstream: there is one listening for all who follow its resources.
    pub(super) async fn subscribe_by_listening(
        &self,
        call: &UpstreamCall<'_>,
    ) -> Result<Answer, UpstreamError> {
        let (client, shared) = (&call.circumstances.client, &self.shared);
        let subscriptions = &shared.subscriptions;
        let Some(uri) = &call.target else { return Err(UpstreamError::NotOffered(call.method.name())) };
        if !subscriptions.have_room(client.affinity) {
            return Err(UpstreamError::Overloaded { retry_after: None });
        }
        if let Address::Stdio(_) = &shared.address {
            // It may have been stopped because nobody used it.
            self.link(Affinity::Shared, client, None).await?;
        }
        let turn = subscriptions.turn(&shared.own_client, uri);
        let mut entered = StopListeningOnDrop { shared, uri, follower: None };
        let _held = turn.lock_owned().await;
        let is_followed = subscriptions.is_followed(Affinity::Shared, uri);
        subscriptions.add(Affinity::Shared, client, uri);
        if is_followed {
            return Ok(Answer::Result(Object::empty()));
        }
        entered.follower = Some(client.affinity);
        match shared.listen.want(uri).await {
            Verdict::Accepted => {}
            Verdict::Refused => return Ok(Answer::Error(not_subscribable(uri))),
            Verdict::Unreachable => return Err(UpstreamError::unavailable("it cannot be listened to now")),
        }
        subscriptions.accept(Affinity::Shared, uri);
        entered.follower = None;
        Ok(Answer::Result(Object::empty()))
    }

    /// As `unsubscribe`, of a stateless upstream.
    pub(super) async fn unsubscribe_by_listening(&self, call: &UpstreamCall<'_>) -> Answer {
        let (client, shared) = (&call.circumstances.client, &self.shared);
        if let Some(uri) = &call.target {
            let turn = shared.subscriptions.turn(&shared.own_client, uri);
            let _ended = StopListeningOnDrop { shared, uri, follower: None };
            let _held = turn.lock_owned().await;
            shared.subscriptions.remove(Affinity::Shared, client.affinity, uri);
        }
        Answer::Result(Object::empty())
    }
}

impl UpstreamHandle {
    /// Has a subscription ended unless somebody follows it by then.
    fn abandon_subscription(&self, connection: Affinity, uri: &str) {
        if let Ok(actor) = self.actor()
            && actor.try_send(SubscriptionAbandoned { connection, uri: uri.to_owned() }).is_err()
        {
            tracing::debug!(upstream = %self.name(), "the actor is busy; a subscription is left as it is");
        }
    }
}

/// A stateless upstream says no by leaving the resource out of its acknowledgement (era-bridge §5).
fn not_subscribable(uri: &str) -> ErrorObject {
    let text = format!(
        r#"{{"code":{INVALID_PARAMS},"message":"updates of this resource are not told","data":{{"uri":{}}}}}"#,
        quote(uri)
    );
    let object = Object::parse(text.into(), Limits::NONE).unwrap_or_else(|_| Object::empty());
    ErrorObject { code: INVALID_PARAMS, object }
}

/// Removes a follower, if one is named, and asks for updates no longer if nobody is left.
struct StopListeningOnDrop<'a> {
    shared: &'a Shared,
    uri: &'a str,
    follower: Option<Affinity>,
}

impl Drop for StopListeningOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(follower) = self.follower {
            self.shared.subscriptions.remove(Affinity::Shared, follower, self.uri);
        }
        self.shared.stop_listening_to(Affinity::Shared, self.uri);
    }
}

/// Subscribes to what was followed over an earlier link of the same affinity, and still is. What is not accepted is asked
/// for again, less and less often, while the link lasts: its followers believe that they are told of it.
pub(super) fn renew(link: &Arc<Link>, subscriptions: &Arc<Subscriptions>, waits: (Duration, Duration)) {
    let mut left = subscriptions.of(link.affinity());
    if left.is_empty() {
        return;
    }
    let (mut link, subscriptions) = (Arc::clone(link), Arc::clone(subscriptions));
    tokio::task::spawn_local(async move {
        left.iter().for_each(|uri| subscriptions.refuse(link.affinity(), uri));
        let mut backoff = Backoff::new(waits.0, waits.1);
        loop {
            left = renew_each(&link, &subscriptions, left).await;
            if left.is_empty() || link.has_ended() {
                // The next one renews what is left.
                return;
            }
            let waiting = Arc::downgrade(&link);
            drop(link);
            tokio::time::sleep(backoff.next_but_not_at_once()).await;
            link = match waiting.upgrade() {
                Some(still) if !still.has_ended() => still,
                _ => return,
            };
        }
    });
}

/// Gives those that were not accepted.
async fn renew_each(link: &Arc<Link>, subscriptions: &Subscriptions, uris: Vec<String>) -> Vec<String> {
    let connection = link.affinity();
    let mut left = Vec::new();
    for uri in uris {
        let _tidy = TidyOnDrop { subscriptions, connection, uri: &uri };
        let _held = subscriptions.turn(&link.client, &uri).lock_owned().await;
        // Somebody else may have asked meanwhile.
        if !subscriptions.has_followers(connection, &uri) || subscriptions.is_followed(connection, &uri) {
            continue;
        }
        let is_accepted = link.subscribe_again(&uri).await;
        if link.has_ended() {
            break;
        }
        if is_accepted {
            subscriptions.accept(connection, &uri);
        } else {
            left.push(uri.clone());
        }
    }
    left
}

/// Tells the upstream of resources whose last follower's session ended.
pub(super) fn let_go(link: &Arc<Link>, subscriptions: &Arc<Subscriptions>, uris: Vec<String>) {
    let (link, subscriptions) = (Arc::clone(link), Arc::clone(subscriptions));
    tokio::task::spawn_local(async move {
        for uri in uris {
            let connection = link.affinity();
            let _tidy = TidyOnDrop { subscriptions: &subscriptions, connection, uri: &uri };
            let _held = subscriptions.turn(&link.client, &uri).lock_owned().await;
            if !subscriptions.is_followed(connection, &uri) && !link.has_ended() {
                link.unsubscribe(&uri).await;
            }
        }
    });
}

/// Whatever came of it, nothing is kept of a resource that nobody follows.
struct TidyOnDrop<'a> {
    subscriptions: &'a Subscriptions,
    connection: Affinity,
    uri: &'a str,
}

impl Drop for TidyOnDrop<'_> {
    fn drop(&mut self) {
        self.subscriptions.tidy(self.connection, self.uri);
    }
}

/// A follower whose subscription was not accepted, or who no longer waits for that.
struct LeaveOnDrop<'a> {
    handle: &'a UpstreamHandle,
    tidy: &'a TidyOnDrop<'a>,
    session: Affinity,
    /// Whether it was accepted, once that is known.
    became: Option<bool>,
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        if self.became == Some(true) {
            return;
        }
        let TidyOnDrop { subscriptions, connection, uri } = *self.tidy;
        let is_left = subscriptions.remove(connection, self.session, uri);
        if is_left && self.became.is_none() {
            // The upstream may have accepted it all the same.
            self.handle.abandon_subscription(connection, uri);
        }
    }
}
