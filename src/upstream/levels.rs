//! The log level of one link: what its upstream was told last, and telling it (S-LOG-02).
//!
//! Always: an upstream without logging is told none, and none that it took is told twice in a row; the newest arrives
//! last; one that it did not take is told again when it is needed next. Not here: which level is needed (`users`), which
//! lines a client gets (its session).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use super::error::UpstreamError;
use super::link::{Link, Wire};
use super::users::UNSAID;
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::json::quote;
use crate::protocol::log_level::LogLevel;

/// Longest wait for a log level before the call that wants it goes ahead.
const WAIT: Duration = Duration::from_secs(2);

/// No level was told yet.
const NONE: u8 = u8::MAX;

/// See the module head.
#[derive(Debug)]
pub(super) struct Level {
    told: AtomicU8,
    /// The newest that the upstream took.
    taken: AtomicU8,
    /// Requests that are not answered yet.
    under_way: AtomicUsize,
    answered: Notify,
    /// Held by whoever tells the upstream one.
    turn: Mutex<()>,
}

impl Default for Level {
    fn default() -> Self {
        Level {
            told: AtomicU8::new(NONE),
            taken: AtomicU8::new(NONE),
            under_way: AtomicUsize::new(0),
            answered: Notify::new(),
            turn: Mutex::default(),
        }
    }
}

impl Level {
    fn told(&self) -> Option<LogLevel> {
        LogLevel::from_number(self.told.load(Ordering::Relaxed))
    }

    fn was_taken(&self, level: LogLevel) {
        self.taken.store(level as u8, Ordering::Relaxed);
    }

    /// What the upstream has is the one before, unless another was told meanwhile.
    fn was_not_taken(&self, level: LogLevel) {
        let taken = self.taken.load(Ordering::Relaxed);
        let _ = self.told.compare_exchange(level as u8, taken, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Resolves when nothing is under way.
    async fn settled(&self) {
        loop {
            let answered = self.answered.notified();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            answered.await;
        }
    }
}

/// Counts a request for as long as it is under way.
struct UnderWay(Arc<Link>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.level.under_way.fetch_sub(1, Ordering::Release) == 1 {
            self.0.level.answered.notify_waiters();
        }
    }
}

impl Link {
    /// Makes the upstream at least this talkative before anything else is sent, as far as it lets itself be waited for.
    pub(super) async fn raise_level(self: &Arc<Self>, level: LogLevel) {
        let told = self.level.told();
        if told.is_none_or(|told| level < told) {
            // Who shares the link and never said what he wants, wants warnings.
            let is_shared = told.is_none() && self.client.port.is_none();
            self.tell_level(if is_shared { level.min(UNSAID) } else { level });
        }
        // On a pipe it precedes what is sent from now on by itself.
        if !matches!(self.wire, Wire::Pipe(_)) && self.level.under_way.load(Ordering::Relaxed) > 0 {
            let _ = tokio::time::timeout(WAIT, self.level.settled()).await;
        }
    }

    /// Sets the level that those who use this link need; where nobody needs one any longer, the one that everybody has.
    pub(super) fn settle_level(self: &Arc<Self>, needed: Option<LogLevel>) {
        if let Some(level) = needed.or(self.level.told().and(Some(UNSAID))) {
            self.tell_level(level);
        }
    }

    fn tell_level(self: &Arc<Self>, level: LogLevel) {
        let Ok(facts) = self.facts() else { return };
        if !facts.capabilities.offers("logging")
            || facts.revision.era() == Era::Stateless
            || self.level.told.swap(level as u8, Ordering::Relaxed) == level as u8
        {
            return;
        }
        let asked = self.begin_asking("logging/setLevel", &format!(r#"{{"level":{}}}"#, quote(level.text())));
        self.level.under_way.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(Arc::clone(self));
        tokio::task::spawn_local(async move {
            let link = &under_way.0;
            let _turn = link.level.turn.lock().await;
            // Where every message is an exchange of its own, what was overtaken is not sent at all.
            if !matches!(link.wire, Wire::Pipe(_)) && link.level.told() != Some(level) {
                return;
            }
            match link.within_deadline(asked).await {
                Ok(Answer::Result(_)) => link.level.was_taken(level),
                Ok(Answer::Error(refusal)) => {
                    tracing::debug!(upstream = %link.upstream, code = refusal.code, "log level refused");
                    link.level.was_not_taken(level);
                }
                // It may well have been: every call that wants it would wait for an upstream that never says so.
                Err(error @ UpstreamError::Timeout(_)) => {
                    tracing::debug!(upstream = %link.upstream, %error, "log level perhaps not set");
                    link.level.was_taken(level);
                }
                Err(error) => {
                    tracing::debug!(upstream = %link.upstream, %error, "log level not set");
                    link.level.was_not_taken(level);
                }
            }
        });
    }
}
