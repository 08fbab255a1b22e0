//! The last steps of every story that ends at an upstream: permit, span, call.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use tracing::Instrument;

use super::for_task::{CallForTask, written};
use super::request_state::NotValid;
use super::{Call, Failure, Switchboard, TaskUse};
use crate::config::servers::{TransportSettings, Trust};
use crate::names::UpstreamName;
use crate::protocol::frame::Answer;
use crate::protocol::json::quote;
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;
use crate::telemetry::spans::{self, Ending, Peer, Target, Transport};
use crate::telemetry::trace_context::TraceContext;
use crate::upstream::call::{Circumstances, TaskWish, UpstreamCall};
use crate::upstream::error::UpstreamError;
use crate::upstream::handle::UpstreamHandle;
use crate::upstream::input::{Input, Reply};
use crate::upstream::task::CreatedTask;

/// What tells an upstream who is behind a call (S-LIFE-08).
const CLIENT_KEY: &str = "switchyard/client";

/// Where a call goes and what it says there.
pub(super) struct Leg<'a> {
    pub(super) upstream: &'a UpstreamName,
    pub(super) method: Method,
    /// Parameters in the upstream's names.
    pub(super) params: Edit<'a>,
    /// The upstream's own name or URI of the target.
    pub(super) local: Option<Cow<'a, str>>,
    /// What traces call the target.
    pub(super) target: Target<'a>,
    pub(super) param_headers: Vec<(HeaderName, HeaderValue)>,
    /// Set where a task may come back in place of an answer.
    pub(super) task: Option<TaskWish>,
}

/// How a call came back from its upstream.
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and a box would be an allocation per call"
)]
pub(super) enum Arrived {
    /// Answered.
    Answer(Answer),
    /// It became a task, as was wished for.
    Task(Box<CreatedTask>),
}

impl Switchboard {
    /// Gets a permit and makes a call that cannot become a task.
    pub(super) async fn forward(&self, call: &Call, leg: Leg<'_>) -> Result<Answer, Failure> {
        let upstream = leg.upstream;
        match self.send(call, leg).await? {
            Arrived::Answer(answer) => Ok(answer),
            Arrived::Task(_) => {
                let error = UpstreamError::protocol("its answer is a task that nobody wished for");
                Err(Failure::Upstream { upstream: upstream.clone(), error })
            }
        }
    }

    /// Gets a permit and makes the call.
    pub(super) async fn send(&self, call: &Call, leg: Leg<'_>) -> Result<Arrived, Failure> {
        let Leg { upstream: name, method, mut params, local, target, param_headers, task } = leg;
        let failed = |error| Failure::Upstream { upstream: name.clone(), error };
        let Some(upstream) = self.upstreams.get(name) else {
            // The catalogue and the fleet come from the same settings.
            return Err(failed(crate::upstream::error::UpstreamError::unavailable("it was removed")));
        };
        // The gateway's own to say, never the client's.
        params.remove_meta(CLIENT_KEY);
        if upstream.settings().tell_client
            && let Some(name) = call.client_name()
        {
            params.set_meta(CLIENT_KEY, format!(r#"{{"name":{}}}"#, quote(&name)).into_bytes());
        }
        let permit = self.policy.authorise(call.client.principal, name);
        let revision = upstream.facts().map_or("", |facts| facts.revision.text());
        let span = spans::upstream_span(&call.span, method.name(), target, revision, peer(upstream));
        let circumstances = Circumstances {
            client: call.client.clone(),
            progress: call.progress,
            log_level: call.log_level,
            trace: trace_for(upstream, spans::outgoing(&span, &call.trace)),
            events: call.events.clone(),
            input: input_for(call, name)?,
            task,
        };
        if let TaskUse::Owned(sink) = &call.task {
            sink.dispatching().await;
        }
        let reply = match task {
            None => {
                let upstream_call = UpstreamCall {
                    method,
                    params,
                    target: local,
                    param_headers,
                    circumstances: &circumstances,
                };
                upstream.forward(permit, &upstream_call).instrument(span.clone()).await
            }
            Some(_) => {
                let params = written(&params).map_err(failed)?;
                let local = local.map(Cow::into_owned);
                let call = CallForTask {
                    upstream: upstream.clone(),
                    method,
                    params,
                    local,
                    param_headers,
                    circumstances,
                };
                // On the heap so that not every call carries the room for it.
                call.send(permit).instrument(span.clone()).await
            }
        };
        if !span.is_disabled() {
            spans::record_ending(&span, ending(&reply));
        }
        match reply.map_err(failed)? {
            Reply::Final(answer) => Ok(Arrived::Answer(answer)),
            Reply::NeedsInput(asked) => Err(Failure::NeedsInput { upstream: name.clone(), asked }),
            Reply::Task(created) => Ok(Arrived::Task(created)),
        }
    }
}

/// What the caller answers to an earlier round. What one upstream asked is never told to another (S-MRTR-04).
fn input_for(call: &Call, upstream: &UpstreamName) -> Result<Option<Arc<Input>>, Failure> {
    match &call.input {
        Some(given) if given.upstream.as_ref().is_some_and(|asked| asked != upstream) => {
            Err(Failure::BadRequestState(NotValid::Unknown))
        }
        given => Ok(given.as_ref().map(|given| Arc::clone(&given.input))),
    }
}

fn ending(reply: &Result<Reply, crate::upstream::error::UpstreamError>) -> Ending {
    match reply {
        Ok(Reply::Final(Answer::Result(result))) if result.get("isError") == Some(b"true") => {
            Ending::ToolError
        }
        Ok(Reply::Final(Answer::Result(_)) | Reply::NeedsInput(_) | Reply::Task(_)) => Ending::Result,
        Ok(Reply::Final(Answer::Error(error))) => Ending::RpcError(error.code),
        Err(error) => Ending::Failure(error.reason().text()),
    }
}

fn peer(upstream: &UpstreamHandle) -> Peer<'_> {
    let transport = match upstream.settings().transport {
        TransportSettings::Stdio(_) => Transport::Stdio,
        TransportSettings::Http(_) => Transport::Http,
    };
    Peer { upstream: upstream.name().as_str(), transport, address: None }
}

/// The context as this upstream may see it.
pub(super) fn trace_for(upstream: &UpstreamHandle, context: TraceContext) -> Vec<(&'static str, String)> {
    trace_members(&told(upstream.settings().trust, context))
}

/// Properties that travel with a trace are for the own house alone (S-EXT-02).
fn told(trust: Trust, context: TraceContext) -> TraceContext {
    match trust {
        Trust::Internal => context,
        Trust::Vendor | Trust::Untrusted => context.without_baggage(),
    }
}

/// The context as `_meta` members: only what is there costs anything.
fn trace_members(context: &TraceContext) -> Vec<(&'static str, String)> {
    let mut members = Vec::new();
    if let Some(parent) = &context.parent {
        members.push(("traceparent", quote(&parent.to_string())));
    }
    if let Some(state) = &context.state {
        members.push(("tracestate", quote(state)));
    }
    if let Some(baggage) = &context.baggage {
        members.push(("baggage", quote(baggage)));
    }
    members
}
