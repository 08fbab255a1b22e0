//! A client whose everything travels on one stream: HTTP+SSE of 2024-11-05, and standard input and output.
//!
//! Takes one text at a time and puts whatever comes of it on the stream: answers, what calls tell before them, questions,
//! news, in the order in which they happened. Always: at most one session is opened on a pipe, and the pipe's end ends
//! it, withdraws every request and leaves nothing behind; a client that does not read is not asked for more than one
//! stream's worth of answers. Not here: how texts arrive and how the stream leaves (`sse_transport`, `stdio`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::batch::{self, NO_BATCHES};
use super::edge::Edge;
use super::exchange::Finished;
use super::http::VERSION_KEY;
use super::in_session::{self, Arrival, Begun, not_admitted};
use super::initialize::{self, NotInitialized};
use super::listen::{self, OnPipe};
use super::pump::{Outlet, Pump};
use super::respond;
use super::stateless;
use crate::names::ProfileName;
use crate::protocol::batch::Batch;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::frame::{Frame, Notification, Request, RequestId};
use crate::protocol::json::Object;
use crate::protocol::message;
use crate::protocol::method::Method;
use crate::session::stream::{Stream, StreamReader, Weight};
use crate::session::{Admission, InFlightTable, LastUse, SessionHandle};
use crate::telemetry::spans::Transport;
use crate::telemetry::trace_context::TraceContext;

/// How often a client that does not read is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// See the module head.
#[derive(Debug)]
pub(super) struct Pipe {
    kind: Kind,
    stream: Arc<Stream>,
    /// Unread bytes beyond which nothing more is begun.
    full: usize,
    phase: Mutex<Phase>,
    /// Every request in flight by its id, of whichever era: on one pipe an id means one request.
    requests: Arc<InFlightTable>,
    used: Arc<LastUse>,
    opened: CancellationToken,
    left: CancellationToken,
}

/// What the transport makes of a pipe.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) profile: Option<ProfileName>,
    pub(super) transport: Transport,
    /// Whether requests of the stateless era are served beside the session (S-STDIO-10, S-SSE-03).
    pub(super) both_eras: bool,
}

#[derive(Debug)]
enum Phase {
    New,
    Open(SessionHandle),
    Ended,
}

/// What became of a text.
#[derive(Debug)]
pub(super) enum Taken {
    /// Whatever it leads to comes on the stream.
    Yes,
    /// Its error is on the stream, but cannot say there which text it is about: no id could be read.
    Nameless(Finished),
    /// The pipe has ended.
    Gone,
}

/// Where a message's trace is read.
pub(super) type TraceOf<'a> = &'a dyn Fn(&Object) -> TraceContext;

impl Pipe {
    /// A pipe and its reading end, which is the only one.
    pub(super) fn new(edge: &Edge, kind: Kind) -> (Arc<Self>, StreamReader) {
        let bounds = &edge.settings.bounds;
        let stream = Stream::alone(bounds.stream_buffer);
        let reader = stream.read();
        let pipe = Pipe {
            kind,
            stream,
            full: bounds.session_buffer,
            phase: Mutex::new(Phase::New),
            requests: InFlightTable::new(bounds.session_calls),
            used: Arc::new(LastUse::now()),
            opened: CancellationToken::new(),
            left: CancellationToken::new(),
        };
        (Arc::new(pipe), reader)
    }

    pub(super) fn profile(&self) -> Option<&ProfileName> {
        self.kind.profile.as_ref()
    }

    /// Resolves when a session was opened.
    pub(super) async fn until_opened(&self) {
        self.opened.cancelled().await;
    }

    /// Nobody reads any more. What has to wait for the session's end is [`Pipe::end`]'s.
    pub(super) fn leave(&self) {
        self.left.cancel();
    }

    /// Resolves when nobody reads any more.
    pub(super) async fn until_left(&self) {
        self.left.cancelled().await;
    }

    /// Ends the session, withdraws what still runs, and says the last on the stream.
    pub(super) async fn end(&self, why: &'static str) {
        self.leave();
        let phase = std::mem::replace(&mut *self.phase(), Phase::Ended);
        if let Phase::Open(session) = phase {
            session.end(why).await;
        }
        self.stream.finish();
    }

    /// Takes one text of the client: a message, or a batch of them.
    pub(super) async fn take(&self, edge: &Data<Edge>, text: Bytes, trace: TraceOf<'_>) -> Taken {
        if self.has_ended() {
            return Taken::Gone;
        }
        if Batch::is_one(&text) {
            return self.take_batch(edge, text, trace).await;
        }
        match Frame::parse(text, edge.json_limits()) {
            Ok(Frame::Request(request)) => self.take_request(edge, request, trace).await,
            Ok(Frame::Notification(notification)) => {
                self.notified(edge, notification).await;
                Taken::Yes
            }
            Ok(Frame::Response(response)) => {
                if let Some(session) = self.session() {
                    in_session::answered(&session, response).await;
                }
                Taken::Yes
            }
            Err(fault) if fault.answers => {
                tracing::debug!(%fault, "a client's answer is broken");
                if let Some(session) = self.session() {
                    in_session::broken_answer(&session, &fault).await;
                }
                Taken::Yes
            }
            Err(fault) if fault.id.is_some() => self.answer(respond::not_a_message(&fault)).await,
            Err(fault) => self.refuse(respond::not_a_message(&fault)).await,
        }
    }

    async fn take_request(&self, edge: &Data<Edge>, request: Request, trace: TraceOf<'_>) -> Taken {
        if !self.has_room().await {
            return Taken::Gone;
        }
        let stateless = request.params.meta(VERSION_KEY).is_some();
        let session = self.session();
        match (&*request.method, &session) {
            _ if edge.is_draining() => return self.say(respond::too_late(&request.id)),
            _ if stateless && !self.kind.both_eras => {
                return self.say(invalid(&request.id, "this transport has sessions only; use /mcp instead"));
            }
            ("initialize", None) if !stateless => return self.initialize(edge, &request),
            ("initialize", Some(_)) if !stateless => {
                return self.say(invalid(&request.id, "this connection is initialized already"));
            }
            ("ping", None) if !stateless => return self.say(pong(&request.id)),
            (_, None) if !stateless => return self.say(invalid(&request.id, "send initialize first")),
            _ => {}
        }
        let admission = match self.requests.admit(&request.id, &self.used) {
            Ok(admission) => admission,
            Err(refused) => return self.say(not_admitted(&request.id, refused)),
        };
        let arrival = self.arrival(&request, trace);
        if stateless && &*request.method == Method::Listen.name() {
            return self.listen(edge, &request, arrival.trace, admission);
        }
        let begun = match session {
            Some(session) if !stateless => in_session::begin(edge, &session, request, arrival).await,
            _ => stateless::begin(edge, self.profile(), request, arrival),
        };
        match begun {
            Ok(begun) => self.run(begun, Some(admission)),
            Err(refusal) => {
                drop(admission);
                self.say(refusal)
            }
        }
    }

    fn listen(
        &self,
        edge: &Data<Edge>,
        request: &Request,
        trace: TraceContext,
        admission: Admission,
    ) -> Taken {
        let on = OnPipe { stream: Arc::clone(&self.stream), left: self.left.clone(), admission };
        let listens = stateless::check_listen(edge, request)
            .and_then(|asking| listen::serve_on_pipe(edge, on, &asking, trace));
        match listens {
            Ok(()) => Taken::Yes,
            Err(refusal) => self.say(refusal),
        }
    }

    fn arrival(&self, request: &Request, trace: TraceOf<'_>) -> Arrival {
        Arrival { trace: trace(&request.params), transport: self.kind.transport, streams: true }
    }

    /// Nothing waits in here, so that two of them cannot open two sessions.
    fn initialize(&self, edge: &Data<Edge>, request: &Request) -> Taken {
        let mut phase = self.phase();
        if !matches!(*phase, Phase::New) {
            drop(phase);
            return self.say(invalid(&request.id, "this connection is initialized already"));
        }
        match initialize::initialize(edge, self.profile(), request, Some(Arc::clone(&self.stream))) {
            Ok((session, answer)) => {
                *phase = Phase::Open(session);
                self.opened.cancel();
                self.say(answer)
            }
            Err(NotInitialized { answer, .. }) => self.say(answer),
        }
    }

    async fn take_batch(&self, edge: &Data<Edge>, text: Bytes, trace: TraceOf<'_>) -> Taken {
        let refusal = |why| respond::error(None, StatusCode::BAD_REQUEST, INVALID_REQUEST, why, None);
        let batch = match batch::read(edge, text) {
            Ok(batch) => batch,
            Err(fault) => return self.refuse(respond::not_a_message(&fault)).await,
        };
        let Some(session) = self.session() else { return self.refuse(refusal(NO_BATCHES)).await };
        let frames = match batch::lawful(&session, batch) {
            Ok(frames) => frames,
            Err(why) => return self.refuse(refusal(why)).await,
        };
        if !self.has_room().await {
            return Taken::Gone;
        }
        match batch::begin(edge, &session, frames, |request| self.arrival(request, trace)).await {
            Some(batch) => self.run(batch.begun, None),
            None => Taken::Yes,
        }
    }

    async fn notified(&self, edge: &Data<Edge>, notification: Notification) {
        if &*notification.method == "notifications/cancelled"
            && let Some(id) = notification.params.share("requestId").and_then(RequestId::from_raw)
        {
            self.requests.cancel(&id);
        }
        if let Some(session) = self.session() {
            in_session::notified(edge, &session, notification).await;
        }
    }

    /// Runs a request for as long as its client is there and wants it.
    fn run(&self, begun: Begun, admission: Option<Admission>) -> Taken {
        let Begun { work, telling } = begun;
        let left = self.left.clone();
        // Its place in the table is free before its answer can be read.
        let work = async move {
            tokio::select! {
                biased;
                () = left.cancelled() => Finished::Withdrawn,
                () = cancelled(admission.as_ref()) => Finished::Withdrawn,
                finished = work => finished,
            }
        };
        let pump = Pump { telling, outlet: Outlet::shared(Arc::clone(&self.stream)) };
        tokio::task::spawn_local(pump.run(Box::pin(work)));
        Taken::Yes
    }

    /// Answers a text that was no message, once there is room for that.
    async fn answer(&self, finished: Finished) -> Taken {
        if self.has_room().await { self.say(finished) } else { Taken::Gone }
    }

    /// As [`Pipe::answer`], where no id could be read.
    pub(super) async fn refuse(&self, finished: Finished) -> Taken {
        let Finished::Response { status, text } = finished else { return Taken::Yes };
        match self.answer(Finished::Response { status, text: text.clone() }).await {
            Taken::Yes => Taken::Nameless(Finished::Response { status, text }),
            gone => gone,
        }
    }

    fn say(&self, finished: Finished) -> Taken {
        if let Finished::Response { mut text, .. } = finished {
            message::one_line(&mut text);
            if self.stream.push(text.into(), Weight::Answer).is_err() {
                return Taken::Gone;
            }
        }
        Taken::Yes
    }

    /// Waits until the client has read enough for more to be begun: answers always find a place on the stream, so who
    /// does not read them may not cause any. `false` when the pipe has ended meanwhile.
    async fn has_room(&self) -> bool {
        while self.stream.waiting() > self.full && !self.has_ended() {
            tokio::time::sleep(LOOK).await;
        }
        !self.has_ended()
    }

    fn has_ended(&self) -> bool {
        self.left.is_cancelled()
            || match &*self.phase() {
                Phase::New => false,
                Phase::Open(session) => session.has_ended(),
                Phase::Ended => true,
            }
    }

    fn session(&self) -> Option<SessionHandle> {
        match &*self.phase() {
            Phase::Open(session) => Some(session.clone()),
            Phase::New | Phase::Ended => None,
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn cancelled(admission: Option<&Admission>) {
    match admission {
        Some(admission) => admission.cancelled().await,
        None => std::future::pending().await,
    }
}

fn invalid(id: &RequestId, text: &str) -> Finished {
    respond::error(Some(id), StatusCode::BAD_REQUEST, INVALID_REQUEST, text, None)
}

/// The one request that may come before everything.
fn pong(id: &RequestId) -> Finished {
    Finished::Response { status: StatusCode::OK, text: message::result(id, b"{}") }
}
