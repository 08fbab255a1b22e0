//! Requests of the gateway's own on a link: handshake and probe, log level, renewed subscriptions.
//!
//! Always: what no caller waits for has a deadline of its own. Not here: calls of clients (`link`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::calls::Reply;
use super::error::UpstreamError;
use super::link::{CallGuard, Link, Wire};
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::json::quote;
use crate::protocol::log_level::LogLevel;
use crate::protocol::message;

/// Longest wait for a log level before the call that wants it goes ahead.
const LEVEL_WAIT: Duration = Duration::from_secs(2);

impl Link {
    /// Sends a request of the gateway's own and waits for its answer.
    pub(super) async fn ask(self: &Arc<Self>, method: &str, params: &str) -> Result<Answer, UpstreamError> {
        self.begin_asking(method, params)?.answer().await
    }

    /// Begins a request of the gateway's own: on a pipe it precedes whatever is sent from now on.
    fn begin_asking(self: &Arc<Self>, method: &str, params: &str) -> Result<Asked, UpstreamError> {
        let opened = self.calls.open(None, None);
        let (id, answer) = opened.ok_or_else(|| UpstreamError::unavailable(self.end_reason()))?;
        let mut guard = CallGuard { link: Arc::clone(self), id, sent: false };
        let text = Bytes::from(message::request(id, method, params.as_bytes()));
        if let Wire::Pipe(pipe) = &self.wire {
            pipe.send(text.clone())?;
            // `initialize` is never cancelled (S-CANC-02), and a late answer to a probe or ping is dropped by its id.
            guard.sent = !matches!(method, "initialize" | "server/discover" | "ping");
        }
        Ok(Asked { guard, answer, text })
    }

    /// Makes the upstream at least this talkative before anything else is sent, as far as it lets itself be waited for.
    pub(super) async fn raise_level(self: &Arc<Self>, level: LogLevel) {
        let known = LogLevel::from_number(self.level.load(Ordering::Relaxed));
        if known.is_none_or(|known| level < known)
            && let Some(set) = self.begin_setting_level(level)
            && !matches!(self.wire, Wire::Pipe(_))
        {
            let _ = tokio::time::timeout(LEVEL_WAIT, set).await;
        }
    }

    /// Sets the level that the session behind this link wants.
    pub(super) fn set_level(self: &Arc<Self>, level: LogLevel) {
        // Nobody waits for it here.
        drop(self.begin_setting_level(level));
    }

    /// Never sent to upstreams without logging (S-LOG-02). Dropping what it returns leaves the request under way.
    fn begin_setting_level(self: &Arc<Self>, level: LogLevel) -> Option<JoinHandle<()>> {
        let facts = self.facts().ok()?;
        if !facts.capabilities.offers("logging") || facts.revision.era() == Era::Stateless {
            return None;
        }
        self.level.store(level as u8, Ordering::Relaxed);
        let asked = self.begin_asking("logging/setLevel", &format!(r#"{{"level":{}}}"#, quote(level.text())));
        let link = Arc::clone(self);
        Some(tokio::task::spawn_local(async move {
            if let Err(error) = link.within_deadline(asked).await {
                tracing::debug!(upstream = %link.upstream, %error, "log level not set");
            }
        }))
    }

    /// Waits for an answer that no caller waits for.
    async fn within_deadline(&self, asked: Result<Asked, UpstreamError>) -> Result<Answer, UpstreamError> {
        let answered = tokio::time::timeout(self.ask_deadline, asked?.answer()).await;
        answered.unwrap_or(Err(UpstreamError::Timeout(self.ask_deadline)))
    }

    /// Subscribes to what an earlier link of the same affinity was subscribed to.
    pub(super) fn subscribe_again(self: &Arc<Self>, uris: Vec<String>) {
        if uris.is_empty() {
            return;
        }
        let link = Arc::clone(self);
        tokio::task::spawn_local(async move {
            for uri in uris {
                let params = format!(r#"{{"uri":{}}}"#, quote(&uri));
                let asked = link.begin_asking("resources/subscribe", &params);
                if let Err(error) = link.within_deadline(asked).await {
                    tracing::warn!(upstream = %link.upstream, %error, "a subscription was not renewed");
                }
                if link.has_ended() {
                    return;
                }
            }
        });
    }
}

/// A request of the gateway's own under way.
struct Asked {
    guard: CallGuard,
    answer: Reply,
    /// Not sent yet where every message is an exchange of its own.
    text: Bytes,
}

impl Asked {
    async fn answer(self) -> Result<Answer, UpstreamError> {
        let Asked { guard, mut answer, text } = self;
        let link = &guard.link;
        match &link.wire {
            Wire::Pipe(_) => answer.await.unwrap_or_else(|_| Err(link.lost())),
            Wire::Http(http) => http.ask(link, guard.id, text, &mut answer).await,
            Wire::Sse(sse) => sse.ask(link, text, &mut answer).await,
        }
    }
}
