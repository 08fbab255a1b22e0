//! `sessions`: whether sessions of clients outlive the gateway.

use super::check::Check;
use super::state::StateSettings;
use super::written::{Key, Text, given};

/// `sessions` when the file says nothing.
pub(super) const DEFAULT_SESSIONS: &str = "memory";
const DURABLE: &str = "durable";

/// Checked: where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSettings {
    /// They end with the process.
    Memory,
    /// In the directory of `state`, with what was sent on their streams (F26).
    Durable,
}

impl SessionSettings {
    /// Checks the key; `state` was checked before.
    pub(super) fn check(written: &Key<Text>, state: &StateSettings, check: &mut Check<'_>) -> Self {
        let Some(written) = given(written) else { return SessionSettings::Memory };
        let place = &written.place;
        match check.resolve(written).as_deref() {
            Some(DURABLE) if *state == StateSettings::Memory => {
                check.conflict::<()>(place, "sessions cannot be kept while `state` is `memory`");
                SessionSettings::Memory
            }
            Some(DURABLE) => SessionSettings::Durable,
            None | Some(DEFAULT_SESSIONS) => SessionSettings::Memory,
            Some(_) => {
                check.bad::<()>(place, "expected `memory` or `durable`");
                SessionSettings::Memory
            }
        }
    }

    /// Whether they outlive the process.
    pub fn are_durable(self) -> bool {
        self == SessionSettings::Durable
    }
}
