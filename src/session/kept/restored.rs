//! What is read at the start: sessions as the gateway before this one left them.
//!
//! Always: what belongs to no session that is there is removed; what does not verify is lost, and known to be lost where
//! that can be told. Not here: what is made of it (`streams`, `table`).

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::journal::delete;
use super::keeper::Keeper;
use super::log::question_number;
use super::rows::{
    EVENTS, Kind, SESSIONS, STREAMS, SessionRow, StreamRow, read_event_key, read_session_key, read_stream_key,
};
use crate::names::SessionId;
use crate::protocol::frame::RequestId;
use crate::session::streams::Requests;
use crate::store::error::StoreError;
use crate::store::event_log::LoggedEvent;
use crate::store::records::{Kept, Position, Space, Write};

/// Records read at once.
const PAGE: usize = 128;
/// Bound of the removals at the start; the rest follows at the next one.
const REMOVED: usize = 100_000;

/// A session.
#[derive(Debug)]
pub(in crate::session) struct Restored {
    pub(in crate::session) session: SessionId,
    pub(in crate::session) row: SessionRow,
    pub(in crate::session) streams: BTreeMap<u64, RestoredStream>,
}

/// A stream of it.
#[derive(Debug, Default)]
pub(in crate::session) struct RestoredStream {
    pub(super) row: StreamRow,
    events: Vec<(u64, Kind, Bytes)>,
}

impl RestoredStream {
    /// The requests that it is for.
    pub(in crate::session) fn requests(&self) -> Requests {
        let ids = self.row.requests.iter();
        ids.filter_map(|id| RequestId::from_raw(Bytes::copy_from_slice(id.as_bytes()))).collect()
    }

    /// Whether only its requests are remembered.
    pub(in crate::session) fn is_gone(&self) -> bool {
        self.row.is_gone
    }

    /// Whether everything was said on it.
    pub(in crate::session) fn has_ended(&self) -> bool {
        let has_answer = self.events.iter().any(|(_, kind, _)| *kind == Kind::Answer);
        self.row.has_ended || has_answer || self.row.lost_answer > 0
    }

    /// Numbers of the questions on it.
    pub(in crate::session) fn questions(&self) -> Vec<u64> {
        let questions = self.events.iter().filter(|(_, kind, _)| *kind == Kind::Question);
        questions.filter_map(|(_, _, text)| question_number(text)).collect()
    }

    /// Its events.
    pub(super) fn events(&mut self) -> impl Iterator<Item = (u64, LoggedEvent)> + use<> {
        let events = std::mem::take(&mut self.events);
        events.into_iter().map(|(number, kind, text)| {
            // Whoever asked is gone; that it was a question is part of its key.
            let asker = (kind == Kind::Question).then(CancellationToken::new);
            (number, LoggedEvent::new(text, kind.weight()).asked_by(asker))
        })
    }
}

impl Keeper {
    /// Reads what is kept, each session for the next generation.
    pub(in crate::session) async fn read(&self) -> Result<Vec<Restored>, StoreError> {
        let mut reading = Reading::default();
        self.each(SESSIONS, |key, kept| reading.session(self, key, kept)).await?;
        self.each(STREAMS, |key, kept| reading.stream(key, kept)).await?;
        self.each(EVENTS, |key, kept| reading.event(key, kept)).await?;
        for removed in reading.stray.chunks(PAGE) {
            if let Err(why) = self.records.write(removed.to_vec()).await {
                tracing::debug!(%why, "what is left of sessions that ended stays for now");
                break;
            }
        }
        Ok(reading.sessions.into_values().collect())
    }

    /// Every record of a space in order; `None` for one that does not verify.
    async fn each(
        &self,
        space: Space,
        mut each: impl FnMut(Vec<u8>, Option<Kept>) + Send,
    ) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let position = after.as_deref().map_or(Position::First, Position::After);
            let page = self.records.scan(space, position, PAGE).await?;
            page.damaged.into_iter().for_each(|key| each(key, None));
            page.items.into_iter().for_each(|(key, kept)| each(key, Some(kept)));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

#[derive(Default)]
struct Reading {
    sessions: BTreeMap<u128, Restored>,
    stray: Vec<Write>,
}

impl Reading {
    fn session(&mut self, keeper: &Keeper, key: Vec<u8>, kept: Option<Kept>) {
        let Some(session) = read_session_key(&key) else { return };
        let row = kept.and_then(|kept| serde_json::from_slice::<SessionRow>(&kept.value).ok());
        let Some(mut row) = row else {
            tracing::warn!(?session, "what is kept of a session cannot be read: it has ended");
            keeper.remove(session);
            return;
        };
        row.generation += 1;
        self.sessions.insert(session.0, Restored { session, row, streams: BTreeMap::new() });
    }

    fn stream(&mut self, key: Vec<u8>, kept: Option<Kept>) {
        let Some((session, stream)) = read_stream_key(&key) else { return };
        let row = kept.and_then(|kept| serde_json::from_slice::<StreamRow>(&kept.value).ok());
        match (self.sessions.get_mut(&session.0), row) {
            (Some(restored), Some(row)) => {
                restored.streams.insert(stream, RestoredStream { row, events: Vec::new() });
            }
            _ => self.stray(STREAMS, key),
        }
    }

    fn event(&mut self, key: Vec<u8>, kept: Option<Kept>) {
        let Some((session, stream, number, kind)) = read_event_key(&key) else { return };
        let streams = self.sessions.get_mut(&session.0).map(|restored| &mut restored.streams);
        let restored = match streams {
            // The standing stream has a row when there is something to say of it.
            Some(streams) if stream == 0 => Some(streams.entry(0).or_default()),
            Some(streams) => streams.get_mut(&stream).filter(|stream| !stream.row.is_gone),
            None => None,
        };
        match (restored, kept) {
            (Some(restored), Some(kept)) => restored.events.push((number, kind, kept.value)),
            (Some(restored), None) => {
                restored.row.lose(number, kind);
                self.stray(EVENTS, key);
            }
            (None, _) => self.stray(EVENTS, key),
        }
    }

    fn stray(&mut self, space: Space, key: Vec<u8>) {
        if self.stray.len() < REMOVED {
            self.stray.push(delete(space, key));
        }
    }
}
