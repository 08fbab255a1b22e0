//! Which lists changed since the client last looked. A list request clears its bit without a message to the actor, so a
//! client that has just listed is not told of what it has seen; resources and templates have a bit each, and one
//! notification.

use std::sync::atomic::{AtomicU8, Ordering};

use super::messages::ListsChanged;

/// `tools/list`
pub const TOOLS: u8 = 1;
/// `prompts/list`
pub const PROMPTS: u8 = 2;
/// `resources/list`
pub const RESOURCES: u8 = 4;
/// `resources/templates/list`
pub const TEMPLATES: u8 = 8;

/// Four bits.
#[derive(Debug, Default)]
pub(super) struct PendingChanges(AtomicU8);

impl PendingChanges {
    pub(super) fn add(&self, changed: ListsChanged) {
        let bits = [
            (changed.tools, TOOLS),
            (changed.prompts, PROMPTS),
            (changed.resources, RESOURCES),
            (changed.templates, TEMPLATES),
        ];
        self.add_bits(bits.into_iter().filter(|(told, _)| *told).fold(0, |all, (_, bit)| all | bit));
    }

    pub(super) fn add_bits(&self, bits: u8) {
        self.0.fetch_or(bits, Ordering::Relaxed);
    }

    /// Clears a bit, and says whether it was set.
    pub(super) fn take(&self, kind: u8) -> bool {
        self.0.fetch_and(!kind, Ordering::Relaxed) & kind != 0
    }

    pub(super) fn has(&self, kind: u8) -> bool {
        self.0.load(Ordering::Relaxed) & kind != 0
    }

    pub(super) fn clear(&self, kind: u8) {
        self.0.fetch_and(!kind, Ordering::Relaxed);
    }
}
