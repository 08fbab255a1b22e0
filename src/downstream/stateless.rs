//! The stateless era towards clients: every request says everything about itself, and is checked before anything runs.
//!
//! Always: the body is the truth and headers only mirror it (S-META-08); nothing of one request is remembered for the
//! next (S-SESS-07); a client that disconnects has cancelled (S-CANC-05).

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use tracing::Instrument;

use super::body::Framing;
use super::edge::{Edge, RequestGuard};
use super::events::{EventWriter, LevelWanted};
use super::exchange::{Becomes, Exchange, Finished, Work, json};
use super::http::{Inbound, VERSION_HEADER, VERSION_KEY, accepted};
use super::in_session::{Arrival, Begun, ending, progress_token};
use super::initialize::{instructions, server_info};
use super::input_required::{self, Asked, Brought};
use super::listen;
use super::parking::Parking;
use super::respond::{self, Addressee};
use super::tasks::extension::{self, AboutTask};
use super::telling::Telling;
use crate::config::revisions::ServedRevisions;
use crate::dispatch::request_state::Binding;
use crate::dispatch::{Call, Failure, Outcome, TaskUse};
use crate::names::ProfileName;
use crate::parked::Inputs;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::code::{
    HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, UNSUPPORTED_VERSION,
};
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::{Frame, Request, RequestId};
use crate::protocol::headers;
use crate::protocol::json::{Object, quote};
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::param_headers::ParamHeaders;
use crate::protocol::translate::{ClientView, ResultKind};
use crate::telemetry::spans::{self, Target, Transport};
use crate::upstream::call::{Affinity, Client, ClientPort};
use crate::upstream::events::event_queue;
use crate::upstream::identity::{MARK_KEY, is_own};

const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const LOG_LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";

/// Serves one POSTed message.
pub(super) async fn serve(inbound: &Inbound<'_>, frame: Frame) -> HttpResponse {
    match frame {
        Frame::Request(request) => run(inbound, request).await,
        // Cancellation is the end of the stream here; other notifications have no meaning and are no error (S-BASE-04).
        Frame::Notification(_) => accepted(),
        Frame::Response(_) => {
            let text = "responses are not sent in this revision";
            json(respond::error(None, StatusCode::BAD_REQUEST, INVALID_REQUEST, text, None))
        }
    }
}

/// What the checks found out.
struct Checked {
    revision: Revision,
    method: Method,
    capabilities: Object,
    log_level: Option<LogLevel>,
}

/// The checks in the order of requirements §3; none tells of what a later one would find. Those of headers are left out
/// where the transport has none.
fn check(edge: &Edge, mirror: Option<&Inbound<'_>>, request: &Request) -> Result<Checked, Finished> {
    let id = &request.id;
    let version = request.params.meta_text(VERSION_KEY);
    let Some(version) = version else {
        return Err(invalid(id, "_meta must hold io.modelcontextprotocol/protocolVersion, a string"));
    };
    let capabilities = capabilities(&request.params).ok_or_else(|| {
        invalid(id, "_meta must hold io.modelcontextprotocol/clientCapabilities, an object of objects")
    })?;
    if let Some(inbound) = mirror {
        check_version(inbound, id, &version)?;
    }
    let served = &edge.settings.revisions;
    let revision = Revision::parse(&version)
        .filter(|revision| revision.era() == Era::Stateless && served.serve(*revision))
        .ok_or_else(|| unsupported(id, &version, served))?;
    if let Some(inbound) = mirror {
        check_method(inbound, request)?;
    }
    let method = Method::of(&request.method, Era::Stateless).ok_or_else(|| {
        respond::error(Some(id), StatusCode::NOT_FOUND, METHOD_NOT_FOUND, "method not found", None)
    })?;
    if method == Method::Discover
        && let Some(mark) = request.params.meta_text(MARK_KEY).filter(|mark| is_own(mark))
    {
        return Err(respond::own_server(id, &mark));
    }
    if method.is_of_tasks() && !extension::is_declared(&capabilities) {
        return Err(respond::undeclared(id, &extension::required()));
    }
    if let Some(target) = method.target() {
        let Some(target) = request.params.text(target) else {
            return Err(invalid(id, "the target must be a string"));
        };
        if let Some(inbound) = mirror {
            headers::compare(inbound.values("mcp-name"), &target)
                .map_err(|fault| mismatch(id, &format!("Mcp-Name: {fault}")))?;
        }
    }
    let log_level = match request.params.meta(LOG_LEVEL_KEY) {
        None => None,
        Some(raw) => Some(LogLevel::from_raw(raw).ok_or_else(|| invalid(id, "unknown log level"))?),
    };
    if let (Some(inbound), Method::CallTool) = (mirror, method) {
        check_parameters(inbound, request)?;
    }
    Ok(Checked { revision, method, capabilities, log_level })
}

fn check_version(inbound: &Inbound<'_>, id: &RequestId, version: &str) -> Result<(), Finished> {
    match single(inbound, VERSION_HEADER).map_err(|text| mismatch(id, text))? {
        None => Err(mismatch(id, "the MCP-Protocol-Version header is missing")),
        Some(header) if header != version => {
            Err(mismatch(id, "the MCP-Protocol-Version header and _meta differ"))
        }
        Some(_) => Ok(()),
    }
}

fn check_method(inbound: &Inbound<'_>, request: &Request) -> Result<(), Finished> {
    let id = &request.id;
    match single(inbound, "mcp-method").map_err(|text| mismatch(id, text))? {
        None => Err(mismatch(id, "the Mcp-Method header is missing")),
        Some(header) if *header != *request.method => {
            Err(mismatch(id, "the Mcp-Method header and the method differ"))
        }
        Some(_) => Ok(()),
    }
}

/// The value of a header that is literal and may be there once.
fn single<'i>(inbound: &'i Inbound<'_>, name: &'static str) -> Result<Option<&'i str>, &'static str> {
    let value = headers::single(inbound.values(name)).map_err(|_| "a header is there more than once")?;
    value.map(|raw| headers::trimmed(raw).map_err(|_| "a header is not text")).transpose()
}

/// Capabilities are objects, each an object (S-META-07).
fn capabilities(params: &Object) -> Option<Object> {
    let raw = params.meta(CAPABILITIES_KEY)?;
    let object = Object::parse(Bytes::copy_from_slice(raw), crate::protocol::json::Limits::NONE).ok()?;
    let all_objects = object.iter().all(|(_, value)| value.starts_with(b"{"));
    all_objects.then_some(object)
}

/// `Mcp-Param-*` against the arguments, by the exposed schema (S-HDR-05). An unknown tool is told later.
fn check_parameters(inbound: &Inbound<'_>, request: &Request) -> Result<(), Finished> {
    let profile = inbound.profile.as_ref().map(|profile| profile.as_str());
    let Some(view) = inbound.edge.switchboard.catalogue.view(profile) else { return Ok(()) };
    let name = request.params.text("name").unwrap_or_default();
    let schema = view.resolve_tool(&name).and_then(|route| route.item.object.get("inputSchema"));
    let Some(annotated) = schema.and_then(|schema| ParamHeaders::of_schema(schema).ok()) else {
        return Ok(());
    };
    if annotated.is_empty() {
        return Ok(());
    }
    let arguments = request.params.object("arguments").unwrap_or_else(Object::empty);
    annotated
        .check(&arguments, |name| inbound.values(name.as_str()))
        .map_err(|fault| mismatch(&request.id, &fault.to_string()))
}

fn invalid(id: &RequestId, text: &str) -> Finished {
    respond::error(Some(id), StatusCode::BAD_REQUEST, INVALID_PARAMS, text, None)
}

fn mismatch(id: &RequestId, text: &str) -> Finished {
    respond::error(Some(id), StatusCode::BAD_REQUEST, HEADER_MISMATCH, text, None)
}

fn unsupported(id: &RequestId, requested: &str, served: &ServedRevisions) -> Finished {
    let data = format!(r#"{{"supported":{},"requested":{}}}"#, names_of(served), quote(requested));
    let text = "unsupported protocol version";
    respond::error(Some(id), StatusCode::BAD_REQUEST, UNSUPPORTED_VERSION, text, Some(&data))
}

/// Every revision served, newest first, as a JSON array (S-META-10).
fn names_of(served: &ServedRevisions) -> String {
    let names: Vec<String> = served.newest_first().map(|revision| quote(revision.text())).collect();
    format!("[{}]", names.join(","))
}

async fn run(inbound: &Inbound<'_>, request: Request) -> HttpResponse {
    let trace = inbound.trace(&request.params);
    let checked = check(inbound.edge, Some(inbound), &request);
    let checked = match checked {
        Ok(Checked { method: Method::Listen, revision, capabilities, .. }) => {
            let asked = listen::Asking { request: &request, revision, capabilities };
            return listen::serve(inbound, &asked, trace).await;
        }
        checked => checked,
    };
    let begun = checked.and_then(|checked| {
        let arrival = Arrival { trace, transport: Transport::Http, streams: true };
        work(inbound.edge, inbound.profile.as_ref(), request, checked, arrival)
    });
    let Begun { work, telling } = match begun {
        Ok(begun) => begun,
        Err(refusal) => return json(refusal),
    };
    let bounds = &inbound.edge.settings.bounds;
    let exchange = Exchange {
        telling,
        accepts: inbound.accepts,
        patience: bounds.stream_after,
        becomes: Becomes::Alone(bounds.stream_buffer),
        framing: Framing::plain(bounds),
    };
    exchange.run(work).await
}

/// Checks a request to listen that came without headers.
pub(super) fn check_listen<'r>(edge: &Edge, request: &'r Request) -> Result<listen::Asking<'r>, Finished> {
    let Checked { revision, capabilities, .. } = check(edge, None, request)?;
    Ok(listen::Asking { request, revision, capabilities })
}

/// Checks a request that came without headers, and makes its work.
pub(super) fn begin(
    edge: &Data<Edge>,
    profile: Option<&ProfileName>,
    request: Request,
    arrival: Arrival,
) -> Result<Begun, Finished> {
    let checked = check(edge, None, &request)?;
    work(edge, profile, request, checked, arrival)
}

fn work(
    edge: &Data<Edge>,
    profile: Option<&ProfileName>,
    request: Request,
    checked: Checked,
    arrival: Arrival,
) -> Result<Begun, Finished> {
    let Checked { revision, method, capabilities, log_level } = checked;
    let Some((client, inputs)) =
        edge.stateless_client(profile).map(|client| with(client, &capabilities, method, revision))
    else {
        let text = "no such endpoint";
        return Err(respond::error(Some(&request.id), StatusCode::NOT_FOUND, INVALID_REQUEST, text, None));
    };
    let Arrival { trace, transport, streams } = arrival;
    let span = spans::request_span(method.name(), Target::None, revision.text(), transport);
    spans::set_parent(&span, &trace);
    let bounds = &edge.settings.bounds;
    if method.is_of_tasks() {
        let (principal, profile) = (client.principal, profile.cloned());
        let answering = Answering { edge: edge.clone(), id: request.id, method, revision, capabilities };
        let about = AboutTask { answering, principal, profile, params: request.params };
        let work = about.serve_until_stopped(Edge::count_request(edge));
        let writer = EventWriter::new(revision, None, LevelWanted::ByRequest(None), bounds);
        let telling = Telling::of(event_queue(1).1, writer);
        return Ok(Begun { work: Box::pin(work.instrument(span)), telling });
    }
    let takes_task = method == Method::CallTool && extension::is_declared(&capabilities);
    let states = &edge.switchboard.request_states;
    let binding = || Binding::of(client.principal, profile, method, &request.params);
    let brought = input_required::given(states, method, &request.params, binding)
        .map_err(|failure| refused(&request.id, &failure))?;
    let (input, retry) = match brought {
        Brought::Input(input) => (input, None),
        Brought::Retry(retry) => (None, Some(retry)),
    };
    let (sink, events) = event_queue(bounds.stream_queue);
    let progress_token = progress_token(&request.params);
    let writer =
        EventWriter::new(revision, progress_token.clone(), LevelWanted::ByRequest(log_level), bounds);
    // What a client can be asked within a call may outlive this request, and what it is told of goes to its next one.
    let slow_after = match takes_task {
        true => edge.slow_after(&request.params),
        false => None,
    };
    let may_outlive = retry.is_some() || slow_after.is_some();
    let inputs = inputs.or_else(|| may_outlive.then(|| Inputs::new(revision, ClientCapabilities::none())));
    let inner = inputs.is_some().then(|| event_queue(bounds.stream_queue));
    let outer = streams.then_some(sink);
    let call = Call {
        client,
        client_name: None,
        params: request.params,
        progress: progress_token.is_some(),
        log_level,
        trace,
        events: match &inner {
            Some((inner, _)) => outer.as_ref().map(|_| inner.clone()),
            None => outer.clone(),
        },
        input,
        task: if takes_task { TaskUse::Offered } else { TaskUse::Plain },
        span: span.clone(),
    };
    let counted = Edge::count_request(edge);
    let answering = Answering { edge: edge.clone(), id: request.id, method, revision, capabilities };
    let work: Work = match inputs.zip(inner) {
        None => Box::pin(answering.run(call, counted).instrument(span)),
        Some((inputs, (_, told))) => {
            let call = Arc::new(call);
            let parking = Parking { answering, call, inputs, events: told, sink: outer, retry, slow_after };
            Box::pin(parking.run_until_stopped(counted).instrument(span))
        }
    };
    Ok(Begun { work, telling: Telling::of(events, writer) })
}

/// All that shapes the answer of one request, whatever becomes of its call.
pub(super) struct Answering {
    pub(super) edge: Data<Edge>,
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) revision: Revision,
    /// What this request declared.
    pub(super) capabilities: Object,
}

impl Answering {
    /// Makes a call that can be asked nothing.
    async fn run(self, call: Call, counted: RequestGuard) -> Finished {
        let _counted = counted;
        let ended = tokio::select! {
            biased;
            ended = story(&self.edge, self.method, self.revision, &call) => ended,
            () = self.edge.until_stopped() => return respond::cut_short(&self.id, "the gateway stops"),
        };
        match ended {
            // Boxed: it is far from being the rule.
            Ok(Outcome::Task(begun)) => Box::pin(extension::linked(&self, &call, *begun, None)).await,
            ended => self.respond(&call, ended),
        }
    }

    /// The answer to a call that has ended.
    pub(super) fn respond(&self, call: &Call, ended: Result<Outcome, Failure>) -> Finished {
        spans::record_ending(&call.span, ending(&ended));
        self.to(|to| match ended {
            Err(Failure::NeedsInput { upstream, asked }) => {
                let (capabilities, states) =
                    (&call.client.capabilities, &self.edge.switchboard.request_states);
                let round = call.input.as_ref().map_or(0, |given| given.round);
                let asks = self.edge.switchboard.upstreams.get(&upstream).map(|asks| asks.settings().ask);
                let usable =
                    asks.map_or_else(ClientCapabilities::none, |ask| capabilities.narrowed(ask.kinds()));
                let asking = Asked { to, capabilities, usable: &usable, states, round };
                asking.result(&upstream, &asked, || self.binding(call))
            }
            ended => respond::respond(to, ended),
        })
    }

    /// What a request state for this request is bound to.
    pub(super) fn binding(&self, call: &Call) -> Binding {
        Binding::of(call.client.principal, call.client.profile.as_ref(), self.method, &call.params)
    }

    /// Writes an answer to this request.
    pub(super) fn to<T>(&self, write: impl FnOnce(&Addressee<'_>) -> T) -> T {
        let view =
            ClientView { revision: self.revision, server: Bytes::from_static(server_info().as_bytes()) };
        write(&Addressee {
            id: &self.id,
            view: &view,
            kind: ResultKind::of_method(self.method.name()),
            declared: &|| self.capabilities.clone(),
        })
    }
}

/// The caller of one request, and what it is asked within its call: nothing of it is remembered, and what it can be asked it
/// says each time (S-SESS-07).
fn with(
    client: &Arc<Client>,
    capabilities: &Object,
    method: Method,
    revision: Revision,
) -> (Arc<Client>, Option<Arc<Inputs>>) {
    let capabilities = ClientCapabilities::new_stateless(capabilities);
    if capabilities.is_none() {
        return (Arc::clone(client), None);
    }
    let inputs = method.takes_input().then(|| Inputs::new(revision, capabilities.clone()));
    let client = Arc::new(Client {
        principal: client.principal,
        affinity: if inputs.is_some() { Affinity::of_one_call() } else { client.affinity },
        task_of: None,
        profile: client.profile.clone(),
        capabilities,
        port: inputs.as_ref().map(|inputs| ClientPort::new(inputs.port())),
        closed: client.closed.clone(),
    });
    (client, inputs)
}

/// Parameters that bring what was not asked for in this form.
fn refused(id: &RequestId, failure: &Failure) -> Finished {
    respond::error(Some(id), StatusCode::OK, INVALID_PARAMS, &failure.to_string(), None)
}

/// What happens to a method of this era.
pub(super) async fn story(
    edge: &Edge,
    method: Method,
    revision: Revision,
    call: &Call,
) -> Result<Outcome, Failure> {
    let is_declared = || edge.switchboard.offers(call.client.profile.as_ref(), method);
    let told = match method {
        Method::Discover => return discover(edge, call, revision),
        Method::ListTools
        | Method::ListPrompts
        | Method::ListResources
        | Method::ListTemplates
        | Method::Complete
            if !is_declared() =>
        {
            Err(Failure::NotDeclared)
        }
        method => edge.switchboard.tell(method, call, revision).await,
    };
    match told {
        // What found something is of a feature that somebody offers.
        Err(Failure::UnknownTool | Failure::UnknownPrompt | Failure::UnknownResource { .. })
            if !is_declared() =>
        {
            Err(Failure::NotDeclared)
        }
        told => told,
    }
}

fn discover(edge: &Edge, call: &Call, revision: Revision) -> Result<Outcome, Failure> {
    let introduction = edge.switchboard.introduce(call.client.profile.as_ref())?;
    let result = format!(
        r#"{{"supportedVersions":{},"capabilities":{}{}}}"#,
        names_of(&edge.settings.revisions),
        introduction.offered.text(revision),
        instructions(&introduction),
    );
    Ok(Outcome::Lasting(result.into(), introduction.lifetime))
}
