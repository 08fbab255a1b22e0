//! Batches: arrays of messages, in sessions of revision 2025-03-26 and nowhere else (S-HTTPS-14, S-BASE-06, S-BASE-07).
//!
//! Always: every request of a batch is judged, admitted and answered by itself, and the answers come in one array; one that
//! fails does not stop the others; what the calls tell on the way comes before it.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::future::join_all;

use super::body::Framing;
use super::edge::Edge;
use super::exchange::{Becomes, Exchange, Finished, Work, json};
use super::handshake::{self, arrival, patience};
use super::http::{Inbound, SESSION_HEADER, VERSION_HEADER, accepted};
use super::in_session::{self, Arrival, Begun};
use super::respond;
use super::telling::Telling;
use crate::protocol::batch::Batch;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::{Frame, FrameFault, Request};
use crate::session::SessionHandle;
use crate::session::streams::Requests;

/// Serves a POSTed array.
pub(super) async fn serve(inbound: &Inbound<'_>, body: Bytes) -> HttpResponse {
    let refuse =
        |text: &str| json(respond::error(None, StatusCode::BAD_REQUEST, INVALID_REQUEST, text, None));
    let batch = match read(inbound.edge, body) {
        Ok(batch) => batch,
        Err(fault) => return json(respond::not_a_message(&fault)),
    };
    let stateless = inbound
        .value(VERSION_HEADER)
        .and_then(|raw| Revision::parse(std::str::from_utf8(raw).ok()?.trim()))
        .is_some_and(|revision| revision.era() == Era::Stateless);
    if stateless || inbound.value(SESSION_HEADER).is_none() {
        return refuse(NO_BATCHES);
    }
    let session = match handshake::session(inbound, None) {
        Ok(session) => session,
        Err(refusal) => return json(refusal),
    };
    let frames = match lawful(&session, batch) {
        Ok(frames) => frames,
        Err(why) => return refuse(why),
    };
    let begun = begin(inbound.edge, &session, frames, |request| arrival(inbound, request)).await;
    let Some(BegunBatch { begun: Begun { work, telling }, requests }) = begun else {
        return accepted();
    };
    let exchange = Exchange {
        telling,
        accepts: inbound.accepts,
        patience: patience(inbound, session.revision()),
        framing: Framing::of(&session, &inbound.edge.settings.bounds),
        becomes: Becomes::Kept { streams: Arc::clone(session.streams()), requests },
    };
    exchange.run(work).await
}

pub(super) const NO_BATCHES: &str = "this revision has no batches";

/// Finds the elements of an array of messages; what they are is not looked at, as who sent them may not send any.
pub(super) fn read(edge: &Edge, text: Bytes) -> Result<Batch, FrameFault> {
    Batch::read(text, edge.settings.bounds.batch_items, edge.json_limits())
}

/// The messages of a batch, or why it is none: of the wrong revision, empty, too long, or of messages that do not go
/// together.
pub(super) fn lawful(session: &SessionHandle, batch: Batch) -> Result<Vec<BatchItem>, &'static str> {
    if session.revision() != Revision::V2025_03_26 {
        return Err(NO_BATCHES);
    }
    if batch.len() == 0 && batch.is_whole() {
        return Err("a batch holds at least one message");
    }
    if !batch.is_whole() {
        return Err("the batch is too long");
    }
    let frames: Vec<BatchItem> = batch.collect();
    let is_response = |frame: &BatchItem| match frame {
        Ok(frame) => matches!(frame, Frame::Response(_)),
        Err(fault) => fault.answers,
    };
    let initializes =
        |frame: &BatchItem| matches!(frame, Ok(Frame::Request(request)) if &*request.method == "initialize");
    if frames.iter().any(initializes) {
        return Err("initialize cannot be part of a batch");
    }
    let responses = frames.iter().filter(|frame| is_response(frame)).count();
    if responses > 0 && responses < frames.len() {
        return Err("a batch holds requests or responses, not both");
    }
    Ok(frames)
}

/// A message of a batch, or what is wrong with it.
type BatchItem = Result<Frame, FrameFault>;

/// The requests of a batch as one: its work ends with the array of their answers.
pub(super) struct BegunBatch {
    pub(super) begun: Begun,
    pub(super) requests: Requests,
}

/// Takes every message of a lawful batch; `None` when none of them wants an answer.
pub(super) async fn begin(
    edge: &Data<Edge>,
    session: &SessionHandle,
    frames: Vec<BatchItem>,
    arrival: impl Fn(&Request) -> Arrival,
) -> Option<BegunBatch> {
    let mut works: Vec<Work> = Vec::new();
    let mut tellings = Vec::new();
    let mut requests = Requests::new();
    for frame in frames {
        match frame {
            Ok(Frame::Request(request)) if edge.is_draining() => {
                works.push(Box::pin(std::future::ready(respond::too_late(&request.id))));
            }
            Ok(Frame::Request(request)) => {
                requests.push(request.id.clone());
                let arrival = arrival(&request);
                works.push(match in_session::begin(edge, session, request, arrival).await {
                    Ok(Begun { work, telling }) => {
                        tellings.push(telling);
                        work
                    }
                    Err(refusal) => Box::pin(std::future::ready(refusal)),
                });
            }
            Ok(Frame::Notification(notification)) => {
                in_session::notified(edge, session, notification).await;
            }
            Ok(Frame::Response(response)) => in_session::answered(session, response).await,
            Err(fault) if fault.answers => in_session::broken_answer(session, &fault).await,
            Err(fault) => works.push(Box::pin(std::future::ready(respond::not_a_message(&fault)))),
        }
    }
    if works.is_empty() {
        return None;
    }
    let begun = Begun { work: Box::pin(together(works)), telling: Telling::together(tellings) };
    Some(BegunBatch { begun, requests })
}

async fn together(works: Vec<Work>) -> Finished {
    let responses: Vec<Vec<u8>> = join_all(works)
        .await
        .into_iter()
        .filter_map(|finished| match finished {
            Finished::Response { text, .. } => Some(text),
            Finished::Withdrawn => None,
        })
        .collect();
    if responses.is_empty() {
        return Finished::Withdrawn;
    }
    let text = [&b"["[..], &responses.join(&b","[..]), b"]"].concat();
    Finished::Response { status: StatusCode::OK, text }
}
