//! Changes of lists that an upstream tells of, on their way to the catalogue.
//!
//! Always: one of its connections at a time tells the catalogue, however many changes it tells of on however many of them;
//! one that comes meanwhile leads to one more, and none is dropped while there is a catalogue (F11). Not here: fetching the
//! lists again (`catalog`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::link::Link;
use super::messages::{ListKind, NewsKind, NewsRecipient, UpstreamNews};
use crate::names::UpstreamName;
use crate::protocol::frame::Notification;
use crate::protocol::json::{Limits, Object, quote};

/// Changes that follow one another faster than this are told together.
const PACE: Duration = Duration::from_millis(100);

const KINDS: [ListKind; 3] = [ListKind::Tools, ListKind::Prompts, ListKind::Resources];

/// Somebody is on the way to the catalogue.
const UNDER_WAY: u8 = 1 << 7;

/// What of one upstream has changed and was not told yet.
#[derive(Debug, Default)]
pub(super) struct Changes(AtomicU8);

impl Changes {
    /// Notes a change; says whether nobody is under way who will tell it.
    fn note(&self, kind: ListKind) -> bool {
        self.0.fetch_or(bit(kind) | UNDER_WAY, Ordering::AcqRel) & UNDER_WAY == 0
    }

    /// What is to be told now by the one who is under way; without anything, nobody is under way any longer.
    fn take(&self) -> Option<u8> {
        let over = self.0.compare_exchange(UNDER_WAY, 0, Ordering::AcqRel, Ordering::Acquire);
        over.is_err().then(|| self.0.fetch_and(UNDER_WAY, Ordering::AcqRel) & !UNDER_WAY)
    }
}

fn bit(kind: ListKind) -> u8 {
    match kind {
        ListKind::Tools => 1,
        ListKind::Prompts => 1 << 1,
        ListKind::Resources => 1 << 2,
    }
}

impl Link {
    /// A change is followed where the upstream said that it would tell of changes (S-LIST-04).
    pub(super) fn list_changed(self: &Arc<Self>, kind: ListKind) {
        let feature = match kind {
            ListKind::Tools => "tools",
            ListKind::Prompts => "prompts",
            ListKind::Resources => "resources",
        };
        let is_declared = self.facts().is_ok_and(|facts| facts.capabilities.flag(feature, "listChanged"));
        if is_declared {
            note_change(&self.reports.changes, &self.upstream, &self.reports.news, kind);
        }
    }
}

/// Notes a change, and sees to it that the catalogue is told.
pub(super) fn note_change(
    changes: &Arc<Changes>,
    upstream: &UpstreamName,
    news: &NewsRecipient,
    kind: ListKind,
) {
    if changes.note(kind) {
        tokio::task::spawn_local(tell_changes(Arc::clone(changes), upstream.clone(), news.clone()));
    }
}

impl Link {
    /// Nobody knows what the upstream told for a while, so whatever it would have told may have happened: lists may have
    /// changed, and so may what is followed over this link. A needless look costs less than one that is never taken.
    pub(super) fn catch_up(self: &Arc<Self>) {
        for kind in KINDS {
            self.list_changed(kind);
        }
        for uri in self.reports.followers.of(self.affinity()) {
            let params = Bytes::from(format!(r#"{{"uri":{}}}"#, quote(&uri)));
            if let Ok(params) = Object::parse(params, Limits::NONE) {
                self.updated(&Notification { method: "notifications/resources/updated".into(), params });
            }
        }
    }
}

/// Waits for its turn in the catalogue's mailbox, which others need as well.
async fn tell_changes(changes: Arc<Changes>, upstream: UpstreamName, news: NewsRecipient) {
    while let Some(changed) = changes.take() {
        for kind in KINDS.into_iter().filter(|kind| changed & bit(*kind) != 0) {
            let told = UpstreamNews { upstream: upstream.clone(), kind: NewsKind::ListChanged(kind) };
            if news.send(told).await.is_err() {
                tracing::debug!(%upstream, "a list changed for a catalogue that has stopped");
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f11_changes_are_told_by_one_at_a_time_and_none_is_forgotten() {
        let changes = Changes::default();
        assert!(changes.note(ListKind::Tools), "somebody has to go");
        for _ in 0..1_000 {
            assert!(!changes.note(ListKind::Tools) && !changes.note(ListKind::Prompts));
        }
        assert_eq!(changes.take(), Some(bit(ListKind::Tools) | bit(ListKind::Prompts)));
        assert!(!changes.note(ListKind::Tools), "a change after the telling began");
        assert_eq!(changes.take(), Some(bit(ListKind::Tools)), "is told once more");
        assert_eq!(changes.take(), None);
        assert!(changes.note(ListKind::Resources), "and somebody goes again");
    }
}
