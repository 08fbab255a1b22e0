//! Whether what an upstream tells of under an id is still the task that was made under it.
//!
//! Always: an id means its task for as long as the session or the process lives that gave it: a server that counts gives the
//! same ids anew after its restart, to whoever comes first (S-TASK-07). Not here: how it is asked (`followed`).

use crate::protocol::task::{Dialect, TaskFacts};
use crate::upstream::task::KeptPlace;

/// See the module head.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// What no later task of that id has in common with it; as the upstream wrote it.
    created_at: Option<String>,
    place: KeptPlace,
    /// Whether no more than the id was found again.
    is_doubtful: bool,
    /// Whether its upstream was seen to tell the same time twice: some write another one with every answer.
    is_steady: bool,
}

impl Identity {
    /// A task that was made where `place` is, when `created_at` says.
    pub(super) fn of(created_at: Option<String>, place: KeptPlace) -> Self {
        Identity { created_at, place, is_doubtful: false, is_steady: false }
    }

    /// It is looked for at another place from now on.
    pub(super) fn is_sought_at(&mut self, place: KeptPlace) {
        let is_there_still = place.session.is_some() && place.session == self.place.session;
        self.is_doubtful |= !is_there_still;
        self.place = place;
    }

    /// A request about it brought nothing. Where there are sessions, they tell of their end themselves.
    pub(super) fn may_be_lost(&mut self) {
        self.is_doubtful |= self.place.dialect == Dialect::Extension;
    }

    /// Whether nothing may be asked or believed of it before a look has told that it is the same.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Whether this tells of another task.
    pub(super) fn is_of_another(&self, facts: &TaskFacts) -> bool {
        match (&self.created_at, &facts.created_at) {
            (Some(known), Some(told)) => {
                let is_fixed = self.place.dialect == Dialect::Extension || self.is_steady;
                let counts = self.is_doubtful || (is_fixed && !self.is_of_process());
                counts && moment(known) != moment(told)
            }
            // Ids of the extension cannot be guessed, and so are not given twice.
            (None, None) => self.is_doubtful && self.place.dialect == Dialect::Core,
            _ => self.is_doubtful,
        }
    }

    /// A look told of the same task.
    pub(super) fn is_seen(&mut self, facts: &TaskFacts) {
        self.is_doubtful = false;
        if let (Some(known), Some(told)) = (&self.created_at, &facts.created_at) {
            self.is_steady = moment(known) == moment(told);
        }
    }

    /// Whether it ends with its connection, to a child. Over HTTP some servers take sessions that they do not know, so that
    /// a session alone proves little where the times differ.
    fn is_of_process(&self) -> bool {
        self.place.dialect == Dialect::Core && self.place.revision.is_none() && self.place.session.is_none()
    }
}

/// A time without what can be written in two ways.
fn moment(text: &str) -> (&str, &str) {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    (whole, fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::task::Status;

    fn told(created_at: Option<&str>) -> TaskFacts {
        TaskFacts {
            id: "task-1".to_owned(),
            status: Status::Working,
            message: None,
            created_at: created_at.map(str::to_owned),
            updated_at: None,
            ttl_ms: None,
            poll_ms: None,
        }
    }

    fn place(dialect: Dialect, session: Option<&str>) -> KeptPlace {
        KeptPlace { session: session.map(str::to_owned), ..KeptPlace::of(dialect) }
    }

    #[test]
    fn s_task_07_an_id_that_is_found_in_another_session_is_no_proof() {
        let made = || Identity::of(Some("then".to_owned()), place(Dialect::Core, Some("one")));
        let mut same = made();
        same.is_sought_at(place(Dialect::Core, Some("one")));
        assert!(!same.is_doubtful() && !same.is_of_another(&told(None)), "its session vouches for it");
        same.place.revision = Some("2025-11-25".to_owned());
        assert!(!same.is_of_another(&told(Some("later"))), "perhaps it tells another time with every answer");
        same.is_seen(&told(Some("then")));
        assert!(same.is_of_another(&told(Some("later"))), "a server may take sessions that it does not know");
        for (session, created_at, is_another) in [
            (Some("two"), Some("then"), false),
            (Some("two"), Some("later"), true),
            (Some("two"), None, true),
            (None, Some("later"), true),
            (None, None, true),
        ] {
            let mut found = made();
            found.is_sought_at(place(Dialect::Core, session));
            assert!(found.is_doubtful());
            assert_eq!(found.is_of_another(&told(created_at)), is_another, "{session:?} {created_at:?}");
        }
        let mut written =
            Identity::of(Some("2026-01-01T10:00:00.500Z".to_owned()), place(Dialect::Core, None));
        written.is_sought_at(place(Dialect::Core, None));
        assert!(!written.is_of_another(&told(Some("2026-01-01T10:00:00.5+00:00"))));
        assert!(written.is_of_another(&told(Some("2026-01-01T10:00:00.05+00:00"))));
        let mut unsaid = Identity::of(None, place(Dialect::Core, Some("one")));
        unsaid.is_sought_at(place(Dialect::Core, Some("two")));
        assert!(unsaid.is_of_another(&told(None)) && unsaid.is_of_another(&told(Some("then"))));
    }

    #[test]
    fn s_task_07_without_a_session_the_time_of_creation_tells_at_every_look() {
        let mut single = Identity::of(Some("then".to_owned()), place(Dialect::Extension, None));
        assert!(single.is_of_another(&told(Some("later"))) && !single.is_of_another(&told(None)));
        single.may_be_lost();
        assert!(single.is_doubtful() && single.is_of_another(&told(None)));
        assert!(!single.is_of_another(&told(Some("then"))));
        single.is_seen(&told(Some("then")));
        assert!(!single.is_doubtful());
        let mut unsaid = Identity::of(None, place(Dialect::Extension, None));
        unsaid.may_be_lost();
        assert!(!unsaid.is_of_another(&told(None)), "such ids are not given twice");
    }
}
