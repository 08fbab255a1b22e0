//! `revisions`: which revisions of the protocol clients may speak (S-LIFE-12).

use super::check::Check;
use super::written::{Given, Key, Text, given};
use crate::protocol::era::{Era, REVISIONS, Revision};

/// Checked: the revisions served to clients, oldest first, at least one.
#[derive(Debug, Clone)]
pub struct ServedRevisions(Vec<Revision>);

impl Default for ServedRevisions {
    fn default() -> Self {
        ServedRevisions(REVISIONS.to_vec())
    }
}

impl ServedRevisions {
    /// Whether it is served.
    pub fn serve(&self, revision: Revision) -> bool {
        self.0.contains(&revision)
    }

    /// Newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = Revision> + '_ {
        self.0.iter().rev().copied()
    }

    /// What a client that shakes hands gets: the revision it asks for, else the newest that there is (S-LIFE-01).
    pub fn negotiate(&self, asked: &str) -> Option<Revision> {
        let with_handshake = || self.newest_first().filter(|revision| revision.era() == Era::Handshake);
        with_handshake().find(|revision| revision.text() == asked).or_else(|| with_handshake().next())
    }

    /// Checks the key.
    pub(super) fn check(written: &Key<Vec<Given<Text>>>, check: &mut Check<'_>) -> Self {
        let Some(list) = given(written) else { return ServedRevisions::default() };
        let mut revisions = Vec::new();
        for item in list.value.iter().filter_map(Given::read) {
            match Revision::parse(&item.value.0) {
                Some(revision) => revisions.push(revision),
                None => {
                    let known = REVISIONS.map(Revision::text).join("`, `");
                    check.bad::<()>(&item.place, format!("expected one of `{known}`"));
                }
            }
        }
        if list.value.is_empty() {
            check.bad::<()>(&list.place, "name at least one revision; without this key all are served");
        }
        revisions.sort_unstable();
        revisions.dedup();
        ServedRevisions(revisions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_life_01_what_is_asked_for_is_given_where_it_is_served() {
        let all = ServedRevisions::default();
        for revision in REVISIONS.into_iter().filter(|revision| revision.era() == Era::Handshake) {
            assert_eq!(all.negotiate(revision.text()), Some(revision));
        }
        for unknown in ["1999-01-01", "2026-07-28", ""] {
            assert_eq!(all.negotiate(unknown), Some(Revision::V2025_11_25), "{unknown}");
        }
    }

    #[test]
    fn s_life_12_a_revision_that_is_switched_off_is_unknown() {
        let some = ServedRevisions(vec![Revision::V2025_06_18, Revision::V2025_11_25]);
        assert_eq!(some.negotiate("2024-11-05"), Some(Revision::V2025_11_25));
        assert_eq!(some.negotiate("2025-06-18"), Some(Revision::V2025_06_18));
        assert!(!some.serve(Revision::V2026_07_28));
        assert_eq!(ServedRevisions(vec![Revision::V2026_07_28]).negotiate("2025-06-18"), None);
    }
}
