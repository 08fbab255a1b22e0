//! How the rest of the gateway reaches one upstream: its state, its connections, its end. Calls
//! (`forward`) take a permit and are in `route`.

use std::sync::Arc;

use actix::{Addr, Recipient};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::actor::UpstreamActor;
use super::call::{Affinity, Circumstances, Client, UpstreamCall};
use super::error::UpstreamError;
use super::input::Reply;
use super::kept_reads::KeptReads;
use super::link::Link;
use super::messages::{LinkProgress, OpenLink, ReleaseLink, Retire, UpstreamNews};
use super::probe::Facts;
use super::shared::{Shared, State, Status};
use super::supervisor::{AddressSlot, supervise};
use crate::config::bounds::Bounds;
use crate::config::servers::{ServerSettings, Share};
use crate::names::UpstreamName;
use crate::policy::Permit;
use crate::protocol::code::METHOD_NOT_FOUND;
use crate::protocol::era::Era;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object};
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::protocol::translate::question::Asker;

/// One upstream. Cheap to clone.
#[derive(Clone)]
pub struct UpstreamHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) actor: AddressSlot,
}

impl std::fmt::Debug for UpstreamHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamHandle({})", self.shared.settings.name)
    }
}

impl UpstreamHandle {
    /// Prepares an upstream; nothing is started yet. Fails on an address that cannot be one.
    pub fn new(settings: ServerSettings, bounds: Bounds, reads: Arc<KeptReads>) -> Result<Self, String> {
        Ok(UpstreamHandle {
            shared: Shared::new(settings, bounds, reads)?,
            actor: Arc::new(ArcSwapOption::empty()),
        })
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

    /// How it presents itself to those it asks, and what it may ask.
    pub fn asker(&self) -> &Arc<Asker> {
        &self.shared.questions.asker
    }

    /// How many questions a minute it may put to one client.
    pub fn question_rate(&self) -> std::num::NonZeroU32 {
        self.shared.questions.per_minute
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

    /// What it said of itself when it was last heard of.
    pub fn known_facts(&self) -> Option<Arc<Facts>> {
        self.shared.known_facts()
    }

    /// Resources that were read, of all upstreams.
    pub fn reads(&self) -> &KeptReads {
        &self.shared.reads
    }

    /// The open link of that affinity, opened now if need be.
    pub(super) async fn link(
        &self,
        affinity: Affinity,
        client: &Arc<Client>,
        log_level: Option<LogLevel>,
    ) -> Result<Arc<Link>, UpstreamError> {
        if let Some(link) = self.shared.open_link(affinity) {
            return Ok(link);
        }
        let client = client.task_of.as_ref().unwrap_or(client);
        let opened_for = match affinity {
            Affinity::Shared | Affinity::Listen(_) => Arc::clone(&self.shared.own_client),
            Affinity::Pooled(_) => Arc::clone(client),
            Affinity::Session(_) | Affinity::Principal(_) | Affinity::Caller(_) => {
                let entered = self.shared.users.enter(client, log_level);
                entered.ok_or_else(|| UpstreamError::unavailable("its session has ended"))?
            }
        };
        let connection = opened_for.affinity;
        let mut progress = self.open(opened_for).await?;
        loop {
            match progress.borrow_and_update().clone() {
                LinkProgress::Ready(link) => {
                    if affinity != connection {
                        self.shared.lead_to(client, &link);
                        link.settle_level(self.shared.users.level(connection));
                    }
                    return Ok(link);
                }
                LinkProgress::Failed(error) => return Err(unsent(error)),
                LinkProgress::NotNeeded => {
                    return Err(UpstreamError::unavailable("it has just changed its era"));
                }
                LinkProgress::Starting => {}
            }
            if progress.changed().await.is_err() {
                return self
                    .shared
                    .open_link(connection)
                    .ok_or_else(|| UpstreamError::unavailable("it is being restarted"));
            }
        }
    }

    /// Waits until the upstream is connected, as long as an attempt is under way.
    pub async fn connected(&self) -> Result<Arc<Facts>, UpstreamError> {
        if let Some(facts) = self.shared.facts() {
            return Ok(facts);
        }
        let mut progress = self.open(Arc::clone(&self.shared.own_client)).await?;
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
    ) -> Result<tokio::sync::watch::Receiver<LinkProgress>, UpstreamError> {
        let opened = self.actor()?.send(OpenLink { client }).await;
        opened.map_err(|_| UpstreamError::unavailable("it is being restarted"))
    }

    pub(super) fn actor(&self) -> Result<Arc<Addr<UpstreamActor>>, UpstreamError> {
        self.actor.load_full().ok_or_else(|| UpstreamError::unavailable("it is being restarted"))
    }

    /// Whether this client is served by a connection that declares what it can be asked, as the one that serves all
    /// does not.
    pub fn declares_for(&self, client: &Client) -> bool {
        let own = || Some(self.shared.open_link(client.affinity)?.facts().ok()?.revision);
        let revision = self.shared.facts().map(|facts| facts.revision).or_else(own);
        self.shared.settings.share != Share::All
            && revision.is_some_and(|revision| {
                let is_pooled = revision.era() == Era::Handshake && self.shared.pool.set_of(client).is_some();
                is_pooled || self.shared.affinity_for(client, revision) != Affinity::Shared
            })
    }

    /// Whether updates of resources would reach this client: it can be told, and the upstream offers subscriptions.
    ///
    /// An upstream that is not connected is believed to offer them: asked, it answers by its failure.
    pub fn can_subscribe(&self, client: &Client) -> bool {
        client.port.is_some() && self.offers_subscriptions()
    }

    /// Whether it says that it tells of updates of resources, or may say so when it is connected.
    pub fn offers_subscriptions(&self) -> bool {
        self.shared.facts().is_none_or(|facts| facts.capabilities.flag("resources", "subscribe"))
    }

    /// Whether subscriptions are a stateless upstream's, which has nothing but a yes or no to say to them.
    pub fn subscribes_by_listening(&self) -> bool {
        self.shared.facts().is_some_and(|facts| facts.revision.era() == Era::Stateless)
    }

    /// Whether every change of its lists that it tells of is heard.
    pub fn hears_lists(&self) -> bool {
        self.facts().is_none_or(|facts| facts.revision.era() == Era::Handshake)
            || self.shared.listen.hears_lists()
    }

    /// Waits until changes that the upstream tells of are heard, as far as that is to be soon (S-SUB-05).
    pub async fn until_heard(&self) {
        if matches!(self.state(), State::Starting) && self.connected().await.is_err() {
            return;
        }
        self.shared.listen.until_settled().await;
    }

    /// Whether its process was stopped because nobody used it.
    pub fn is_idle(&self) -> bool {
        self.shared.state() == State::Idle
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
            input: None,
            task: None,
        };
        let call = UpstreamCall {
            method,
            params: Edit::of(&params),
            target: None,
            param_headers: Vec::new(),
            circumstances: &circumstances,
        };
        match self.forward(permit, &call).await? {
            Reply::Final(Answer::Result(result)) => Ok(result),
            Reply::NeedsInput(_) | Reply::Task(_) => Err(UpstreamError::protocol("a list needs no input")),
            Reply::Final(Answer::Error(error)) if error.code == METHOD_NOT_FOUND => {
                Err(UpstreamError::NotOffered(method.name()))
            }
            Reply::Final(Answer::Error(error)) => {
                Err(UpstreamError::protocol(format!("it refused {}: {}", method.name(), error.message())))
            }
        }
    }

    /// Notes the log level that a session wants, and sets what its connection needs, if it has one.
    pub fn set_level(&self, session: Affinity, level: LogLevel) {
        if let Some(connection) = self.shared.users.wants(session, level)
            && let Some(link) = self.shared.open_link(connection)
        {
            link.settle_level(self.shared.users.level(connection));
        }
    }

    /// Passes a notification of a session on to its open connection, if it has one and shares it with nobody: what is
    /// true of one client need not be of the others, and nothing on a shared connection could say of whom it is.
    pub fn notify(&self, session: Affinity, method: &str, params: &[u8]) {
        if let Some(link) = self.shared.open_link(session)
            && self.shared.users.is_alone(session, link.affinity())
            && link.facts().is_ok_and(|facts| facts.revision.era() == Era::Handshake)
        {
            link.notify(method, params);
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

/// A connection that could not be opened carried no call, whatever it died of.
fn unsent(error: UpstreamError) -> UpstreamError {
    match error {
        UpstreamError::Unavailable { .. }
        | UpstreamError::SessionForgotten
        | UpstreamError::NotOffered(_)
        | UpstreamError::HeadersRefused
        | UpstreamError::AuthRequired
        | UpstreamError::Overloaded { .. } => error,
        UpstreamError::Lost { why }
        | UpstreamError::Protocol { why }
        | UpstreamError::BeyondLimits { why } => UpstreamError::unavailable(why),
        UpstreamError::TooLarge | UpstreamError::Timeout(_) | UpstreamError::SessionLost => {
            UpstreamError::unavailable(error.to_string())
        }
    }
}
