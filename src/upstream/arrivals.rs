//! What arrives on a link, and to whom it goes: answers, questions, progress, log lines, news.
//!
//! Always: what belongs to one call or session goes there; where several share the link, what could be of more than one
//! is shown to none of them (S-LOG-04, S-ELIC-11); a session that takes nothing holds nobody up. Not here: reading it from
//! the wire (`incoming`, `http_streams`), putting questions to clients (`questions`), pages (`pages`), changes of lists
//! (`changes`), the gateway's own log (`own_log`).

use std::sync::Arc;

use super::call::{CallEvent, ClientPort, EventSink};
use super::link::{Link, Wire};
use super::messages::{ListKind, TellClient};
use super::questions;
use crate::protocol::frame::{Frame, Notification, RequestId};

impl Link {
    /// Takes what arrived. `cause` is the call on whose stream it came, where the wire tells.
    pub(super) fn receive(self: &Arc<Self>, frame: Frame, cause: Option<u64>) {
        self.pings.heard();
        match frame {
            Frame::Response(response) => {
                let id = response.id.as_ref().and_then(RequestId::as_number);
                if !id.is_some_and(|id| self.calls.settle(id, Ok(response.answer))) {
                    tracing::debug!(upstream = %self.upstream, "dropped an answer that nobody awaits");
                }
            }
            Frame::Request(request) => questions::serve(self, request, cause),
            Frame::Notification(notification) => self.notified(notification, cause),
        }
    }

    /// The call that what arrived belongs to: the one that the wire names, or the only one there can be. A standing
    /// stream of HTTP names none because it belongs to none, so that where several share it, nobody is meant
    /// (S-HTTPC-06, S-ELIC-11).
    pub(super) fn call_of(&self, cause: Option<u64>) -> Option<u64> {
        cause.or_else(|| match self.wire {
            Wire::Http(_) if self.is_shared() => None,
            _ => self.calls.only_call(),
        })
    }

    fn notified(self: &Arc<Self>, notification: Notification, cause: Option<u64>) {
        match &*notification.method {
            "notifications/progress" => {
                let token = notification.params.get("progressToken");
                let token =
                    token.and_then(|raw| std::str::from_utf8(raw).ok()).and_then(|text| text.parse().ok());
                if let Some(token) = token {
                    self.calls.progress(token, notification.params);
                }
            }
            "notifications/message" => self.logged(notification, cause),
            "notifications/tools/list_changed" => self.list_changed(ListKind::Tools),
            "notifications/prompts/list_changed" => self.list_changed(ListKind::Prompts),
            "notifications/resources/list_changed" => self.list_changed(ListKind::Resources),
            "notifications/cancelled" => {
                let id = notification.params.share("requestId").and_then(RequestId::from_raw);
                if let Some(asked) = id.and_then(|id| self.lock_questions().remove(&id)) {
                    asked.moot.cancel();
                }
            }
            "notifications/resources/updated" => self.updated(&notification),
            "notifications/elicitation/complete" => self.page_completed(&notification),
            _ => {}
        }
    }

    /// A log line goes to the call that it belongs to, else to the one client that the link serves, else to nobody
    /// but the gateway's own log: where several share the link, nobody can say whose it is (S-LOG-04).
    fn logged(&self, notification: Notification, cause: Option<u64>) {
        let caller = self.call_of(cause).and_then(|call| self.calls.caller(call));
        if let Some(events) = caller.as_ref().and_then(|caller| caller.events.as_ref()) {
            let logger = self.question_rules.logger_name(&self.upstream);
            let log = CallEvent::Log(logger, Box::new(notification.params));
            // Nobody reads it when the caller has left its answer to run without it.
            let _ = events.push(log);
            return;
        }
        match caller.map_or_else(|| self.client.port.clone(), |caller| caller.client.port.clone()) {
            // Before the mailbox, which others need as well (F11).
            Some(port) if port.logs.admits(&self.upstream, &notification.params) => {
                self.tell(&port, notification);
            }
            Some(_) => {}
            None => self.own_log.write(&self.upstream, &notification.params),
        }
    }

    /// Everybody who follows the resource is told, over whatever connection it is.
    pub(super) fn updated(&self, notification: &Notification) {
        let Some(uri) = notification.params.text("uri") else { return };
        for follower in self.reports.followers.followers(self.affinity(), &uri) {
            if let Some(port) = &follower.port {
                self.tell(port, notification.clone());
            }
        }
    }

    fn tell(&self, port: &ClientPort, notification: Notification) {
        let in_loggers = self.question_rules.asker.title_in_message;
        let news = TellClient { upstream: self.upstream.clone(), in_loggers, notification };
        if port.tell.try_send(news).is_err() {
            tracing::debug!(upstream = %self.upstream, "the session took no notification");
        }
    }

    /// The client that a question concerns: the caller of its cause, else the one client that the link serves.
    pub(super) fn port_of(&self, cause: Option<u64>) -> Option<ClientPort> {
        let caller = cause.and_then(|cause| self.calls.caller(cause));
        caller.map_or_else(|| self.client.port.clone(), |caller| caller.client.port.clone())
    }

    /// The stream on which a question that this call caused should be asked.
    pub(super) fn stream_of(&self, cause: Option<u64>) -> Option<EventSink> {
        self.calls.caller(cause?)?.events
    }
}
