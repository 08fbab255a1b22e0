//! What arrives on a link, and to whom it goes: answers, questions, progress, log lines, news.
//!
//! Always: what belongs to one call or session goes there; where several share the link, what could be of more than one
//! is shown to none of them (S-LOG-04, S-ELIC-11); a session that takes nothing holds nobody up. Not here: reading it from
//! the wire (`incoming`, `http_streams`), putting questions to clients (`questions`), pages (`pages`), changes of lists
//! (`changes`), the gateway's own log (`own_log`).

use std::sync::Arc;
use std::time::Duration;

use smallvec::smallvec;

use super::call::{Affinity, CallEvent, ClientPort, EventSink};
use super::calls::{Caller, Suspects};
use super::changes::note_change;
use super::link::{Link, Wire};
use super::link_tasks::LinkTask;
use super::listens::{Heard, subscription_of};
use super::messages::{ListKind, TellClient};
use super::open_questions::Causes;
use super::questions;
use super::subscriptions::Subscriptions;
use crate::names::UpstreamName;
use crate::protocol::era::Era;
use crate::protocol::frame::{Frame, Notification, RequestId};
use crate::protocol::task::RELATED_TASK;

/// Whose something is that arrived.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// The calls that it can belong to.
    pub(super) calls: Causes,
    /// Whose they are, or were.
    pub(super) caller: Option<Caller>,
    /// The task that it belongs to.
    pub(super) task: Option<Arc<LinkTask>>,
    /// It may be of several clients.
    pub(super) is_ambiguous: bool,
    /// For how long it has been unclear whose it is only because others have left their calls.
    pub(super) in_doubt: Option<Duration>,
}

impl Origin {
    /// The client that it concerns: the caller, else the one client that the link serves.
    pub(super) fn port<'a>(&'a self, link: &'a Link) -> Option<&'a ClientPort> {
        let client = self.caller.as_ref().map_or(&link.client, |caller| &caller.client);
        client.port.as_ref().filter(|_| !self.is_ambiguous)
    }

    /// The stream of the call that it belongs to, where that is certain.
    pub(super) fn stream(&self) -> Option<&EventSink> {
        self.some_stream().filter(|_| self.calls.len() == 1 || self.task.is_some())
    }

    /// The stream of a call that it may belong to.
    pub(super) fn some_stream(&self) -> Option<&EventSink> {
        self.caller.as_ref()?.events.as_ref()
    }
}

impl Link {
    /// Takes what arrived. `cause` is the call on whose stream it came, where the wire tells.
    pub(super) fn receive(self: &Arc<Self>, frame: Frame, cause: Option<u64>) {
        self.pings.heard();
        match frame {
            Frame::Response(response) => {
                let id = response.id.as_ref().and_then(RequestId::as_number);
                self.note_required_pages(&response.answer, || Some(self.calls.caller(id?)?.client));
                if let Some(id) = id {
                    self.note_task(id, &response.answer);
                }
                if !id.is_some_and(|id| self.calls.settle(id, Ok(response.answer))) {
                    tracing::debug!(upstream = %self.upstream, "dropped an answer that nobody awaits");
                }
            }
            // A stateless server asks inside results, and nobody answers what it asks otherwise (S-STDIO-07).
            Frame::Request(request) if self.is_stateless() => {
                tracing::warn!(upstream = %self.upstream, method = %request.method, "ignored a server-initiated request");
            }
            Frame::Request(request) => questions::serve(self, request, cause),
            Frame::Notification(notification) => self.notified(notification, cause),
        }
    }

    /// Whose it is that arrived: of the call that the wire names, or of those of the only client that can be meant. A
    /// standing stream of HTTP names none because it belongs to none, so that where sessions share it, nobody is meant
    /// (S-HTTPC-06, S-ELIC-11); where callers without a session do, the only call under way is (era-bridge §4.3).
    pub(super) fn origin(&self, cause: Option<u64>) -> Origin {
        if let Some(call) = cause {
            let (calls, caller) = (smallvec![call], self.calls.caller(call));
            return Origin { calls, caller, ..Origin::default() };
        }
        if matches!(self.wire, Wire::Http(_)) && self.is_shared() && !self.is_pooled() {
            return Origin::default();
        }
        if self.tasks.has_any() {
            return self.origin_beside_tasks();
        }
        match self.calls.suspects() {
            Suspects::One { calls, caller } => Origin { calls, caller: Some(caller), ..Origin::default() },
            Suspects::InDoubt(age) => Origin { in_doubt: Some(age), ..Origin::default() },
            Suspects::Nobody | Suspects::Several => Origin::default(),
        }
    }

    /// Of the first call after that one, as soon as it is on its way; after 0, of the call for which the link was opened.
    pub(super) async fn origin_of_next(&self, after: u64) -> Origin {
        let (call, caller) = self.calls.next_caller(after).await;
        Origin { calls: smallvec![call], caller: Some(caller), ..Origin::default() }
    }

    fn notified(self: &Arc<Self>, notification: Notification, cause: Option<u64>) {
        if let Some(request) = subscription_of(&notification)
            && self.facts().is_ok_and(|facts| facts.revision.era() == Era::Stateless)
        {
            match self.reports.listen.hear_on_pipe(request, notification) {
                Heard::Nothing => {}
                // What a listening was asked for is what the upstream declares now, not when the link was opened.
                Heard::Changed(list) => {
                    note_change(&self.reports.changes, &self.upstream, &self.reports.news, list);
                }
                Heard::Updated(notification) => self.updated(&notification),
            }
            return;
        }
        match &*notification.method {
            "notifications/progress" => {
                let token = notification.params.get("progressToken");
                let token =
                    token.and_then(|raw| std::str::from_utf8(raw).ok()).and_then(|text| text.parse().ok());
                if let Some(token) = token
                    && let Some(late) = self.calls.progress(token, notification.params)
                    && self.tasks.is_in_use()
                {
                    self.tasks.progress(token, late);
                }
            }
            "notifications/message" => self.logged(notification, cause),
            "notifications/tools/list_changed" => self.list_changed(ListKind::Tools),
            "notifications/prompts/list_changed" => self.list_changed(ListKind::Prompts),
            "notifications/resources/list_changed" => self.list_changed(ListKind::Resources),
            "notifications/cancelled" => {
                let id = notification.params.share("requestId").and_then(RequestId::from_raw);
                if let Some(id) = id {
                    self.questions.withdraw(&id);
                }
            }
            "notifications/resources/updated" => self.updated(&notification),
            "notifications/elicitation/complete" => self.page_completed(&notification),
            "notifications/tasks/status" if self.tasks.is_in_use() => self.tasks.status(&notification.params),
            _ => {}
        }
    }

    /// A log line goes to the call that it belongs to, else to the one client that the link serves, else to nobody
    /// but the gateway's own log: where several share the link, nobody can say whose it is (S-LOG-04).
    fn logged(self: &Arc<Self>, notification: Notification, cause: Option<u64>) {
        if notification.params.meta(RELATED_TASK).is_some() {
            return self.logged_of_task(notification);
        }
        let origin = self.origin(cause);
        self.log_to(&origin, notification);
    }

    pub(super) fn log_to(&self, origin: &Origin, notification: Notification) {
        if let Some(events) = origin.stream() {
            let logger = self.question_rules.logger_name(&self.upstream);
            let log = CallEvent::Log(logger, Box::new(notification.params));
            // Nobody reads it when the caller has left its answer to run without it.
            let _ = events.push(log);
            return;
        }
        match origin.port(self) {
            // Before the mailbox, which others need as well (F11).
            Some(port) if port.admits_log(&self.upstream, &notification.params) => {
                self.tell(port, notification);
            }
            Some(_) => {}
            None => self.own_log.write(&self.upstream, &notification.params),
        }
    }

    /// Everybody who follows the resource is told, over whatever connection it is.
    pub(super) fn updated(&self, notification: &Notification) {
        tell_followers(&self.upstream, &self.reports.followers, self.affinity(), notification);
    }

    fn tell(&self, port: &ClientPort, notification: Notification) {
        let in_loggers = self.question_rules.asker.title_in_message;
        let news =
            TellClient { upstream: self.upstream.clone(), in_loggers, is_expected: false, notification };
        if !port.tell(news) {
            tracing::debug!(upstream = %self.upstream, "the session took no notification");
        }
    }
}

/// Tells everybody who follows the resource over a connection that it was updated.
pub(super) fn tell_followers(
    upstream: &UpstreamName,
    followers: &Subscriptions,
    connection: Affinity,
    notification: &Notification,
) {
    let Some(uri) = notification.params.text("uri") else { return };
    for follower in followers.followers(connection, &uri) {
        let news = TellClient {
            upstream: upstream.clone(),
            in_loggers: false,
            is_expected: false,
            notification: notification.clone(),
        };
        if follower.port.as_ref().is_some_and(|port| !port.tell(news)) {
            tracing::debug!(%upstream, "a follower took no notification");
        }
    }
}
