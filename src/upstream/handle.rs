//! How the rest of the gateway reaches one upstream: one method that takes a permit, and questions about its state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Addr, Recipient};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::actor::UpstreamActor;
use super::call::{Activity, Affinity, Circumstances, Client, UpstreamCall};
use super::connect::Address;
use super::era_check::{doubts_handshake, doubts_stateless};
use super::error::UpstreamError;
use super::link::Link;
use super::messages::{EraMistaken, LinkProgress, OpenLink, ReleaseLink, Retire, UpstreamNews};
use super::probe::Facts;
use super::shared::{Shared, State, Status};
use super::stateless::StatelessHttp;
use super::supervisor::{AddressSlot, supervise};
use crate::config::bounds::Bounds;
use crate::config::servers::ServerSettings;
use crate::names::UpstreamName;
use crate::policy::Permit;
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object, quote, string};
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;

/// One upstream. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamHandle {
    shared: Arc<Shared>,
    actor: AddressSlot,
}

impl std::fmt::Debug for UpstreamHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamHandle({})", self.shared.settings.name)
    }
}

impl UpstreamHandle {
    /// Prepares an upstream; nothing is started yet. Fails on an address that cannot be one.
    pub fn new(settings: ServerSettings, bounds: Bounds) -> Result<Self, String> {
        Ok(UpstreamHandle { shared: Shared::new(settings, bounds)?, actor: Arc::new(ArcSwapOption::empty()) })
    }

    /// Starts its supervisor on this thread, which must live as long as the gateway.
    pub fn start(&self, news: Recipient<UpstreamNews>) {
        tokio::task::spawn_local(supervise(Arc::clone(&self.shared), news, Arc::clone(&self.actor)));
    }

    /// Its key in the configuration.
    pub fn name(&self) -> &UpstreamName {
        &self.shared.settings.name
    }

    /// Its settings.
    pub fn settings(&self) -> &ServerSettings {
        &self.shared.settings
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// How it is, in one word and its reason.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// What it said of itself, while it is connected.
    pub fn facts(&self) -> Option<Arc<Facts>> {
        self.shared.facts()
    }

    /// Makes a call and waits for its answer, at most as long as the server's deadline allows.
    ///
    /// Dropping the future cancels the call upstream. The answer is the upstream's own, with names and URIs as it wrote
    /// them; a result that a stateless upstream did not complete is an error in this release.
    pub async fn forward(&self, permit: Permit, call: &UpstreamCall<'_>) -> Result<Answer, UpstreamError> {
        debug_assert_eq!(permit.upstream(), self.name(), "a permit is for one upstream");
        let (quiet, maximum) = (self.shared.settings.timeout, self.shared.bounds.call_maximum);
        let sent = AtomicBool::new(false);
        let activity = call.circumstances.progress.then(|| Arc::new(Activity::starting_now()));
        let expiry = async {
            match &activity {
                Some(activity) => activity.expired(quiet, maximum).await,
                None => tokio::time::sleep(quiet.min(maximum)).await,
            }
        };
        tokio::select! {
            biased;
            answer = self.route(call, activity.clone(), &sent) => answer,
            () = expiry => Err(match sent.load(Ordering::Relaxed) {
                true => UpstreamError::Timeout(quiet.min(maximum)),
                false => UpstreamError::unavailable("it is still being connected"),
            }),
        }
    }

    async fn route(
        &self,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        #[cfg(debug_assertions)]
        if self.shared.panic_at.as_deref() == Some(call.method.name()) {
            let _ = self.actor()?.send(super::messages::PanicNow).await;
        }
        let facts = match self.shared.facts() {
            Some(facts) => facts,
            None => self.connected().await?,
        };
        let affinity = self.shared.affinity_for(&call.circumstances.client, facts.revision);
        self.refuse_too_many_subscriptions(call, affinity)?;
        let answer = match (&self.shared.address, facts.revision.era()) {
            (Address::Http { stateless, .. }, Era::Stateless) => {
                sent.store(true, Ordering::Relaxed);
                self.call_stateless(stateless, &facts, call, activity).await?
            }
            _ => self.call_on_link(affinity, call, activity, sent).await?,
        };
        if let Answer::Result(_) = &answer {
            self.note_subscription(call, affinity);
        }
        if facts.revision.era() == Era::Stateless {
            completed(&answer)?;
        }
        Ok(answer)
    }

    fn refuse_too_many_subscriptions(
        &self,
        call: &UpstreamCall<'_>,
        affinity: Affinity,
    ) -> Result<(), UpstreamError> {
        match (&call.target, call.method) {
            (Some(uri), Method::Subscribe) if !self.shared.subscriptions.have_room(affinity, uri) => {
                Err(UpstreamError::Overloaded { retry_after: None })
            }
            _ => Ok(()),
        }
    }

    /// Remembers what a later link must ask for again.
    fn note_subscription(&self, call: &UpstreamCall<'_>, affinity: Affinity) {
        let Some(uri) = &call.target else { return };
        match call.method {
            Method::Subscribe => {
                self.shared.subscriptions.add(&call.circumstances.client, affinity, uri);
            }
            Method::Unsubscribe => self.shared.subscriptions.remove(affinity, uri),
            _ => {}
        }
    }

    async fn call_stateless(
        &self,
        stateless: &StatelessHttp,
        facts: &Facts,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
    ) -> Result<Answer, UpstreamError> {
        let answered = stateless.call(call, facts.revision, activity).await;
        if doubts_stateless(&answered)
            && let Ok(actor) = self.actor()
            && actor.try_send(EraMistaken { believed: Era::Stateless }).is_err()
        {
            tracing::debug!(upstream = %self.name(), "the actor is busy; its era stays as it was");
        }
        answered.map(|answered| answered.answer)
    }

    async fn call_on_link(
        &self,
        affinity: Affinity,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
        sent: &AtomicBool,
    ) -> Result<Answer, UpstreamError> {
        let circumstances = call.circumstances;
        let link = self.link(affinity, &circumstances.client, circumstances.log_level).await?;
        let answered = match link.call(call, activity.clone(), sent).await {
            // The session was forgotten before the call was looked at: once more on a new one (S-HTTPC-04).
            Err(UpstreamError::Unavailable { .. }) if link.has_ended() => {
                sent.store(false, Ordering::Relaxed);
                let link = self.link(affinity, &circumstances.client, circumstances.log_level).await?;
                link.call(call, activity, sent).await
            }
            outcome => outcome,
        };
        if doubts_handshake(&answered) {
            self.check_era().await;
        }
        answered
    }

    /// Asks an upstream of the handshake era whether it still is one. The doubtful answer waits for that, a moment, so
    /// that the caller's next call finds things in order.
    async fn check_era(&self) {
        let Address::Http { stateless, .. } = &self.shared.address else { return };
        if self.shared.pinned().is_some() {
            return;
        }
        if self.shared.era_check.has_become_stateless(stateless, ERA_CHECK).await
            && let Ok(actor) = self.actor()
            && actor.send(EraMistaken { believed: Era::Handshake }).await.is_err()
        {
            tracing::debug!(upstream = %self.name(), "the actor ended while its era was looked at");
        }
    }

    /// The open link of that affinity, opened now if need be.
    async fn link(
        &self,
        affinity: Affinity,
        client: &Arc<Client>,
        log_level: Option<LogLevel>,
    ) -> Result<Arc<Link>, UpstreamError> {
        if let Some(link) = self.open_link(affinity) {
            return Ok(link);
        }
        let client = match affinity {
            Affinity::Shared => Arc::clone(&self.shared.own_client),
            Affinity::Session(_) => Arc::clone(client),
        };
        let mut progress = self.open(client, log_level).await?;
        loop {
            match progress.borrow_and_update().clone() {
                LinkProgress::Ready(link) => return Ok(link),
                LinkProgress::Failed(error) => return Err(unsent(error)),
                LinkProgress::NotNeeded => {
                    return Err(UpstreamError::unavailable("it has just changed its era"));
                }
                LinkProgress::Starting => {}
            }
            if progress.changed().await.is_err() {
                return self
                    .open_link(affinity)
                    .ok_or_else(|| UpstreamError::unavailable("it is being restarted"));
            }
        }
    }

    fn open_link(&self, affinity: Affinity) -> Option<Arc<Link>> {
        let link = Arc::clone(self.shared.links.get(&affinity)?.value());
        (!link.has_ended()).then_some(link)
    }

    /// Waits until the upstream is connected, as long as an attempt is under way.
    pub async fn connected(&self) -> Result<Arc<Facts>, UpstreamError> {
        if let Some(facts) = self.shared.facts() {
            return Ok(facts);
        }
        let mut progress = self.open(Arc::clone(&self.shared.own_client), None).await?;
        loop {
            if let LinkProgress::Failed(error) = progress.borrow_and_update().clone() {
                return Err(unsent(error));
            }
            if let Some(facts) = self.shared.facts() {
                return Ok(facts);
            }
            // Whoever is ready has facts: they are gone again already unless it is still starting.
            if progress.changed().await.is_err() {
                return Err(UpstreamError::unavailable("it is being restarted"));
            }
        }
    }

    async fn open(
        &self,
        client: Arc<Client>,
        log_level: Option<LogLevel>,
    ) -> Result<tokio::sync::watch::Receiver<LinkProgress>, UpstreamError> {
        let opened = self.actor()?.send(OpenLink { client, log_level }).await;
        opened.map_err(|_| UpstreamError::unavailable("it is being restarted"))
    }

    fn actor(&self) -> Result<Arc<Addr<UpstreamActor>>, UpstreamError> {
        self.actor.load_full().ok_or_else(|| UpstreamError::unavailable("it is being restarted"))
    }

    /// Whether this client is served by a connection that nobody else uses.
    pub fn has_link_of_its_own(&self, client: &Client) -> bool {
        let revision = self.shared.facts().map(|facts| facts.revision);
        revision.is_some_and(|revision| self.shared.affinity_for(client, revision) != Affinity::Shared)
    }

    /// Whether updates of resources would reach this client: the upstream offers subscriptions, and over a connection
    /// that nobody else uses, or nobody could say whose they are.
    pub fn can_subscribe(&self, client: &Client) -> bool {
        self.shared.facts().is_some_and(|facts| {
            facts.revision.era() == Era::Handshake
                && facts.capabilities.flag("resources", "subscribe")
                && self.shared.affinity_for(client, facts.revision) != Affinity::Shared
        })
    }

    /// The gateway itself as a caller, for its own errands.
    pub fn own_client(&self) -> &Arc<Client> {
        &self.shared.own_client
    }

    /// Fetches one page of a list as `client` sees it.
    pub async fn list_page(
        &self,
        permit: Permit,
        client: &Arc<Client>,
        method: Method,
        cursor: Option<Bytes>,
    ) -> Result<Object, UpstreamError> {
        let params = match cursor {
            Some(cursor) => format!(r#"{{"cursor":{}}}"#, String::from_utf8_lossy(&cursor)),
            None => "{}".to_owned(),
        };
        let params = Object::parse(Bytes::from(params), Limits::NONE)
            .map_err(|fault| UpstreamError::protocol(fault.to_string()))?;
        let circumstances = Circumstances {
            client: Arc::clone(client),
            progress: false,
            log_level: None,
            trace: Vec::new(),
            events: None,
        };
        let call = UpstreamCall {
            method,
            params: Edit::of(&params),
            target: None,
            param_headers: Vec::new(),
            circumstances: &circumstances,
        };
        match self.forward(permit, &call).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error(error) => {
                Err(UpstreamError::protocol(format!("it refused {}: {}", method.name(), error.message())))
            }
        }
    }

    /// Sets the log level of a session on its open connection, if it has one.
    pub fn set_level(&self, affinity: Affinity, level: LogLevel) {
        if let Some(link) = self.open_link(affinity) {
            link.set_level(level);
        }
    }

    /// Passes a notification of a session on to its open connection, if it has one.
    pub fn notify(&self, affinity: Affinity, method: &str, params: &[u8]) {
        if let Some(link) = self.open_link(affinity)
            && link.facts().is_ok_and(|facts| facts.revision.era() == Era::Handshake)
        {
            link.notify(method, &String::from_utf8_lossy(params));
        }
    }

    /// Closes what belonged to a session.
    pub fn release(&self, affinity: Affinity) {
        if let Ok(actor) = self.actor()
            && actor.try_send(ReleaseLink { affinity }).is_err()
        {
            tracing::warn!(upstream = %self.name(), "a session's connection is left until it is looked for");
        }
    }

    /// Stops it; resolves when its processes are gone.
    pub async fn retire(&self) {
        // For a supervisor that is between two actors.
        self.shared.set_state(State::Retired);
        let (done, gone) = oneshot::channel();
        if let Ok(actor) = self.actor()
            && actor.send(Retire { done }).await.is_ok()
        {
            // Closed without a word when the actor's thread ends first.
            let _ = gone.await;
        }
    }
}

/// Longest wait for an upstream that is asked what era it is of.
const ERA_CHECK: Duration = Duration::from_secs(1);

/// A connection that could not be opened carried no call, whatever it died of.
fn unsent(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Unavailable { .. }
        | UpstreamError::AuthRequired
        | UpstreamError::Overloaded { .. } => error,
        UpstreamError::Lost { why }
        | UpstreamError::Protocol { why }
        | UpstreamError::BeyondLimits { why } => UpstreamError::unavailable(why),
        UpstreamError::TooLarge | UpstreamError::Timeout(_) => UpstreamError::unavailable(error.to_string()),
    }
}

/// Only complete results can be carried on in this release: nothing else was offered (S-BASE-09).
fn completed(answer: &Answer) -> Result<(), UpstreamError> {
    let Answer::Result(result) = answer else { return Ok(()) };
    match result.get("resultType") {
        None | Some(b"\"complete\"") => Ok(()),
        Some(other) => {
            let kind = string(other).unwrap_or_default();
            Err(UpstreamError::protocol(format!(
                "its result has the type {}, which was not offered",
                quote(&kind)
            )))
        }
    }
}
