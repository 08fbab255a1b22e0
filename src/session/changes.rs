//! Which lists changed since the client last looked. A list request clears its bit without a message to the actor, so a
//! client that has just listed is not told of what it has seen.

use std::sync::atomic::{AtomicU8, Ordering};

use super::messages::ListsChanged;

/// `tools/list`
pub const TOOLS: u8 = 1;
/// `prompts/list`
pub const PROMPTS: u8 = 2;
/// `resources/list` and `resources/templates/list`
pub const RESOURCES: u8 = 4;

/// Three bits.
#[derive(Debug, Default)]
pub(super) struct PendingChanges(AtomicU8);

impl PendingChanges {
    pub(super) fn add(&self, changed: ListsChanged) {
        let bits = [(changed.tools, TOOLS), (changed.prompts, PROMPTS), (changed.resources, RESOURCES)];
        let bits = bits.into_iter().filter(|(told, _)| *told).fold(0, |all, (_, bit)| all | bit);
        self.0.fetch_or(bits, Ordering::Relaxed);
    }

    pub(super) fn has(&self, kind: u8) -> bool {
        self.0.load(Ordering::Relaxed) & kind != 0
    }

    pub(super) fn clear(&self, kind: u8) {
        self.0.fetch_and(!kind, Ordering::Relaxed);
    }
}
