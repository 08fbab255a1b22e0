//! One session, its gateway, and the next one, without either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::*;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::SessionId;
use crate::protocol::era::Revision;
use crate::protocol::frame::RequestId;
use crate::session::event_id::{EventIds, Place};
use crate::session::stream::{End, Next, Stream, StreamReader, Weight};
use crate::session::streams::{Requests, Resumed, Streams};
use crate::store::clock::Clock;
use crate::store::error::{StoreError, WriteError};
use crate::store::memory::Memory;
use crate::store::records::{Kept, Page, Position, Records, Space, Write};
use crate::store::seal::{Sealer, SealingKey};

const SESSION: SessionId = SessionId(7);

/// Records that write when they are let, or not at all.
#[derive(Debug)]
struct Slow {
    memory: Memory,
    writes: Semaphore,
    is_full: AtomicBool,
}

impl Slow {
    fn new(writes: usize) -> Arc<Self> {
        let memory = Memory::new(Clock::system());
        Arc::new(Slow { memory, writes: Semaphore::new(writes), is_full: AtomicBool::new(false) })
    }

    async fn count(&self) -> usize {
        let mut count = 0;
        for space in [rows::SESSIONS, rows::STREAMS, rows::EVENTS] {
            count += self.memory.scan(space, Position::First, 1000).await.expect("memory").items.len();
        }
        count
    }
}

impl Records for Slow {
    fn get<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        self.memory.get(space, key)
    }

    fn write(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<u64>, WriteError>> {
        async move {
            if self.is_full.load(Ordering::Relaxed) {
                return Err(StoreError::Full.into());
            }
            self.writes.acquire().await.expect("nobody closes it").forget();
            self.memory.write(writes).await
        }
        .boxed()
    }

    fn take<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        self.memory.take(space, key)
    }

    fn list<'a>(
        &'a self,
        space: Space,
        owner: &'a str,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.memory.list(space, owner, position, limit)
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.memory.scan(space, position, limit)
    }

    fn purge(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.memory.purge(limit)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.memory.close()
    }
}

/// One gateway after the other on the same records; the one before is forgotten as a killed one is.
struct Gateway {
    keeper: Arc<Keeper>,
    streams: Streams,
    runs: tokio::task::JoinHandle<()>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.runs.abort();
    }
}

impl Gateway {
    fn start(records: &Arc<Slow>) -> (Arc<Keeper>, tokio::task::JoinHandle<()>) {
        let records: Arc<dyn Records> = Arc::<Slow>::clone(records);
        let keeper = Keeper::new(records, Clock::system(), Duration::from_secs(60));
        let runs = tokio::spawn(Arc::clone(&keeper).run());
        (keeper, runs)
    }

    fn first(records: &Arc<Slow>, bounds: &Bounds) -> Gateway {
        let (keeper, runs) = Gateway::start(records);
        let row = SessionRow {
            generation: 0,
            principal: "local".into(),
            revision: "2025-11-25".into(),
            profile: None,
            client: "story".into(),
            capabilities: "{}".into(),
            has_tasks: false,
            is_ready: true,
            level: None,
            subscriptions: BTreeMap::new(),
        };
        let restored = Restored { session: SESSION, row, streams: BTreeMap::new() };
        Gateway { streams: streams(&keeper, restored, bounds), keeper, runs }
    }

    async fn next(self, records: &Arc<Slow>, bounds: &Bounds) -> Option<Gateway> {
        drop(self);
        let (keeper, runs) = Gateway::start(records);
        let restored = keeper.read().await.expect("memory reads").pop();
        let Some(restored) = restored else {
            runs.abort();
            return None;
        };
        let gateway = Gateway { streams: streams(&keeper, restored, bounds), keeper, runs };
        gateway.written().await;
        Some(gateway)
    }

    async fn written(&self) {
        self.streams.journal().expect("it has one").until_written().await;
    }

    fn open(&self, number: u64) -> Arc<Stream> {
        self.streams.open(Requests::from_iter([RequestId::number(number)]))
    }

    fn put(&self, stream: &Stream, text: &'static str, weight: Weight) {
        self.streams.put(stream, Bytes::from_static(text.as_bytes()), weight).expect("room");
    }

    fn resume(&self, stream: u64, number: u64) -> Option<Resumed> {
        let id = self.streams.ids().expect("it has ids").seal(Place { stream, number });
        self.streams.resume(&id)
    }
}

fn streams(keeper: &Arc<Keeper>, restored: Restored, bounds: &Bounds) -> Streams {
    let sealer = Arc::new(Sealer::new(&[SealingKey::new([1; 32])]).expect("a key"));
    let journal = keeper.journal(SESSION, restored.row.clone());
    journal.change(|_| {});
    let ids = EventIds::new(sealer, SESSION, Principal::Local);
    Streams::new(ids, Revision::V2025_11_25, bounds, Arc::default()).kept(journal, restored)
}

async fn settle() {
    // Everybody who can go on does.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn read(reader: &mut StreamReader) -> Vec<String> {
    let next = || match reader.next().now_or_never()? {
        Next::Event(_, text) => Some(String::from_utf8_lossy(&text).into_owned()),
        Next::End(_) => None,
    };
    std::iter::from_fn(next).collect()
}

fn is_shown(reader: &StreamReader) -> bool {
    std::future::poll_fn(|context| reader.poll_shown(context)).now_or_never().is_some()
}

#[tokio::test]
async fn f26_nothing_is_shown_before_it_is_written() {
    let (records, bounds) = (Slow::new(1), Bounds::default());
    let gateway = Gateway::first(&records, &bounds);
    gateway.written().await;
    let stream = gateway.open(1);
    gateway.put(&stream, "progress", Weight::Passing);
    let mut reader = stream.read();
    settle().await;
    assert!(!is_shown(&reader) && read(&mut reader).is_empty());
    // This much is on its way to the disk; what comes now is written after it.
    gateway.put(&stream, "answer", Weight::Answer);
    gateway.streams.ended(&stream);
    records.writes.add_permits(1);
    settle().await;
    assert!(is_shown(&reader));
    assert_eq!(read(&mut reader), ["progress"]);
    assert_eq!(reader.next().now_or_never(), None, "it has not ended for its reader");
    records.writes.add_permits(1);
    settle().await;
    assert_eq!(read(&mut reader), ["answer"]);
    assert_eq!(reader.next().now_or_never(), Some(Next::End(End::Finished)));
}

#[tokio::test]
async fn f26_f48_a_session_that_cannot_be_written_goes_on_and_ends_with_its_gateway() {
    let (records, bounds) = (Slow::new(1000), Bounds::default());
    let gateway = Gateway::first(&records, &bounds);
    let before = gateway.open(1);
    gateway.put(&before, "before", Weight::Answer);
    gateway.written().await;
    records.is_full.store(true, Ordering::Relaxed);
    let stream = gateway.open(2);
    gateway.put(&stream, "answer", Weight::Answer);
    gateway.streams.ended(&stream);
    gateway.written().await;
    let mut reader = stream.read();
    assert!(is_shown(&reader));
    assert_eq!(read(&mut reader), ["answer"]);
    let Some(Resumed::Request(mut again)) = gateway.resume(2, 0) else { panic!("it is in memory") };
    assert_eq!(read(&mut again), ["answer"]);
    assert!(records.count().await > 0);
    records.is_full.store(false, Ordering::Relaxed);
    let removed = async {
        while records.count().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let removed = tokio::time::timeout(Duration::from_secs(20), removed).await;
    removed.expect("what would not be whole is removed when there is room for that");
    assert!(gateway.next(&records, &bounds).await.is_none());
}

#[tokio::test]
async fn s_resum_05_what_was_lost_before_a_restart_is_known_to_be_lost_after_it() {
    let (records, bounds) = (Slow::new(1000), Bounds { session_buffer: 30, ..Bounds::default() });
    let gateway = Gateway::first(&records, &bounds);
    let lost = gateway.open(1);
    gateway.put(&lost, "an answer that has to go", Weight::Answer);
    gateway.streams.ended(&lost);
    let kept = gateway.open(2);
    gateway.put(&kept, "an answer that stays", Weight::Answer);
    gateway.streams.ended(&kept);
    gateway.put(gateway.streams.standing(), "news", Weight::Lasting);
    gateway.written().await;
    let gateway = gateway.next(&records, &bounds).await.expect("it was kept");
    let Some(Resumed::Gone(1, requests)) = gateway.resume(1, 0) else { panic!("its request is remembered") };
    assert_eq!(&requests[..], [RequestId::number(1)]);
    let Some(Resumed::Request(mut reader)) = gateway.resume(2, 0) else { panic!("it is kept") };
    assert_eq!(read(&mut reader), ["an answer that stays"]);
    assert_eq!(read(&mut gateway.streams.standing().read()), ["news"]);
    gateway.streams.standing().forget_older(Duration::ZERO);
    gateway.written().await;
    let gateway = gateway.next(&records, &bounds).await.expect("it was kept");
    assert!(gateway.resume(0, 0).is_none(), "that news is gone");
    assert!(matches!(gateway.resume(0, 1), Some(Resumed::Standing(1))), "nothing came after it");
}

#[tokio::test]
async fn s_https_09_what_was_taken_before_a_restart_is_not_said_again_to_who_names_no_place() {
    let (records, bounds) = (Slow::new(1000), Bounds::default());
    let gateway = Gateway::first(&records, &bounds);
    for text in ["one", "two", "three"] {
        gateway.put(gateway.streams.standing(), text, Weight::Lasting);
    }
    gateway.written().await;
    let mut reader = gateway.streams.standing().read();
    assert!(matches!(reader.next().await, Next::Event(1, _)));
    gateway.written().await;
    let gateway = gateway.next(&records, &bounds).await.expect("it was kept");
    assert_eq!(read(&mut gateway.streams.standing().read()), ["two", "three"]);
    // Whoever names a place has had what is before it, and no more.
    let gateway = gateway.next(&records, &bounds).await.expect("it was kept");
    assert_eq!(read(&mut gateway.streams.standing().read_after(Some(1))), ["two", "three"]);
    gateway.put(gateway.streams.standing(), "four", Weight::Lasting);
    gateway.written().await;
    let mut reader = gateway.streams.standing().read_after(Some(2));
    assert_eq!(read(&mut reader), ["three", "four"]);
    let number = reader.position();
    assert!(number > first_of(2), "no number is used again: {number}");
    assert_eq!(gateway.streams.standing().waiting(), 0);
}

#[tokio::test]
async fn f26_a_request_that_ran_is_answered_once_however_often_the_gateway_ends() {
    let (records, bounds) = (Slow::new(1000), Bounds::default());
    let mut gateway = Gateway::first(&records, &bounds);
    let stream = gateway.open(5);
    gateway.put(&stream, "progress", Weight::Passing);
    let withdrawn = gateway.open(6);
    gateway.streams.ended(&withdrawn);
    gateway.written().await;
    let mut told = Vec::new();
    for _ in 0..3 {
        gateway = gateway.next(&records, &bounds).await.expect("it was kept");
        let Some(Resumed::Request(mut reader)) = gateway.resume(1, 1) else { panic!("it is kept") };
        let answers = read(&mut reader);
        assert_eq!(answers.len(), 1, "{answers:?}");
        told.extend(answers);
        assert_eq!(reader.next().now_or_never(), Some(Next::End(End::Finished)));
        let Some(Resumed::Request(mut reader)) = gateway.resume(2, 0) else { panic!("it is kept") };
        assert!(read(&mut reader).is_empty(), "nobody waits for an answer");
        assert_ne!(gateway.open(7).number(), 2, "no number is used again");
        gateway.written().await;
    }
    assert!(told[0].contains(r#""id":5"#) && told[0].contains("gateway_restarted"), "{told:?}");
    assert!(told.iter().all(|answer| *answer == told[0]));
}

#[tokio::test]
async fn f26_of_a_session_that_ended_nothing_is_left() {
    let (records, bounds) = (Slow::new(1000), Bounds::default());
    let gateway = Gateway::first(&records, &bounds);
    for number in 1..200 {
        let stream = gateway.open(number);
        gateway.put(&stream, "answer", Weight::Answer);
        gateway.streams.ended(&stream);
    }
    gateway.written().await;
    assert!(records.count().await > 64, "there is something to be removed");
    let last = gateway.open(999);
    let journal = Arc::clone(gateway.streams.journal().expect("it has one"));
    journal.end();
    journal.until_written().await;
    gateway.put(&last, "the session ended", Weight::Answer);
    assert_eq!(read(&mut last.read()), ["the session ended"], "who reads is told at once");
    // Killed before the rest was removed: the next one does it.
    let keeper = Arc::clone(&gateway.keeper);
    assert!(gateway.next(&records, &bounds).await.is_none());
    drop(keeper);
    assert_eq!(records.count().await, 0);
}
