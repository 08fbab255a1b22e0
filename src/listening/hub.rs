//! All that listen, by endpoint.
//!
//! Always: a bounded number, in total and of one principal; whoever is entered hears of every change from then on, and
//! leaves when its [`Listening`] is dropped. A change costs each listener a few instructions and one wake, and no message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::filter::{Filter, Lists};
use super::listener::Listener;
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::ProfileName;
use crate::protocol::frame::RequestId;

/// See the module head.
#[derive(Debug)]
pub struct Hub {
    total: usize,
    per_principal: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    endpoints: HashMap<Option<ProfileName>, HashMap<u64, Arc<Listener>>>,
    of_principal: HashMap<Principal, usize>,
    count: usize,
    next: u64,
    is_closed: bool,
}

/// Why somebody is not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotEntered {
    /// `bounds.listens` or `bounds.principal_listens` are open.
    #[error("too many streams of changes are open")]
    TooMany,
    /// The gateway is about to stop.
    #[error("the gateway is about to stop")]
    Closed,
}

/// A place in the hub, for as long as it is held.
#[derive(Debug)]
pub struct Listening {
    hub: Arc<Hub>,
    listener: Arc<Listener>,
    number: u64,
    endpoint: Option<ProfileName>,
    principal: Principal,
}

impl Hub {
    /// Empty.
    pub fn new(bounds: &Bounds) -> Arc<Self> {
        let (total, per_principal) = (bounds.listens, bounds.principal_listens);
        Arc::new(Hub { total, per_principal, table: Mutex::default() })
    }

    /// Enters a listener, which is not acknowledged yet.
    pub fn enter(
        self: &Arc<Self>,
        principal: Principal,
        endpoint: Option<&ProfileName>,
        id: RequestId,
        filter: &Filter,
    ) -> Result<Listening, NotEntered> {
        let mut table = self.lock();
        if table.is_closed {
            return Err(NotEntered::Closed);
        }
        let own = table.of_principal.get(&principal).copied().unwrap_or(0);
        if table.count >= self.total || own >= self.per_principal {
            return Err(NotEntered::TooMany);
        }
        table.next += 1;
        table.count += 1;
        table.of_principal.insert(principal, own + 1);
        let (number, endpoint) = (table.next, endpoint.cloned());
        let listener = Listener::new(id, filter.lists);
        table.endpoints.entry(endpoint.clone()).or_default().insert(number, Arc::clone(&listener));
        Ok(Listening { hub: Arc::clone(self), listener, number, endpoint, principal })
    }

    /// Lists of an endpoint changed; `None` is `/mcp`.
    pub fn lists_changed(&self, endpoint: Option<&ProfileName>, lists: Lists) {
        let concerned: Vec<Arc<Listener>> = {
            let table = self.lock();
            let all = table.endpoints.get(&endpoint.cloned()).into_iter().flat_map(HashMap::values);
            all.filter(|listener| listener.wants(lists)).cloned().collect()
        };
        // Outside the lock, because a waker may do anything.
        concerned.iter().for_each(|listener| listener.lists_changed(lists));
    }

    /// Ends every listening with its result, and takes no others.
    pub fn end_all(&self) {
        let all: Vec<Arc<Listener>> = {
            let mut table = self.lock();
            table.is_closed = true;
            table.endpoints.values().flat_map(HashMap::values).cloned().collect()
        };
        all.iter().for_each(|listener| listener.end());
    }

    /// How many listen.
    pub fn len(&self) -> usize {
        self.lock().count
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listening {
    /// What it has to be told.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Its number among all.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut table = self.hub.lock();
        let table = &mut *table;
        table.count -= 1;
        if let Some(own) = table.of_principal.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                table.of_principal.remove(&self.principal);
            }
        }
        if let Some(endpoint) = table.endpoints.get_mut(&self.endpoint) {
            endpoint.remove(&self.number);
            if endpoint.is_empty() {
                table.endpoints.remove(&self.endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::listening::listener::Said;

    fn hub(total: usize, per_principal: usize) -> Arc<Hub> {
        Hub::new(&Bounds { listens: total, principal_listens: per_principal, ..Bounds::default() })
    }

    fn enter(hub: &Arc<Hub>, endpoint: Option<&ProfileName>, lists: Lists) -> Result<Listening, NotEntered> {
        let filter = Filter { lists, ..Filter::default() };
        hub.enter(Principal::Local, endpoint, RequestId::number(1), &filter)
    }

    fn said(listening: &Listening) -> usize {
        let next = || listening.listener().next().now_or_never();
        std::iter::from_fn(|| next().filter(|said| matches!(said, Said::Message(_)))).count()
    }

    #[test]
    fn s_sub_11_there_is_a_bound_in_total_and_for_one_principal_and_a_place_that_is_left_is_free() {
        for hub in [hub(2, 9), hub(9, 2)] {
            let first = enter(&hub, None, Lists::TOOLS).expect("room");
            let _second = enter(&hub, None, Lists::TOOLS).expect("room");
            assert_eq!(enter(&hub, None, Lists::TOOLS).err(), Some(NotEntered::TooMany));
            drop(first);
            assert_eq!(hub.len(), 1);
            drop(enter(&hub, None, Lists::TOOLS).expect("room again"));
        }
        let hub = hub(9, 9);
        drop(enter(&hub, Some(&ProfileName::new("work")), Lists::TOOLS));
        let table = hub.lock();
        assert!(table.endpoints.is_empty() && table.of_principal.is_empty(), "nothing is kept");
    }

    #[test]
    fn s_sub_07_a_change_is_told_to_every_listening_of_its_endpoint_that_wants_it() {
        let hub = hub(9, 9);
        let work = ProfileName::new("work");
        let all = [
            (enter(&hub, None, Lists::TOOLS).expect("room"), 2),
            (enter(&hub, None, Lists::TOOLS).expect("room"), 2),
            (enter(&hub, None, Lists::PROMPTS).expect("room"), 1),
            (enter(&hub, Some(&work), Lists::TOOLS).expect("room"), 1),
        ];
        all.iter().for_each(|(listening, _)| listening.listener().acknowledge());
        hub.lists_changed(None, Lists::TOOLS);
        for (listening, expected) in &all {
            assert_eq!(said(listening), *expected);
        }
        hub.lists_changed(Some(&work), Lists::TOOLS);
        assert_eq!(all.each_ref().map(|(listening, _)| said(listening)), [0, 0, 0, 1]);
    }

    #[test]
    fn s_sub_10_at_the_end_all_are_ended_and_none_begins() {
        let hub = hub(9, 9);
        let listening = enter(&hub, None, Lists::TOOLS).expect("room");
        listening.listener().acknowledge();
        hub.end_all();
        said(&listening);
        assert_eq!(listening.listener().next().now_or_never(), Some(Said::Over));
        assert_eq!(enter(&hub, None, Lists::TOOLS).err(), Some(NotEntered::Closed));
    }
}
