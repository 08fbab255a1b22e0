//! All sessions by id.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dashmap::DashMap;

use super::event_id::EventIds;
use super::handle::{OnEnd, Opening, PublicUris, SessionHandle, SessionStatus};
use super::kept::{Journal, Keeper, Restored, SessionRow};
use super::ledger::Totals;
use super::messages::ListsChanged;
use super::streams::Streams;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::{ProfileName, SessionId};
use crate::store::error::StoreError;
use crate::store::seal::Sealer;

/// The table gives clones, never guards.
#[derive(Debug)]
pub struct SessionTable {
    sessions: DashMap<SessionId, SessionHandle>,
    count: Arc<AtomicUsize>,
    /// What is kept on the streams of all sessions.
    totals: Arc<Totals>,
    sealer: Arc<Sealer>,
    /// Who keeps sessions that outlive the gateway.
    keeper: Option<Arc<Keeper>>,
    bounds: Bounds,
}

/// Why no session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// `bounds.sessions` are open.
    #[error("too many sessions")]
    TooMany,
    /// The system gave no random bits.
    #[error("no randomness")]
    NoRandomness,
}

/// A seat among the sessions, for as long as it is held.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SessionTable {
    /// Empty. `sealer` makes the event ids; `keeper` keeps the sessions, if they are to outlive the gateway.
    pub fn new(bounds: Bounds, sealer: Arc<Sealer>, keeper: Option<Arc<Keeper>>) -> Arc<Self> {
        let count = Arc::<AtomicUsize>::default();
        let totals = Totals::of(Arc::clone(&count));
        Arc::new(SessionTable { sessions: DashMap::new(), count, totals, sealer, keeper, bounds })
    }

    /// A seat for a client whose transport keeps it for the session too.
    pub fn reserve(&self) -> Result<Seat, NotOpened> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.bounds.sessions {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return Err(NotOpened::TooMany);
        }
        Ok(Seat(Arc::clone(&self.count)))
    }

    /// Opens a session on this thread; `released` is called once when it has ended.
    pub fn open(self: &Arc<Self>, opening: Opening, released: OnEnd) -> Result<SessionHandle, NotOpened> {
        // Who holds a pipe holds its session's seat.
        let seat = if opening.pipe.is_none() { Some(self.reserve()?) } else { None };
        let id = SessionId(random_bits()?);
        let keeper = self.keeper.as_ref().filter(|_| opening.pipe.is_none());
        let kept = keeper.map(|keeper| {
            let row = opening.row();
            let journal = keeper.journal(id, row.clone());
            journal.change(|_| ());
            (journal, Restored { session: id, row, streams: BTreeMap::new() })
        });
        Ok(self.start(id, opening, released, seat, kept, false))
    }

    /// Has the sessions that the gateway before this one kept go on, on this thread, and gives them. `opening` says how,
    /// from what is kept; `None` ends one.
    pub async fn restore(
        self: &Arc<Self>,
        opening: impl Fn(&SessionRow) -> Option<(PublicUris, OnEnd)>,
    ) -> Result<Vec<SessionHandle>, StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(Vec::new()) };
        let mut restored = Vec::new();
        for kept in keeper.read().await? {
            let Some((public_uris, released)) = opening(&kept.row) else {
                keeper.remove(kept.session);
                continue;
            };
            let (Some(opening), Ok(seat)) = (Opening::of(&kept.row, public_uris), self.reserve()) else {
                keeper.remove(kept.session);
                continue;
            };
            let journal = keeper.journal(kept.session, kept.row.clone());
            // Which generation it is in is written before anything is numbered for it.
            journal.change(|_| ());
            let kept_before = Some((journal, kept));
            let id = kept_before.as_ref().map(|(_, kept)| kept.session).expect("it was put there");
            restored.push(self.start(id, opening, released, Some(seat), kept_before, true));
        }
        for handle in &restored {
            handle.until_kept().await;
        }
        Ok(restored)
    }

    fn start(
        self: &Arc<Self>,
        id: SessionId,
        mut opening: Opening,
        released: OnEnd,
        seat: Option<Seat>,
        kept: Option<(Arc<Journal>, Restored)>,
        goes_on: bool,
    ) -> SessionHandle {
        // Its seat is free when it has ended.
        let seat = Mutex::new(seat);
        let table = Arc::downgrade(self);
        let on_end: OnEnd = Arc::new(move |id| {
            if let Some(table) = table.upgrade() {
                table.sessions.remove(&id);
            }
            drop(seat.lock().unwrap_or_else(PoisonError::into_inner).take());
            released(id);
        });
        let ids = EventIds::new(Arc::clone(&self.sealer), id, Principal::Local);
        let streams = Streams::new(ids, opening.revision, &self.bounds, Arc::clone(&self.totals));
        let mut streams = streams.over(opening.pipe.take());
        let mut before = None;
        if let Some((journal, restored)) = kept {
            before = goes_on.then(|| restored.row.clone());
            streams = streams.kept(journal, restored);
        }
        let streams = Arc::new(streams);
        let handle = SessionHandle::start(id, opening, streams, &self.bounds, before.as_ref(), on_end);
        self.sessions.insert(id, handle.clone());
        handle
    }

    /// The living session of that id at that endpoint; a session of one endpoint is unknown at another (S-HTTPS-19).
    pub fn find(&self, text: &[u8], profile: Option<&ProfileName>) -> Option<SessionHandle> {
        let id = parse_id(text)?;
        let handle = self.sessions.get(&id).map(|entry| entry.value().clone())?;
        (handle.client().profile.as_ref() == profile && !handle.has_ended()).then_some(handle)
    }

    /// The living session of that id, by whoever knows it without its client.
    pub fn get(&self, id: SessionId) -> Option<SessionHandle> {
        let handle = self.sessions.get(&id).map(|entry| entry.value().clone())?;
        (!handle.has_ended()).then_some(handle)
    }

    /// Tells every session of a view that its lists changed; `None` is the view of `/mcp`.
    pub fn lists_changed(&self, profile: Option<&ProfileName>, changed: ListsChanged) {
        for handle in self.all() {
            if handle.client().profile.as_ref() == profile {
                handle.lists_changed(changed);
            }
        }
    }

    /// Ends sessions that nobody uses, and lets go of streams that nobody will resume.
    pub async fn sweep(&self, limit: Duration) {
        for handle in self.all() {
            match handle.idle_for() {
                Some(idle) if idle >= limit => handle.end("idle").await,
                _ => {
                    handle.streams().tidy();
                    handle.renew();
                }
            }
        }
    }

    /// Whether an answer that was given no longer than `age` ago waits for its client.
    pub fn owe_answers(&self, age: Duration) -> bool {
        self.all().iter().any(|handle| handle.streams().owe_answers(age))
    }

    /// From now on sessions end because the gateway does: those that are kept go on in the next one.
    pub fn stop(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
    }

    /// Ends all, at drain.
    pub async fn end_all(&self) {
        for handle in self.all() {
            handle.stop("the gateway stops").await;
        }
    }

    /// Whether all that is to outlive the gateway is on the disk.
    pub fn is_written(&self) -> bool {
        self.keeper.as_ref().is_none_or(|keeper| keeper.is_idle())
    }

    /// Every session, for people and tests.
    pub fn statuses(&self) -> Vec<SessionStatus> {
        self.all().iter().map(SessionHandle::status).collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn all(&self) -> Vec<SessionHandle> {
        self.sessions.iter().map(|entry| entry.value().clone()).collect()
    }
}

/// Bits that nobody can guess, for whatever names one client's access.
pub fn random_bits() -> Result<u128, NotOpened> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|_| NotOpened::NoRandomness)?;
    Ok(u128::from_be_bytes(bits))
}

/// The text form of an id in `Mcp-Session-Id`: 22 visible characters (S-SESS-01).
pub fn id_text(id: SessionId) -> String {
    URL_SAFE_NO_PAD.encode(id.0.to_be_bytes())
}

fn parse_id(text: &[u8]) -> Option<SessionId> {
    let mut bits = [0; 16];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bits).ok()?;
    (length == bits.len()).then(|| SessionId(u128::from_be_bytes(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_sess_01_an_id_is_visible_text_and_reads_back() {
        let id = SessionId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let text = id_text(id);
        assert!(text.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "{text}");
        assert_eq!(parse_id(text.as_bytes()), Some(id));
        assert_eq!(parse_id(b"short"), None);
        assert_eq!(parse_id(&[b'A'; 64]), None);
    }
}
