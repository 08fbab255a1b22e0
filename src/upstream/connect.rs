//! Opening a connection: start what must be started, greet it, keep what answers.
//!
//! Always: an attempt ends within its deadline; what it started, process or session, ends when its link does, however
//! that comes about, and is waited for among the upstream's errands. Not here: when to try again
//! (`connections`), the greeting (`greeting`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::Client;
use super::error::UpstreamError;
use super::greeting::HandshakeFailed;
use super::http_wire::{Endpoint, HttpWire, post_initialized};
use super::incoming::Incoming;
use super::link::{Link, LinkSettings, Reports, Wire};
use super::probe::Facts;
use super::sse_wire::SseWire;
use super::stateless::StatelessHttp;
use super::stdio::{self, Line, LineReceiver, ProcessControl, ProcessSettings};
use crate::config::servers::AskSettings;
use crate::names::UpstreamName;
use crate::protocol::era::Revision;
use crate::protocol::json::Limits;

/// What an attempt brought.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per connection")]
pub(super) enum Connected {
    /// A link.
    Link(Arc<Link>),
    /// A stateless HTTP upstream: nothing is kept open.
    Stateless { facts: Facts },
}

impl Connected {
    /// The link, where there is one.
    pub(super) fn link(&self) -> Option<&Arc<Link>> {
        match self {
            Connected::Link(link) => Some(link),
            Connected::Stateless { .. } => None,
        }
    }
}

/// How the upstream is reached.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Stdio(ProcessSettings),
    Http { endpoint: Endpoint, stateless: Arc<StatelessHttp> },
}

/// Why an attempt brought nothing.
#[derive(Debug)]
pub(super) struct AttemptFailed {
    pub(super) error: UpstreamError,
    /// The upstream was taken for one of the handshake era, and says now that it is not (S-LIFE-14).
    pub(super) era_changed: bool,
}

impl From<UpstreamError> for AttemptFailed {
    fn from(error: UpstreamError) -> Self {
        AttemptFailed { error, era_changed: false }
    }
}

/// What is known of the revision before the attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// The configuration takes no other.
    Pinned(Revision),
    /// The upstream's shared connection speaks it; its era saves a probe, and another revision of that era will do.
    Found(Revision),
}

impl Expected {
    pub(super) fn revision(self) -> Revision {
        match self {
            Expected::Pinned(revision) | Expected::Found(revision) => revision,
        }
    }
}

/// Everything an attempt needs.
pub(super) struct Attempt {
    pub(super) upstream: UpstreamName,
    pub(super) number: u64,
    pub(super) client: Arc<Client>,
    pub(super) address: Address,
    pub(super) expected: Option<Expected>,
    /// The configuration says HTTP+SSE, or the shared connection found it.
    pub(super) over_sse: bool,
    pub(super) reports: Reports,
    /// What the server may ask of the client.
    pub(super) ask: AskSettings,
    pub(super) start_deadline: Duration,
    pub(super) probe_deadline: Duration,
    pub(super) input_timeout: Duration,
    pub(super) json: Limits,
    /// Where what outlives the attempt is waited for.
    pub(super) errands: TaskTracker,
}

/// Longest wait for a standing stream before calls go ahead (S-HTTPC-06): some servers say nothing, not even a status,
/// until they have an event.
const STANDING_WAIT: Duration = Duration::from_millis(250);

/// Longest wait for an upstream that is told that its session ended.
const FAREWELL: Duration = Duration::from_secs(2);

impl Attempt {
    /// Runs the attempt to its end, which comes at once when it is abandoned.
    pub(super) async fn run(self, abandoned: CancellationToken) -> Result<Connected, AttemptFailed> {
        let deadline = self.start_deadline;
        let opened = tokio::time::timeout(deadline, self.open());
        match abandoned.run_until_cancelled(opened).await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => {
                let why = format!("it did not start within {} s", deadline.as_secs_f32());
                Err(UpstreamError::unavailable(why).into())
            }
            None => Err(UpstreamError::unavailable("nobody wants it any longer").into()),
        }
    }

    async fn open(&self) -> Result<Connected, AttemptFailed> {
        match &self.address {
            Address::Http { endpoint, stateless } => self.open_http(endpoint, stateless).await,
            Address::Stdio(settings) => self.open_stdio(settings).await,
        }
    }

    async fn open_http(
        &self,
        endpoint: &Endpoint,
        stateless: &StatelessHttp,
    ) -> Result<Connected, AttemptFailed> {
        if self.over_sse {
            // The other half is for the handshake.
            return Ok(self.open_sse(endpoint, self.start_deadline / 2).await?);
        }
        if self.must_probe()
            && let Some(facts) = self.probe_http(stateless).await?
        {
            return Ok(Connected::Stateless { facts });
        }
        let wire = Wire::Http(HttpWire::new(endpoint.clone()));
        let guard = EndOnDrop(Some(self.link(wire, None)));
        let link = guard.link();
        self.end_session_with(Arc::clone(link));
        let facts = match self.shake_hands(link).await {
            Err(HandshakeFailed::Refused(error)) if self.is_found() => {
                let era_changed = matches!(self.probe_http(stateless).await, Ok(Some(_)));
                return Err(AttemptFailed { error, era_changed });
            }
            Err(HandshakeFailed::Refused(error)) => return self.fall_back(guard, endpoint, error).await,
            Err(HandshakeFailed::Other(error)) => return Err(error.into()),
            Ok(facts) => facts,
        };
        if let Wire::Http(wire) = &link.wire {
            wire.negotiated(facts.revision);
            post_initialized(&wire.endpoint, wire.headers()).await?;
        }
        link.opened(facts);
        open_standing_stream(link).await;
        Ok(Connected::Link(guard.keep()))
    }

    /// What does not know streamable HTTP may know the transport before it (S-HTTPC-11, S-SSE-05).
    async fn fall_back(
        &self,
        refused: EndOnDrop,
        endpoint: &Endpoint,
        error: UpstreamError,
    ) -> Result<Connected, AttemptFailed> {
        if !matches!(&refused.link().wire, Wire::Http(wire) if wire.is_unknown_to_it()) {
            return Err(error.into());
        }
        drop(refused);
        self.open_sse(endpoint, self.probe_deadline).await.map_err(|other| {
            let why = match error {
                UpstreamError::Unavailable { why, .. } => why,
                error => error.to_string(),
            };
            UpstreamError::unavailable(format!("{why}; as HTTP+SSE: {other}")).into()
        })
    }

    async fn open_sse(&self, endpoint: &Endpoint, wait: Duration) -> Result<Connected, UpstreamError> {
        let (wire, reader) = SseWire::open(endpoint, wait).await?;
        let guard = EndOnDrop(Some(self.link(Wire::Sse(wire), None)));
        let link = guard.link();
        let (reading, json) = (Arc::clone(link), self.json);
        tokio::task::spawn_local(async move {
            // If reading panics, the link must still end.
            let guard = EndOnDrop(Some(reading));
            SseWire::read(guard.link(), reader, &mut Incoming::of(guard.link(), json)).await;
        });
        let facts = self.shake_hands(link).await.map_err(HandshakeFailed::error)?;
        if let Wire::Sse(wire) = &link.wire {
            wire.negotiated(facts.revision);
            post_initialized(wire.endpoint(), wire.headers()).await?;
        }
        link.opened(facts);
        tracing::info!(upstream = %self.upstream, "connected over HTTP+SSE, a transport of the past");
        Ok(Connected::Link(guard.keep()))
    }

    /// However the link ends, the upstream's session ends with it (S-HTTPC-05).
    fn end_session_with(&self, link: Arc<Link>) {
        self.errands.spawn_local(async move {
            link.until_ended().await;
            if let Wire::Http(wire) = &link.wire
                && tokio::time::timeout(FAREWELL, wire.delete_session()).await.is_err()
            {
                tracing::debug!(upstream = %link.upstream, "the upstream did not say that its session ended");
            }
        });
    }

    async fn open_stdio(&self, settings: &ProcessSettings) -> Result<Connected, AttemptFailed> {
        let (guard, process) = self.start(settings)?;
        match self.greet_pipe(guard.link()).await {
            // Some servers leave at the first word they do not know: start again and begin with `initialize`.
            Err(HandshakeFailed::Other(UpstreamError::Lost { .. })) if self.expected.is_none() => {
                drop(guard);
                process.gone().await;
                let (guard, process) = self.start(settings)?;
                let greeted = self.shake_hands_on_pipe(guard.link()).await;
                Ok(Self::greeted(guard, greeted.map_err(HandshakeFailed::error), &process)?)
            }
            Err(HandshakeFailed::Refused(error)) => {
                let era_changed =
                    self.is_found() && matches!(self.probe_pipe(guard.link()).await, Ok(Some(_)));
                Err(AttemptFailed { error: explained(error, &process), era_changed })
            }
            greeted => Ok(Self::greeted(guard, greeted.map_err(HandshakeFailed::error), &process)?),
        }
    }

    fn greeted(
        guard: EndOnDrop,
        greeted: Result<Facts, UpstreamError>,
        process: &ProcessControl,
    ) -> Result<Connected, UpstreamError> {
        guard.link().opened(greeted.map_err(|error| explained(error, process))?);
        Ok(Connected::Link(guard.keep()))
    }

    /// Starts a process and the tasks that serve it. The link ends with the process, and the process with the link.
    fn start(&self, settings: &ProcessSettings) -> Result<(EndOnDrop, ProcessControl), UpstreamError> {
        let process =
            stdio::start(settings.clone()).map_err(|error| UpstreamError::unavailable(error.to_string()))?;
        let link = self.link(Wire::Pipe(process.input), Some(process.control.clone()));
        let (reading, json) = (Arc::clone(&link), self.json);
        tokio::task::spawn_local(async move {
            // If reading panics, the link must still end.
            let guard = EndOnDrop(Some(reading));
            read_lines(guard.link(), process.output, json).await;
        });
        let (ended, stopping) = (Arc::clone(&link), process.control.clone());
        self.errands.spawn_local(async move {
            ended.until_ended().await;
            stopping.stop().await;
        });
        Ok((EndOnDrop(Some(link)), process.control))
    }

    fn link(&self, wire: Wire, process: Option<ProcessControl>) -> Arc<Link> {
        Link::new(LinkSettings {
            upstream: self.upstream.clone(),
            number: self.number,
            client: Arc::clone(&self.client),
            wire,
            process,
            reports: self.reports.clone(),
            input_timeout: self.input_timeout,
            ask_deadline: self.start_deadline,
        })
    }
}

/// Asks for the standing stream, which is kept from then on, before any call is made.
async fn open_standing_stream(link: &Arc<Link>) {
    let (asked, first) = oneshot::channel();
    let standing = Arc::clone(link);
    tokio::task::spawn_local(async move {
        if let Wire::Http(wire) = &standing.wire {
            wire.keep_standing_stream(&standing, asked).await;
        }
    });
    // Whether there is one, and whether that was told in time, makes no difference.
    let _ = tokio::time::timeout(STANDING_WAIT, first).await;
}

async fn read_lines(link: &Arc<Link>, mut lines: LineReceiver, json: Limits) {
    let mut incoming = Incoming::of(link, json);
    while let Some(line) = lines.recv().await {
        match line {
            Line::Text(text) => incoming.take(text),
            Line::Ended(reason) => return link.end(reason.to_string()),
        }
        if link.has_ended() {
            return;
        }
    }
    link.end("its output ended");
}

/// A start that failed says what the server wrote on stderr, because that is where the reason is.
fn explained(error: UpstreamError, process: &ProcessControl) -> UpstreamError {
    let tail = process.stderr_tail();
    let last = tail.iter().rev().find(|line| !line.trim().is_empty());
    let why = match (&error, last) {
        (UpstreamError::Lost { why } | UpstreamError::Unavailable { why, .. }, Some(line)) => {
            format!("{why}; last words: {}", line.trim())
        }
        (UpstreamError::Lost { why }, None) => why.clone(),
        _ => return error,
    };
    UpstreamError::unavailable(why)
}

/// Ends a link unless it was kept.
struct EndOnDrop(Option<Arc<Link>>);

impl EndOnDrop {
    fn link(&self) -> &Arc<Link> {
        self.0.as_ref().expect("taken only when it is consumed")
    }

    fn keep(mut self) -> Arc<Link> {
        self.0.take().expect("taken only here, and by value")
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.end("it was not opened");
        }
    }
}
