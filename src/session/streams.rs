//! The streams of one session: the standing one, and those of requests, open or kept to be resumed.
//!
//! Always: what is kept is bounded in bytes, count and age (S-RESUM-05), and what had to go is remembered by its request
//! for a while, so that its client is told. The locks are held for a few instructions: streams are opened and resumed on
//! whatever thread a request came in. Not here: one stream's order (`stream`), ids (`event_id`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::event_id::{EventIds, Place};
use super::kept::{Cut, Journal, Restored, RestoredStream, StreamBounds, first_of};
use super::ledger::{Ledger, Limits, Totals};
use super::stream::{End, Full, LoggedEvent, Stream, StreamReader, Weight};
use crate::config::bounds::Bounds;
use crate::protocol::era::Revision;
use crate::protocol::frame::RequestId;

/// Streams of requests that are kept after their end.
const ENDED: usize = 64;
/// Requests remembered whose streams are gone.
const GONE: usize = 64;
/// The standing stream's number.
const STANDING: u64 = 0;

/// See the module head.
#[derive(Debug)]
pub struct Streams {
    standing: Arc<Stream>,
    ids: EventIds,
    /// Streams can be resumed since 2025-03-26.
    resumable: bool,
    /// Unread bytes of one stream.
    limit: usize,
    /// How long a stream that has ended is kept.
    age: Duration,
    ledger: Arc<Ledger>,
    /// Where the session is kept, if it is to outlive the gateway.
    journal: Option<Arc<Journal>>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// Oldest first.
    kept: VecDeque<Kept>,
    gone: VecDeque<Gone>,
}

/// The requests of one stream: one, but for batches.
pub type Requests = SmallVec<[RequestId; 1]>;

#[derive(Debug)]
struct Kept {
    stream: Arc<Stream>,
    requests: Requests,
}

/// A stream that is no longer kept.
#[derive(Debug)]
struct Gone {
    stream: u64,
    requests: Requests,
    at: Instant,
}

/// What an event id leads to.
#[derive(Debug)]
pub enum Resumed {
    /// The stream of a request, behind the place that the client has got to.
    Request(StreamReader),
    /// The standing stream, to be read again from behind this event.
    Standing(u64),
    /// A stream that is no longer kept, by its number, and the requests that were to be answered on it.
    Gone(u64, Requests),
}

impl Streams {
    pub(super) fn new(ids: EventIds, revision: Revision, bounds: &Bounds, totals: Arc<Totals>) -> Self {
        let limits = Limits { session: bounds.session_buffer, total: bounds.replay_total };
        let ledger = Ledger::new(limits, totals);
        let resumable = revision >= Revision::V2025_03_26;
        let keep = if resumable { limits.session } else { 0 };
        let (limit, age) = (bounds.stream_buffer, bounds.replay_age);
        let standing = Stream::new(STANDING, limit, keep, Arc::clone(&ledger));
        Streams { standing, ids, resumable, limit, age, ledger, journal: None, table: Mutex::default() }
    }

    /// Kept on the disk, and as they were before, if they were. What was running when the gateway ended is answered.
    pub(super) fn kept(mut self, journal: Arc<Journal>, restored: Restored) -> Self {
        self.journal = Some(journal);
        let Restored { row, mut streams, .. } = restored;
        let generation = row.generation;
        let Some(journal) = self.log() else { return self };
        let was = streams.remove(&STANDING).unwrap_or_default();
        let unanswered = was.questions();
        let standing = journal.old_stream(STANDING, generation, was, self.bounds(), true);
        // Older ones were withdrawn by the gateway before.
        let asked_last = first_of(generation.saturating_sub(1));
        for number in unanswered.into_iter().filter(|number| *number > asked_last) {
            let _ = standing.push(Cut::withdrawal(number).into(), Weight::Lasting);
        }
        self.standing = standing;
        self.lock().last = first_of(generation);
        for (number, was) in streams {
            self.restore(number, generation, was);
        }
        self.tidy();
        self
    }

    fn restore(&self, number: u64, generation: u32, was: RestoredStream) {
        let requests = was.requests();
        if was.is_gone() {
            self.lock().gone.push_back(Gone { stream: number, requests, at: Instant::now() });
            return;
        }
        let Some(journal) = self.log() else { return };
        let (has_ended, questions) = (was.has_ended(), was.questions());
        let stream = journal.old_stream(number, generation, was, self.bounds(), false);
        if !has_ended {
            for number in questions {
                let _ = stream.push(Cut::withdrawal(number).into(), Weight::Lasting);
            }
            for id in &requests {
                let _ = stream.push(Cut::answer(id).into(), Weight::Answer);
            }
            journal.stream_ended(number);
        }
        self.ledger.note_end(&stream);
        stream.finish();
        self.lock().kept.push_back(Kept { stream, requests });
    }

    /// Where the session is kept, if it is to outlive the gateway.
    pub(super) fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Where its streams are; those that cannot be resumed are not.
    fn log(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref().filter(|_| self.resumable)
    }

    fn bounds(&self) -> StreamBounds {
        let keep = if self.resumable { self.ledger.limit() } else { 0 };
        StreamBounds { limit: self.limit, keep, ledger: Arc::clone(&self.ledger) }
    }

    /// With `pipe` as the one stream for everything; nothing on it can be resumed.
    pub(super) fn over(mut self, pipe: Option<Arc<Stream>>) -> Self {
        if let Some(pipe) = pipe {
            self.standing = pipe;
            self.resumable = false;
        }
        self
    }

    /// The stream of what belongs to no request.
    pub fn standing(&self) -> &Arc<Stream> {
        &self.standing
    }

    /// How this session's events are named; `None` where they have no ids.
    pub fn ids(&self) -> Option<&EventIds> {
        self.resumable.then_some(&self.ids)
    }

    /// Opens the stream of these requests.
    pub fn open(&self, requests: Requests) -> Arc<Stream> {
        let mut table = self.lock();
        table.last += 1;
        let stream = match self.log() {
            Some(journal) => journal.new_stream(table.last, &requests, self.bounds()),
            None => {
                let StreamBounds { limit, keep, ledger } = self.bounds();
                Stream::new(table.last, limit, keep, ledger)
            }
        };
        table.kept.push_back(Kept { stream: Arc::clone(&stream), requests });
        stream
    }

    /// Finds what an event id leads to; `None` for one that this session never gave out or has forgotten.
    pub fn resume(&self, id: &str) -> Option<Resumed> {
        let Place { stream, number } = self.ids()?.open(id)?;
        if stream == STANDING {
            if !self.standing.has_reached(number) {
                return None;
            }
            self.standing.tell_lost_since(number);
            return (!self.standing.has_lost_since(number)).then_some(Resumed::Standing(number));
        }
        let table = self.lock();
        if let Some(kept) = table.kept.iter().find(|kept| kept.stream.number() == stream) {
            return kept.stream.has_reached(number).then(|| {
                kept.stream.tell_lost_since(number);
                match kept.stream.has_lost_answer_since(number) {
                    true => Resumed::Gone(stream, kept.requests.clone()),
                    false => Resumed::Request(kept.stream.read_after(Some(number))),
                }
            });
        }
        let gone = table.gone.iter().find(|gone| gone.stream == stream)?;
        Some(Resumed::Gone(stream, gone.requests.clone()))
    }

    /// Puts a message on one of these streams, if it finds a place there and within the budget of the session. An answer
    /// always does.
    pub fn put(&self, stream: &Stream, text: Bytes, weight: Weight) -> Result<u64, Full> {
        self.put_event(stream, LoggedEvent::new(text, weight))
    }

    /// As [`Streams::put`].
    pub fn put_event(&self, stream: &Stream, event: LoggedEvent) -> Result<u64, Full> {
        // What others have put since then may have made this session's part smaller.
        self.keep_within_budget();
        let put = stream.push_event(event);
        self.keep_within_budget();
        put
    }

    /// Lets go of what is over the budget, and of no more than that: of what was read already, on streams that were left
    /// first; then of what merely passes and nobody reads; then of answers that nobody fetched; then of news that nobody
    /// reads, so that unread streams keep nobody else from theirs for good.
    pub fn keep_within_budget(&self) {
        self.ledger.shrink_all();
        if !self.is_over_budget() {
            return;
        }
        let mut table = self.lock();
        for is_left in [true, false] {
            let streams = table.kept.iter().map(|kept| &kept.stream);
            streams.filter(|stream| stream.is_left() == is_left).for_each(|stream| self.shed(stream));
        }
        self.shed(&self.standing);
        if self.is_over_budget() {
            self.standing.forget_unattended();
            table.kept.iter().for_each(|kept| kept.stream.forget_unattended());
        }
        while self.is_over_budget() {
            let Some(at) = table.kept.iter().position(|kept| kept.stream.can_be_let_go()) else { break };
            table.let_go(at, self.log());
        }
        if self.is_over_budget() {
            self.standing.forget_news(self.ledger.excess());
        }
    }

    fn shed(&self, stream: &Stream) {
        let excess = self.ledger.excess();
        if excess > 0 {
            stream.shed(excess);
        }
    }

    fn is_over_budget(&self) -> bool {
        self.ledger.excess() > 0
    }

    /// Nothing more will be put on this stream.
    pub fn ended(&self, stream: &Arc<Stream>) {
        stream.finish();
        if self.resumable {
            self.ledger.note_end(stream);
        }
        if let Some(journal) = self.log() {
            journal.stream_ended(stream.number());
        }
        self.tidy();
    }

    /// Lets go of what nobody will resume any longer. To be called now and then.
    pub fn tidy(&self) {
        let mut table = self.lock();
        if !self.resumable {
            table.kept.retain(|kept| kept.stream.ended_for().is_none());
            return;
        }
        let age = self.age;
        self.standing.forget_older(age);
        let is_old = |kept: &Kept| kept.stream.ended_for().is_some_and(|ended| ended >= age);
        while let Some(at) = table.kept.iter().position(|kept| is_old(kept) && kept.stream.is_left()) {
            table.let_go(at, self.log());
        }
        while table.kept.iter().filter(|kept| kept.stream.is_left()).count() > ENDED {
            let Some(at) = table.kept.iter().position(|kept| kept.stream.is_left()) else { break };
            table.let_go(at, self.log());
        }
        table.gone.retain(|gone| {
            let is_remembered = gone.at.elapsed() < age;
            if let (false, Some(journal)) = (is_remembered, self.log()) {
                journal.stream_forgotten(gone.stream);
            }
            is_remembered
        });
        drop(table);
        self.keep_within_budget();
    }

    /// Whether a client reads the standing one.
    pub fn stands_open(&self) -> bool {
        self.standing.is_attended()
    }

    /// Whether a client reads any of them.
    pub fn are_attended(&self) -> bool {
        self.standing.is_attended() || self.lock().kept.iter().any(|kept| kept.stream.is_attended())
    }

    /// Whether a stream that ended no longer than `age` ago holds what its client has not read.
    pub(super) fn owe_answers(&self, age: Duration) -> bool {
        let is_recent = |stream: &Stream| stream.ended_for().is_some_and(|ended| ended < age);
        let will_be_read = |stream: &Stream| self.resumable || stream.is_attended();
        let table = self.lock();
        table
            .kept
            .iter()
            .map(|kept| &*kept.stream)
            .any(|stream| stream.waiting() > 0 && is_recent(stream) && will_be_read(stream))
    }

    /// The session is over. Streams of requests that still run end with the answer that says so.
    pub(super) fn close(&self) {
        self.standing.end(End::Closed);
        self.lock().kept.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn let_go(&mut self, at: usize, journal: Option<&Arc<Journal>>) {
        let Some(kept) = self.kept.remove(at) else { return };
        kept.stream.forget_if_left();
        let forgotten = if self.gone.len() >= GONE { self.gone.pop_front() } else { None };
        let (stream, requests) = (kept.stream.number(), kept.requests);
        if let Some(journal) = journal {
            journal.stream_gone(stream);
            forgotten.inspect(|gone| journal.stream_forgotten(gone.stream));
        }
        self.gone.push_back(Gone { stream, requests, at: Instant::now() });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::auth::principal::Principal;
    use crate::names::SessionId;
    use crate::session::stream::Next;
    use crate::store::seal::Sealer;

    pub(in crate::session) fn streams(revision: Revision, bounds: Bounds) -> Streams {
        let sealer = Arc::new(Sealer::ephemeral().expect("randomness"));
        let ids = EventIds::new(sealer, SessionId(1), Principal::Local);
        Streams::new(ids, revision, &bounds, Arc::default())
    }

    /// One of two sessions.
    fn one_of_two(totals: &Arc<Totals>, bounds: &Bounds) -> Streams {
        let sealer = Arc::new(Sealer::ephemeral().expect("randomness"));
        let ids = EventIds::new(sealer, SessionId(1), Principal::Local);
        Streams::new(ids, Revision::V2025_11_25, bounds, Arc::clone(totals))
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn read(reader: &mut StreamReader) -> Vec<String> {
        let next = || match reader.next().now_or_never()? {
            Next::Event(_, text) => Some(String::from_utf8_lossy(&text).into_owned()),
            Next::End(_) => None,
        };
        std::iter::from_fn(next).collect()
    }

    fn id(streams: &Streams, stream: u64, number: u64) -> String {
        streams.ids().expect("it has ids").seal(Place { stream, number })
    }

    fn request(number: u64) -> Requests {
        Requests::from_iter([RequestId::number(number)])
    }

    #[test]
    fn s_resum_02_a_place_leads_to_the_rest_of_its_own_stream() {
        let streams = streams(Revision::V2025_11_25, Bounds::default());
        let (one, other) = (streams.open(request(1)), streams.open(request(2)));
        for message in ["a", "b", "c"] {
            one.push(text(message), Weight::Passing).expect("room");
        }
        other.push(text("x"), Weight::Passing).expect("room");
        let mut first = one.read();
        assert_eq!(read(&mut first), ["a", "b", "c"]);
        one.push(text("answer"), Weight::Answer).expect("always room");
        one.finish();

        let Some(Resumed::Request(mut again)) = streams.resume(&id(&streams, one.number(), 2)) else {
            panic!("it is kept");
        };
        assert_eq!(first.next().now_or_never(), Some(Next::End(End::Replaced)));
        assert_eq!(read(&mut again), ["c", "answer"]);
        assert_eq!(again.next().now_or_never(), Some(Next::End(End::Finished)));
        assert!(streams.resume(&id(&streams, one.number(), 9)).is_none(), "it never got that far");
        assert!(streams.resume(&id(&streams, 77, 0)).is_none(), "there is no such stream");
    }

    #[test]
    fn s_https_09_what_nobody_read_waits_for_the_next_reader_and_nothing_is_said_twice() {
        let streams = streams(Revision::V2025_11_25, Bounds::default());
        let standing = streams.standing();
        standing.push(text("a"), Weight::Lasting).expect("room");
        let mut reader = standing.read();
        assert_eq!(read(&mut reader), ["a"]);
        drop(reader);
        standing.push(text("b"), Weight::Lasting).expect("room");
        assert_eq!(read(&mut standing.read()), ["b"]);
        assert!(matches!(streams.resume(&id(&streams, 0, 1)), Some(Resumed::Standing(1))));
        assert_eq!(read(&mut standing.read_after(Some(1))), ["b"]);
    }

    #[test]
    fn s_resum_05_a_result_that_is_no_longer_kept_is_told_by_its_request() {
        let bounds = Bounds { session_buffer: 10, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let stream = streams.open(request(7));
        streams.put(&stream, text("a longer answer"), Weight::Answer).expect("always room");
        stream.finish();
        streams.tidy();
        assert_eq!(streams.ledger.kept(), 0);
        let Some(Resumed::Gone(_, requests)) = streams.resume(&id(&streams, stream.number(), 0)) else {
            panic!("its request is remembered");
        };
        assert_eq!(&requests[..], [RequestId::number(7)]);
    }

    #[test]
    fn s_resum_05_over_its_budget_a_session_takes_no_more_than_answers() {
        let bounds = Bounds { session_buffer: 10, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let stream = streams.open(request(1));
        streams.put(&stream, text("a question"), Weight::Lasting).expect("it fits");
        let asker = Some(CancellationToken::new());
        let news = LoggedEvent::new(text("asks"), Weight::Lasting).asked_by(asker);
        streams.put_event(streams.standing(), news).expect("it was not over before");
        assert!(streams.put(streams.standing(), text("more"), Weight::Lasting).is_err());
        let mut reader = stream.read();
        streams.put(&stream, text("answer"), Weight::Answer).expect("always room");
        assert_eq!(read(&mut reader), ["a question", "answer"], "what is read is not let go before");
        streams.put(streams.standing(), text("more"), Weight::Lasting).expect("there is room again");
    }

    #[test]
    fn s_resum_05_06_what_a_reader_is_about_to_take_costs_nothing_that_is_kept() {
        let bounds = Bounds { session_buffer: 10, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let (left, read_now) = (streams.open(request(1)), streams.open(request(2)));
        streams.put(&left, text("kept"), Weight::Answer).expect("always room");
        streams.ended(&left);
        let mut reader = read_now.read();
        streams.put(&read_now, text("a question of some length"), Weight::Lasting).expect("it is read");
        streams.put(&read_now, text("an answer of some length"), Weight::Answer).expect("always room");
        streams.ended(&read_now);
        assert_eq!(read(&mut reader).len(), 2);
        streams.tidy();
        let Some(Resumed::Request(mut again)) = streams.resume(&id(&streams, left.number(), 0)) else {
            panic!("it is kept");
        };
        assert_eq!(read(&mut again), ["kept"]);
    }

    #[test]
    fn s_resum_05_s_https_17_what_others_leave_unread_refuses_nobody_and_is_theirs_to_let_go() {
        let totals = Totals::of(Arc::new(2.into()));
        let bounds = Bounds { replay_total: 20, ..Bounds::default() };
        let (reads, leaves) = (one_of_two(&totals, &bounds), one_of_two(&totals, &bounds));
        let stream = reads.open(request(1));
        let mut reader = stream.read();
        reads.put(&stream, text("progress 1"), Weight::Passing).expect("room");
        reads.put(&stream, text("progress 2"), Weight::Passing).expect("room");
        assert_eq!(read(&mut reader).len(), 2);
        for _ in 0..5 {
            let _ = leaves.put(leaves.standing(), text("news"), Weight::Lasting);
        }
        assert!(leaves.ledger.kept() <= 10, "its share");
        reads.put(&stream, text("progress 3"), Weight::Passing).expect("it is read");
        reads.put(reads.standing(), text("asks"), Weight::Lasting).expect("what was read gives way");
        assert_eq!(read(&mut reader), ["progress 3"]);
        reads.tidy();
        assert!(reads.ledger.kept() <= 10);
    }

    #[test]
    fn s_trust_03_s_elic_14_a_large_question_that_nobody_reads_is_in_no_other_s_way() {
        let bounds = Bounds { stream_buffer: 10, session_buffer: 60, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let ask = |stream: &Stream, text| {
            let lost = Some(CancellationToken::new());
            streams.put_event(stream, LoggedEvent::new(text, Weight::Lasting).asked_by(lost)).is_ok()
        };
        let large = Bytes::from("a question with a picture".repeat(2));
        assert!(!ask(streams.standing(), large.clone()), "more than half of what is kept");
        assert!(ask(streams.standing(), large.slice(..25)), "it is not too large to be kept");
        assert!(ask(streams.standing(), text("another")), "it takes no other's place");
        let stream = streams.open(request(1));
        let mut reader = stream.read();
        assert!(ask(&stream, large) && ask(&stream, text("another")), "whoever reads gets what there is");
        assert_eq!(read(&mut reader).len(), 2);
    }

    #[test]
    fn s_resum_05_what_alone_is_too_large_to_keep_costs_nothing_else() {
        let bounds = Bounds { session_buffer: 10, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let (small, unread, deserted) =
            (streams.open(request(1)), streams.open(request(2)), streams.open(request(3)));
        streams.put(&small, text("kept"), Weight::Answer).expect("always room");
        streams.ended(&small);
        let reader = deserted.read();
        for stream in [&unread, &deserted] {
            streams.put(stream, text("an answer of some length"), Weight::Answer).expect("always room");
            streams.ended(stream);
        }
        drop(reader);
        streams.tidy();
        assert_eq!(streams.ledger.kept(), 4);
        let gone = |stream: &Stream| {
            matches!(streams.resume(&id(&streams, stream.number(), 0)), Some(Resumed::Gone(..)))
        };
        assert!(!gone(&small) && gone(&unread) && gone(&deserted));
    }

    #[test]
    fn s_resum_02_s_elic_11_a_question_that_can_no_longer_be_given_is_told_to_its_asker() {
        let bounds = Bounds { session_buffer: 12, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let asking = streams.open(request(1));
        let ask = |stream: &Stream, text| {
            let lost = CancellationToken::new();
            let question = LoggedEvent::new(text, Weight::Lasting).asked_by(Some(lost.clone()));
            streams.put_event(stream, question).expect("room");
            lost
        };
        for stream in [&asking, streams.standing()] {
            let mut reader = stream.read();
            let seen = ask(stream, text("first"));
            assert_eq!(read(&mut reader), ["first"]);
            let taken = ask(stream, text("second"));
            assert_eq!(read(&mut reader), ["second"]);
            drop(reader);
            let other = streams.open(request(2));
            let unread = ask(&other, text("3"));
            assert!(!seen.is_cancelled() && !taken.is_cancelled(), "it may have arrived");
            other.finish();
            assert!(other.forget_if_left() && unread.is_cancelled(), "nobody ever got it");
            stream.shed(11);
            let _ = streams.resume(&id(&streams, stream.number(), 2));
            assert!(!taken.is_cancelled(), "it did arrive");
            let resumed = streams.resume(&id(&streams, stream.number(), 1));
            assert!(taken.is_cancelled() && !seen.is_cancelled());
            assert_eq!(resumed.is_some(), stream.number() != STANDING, "a standing stream begins anew");
        }
    }

    #[test]
    fn s_https_17_a_reader_that_keeps_up_is_not_refused_for_what_others_leave_unread() {
        let bounds = Bounds { session_buffer: 10, ..Bounds::default() };
        let streams = streams(Revision::V2025_11_25, bounds);
        let (slow, quick) = (streams.open(request(1)), streams.open(request(2)));
        let (_stalled, mut reader) = (slow.read(), quick.read());
        streams.put(&slow, text("a question of some length"), Weight::Lasting).expect("the first is taken");
        assert!(streams.put(&slow, text("another"), Weight::Lasting).is_err());
        for _ in 0..2 {
            streams.put(&quick, text("progress"), Weight::Passing).expect("nothing waits there");
            streams.put(&quick, text("question"), Weight::Lasting).expect("progress gives way");
            assert!(streams.put(&quick, text("more"), Weight::Lasting).is_err(), "one at a time");
            assert_eq!(read(&mut reader), ["question"]);
        }
    }

    #[test]
    fn s_resum_02_a_stream_that_is_read_is_kept_however_many_end_beside_it() {
        let streams = streams(Revision::V2025_11_25, Bounds::default());
        let stalled = streams.open(request(0));
        let mut reader = stalled.read();
        stalled.push(text("answer"), Weight::Answer).expect("always room");
        stalled.finish();
        for number in 1..200 {
            streams.open(request(number)).finish();
            streams.tidy();
        }
        assert_eq!(read(&mut reader), ["answer"]);
    }

    #[test]
    fn s_sess_03_a_request_that_runs_when_its_session_ends_is_answered_on_its_stream() {
        let streams = streams(Revision::V2025_11_25, Bounds::default());
        let stream = streams.open(request(1));
        let mut reader = stream.read();
        streams.close();
        streams.put(&stream, text("the session ended"), Weight::Answer).expect("it is not over before that");
        stream.finish();
        assert_eq!(read(&mut reader), ["the session ended"]);
        assert_eq!(streams.standing().read().next().now_or_never(), Some(Next::End(End::Closed)));
    }

    #[test]
    fn s_resum_05_streams_are_forgotten_with_age() {
        let after_its_end = |replay_age| {
            let streams = streams(Revision::V2025_11_25, Bounds { replay_age, ..Bounds::default() });
            let stream = streams.open(request(1));
            stream.push(text("answer"), Weight::Answer).expect("always room");
            stream.finish();
            streams.tidy();
            streams.resume(&id(&streams, stream.number(), 0))
        };
        assert!(matches!(after_its_end(Duration::from_secs(60)), Some(Resumed::Request(_))));
        assert!(after_its_end(Duration::ZERO).is_none(), "neither it nor that it was there");
    }

    #[test]
    fn s_resum_01_streams_of_the_first_revision_have_no_ids() {
        let streams = streams(Revision::V2024_11_05, Bounds::default());
        assert!(streams.ids().is_none() && streams.resume("anything").is_none());
        let stream = streams.open(request(1));
        stream.finish();
        streams.tidy();
        assert!(streams.lock().kept.is_empty());
    }
}
