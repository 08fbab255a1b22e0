//! Which resources each session is subscribed to, so that a later connection can subscribe again (S-RES-07).
//!
//! Always: bounded per session, and nothing is kept for a session that has ended. Not here: subscribing itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use dashmap::DashMap;

use super::call::{Affinity, Client};

/// Resources that one session may be subscribed to on one upstream.
const PER_SESSION: usize = 1_000;

/// URIs are the upstream's own.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(DashMap<Affinity, Subscribed>);

#[derive(Debug)]
struct Subscribed {
    client: Arc<Client>,
    uris: BTreeSet<String>,
}

impl Subscriptions {
    /// Whether this one would still be kept.
    pub(super) fn have_room(&self, affinity: Affinity, uri: &str) -> bool {
        self.0.get(&affinity).is_none_or(|kept| kept.uris.len() < PER_SESSION || kept.uris.contains(uri))
    }

    /// Remembers a subscription of a session that lives. The shared connection's concern nobody: their updates
    /// could not be told to anyone.
    pub(super) fn add(&self, client: &Arc<Client>, affinity: Affinity, uri: &str) {
        if affinity == Affinity::Shared || client.closed.is_cancelled() || !self.have_room(affinity, uri) {
            return;
        }
        let fresh = || Subscribed { client: Arc::clone(client), uris: BTreeSet::new() };
        self.0.entry(affinity).or_insert_with(fresh).uris.insert(uri.to_owned());
    }

    /// Forgets one subscription.
    pub(super) fn remove(&self, affinity: Affinity, uri: &str) {
        if let Some(mut kept) = self.0.get_mut(&affinity) {
            kept.uris.remove(uri);
        }
        self.0.remove_if(&affinity, |_, kept| kept.uris.is_empty());
    }

    /// Forgets all of a session's.
    pub(super) fn release(&self, affinity: Affinity) {
        self.0.remove(&affinity);
    }

    /// Forgets those of sessions that ended without a word.
    pub(super) fn release_ended(&self) {
        self.0.retain(|_, kept| !kept.client.closed.is_cancelled());
    }

    /// What a session is subscribed to.
    pub(super) fn of(&self, affinity: Affinity) -> Vec<String> {
        self.0.get(&affinity).map(|kept| kept.uris.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether a session waits for updates, and therefore needs its connection before its next call.
    pub(super) fn are_kept_for(&self, affinity: Affinity) -> bool {
        self.0.get(&affinity).is_some_and(|kept| !kept.client.closed.is_cancelled())
    }

    /// Everybody who waits for updates.
    pub(super) fn clients(&self) -> Vec<Arc<Client>> {
        let living = self.0.iter().filter(|kept| !kept.client.closed.is_cancelled());
        living.map(|kept| Arc::clone(&kept.client)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::connections::tests::session;

    #[test]
    fn s_res_07_a_session_keeps_a_bounded_number_of_subscriptions_and_none_after_its_end() {
        let kept = Subscriptions::default();
        let client = session();
        for n in 0..PER_SESSION {
            kept.add(&client, client.affinity, &format!("test://{n}"));
        }
        assert!(kept.have_room(client.affinity, "test://0"), "what is there already needs no room");
        assert!(!kept.have_room(client.affinity, "test://new"));
        kept.add(&client, client.affinity, "test://new");
        assert_eq!(kept.of(client.affinity).len(), PER_SESSION);

        kept.release(client.affinity);
        assert!(kept.of(client.affinity).is_empty());
        kept.add(&client, client.affinity, "test://1");
        client.closed.cancel();
        assert!(!kept.are_kept_for(client.affinity) && kept.clients().is_empty());
        kept.release_ended();
        kept.add(&client, client.affinity, "test://late");
        assert!(kept.of(client.affinity).is_empty(), "a session that ended subscribes to nothing");
    }

    #[test]
    fn nothing_is_kept_where_no_update_could_be_told() {
        let kept = Subscriptions::default();
        kept.add(&session(), Affinity::Shared, "test://1");
        assert!(kept.clients().is_empty());
    }
}
