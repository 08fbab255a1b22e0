//! How the rest of the gateway reaches one upstream: one method that takes a permit, and questions about its state.

use std::sync::Arc;

use actix::{Addr, Recipient};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::actor::UpstreamActor;
use super::call::{Activity, Affinity, Circumstances, Client, UpstreamCall};
use super::connect::Address;
use super::error::UpstreamError;
use super::link::Link;
use super::messages::{EraMistaken, LinkProgress, OpenLink, ReleaseLink, Retire, UpstreamNews};
use super::probe::Facts;
use super::shared::{Shared, State, Status};
use super::stateless::{Answered, StatelessHttp};
use super::supervisor::{AddressSlot, supervise};
use crate::config::bounds::Bounds;
use crate::config::servers::ServerSettings;
use crate::names::UpstreamName;
use crate::policy::Permit;
use crate::protocol::era::{Era, Revision};
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
        if !call.circumstances.progress {
            return match tokio::time::timeout(quiet.min(maximum), self.route(call, None)).await {
                Ok(answer) => answer,
                Err(_) => Err(UpstreamError::Timeout(quiet.min(maximum))),
            };
        }
        let activity = Arc::new(Activity::starting_now());
        tokio::select! {
            biased;
            answer = self.route(call, Some(Arc::clone(&activity))) => answer,
            () = activity.expired(quiet, maximum) => Err(UpstreamError::Timeout(quiet)),
        }
    }

    async fn route(
        &self,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
    ) -> Result<Answer, UpstreamError> {
        #[cfg(debug_assertions)]
        if self.shared.panic_at.as_deref() == Some(call.method.name()) {
            let _ = self.actor()?.send(super::messages::PanicNow).await;
        }
        let facts = match self.shared.facts() {
            Some(facts) => facts,
            None => self.connected().await?,
        };
        let answer = match (&self.shared.address, facts.revision.era()) {
            (Address::Http { stateless, .. }, Era::Stateless) => {
                self.call_stateless(stateless, &facts, call, activity).await?
            }
            _ => self.call_on_link(&facts, call, activity).await?,
        };
        if let Answer::Result(_) = &answer {
            self.note_subscription(call, facts.revision);
        }
        if facts.revision.era() == Era::Stateless {
            completed(&answer)?;
        }
        Ok(answer)
    }

    /// Remembers what a later link must ask for again.
    fn note_subscription(&self, call: &UpstreamCall<'_>, revision: Revision) {
        let Some(uri) = &call.target else { return };
        let affinity = self.shared.affinity_for(&call.circumstances.client, revision);
        match call.method {
            Method::Subscribe => {
                let mut subscribed = self.shared.subscriptions.entry(affinity).or_default();
                if !subscribed.iter().any(|known| known == uri) {
                    subscribed.push(uri.clone().into_owned());
                }
            }
            Method::Unsubscribe => {
                if let Some(mut subscribed) = self.shared.subscriptions.get_mut(&affinity) {
                    subscribed.retain(|known| known != uri);
                }
            }
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
        if era_is_doubtful(&answered)
            && let Ok(actor) = self.actor()
            && actor.try_send(EraMistaken).is_err()
        {
            tracing::debug!(upstream = %self.name(), "the actor is busy; its era stays as it was");
        }
        answered.map(|answered| answered.answer)
    }

    async fn call_on_link(
        &self,
        facts: &Facts,
        call: &UpstreamCall<'_>,
        activity: Option<Arc<Activity>>,
    ) -> Result<Answer, UpstreamError> {
        let circumstances = call.circumstances;
        let affinity = self.shared.affinity_for(&circumstances.client, facts.revision);
        let link = self.link(affinity, &circumstances.client, circumstances.log_level).await?;
        match link.call(call, activity.clone()).await {
            // The session was forgotten before the call was looked at: once more on a new one (S-HTTPC-04).
            Err(UpstreamError::SessionForgotten) => {
                let link = self.link(affinity, &circumstances.client, circumstances.log_level).await?;
                link.call(call, activity).await
            }
            outcome => outcome,
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
            if progress.changed().await.is_err() {
                // A stateless upstream leaves no link behind, only facts.
                return self
                    .shared
                    .facts()
                    .ok_or_else(|| UpstreamError::unavailable("it is being restarted"));
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
            Answer::Error(error) if error.code == -32601 => Err(UpstreamError::NotOffered(method.name())),
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
            tracing::warn!(upstream = %self.name(), "a session's connection is left to its idle limit");
        }
    }

    /// Stops it; resolves when its processes are gone.
    pub async fn retire(&self) {
        let (done, gone) = oneshot::channel();
        if let Ok(actor) = self.actor()
            && actor.send(Retire { done }).await.is_ok()
        {
            // Closed without a word when the actor's thread ends first.
            let _ = gone.await;
        }
    }
}

/// A connection that could not be opened carried no call, whatever it died of.
fn unsent(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Lost { why } | UpstreamError::Protocol { why } => UpstreamError::unavailable(why),
        other => other,
    }
}

/// An answer that an upstream of the handshake era would give to a stateless call (S-LIFE-14).
fn era_is_doubtful(answered: &Result<Answered, UpstreamError>) -> bool {
    match answered {
        Err(UpstreamError::Protocol { .. }) => true,
        Err(_) => false,
        Ok(Answered { answer: Answer::Error(error), status }) => match (*status, error.code) {
            (_, -32022) => true,
            (400, code) => !matches!(code, -32021 | -32020 | -32602),
            (404, code) => code != -32601,
            _ => false,
        },
        Ok(_) => false,
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
