//! How many unfinished tasks each principal has, and may have (S-TASK-20).

use std::collections::HashMap;

use crate::auth::principal::Principal;

/// See the module head.
#[derive(Debug)]
pub(super) struct Places {
    each: usize,
    of: HashMap<Principal, usize>,
}

impl Places {
    /// So many for each.
    pub(super) fn new(each: usize) -> Self {
        Places { each, of: HashMap::new() }
    }

    /// One more, if there may be one.
    pub(super) fn claim(&mut self, principal: Principal) -> bool {
        let own = self.of.entry(principal).or_insert(0);
        let is_free = *own < self.each;
        *own += usize::from(is_free);
        is_free
    }

    /// One that was there before: it has its place whatever is allowed now.
    pub(super) fn claim_again(&mut self, principal: Principal) {
        *self.of.entry(principal).or_insert(0) += 1;
    }

    /// One is over.
    pub(super) fn release(&mut self, principal: Principal) {
        let own = self.of.get(&principal).copied().unwrap_or(0);
        match own.saturating_sub(1) {
            0 => drop(self.of.remove(&principal)),
            left => drop(self.of.insert(principal, left)),
        }
    }
}
