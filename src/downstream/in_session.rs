//! Requests, notifications and answers inside a session of the handshake era, whatever transport they came by.
//!
//! Always: a request is admitted before anything of it runs, and a call ends when its session does. Not here: which
//! session a message belongs to (each transport's matter), what methods do (`dispatch`), how an answer travels
//! (`exchange`, `pump`).

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use tracing::Instrument;

use super::edge::Edge;
use super::events::{EventWriter, LevelWanted};
use super::exchange::{Finished, Work};
use super::initialize::client_view;
use super::respond::{self, Addressee};
use super::tasks::core::InSession;
use super::telling::Telling;
use super::url_required;
use crate::dispatch::{Call, Failure, Outcome, Subscribing, Subscription, Switchboard, TaskUse};
use crate::protocol::code::{INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND};
use crate::protocol::era::{Era, Revision};
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Answer, ErrorObject, FrameFault, Notification, Request, RequestId, Response};
use crate::protocol::json::{Limits, Object};
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::translate::ResultKind;
use crate::session::changes;
use crate::session::messages::{StopFollowing, StoppedFollowing, Subscribed};
use crate::session::{Admission, NotAdmitted, SessionHandle};
use crate::telemetry::spans::{self, Ending, Target, Transport};
use crate::telemetry::trace_context::TraceContext;
use crate::upstream::events::event_queue;

pub(super) async fn notified(edge: &Edge, session: &SessionHandle, notification: Notification) {
    match &*notification.method {
        "notifications/initialized" => session.client_is_ready().await,
        "notifications/progress" => session.progressed(notification.params).await,
        "notifications/cancelled" => {
            if let Some(id) = notification.params.share("requestId").and_then(RequestId::from_raw) {
                session.cancel(&id);
            }
        }
        "notifications/roots/list_changed" if session.client().capabilities.roots_list_changed() => {
            let affinity = session.client().affinity;
            let upstreams = edge.switchboard.upstreams.iter();
            for upstream in upstreams.filter(|upstream| upstream.settings().ask.roots) {
                upstream.notify(affinity, "notifications/roots/list_changed", b"{}");
            }
        }
        // Of a task that the client keeps for one of them (S-TASK-24).
        "notifications/tasks/status" => {
            let affinity = session.client().affinity;
            for upstream in edge.switchboard.upstreams.iter() {
                upstream.client_task_changed(affinity, &notification.params);
            }
        }
        _ => {}
    }
}

/// A response of the client: to a question, or to nothing, which is nobody's loss (S-HTTPS-04).
pub(super) async fn answered(session: &SessionHandle, response: Response) {
    if let Some(number) = response.id.as_ref().and_then(RequestId::as_number) {
        session.answered(number, response.answer).await;
    }
}

/// An answer that is none ends the wait of whoever asked, instead of the time for it.
pub(super) async fn broken_answer(session: &SessionHandle, fault: &FrameFault) {
    if let Some(number) = fault.id.as_ref().and_then(RequestId::as_number) {
        let error = ErrorObject::own(INTERNAL_ERROR, "the client's answer is no JSON-RPC response");
        session.answered(number, Answer::Error(error)).await;
    }
}

/// How a request came, as far as its work depends on it.
pub(super) struct Arrival {
    pub(super) trace: TraceContext,
    pub(super) transport: Transport,
    /// Whether what it tells before its answer has a way to its client; its questions go to the standing stream then.
    pub(super) streams: bool,
}

/// A request admitted: its work, not yet begun, and what it will tell on the way.
pub(super) struct Begun {
    pub(super) work: Work,
    pub(super) telling: Telling,
}

/// Admits a request and makes its work.
pub(super) async fn begin(
    edge: &Data<Edge>,
    session: &SessionHandle,
    request: Request,
    arrival: Arrival,
) -> Result<Begun, Finished> {
    #[cfg(debug_assertions)]
    if edge.panic_session_at.as_deref() == Some(&*request.method) {
        session.panic_now().await;
        if session.has_ended() {
            return Err(respond::cut_short(&request.id, "the session ended"));
        }
    }
    let admission = match session.admit(&request.id) {
        Ok(admission) => admission,
        Err(refused) => return Err(not_admitted(&request.id, refused)),
    };
    let revision = session.revision();
    let known = Method::of(&request.method, Era::Handshake);
    let has_tasks = revision == Revision::V2025_11_25;
    // What was not declared is not there (S-LIFE-05); what was stays, whatever became of who makes tasks (S-TASK-11).
    let Some(method) = known.filter(|method| !method.is_of_tasks() || session.has_tasks()) else {
        let text = "method not found";
        return Err(respond::error(Some(&request.id), StatusCode::OK, METHOD_NOT_FOUND, text, None));
    };
    let Arrival { trace, transport, streams } = arrival;
    let span = spans::request_span(method.name(), Target::None, revision.text(), transport);
    spans::set_parent(&span, &trace);
    spans::record_session(&span, session.id());
    let bounds = &edge.settings.bounds;
    let (sink, events) = event_queue(bounds.stream_queue);
    let progress_token = progress_token(&request.params);
    let level = LevelWanted::BySession(Arc::clone(session.log_gate()));
    let writer = EventWriter::new(revision, progress_token.clone(), level, bounds);
    let call = Call {
        client: Arc::clone(session.client()),
        client_name: Some(Arc::clone(session.client_name())),
        params: request.params,
        progress: progress_token.is_some(),
        log_level: session.wants_logs(),
        trace,
        events: streams.then_some(sink),
        // Clients of this era are asked by requests.
        input: None,
        task: if has_tasks { TaskUse::Unasked } else { TaskUse::Plain },
        span: span.clone(),
    };
    let counted = Edge::count_request(edge);
    let (edge, session) = (edge.clone(), session.clone());
    let work = async move {
        let _counted = counted;
        admitted(&edge, &session, &admission, request.id, method, call).await
    };
    Ok(Begun { work: Box::pin(work.instrument(span)), telling: Telling::of(events, writer) })
}

pub(super) fn not_admitted(id: &RequestId, refused: NotAdmitted) -> Finished {
    match refused {
        NotAdmitted::Duplicate => {
            respond::error(Some(id), StatusCode::BAD_REQUEST, INVALID_REQUEST, &refused.to_string(), None)
        }
        NotAdmitted::TooMany => {
            let data = FailureRecord::of_gateway(Reason::Overloaded, true, None, Ran::NotSent).json();
            respond::error(Some(id), StatusCode::OK, INTERNAL_ERROR, &refused.to_string(), Some(&data))
        }
    }
}

/// Runs a request for as long as its session lives and its client wants it.
async fn admitted(
    edge: &Data<Edge>,
    session: &SessionHandle,
    admission: &Admission,
    id: RequestId,
    method: Method,
    call: Call,
) -> Finished {
    tokio::select! {
        biased;
        // First, so that a call of a session that has just ended opens nothing upstream.
        () = session.until_ended() => match method.is_of_tasks() {
            true => respond::left_behind(&id),
            false => respond::cut_short(&id, "the session ended"),
        },
        // Before the answer: one that comes after the cancellation was accepted is never given (S-CANC-01).
        () = admission.cancelled() => {
            // On the call's own stream, while there is one.
            if let Some(stream) = call.events.clone() {
                session.withdraw_questions_on(stream).await;
            }
            Finished::Withdrawn
        }
        finished = story(edge, session, &id, method, &call) => finished,
        () = edge.until_stopped() => match method.is_of_tasks() {
            true => respond::ask_again(&id),
            false => respond::cut_short(&id, "the gateway stops"),
        },
    }
}

async fn story(
    edge: &Data<Edge>,
    session: &SessionHandle,
    id: &RequestId,
    method: Method,
    call: &Call,
) -> Finished {
    let revision = session.revision();
    let view = client_view(revision);
    let declared = || {
        let declared = call.client.capabilities.to_upstream();
        Object::parse(declared, Limits::NONE).unwrap_or_else(|_| Object::empty())
    };
    let to = Addressee { id, view: &view, kind: ResultKind::of_method(method.name()), declared: &declared };
    if method.is_of_tasks() || is_wished_as_task(session, method, call) {
        let request = InSession { edge, session, call, to: &to };
        // Boxed: it is far from being the rule.
        return match method {
            Method::CallTool => Box::pin(request.create()).await,
            method => Box::pin(request.serve(method)).await,
        };
    }
    let listed = match method {
        Method::ListTools => Some(changes::TOOLS),
        Method::ListPrompts => Some(changes::PROMPTS),
        Method::ListResources => Some(changes::RESOURCES),
        Method::ListTemplates => Some(changes::TEMPLATES),
        _ => None,
    };
    // Later pages are of a list that the client has begun to read before.
    let listed = listed.filter(|_| call.params.get("cursor").is_none()).and_then(|kind| session.lists(kind));
    let ended = match method {
        Method::Ping => Ok(nothing()),
        Method::SetLevel => set_level(edge, session, call).await,
        Method::Subscribe => subscribe(edge, session, call).await,
        Method::Unsubscribe => unsubscribe(edge, session, call).await,
        method => edge.switchboard.tell(method, call, revision).await,
    };
    if let (Some(listed), Ok(_)) = (listed, &ended) {
        listed.was_seen();
    }
    spans::record_ending(&call.span, ending(&ended));
    let ended = url_required::relay(edge, session, ended).await;
    respond::respond(&to, ended)
}

/// Where nothing was said of tasks, what a call says of one is ignored (S-TASK-04).
fn is_wished_as_task(session: &SessionHandle, method: Method, call: &Call) -> bool {
    method == Method::CallTool && session.has_tasks() && call.params.get("task").is_some()
}

fn nothing() -> Outcome {
    Outcome::Own(Bytes::from_static(b"{}"))
}

/// The client's progress token, raw; what is neither string nor integer is none (S-PROG-01).
pub(super) fn progress_token(params: &Object) -> Option<Bytes> {
    let raw = Bytes::copy_from_slice(params.meta("progressToken")?);
    RequestId::from_raw(raw.clone()).map(|_| raw)
}

/// How a story ended, for its span.
pub(super) fn ending(ended: &Result<Outcome, Failure>) -> Ending {
    match ended {
        Ok(Outcome::Relayed { answer: Answer::Error(error), .. }) => Ending::RpcError(error.code),
        Ok(_) => Ending::Result,
        Err(Failure::Upstream { error, .. }) => Ending::Failure(error.reason().text()),
        Err(_) => Ending::Failure("refused"),
    }
}

async fn set_level(edge: &Edge, session: &SessionHandle, call: &Call) -> Result<Outcome, Failure> {
    let level = call.params.get("level").and_then(LogLevel::from_raw);
    let level = level.ok_or(Failure::InvalidParams("level must be one of the eight log levels"))?;
    session.set_log_level(level);
    for upstream in edge.switchboard.upstreams.iter() {
        upstream.set_level(session.client().affinity, level);
    }
    session.until_kept().await;
    Ok(nothing())
}

/// The session knows before the upstream is asked: the first update may come together with its answer.
async fn subscribe(edge: &Edge, session: &SessionHandle, call: &Call) -> Result<Outcome, Failure> {
    let subscription = edge.switchboard.subscription(call).await?;
    let (public, local) = (subscription.public.clone(), subscription.local.clone());
    let subscribed = Subscribed { public, local, upstream: subscription.upstream.clone() };
    let mut undo = UnsubscribeOnDrop { session, public: None };
    undo.public = session.subscribed(subscribed).await.then(|| subscription.public.clone());
    if let Subscribing::Refused(refusal) = edge.switchboard.subscribe(call, &subscription).await? {
        return Ok(*refusal);
    }
    undo.public = None;
    session.until_kept().await;
    Ok(nothing())
}

/// Ends what was begun, wherever the URI leads by now. The session forgets first: what the upstream says changes nothing
/// about the client's wish.
async fn unsubscribe(edge: &Edge, session: &SessionHandle, call: &Call) -> Result<Outcome, Failure> {
    let public = Switchboard::resource_uri(call)?;
    let mut stopped = session.stop_following(StopFollowing { public: public.clone(), otherwise: None }).await;
    if stopped == StoppedFollowing::Unknown {
        let Subscription { local, upstream, .. } = edge.switchboard.subscription(call).await?;
        let otherwise = Some((local, upstream));
        stopped = session.stop_following(StopFollowing { public: public.clone(), otherwise }).await;
    }
    let StoppedFollowing::Over { local, upstream } = stopped else { return Ok(nothing()) };
    let subscription = edge.switchboard.kept_subscription(call, public, local, upstream)?;
    let ended = edge.switchboard.unsubscribe(call, &subscription).await;
    session.until_kept().await;
    match ended? {
        Subscribing::Refused(refusal) => Ok(*refusal),
        Subscribing::Accepted => Ok(nothing()),
    }
}

/// Forgets a subscription that was new, when it is refused or its client stops waiting for it.
struct UnsubscribeOnDrop<'a> {
    session: &'a SessionHandle,
    public: Option<String>,
}

impl Drop for UnsubscribeOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(public) = self.public.take() {
            self.session.unsubscribed(public);
        }
    }
}
