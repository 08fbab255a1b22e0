//! A stream that outlives the gateway: a new one, and one as the gateway before this one left it.

use std::sync::Arc;

use super::journal::{Journal, Mark};
use super::log::KeptLog;
use super::restored::RestoredStream;
use super::rows::first_of;
use crate::protocol::code::INTERNAL_ERROR;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::RequestId;
use crate::protocol::json::quote;
use crate::protocol::message;
use crate::session::backlog::Backlog;
use crate::session::ledger::Ledger;
use crate::session::stream::Stream;
use crate::store::event_log::MemoryLog;

/// Unread bytes, bytes that are kept when they were read, and who counts both.
pub(in crate::session) struct StreamBounds {
    pub(in crate::session) limit: usize,
    pub(in crate::session) keep: usize,
    pub(in crate::session) ledger: Arc<Ledger>,
}

impl Journal {
    /// A new stream for these requests.
    pub(in crate::session) fn new_stream(
        self: &Arc<Self>,
        number: u64,
        requests: &[RequestId],
        bounds: StreamBounds,
    ) -> Arc<Stream> {
        let mark = Arc::<Mark>::default();
        let log = KeptLog::of(MemoryLog::default(), number, self, &mark);
        let backlog = Backlog::of(Box::new(log), 0, 0, 0);
        let StreamBounds { limit, keep, ledger } = bounds;
        let stream = Stream::kept(number, (limit, keep), ledger, backlog, Arc::clone(&mark));
        self.opened(&stream, &mark, requests);
        stream
    }

    /// A stream that was there before, or the standing one.
    pub(in crate::session) fn old_stream(
        self: &Arc<Self>,
        number: u64,
        generation: u32,
        mut was: RestoredStream,
        bounds: StreamBounds,
        is_standing: bool,
    ) -> Arc<Stream> {
        let memory = MemoryLog::of(first_of(generation), was.events());
        let mark = Mark::up_to(first_of(generation));
        let mut log = KeptLog::of(memory, number, self, &mark);
        if is_standing {
            log = log.noting_taken();
        }
        let row = was.row;
        let backlog = Backlog::of(Box::new(log), row.taken, row.lost, row.lost_answer);
        let StreamBounds { limit, keep, ledger } = bounds;
        let stream = Stream::kept(number, (limit, keep), ledger, backlog, Arc::clone(&mark));
        self.track(&stream, &mark, row);
        stream
    }
}

/// What the clients of a gateway that ended without a word are told by the next one.
pub(in crate::session) struct Cut;

impl Cut {
    /// The answer of a request that was running: nobody knows whether it did what it should.
    pub(in crate::session) fn answer(id: &RequestId) -> Vec<u8> {
        let record = FailureRecord::of_gateway(Reason::GatewayRestarted, false, None, Ran::Unknown).json();
        let text =
            quote("the gateway was restarted while this request was running; it may have been carried out");
        message::error(
            id,
            format!(r#"{{"code":{INTERNAL_ERROR},"message":{text},"data":{record}}}"#).as_bytes(),
        )
    }

    /// Nobody waits for the answer to this question any longer.
    pub(in crate::session) fn withdrawal(number: u64) -> Vec<u8> {
        let params = format!(r#"{{"requestId":{number},"reason":"the gateway was restarted"}}"#);
        message::notification("notifications/cancelled", params.as_bytes())
    }
}
