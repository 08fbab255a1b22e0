//! Event ids: where in which stream of a session a client has got to, sealed (S-RESUM-01, S-RESUM-08).
//!
//! Always: an id opens only in the session it was made for, which has one principal and one endpoint; a guessed, altered
//! or foreign one is no id at all (S-TRUST-01). Not here: what is replayed (`streams`).

use std::sync::Arc;

use super::table::id_text;
use crate::auth::principal::Principal;
use crate::names::SessionId;
use crate::store::seal::{Purpose, Sealer};

const PURPOSE: Purpose = Purpose::new("event id");

/// A place in a session's streams: every event of that stream up to `number` has reached the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The stream's number in its session.
    pub stream: u64,
    /// The event's number in its stream; 0 is before the first.
    pub number: u64,
}

/// Writes and reads the ids of one session.
#[derive(Clone)]
pub struct EventIds {
    sealer: Arc<Sealer>,
    session: SessionId,
    principal: Principal,
}

impl std::fmt::Debug for EventIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventIds({:?})", self.session)
    }
}

impl EventIds {
    pub(super) fn new(sealer: Arc<Sealer>, session: SessionId, principal: Principal) -> Self {
        EventIds { sealer, session, principal }
    }

    /// The id of a place, about 90 visible characters.
    pub fn seal(&self, place: Place) -> String {
        let payload = [place.stream.to_be_bytes(), place.number.to_be_bytes()].concat();
        self.with_scope(|scope| self.sealer.seal(PURPOSE, scope, &payload))
    }

    /// The place that an id names.
    pub fn open(&self, id: &str) -> Option<Place> {
        let payload = self.with_scope(|scope| self.sealer.open(PURPOSE, scope, id)).ok()?;
        let (stream, number) = payload.split_first_chunk::<8>()?;
        let number: [u8; 8] = number.try_into().ok()?;
        Some(Place { stream: u64::from_be_bytes(*stream), number: u64::from_be_bytes(number) })
    }

    fn with_scope<T>(&self, then: impl FnOnce(&[&str]) -> T) -> T {
        then(&[&id_text(self.session), self.principal.key()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_resum_01_an_id_names_one_place_in_one_session() {
        let sealer = Arc::new(Sealer::ephemeral().expect("randomness"));
        let ids = |session| EventIds::new(Arc::clone(&sealer), SessionId(session), Principal::Local);
        let place = Place { stream: 7, number: 3 };
        let id = ids(1).seal(place);
        assert_eq!(ids(1).open(&id), Some(place));
        assert_eq!(ids(2).open(&id), None, "of another session");
        for at in 0..id.len() {
            let mut altered = id.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ids(1).open(&String::from_utf8_lossy(&altered)), None, "altered at {at}");
        }
        assert!(id.len() < 100 && id.bytes().all(|byte| (0x21..0x7f).contains(&byte)), "{id}");
    }
}
