//! What arrives on a stream that belongs to no call: lines of a child, events of HTTP+SSE or of a standing stream; and
//! what becomes of anything that cannot be read, on whatever stream.
//!
//! Always: what cannot be read fails the call that it should have answered and no other; a question among it is answered; a
//! peer that sends nothing else is given up; the log says so in few words. Not here: what the messages mean (`arrivals`).

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::error::UpstreamError;
use super::link::{Link, Wire};
use super::oversized::Oversized;
use crate::names::UpstreamName;
use crate::protocol::batch::Messages;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::frame::{ErrorObject, FrameFault};
use crate::protocol::json::Limits;
use crate::protocol::message;

/// Messages that could not be read in a row before the server is taken for broken.
const UNREADABLE: usize = 100;

/// Messages that are taken of one batch. More than that belongs into several.
pub(super) const BATCH: usize = 1000;

/// Of these that many are logged in a second, and at once after a quiet time; the others are counted.
const LOGGED_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).expect("not zero");

/// Takes messages one by one.
pub(super) struct Incoming<'a> {
    link: &'a Arc<Link>,
    json: Limits,
}

impl<'a> Incoming<'a> {
    pub(super) fn of(link: &'a Arc<Link>, json: Limits) -> Self {
        Incoming { link, json }
    }

    /// Takes one message, or a batch; the link may have ended afterwards.
    pub(super) fn take(&mut self, text: Bytes) {
        for message in Messages::of(text, BATCH, self.json) {
            match message {
                Ok(frame) => {
                    self.link.unreadable.interrupted();
                    self.link.receive(frame, None);
                }
                Err(fault) => {
                    if self.link.skip(fault).is_break() {
                        return;
                    }
                }
            }
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
}

/// What one link sent that could not be read.
#[derive(Debug)]
pub(super) struct Unreadable {
    in_a_row: AtomicUsize,
    /// Since the last that was logged.
    unsaid: AtomicUsize,
    rate: DefaultDirectRateLimiter,
}

impl Default for Unreadable {
    fn default() -> Self {
        let rate = RateLimiter::direct(Quota::per_second(LOGGED_PER_SECOND));
        Unreadable { in_a_row: AtomicUsize::new(0), unsaid: AtomicUsize::new(0), rate }
    }
}

impl Unreadable {
    /// Something came that could be read.
    pub(super) fn interrupted(&self) {
        // Almost always there is nothing to write, which other threads would notice.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Counts one more; gives how many it is in a row.
    fn count(&self, upstream: &UpstreamName, fault: &FrameFault) -> usize {
        if self.rate.check().is_ok() {
            let others = self.unsaid.swap(0, Ordering::Relaxed);
            tracing::warn!(%upstream, %fault, others, "skipped what is not a message");
        } else {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
        }
        self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Link {
    /// Takes what cannot be read as a message. Breaks when nothing more is to be read.
    pub(super) fn skip(self: &Arc<Self>, fault: FrameFault) -> ControlFlow<()> {
        let in_a_row = self.unreadable.count(&self.upstream, &fault);
        match (&fault.id, fault.asks) {
            // The id is the upstream's own, whichever call of ours has the same.
            (Some(id), true) => {
                let error = ErrorObject::own(INVALID_REQUEST, &fault.to_string());
                self.send(message::error(id, error.object.as_bytes()));
            }
            // The call it belongs to must not wait for its deadline.
            (Some(id), false) => {
                if let Some(id) = id.as_number() {
                    self.calls.settle(id, Err(fault.into()));
                }
            }
            (None, _) => {}
        }
        if in_a_row < UNREADABLE {
            return ControlFlow::Continue(());
        }
        self.end("its output is not MCP");
        ControlFlow::Break(())
    }
}
