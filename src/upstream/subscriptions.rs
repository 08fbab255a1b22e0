//! Who follows which resources over which connection (S-RES-07).
//!
//! Always: one subscription upstream for each connection and URI, however many sessions follow it: whoever changes one
//! holds its turn, the first asks the upstream and the last tells it. Bounded per session, and nothing is kept for a
//! session that has ended. Not here: asking (`follow`), whose subscription covers an update (the session).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::call::{Affinity, Client};
use super::kept_reads::KeptReads;
use crate::names::UpstreamName;

/// Resources that one session may follow on one upstream.
const PER_SESSION: usize = 1_000;

/// Held by whoever changes one subscription.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

/// See the module head. URIs are the upstream's own.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    table: Mutex<Table>,
    /// What is kept of this upstream's resources.
    kept: Option<(UpstreamName, Arc<KeptReads>)>,
}

#[derive(Debug, Default)]
struct Table {
    connections: HashMap<Affinity, Followed>,
    /// How many each session has.
    counts: HashMap<Affinity, usize>,
}

/// What is followed over one connection.
#[derive(Debug)]
struct Followed {
    client: Arc<Client>,
    resources: HashMap<String, Resource>,
}

#[derive(Debug, Default)]
struct Resource {
    turn: Turn,
    /// Whether the upstream has accepted it.
    accepted: bool,
    /// Whether it has ever, since somebody follows it: those who do believe that they are told.
    is_relied_on: bool,
    followers: Vec<Arc<Client>>,
}

impl Subscriptions {
    /// Of this upstream, whose updates end what is kept there.
    pub(super) fn of_upstream(upstream: UpstreamName, kept: Arc<KeptReads>) -> Self {
        Subscriptions { table: Mutex::default(), kept: Some((upstream, kept)) }
    }

    /// Whether one more of this session would still be kept.
    pub(super) fn have_room(&self, session: Affinity) -> bool {
        self.lock().counts.get(&session).is_none_or(|count| *count < PER_SESSION)
    }

    /// The turn of a resource over the connection of `client`.
    pub(super) fn turn(&self, client: &Arc<Client>, uri: &str) -> Turn {
        let mut table = self.lock();
        let fresh = || Followed { client: Arc::clone(client), resources: HashMap::new() };
        let followed = table.connections.entry(client.affinity).or_insert_with(fresh);
        Arc::clone(&followed.resources.entry(uri.to_owned()).or_default().turn)
    }

    /// The upstream has accepted a subscription. To be called with the turn held, or where nobody waits for it.
    pub(super) fn accept(&self, connection: Affinity, uri: &str) {
        self.set_accepted(connection, uri, true);
    }

    /// It did not accept it again. To be called as `accept`.
    pub(super) fn refuse(&self, connection: Affinity, uri: &str) {
        self.set_accepted(connection, uri, false);
    }

    fn set_accepted(&self, connection: Affinity, uri: &str, accepted: bool) {
        let mut table = self.lock();
        let resources = table.connections.get_mut(&connection).map(|followed| &mut followed.resources);
        if let Some(resource) = resources.and_then(|resources| resources.get_mut(uri)) {
            resource.accepted = accepted && !resource.followers.is_empty();
            resource.is_relied_on |= resource.accepted;
        }
    }

    /// Whether the upstream has accepted it and somebody follows it.
    pub(super) fn is_followed(&self, connection: Affinity, uri: &str) -> bool {
        let table = self.lock();
        let resource = table.connections.get(&connection).and_then(|followed| followed.resources.get(uri));
        resource.is_some_and(Resource::is_followed)
    }

    /// Whether somebody follows it or is about to.
    pub(super) fn has_followers(&self, connection: Affinity, uri: &str) -> bool {
        let table = self.lock();
        let resource = table.connections.get(&connection).and_then(|followed| followed.resources.get(uri));
        resource.is_some_and(|resource| resource.followers.iter().any(lives))
    }

    /// Followers that ended without a word.
    pub(super) fn ended(&self) -> Vec<Affinity> {
        let table = self.lock();
        let resources = table.connections.values().flat_map(|followed| followed.resources.values());
        let ended = resources.flat_map(|resource| &resource.followers).filter(|follower| !lives(follower));
        let ended: HashSet<Affinity> = ended.map(|follower| follower.affinity).collect();
        ended.into_iter().collect()
    }

    /// Adds a follower that lives. To be called with the turn held.
    pub(super) fn add(&self, connection: Affinity, follower: &Arc<Client>, uri: &str) {
        let mut table = self.lock();
        let table = &mut *table;
        let resource = table
            .connections
            .get_mut(&connection)
            .and_then(|followed| followed.resources.get_mut(uri))
            .filter(|_| lives(follower));
        if let Some(resource) = resource
            && !resource.followers.iter().any(|other| other.affinity == follower.affinity)
        {
            resource.followers.push(Arc::clone(follower));
            *table.counts.entry(follower.affinity).or_default() += 1;
        }
    }

    /// Removes a follower, and says whether nobody is left. To be called with the turn held.
    pub(super) fn remove(&self, connection: Affinity, session: Affinity, uri: &str) -> bool {
        let mut table = self.lock();
        let table = &mut *table;
        let Some(followed) = table.connections.get_mut(&connection) else { return true };
        let Some(resource) = followed.resources.get_mut(uri) else { return true };
        let before = resource.followers.len();
        resource.followers.retain(|follower| follower.affinity != session && lives(follower));
        let is_left = resource.followers.is_empty();
        resource.accepted &= !is_left;
        resource.is_relied_on &= !is_left;
        if resource.followers.len() < before {
            count_down(&mut table.counts, session);
        }
        is_left
    }

    /// Forgets what nobody follows and nobody is about to.
    pub(super) fn tidy(&self, connection: Affinity, uri: &str) {
        let mut table = self.lock();
        let Some(followed) = table.connections.get_mut(&connection) else { return };
        let unused =
            |resource: &Resource| resource.followers.is_empty() && Arc::strong_count(&resource.turn) == 1;
        if followed.resources.get(uri).is_some_and(unused) {
            followed.resources.remove(uri);
        }
        if followed.resources.is_empty() {
            table.connections.remove(&connection);
        }
    }

    /// A session ended: gives what nobody follows any longer.
    pub(super) fn leave(&self, session: Affinity) -> Vec<(Arc<Client>, String)> {
        let mut table = self.lock();
        if table.counts.remove(&session).is_none() {
            return Vec::new();
        }
        let mut left = Vec::new();
        for followed in table.connections.values_mut() {
            for (uri, resource) in &mut followed.resources {
                let before = resource.followers.len();
                resource.followers.retain(|follower| follower.affinity != session);
                if resource.followers.is_empty() && before > 0 {
                    (resource.accepted, resource.is_relied_on) = (false, false);
                    left.push((Arc::clone(&followed.client), uri.clone()));
                }
            }
        }
        left
    }

    /// A connection is given up: nothing is followed over it.
    pub(super) fn forget(&self, connection: Affinity) {
        self.lock().connections.remove(&connection);
    }

    /// What is followed over a connection, whether or not the upstream accepted it when it was asked last; whoever is
    /// asking now sees to it himself.
    pub(super) fn of(&self, connection: Affinity) -> Vec<String> {
        let table = self.lock();
        let Some(followed) = table.connections.get(&connection) else { return Vec::new() };
        let wanted = followed.resources.iter().filter(|(_, resource)| resource.is_kept());
        wanted.map(|(uri, _)| uri.clone()).collect()
    }

    /// What was followed over any connection is followed over that of `client` from now on, which has yet to ask for it.
    pub(super) fn gather(&self, client: &Arc<Client>) {
        let mut table = self.lock();
        let Table { connections, counts } = &mut *table;
        let mut moved = Vec::new();
        for (_, followed) in connections.iter_mut().filter(|(affinity, _)| **affinity != client.affinity) {
            // Whoever is asking now sees to it himself.
            moved.extend(followed.resources.extract_if(|_, resource| resource.is_kept()));
        }
        connections.retain(|_, followed| !followed.resources.is_empty());
        if moved.is_empty() {
            return;
        }
        let fresh = || Followed { client: Arc::clone(client), resources: HashMap::new() };
        let gathered = connections.entry(client.affinity).or_insert_with(fresh);
        for (uri, resource) in moved {
            let into = gathered.resources.entry(uri).or_default();
            into.is_relied_on = true;
            for follower in resource.followers {
                if into.followers.iter().any(|other| other.affinity == follower.affinity) {
                    count_down(counts, follower.affinity);
                } else {
                    into.followers.push(follower);
                }
            }
        }
    }

    /// Whether somebody waits for updates, and the connection is needed before the next call.
    pub(super) fn are_kept_for(&self, connection: Affinity) -> bool {
        self.lock().connections.get(&connection).is_some_and(Followed::is_wanted)
    }

    /// The clients of all connections over which updates are awaited.
    pub(super) fn clients(&self) -> Vec<Arc<Client>> {
        let table = self.lock();
        let wanted = table.connections.values().filter(|followed| followed.is_wanted());
        wanted.map(|followed| Arc::clone(&followed.client)).collect()
    }

    /// An update came: gives the sessions that follow a resource at or above this one; each judges for itself whether it
    /// is covered (S-RES-08). What is kept of it is let go before they are told, who may read it at once (S-CACHE-04).
    pub(super) fn followers(&self, connection: Affinity, uri: &str) -> Vec<Arc<Client>> {
        if let Some((upstream, kept)) = &self.kept {
            kept.revoke(upstream, uri);
        }
        let table = self.lock();
        let Some(followed) = table.connections.get(&connection) else { return Vec::new() };
        let covering = followed.resources.iter().filter(|(above, _)| uri.starts_with(above.as_str()));
        let followers = covering.flat_map(|(_, resource)| &resource.followers).filter(|one| lives(one));
        // They may be thousands.
        let mut known = HashSet::new();
        followers.filter(|follower| known.insert(follower.affinity)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resource {
    fn is_followed(&self) -> bool {
        self.accepted && self.followers.iter().any(lives)
    }

    /// Whether somebody believes that it is followed.
    fn is_kept(&self) -> bool {
        self.is_relied_on && self.followers.iter().any(lives)
    }
}

impl Followed {
    fn is_wanted(&self) -> bool {
        let mut followers = self.resources.values().flat_map(|resource| &resource.followers);
        !self.client.closed.is_cancelled() && followers.any(lives)
    }
}

fn lives(client: &Arc<Client>) -> bool {
    !client.closed.is_cancelled()
}

fn count_down(counts: &mut HashMap<Affinity, usize>, session: Affinity) {
    if let Some(count) = counts.get_mut(&session) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::connections::tests::{client, session};

    fn follow(kept: &Subscriptions, over: &Arc<Client>, follower: &Arc<Client>, uri: &str) {
        let _turn = kept.turn(over, uri);
        kept.add(over.affinity, follower, uri);
        kept.accept(over.affinity, uri);
    }

    #[test]
    fn s_res_07_a_session_keeps_a_bounded_number_of_subscriptions_and_none_after_its_end() {
        let kept = Subscriptions::default();
        let session = session();
        for n in 0..PER_SESSION {
            assert!(kept.have_room(session.affinity));
            follow(&kept, &session, &session, &format!("test://{n}"));
        }
        assert!(!kept.have_room(session.affinity));
        assert_eq!(kept.of(session.affinity).len(), PER_SESSION);
        assert!(kept.remove(session.affinity, session.affinity, "test://0"));
        assert!(kept.have_room(session.affinity));

        session.closed.cancel();
        assert!(!kept.are_kept_for(session.affinity) && kept.clients().is_empty());
        assert_eq!(kept.leave(session.affinity).len(), PER_SESSION - 1);
        follow(&kept, &session, &session, "test://late");
        assert!(kept.of(session.affinity).is_empty(), "a session that ended subscribes to nothing");
    }

    #[test]
    fn s_res_07_a_shared_subscription_is_over_when_the_last_of_its_followers_leaves() {
        let kept = Subscriptions::default();
        let shared = client(Affinity::Shared);
        let sessions = [session(), session(), session()];
        for one in &sessions {
            follow(&kept, &shared, one, "test://a");
        }
        assert!(!kept.remove(Affinity::Shared, sessions[0].affinity, "test://a"));
        assert!(!kept.remove(Affinity::Shared, sessions[0].affinity, "test://a"), "twice changes nothing");
        assert!(kept.leave(sessions[1].affinity).is_empty());
        assert!(kept.is_followed(Affinity::Shared, "test://a"));
        let left = kept.leave(sessions[2].affinity);
        assert_eq!(left.iter().map(|(_, uri)| uri.as_str()).collect::<Vec<_>>(), ["test://a"]);
        kept.tidy(Affinity::Shared, "test://a");
        assert!(kept.lock().connections.is_empty() && kept.lock().counts.is_empty(), "nothing is kept");
    }

    #[test]
    fn s_res_07_what_the_upstream_has_not_accepted_is_not_renewed_yet_updates_of_it_are_told() {
        let kept = Subscriptions::default();
        let session = session();
        let _turn = kept.turn(&session, "test://a");
        kept.add(session.affinity, &session, "test://a");
        assert!(kept.of(session.affinity).is_empty() && !kept.is_followed(session.affinity, "test://a"));
        assert_eq!(kept.followers(session.affinity, "test://a").len(), 1);
    }

    #[test]
    fn s_sub_09_what_was_accepted_once_is_renewed_until_nobody_follows_it_whatever_the_upstream_says() {
        let kept = Subscriptions::default();
        let session = session();
        follow(&kept, &session, &session, "test://a");
        kept.refuse(session.affinity, "test://a");
        assert!(!kept.is_followed(session.affinity, "test://a"), "whoever wants it next asks again");
        assert_eq!(kept.of(session.affinity), ["test://a"]);
        kept.remove(session.affinity, session.affinity, "test://a");
        kept.accept(session.affinity, "test://a");
        assert!(kept.of(session.affinity).is_empty(), "an answer that is late");
    }

    #[test]
    fn s_life_14_s_res_07_at_a_change_of_era_followers_of_all_connections_share_one() {
        let kept = Subscriptions::default();
        let shared = client(Affinity::Shared);
        let sessions = [session(), session()];
        for one in &sessions {
            follow(&kept, one, one, "test://a");
        }
        follow(&kept, &sessions[1], &sessions[1], "test://b");
        follow(&kept, &shared, &sessions[1], "test://a");
        let _asking = kept.turn(&sessions[0], "test://c");
        kept.add(sessions[0].affinity, &sessions[0], "test://c");
        kept.gather(&shared);
        let mut all = kept.of(Affinity::Shared);
        all.sort_unstable();
        assert_eq!(all, ["test://a", "test://b"], "who is asking now sees to it himself");
        assert_eq!(kept.followers(Affinity::Shared, "test://a").len(), 2);
        for (one, left) in sessions.iter().zip([1, 2]) {
            assert_eq!(kept.leave(one.affinity).len(), left);
        }
        assert!(kept.lock().counts.is_empty(), "nobody is counted twice");
    }

    #[test]
    fn s_res_08_an_update_is_told_once_to_each_session_that_may_have_subscribed_to_it() {
        let kept = Subscriptions::default();
        let shared = client(Affinity::Shared);
        let (one, other) = (session(), session());
        follow(&kept, &shared, &one, "test://dir");
        follow(&kept, &shared, &one, "test://dir/x");
        follow(&kept, &shared, &other, "test://elsewhere");
        let told = kept.followers(Affinity::Shared, "test://dir/x");
        assert_eq!(told.iter().map(|client| client.affinity).collect::<Vec<_>>(), [one.affinity]);
        assert!(kept.followers(one.affinity, "test://dir/x").is_empty(), "over another connection");
    }
}
