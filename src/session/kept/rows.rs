//! What of a session is kept, and under which keys.
//!
//! Three kinds of records: a session, a stream of it, an event of that. The keys of streams and events begin with their
//! session's, and are in their order. An event's text is the value, so that it is not copied; what else is to be known
//! of it is in its key. Ids and texts are as secret as the directory that they are in, which is its owner's alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{SessionId, UpstreamName};
use crate::session::messages::Subscribed;
use crate::store::event_log::{LoggedEvent, Weight};
use crate::store::records::Space;

pub(super) const SESSIONS: Space = Space::new("session");
pub(super) const STREAMS: Space = Space::new("session.stream");
pub(super) const EVENTS: Space = Space::new("session.event");

/// A subscription: the upstream's URI, and the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::session) struct KeptSubscription {
    pub(in crate::session) local: String,
    pub(in crate::session) upstream: String,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// How many gateways it has lived in before.
    pub(in crate::session) generation: u32,
    /// Whose it is.
    pub(in crate::session) principal: String,
    pub(in crate::session) revision: String,
    /// Which endpoint.
    pub(in crate::session) profile: Option<String>,
    /// What the client calls itself.
    pub(in crate::session) client: String,
    /// What it can be asked, as its revision writes it.
    pub(in crate::session) capabilities: String,
    /// Whether it was told that calls may become tasks.
    #[serde(default)]
    pub(in crate::session) has_tasks: bool,
    /// Whether it finished its handshake.
    pub(in crate::session) is_ready: bool,
    /// The log level that it has set.
    pub(in crate::session) level: Option<u8>,
    /// By the URI that the client uses.
    pub(in crate::session) subscriptions: BTreeMap<String, KeptSubscription>,
}

impl SessionRow {
    /// The endpoint, by its profile.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    pub(in crate::session) fn subscribed(&self) -> Vec<Subscribed> {
        let subscribed = self.subscriptions.iter().map(|(public, kept)| Subscribed {
            public: public.clone(),
            local: kept.local.clone(),
            upstream: UpstreamName::new(kept.upstream.as_str()),
        });
        subscribed.collect()
    }
}

/// The first number of what counts streams, events and questions in the gateway of this generation: what was numbered by
/// one before is smaller, whether it was written or not. Small enough to be a number in JSON.
pub(in crate::session) fn first_of(generation: u32) -> u64 {
    u64::from(generation) << 32
}

/// A stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamRow {
    /// Ids of its requests, as JSON.
    pub(super) requests: Vec<String>,
    /// Everything was said on it.
    pub(super) has_ended: bool,
    /// It is no longer kept, and its requests are remembered for that.
    pub(super) is_gone: bool,
    /// Of the standing stream: what was taken up to now.
    pub(super) taken: u64,
    /// The newest event that mattered and is gone.
    pub(super) lost: u64,
    /// The same of answers.
    pub(super) lost_answer: u64,
}

impl StreamRow {
    /// An event is gone.
    pub(super) fn lose(&mut self, number: u64, kind: Kind) -> bool {
        if kind == Kind::Passing {
            return false;
        }
        self.lost = self.lost.max(number);
        if kind == Kind::Answer {
            self.lost_answer = self.lost_answer.max(number);
        }
        true
    }
}

/// What there is to know of an event besides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Passing,
    Lasting,
    Answer,
    Question,
}

const KINDS: [Kind; 4] = [Kind::Passing, Kind::Lasting, Kind::Answer, Kind::Question];

impl Kind {
    pub(super) fn of(event: &LoggedEvent) -> Kind {
        match event.weight {
            Weight::Passing => Kind::Passing,
            Weight::Lasting if event.asker.is_some() => Kind::Question,
            Weight::Lasting => Kind::Lasting,
            Weight::Answer => Kind::Answer,
        }
    }

    pub(super) fn weight(self) -> Weight {
        match self {
            Kind::Passing => Weight::Passing,
            Kind::Lasting | Kind::Question => Weight::Lasting,
            Kind::Answer => Weight::Answer,
        }
    }
}

pub(super) fn session_key(session: SessionId) -> Vec<u8> {
    session.0.to_be_bytes().to_vec()
}

pub(super) fn stream_key(session: SessionId, stream: u64) -> Vec<u8> {
    [&session.0.to_be_bytes()[..], &stream.to_be_bytes()].concat()
}

pub(super) fn event_key(session: SessionId, stream: u64, number: u64, kind: Kind) -> Vec<u8> {
    [&session.0.to_be_bytes()[..], &stream.to_be_bytes(), &number.to_be_bytes(), &[kind as u8]].concat()
}

pub(super) fn read_session_key(key: &[u8]) -> Option<SessionId> {
    key.try_into().ok().map(|bits| SessionId(u128::from_be_bytes(bits)))
}

pub(super) fn read_stream_key(key: &[u8]) -> Option<(SessionId, u64)> {
    let (session, stream) = key.split_first_chunk::<16>()?;
    Some((SessionId(u128::from_be_bytes(*session)), u64::from_be_bytes(stream.try_into().ok()?)))
}

pub(super) fn read_event_key(key: &[u8]) -> Option<(SessionId, u64, u64, Kind)> {
    let (kind, place) = key.split_last()?;
    let (place, number) = place.split_last_chunk::<8>()?;
    let (session, stream) = read_stream_key(place)?;
    Some((session, stream, u64::from_be_bytes(*number), *KINDS.get(usize::from(*kind))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f26_keys_are_in_the_order_of_events_and_read_back() {
        let (one, two) = (SessionId(1), SessionId(2));
        let keys = [
            event_key(one, 0, 9, Kind::Answer),
            event_key(one, 1, 1, Kind::Question),
            event_key(one, 1, 2, Kind::Passing),
            event_key(one, 256, 1, Kind::Lasting),
            event_key(two, 0, 1, Kind::Passing),
        ];
        assert!(keys.is_sorted());
        assert!(keys[..4].iter().all(|key| key.starts_with(&session_key(one))));
        assert_eq!(read_event_key(&keys[1]), Some((one, 1, 1, Kind::Question)));
        assert_eq!(read_stream_key(&stream_key(two, 7)), Some((two, 7)));
        assert_eq!(read_session_key(&session_key(two)), Some(two));
        assert_eq!(read_event_key(b"short"), None);
        assert!(first_of(1 << 20) < 1 << 53, "a number that JSON can hold");
    }
}
