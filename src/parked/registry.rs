//! All calls that wait for their clients, by the handle that their clients hold sealed.
//!
//! Always: bounded, for all and for each principal; a handle cannot be guessed, and means nothing to another principal; of
//! calls that expired it is known for a while that they did. This process alone knows them (S-MRTR-18). Not here: what a
//! client holds (`dispatch::request_state`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::actor::{ParkedCall, Patience};
use super::handle::ParkedHandle;
use super::running::Running;
use super::state::{Reply, Round, State};
use crate::auth::principal::Principal;
use crate::config::bounds::Bounds;
use crate::names::UpstreamName;

/// Handles of expired calls that are remembered.
const EXPIRED: usize = 1_024;

/// A call's name towards its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(u128);

impl Handle {
    /// 128 random bits; `None` when there are none.
    pub(super) fn random() -> Option<Self> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).ok()?;
        Some(Handle(u128::from_ne_bytes(bits)))
    }

    /// As text, for what is sealed.
    pub fn text(self) -> String {
        format!("{:032x}", self.0)
    }

    /// What [`Handle::text`] wrote.
    pub fn of_text(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Handle)
    }
}

/// What is known of a handle.
#[derive(Debug)]
pub enum Found {
    /// The call waits, or is waited for.
    Waiting(ParkedHandle),
    /// It did not wait any longer.
    Expired,
    /// There is none: it is over, or was never of this process.
    Unknown,
}

/// What became of a call that was to wait.
#[expect(clippy::large_enum_variant, reason = "made once per question and taken apart at once")]
pub enum Parked {
    /// It waits, and its client is asked this.
    Asks(Handle, Round),
    /// What it asked was withdrawn this moment.
    AsksNothing(Running),
    /// Its server asks oftener than one call may; it is cancelled.
    TooManyRounds(Option<UpstreamName>),
    /// There is no place; it is cancelled.
    NoPlace,
}

/// See the module head.
#[derive(Debug)]
pub struct ParkedCalls {
    total: usize,
    each: usize,
    rounds: usize,
    patience: Patience,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    calls: HashMap<Handle, (Principal, Option<ParkedHandle>)>,
    of: HashMap<Principal, usize>,
    expired: VecDeque<(Handle, Principal)>,
}

/// A place for one call, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    calls: Arc<ParkedCalls>,
    principal: Principal,
    handle: Handle,
}

impl ParkedCalls {
    /// Within these bounds.
    pub fn new(bounds: &Bounds) -> Arc<Self> {
        Arc::new(ParkedCalls {
            total: bounds.parked_calls,
            each: bounds.parked_calls_each,
            rounds: bounds.input_rounds,
            patience: Patience { input: bounds.input_timeout, gather: bounds.gather },
            table: Mutex::default(),
        })
    }

    /// Keeps a call that asks something, after so many rounds, until its client comes back. It is run on this thread.
    pub fn park(self: &Arc<Self>, principal: Principal, running: Running, rounds: u32) -> Parked {
        let mut state = State::new(Arc::clone(running.inputs()), self.rounds, rounds);
        let Some(place) = self.place(principal) else { return Parked::NoPlace };
        let handle = place.handle;
        let round = match state.begin_round() {
            Some(Reply::Asks(round)) => round,
            Some(Reply::TooManyRounds(asker)) => return Parked::TooManyRounds(asker),
            _ => return Parked::AsksNothing(running),
        };
        let inputs = Arc::clone(running.inputs());
        let actor = ParkedCall::start(running, state, place, self.patience);
        if let Some((_, call)) = self.lock().calls.get_mut(&handle) {
            *call = Some(ParkedHandle { actor, inputs });
        }
        Parked::Asks(handle, round)
    }

    /// The call of that handle, for its own principal.
    pub fn find(&self, handle: Handle, principal: Principal) -> Found {
        let table = self.lock();
        match table.calls.get(&handle) {
            Some((of, Some(call))) if *of == principal => Found::Waiting(call.clone()),
            Some(_) => Found::Unknown,
            None if table.expired.contains(&(handle, principal)) => Found::Expired,
            None => Found::Unknown,
        }
    }

    /// Calls that wait, or are waited for.
    pub fn count(&self) -> usize {
        self.lock().calls.len()
    }

    fn place(self: &Arc<Self>, principal: Principal) -> Option<Place> {
        let handle = Handle::random()?;
        let mut table = self.lock();
        let own = table.of.get(&principal).copied().unwrap_or(0);
        if table.calls.len() >= self.total || own >= self.each {
            return None;
        }
        table.calls.insert(handle, (principal, None));
        table.of.insert(principal, own + 1);
        Some(Place { calls: Arc::clone(self), principal, handle })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The call waits no longer.
    pub(super) fn expire(&self) {
        let mut table = self.calls.lock();
        if table.expired.len() >= EXPIRED {
            table.expired.pop_front();
        }
        table.expired.push_back((self.handle, self.principal));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.calls.lock();
        let removed = table.calls.remove(&self.handle);
        let own = table.of.get(&self.principal).copied().unwrap_or(0);
        match own.saturating_sub(1) {
            0 => drop(table.of.remove(&self.principal)),
            left => drop(table.of.insert(self.principal, left)),
        }
        drop(table);
        // It may hold the last address of an actor.
        drop(removed);
    }
}
