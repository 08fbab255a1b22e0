//! Opening a connection: start what must be started, greet it, keep what answers.
//!
//! Always: an attempt ends within its deadline; what it started, process or session, ends when its link does, however
//! that comes about, and is waited for among the upstream's errands. Not here: when to try again
//! (`connections`), the greeting (`greeting`), what is particular to HTTP (`connect_http`).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::Client;
use super::error::UpstreamError;
use super::greeting::HandshakeFailed;
use super::http_wire::Endpoint;
use super::incoming::Incoming;
use super::link::{Link, LinkSettings, Reports, Wire};
use super::probe::Facts;
use super::questions::QuestionRules;
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
    pub(super) questions: Arc<QuestionRules>,
    pub(super) json: Limits,
    /// Where what outlives the attempt is waited for.
    pub(super) errands: TaskTracker,
}

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

    pub(super) fn link(&self, wire: Wire, process: Option<ProcessControl>) -> Arc<Link> {
        Link::new(LinkSettings {
            upstream: self.upstream.clone(),
            number: self.number,
            client: Arc::clone(&self.client),
            wire,
            process,
            reports: self.reports.clone(),
            questions: Arc::clone(&self.questions),
            ask_deadline: self.start_deadline,
        })
    }
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
pub(super) struct EndOnDrop(pub(super) Option<Arc<Link>>);

impl EndOnDrop {
    pub(super) fn link(&self) -> &Arc<Link> {
        self.0.as_ref().expect("taken only when it is consumed")
    }

    pub(super) fn keep(mut self) -> Arc<Link> {
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
