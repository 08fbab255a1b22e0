//! Logs of events over [`Records`]: durable where the records are.
//!
//! Always: events of a stream have growing numbers, from 1 on, that are never used twice as long as anything of the
//! stream is kept; appending is one transaction, and two writers of one stream do not overwrite each other. Not here: the
//! logs of open sessions, which end with the connections they belong to (`event_log`).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::error::{StoreError, WriteError};
use super::records::{Expect, Position, Records, Space, Write};

/// Head of each stream: the number of its newest event and of the oldest one left, and the bytes in between.
const HEADS: Space = Space::new("stream");
const EVENTS: Space = Space::new("stream.event");

/// The number of an event in its stream, from 1 on.
pub type EventId = u64;

/// What one stream may hold; the oldest events make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Events, at least 1.
    pub events: u64,
    /// Bytes of events; the newest stays however long it is.
    pub bytes: u64,
    /// Milliseconds since 1970 from which on the stream is not there, unless something is appended with a later end.
    pub expires: Option<u64>,
}

/// Append-only logs.
pub trait Streams: Send + Sync + std::fmt::Debug {
    /// Appends an event; durable when it resolves. A stream begins with its first event.
    fn append<'a>(
        &'a self,
        stream: &'a str,
        event: Bytes,
        caps: Caps,
    ) -> BoxFuture<'a, Result<EventId, StoreError>>;

    /// Events after `after`, oldest first, at most `limit`.
    fn replay<'a>(
        &'a self,
        stream: &'a str,
        after: EventId,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(EventId, Bytes)>, StoreError>>;

    /// Forgets events up to and including `through`.
    fn trim<'a>(&'a self, stream: &'a str, through: EventId) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// [`Streams`] in records.
#[derive(Debug, Clone)]
pub struct RecordedStreams(Arc<dyn Records>);

/// What the record of a stream's head says.
#[derive(Debug, Clone, Copy, Default)]
struct Head {
    newest: u64,
    /// Of those that are left; larger than `newest`: none is.
    oldest: u64,
    bytes: u64,
}

/// Events that one transaction forgets at most: what is above the caps for longer is forgotten by the next.
const AT_ONCE: u64 = 64;

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Head { newest: number(0)?, oldest: number(8)?, bytes: number(16)? })
    }

    fn written(self) -> Bytes {
        let numbers = [self.newest.to_be_bytes(), self.oldest.to_be_bytes(), self.bytes.to_be_bytes()];
        Bytes::from(numbers.concat())
    }
}

/// Keys of a stream's events: `stream, 0, number`; names of streams hold no zero.
fn event_key(stream: &str, number: u64) -> Vec<u8> {
    [stream.as_bytes(), &[0], &number.to_be_bytes()].concat()
}

impl RecordedStreams {
    /// In these records.
    pub fn new(records: Arc<dyn Records>) -> Self {
        RecordedStreams(records)
    }

    async fn head(&self, stream: &str) -> Result<(Expect, Head), StoreError> {
        let Some(kept) = self.0.get(HEADS, stream.as_bytes()).await? else {
            return Ok((Expect::Absent, Head { newest: 0, oldest: 1, bytes: 0 }));
        };
        let head = Head::read(&kept.value).ok_or(StoreError::Damaged(HEADS))?;
        Ok((Expect::Version(kept.version), head))
    }

    /// Removes the oldest event; a gap (it expired) counts as no bytes.
    async fn forget(&self, stream: &str, head: &mut Head, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        let key = event_key(stream, head.oldest);
        if let Some(kept) = self.0.get(EVENTS, &key).await? {
            head.bytes = head.bytes.saturating_sub(kept.value.len() as u64);
        }
        writes.push(Write::Delete { space: EVENTS, key, expect: Expect::Any });
        head.oldest += 1;
        Ok(())
    }

    /// Does `change` to a stream until nobody else changed it meanwhile.
    async fn append_once(&self, stream: &str, event: &Bytes, caps: Caps) -> Result<EventId, WriteError> {
        let (expect, mut head) = self.head(stream).await?;
        let mut writes = Vec::with_capacity(2);
        head.newest += 1;
        head.bytes += event.len() as u64;
        let mut forgotten = 0;
        while head.oldest < head.newest
            && forgotten < AT_ONCE
            && (head.newest - head.oldest >= caps.events || head.bytes > caps.bytes)
        {
            self.forget(stream, &mut head, &mut writes).await?;
            forgotten += 1;
        }
        let put = |space, key, value, expect| Write::Put {
            space,
            key,
            value,
            owner: None,
            expires: caps.expires,
            expect,
        };
        writes.push(put(HEADS, stream.as_bytes().to_vec(), head.written(), expect));
        writes.push(put(EVENTS, event_key(stream, head.newest), event.clone(), Expect::Any));
        self.0.write(writes).await?;
        Ok(head.newest)
    }

    async fn trim_once(&self, stream: &str, through: EventId) -> Result<bool, WriteError> {
        let (expect, mut head) = self.head(stream).await?;
        let last = through.min(head.newest);
        let Expect::Version(_) = expect else { return Ok(true) };
        if head.oldest > last {
            return Ok(true);
        }
        let expires = self.0.get(HEADS, stream.as_bytes()).await?.and_then(|kept| kept.expires);
        let mut writes = Vec::new();
        while head.oldest <= last && (writes.len() as u64) < AT_ONCE {
            self.forget(stream, &mut head, &mut writes).await?;
        }
        let (key, value) = (stream.as_bytes().to_vec(), head.written());
        writes.push(Write::Put { space: HEADS, key, value, owner: None, expires, expect });
        self.0.write(writes).await?;
        Ok(head.oldest > last)
    }
}

impl Streams for RecordedStreams {
    fn append<'a>(
        &'a self,
        stream: &'a str,
        event: Bytes,
        caps: Caps,
    ) -> BoxFuture<'a, Result<EventId, StoreError>> {
        async move {
            loop {
                match self.append_once(stream, &event, caps).await {
                    Err(WriteError::Conflict(_)) => {}
                    Err(WriteError::Store(error)) => return Err(error),
                    Ok(number) => return Ok(number),
                }
            }
        }
        .boxed()
    }

    fn replay<'a>(
        &'a self,
        stream: &'a str,
        after: EventId,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(EventId, Bytes)>, StoreError>> {
        async move {
            let (_, head) = self.head(stream).await?;
            let mut events = Vec::new();
            let mut from = event_key(stream, after.max(head.oldest.saturating_sub(1)));
            let own = from.len() - 8;
            while events.len() < limit {
                let page = self.0.scan(EVENTS, Position::After(&from), limit - events.len()).await?;
                for (key, kept) in page.items {
                    let number = key.strip_prefix(&from[..own]).and_then(|number| number.try_into().ok());
                    let Some(number) = number.map(u64::from_be_bytes) else { return Ok(events) };
                    events.push((number, kept.value));
                }
                match page.next {
                    Some(next) => from = next,
                    None => break,
                }
                if from.get(..own) != Some(&event_key(stream, 0)[..own]) {
                    break;
                }
            }
            Ok(events)
        }
        .boxed()
    }

    fn trim<'a>(&'a self, stream: &'a str, through: EventId) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            loop {
                match self.trim_once(stream, through).await {
                    Ok(true) => return Ok(()),
                    Ok(false) | Err(WriteError::Conflict(_)) => {}
                    Err(WriteError::Store(error)) => return Err(error),
                }
            }
        }
        .boxed()
    }
}
