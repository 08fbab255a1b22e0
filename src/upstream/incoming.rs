//! What arrives on a stream that belongs to no call: lines of a child, events of HTTP+SSE or of a standing stream.
//!
//! Always: a message that cannot be read fails the call it names and no other; a peer that sends nothing else is given
//! up. Not here: what the messages mean (`arrivals`).

use std::sync::Arc;

use bytes::Bytes;

use super::error::UpstreamError;
use super::link::{Link, Wire};
use super::oversized::Oversized;
use crate::protocol::frame::{Frame, FrameFault};
use crate::protocol::json::Limits;

/// Messages that could not be read in a row before the server is taken for broken.
const UNREADABLE: usize = 100;

/// Takes messages one by one.
pub(super) struct Incoming<'a> {
    link: &'a Arc<Link>,
    json: Limits,
    unreadable: usize,
}

impl<'a> Incoming<'a> {
    pub(super) fn of(link: &'a Arc<Link>, json: Limits) -> Self {
        Incoming { link, json, unreadable: 0 }
    }

    /// Takes one message, or a batch; the link may have ended afterwards.
    pub(super) fn take(&mut self, text: Bytes) {
        match Frame::parse_batch(text, self.json) {
            Ok(frames) => frames.into_iter().for_each(|frame| match frame {
                Ok(frame) => {
                    self.unreadable = 0;
                    self.link.receive(frame, None);
                }
                Err(fault) => self.skip(fault),
            }),
            Err(fault) => self.skip(fault),
        }
    }

    /// Something came that was too large to be kept; this is how it begins. The call that it answers fails, and no other
    /// (F37): where it does not tell, the only one that can be meant. On a standing stream that need not be any.
    pub(super) fn too_large(&mut self, start: &[u8]) {
        self.link.pings.heard();
        let calls = &self.link.calls;
        let call = match Oversized::of(start) {
            Oversized::AnswerTo(id) => Some(id),
            Oversized::Unknown if !matches!(self.link.wire, Wire::Http(_)) => calls.only_one(),
            Oversized::Unknown | Oversized::NoAnswer => None,
        };
        tracing::warn!(upstream = %self.link.upstream, call, "passed over a message that is too large");
        if let Some(call) = call {
            calls.settle(call, Err(UpstreamError::TooLarge));
        }
    }

    fn skip(&mut self, fault: FrameFault) {
        self.unreadable += 1;
        tracing::warn!(upstream = %self.link.upstream, %fault, "skipped what is not a message");
        if let Some(id) = fault.id.as_ref().and_then(|id| id.as_number()) {
            // The call it belongs to must not wait for its deadline.
            self.link.calls.settle(id, Err(fault.into()));
        }
        if self.unreadable >= UNREADABLE {
            self.link.end("its output is not MCP");
        }
    }
}
