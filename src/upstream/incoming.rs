//! What arrives on a stream that belongs to no call: lines of a child, events of HTTP+SSE or of a standing stream.
//!
//! Always: a message that cannot be read fails the call it names and no other; a peer that sends nothing else is given
//! up. Not here: what the messages mean (`arrivals`).

use std::sync::Arc;

use bytes::Bytes;

use super::link::Link;
use crate::protocol::batch::Messages;
use crate::protocol::frame::FrameFault;
use crate::protocol::json::Limits;

/// Messages that could not be read in a row before the server is taken for broken.
const UNREADABLE: usize = 100;

/// Messages that are taken of one batch. More than that belongs into several.
pub(super) const BATCH: usize = 1000;

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
        for frame in Messages::of(text, BATCH, self.json) {
            match frame {
                Ok(frame) => {
                    self.unreadable = 0;
                    self.link.receive(frame, None);
                }
                Err(fault) => self.skip(fault),
            }
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
