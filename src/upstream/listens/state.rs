//! What is listened to at one stateless upstream, as a plain state machine: events in, effects out.
//!
//! Always: at most one stream is being opened; a new one is acknowledged before the one that it replaces is left, and
//! that is read on for a while (era-bridge §5); additions that follow one another closely are asked for together; a
//! stream that ends is opened again, less and less often where it does not last, and what may have been missed is looked
//! at then (S-SUB-09); what was acknowledged once is asked for as long as somebody wants it, whatever the upstream says
//! meanwhile; one resource that is refused spoils no other. Not here: time, sockets and pipes (`run`), who follows what
//! (`subscriptions`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::overlap::Overlap;
use crate::upstream::backoff::Backoff;
use crate::upstream::messages::ListKind;

/// Additions within this time are one.
pub(super) const BATCH: Duration = Duration::from_millis(10);
/// How long a stream that was replaced is still read.
pub(super) const GRACE: Duration = Duration::from_millis(100);
/// A stream that lasted this long was a good one: the next is opened at once.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Kinds of lists whose changes are asked for, and resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) lists: Vec<ListKind>,
    pub(super) uris: BTreeSet<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.uris.is_empty()
    }
}

/// Something that a stream told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Told {
    /// A list changed.
    Changed(ListKind),
    /// The resource of this URI was updated.
    Updated(Box<str>),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It broke off, or the upstream ended it in good order, after it had lasted so long.
    Over(Duration),
    /// The upstream refuses what it was asked for.
    Refused,
    /// The upstream has no such method.
    Unknown,
}

/// What became of a wish for updates of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Verdict {
    /// They will be told.
    Accepted,
    /// The upstream does not tell them.
    Refused,
    /// It could not be asked.
    Unreachable,
}

/// What waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// Additions and removals of a moment.
    Batch,
    /// Another attempt after one that failed.
    Retry,
    /// Another attempt at what was acknowledged once and is not now.
    Renew,
    /// A stream has lasted, if it still stands.
    Lasted(u64),
    /// The end of a stream that was replaced.
    Leave(u64),
}

/// What is to be done now, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Open a stream, and say what becomes of it.
    Open { stream: u64, filter: Filter },
    /// Leave a stream.
    Close(u64),
    /// Say [`ListenState::due`] after a while.
    WakeAfter(Wake, Duration),
    /// What became of the wish for updates of this resource.
    Verdict { uri: String, verdict: Verdict },
    /// Nobody knows what happened meanwhile: look at these lists, and tell of an update of these resources.
    LookAt(Filter),
}

/// See the module head.
#[derive(Debug)]
pub(super) struct ListenState {
    /// Kinds of lists that the upstream says it will tell of.
    lists: Vec<ListKind>,
    /// The upstream says that resources can be subscribed to.
    tells_of_resources: bool,
    /// Resources by URI.
    wanted: BTreeMap<String, Wish>,
    /// New ones that were refused together, to be asked for one by one.
    singly: BTreeSet<String>,
    is_reachable: bool,
    /// The upstream said that it knows no listening.
    is_unknown: bool,
    has_acknowledged: bool,
    current: Option<Stream>,
    opening: Option<Stream>,
    overlap: Overlap,
    backoff: Backoff,
    longest_wait: Duration,
    /// Waits for [`Wake::Retry`].
    is_resting: bool,
    /// Between attempts at what was acknowledged once and is not now.
    renewals: Backoff,
    /// Waits for [`Wake::Renew`].
    awaits_renewal: bool,
    renewal_is_due: bool,
    batch_is_due: bool,
    /// Lists may have changed while nothing was heard.
    owes_lists: bool,
    /// Resources may have been updated while nothing was heard.
    owes_updates: bool,
    next_stream: u64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    /// Lists that it was asked for.
    asked: Vec<ListKind>,
    /// Once it stands: what was honoured.
    filter: Filter,
}

/// A resource that somebody wants updates of.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    /// It was acknowledged once: somebody believes that it is told.
    is_relied_on: bool,
    /// Left out when it was asked for last.
    is_denied: bool,
    /// A verdict is awaited.
    is_asked: bool,
}

impl ListenState {
    /// `waits` are the first and the longest wait between attempts.
    pub(super) fn new(waits: (Duration, Duration)) -> Self {
        ListenState {
            lists: Vec::new(),
            tells_of_resources: false,
            wanted: BTreeMap::new(),
            singly: BTreeSet::new(),
            is_reachable: false,
            is_unknown: false,
            has_acknowledged: false,
            current: None,
            opening: None,
            overlap: Overlap::default(),
            backoff: Backoff::new(waits.0, waits.1),
            longest_wait: waits.1,
            is_resting: false,
            renewals: Backoff::new(waits.0, waits.1),
            awaits_renewal: false,
            renewal_is_due: false,
            batch_is_due: false,
            owes_lists: false,
            owes_updates: false,
            next_stream: 0,
        }
    }

    /// The upstream can be listened to, and tells of changes of these lists, and maybe of resources; these are followed.
    pub(super) fn up(
        &mut self,
        lists: Vec<ListKind>,
        tells_of_resources: bool,
        followed: &[String],
    ) -> Vec<Effect> {
        (self.lists, self.tells_of_resources) = (lists, tells_of_resources);
        (self.is_reachable, self.is_unknown, self.is_resting) = (true, false, false);
        for uri in followed {
            self.wanted.entry(uri.clone()).or_default().is_relied_on = true;
        }
        // Whatever was denied before: this may be another server.
        self.renewal_is_due = true;
        self.renewals.reset();
        self.consider()
    }

    /// It says something else of itself now, and is listened to all the while.
    pub(super) fn says(&mut self, lists: Vec<ListKind>, tells_of_resources: bool) -> Vec<Effect> {
        if (&self.lists, self.tells_of_resources) == (&lists, tells_of_resources) {
            return Vec::new();
        }
        self.owes_lists |= self.lists != lists;
        (self.lists, self.tells_of_resources, self.is_unknown) = (lists, tells_of_resources, false);
        self.consider()
    }

    /// It cannot be reached for now: whatever stands is left.
    pub(super) fn down(&mut self) -> Vec<Effect> {
        (self.is_reachable, self.is_resting, self.batch_is_due) = (false, false, false);
        self.singly.clear();
        let left: Vec<u64> =
            [self.current.take(), self.opening.take()].into_iter().flatten().map(|it| it.number).collect();
        // Its lists are fetched when it is there again; of its resources somebody has to tell.
        self.owes_updates |= !left.is_empty();
        self.overlap = Overlap::default();
        left.into_iter().map(Effect::Close).collect()
    }

    /// Somebody wants updates of a resource; a verdict follows.
    pub(super) fn want(&mut self, uri: &str) -> Vec<Effect> {
        let known = self.wanted.get_mut(uri);
        if known.as_ref().is_some_and(|wish| wish.is_relied_on && !wish.is_denied) {
            return vec![Effect::Verdict { uri: uri.to_owned(), verdict: Verdict::Accepted }];
        }
        if self.is_unknown {
            let verdict = if self.may_listen() { Verdict::Unreachable } else { Verdict::Refused };
            return vec![Effect::Verdict { uri: uri.to_owned(), verdict }];
        }
        match known {
            Some(wish) if wish.is_asked => return Vec::new(),
            Some(wish) => wish.is_asked = true,
            None => {
                self.wanted.insert(uri.to_owned(), Wish { is_asked: true, ..Wish::default() });
            }
        }
        self.batch()
    }

    /// Nobody wants them any longer.
    pub(super) fn unwant(&mut self, uri: &str) -> Vec<Effect> {
        self.singly.remove(uri);
        if self.wanted.remove(uri).is_none() { Vec::new() } else { self.batch() }
    }

    /// A wait is over.
    pub(super) fn due(&mut self, wake: Wake) -> Vec<Effect> {
        match wake {
            Wake::Batch => self.batch_is_due = false,
            Wake::Retry => {
                self.is_resting = false;
                // One that was said to listen may do so by now.
                self.is_unknown &= !self.may_listen();
            }
            Wake::Renew => (self.awaits_renewal, self.renewal_is_due) = (false, true),
            Wake::Lasted(stream) => {
                if self.stands(stream) {
                    self.backoff.reset();
                }
                return Vec::new();
            }
            Wake::Leave(stream) => {
                self.overlap.leave(stream);
                return vec![Effect::Close(stream)];
            }
        }
        self.consider()
    }

    /// A stream stands, for the honoured part of what it was asked.
    pub(super) fn acknowledged(&mut self, stream: u64, honoured: &Filter) -> Vec<Effect> {
        let Some(mut opened) = self.opening.take_if(|opening| opening.number == stream) else {
            return Vec::new();
        };
        self.has_acknowledged = true;
        let mut effects = Vec::new();
        let (kept, missing): (BTreeSet<_>, BTreeSet<_>) =
            opened.filter.uris.into_iter().partition(|uri| honoured.uris.contains(uri));
        opened.filter.uris = kept;
        opened.filter.lists.retain(|list| honoured.lists.contains(list));
        let missed = self.missed(&opened.filter);
        for uri in &opened.filter.uris {
            self.singly.remove(uri);
            self.accept(uri, &mut effects);
        }
        for uri in missing {
            self.deny(uri, &mut effects);
        }
        self.overlap.join(stream);
        if !missed.is_empty() {
            effects.push(Effect::LookAt(missed));
        }
        if self.backoff.is_begun() {
            effects.push(Effect::WakeAfter(Wake::Lasted(stream), GOOD_AFTER));
        }
        if let Some(replaced) = self.current.replace(opened) {
            effects.push(Effect::WakeAfter(Wake::Leave(replaced.number), GRACE));
        }
        effects.extend(self.renew_later());
        effects.extend(self.consider());
        effects
    }

    /// Whether what a stream told is news.
    pub(super) fn admits(&mut self, stream: u64, event: &Told) -> bool {
        self.overlap.admits(stream, event)
    }

    /// A stream ended by itself.
    pub(super) fn ended(&mut self, stream: u64, ending: Ending) -> Vec<Effect> {
        self.overlap.leave(stream);
        let mut effects = Vec::new();
        let was_current = self.current.take_if(|current| current.number == stream).is_some();
        self.owes_lists |= was_current;
        self.owes_updates |= was_current;
        if let Some(opening) = self.opening.take_if(|opening| opening.number == stream) {
            match ending {
                Ending::Over(_) => self.give_up_new(&opening.filter.uris, Verdict::Unreachable, &mut effects),
                Ending::Refused => self.refused(opening.filter.uris, &mut effects),
                Ending::Unknown => return self.knows_no_listening(effects),
            }
            if ending == Ending::Refused && (self.current.is_some() || !self.singly.is_empty()) {
                // It answers: there is nothing to wait for, and less is asked of it next.
                effects.extend(self.renew_later());
                effects.extend(self.consider());
                return effects;
            }
        } else if !was_current {
            return effects;
        }
        if matches!(ending, Ending::Over(lasted) if lasted >= GOOD_AFTER) {
            self.backoff.reset();
        }
        if self.is_reachable && !self.is_resting {
            self.is_resting = true;
            effects.push(Effect::WakeAfter(Wake::Retry, self.backoff.next()));
        }
        effects.extend(self.renew_later());
        effects
    }

    /// Whether a stream was acknowledged and is the one that counts.
    pub(super) fn stands(&self, stream: u64) -> bool {
        self.current.as_ref().is_some_and(|current| current.number == stream)
    }

    /// Whether nothing more is known soon than is known now.
    pub(super) fn is_settled(&self) -> bool {
        self.current.is_some() || self.opening.is_none()
    }

    /// Whether every change of a list that the upstream tells of would be heard.
    pub(super) fn hears_lists(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.filter.lists == self.lists)
    }

    /// Lists were fetched: where no stream stood, what changed in between is looked at when one does.
    pub(super) fn owe_lists(&mut self) {
        self.owes_lists |= self.current.is_none();
    }

    /// Of what is heard again, that of which something may have been missed: nobody waited for a resource before its first
    /// acknowledgement.
    fn missed(&mut self, heard: &Filter) -> Filter {
        let (owes_lists, owes_updates) =
            (std::mem::take(&mut self.owes_lists), std::mem::take(&mut self.owes_updates));
        let missed = |wish: &Wish| wish.is_relied_on && (owes_updates || wish.is_denied);
        let followed = heard.uris.iter().filter(|uri| self.wanted.get(*uri).is_some_and(missed));
        Filter {
            lists: if owes_lists { heard.lists.clone() } else { Vec::new() },
            uris: followed.cloned().collect(),
        }
    }

    /// Whether it said or showed that it can be listened to.
    fn may_listen(&self) -> bool {
        self.has_acknowledged || self.tells_of_resources || !self.lists.is_empty()
    }

    /// The upstream has no such method, or says so for now.
    fn knows_no_listening(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        self.is_unknown = true;
        let all: BTreeSet<String> = self.wanted.keys().cloned().collect();
        if !self.may_listen() {
            self.give_up_new(&all, Verdict::Refused, &mut effects);
            return effects;
        }
        self.give_up_new(&all, Verdict::Unreachable, &mut effects);
        if self.is_reachable && !self.is_resting {
            self.is_resting = true;
            effects.push(Effect::WakeAfter(Wake::Retry, self.longest_wait));
        }
        effects
    }

    /// What was asked for was refused as a whole: one of several may be the reason.
    fn refused(&mut self, asked: BTreeSet<String>, effects: &mut Vec<Effect>) {
        let told = self.current.as_ref().map(|current| &current.filter.uris);
        let is_added = |uri: &String| told.is_none_or(|told| !told.contains(uri));
        let mut added: BTreeSet<String> = asked.into_iter().filter(is_added).collect();
        added.retain(|uri| self.wanted.contains_key(uri));
        if added.len() > 1 {
            self.singly = added;
        } else if let Some(uri) = added.pop_first() {
            self.singly.remove(&uri);
            self.deny(uri, effects);
        }
    }

    fn accept(&mut self, uri: &str, effects: &mut Vec<Effect>) {
        let Some(wish) = self.wanted.get_mut(uri) else { return };
        let is_news = wish.is_asked || wish.is_denied;
        *wish = Wish { is_relied_on: true, ..Wish::default() };
        if is_news {
            effects.push(Effect::Verdict { uri: uri.to_owned(), verdict: Verdict::Accepted });
        }
    }

    /// Who asks is told; what somebody relies on is asked for again later.
    fn deny(&mut self, uri: String, effects: &mut Vec<Effect>) {
        self.singly.remove(&uri);
        let Some(wish) = self.wanted.get_mut(&uri) else { return };
        let is_news = wish.is_asked || !wish.is_denied;
        (wish.is_denied, wish.is_asked) = (true, false);
        if !wish.is_relied_on {
            self.wanted.remove(&uri);
        }
        if is_news {
            effects.push(Effect::Verdict { uri, verdict: Verdict::Refused });
        }
    }

    /// Those for which somebody waits are given up, unless somebody else relies on them.
    fn give_up_new(&mut self, uris: &BTreeSet<String>, verdict: Verdict, effects: &mut Vec<Effect>) {
        for uri in uris {
            let Some(wish) = self.wanted.get_mut(uri).filter(|wish| wish.is_asked) else { continue };
            wish.is_asked = false;
            if !wish.is_relied_on {
                self.wanted.remove(uri);
                self.singly.remove(uri);
            }
            effects.push(Effect::Verdict { uri: uri.clone(), verdict });
        }
    }

    /// What is denied though somebody relies on it is asked for again, less and less often.
    fn renew_later(&mut self) -> Option<Effect> {
        if !self.wanted.values().any(|wish| wish.is_denied) {
            self.renewals.reset();
            return None;
        }
        if self.awaits_renewal || self.renewal_is_due || !self.is_reachable {
            return None;
        }
        self.awaits_renewal = true;
        // It has just answered.
        Some(Effect::WakeAfter(Wake::Renew, self.renewals.next_but_not_at_once()))
    }

    /// Everything that is wanted is told.
    fn accept_all(&mut self) -> Vec<Effect> {
        let told = self.current.as_ref().map(|current| current.filter.uris.clone()).unwrap_or_default();
        let mut effects = Vec::new();
        told.iter().for_each(|uri| self.accept(uri, &mut effects));
        effects
    }

    /// What a stream should be asked for now.
    fn desired(&self) -> Filter {
        let told =
            |uri: &String| self.current.as_ref().is_some_and(|current| current.filter.uris.contains(uri));
        let next = self.singly.first();
        let is_in = |uri: &String, wish: &Wish| match next {
            Some(next) => told(uri) || uri == next,
            None => told(uri) || !wish.is_denied || wish.is_asked || self.renewal_is_due,
        };
        let uris = self.wanted.iter().filter(|(uri, wish)| is_in(uri, wish)).map(|(uri, _)| uri.clone());
        Filter { lists: self.lists.clone(), uris: uris.collect() }
    }

    fn batch(&mut self) -> Vec<Effect> {
        let is_first = !std::mem::replace(&mut self.batch_is_due, true);
        is_first.then_some(Effect::WakeAfter(Wake::Batch, BATCH)).into_iter().collect()
    }

    /// Opens or closes a stream where what stands is not what is wanted.
    fn consider(&mut self) -> Vec<Effect> {
        if !self.is_reachable || self.is_unknown || self.is_resting || self.opening.is_some() {
            return Vec::new();
        }
        let desired = self.desired();
        if self.singly.is_empty() {
            self.renewal_is_due = false;
        }
        // Lists that the upstream would not honour are no reason to ask again and again.
        let stands = |current: &Stream| current.filter.uris == desired.uris && current.asked == desired.lists;
        match &self.current {
            // Let go and wanted again before anything came of it: it was told all the while.
            Some(current) if stands(current) && !desired.is_empty() => self.accept_all(),
            None if desired.is_empty() => Vec::new(),
            Some(current) if desired.is_empty() => {
                let number = current.number;
                (self.current, self.owes_lists, self.owes_updates) = (None, false, false);
                self.overlap.leave(number);
                vec![Effect::Close(number)]
            }
            _ => {
                self.next_stream += 1;
                let stream = self.next_stream;
                let asked = desired.lists.clone();
                self.opening = Some(Stream { number: stream, asked, filter: desired.clone() });
                vec![Effect::Open { stream, filter: desired }]
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
