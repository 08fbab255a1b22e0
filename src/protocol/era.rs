//! The five revisions and what they change on the wire, as data (S-LIFE-12, requirements §33).

use std::fmt;

/// How peers of a revision meet: with a handshake and a session, or statelessly with metadata on every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// 2024-11-05 to 2025-11-25: `initialize`, sessions, server-initiated requests.
    Handshake,
    /// 2026-07-28: metadata per request, no session, no server-initiated requests.
    Stateless,
}

/// A published revision of the protocol, oldest first, so that `>=` reads "at least".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// 2024-11-05
    V2024_11_05,
    /// 2025-03-26
    V2025_03_26,
    /// 2025-06-18
    V2025_06_18,
    /// 2025-11-25
    V2025_11_25,
    /// 2026-07-28
    V2026_07_28,
}

/// Every revision, oldest first.
pub const REVISIONS: [Revision; 5] = [
    Revision::V2024_11_05,
    Revision::V2025_03_26,
    Revision::V2025_06_18,
    Revision::V2025_11_25,
    Revision::V2026_07_28,
];

/// Newest revision with a handshake: offered to such upstreams and answered to clients that ask for an unknown one.
pub const NEWEST_HANDSHAKE: Revision = Revision::V2025_11_25;

/// Newest stateless revision.
pub const NEWEST_STATELESS: Revision = Revision::V2026_07_28;

impl Revision {
    /// The date by which the wire names it.
    pub const fn text(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
            Revision::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of that exact date.
    pub fn parse(text: &str) -> Option<Revision> {
        REVISIONS.into_iter().find(|revision| revision.text() == text)
    }

    /// Which era it belongs to.
    pub const fn era(self) -> Era {
        match self {
            Revision::V2026_07_28 => Era::Stateless,
            _ => Era::Handshake,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
