//! `initialize`: a client of the handshake era and the gateway meet (S-LIFE-01, S-LIFE-06).
//!
//! Always: every revision asked for gets an answer, and a session is open when it is written. Not here: how the session's
//! id travels, which is each transport's own matter.

use std::sync::Arc;

use actix_web::http::StatusCode;
use bytes::Bytes;

use super::edge::Edge;
use super::exchange::Finished;
use super::respond::{self, Addressee};
use crate::dispatch::{CALLER, Introduction, LONGEST_CLIENT_NAME};
use crate::names::ProfileName;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::code::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST};
use crate::protocol::era::Revision;
use crate::protocol::frame::Request;
use crate::protocol::json::{Object, quote};
use crate::protocol::translate::{ClientView, ResultKind};
use crate::session::SessionHandle;
use crate::session::handle::{OnEnd, Opening, PublicUris};
use crate::session::stream::Stream;
use crate::session::table::NotOpened;
use crate::upstream::call::Affinity;
use crate::upstream::identity::{MARK_KEY, is_own};

/// No session was opened.
pub(super) struct NotInitialized {
    pub(super) answer: Finished,
    /// Seconds after which another try may do.
    pub(super) retry_after: Option<u32>,
}

/// Opens a session and gives it with the answer. Where one stream carries everything of a client, `pipe` is that stream.
pub(super) fn initialize(
    edge: &Edge,
    profile: Option<&ProfileName>,
    request: &Request,
    pipe: Option<Arc<Stream>>,
) -> Result<(SessionHandle, Finished), NotInitialized> {
    let refuse = |status, code, text: &str| {
        let answer = respond::error(Some(&request.id), status, code, text, None);
        Err(NotInitialized { answer, retry_after: None })
    };
    let Some(asked) = request.params.text("protocolVersion") else {
        return refuse(StatusCode::OK, INVALID_PARAMS, "protocolVersion must be a string");
    };
    if let Some(mark) = request.params.meta_text(MARK_KEY).filter(|mark| is_own(mark)) {
        let answer = respond::own_server(&request.id, &mark);
        return Err(NotInitialized { answer, retry_after: None });
    }
    // An unknown or stateless revision is not an error: another one is offered (S-LIFE-01).
    let Some(revision) = edge.settings.revisions.negotiate(&asked) else {
        return refuse(StatusCode::BAD_REQUEST, INVALID_REQUEST, "no revision with a handshake is served");
    };
    let introduction = match edge.switchboard.introduce(profile) {
        Ok(introduction) => introduction,
        Err(failure) => return refuse(StatusCode::NOT_FOUND, INVALID_REQUEST, &failure.to_string()),
    };
    let has_tasks = introduction.offered.tasks && revision == Revision::V2025_11_25;
    let opening = Opening { has_tasks, ..opening(edge, profile, request, revision, pipe) };
    let session = match edge.sessions.open(opening, released(edge)) {
        Ok(session) => session,
        Err(NotOpened::TooMany) => {
            let refused = refuse(StatusCode::SERVICE_UNAVAILABLE, INTERNAL_ERROR, "too many sessions");
            return refused.map_err(|refused| NotInitialized { retry_after: Some(5), ..refused });
        }
        Err(NotOpened::NoRandomness) => {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL_ERROR, "no session can be made");
        }
    };
    let result = result(revision, &introduction);
    let view = client_view(revision);
    let to = Addressee { id: &request.id, view: &view, kind: ResultKind::Other, declared: &Object::empty };
    Ok((session, respond::own_result(&to, None, result.as_bytes())))
}

/// What a session's end frees.
pub(super) fn released(edge: &Edge) -> OnEnd {
    let upstreams = Arc::clone(&edge.switchboard.upstreams);
    Arc::new(move |id| upstreams.release(Affinity::Session(id)))
}

fn opening(
    edge: &Edge,
    profile: Option<&ProfileName>,
    request: &Request,
    revision: Revision,
    pipe: Option<Arc<Stream>>,
) -> Opening {
    let client = request.params.object("clientInfo").unwrap_or_else(Object::empty);
    let capabilities = request.params.object("capabilities").unwrap_or_else(Object::empty);
    let name = client.text("name").unwrap_or_default();
    Opening {
        revision,
        profile: profile.cloned(),
        capabilities: ClientCapabilities::of(&capabilities, revision),
        has_tasks: false,
        client_name: name.chars().take(LONGEST_CLIENT_NAME).collect::<String>().into(),
        public_uris: public_uris(edge, profile.cloned()),
        pipe,
    }
}

/// How an endpoint shows resources.
pub(super) fn public_uris(edge: &Edge, endpoint: Option<ProfileName>) -> PublicUris {
    let catalogue = edge.switchboard.catalogue.clone();
    PublicUris::new(move |upstream, uri| {
        let view = catalogue.view(endpoint.as_ref().map(ProfileName::as_str))?;
        view.public_uri(CALLER, upstream, uri)
    })
}

/// Everything the gateway can serve, whichever upstreams are there now: a session learns of no more later.
fn result(revision: Revision, introduction: &Introduction) -> String {
    format!(
        r#"{{"protocolVersion":"{revision}","capabilities":{},"serverInfo":{}{}}}"#,
        introduction.offered.text(revision),
        server_info(),
        instructions(introduction),
    )
}

/// The words for the model as a further member, if there are any.
pub(super) fn instructions(introduction: &Introduction) -> String {
    let words = introduction.instructions.as_deref();
    words.map(|text| format!(",\"instructions\":{}", quote(text))).unwrap_or_default()
}

/// The gateway as a server names itself (S-LIFE-08: fields that every revision has).
pub(super) fn server_info() -> &'static str {
    concat!(r#"{"name":"switchyard","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#)
}

pub(super) fn client_view(revision: Revision) -> ClientView {
    ClientView { revision, server: Bytes::from_static(server_info().as_bytes()) }
}
