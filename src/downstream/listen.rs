//! `subscriptions/listen`: a request whose answer is everything that changes, until its client or the gateway ends it.
//!
//! Always: everything upstream hears before the acknowledgement, which comes first (S-SUB-05, S-SUB-02); the end of the
//! stream frees whatever was held for it; nothing but what was asked for is said, no progress and no log (S-SUB-04). Over
//! HTTP the stream is the answer to its POST and the client's leaving ends it; on a pipe its messages travel among all
//! others, and a cancellation ends it. Not here: what has to be told (`listening`), what upstreams are asked (`dispatch`).

use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::body::stream_head;
use super::edge::Edge;
use super::exchange::{Finished, json};
use super::http::{Inbound, plain};
use super::initialize::{public_uris, server_info};
use super::respond;
use super::tasks::extension;
use super::tasks::followed::{Reader, TasksFollowed};
use crate::auth::principal::Principal;
use crate::dispatch::{Call, Following, Follows, Subscription, TaskUse};
use crate::listening::{Filter, Followed, Listener, Listening, NotEntered, Said, client_of, words};
use crate::names::ProfileName;
use crate::protocol::code::{INTERNAL_ERROR, INVALID_PARAMS};
use crate::protocol::era::Revision;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Request, RequestId};
use crate::protocol::json::Object;
use crate::protocol::method::Method;
use crate::protocol::sse;
use crate::session::Admission;
use crate::session::stream::{Stream, Weight};
use crate::telemetry::spans::{self, Ending, Target, Transport};
use crate::telemetry::trace_context::TraceContext;

/// Bytes that are written at once.
const CHUNK: usize = 32 * 1024;
/// How often a pipe whose client does not read is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// A listening whose first message is there to be read, and what keeps its news coming.
struct Acknowledged {
    listening: Listening,
    following: Option<Following>,
    tasks: Option<TasksFollowed>,
}

/// A listening that has its place, and nothing upstream yet.
struct Entered {
    listening: Listening,
    filter: Filter,
    profile: Option<ProfileName>,
    revision: Revision,
    capabilities: Object,
    span: Span,
    trace: TraceContext,
}

/// A request to listen that was checked.
pub(super) struct Asking<'r> {
    pub(super) request: &'r Request,
    pub(super) revision: Revision,
    /// What it declared.
    pub(super) capabilities: Object,
}

/// Serves a POSTed request.
pub(super) async fn serve(inbound: &Inbound<'_>, asking: &Asking<'_>, trace: TraceContext) -> HttpResponse {
    if !inbound.accepts.events {
        return plain(StatusCode::NOT_ACCEPTABLE, "accept text/event-stream");
    }
    let (edge, profile) = (inbound.edge, inbound.profile.as_ref());
    let entered = match Entered::of(edge, profile, asking, (trace, Transport::Http)) {
        Ok(entered) => entered,
        Err(refusal) => return json(refusal),
    };
    let Acknowledged { listening, following, tasks } = entered.acknowledged(edge).await;
    let keep_alive = edge.settings.bounds.keep_alive;
    stream_head().body(ListenBody {
        _following: following,
        tasks,
        looking: None,
        listening,
        keep_alive,
        timer: Box::pin(tokio::time::sleep(keep_alive)),
        is_over: false,
    })
}

/// Where a listening on a pipe is heard, and who ends it.
pub(super) struct OnPipe {
    pub(super) stream: Arc<Stream>,
    pub(super) left: CancellationToken,
    pub(super) admission: Admission,
}

/// Serves a request of a pipe.
pub(super) fn serve_on_pipe(
    edge: &Data<Edge>,
    on: OnPipe,
    asking: &Asking<'_>,
    trace: TraceContext,
) -> Result<(), Finished> {
    let entered = Entered::of(edge, None, asking, (trace, Transport::Stdio))?;
    let edge = edge.clone();
    tokio::task::spawn_local(async move {
        let OnPipe { stream, left, admission } = on;
        let ended = tokio::select! {
            biased;
            () = left.cancelled() => None,
            () = admission.cancelled() => None,
            ended = listen_on_pipe(&edge, entered, &stream) => Some(ended),
        };
        // Its id is free, and nothing is followed for it, before its result can be read.
        drop(admission);
        if let Some(id) = ended {
            // Both pages of the specification are satisfied (requirements §34).
            for text in [words::cancelled(&id), words::over(&id, server_info())] {
                put(&stream, text);
            }
        }
    });
    Ok(())
}

async fn listen_on_pipe(edge: &Data<Edge>, entered: Entered, stream: &Stream) -> RequestId {
    let full = edge.settings.bounds.stream_buffer;
    let Acknowledged { listening, following: _following, tasks } = entered.acknowledged(edge).await;
    loop {
        // Until then what happens is noted once, however often it does.
        while stream.waiting() > full {
            tokio::time::sleep(LOOK).await;
        }
        match listening.listener().next().await {
            Said::Message(text) => put(stream, text),
            Said::Task(id) => {
                if let Some(text) = state_of(tasks.as_ref(), &id).await {
                    put(stream, text);
                }
            }
            Said::Over => return listening.listener().id().clone(),
        }
    }
}

/// The message that tells how a task is now.
fn state_of(tasks: Option<&TasksFollowed>, id: &Arc<str>) -> LocalBoxFuture<'static, Option<Vec<u8>>> {
    tasks.map_or_else(|| std::future::ready(None).boxed_local(), |tasks| tasks.state(id))
}

/// Nothing of a listening gives way to anything: that there is room was seen before.
fn put(stream: &Stream, text: Vec<u8>) {
    if stream.push(text.into(), Weight::Answer).is_err() {
        tracing::debug!("a pipe has ended before a change could be told");
    }
}

impl Entered {
    fn of(
        edge: &Edge,
        profile: Option<&ProfileName>,
        asking: &Asking<'_>,
        (trace, transport): (TraceContext, Transport),
    ) -> Result<Entered, Finished> {
        let Asking { request, revision, capabilities } = asking;
        if Filter::asks_for_tasks(&request.params) && !extension::is_declared(capabilities) {
            return Err(respond::undeclared(&request.id, &extension::required()));
        }
        let filter = Filter::of(&request.params)
            .map_err(|text| respond::error(Some(&request.id), StatusCode::OK, INVALID_PARAMS, text, None))?;
        let listening = edge
            .hub
            .enter(Principal::Local, profile, request.id.clone(), &filter)
            .map_err(|refused| not_entered(&request.id, refused))?;
        let span = spans::request_span(Method::Listen.name(), Target::None, revision.text(), transport);
        spans::set_parent(&span, &trace);
        let (profile, revision, capabilities) = (profile.cloned(), *revision, capabilities.clone());
        Ok(Entered { listening, filter, profile, revision, capabilities, span, trace })
    }

    /// Sees to it that everything is heard, as far as it can be soon, and acknowledges that.
    async fn acknowledged(self, edge: &Data<Edge>) -> Acknowledged {
        let span = self.span.clone();
        let acknowledged = async move {
            let Entered { listening, filter, profile, revision, capabilities, span, trace } = self;
            let reader = Reader {
                edge: edge.clone(),
                profile: profile.clone(),
                revision,
                capabilities,
                listener: Arc::clone(listening.listener()),
            };
            let client = client_of(&listening, Principal::Local, profile.clone(), public_uris(edge, profile));
            let call = Call {
                client: Arc::clone(&client),
                client_name: None,
                params: Object::empty(),
                progress: false,
                log_level: None,
                trace,
                events: None,
                input: None,
                task: TaskUse::Plain,
                span: span.clone(),
            };
            let (switchboard, limit) = (&edge.switchboard, edge.settings.bounds.list_budget);
            let heard = async {
                if !filter.lists.is_empty() {
                    switchboard.until_heard(&client, limit).await;
                }
            };
            let followed = async {
                if filter.uris.is_empty() {
                    return None;
                }
                Some(
                    switchboard.follow(&call, filter.uris.clone(), limit, &Noted(listening.listener())).await,
                )
            };
            let watched = TasksFollowed::of(reader, &filter.tasks);
            let ((), following, tasks) = tokio::join!(heard, followed, watched);
            listening.listener().acknowledge();
            spans::record_ending(&span, Ending::Result);
            Acknowledged { listening, following, tasks }
        };
        acknowledged.instrument(span).await
    }
}

fn not_entered(id: &RequestId, refused: NotEntered) -> Finished {
    match refused {
        NotEntered::TooMany => {
            let data = FailureRecord::of_gateway(Reason::Overloaded, true, None, Ran::NotSent).json();
            respond::error(Some(id), StatusCode::OK, INTERNAL_ERROR, &refused.to_string(), Some(&data))
        }
        NotEntered::Closed => respond::too_late(id),
    }
}

/// Tells a listener what it follows.
struct Noted<'a>(&'a Arc<Listener>);

impl Follows for Noted<'_> {
    fn begin(&self, subscription: &Subscription) {
        let Subscription { public, local, upstream, .. } = subscription;
        let (public, local, upstream) = (public.clone(), local.clone(), upstream.clone());
        self.0.follow(Followed { public, local, upstream });
    }

    fn refuse(&self, subscription: &Subscription) {
        self.0.unfollow(&subscription.public);
    }
}

/// The stream over HTTP. actix asks for more only while the client reads, and drops it when the client has left.
struct ListenBody {
    _following: Option<Following>,
    tasks: Option<TasksFollowed>,
    /// The state of a task is being looked up.
    looking: Option<LocalBoxFuture<'static, Option<Vec<u8>>>>,
    listening: Listening,
    keep_alive: Duration,
    timer: Pin<Box<Sleep>>,
    is_over: bool,
}

impl ListenBody {
    /// What there is to say now, as much as may be written at once.
    fn gather(&mut self, cx: &mut Context<'_>) -> Vec<u8> {
        let mut ready = Vec::new();
        while !self.is_over && ready.len() < CHUNK {
            if let Some(looking) = &mut self.looking {
                let Poll::Ready(state) = looking.as_mut().poll(cx) else { break };
                self.looking = None;
                if let Some(text) = state {
                    sse::write_event(&mut ready, None, Some("message"), &text);
                }
                continue;
            }
            let text = match self.listening.listener().poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Said::Message(text)) => text,
                Poll::Ready(Said::Task(id)) => {
                    self.looking = Some(state_of(self.tasks.as_ref(), &id));
                    continue;
                }
                Poll::Ready(Said::Over) => {
                    self.is_over = true;
                    words::over(self.listening.listener().id(), server_info())
                }
            };
            sse::write_event(&mut ready, None, Some("message"), &text);
        }
        ready
    }
}

impl MessageBody for ListenBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = &mut *self;
        let mut ready = this.gather(cx);
        if ready.is_empty() && this.is_over {
            return Poll::Ready(None);
        }
        if ready.is_empty() {
            std::task::ready!(this.timer.as_mut().poll(cx));
            sse::write_comment(&mut ready, "");
        }
        this.timer.as_mut().reset(Instant::now() + this.keep_alive);
        Poll::Ready(Some(Ok(ready.into())))
    }
}
