//! How others reach a session: admission on the path of a call, named methods for everything else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::actor::SessionActor;
use super::changes::{PROMPTS, PendingChanges, RESOURCES, TEMPLATES, TOOLS};
use super::in_flight::{Admission, InFlightTable, LastUse, NotAdmitted};
use super::kept::SessionRow;
use super::messages::{
    CallCancelled, ClientAnswered, ClientProgressed, ClientReady, EndSession, ListsChanged, OpenStream,
    RequireUrls, StopFollowing, StoppedFollowing, StreamTaken, Subscribed, TaskChanged, Unsubscribed,
};
use super::port::SessionPort;
use super::state::State;
use super::stream::{Stream, StreamReader};
use super::streams::Streams;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::{ProfileName, SessionId, UpstreamName};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, RequestId};
use crate::protocol::json::{Limits, Object};
use crate::protocol::log_level::LogLevel;
use crate::upstream::call::{Affinity, Client, ClientPort};
use crate::upstream::events::EventSink;
use crate::upstream::rate::LogGate;

/// The public form of an upstream's URI where it differs, as this session's endpoint shows it now (S-RES-05).
#[derive(Clone)]
pub struct PublicUris(Arc<PublicUri>);

type PublicUri = dyn Fn(&UpstreamName, &str) -> Option<String> + Send + Sync;

impl PublicUris {
    /// By whoever knows what the endpoint shows.
    pub fn new(public: impl Fn(&UpstreamName, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        PublicUris(Arc::new(public))
    }

    /// What clients call that resource.
    pub fn of(&self, upstream: &UpstreamName, uri: &str) -> String {
        (self.0)(upstream, uri).unwrap_or_else(|| uri.to_owned())
    }
}

impl Default for PublicUris {
    fn default() -> Self {
        PublicUris::new(|_, _| None)
    }
}

impl std::fmt::Debug for PublicUris {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublicUris")
    }
}

/// What a client said when it opened the session.
#[derive(Debug)]
pub struct Opening {
    /// Negotiated.
    pub revision: Revision,
    /// Which endpoint; `None` is `/mcp`.
    pub profile: Option<ProfileName>,
    /// What the client can be asked.
    pub capabilities: ClientCapabilities,
    /// Whether it was told that calls may become tasks.
    pub has_tasks: bool,
    /// What it calls itself, for people.
    pub client_name: Arc<str>,
    /// How it knows resources.
    pub public_uris: PublicUris,
    /// The one stream that carries everything to this client, on transports that have no other.
    pub pipe: Option<Arc<Stream>>,
}

impl Opening {
    /// What of it is kept where the session is to outlive the gateway.
    pub(super) fn row(&self) -> SessionRow {
        SessionRow {
            generation: 0,
            principal: Principal::Local.key().to_owned(),
            revision: self.revision.text().to_owned(),
            profile: self.profile.as_ref().map(ToString::to_string),
            client: self.client_name.to_string(),
            capabilities: String::from_utf8_lossy(&self.capabilities.to_upstream()).into_owned(),
            has_tasks: self.has_tasks,
            is_ready: false,
            level: None,
            subscriptions: BTreeMap::new(),
        }
    }

    /// From what was kept; `None` if that is of no use to this gateway.
    pub(super) fn of(row: &SessionRow, public_uris: PublicUris) -> Option<Self> {
        let revision = Revision::parse(&row.revision)?;
        let capabilities = Object::parse(Bytes::copy_from_slice(row.capabilities.as_bytes()), Limits::NONE);
        (row.principal == Principal::Local.key()).then_some(Opening {
            revision,
            profile: row.profile.as_deref().map(ProfileName::new),
            capabilities: ClientCapabilities::of(&capabilities.ok()?, revision),
            has_tasks: row.has_tasks,
            client_name: row.client.as_str().into(),
            public_uris,
            pipe: None,
        })
    }
}

/// Called once with the id of a session that has ended.
pub type OnEnd = Arc<dyn Fn(SessionId) + Send + Sync>;

/// Facts and counters that need no mailbox.
pub(super) struct Session {
    pub(super) id: SessionId,
    revision: Revision,
    client: Arc<Client>,
    has_tasks: bool,
    client_name: Arc<str>,
    changed: Arc<PendingChanges>,
    in_flight: Arc<InFlightTable>,
    logs: Arc<LogGate>,
    level_was_set: AtomicBool,
    closed: CancellationToken,
    opened: Instant,
    used: Arc<LastUse>,
    streams: Arc<Streams>,
    /// Whether a client read one of the streams when it was last looked at.
    attended: AtomicBool,
    questions: AtomicUsize,
    subscriptions: AtomicUsize,
    /// Whether its end is nobody's doing but the session's own.
    is_over: AtomicBool,
    /// Subscriptions from before a restart, whose servers know nothing of them yet.
    unfollowed: Mutex<Vec<Subscribed>>,
    on_end: OnEnd,
}

impl Session {
    pub(super) fn log_level(&self) -> LogLevel {
        self.logs.level()
    }

    pub(super) fn observed(&self, questions: usize, subscriptions: usize) {
        self.questions.store(questions, Ordering::Relaxed);
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.closed.cancel();
        self.streams.close();
        if let Some(journal) = self.streams.journal()
            && (self.is_over.load(Ordering::Relaxed) || !journal.is_stopping())
        {
            journal.end();
        }
        (self.on_end)(self.id);
    }

    fn touch(&self) {
        self.used.touch();
    }
}

/// One session as `/api/v1/sessions` shows it. Its id appears only as the first digits that logs use too.
#[derive(Debug, Serialize)]
pub struct SessionStatus {
    session: String,
    client: String,
    revision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    age_seconds: u64,
    idle_seconds: u64,
    calls_in_flight: usize,
    stream: bool,
    open_questions: usize,
    subscriptions: usize,
}

/// See the module head. Cheap to clone.
#[derive(Clone)]
pub struct SessionHandle {
    session: Arc<Session>,
    actor: Addr<SessionActor>,
}

impl std::fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.session.id.fmt(f)
    }
}

impl SessionHandle {
    /// Starts a session's actor on this thread.
    pub(super) fn start(
        id: SessionId,
        opening: Opening,
        streams: Arc<Streams>,
        bounds: &Bounds,
        before: Option<&SessionRow>,
        on_end: OnEnd,
    ) -> Self {
        let mut session = None;
        let changed = Arc::<PendingChanges>::default();
        if before.is_some() {
            // Nobody knows what its lists were.
            changed.add_bits(TOOLS | PROMPTS | RESOURCES | TEMPLATES);
        }
        let level = before.and_then(|row| LogLevel::from_number(row.level?));
        let actor = SessionActor::create(|ctx: &mut Context<SessionActor>| {
            // Before anybody has the address, or the default bound would hold.
            ctx.set_mailbox_capacity(MAILBOX);
            let logs = Arc::new(LogGate::new(bounds.event_rate));
            let port = ClientPort::new(SessionPort { actor: ctx.address(), logs: Arc::clone(&logs) });
            if let Some(level) = level {
                logs.set_level(level);
            }
            let mut state = State::new(
                opening.revision,
                opening.capabilities.clone(),
                Arc::clone(&streams),
                Arc::clone(&changed),
            )
            .with_public_uris(opening.public_uris);
            if let Some(row) = before {
                state.go_on(row);
            }
            let closed = CancellationToken::new();
            let shared = Arc::new(Session {
                id,
                revision: opening.revision,
                client: Arc::new(Client {
                    principal: Principal::Local,
                    affinity: Affinity::Session(id),
                    task_of: None,
                    profile: opening.profile,
                    capabilities: opening.capabilities,
                    port: Some(port),
                    closed: closed.clone(),
                }),
                has_tasks: opening.has_tasks,
                client_name: opening.client_name,
                changed,
                in_flight: InFlightTable::new(bounds.session_calls),
                logs,
                level_was_set: AtomicBool::new(level.is_some()),
                closed,
                opened: Instant::now(),
                used: Arc::new(LastUse::now()),
                streams,
                attended: AtomicBool::new(false),
                questions: AtomicUsize::new(0),
                subscriptions: AtomicUsize::new(before.map_or(0, |row| row.subscriptions.len())),
                is_over: AtomicBool::new(false),
                unfollowed: Mutex::new(before.map(SessionRow::subscribed).unwrap_or_default()),
                on_end,
            });
            session = Some(Arc::clone(&shared));
            SessionActor { session: shared, state }
        });
        SessionHandle { session: session.expect("create runs its closure"), actor }
    }

    /// Admits a call under its id.
    pub fn admit(&self, id: &RequestId) -> Result<Admission, NotAdmitted> {
        self.session.touch();
        self.session.in_flight.admit(id, &self.session.used)
    }

    /// Cancels a call of this session.
    pub fn cancel(&self, id: &RequestId) {
        self.session.in_flight.cancel(id);
    }

    /// Resolves when the session has ended.
    pub async fn until_ended(&self) {
        self.session.closed.cancelled().await;
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.session.closed.is_cancelled() || !self.actor.connected()
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.session.id
    }

    /// The revision negotiated.
    pub fn revision(&self) -> Revision {
        self.session.revision
    }

    /// The caller behind it.
    pub fn client(&self) -> &Arc<Client> {
        &self.session.client
    }

    /// Whether the client was told that calls may become tasks: what was declared holds for as long as the session (S-LIFE-05).
    pub fn has_tasks(&self) -> bool {
        self.session.has_tasks
    }

    /// What the client calls itself; may be empty.
    pub fn client_name(&self) -> &Arc<str> {
        &self.session.client_name
    }

    /// The log level it wants; `warning` until it says (S-LOG-06).
    pub fn log_level(&self) -> LogLevel {
        self.session.log_level()
    }

    /// The log level it wants, as that changes.
    pub fn log_gate(&self) -> &Arc<LogGate> {
        &self.session.logs
    }

    /// The log level that upstreams should know of: only one that the client has set itself.
    pub fn wants_logs(&self) -> Option<LogLevel> {
        self.session.level_was_set.load(Ordering::Relaxed).then(|| self.session.log_level())
    }

    /// Notes the log level it wants.
    pub fn set_log_level(&self, level: LogLevel) {
        self.session.logs.set_level(level);
        self.session.level_was_set.store(true, Ordering::Relaxed);
        if let Some(journal) = self.session.streams.journal() {
            journal.change(|row| row.level = Some(level as u8));
        }
    }

    /// Resolves when what is known of it would outlive the gateway, where it is to: before its client is told that
    /// something was done (F26). At once, for all others.
    pub async fn until_kept(&self) {
        if let Some(journal) = self.session.streams.journal() {
            journal.until_written().await;
        }
    }

    /// The client finished its handshake.
    pub async fn client_is_ready(&self) {
        self.session.touch();
        let _ = self.actor.send(ClientReady).await;
        self.until_kept().await;
    }

    /// The client answered question `number`.
    pub async fn answered(&self, number: u64, answer: Answer) {
        self.session.touch();
        let _ = self.actor.send(ClientAnswered { number, answer }).await;
    }

    /// The client cancelled the call of that stream. When this resolves, the withdrawals of its questions are there.
    pub async fn withdraw_questions_on(&self, stream: EventSink) {
        let _ = self.actor.send(CallCancelled { stream }).await;
    }

    /// The client is at work on a question.
    pub async fn progressed(&self, params: Object) {
        self.session.touch();
        let _ = self.actor.send(ClientProgressed { params }).await;
    }

    /// The error object of a call that waits for pages to be visited, under identifiers of this session; `None` when
    /// the client cannot be given it.
    pub async fn urls_required(&self, required: RequireUrls) -> Option<Bytes> {
        self.actor.send(required).await.ok().flatten()
    }

    /// Its streams.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.session.streams
    }

    /// Opens the standing stream, from behind event `resume` where that is known; `None` when the session has ended.
    pub async fn open_stream(&self, resume: Option<u64>) -> Option<Result<StreamReader, StreamTaken>> {
        self.session.touch();
        self.actor.send(OpenStream { resume }).await.ok()
    }

    /// Remembers a subscription, and says whether it is a new one. When this resolves, its updates reach the client.
    pub async fn subscribed(&self, subscribed: Subscribed) -> bool {
        self.actor.send(subscribed).await.unwrap_or(false)
    }

    /// Subscriptions that it had when the gateway was restarted, once: its client is back, and their servers are to hear of
    /// them again.
    pub fn take_unfollowed(&self) -> Vec<Subscribed> {
        if self.session.streams.journal().is_none() {
            return Vec::new();
        }
        std::mem::take(&mut *self.session.unfollowed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a subscription of a session that outlives the gateway is still wanted.
    pub fn still_follows(&self, public: &str) -> bool {
        self.session.streams.journal().is_some_and(|journal| journal.follows(public))
    }

    /// Forgets a subscription, and says what is left to do.
    pub async fn stop_following(&self, stop: StopFollowing) -> StoppedFollowing {
        self.actor.send(stop).await.unwrap_or(StoppedFollowing::Unknown)
    }

    /// Forgets a subscription.
    #[expect(clippy::disallowed_methods, reason = "one for each subscription, however full the mailbox is")]
    pub fn unsubscribed(&self, public: String) {
        self.actor.do_send(Unsubscribed { public });
    }

    /// The client is about to see the newest list of this kind (`session::changes`); gives the change that it had not
    /// been told of.
    pub fn lists(&self, kind: u8) -> Option<UntoldChange<'_>> {
        // Made only where there is one: a change that is dropped is told.
        self.session.changed.take(kind).then(|| UntoldChange { session: self, kind })
    }

    /// Tells that lists changed. Nothing waits: an overfull session tells it with the next message that it handles.
    pub fn lists_changed(&self, changed: ListsChanged) {
        self.session.changed.add(changed);
        if self.actor.try_send(changed).is_err() {
            tracing::debug!(session = ?self.session.id, "a list change is told a little later");
        }
    }

    /// Tells that a task of this session is in another state. Nothing waits, and an overfull session is not told: clients
    /// look for themselves.
    pub fn task_changed(&self, changed: TaskChanged) {
        if self.actor.try_send(changed).is_err() {
            tracing::debug!(session = ?self.session.id, "a change of a task is not told");
        }
    }

    /// Ends the session for good and waits until it has ended.
    pub async fn end(&self, why: &'static str) {
        self.session.is_over.store(true, Ordering::Relaxed);
        self.stop(why).await;
    }

    /// Ends the session here, and waits until it has ended; if it outlives the gateway, the next one goes on with it.
    pub async fn stop(&self, why: &'static str) {
        // Closed means that it has ended already.
        let _ = self.actor.send(EndSession { why }).await;
        self.session.closed.cancel();
    }

    /// Has what is kept of it on the disk last for as long as the session may.
    pub(super) fn renew(&self) {
        if let Some(journal) = self.session.streams.journal() {
            let unused = self.idle_for().unwrap_or_default();
            journal.renew(u64::try_from(unused.as_millis()).unwrap_or(u64::MAX));
        }
    }

    /// How long nothing was heard of the client; `None` while a call runs or a stream is open.
    pub fn idle_for(&self) -> Option<Duration> {
        let attended = self.session.streams.are_attended();
        if self.session.attended.swap(attended, Ordering::Relaxed) && !attended {
            // Idleness begins when the stream is seen to have ended, not when it was opened.
            self.session.touch();
        }
        let busy = self.session.in_flight.len() > 0 || attended;
        (!busy).then(|| self.session.used.ago())
    }

    /// For people and tests.
    pub fn status(&self) -> SessionStatus {
        SessionStatus {
            session: format!("{:?}", self.session.id),
            client: self.session.client_name.to_string(),
            revision: self.session.revision.text(),
            profile: self.session.client.profile.as_ref().map(ToString::to_string),
            age_seconds: self.session.opened.elapsed().as_secs(),
            idle_seconds: self.session.used.ago().as_secs(),
            calls_in_flight: self.session.in_flight.len(),
            stream: self.session.streams.are_attended(),
            open_questions: self.session.questions.load(Ordering::Relaxed),
            subscriptions: self.session.subscriptions.load(Ordering::Relaxed),
        }
    }

    /// Makes the actor panic; debug builds only (F56).
    #[cfg(debug_assertions)]
    pub async fn panic_now(&self) {
        let _ = self.actor.send(super::messages::PanicNow).await;
    }
}

/// A change of a list that its client was not told of, and does not have to be told of once it has seen the list.
#[derive(Debug)]
pub struct UntoldChange<'a> {
    session: &'a SessionHandle,
    kind: u8,
}

impl UntoldChange<'_> {
    /// The list is on its way.
    pub fn was_seen(mut self) {
        self.kind = 0;
    }
}

impl Drop for UntoldChange<'_> {
    /// It has not seen the list: it is told as before.
    fn drop(&mut self) {
        if self.kind != 0 {
            self.session.session.changed.add_bits(self.kind);
            self.session.lists_changed(ListsChanged::default());
        }
    }
}

/// Messages that may wait for one session.
const MAILBOX: usize = 256;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::protocol::frame::Notification;
    use crate::session::questions::tests::asked;
    use crate::session::stream::Next;
    use crate::session::streams::tests::streams;
    use crate::upstream::messages::TellClient;

    fn object(text: &'static str) -> Object {
        Object::parse(Bytes::from_static(text.as_bytes()), Limits::NONE).expect("valid")
    }

    fn session() -> SessionHandle {
        let (revision, bounds) = (Revision::V2025_11_25, Bounds::default());
        let opening = Opening {
            revision,
            profile: None,
            capabilities: ClientCapabilities::of(&object(r#"{"roots":{}}"#), revision),
            has_tasks: false,
            client_name: Arc::from(""),
            public_uris: PublicUris::default(),
            pipe: None,
        };
        let streams = Arc::new(streams(revision, bounds.clone()));
        SessionHandle::start(SessionId(7), opening, streams, &bounds, None, Arc::new(|_| {}))
    }

    /// News of no consequence, as many as the mailbox takes.
    fn fill(port: &ClientPort) {
        let news = || TellClient {
            upstream: UpstreamName::new("noisy"),
            in_loggers: true,
            is_expected: false,
            notification: Notification { method: "notifications/unknown".into(), params: Object::empty() },
        };
        while port.tell(news()) {}
    }

    #[test]
    fn f11_s_trust_03_a_mailbox_full_of_one_server_s_news_loses_nothing_of_the_others() {
        System::new().block_on(async {
            let session = session();
            let port = session.client().port.clone().expect("it has one");
            session.client_is_ready().await;
            let mut stream = session.open_stream(None).await.expect("it lives").expect("free");
            let question = port.ask(asked("calm", "roots/list", "{}")).await.expect("declared");
            fill(&port);
            session.lists_changed(ListsChanged { tools: true, ..ListsChanged::default() });
            port.withdraw(question.number);
            // Handled behind all that waits.
            session.withdraw_questions_on(crate::upstream::events::event_queue(1).0).await;
            let mut told = Vec::new();
            while let Some(Next::Event(_, text)) = stream.next().now_or_never() {
                told.push(String::from_utf8_lossy(&text).into_owned());
            }
            for expected in ["roots/list", "tools/list_changed", "notifications/cancelled"] {
                assert!(told.iter().any(|text| text.contains(expected)), "no {expected} in {told:?}");
            }
        });
    }
}
