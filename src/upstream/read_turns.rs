//! Readers of the same thing at the same time: one asks, the others wait whether its answer is for them as well.
//!
//! Always: whoever leaves while he asks hands his turn to the next; an answer that is not to be shared frees all that wait
//! at once, so that nobody queues up behind what helps nobody. Not here: what is shared (`kept_reads`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::kept_reads::{KeptReads, ReadKey};

/// Who asks for what. A key has the reader's authorization context in it, so that nobody waits for the answer of another.
#[derive(Debug, Default)]
pub(super) struct ReadTurns(Mutex<HashMap<ReadKey, Arc<Flight>>>);

#[derive(Debug, Default)]
struct Flight {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Its answer was not to be shared: everybody asks for himself.
    is_over: AtomicBool,
}

/// The turn of one reader; ends with it.
#[derive(Debug)]
pub struct Turn<'r> {
    reads: &'r KeptReads,
    key: &'r ReadKey,
    flight: Arc<Flight>,
    /// `None`: it asks beside the others.
    held: Option<OwnedMutexGuard<()>>,
}

impl KeptReads {
    /// Waits for the turn to ask, at most for `patience`: then, and where waiting helps nobody, it asks beside the others.
    pub async fn turn<'r>(&'r self, key: &'r ReadKey, patience: Duration) -> Turn<'r> {
        let flight = Arc::clone(self.turns.lock().entry(key.clone()).or_default());
        // From here on, so that one who stops waiting leaves nothing behind.
        let mut turn = Turn { reads: self, key, flight, held: None };
        let held = tokio::time::timeout(patience, Arc::clone(&turn.flight.turn).lock_owned()).await;
        turn.held = held.ok().filter(|_| !turn.flight.is_over.load(Ordering::Acquire));
        turn
    }
}

impl Turn<'_> {
    /// Whether the others wait for what this one gets.
    pub fn leads(&self) -> bool {
        self.held.is_some()
    }

    /// What came is not kept: those who wait ask for themselves, at once.
    pub fn is_for_nobody_else(&self) {
        if self.leads() {
            self.flight.is_over.store(true, Ordering::Release);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut flights = self.reads.turns.lock();
        self.held = None;
        let is_over = self.flight.is_over.load(Ordering::Acquire);
        let is_current = flights.get(self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // The table and this turn hold it, and nobody else.
        if is_current && (is_over || Arc::strong_count(&self.flight) == 2) {
            flights.remove(self.key);
        }
    }
}

impl ReadTurns {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReadKey, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}
