//! Batches: arrays of messages, in sessions of revision 2025-03-26 and nowhere else (S-HTTPS-14, S-BASE-06, S-BASE-07).
//!
//! Always: every request of a batch is answered once, in one array; one that fails does not stop the others.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::events::EventWriter;
use super::exchange::{Exchange, Finished, Work, json};
use super::handshake::{self, Streaming};
use super::http::{Inbound, SESSION_HEADER, VERSION_HEADER, accepted};
use super::respond::{self, INVALID_REQUEST};
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::{Frame, FrameFault, RequestId};

/// Serves a POSTed array.
pub(super) async fn serve(inbound: &Inbound<'_>, body: Bytes) -> HttpResponse {
    let refuse =
        |text: &str| json(respond::error(None, StatusCode::BAD_REQUEST, INVALID_REQUEST, text, None));
    let frames = match Frame::parse_batch(body, inbound.edge.json_limits()) {
        Ok(frames) => frames,
        Err(fault) => return json(respond::not_a_message(&fault)),
    };
    let stateless = inbound
        .value(VERSION_HEADER)
        .and_then(|raw| Revision::parse(std::str::from_utf8(raw).ok()?.trim()))
        .is_some_and(|revision| revision.era() == Era::Stateless);
    if stateless || inbound.value(SESSION_HEADER).is_none() {
        return refuse("this revision has no batches");
    }
    let session = match handshake::session(inbound, None) {
        Ok(session) => session,
        Err(refusal) => return json(refusal),
    };
    if session.revision() != Revision::V2025_03_26 {
        return refuse("this revision has no batches");
    }
    if frames.is_empty() {
        return refuse("a batch holds at least one message");
    }
    if frames.len() > inbound.edge.settings.bounds.batch_items {
        return refuse("the batch is too long");
    }
    if let Some(why) = unlawful(&frames) {
        return refuse(why);
    }
    let mut works: Vec<Work> = Vec::new();
    for frame in frames {
        match frame {
            Ok(Frame::Request(request)) => {
                let prepared = handshake::prepare(inbound, session.clone(), request, Streaming::None).await;
                works.push(match prepared {
                    Ok((_, work)) => work,
                    Err(refusal) => Box::pin(std::future::ready(refusal)),
                });
            }
            Ok(Frame::Notification(notification)) => {
                handshake::notified(inbound.edge, &session, notification).await;
            }
            Ok(Frame::Response(response)) => {
                if let Some(number) = response.id.as_ref().and_then(RequestId::as_number) {
                    session.answered(number, response.answer).await;
                }
            }
            Err(fault) => works.push(Box::pin(std::future::ready(respond::not_a_message(&fault)))),
        }
    }
    if works.is_empty() {
        return accepted();
    }
    together(inbound, session.revision(), works).await
}

/// A batch holds requests and notifications, or responses; the handshake has no place in one.
fn unlawful(frames: &[Result<Frame, FrameFault>]) -> Option<&'static str> {
    let is_response = |frame: &Result<Frame, FrameFault>| matches!(frame, Ok(Frame::Response(_)));
    let initializes = |frame: &Result<Frame, FrameFault>| matches!(frame, Ok(Frame::Request(request)) if &*request.method == "initialize");
    if frames.iter().any(initializes) {
        return Some("initialize cannot be part of a batch");
    }
    let responses = frames.iter().filter(|frame| is_response(frame)).count();
    (responses > 0 && responses < frames.len()).then_some("a batch holds requests or responses, not both")
}

async fn together(inbound: &Inbound<'_>, revision: Revision, works: Vec<Work>) -> HttpResponse {
    let bounds = &inbound.edge.settings.bounds;
    let (_, events) = mpsc::channel(1);
    let exchange = Exchange {
        events,
        writer: EventWriter::new(revision, None, None),
        accepts: inbound.accepts,
        stream_after: bounds.stream_after,
        keep_alive: bounds.keep_alive,
        outlives_client: true,
    };
    let work: Work = Box::pin(async move {
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
    });
    exchange.run(work).await
}
