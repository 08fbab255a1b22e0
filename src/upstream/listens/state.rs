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
mod tests {
    use super::*;

    fn state() -> ListenState {
        ListenState::new((Duration::from_secs(1), Duration::from_secs(60)))
    }

    fn filter(lists: &[ListKind], uris: &[&str]) -> Filter {
        Filter { lists: lists.to_vec(), uris: uris.iter().map(ToString::to_string).collect() }
    }

    fn open(stream: u64, filter: Filter) -> Effect {
        Effect::Open { stream, filter }
    }

    fn verdict(uri: &str, accepted: bool) -> Effect {
        let verdict = if accepted { Verdict::Accepted } else { Verdict::Refused };
        Effect::Verdict { uri: uri.to_owned(), verdict }
    }

    const TOOLS: &[ListKind] = &[ListKind::Tools];

    /// One stream, acknowledged, for tools.
    fn standing() -> ListenState {
        let mut state = state();
        assert_eq!(state.up(TOOLS.to_vec(), true, &[]), [open(1, filter(TOOLS, &[]))]);
        assert!(!state.is_settled());
        assert_eq!(state.acknowledged(1, &filter(TOOLS, &[])), []);
        assert!(state.is_settled() && state.hears_lists());
        state
    }

    #[test]
    fn s_sub_06_additions_of_a_moment_are_one_new_stream_and_the_old_one_is_left_after_it_stands() {
        let mut state = standing();
        assert_eq!(state.want("x:1"), [Effect::WakeAfter(Wake::Batch, BATCH)]);
        assert_eq!(state.want("x:2"), [], "one wait for both");
        assert_eq!(state.due(Wake::Batch), [open(2, filter(TOOLS, &["x:1", "x:2"]))]);
        assert!(state.is_settled(), "the old one still stands");
        assert_eq!(state.want("x:3"), [Effect::WakeAfter(Wake::Batch, BATCH)]);
        assert_eq!(state.due(Wake::Batch), [], "one is opened at a time");
        assert_eq!(
            state.acknowledged(2, &filter(TOOLS, &["x:1"])),
            [
                verdict("x:1", true),
                verdict("x:2", false),
                Effect::WakeAfter(Wake::Leave(1), GRACE),
                open(3, filter(TOOLS, &["x:1", "x:3"])),
            ],
            "what is missing in the acknowledgement cannot be subscribed to"
        );
        assert_eq!(state.due(Wake::Leave(1)), [Effect::Close(1)]);
        let left = state.acknowledged(3, &filter(TOOLS, &["x:1", "x:3"]));
        assert_eq!(left, [verdict("x:3", true), Effect::WakeAfter(Wake::Leave(2), GRACE)]);
        assert_eq!(state.want("x:1"), [verdict("x:1", true)], "it stands already");
    }

    #[test]
    fn s_sub_06_what_nobody_wants_any_longer_is_let_go() {
        let mut state = state();
        state.up(Vec::new(), true, &[]);
        state.want("x:1");
        assert_eq!(state.due(Wake::Batch), [open(1, filter(&[], &["x:1"]))]);
        state.acknowledged(1, &filter(&[], &["x:1"]));
        assert_eq!(state.unwant("x:1"), [Effect::WakeAfter(Wake::Batch, BATCH)]);
        assert_eq!(state.unwant("x:1"), []);
        assert_eq!(state.due(Wake::Batch), [Effect::Close(1)], "nothing is left to listen to");
        assert_eq!(state.ended(1, Ending::Over(GOOD_AFTER)), [], "its end is no loss");
    }

    #[test]
    fn s_sub_06_what_is_wanted_again_at_once_was_never_let_go_and_whoever_waits_is_told() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        assert_eq!(state.unwant("x:1"), [Effect::WakeAfter(Wake::Batch, BATCH)]);
        assert_eq!(state.want("x:1"), []);
        assert_eq!(state.due(Wake::Batch), [verdict("x:1", true)]);
        state.unwant("x:1");
        assert_eq!(state.due(Wake::Batch), [open(3, filter(TOOLS, &[]))]);
        state.want("x:1");
        assert_eq!(state.due(Wake::Batch), [], "one is opened at a time");
        let left = state.acknowledged(3, &filter(TOOLS, &[]));
        assert_eq!(left, [Effect::WakeAfter(Wake::Leave(2), GRACE), open(4, filter(TOOLS, &["x:1"]))]);
        assert!(state.acknowledged(4, &filter(TOOLS, &["x:1"])).contains(&verdict("x:1", true)));
    }

    #[test]
    fn s_sub_06_both_streams_tell_once_while_both_stand() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        let change = Told::Changed(ListKind::Tools);
        assert!(state.admits(1, &change) && state.admits(1, &change));
        assert!(!state.admits(2, &change), "nothing precedes an acknowledgement");
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        assert_eq!([1, 2].map(|stream| state.admits(stream, &change)), [true, false]);
        state.due(Wake::Leave(1));
        assert!(state.admits(2, &change) && !state.admits(1, &change));
    }

    #[test]
    fn s_sub_09_a_lost_stream_is_opened_again_less_and_less_often_and_what_may_be_missed_is_looked_at() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        let mut waits = Vec::new();
        let mut stream = 2;
        for _ in 0..4 {
            let effects = state.ended(stream, Ending::Over(Duration::ZERO));
            let [Effect::WakeAfter(Wake::Retry, wait)] = effects.as_slice() else { panic!("{effects:?}") };
            waits.push(*wait);
            assert!(!state.hears_lists());
            stream += 1;
            assert_eq!(state.due(Wake::Retry), [open(stream, filter(TOOLS, &["x:1"]))]);
        }
        assert!(waits[0].is_zero() && waits.is_sorted() && waits[3] > Duration::from_secs(3), "{waits:?}");
        assert_eq!(
            state.acknowledged(stream, &filter(TOOLS, &["x:1"])),
            [Effect::LookAt(filter(TOOLS, &["x:1"])), Effect::WakeAfter(Wake::Lasted(stream), GOOD_AFTER)]
        );
        let effects = state.ended(stream, Ending::Over(GOOD_AFTER));
        assert_eq!(effects, [Effect::WakeAfter(Wake::Retry, Duration::ZERO)], "it was a good one");
    }

    /// The wait of the one effect that is of this kind.
    fn wait(effects: &[Effect], wake: Wake) -> Duration {
        let waits = effects.iter().filter_map(|effect| match effect {
            Effect::WakeAfter(of, wait) if *of == wake => Some(*wait),
            _ => None,
        });
        let waits: Vec<_> = waits.collect();
        assert_eq!(waits.len(), 1, "{wake:?} in {effects:?}");
        waits[0]
    }

    #[test]
    fn s_sub_09_a_resource_that_is_not_acknowledged_again_is_asked_for_as_long_as_it_is_wanted() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        state.ended(2, Ending::Over(GOOD_AFTER));
        state.due(Wake::Retry);
        let effects = state.acknowledged(3, &filter(TOOLS, &[]));
        assert!(effects.contains(&verdict("x:1", false)), "{effects:?}");
        let mut waits = vec![wait(&effects, Wake::Renew)];
        assert_eq!(state.due(Wake::Retry), [], "not at once");
        for stream in 4..7 {
            assert_eq!(state.due(Wake::Renew), [open(stream, filter(TOOLS, &["x:1"]))]);
            let effects = state.acknowledged(stream, &filter(TOOLS, &[]));
            assert!(!effects.contains(&verdict("x:1", false)), "it was told before");
            waits.push(wait(&effects, Wake::Renew));
        }
        assert!(waits[0] >= Duration::from_millis(500) && waits.is_sorted(), "{waits:?}");
        // Whoever wants it now is told what the upstream says now.
        state.want("x:1");
        assert_eq!(state.due(Wake::Batch), [open(7, filter(TOOLS, &["x:1"]))]);
        assert!(state.acknowledged(7, &filter(TOOLS, &[])).contains(&verdict("x:1", false)));
        assert_eq!(state.due(Wake::Renew), [open(8, filter(TOOLS, &["x:1"]))]);
        let effects = state.acknowledged(8, &filter(TOOLS, &["x:1"]));
        assert!(effects.contains(&verdict("x:1", true)));
        assert!(effects.contains(&Effect::LookAt(filter(&[], &["x:1"]))), "{effects:?}");
    }

    #[test]
    fn s_sub_09_what_was_not_acknowledged_again_is_asked_for_when_the_upstream_is_back_and_ends_with_its_followers()
     {
        let mut state = state();
        state.up(Vec::new(), true, &[]);
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(1, &filter(&[], &["x:1"]));
        state.ended(1, Ending::Over(GOOD_AFTER));
        state.due(Wake::Retry);
        let effects = state.acknowledged(2, &filter(&[], &[]));
        assert_eq!(effects.last(), Some(&Effect::Close(2)), "nothing is told on it");
        state.down();
        let followed = ["x:1".to_owned(), "x:2".to_owned()];
        assert_eq!(state.up(Vec::new(), true, &followed), [open(3, filter(&[], &["x:1", "x:2"]))]);
        state.acknowledged(3, &filter(&[], &["x:2"]));
        state.unwant("x:1");
        assert_eq!(state.due(Wake::Batch), []);
        assert_eq!(state.due(Wake::Renew), [], "nobody wants it");
    }

    #[test]
    fn s_sub_02_what_is_refused_together_is_asked_for_one_by_one_and_costs_what_stands_nothing() {
        for is_relied_on in [false, true] {
            let mut state = state();
            let all = ["x:1".to_owned(), "x:2".to_owned(), "x:3".to_owned()];
            state.up(TOOLS.to_vec(), true, if is_relied_on { &all } else { &[] });
            if !is_relied_on {
                state.acknowledged(1, &filter(TOOLS, &[]));
                all.iter().for_each(|uri| drop(state.want(uri)));
                state.due(Wake::Batch);
            }
            let first = if is_relied_on { 1 } else { 2 };
            let effects = state.ended(first, Ending::Refused);
            assert_eq!(effects, [open(first + 1, filter(TOOLS, &["x:1"]))], "nobody is refused yet");
            let effects = state.acknowledged(first + 1, &filter(TOOLS, &["x:1"]));
            assert!(effects.contains(&open(first + 2, filter(TOOLS, &["x:1", "x:2"]))), "{effects:?}");
            let effects = state.ended(first + 2, Ending::Refused);
            assert_eq!(effects[0], verdict("x:2", false));
            assert!(effects.contains(&open(first + 3, filter(TOOLS, &["x:1", "x:3"]))), "{effects:?}");
            let effects = state.acknowledged(first + 3, &filter(TOOLS, &["x:1", "x:3"]));
            assert!(state.singly.is_empty() && state.opening.is_none(), "{effects:?}");
            assert_eq!(
                state.wanted.contains_key("x:2"),
                is_relied_on,
                "for good, or until it is asked again"
            );
        }
    }

    #[test]
    fn s_sub_02_refusals_do_not_slow_down_what_comes_after_them() {
        let mut state = standing();
        for stream in 2..9 {
            state.want("x:1");
            assert_eq!(state.due(Wake::Batch), [open(stream, filter(TOOLS, &["x:1"]))]);
            assert_eq!(state.ended(stream, Ending::Refused), [verdict("x:1", false)]);
        }
        for stream in 9..12 {
            state.want("x:1");
            state.due(Wake::Batch);
            state.ended(stream, Ending::Over(Duration::ZERO));
            state.due(Wake::Retry);
        }
        state.want("x:1");
        state.due(Wake::Batch);
        let effects = state.acknowledged(12, &filter(TOOLS, &["x:1"]));
        assert_eq!(wait(&effects, Wake::Lasted(12)), GOOD_AFTER);
        state.due(Wake::Lasted(12));
        state.want("x:2");
        state.due(Wake::Batch);
        let effects = state.ended(13, Ending::Over(Duration::ZERO));
        assert!(wait(&effects, Wake::Retry).is_zero(), "it has stood for a while");
    }

    #[test]
    fn s_sub_06_s_disc_03_other_lists_are_asked_for_before_the_old_stream_is_left() {
        let mut state = standing();
        let both = || vec![ListKind::Tools, ListKind::Prompts];
        assert_eq!(state.says(TOOLS.to_vec(), true), []);
        assert_eq!(state.says(both(), true), [open(2, filter(&both(), &[]))]);
        assert!(!state.hears_lists());
        let effects = state.acknowledged(2, &filter(TOOLS, &[]));
        let missed = Effect::LookAt(filter(TOOLS, &[]));
        assert_eq!(effects, [missed, Effect::WakeAfter(Wake::Leave(1), GRACE)], "not asked for again");
        assert!(!state.hears_lists(), "one is not told");
    }

    #[test]
    fn s_sub_09_lists_that_were_fetched_before_the_first_stream_stood_are_looked_at_when_one_does() {
        let mut state = state();
        state.up(TOOLS.to_vec(), true, &[]);
        state.ended(1, Ending::Over(Duration::ZERO));
        assert!(state.is_settled());
        state.owe_lists();
        state.due(Wake::Retry);
        let effects = state.acknowledged(2, &filter(TOOLS, &[]));
        assert_eq!(effects[0], Effect::LookAt(filter(TOOLS, &[])));
        state.owe_lists();
        assert!(!state.owes_lists, "they are heard");
    }

    #[test]
    fn s_sub_09_one_that_was_said_to_listen_and_knows_no_listening_is_asked_again_later() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        state.ended(2, Ending::Over(GOOD_AFTER));
        state.want("x:2");
        state.due(Wake::Retry);
        let unreachable = |uri: &str| Effect::Verdict { uri: uri.to_owned(), verdict: Verdict::Unreachable };
        let effects = state.ended(3, Ending::Unknown);
        assert_eq!(effects, [unreachable("x:2"), Effect::WakeAfter(Wake::Retry, Duration::from_secs(60))]);
        assert_eq!(state.want("x:3"), [unreachable("x:3")], "at once");
        assert_eq!(state.due(Wake::Batch), []);
        assert_eq!(state.due(Wake::Retry), [open(4, filter(TOOLS, &["x:1"]))]);
    }

    #[test]
    fn s_sub_02_a_refusal_is_of_what_is_new_and_the_rest_stands() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        let effects = state.ended(2, Ending::Refused);
        assert_eq!(effects, [verdict("x:1", false)], "there is nothing to wait for");
        assert!(state.hears_lists(), "the one before still stands");
    }

    #[test]
    fn s_sub_05_who_asks_an_upstream_that_cannot_be_asked_is_told_so_and_what_stood_is_asked_for_again() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        state.ended(2, Ending::Over(GOOD_AFTER));
        state.want("x:2");
        assert_eq!(state.due(Wake::Retry), [open(3, filter(TOOLS, &["x:1", "x:2"]))]);
        let effects = state.ended(3, Ending::Over(Duration::ZERO));
        let given_up = Effect::Verdict { uri: "x:2".to_owned(), verdict: Verdict::Unreachable };
        assert_eq!(effects[0], given_up);
        assert_eq!(state.due(Wake::Retry), [open(4, filter(TOOLS, &["x:1"]))]);
    }

    #[test]
    fn an_upstream_that_knows_no_listening_and_never_said_so_is_left_alone_until_it_is_another() {
        let mut state = state();
        state.up(Vec::new(), false, &[]);
        state.want("x:1");
        state.due(Wake::Batch);
        assert_eq!(state.ended(1, Ending::Unknown), [verdict("x:1", false)]);
        assert!(state.is_settled());
        assert_eq!(state.want("x:1"), [verdict("x:1", false)]);
        assert_eq!(state.due(Wake::Batch), []);
        assert_eq!(state.up(TOOLS.to_vec(), true, &[]), [open(2, filter(TOOLS, &[]))]);
    }

    #[test]
    fn s_sub_09_a_restarted_server_is_listened_to_again_and_its_resources_are_told_of() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(2, &filter(TOOLS, &["x:1"]));
        assert_eq!(state.down(), [Effect::Close(2)]);
        assert_eq!(state.ended(2, Ending::Over(GOOD_AFTER)), []);
        assert_eq!(state.want("x:2"), [Effect::WakeAfter(Wake::Batch, BATCH)]);
        assert_eq!(state.due(Wake::Batch), [], "there is nobody to ask");
        let all = || filter(TOOLS, &["x:1", "x:2"]);
        assert_eq!(state.up(TOOLS.to_vec(), true, &[]), [open(3, all())]);
        // All its lists are fetched anyway, and nobody has missed anything of what is new.
        let missed = Effect::LookAt(filter(&[], &["x:1"]));
        assert_eq!(state.acknowledged(3, &all()), [verdict("x:2", true), missed]);
    }
}
