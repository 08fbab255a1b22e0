//! Opening a connection: start what must be started, find out the era, shake hands.
//!
//! Always: an attempt ends within its deadline, and what it started is gone when it fails. Not here: when to try again
//! (`actor`), what the answers mean (`probe`).

use std::sync::Arc;
use std::time::Duration;

use super::call::Client;
use super::encode::client_info;
use super::error::UpstreamError;
use super::http_wire::{Endpoint, HttpWire};
use super::link::{Link, Reports, Wire};
use super::probe::{Facts, Verdict, initialized, judge};
use super::stateless::StatelessHttp;
use super::stdio::{self, Line, LineReceiver, ProcessControl, ProcessSettings};
use crate::names::UpstreamName;
use crate::protocol::era::{Era, NEWEST_HANDSHAKE, NEWEST_STATELESS, Revision};
use crate::protocol::frame::{Answer, Frame};
use crate::protocol::json::{Limits, quote};

/// What an attempt brought.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per connection")]
pub(super) enum Connected {
    /// A link, and its process where it has one.
    Link { link: Arc<Link>, process: Option<ProcessControl> },
    /// A stateless HTTP upstream: nothing is kept open.
    Stateless { facts: Facts },
}

/// How the upstream is reached.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Stdio(ProcessSettings),
    Http { endpoint: Endpoint, stateless: Arc<StatelessHttp> },
}

/// Everything an attempt needs.
pub(super) struct Attempt {
    pub(super) upstream: UpstreamName,
    pub(super) number: u64,
    pub(super) client: Arc<Client>,
    pub(super) address: Address,
    /// Pinned by configuration, or known from an earlier attempt.
    pub(super) revision: Option<Revision>,
    pub(super) reports: Reports,
    pub(super) start_deadline: Duration,
    pub(super) probe_deadline: Duration,
    pub(super) input_timeout: Duration,
    pub(super) json: Limits,
}

/// Probes that a server may refuse with another revision before the gateway gives up (S-META-09).
const PROBES: usize = 3;

impl Attempt {
    /// Runs the attempt to its end.
    pub(super) async fn run(self) -> Result<Connected, UpstreamError> {
        let deadline = self.start_deadline;
        match tokio::time::timeout(deadline, self.open()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(UpstreamError::unavailable(format!(
                "it did not start within {} s",
                deadline.as_secs_f32()
            ))),
        }
    }

    async fn open(&self) -> Result<Connected, UpstreamError> {
        match &self.address {
            Address::Http { endpoint, stateless } => self.open_http(endpoint, stateless).await,
            Address::Stdio(settings) => self.open_stdio(settings).await,
        }
    }

    async fn open_http(
        &self,
        endpoint: &Endpoint,
        stateless: &StatelessHttp,
    ) -> Result<Connected, UpstreamError> {
        if self.revision.is_none_or(|revision| revision.era() == Era::Stateless)
            && let Some(facts) = self.probe_http(stateless).await?
        {
            return Ok(Connected::Stateless { facts });
        }
        let wire = HttpWire::new(endpoint.clone());
        let link = self.link(Wire::Http(wire));
        let guard = EndOnDrop(Some(Arc::clone(&link)));
        let facts = self.shake_hands(&link).await?;
        if let Wire::Http(wire) = &link.wire {
            wire.negotiated(facts.revision);
            wire.post_initialized().await?;
        }
        link.opened(facts);
        let standing = Arc::clone(&link);
        tokio::task::spawn_local(async move {
            if let Wire::Http(wire) = &standing.wire {
                wire.keep_standing_stream(&standing).await;
            }
        });
        Ok(Connected::Link { link: guard.keep(), process: None })
    }

    /// `None` means the handshake era.
    async fn probe_http(&self, stateless: &StatelessHttp) -> Result<Option<Facts>, UpstreamError> {
        let pinned = self.revision;
        let mut revision = pinned.unwrap_or(NEWEST_STATELESS);
        for _ in 0..PROBES {
            let asked = stateless.ask("server/discover", revision);
            let verdict = match tokio::time::timeout(self.probe_deadline, asked).await {
                Ok(Ok(answered)) => judge(&answered.answer, Some(answered.status), revision),
                // Whatever is not an answer of the stateless era is a reason to shake hands, except what says that
                // nothing would be understood now, in any era.
                Ok(Err(
                    error @ (UpstreamError::Unavailable { .. }
                    | UpstreamError::AuthRequired
                    | UpstreamError::Overloaded { .. }),
                )) => {
                    return Err(error);
                }
                Ok(Err(_)) | Err(_) => Verdict::Handshake,
            };
            match verdict {
                Verdict::Stateless(facts) => return Ok(Some(facts)),
                Verdict::Retry(other) => revision = other,
                Verdict::Handshake if pinned.is_none() => return Ok(None),
                Verdict::Handshake => {
                    return Err(UpstreamError::unavailable("it does not speak the pinned revision"));
                }
                Verdict::NoCommonRevision => return Err(no_common_revision()),
            }
        }
        Err(UpstreamError::unavailable("it refuses every revision it names itself"))
    }

    async fn open_stdio(&self, settings: &ProcessSettings) -> Result<Connected, UpstreamError> {
        let (link, process) = self.start(settings)?;
        let guard = EndOnDrop(Some(Arc::clone(&link)));
        let facts = match self.greet_pipe(&link).await {
            Err(UpstreamError::Lost { .. }) if self.revision.is_none() => {
                // Some servers leave at the first word they do not know: start again and begin with `initialize`.
                drop(guard);
                process.gone().await;
                let (link, process) = self.start(settings)?;
                let guard = EndOnDrop(Some(Arc::clone(&link)));
                let facts =
                    self.shake_hands_on_pipe(&link).await.map_err(|error| explained(error, &process))?;
                link.opened(facts);
                return Ok(Connected::Link { link: guard.keep(), process: Some(process) });
            }
            Err(error) => return Err(explained(error, &process)),
            Ok(facts) => facts,
        };
        link.opened(facts);
        Ok(Connected::Link { link: guard.keep(), process: Some(process) })
    }

    async fn greet_pipe(&self, link: &Arc<Link>) -> Result<Facts, UpstreamError> {
        if self.revision.is_none_or(|revision| revision.era() == Era::Stateless)
            && let Some(facts) = self.probe_pipe(link).await?
        {
            return Ok(facts);
        }
        self.shake_hands_on_pipe(link).await
    }

    async fn probe_pipe(&self, link: &Arc<Link>) -> Result<Option<Facts>, UpstreamError> {
        let pinned = self.revision;
        let mut revision = pinned.unwrap_or(NEWEST_STATELESS);
        for _ in 0..PROBES {
            let params = format!(r#"{{"_meta":{}}}"#, super::encode::own_meta(revision));
            let verdict =
                match tokio::time::timeout(self.probe_deadline, link.ask("server/discover", &params)).await {
                    Ok(Ok(answer)) => judge(&answer, None, revision),
                    Ok(Err(error)) => return Err(error),
                    // Silence is what many handshake servers answer before `initialize`.
                    Err(_) => Verdict::Handshake,
                };
            match verdict {
                Verdict::Stateless(facts) => return Ok(Some(facts)),
                Verdict::Retry(other) => revision = other,
                Verdict::Handshake if pinned.is_none() => return Ok(None),
                Verdict::Handshake => {
                    return Err(UpstreamError::unavailable("it does not speak the pinned revision"));
                }
                Verdict::NoCommonRevision => return Err(no_common_revision()),
            }
        }
        Err(UpstreamError::unavailable("it refuses every revision it names itself"))
    }

    async fn shake_hands_on_pipe(&self, link: &Arc<Link>) -> Result<Facts, UpstreamError> {
        let facts = self.shake_hands(link).await?;
        link.send(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_vec());
        Ok(facts)
    }

    async fn shake_hands(&self, link: &Arc<Link>) -> Result<Facts, UpstreamError> {
        let offered = self.revision.unwrap_or(NEWEST_HANDSHAKE);
        let params = format!(
            r#"{{"protocolVersion":{},"capabilities":{},"clientInfo":{}}}"#,
            quote(offered.text()),
            String::from_utf8_lossy(&self.client.capabilities.to_upstream()),
            client_info()
        );
        let answer = link.ask("initialize", &params).await.map_err(|error| match error {
            UpstreamError::Protocol { why } => {
                UpstreamError::unavailable(format!("it speaks neither era of the protocol: {why}"))
            }
            other => other,
        })?;
        let facts = match answer {
            Answer::Result(result) => initialized(&result).map_err(UpstreamError::unavailable)?,
            Answer::Error(error) => {
                return Err(UpstreamError::unavailable(format!(
                    "it refused initialize: {}",
                    error.message()
                )));
            }
        };
        match self.revision {
            Some(pinned) if pinned != facts.revision => Err(UpstreamError::unavailable(format!(
                "it speaks {}, not the pinned {pinned}",
                facts.revision
            ))),
            _ => Ok(facts),
        }
    }

    fn start(&self, settings: &ProcessSettings) -> Result<(Arc<Link>, ProcessControl), UpstreamError> {
        let process =
            stdio::start(settings.clone()).map_err(|error| UpstreamError::unavailable(error.to_string()))?;
        let link = self.link(Wire::Pipe(process.input));
        let (reading, json, control) = (Arc::clone(&link), self.json, process.control.clone());
        tokio::task::spawn_local(async move {
            // If reading panics, the link must still end.
            let _guard = EndOnDrop(Some(Arc::clone(&reading)));
            read_lines(&reading, process.output, json).await;
        });
        let ended = Arc::clone(&link);
        let stopping = process.control.clone();
        tokio::task::spawn_local(async move {
            ended.until_ended().await;
            stopping.stop().await;
        });
        Ok((link, control))
    }

    fn link(&self, wire: Wire) -> Arc<Link> {
        Link::new(
            self.upstream.clone(),
            self.number,
            Arc::clone(&self.client),
            wire,
            self.reports.clone(),
            self.input_timeout,
        )
    }
}

/// Messages that could not be read in a row before the server is taken for broken.
const BAD_LINES: usize = 100;

async fn read_lines(link: &Arc<Link>, mut lines: LineReceiver, json: Limits) {
    let mut bad = 0;
    while let Some(line) = lines.recv().await {
        let text = match line {
            Line::Text(text) => text,
            Line::Ended(reason) => return link.end(reason.to_string()),
        };
        match Frame::parse_batch(text, json) {
            Ok(frames) => {
                bad = 0;
                frames.into_iter().flatten().for_each(|frame| link.receive(frame, None));
            }
            Err(fault) => {
                bad += 1;
                tracing::warn!(upstream = %link.upstream, %fault, "skipped a line that is not a message");
                if let Some(id) = fault.id.as_ref().and_then(|id| id.as_number()) {
                    // The call it belongs to must not wait for its deadline.
                    link.calls.settle(id, Err(fault.into()));
                }
                if bad >= BAD_LINES {
                    return link.end("its output is not MCP");
                }
            }
        }
    }
    link.end("its output ended");
}

fn no_common_revision() -> UpstreamError {
    UpstreamError::unavailable("it speaks no revision that the gateway knows")
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
    fn keep(mut self) -> Arc<Link> {
        self.0.take().expect("taken only here")
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.end("it was not opened");
        }
    }
}
