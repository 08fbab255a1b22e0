//! One open connection to an upstream: a child process, or an HTTP session of the handshake era.
//!
//! Owns the calls in flight on it and the upstream's own questions. Always: when it ends, every call on it fails at once.
//! Not here: what arrives on it (`arrivals`), opening it (`connect`), deciding when (`actor`), stateless HTTP, which has no
//! connection to keep.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::background::{IN_BACKGROUND, Posted, post_in_background};
use super::call::{Activity, Affinity, Circumstances, Client, UpstreamCall};
use super::calls::{CallTable, Caller};
use super::changes::Changes;
use super::client_tasks::ClientTasks;
use super::connections::Connection;
use super::error::UpstreamError;
use super::http_wire::HttpWire;
use super::incoming::Unreadable;
use super::levels::Level;
use super::link_tasks::LinkTasks;
use super::listens::StandingListen;
use super::messages::{DoubtRecipient, EndRecipient, LinkDoubted, LinkEnded, NewsRecipient};
use super::open_questions::OpenQuestions;
use super::own_log::OwnLog;
use super::pages::Pages;
use super::pings::Pings;
use super::probe::Facts;
use super::questions::QuestionRules;
use super::roots::KeptRoots;
use super::sse_wire::SseWire;
use super::stdio::{LineSender, ProcessControl};
use super::subscriptions::Subscriptions;
use crate::names::UpstreamName;
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::message;

/// How bytes get to the upstream.
#[derive(Debug)]
pub(super) enum Wire {
    /// Lines on a child's stdin.
    Pipe(LineSender),
    /// POSTs of one session.
    Http(HttpWire),
    /// POSTs whose answers come on one event stream.
    Sse(SseWire),
}

/// Whom a link reports to.
#[derive(Clone)]
pub(super) struct Reports {
    pub(super) ended: EndRecipient,
    pub(super) doubted: DoubtRecipient,
    pub(super) news: NewsRecipient,
    /// What the catalogue will be told.
    pub(super) changes: Arc<Changes>,
    /// Who is told of updates.
    pub(super) followers: Arc<Subscriptions>,
    /// What is listened to, where the upstream is stateless.
    pub(super) listen: Arc<StandingListen>,
}

/// What a link is made of.
pub(super) struct LinkSettings {
    pub(super) upstream: UpstreamName,
    pub(super) number: u64,
    pub(super) client: Arc<Client>,
    pub(super) wire: Wire,
    pub(super) process: Option<ProcessControl>,
    pub(super) reports: Reports,
    pub(super) questions: Arc<QuestionRules>,
    /// Longest wait for an answer that no caller waits for.
    pub(super) ask_deadline: Duration,
}

/// An open connection. Shared by the calls on it; its lifecycle belongs to the upstream's actor.
pub struct Link {
    pub(super) upstream: UpstreamName,
    pub(super) number: u64,
    pub(super) client: Arc<Client>,
    pub(super) wire: Wire,
    pub(super) calls: CallTable,
    pub(super) questions: OpenQuestions,
    pub(super) question_rules: Arc<QuestionRules>,
    /// Calls that may become tasks, and tasks.
    pub(super) tasks: LinkTasks,
    pub(super) client_tasks: ClientTasks,
    pub(super) pages: Mutex<Pages>,
    pub(super) roots: KeptRoots,
    process: Option<ProcessControl>,
    pub(super) ask_deadline: Duration,
    facts: OnceLock<Facts>,
    pub(super) level: Level,
    pub(super) reports: Reports,
    ended: CancellationToken,
    why: OnceLock<String>,
    opened: Instant,
    used_ms: AtomicU64,
    /// Whether a call was answered on it.
    served: AtomicBool,
    pub(super) pings: Pings,
    pub(super) own_log: OwnLog,
    pub(super) unreadable: Unreadable,
    /// Places for messages that nobody waits for, where each is an exchange of its own.
    pub(super) in_background: Arc<Semaphore>,
}

impl Connection for Arc<Link> {
    fn ended_because(&self) -> Option<String> {
        self.has_ended().then(|| self.end_reason())
    }

    fn ended_well(&self) -> bool {
        self.was_forgotten() && self.served.load(Ordering::Relaxed)
    }

    fn retires_after(&self, limit: Duration) -> bool {
        // The table closes only while it is empty: no call is cut off that came a moment ago.
        self.idle_for() >= limit && !self.tasks.has_any() && self.calls.close_if_empty()
    }

    fn holds_tasks(&self) -> bool {
        self.tasks.has_any() || self.calls.has_calls_of_tasks()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({} #{})", self.upstream, self.number)
    }
}

/// Why a link ended whose session the upstream no longer knew.
pub(super) const FORGOTTEN: &str = "the upstream forgot the session";

impl Link {
    pub(super) fn new(settings: LinkSettings) -> Arc<Link> {
        Arc::new(Link {
            upstream: settings.upstream,
            number: settings.number,
            client: settings.client,
            wire: settings.wire,
            calls: CallTable::default(),
            questions: OpenQuestions::default(),
            question_rules: settings.questions,
            tasks: LinkTasks::default(),
            client_tasks: ClientTasks::default(),
            pages: Mutex::default(),
            roots: KeptRoots::default(),
            process: settings.process,
            ask_deadline: settings.ask_deadline,
            facts: OnceLock::new(),
            level: Level::default(),
            reports: settings.reports,
            ended: CancellationToken::new(),
            why: OnceLock::new(),
            opened: Instant::now(),
            used_ms: AtomicU64::new(0),
            served: AtomicBool::new(false),
            pings: Pings::default(),
            own_log: OwnLog::default(),
            unreadable: Unreadable::default(),
            in_background: Arc::new(Semaphore::new(IN_BACKGROUND)),
        })
    }

    /// The process behind it, where there is one.
    pub(super) fn process(&self) -> Option<&ProcessControl> {
        self.process.as_ref()
    }

    /// Whether it is an HTTP+SSE one.
    pub(super) fn is_over_sse(&self) -> bool {
        matches!(self.wire, Wire::Sse(_))
    }

    /// Whose link it is.
    pub fn affinity(&self) -> Affinity {
        self.client.affinity
    }

    /// Whether calls of several clients go over it.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.affinity(), Affinity::Session(_))
    }

    /// Whether callers without a session use it, which can be asked.
    pub(super) fn is_pooled(&self) -> bool {
        matches!(self.affinity(), Affinity::Pooled(_))
    }

    /// What the upstream said when the link was opened.
    pub(super) fn facts(&self) -> Result<&Facts, UpstreamError> {
        self.facts.get().ok_or_else(|| UpstreamError::unavailable("still opening"))
    }

    /// Whether it was found to speak the stateless era.
    pub(super) fn is_stateless(&self) -> bool {
        self.facts.get().is_some_and(|facts| facts.revision.era() == Era::Stateless)
    }

    /// Notes what the handshake or probe brought; the link is open from now on.
    pub(super) fn opened(&self, facts: Facts) {
        let _ = self.facts.set(facts);
        // Being opened is no idleness.
        self.touch();
    }

    /// Whether calls can no longer use it.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Resolves when it has ended.
    pub(super) fn until_ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    /// How long no caller made a call on it. What the gateway asks for itself is no use.
    pub(super) fn idle_for(&self) -> Duration {
        let used = Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(used)
    }

    /// Whether it is ending, if it has not ended: a call that finds it so was not sent.
    pub(super) fn takes_no_calls(&self) -> bool {
        self.calls.is_closed()
    }

    fn touch(&self) {
        self.used_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// Milliseconds since it was made.
    pub(super) fn age_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When it was last used, in milliseconds of its age.
    pub(super) fn used_ms(&self) -> u64 {
        self.used_ms.load(Ordering::Relaxed)
    }

    /// Ends it: calls fail, questions are dropped, the actor is told. The first reason stays.
    pub(super) fn end(&self, why: impl Into<String>) {
        if self.why.set(why.into()).is_err() {
            return;
        }
        self.ended.cancel();
        self.calls.close();
        self.questions.end();
        let ended = LinkEnded { affinity: self.affinity(), number: self.number };
        if self.reports.ended.try_send(ended).is_err() {
            tracing::debug!(upstream = %self.upstream, "nobody hears that a link ended");
        }
    }

    /// A question could not be put because calls were given up: others are to have a link that is free of that.
    pub(super) fn report_doubt(&self) {
        let doubted = LinkDoubted { affinity: self.affinity(), number: self.number };
        if self.reports.doubted.try_send(doubted).is_err() {
            tracing::debug!(upstream = %self.upstream, "a doubt about a link waits for the next question");
        }
    }

    /// Ends it in good order: the upstream is told first that nobody waits for its calls any longer.
    pub(super) fn close(self: &Arc<Self>, why: &'static str) {
        for id in self.calls.ids() {
            self.cancel(id);
        }
        self.end(why);
    }

    pub(super) fn end_reason(&self) -> String {
        self.why.get().cloned().unwrap_or_default()
    }

    pub(super) fn lost(&self) -> UpstreamError {
        if self.was_forgotten() { UpstreamError::SessionLost } else { UpstreamError::lost(self.end_reason()) }
    }

    /// Whether it ended because the upstream no longer knew its session.
    pub(super) fn was_forgotten(&self) -> bool {
        self.why.get().is_some_and(|why| why == FORGOTTEN)
    }

    /// Makes a call and waits for its answer. Dropping the future cancels the call upstream. `sent` tells, while the
    /// answer is awaited, whether the upstream may have read the call.
    pub(super) async fn call(
        self: &Arc<Self>,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let revision = self.facts()?.revision;
        let caller = self.caller(call.circumstances);
        let is_used = caller.is_some();
        if is_used {
            self.touch();
        }
        if let Some(level) = call.circumstances.log_level {
            self.raise_level(level).await;
        }
        let opened = self.calls.open(caller, activity);
        let (id, mut answer) = opened.ok_or_else(|| UpstreamError::unavailable(self.end_reason()))?;
        let mut guard = CallGuard { link: Arc::clone(self), id, sent: false, may_become_task: false };
        let mut wish = call.circumstances.task;
        if wish.is_some() {
            wish = self.told_wish(call, &mut guard)?;
        }
        let text = Bytes::from(call.encode(id, revision, self.question_rules.ask, wish));
        let answered = match &self.wire {
            Wire::Pipe(pipe) => {
                pipe.send(text)?;
                guard.sent = true;
                sent.store(true, Ordering::Relaxed);
                answer.await.unwrap_or_else(|_| Err(self.lost()))
            }
            Wire::Http(http) => {
                guard.sent = true;
                sent.store(true, Ordering::Relaxed);
                http.call(self, id, text, &mut answer, call).await
            }
            Wire::Sse(sse) => {
                guard.sent = true;
                sent.store(true, Ordering::Relaxed);
                sse.call(self, text, &mut answer, call).await
            }
        };
        if is_used {
            self.touch();
        }
        if answered.is_ok() {
            self.served.store(true, Ordering::Relaxed);
            // What it became is taken by who made it.
            guard.may_become_task = false;
        }
        if let (Ok(answer), Wire::Http(_)) = (&answered, &self.wire) {
            // Of the others it is noted where it arrives.
            self.note_required_pages(answer, || Some(Arc::clone(&call.circumstances.client)));
        }
        // Answered, refused before anything was done, or never sent: there is nothing to cancel.
        if matches!(
            &answered,
            Ok(_)
                | Err(UpstreamError::Unavailable { .. }
                    | UpstreamError::SessionForgotten
                    | UpstreamError::Overloaded { .. }
                    | UpstreamError::AuthRequired)
        ) {
            guard.sent = false;
        }
        answered
    }

    /// Whose call this is: nobody's where the gateway lists for itself.
    fn caller(&self, circumstances: &Circumstances) -> Option<Caller> {
        let is_own = circumstances.client.port.is_none() && Arc::ptr_eq(&circumstances.client, &self.client);
        let caller =
            || Caller { client: Arc::clone(&circumstances.client), events: circumstances.events.clone() };
        (!is_own).then(caller)
    }

    /// Sends an answer to what the upstream asked. Errors end up in the log: there is nobody to tell.
    pub(super) fn send(self: &Arc<Self>, text: Vec<u8>) {
        self.post(text, Posted::Answer);
    }

    fn post(self: &Arc<Self>, text: Vec<u8>, what: Posted) {
        let text = Bytes::from(text);
        match &self.wire {
            Wire::Pipe(pipe) => {
                if pipe.send(text).is_err() {
                    tracing::debug!(upstream = %self.upstream, "a message could not be queued");
                }
            }
            Wire::Http(http) => post_in_background(&http.endpoint, http.headers(), self, text, what),
            Wire::Sse(sse) => post_in_background(sse.endpoint(), sse.headers(), self, text, what),
        }
    }

    /// Sends a notification of the gateway's own.
    pub(super) fn notify(self: &Arc<Self>, method: &str, params: impl AsRef<[u8]>) {
        self.post(message::notification(method, params.as_ref()), Posted::Notification);
    }

    /// Tells the upstream that nobody waits for this call any longer.
    fn cancel(self: &Arc<Self>, id: u64) {
        if self.has_ended() {
            return;
        }
        self.notify("notifications/cancelled", format!(r#"{{"requestId":{id},"reason":"the caller left"}}"#));
    }
}

/// Removes a call that nobody awaits any longer, ends its questions and, if it was sent and unanswered, cancels it.
pub(super) struct CallGuard {
    pub(super) link: Arc<Link>,
    pub(super) id: u64,
    pub(super) sent: bool,
    pub(super) may_become_task: bool,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        if self.may_become_task
            && let Some(unwanted) = self.link.tasks.give_up(self.id, self.sent)
        {
            self.link.cancel_task(unwanted);
        }
        let (link, id) = (&self.link, self.id);
        // Where one client is alone, whatever is still said of the call is for that one too; streamable HTTP says of
        // which call it is, except on the standing stream, whose questions only callers of the pool are asked.
        let names_calls = matches!(link.wire, Wire::Http(_)) && !link.is_pooled();
        let may_be_mistaken = link.is_shared() && !names_calls;
        let was_pending = match self.sent && may_be_mistaken {
            true => link.calls.give_up(id),
            false => link.calls.forget(id),
        };
        let is_given_up = was_pending && self.sent;
        self.link.questions.call_ended(self.id, !is_given_up);
        if is_given_up {
            self.link.cancel(self.id);
        }
    }
}
