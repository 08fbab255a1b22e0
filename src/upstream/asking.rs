//! Requests of the gateway's own on a link: handshake and probe, subscriptions renewed and ended.
//!
//! Always: what no caller waits for has a deadline of its own. Not here: calls of clients (`link`), log levels (`levels`).

use std::sync::Arc;

use bytes::Bytes;

use super::calls::Reply;
use super::error::UpstreamError;
use super::link::{CallGuard, Link, Wire};
use crate::protocol::frame::Answer;
use crate::protocol::json::quote;
use crate::protocol::message;

impl Link {
    /// Sends a request of the gateway's own and waits for its answer.
    pub(super) async fn ask(self: &Arc<Self>, method: &str, params: &str) -> Result<Answer, UpstreamError> {
        self.begin_asking(method, params)?.answer().await
    }

    /// Begins a request of the gateway's own: on a pipe it precedes whatever is sent from now on.
    pub(super) fn begin_asking(self: &Arc<Self>, method: &str, params: &str) -> Result<Asked, UpstreamError> {
        let opened = self.calls.open(None, None);
        let (id, answer) = opened.ok_or_else(|| UpstreamError::unavailable(self.end_reason()))?;
        let mut guard = CallGuard { link: Arc::clone(self), id, sent: false, may_become_task: false };
        let text = Bytes::from(message::request(id, method, params.as_bytes()));
        if let Wire::Pipe(pipe) = &self.wire {
            pipe.send(text.clone())?;
            // `initialize` is never cancelled (S-CANC-02), and a late answer to a probe or ping is dropped by its id.
            guard.sent = !matches!(method, "initialize" | "server/discover" | "ping");
        }
        Ok(Asked { guard, answer, text })
    }

    /// Begins to listen on a pipe: the request stands until somebody ends it, and does not count as one under way.
    pub(super) fn begin_listening(self: &Arc<Self>, params: &str) -> Result<Asked, UpstreamError> {
        let asked = self.begin_asking("subscriptions/listen", params)?;
        self.calls.stands(asked.guard.id);
        Ok(asked)
    }

    /// Waits for an answer that no caller waits for.
    pub(super) async fn within_deadline(
        &self,
        asked: Result<Asked, UpstreamError>,
    ) -> Result<Answer, UpstreamError> {
        let answered = tokio::time::timeout(self.ask_deadline, asked?.answer()).await;
        answered.unwrap_or(Err(UpstreamError::Timeout(self.ask_deadline)))
    }

    /// Subscribes again to what an earlier link of the same affinity was subscribed to; says whether that was accepted.
    pub(super) async fn subscribe_again(self: &Arc<Self>, uri: &str) -> bool {
        let params = format!(r#"{{"uri":{}}}"#, quote(uri));
        match self.within_deadline(self.begin_asking("resources/subscribe", &params)).await {
            Ok(Answer::Result(_)) => return true,
            Ok(Answer::Error(refusal)) => {
                tracing::warn!(upstream = %self.upstream, code = refusal.code, "a subscription was refused when it was renewed");
            }
            Err(error) => tracing::warn!(upstream = %self.upstream, %error, "a subscription was not renewed"),
        }
        false
    }

    /// Ends a subscription that nobody wants any longer.
    pub(super) async fn unsubscribe(self: &Arc<Self>, uri: &str) {
        let params = format!(r#"{{"uri":{}}}"#, quote(uri));
        if let Err(error) = self.within_deadline(self.begin_asking("resources/unsubscribe", &params)).await {
            tracing::debug!(upstream = %self.upstream, %error, "a subscription was not ended");
        }
    }
}

/// A request of the gateway's own under way.
pub(super) struct Asked {
    guard: CallGuard,
    answer: Reply,
    /// Not sent yet where every message is an exchange of its own.
    text: Bytes,
}

impl Asked {
    /// The id of the request.
    pub(super) fn id(&self) -> u64 {
        self.guard.id
    }

    /// Waits for its answer. Dropping the future cancels it.
    pub(super) async fn answer(self) -> Result<Answer, UpstreamError> {
        let Asked { guard, mut answer, text } = self;
        let link = &guard.link;
        match &link.wire {
            Wire::Pipe(_) => answer.await.unwrap_or_else(|_| Err(link.lost())),
            Wire::Http(http) => http.ask(link, guard.id, text, &mut answer).await,
            Wire::Sse(sse) => sse.ask(link, text, &mut answer).await,
        }
    }
}
