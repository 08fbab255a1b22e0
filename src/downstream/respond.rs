//! Outcome or failure to wire form: the only place where failures become codes, statuses and texts.

use actix_web::http::{StatusCode, header};

use super::exchange::Finished;
use super::tasks::extension;
use crate::dispatch::{CALLER, Failure, Outcome};
use crate::names::UpstreamName;
use crate::protocol::caching::Lifetime;
use crate::protocol::capability::includes;
use crate::protocol::code::{
    HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, MISSING_CAPABILITY,
    PARSE_ERROR, RESOURCE_NOT_FOUND, UNSUPPORTED_VERSION, URL_ELICITATION_REQUIRED,
};
use crate::protocol::era::Era;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Answer, ErrorObject, FrameFault, FrameFaultReason, RequestId};
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::splice::Edit;
use crate::protocol::task::TaskFacts;
use crate::protocol::translate::{self, ClientView, ResultKind, UriMap};
use crate::upstream::error::UpstreamError;
use crate::upstream::identity::MARK_KEY;

/// Who is answered, and to what.
pub(super) struct Addressee<'a> {
    pub(super) id: &'a RequestId,
    pub(super) view: &'a ClientView,
    pub(super) kind: ResultKind,
    /// What was declared of the client: a `ClientCapabilities` object.
    pub(super) declared: &'a dyn Fn() -> Object,
}

/// The response to a story's end.
pub(super) fn respond(to: &Addressee<'_>, ended: Result<Outcome, Failure>) -> Finished {
    match ended {
        Ok(Outcome::Own(object)) => own_result(to, None, &object),
        Ok(Outcome::Lasting(object, lifetime)) => own_result(to, Some(lifetime), &object),
        // Whoever offers to take a task takes it before it comes here.
        Ok(Outcome::Task(begun)) => {
            let error = UpstreamError::protocol("it made a task that nobody took");
            failed(to, &Failure::Upstream { upstream: begun.upstream, error })
        }
        Ok(Outcome::Refused(object)) => error_response(Some(to.id), StatusCode::OK, &object),
        Ok(Outcome::Relayed { answer: Answer::Result(answer), upstream, view }) => {
            let uris = view.hand_out_uris(CALLER, &upstream);
            result(to, &answer, Some(&uris))
        }
        Ok(Outcome::Read { result, lifetime, upstream, view }) => {
            let mut text = result_head(to.id, result.as_bytes().len() + 256);
            let uris = view.hand_out_uris(CALLER, &upstream);
            translate::read_result(to.view, &result, lifetime, Some(&uris), &mut text);
            text.push(b'}');
            Finished::Response { status: StatusCode::OK, text }
        }
        Ok(Outcome::Relayed { answer: Answer::Error(error), upstream, .. }) => match error.code {
            // Pages that can be shown were asked for already (`parking`), and clients of sessions are told otherwise.
            URL_ELICITATION_REQUIRED => {
                let opens_urls =
                    (to.declared)().object("elicitation").is_some_and(|modes| modes.object("url").is_some());
                if !opens_urls {
                    return undeclared(to.id, r#"{"elicitation":{"url":{}}}"#);
                }
                let error = UpstreamError::protocol("it asks for a URL to be opened that cannot be shown");
                failed(to, &Failure::Upstream { upstream, error })
            }
            _ => relayed_error(to, &upstream, &error),
        },
        Err(failure) => failed(to, &failure),
    }
}

/// A result as the client may see it, its URIs made public by `uris`.
pub(super) fn result(to: &Addressee<'_>, result: &Object, uris: Option<&UriMap<'_>>) -> Finished {
    let mut text = result_head(to.id, result.as_bytes().len() + 256);
    translate::result(to.view, to.kind, result, uris, &mut text);
    text.push(b'}');
    Finished::Response { status: StatusCode::OK, text }
}

/// The result that asks for input, under the gateway's own state (S-MRTR-01).
pub(super) fn input_required(to: &Addressee<'_>, requests: &[u8], state: &str) -> Finished {
    let mut text = Vec::with_capacity(requests.len() + state.len() + 96);
    text.extend_from_slice(br#"{"resultType":"input_required","inputRequests":"#);
    text.extend_from_slice(requests);
    text.extend_from_slice(format!(r#","requestState":{}}}"#, quote(state)).as_bytes());
    match Object::parse(text.into(), Limits::NONE) {
        Ok(object) => result(to, &object, None),
        Err(fault) => error(Some(to.id), StatusCode::OK, INTERNAL_ERROR, &fault.to_string(), None),
    }
}

/// The server insists on what it was told the client cannot do: a `ClientCapabilities` object (era-bridge §9.4).
pub(super) fn undeclared(to: &RequestId, needed: &str) -> Finished {
    let data = format!(r#"{{"requiredCapabilities":{needed}}}"#);
    let text = "the server needs a capability that this request did not declare";
    error(Some(to), StatusCode::BAD_REQUEST, MISSING_CAPABILITY, text, Some(&data))
}

/// A result object of the gateway's own, without members of this hop; with a lifetime where clients may keep it.
pub(super) fn own_result(to: &Addressee<'_>, lifetime: Option<Lifetime>, object: &[u8]) -> Finished {
    let mut text = result_head(to.id, object.len() + 256);
    translate::own_result(to.view, lifetime, object, &mut text);
    text.push(b'}');
    Finished::Response { status: StatusCode::OK, text }
}

fn result_head(id: &RequestId, capacity: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(capacity + 64);
    text.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    text.extend_from_slice(id.as_bytes());
    text.extend_from_slice(b",\"result\":");
    text
}

/// What a call that became a task was told: the gateway's words for a task in this client's dialect.
pub(super) fn created_task(to: &Addressee<'_>, task: &TaskFacts, immediate: Option<&[u8]>) -> Finished {
    let mut text = result_head(to.id, 512);
    translate::created_task(to.view, task, immediate, &mut text);
    text.push(b'}');
    Finished::Response { status: StatusCode::OK, text }
}

/// The result of a task for a client that asks for it (S-TASK-11).
pub(super) fn task_result(
    to: &Addressee<'_>,
    result: &Object,
    uris: Option<&UriMap<'_>>,
    task: &str,
) -> Finished {
    let mut text = result_head(to.id, result.as_bytes().len() + 256);
    translate::task_result(to.view, result, uris, task, &mut text);
    text.push(b'}');
    Finished::Response { status: StatusCode::OK, text }
}

/// A JSON-RPC error of the gateway's own, or of an upstream's as it is to be told.
pub(super) fn own_error(to: &Addressee<'_>, error: &ErrorObject) -> Finished {
    error_response(Some(to.id), StatusCode::OK, error.object.as_bytes())
}

/// An upstream's JSON-RPC error, its code mapped where the client's era has another one (era-bridge §8).
fn relayed_error(to: &Addressee<'_>, upstream: &UpstreamName, error: &ErrorObject) -> Finished {
    let (status, object) = public_error(to, upstream, error);
    error_response(Some(to.id), status, &object)
}

/// The same as it stands in an answer, and the status of that.
pub(super) fn public_error(
    to: &Addressee<'_>,
    upstream: &UpstreamName,
    error: &ErrorObject,
) -> (StatusCode, Vec<u8>) {
    let stateless = to.view.revision.era() == Era::Stateless;
    let code = match error.code {
        PARSE_ERROR | INVALID_REQUEST | HEADER_MISMATCH | UNSUPPORTED_VERSION => {
            return (StatusCode::OK, refused_message(upstream, error));
        }
        // The gateway as a whole has the method.
        METHOD_NOT_FOUND if stateless => INTERNAL_ERROR,
        RESOURCE_NOT_FOUND if stateless => INVALID_PARAMS,
        // Reserved, and without a meaning yet (S-ERR-01).
        -32099..=-32023 => INTERNAL_ERROR,
        MISSING_CAPABILITY => return missing_capability(to, error),
        kept => kept,
    };
    let mut object = Vec::new();
    let mut edit = Edit::of(&error.object);
    if code != error.code {
        edit.set("code", code.to_string().into_bytes());
    }
    edit.write(&mut object);
    (StatusCode::OK, object)
}

/// The gateway's own message was refused: not the client's fault.
fn refused_message(upstream: &UpstreamName, error: &ErrorObject) -> Vec<u8> {
    let text = format!("The server \"{upstream}\" refused the gateway's request: {}", error.message());
    let record = UpstreamError::protocol("it refused the request").record(upstream).json();
    format!(r#"{{"code":{INTERNAL_ERROR},"message":{},"data":{record}}}"#, quote(&text)).into_bytes()
}

/// `-32021` passes to stateless clients with its status, unless the gateway itself withheld what the client declared.
fn missing_capability(to: &Addressee<'_>, error: &ErrorObject) -> (StatusCode, Vec<u8>) {
    let required = error.object.object("data").and_then(|data| data.object("requiredCapabilities"));
    let withheld = required.as_ref().is_some_and(|required| includes(&(to.declared)(), required));
    let message = quote(&error.message());
    if to.view.revision.era() == Era::Stateless && !withheld {
        return (StatusCode::BAD_REQUEST, error.object.as_bytes().to_vec());
    }
    if withheld {
        let text = quote("the server needs a capability that it is not allowed to use");
        let object = format!(r#"{{"code":{INTERNAL_ERROR},"message":{text}}}"#);
        return (StatusCode::OK, object.into_bytes());
    }
    let required = required.unwrap_or_else(Object::empty);
    let required = String::from_utf8_lossy(required.as_bytes()).into_owned();
    let object = format!(
        r#"{{"code":{INVALID_PARAMS},"message":{message},"data":{{"reason":"missing_client_capability","requiredCapabilities":{required}}}}}"#
    );
    (StatusCode::OK, object.into_bytes())
}

fn failed(to: &Addressee<'_>, failure: &Failure) -> Finished {
    let stateless = to.view.revision.era() == Era::Stateless;
    let (code, status, data) = match failure {
        Failure::UnknownTool
        | Failure::UnknownPrompt
        | Failure::UnknownReference
        | Failure::InvalidParams(_)
        | Failure::BadRequestState(_)
        | Failure::BadCursor(_) => (INVALID_PARAMS, StatusCode::OK, None),
        Failure::UnknownResource { uri } => {
            let code = if stateless { INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
            (code, StatusCode::OK, Some(format!(r#"{{"uri":{}}}"#, quote(uri))))
        }
        Failure::NotSubscribable { uri } => {
            (INVALID_PARAMS, StatusCode::OK, Some(format!(r#"{{"uri":{}}}"#, quote(uri))))
        }
        Failure::UnknownEndpoint => (INVALID_REQUEST, StatusCode::NOT_FOUND, None),
        Failure::NotDeclared => {
            (METHOD_NOT_FOUND, if stateless { StatusCode::NOT_FOUND } else { StatusCode::OK }, None)
        }
        Failure::NotOffered(_) => {
            (if stateless { INTERNAL_ERROR } else { METHOD_NOT_FOUND }, StatusCode::OK, None)
        }
        Failure::NeedsTask if stateless => {
            return undeclared(to.id, &extension::required());
        }
        Failure::NeedsTask | Failure::NoTask => (METHOD_NOT_FOUND, StatusCode::OK, None),
        // The adapter of each era puts what it asks before it comes here.
        Failure::NeedsInput { upstream, .. } => {
            let error = UpstreamError::protocol("it asks for input that cannot be given");
            return failed(to, &Failure::Upstream { upstream: upstream.clone(), error });
        }
        Failure::InputRefused { .. }
        | Failure::Upstream { .. }
        | Failure::TaskCancelled { .. }
        | Failure::UrlsNeeded { .. } => {
            if to.kind == ResultKind::Call
                && let Some(object) = failure.as_result()
            {
                return result(to, &object, None);
            }
            (INTERNAL_ERROR, StatusCode::OK, failure.record())
        }
    };
    error(Some(to.id), status, code, &failure.text(), data.as_deref())
}

/// A message that is not one (S-BASE-01).
pub(super) fn not_a_message(fault: &FrameFault) -> Finished {
    let code = match fault.reason {
        FrameFaultReason::Parse(_) => PARSE_ERROR,
        FrameFaultReason::Limit(_) | FrameFaultReason::Invalid(_) => INVALID_REQUEST,
    };
    error(fault.id.as_ref(), StatusCode::BAD_REQUEST, code, &fault.to_string(), None)
}

/// A request that came while the gateway drains: nothing of it was done, and another gateway may do it.
pub(super) fn too_late(id: &RequestId) -> Finished {
    let data = FailureRecord::of_gateway(Reason::GatewayRestarted, true, Some(1000), Ran::NotSent).json();
    let text = "the gateway is about to stop";
    error(Some(id), StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR, text, Some(&data))
}

/// As [`too_late`], over HTTP.
pub(super) fn stopping(id: &RequestId) -> actix_web::HttpResponse {
    let mut response = super::exchange::json(too_late(id));
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// A call that the gateway's stop or its session's end cut short.
pub(super) fn cut_short(id: &RequestId, why: &str) -> Finished {
    let data = FailureRecord::of_gateway(Reason::GatewayRestarted, false, None, Ran::Unknown).json();
    error(Some(id), StatusCode::OK, INTERNAL_ERROR, why, Some(&data))
}

/// A request about a task that the gateway's stop cut short: it dispatched nothing, the task does not end with it, and the
/// same may be asked again after the next start.
pub(super) fn ask_again(id: &RequestId) -> Finished {
    let data = FailureRecord::of_gateway(Reason::GatewayRestarted, true, Some(1000), Ran::NotSent).json();
    let text = "the gateway stops: ask again for the task";
    error(Some(id), StatusCode::OK, INTERNAL_ERROR, text, Some(&data))
}

/// A request about a task whose session ended, which the task does not: nothing failed.
pub(super) fn left_behind(id: &RequestId) -> Finished {
    let text = "the session ended: ask for the task in another";
    error(Some(id), StatusCode::OK, INTERNAL_ERROR, text, None)
}

/// The gateway was asked to be a server of its own: its mark tells it so, and goes back for the side that asked.
pub(super) fn own_server(id: &RequestId, mark: &str) -> Finished {
    let data = format!(r#"{{"{MARK_KEY}":{}}}"#, quote(mark));
    error(Some(id), StatusCode::OK, INVALID_REQUEST, "this gateway would be its own server", Some(&data))
}

/// A JSON-RPC error of the gateway's own.
pub(super) fn error(
    id: Option<&RequestId>,
    status: StatusCode,
    code: i64,
    message: &str,
    data: Option<&str>,
) -> Finished {
    let data = data.map(|data| format!(",\"data\":{data}")).unwrap_or_default();
    let object = format!(r#"{{"code":{code},"message":{}{data}}}"#, quote(message));
    error_response(id, status, object.as_bytes())
}

fn error_response(id: Option<&RequestId>, status: StatusCode, object: &[u8]) -> Finished {
    let mut text = Vec::with_capacity(object.len() + 64);
    text.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    text.extend_from_slice(id.map_or(&b"null"[..], RequestId::as_bytes));
    text.extend_from_slice(b",\"error\":");
    text.extend_from_slice(object);
    text.push(b'}');
    Finished::Response { status, text }
}
