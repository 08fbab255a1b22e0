//! Who uses which connection of one upstream, and how talkative each wants it (S-LIFE-07, S-LOG-02).
//!
//! Always: a session that has ended uses none. A connection that sessions of one principal share has a client of its own,
//! which declares what each of them declares, can be asked nothing, and ends with the last of them. Sessions are entered
//! when they first need the upstream, which is off the path of their later calls. Not here: opening and closing
//! (`connections`), subscriptions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::call::{Affinity, Client};
use super::declared::declared;
use crate::config::servers::{AskSettings, Share};
use crate::protocol::log_level::LogLevel;

/// What somebody wants who never said (S-LOG-06).
pub(super) const UNSAID: LogLevel = LogLevel::Warning;

/// See the module head.
#[derive(Debug)]
pub(super) struct Users {
    share: Share,
    ask: AskSettings,
    /// The gateway itself, whose connection is the one for all.
    own: Arc<Client>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Principals' connections so far.
    numbers: u64,
    used: HashMap<Affinity, Used>,
    /// The connection of each session.
    of: HashMap<Affinity, Affinity>,
}

/// One connection.
#[derive(Debug)]
struct Used {
    client: Arc<Client>,
    /// What it declares.
    declared: Bytes,
    users: HashMap<Affinity, User>,
}

#[derive(Debug)]
struct User {
    client: Arc<Client>,
    level: Option<LogLevel>,
}

/// A session left its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) connection: Affinity,
    /// Nobody uses it any longer.
    pub(super) was_last: bool,
}

impl Users {
    pub(super) fn new(share: Share, ask: AskSettings, own: Arc<Client>) -> Self {
        Users { share, ask, own, table: Mutex::default() }
    }

    /// Enters a caller, and gives the client for which its connection is opened; `None` when its session has ended.
    pub(super) fn enter(&self, caller: &Arc<Client>, level: Option<LogLevel>) -> Option<Arc<Client>> {
        if matches!(caller.affinity, Affinity::Shared | Affinity::Caller(_)) {
            return Some(Arc::clone(&self.own));
        }
        let mut table = self.lock();
        // Whoever ends a session cancels this first and leaves then, so that none is entered after it left.
        if caller.closed.is_cancelled() {
            return None;
        }
        let connection = match table.of.get(&caller.affinity) {
            Some(connection) => *connection,
            None => self.choose(&mut table, caller),
        };
        table.of.insert(caller.affinity, connection);
        let used = table.used.get_mut(&connection)?;
        let user = used
            .users
            .entry(caller.affinity)
            .or_insert_with(|| User { client: Arc::clone(caller), level: None });
        user.level = level.or(user.level);
        Some(Arc::clone(&used.client))
    }

    /// The connection that this session shares, or a new one.
    fn choose(&self, table: &mut Table, caller: &Arc<Client>) -> Affinity {
        let set = declared(&caller.capabilities, self.ask);
        let client = match self.share {
            Share::Session => Arc::clone(caller),
            Share::All => Arc::clone(&self.own),
            Share::Principal => {
                let mut all = table.used.values();
                let known =
                    all.find(|used| used.client.principal == caller.principal && used.declared == set);
                match known.map(|used| Arc::clone(&used.client)) {
                    Some(client) => client,
                    None => {
                        table.numbers += 1;
                        representative(caller, Affinity::Principal(table.numbers))
                    }
                }
            }
        };
        let connection = client.affinity;
        let fresh = || Used { client, declared: set, users: HashMap::new() };
        table.used.entry(connection).or_insert_with(fresh);
        connection
    }

    /// A session ended.
    pub(super) fn leave(&self, session: Affinity) -> Option<Left> {
        let mut table = self.lock();
        let connection = table.of.remove(&session)?;
        let used = table.used.get_mut(&connection)?;
        used.users.remove(&session);
        let was_last = used.users.is_empty();
        if was_last && let Some(used) = table.used.remove(&connection) {
            // The gateway's own lives as long as the upstream; a session's is cancelled already.
            if let Affinity::Principal(_) = connection {
                used.client.closed.cancel();
            }
        }
        Some(Left { connection, was_last })
    }

    /// Sessions that ended without a word.
    pub(super) fn ended(&self) -> Vec<Affinity> {
        let table = self.lock();
        let users = table.used.values().flat_map(|used| used.users.values());
        users.filter(|user| user.client.closed.is_cancelled()).map(|user| user.client.affinity).collect()
    }

    /// The sessions that use a connection.
    pub(super) fn sessions(&self, connection: Affinity) -> Vec<Affinity> {
        self.lock().used.get(&connection).map(|used| used.users.keys().copied().collect()).unwrap_or_default()
    }

    /// Whether a connection serves this session and nobody else.
    pub(super) fn is_alone(&self, session: Affinity, connection: Affinity) -> bool {
        connection != Affinity::Shared && self.sessions(connection) == [session]
    }

    /// Notes what a session wants, where it uses a connection already; gives that connection.
    pub(super) fn wants(&self, session: Affinity, level: LogLevel) -> Option<Affinity> {
        let mut table = self.lock();
        let connection = *table.of.get(&session)?;
        table.used.get_mut(&connection)?.users.get_mut(&session)?.level = Some(level);
        Some(connection)
    }

    /// The most talkative wish of all who use a connection; `None` while nobody has one.
    pub(super) fn level(&self, connection: Affinity) -> Option<LogLevel> {
        let table = self.lock();
        let users = &table.used.get(&connection)?.users;
        users.values().find_map(|user| user.level)?;
        users.values().map(|user| user.level.unwrap_or(UNSAID)).min()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for all callers of a principal that can be asked the same.
pub(super) fn representative(first: &Client, affinity: Affinity) -> Arc<Client> {
    Arc::new(Client {
        principal: first.principal,
        affinity,
        task_of: None,
        profile: None,
        capabilities: first.capabilities.clone(),
        port: None,
        closed: CancellationToken::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::capability::ClientCapabilities;
    use crate::protocol::json::{Limits, Object};
    use crate::upstream::connections::tests::{client, session};

    fn users(share: Share) -> Users {
        Users::new(share, AskSettings::default_for(true), client(Affinity::Shared))
    }

    fn able(declared: &'static str) -> Arc<Client> {
        let raw = Object::parse(Bytes::from_static(declared.as_bytes()), Limits::NONE).expect("valid");
        let plain = session();
        Arc::new(Client {
            capabilities: ClientCapabilities::new(raw),
            affinity: plain.affinity,
            task_of: None,
            principal: plain.principal,
            profile: None,
            port: None,
            closed: CancellationToken::new(),
        })
    }

    #[test]
    fn s_life_07_sessions_of_a_principal_share_where_they_can_be_asked_the_same() {
        let users = users(Share::Principal);
        let seat = |caller: &Arc<Client>| users.enter(caller, None).expect("it lives").affinity;
        let (one, same) = (able(r#"{"elicitation":{}}"#), able(r#"{"experimental":{},"elicitation":{}}"#));
        let other = able("{}");
        let shared = seat(&one);
        assert_eq!(seat(&same), shared, "what is never declared makes no difference");
        assert_ne!(seat(&other), shared);
        assert_eq!(seat(&one), shared, "entered twice is entered once");
        assert_eq!(users.leave(one.affinity), Some(Left { connection: shared, was_last: false }));
        assert_eq!(users.leave(one.affinity), None);
        let stands_for_all = users.enter(&same, None).expect("it lives");
        assert!(stands_for_all.port.is_none() && !stands_for_all.closed.is_cancelled());
        assert_eq!(users.leave(same.affinity), Some(Left { connection: shared, was_last: true }));
        assert!(stands_for_all.closed.is_cancelled(), "it ends with the last of them");
        assert_ne!(seat(&one), shared, "and another one is begun");
    }

    #[test]
    fn s_stdio_08_by_default_nobody_shares_and_for_all_there_is_one() {
        let (one, two) = (session(), session());
        let alone = users(Share::Session);
        assert_eq!(alone.enter(&one, None).expect("it lives").affinity, one.affinity);
        assert!(alone.is_alone(one.affinity, one.affinity));
        let together = users(Share::All);
        for caller in [&one, &two] {
            assert_eq!(together.enter(caller, None).expect("it lives").affinity, Affinity::Shared);
        }
        assert!(!together.is_alone(one.affinity, Affinity::Shared));
        one.closed.cancel();
        assert_eq!(together.ended(), [one.affinity]);
        assert!(alone.enter(&one, None).is_none(), "a session that ended is given none");
    }

    #[test]
    fn s_log_02_the_most_talkative_wish_holds_until_who_had_it_leaves() {
        let users = users(Share::Principal);
        let (one, two, mute) = (session(), session(), session());
        let shared = users.enter(&one, None).expect("it lives").affinity;
        users.enter(&two, None);
        assert_eq!(users.level(shared), None, "nobody said anything");
        assert_eq!(users.wants(one.affinity, LogLevel::Error), Some(shared));
        assert_eq!(users.level(shared), Some(LogLevel::Warning), "who says nothing wants warnings");
        users.enter(&two, Some(LogLevel::Debug));
        assert_eq!(users.level(shared), Some(LogLevel::Debug));
        users.leave(two.affinity);
        assert_eq!(users.level(shared), Some(LogLevel::Error));
        assert_eq!(users.wants(mute.affinity, LogLevel::Debug), None, "it uses no connection yet");
    }
}
