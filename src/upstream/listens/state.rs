//! What is listened to at one stateless upstream, as a plain state machine: events in, effects out.
//!
//! Always: at most one stream is being opened; a new one is acknowledged before the one that it replaces is left, and
//! that is read on for a while (era-bridge §5); additions that follow one another closely are asked for together; a
//! stream that ends is opened again, less and less often where it does not last, and what may have been missed is looked
//! at then (S-SUB-09). Not here: time, sockets and pipes (`run`), who follows what (`subscriptions`).

use std::collections::{BTreeSet, HashMap};
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
    /// Resources by URI; whether the upstream has acknowledged them.
    wanted: HashMap<String, bool>,
    is_reachable: bool,
    /// The upstream knows no listening.
    is_unknown: bool,
    current: Option<Stream>,
    opening: Option<Stream>,
    overlap: Overlap,
    backoff: Backoff,
    /// Waits for [`Wake::Retry`].
    is_resting: bool,
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
    filter: Filter,
}

impl ListenState {
    /// `waits` are the first and the longest wait between attempts.
    pub(super) fn new(waits: (Duration, Duration)) -> Self {
        ListenState {
            lists: Vec::new(),
            wanted: HashMap::new(),
            is_reachable: false,
            is_unknown: false,
            current: None,
            opening: None,
            overlap: Overlap::default(),
            backoff: Backoff::new(waits.0, waits.1),
            is_resting: false,
            batch_is_due: false,
            owes_lists: false,
            owes_updates: false,
            next_stream: 0,
        }
    }

    /// The upstream can be listened to, and tells of changes of these lists.
    pub(super) fn up(&mut self, lists: Vec<ListKind>) -> Vec<Effect> {
        self.lists = lists;
        (self.is_reachable, self.is_unknown, self.is_resting) = (true, false, false);
        self.consider()
    }

    /// It cannot be reached for now: whatever stands is left.
    pub(super) fn down(&mut self) -> Vec<Effect> {
        (self.is_reachable, self.is_resting, self.batch_is_due) = (false, false, false);
        let left: Vec<u64> =
            [self.current.take(), self.opening.take()].into_iter().flatten().map(|it| it.number).collect();
        // Its lists are fetched when it is there again; of its resources somebody has to tell.
        self.owes_updates |= !left.is_empty();
        self.overlap = Overlap::default();
        left.into_iter().map(Effect::Close).collect()
    }

    /// Somebody wants updates of a resource; a verdict follows.
    pub(super) fn want(&mut self, uri: &str) -> Vec<Effect> {
        match self.wanted.get(uri) {
            Some(true) => return vec![Effect::Verdict { uri: uri.to_owned(), verdict: Verdict::Accepted }],
            Some(false) => return Vec::new(),
            None if self.is_unknown => {
                return vec![Effect::Verdict { uri: uri.to_owned(), verdict: Verdict::Refused }];
            }
            None => {}
        }
        self.wanted.insert(uri.to_owned(), false);
        self.batch()
    }

    /// Nobody wants them any longer.
    pub(super) fn unwant(&mut self, uri: &str) -> Vec<Effect> {
        if self.wanted.remove(uri).is_none() { Vec::new() } else { self.batch() }
    }

    /// A wait is over.
    pub(super) fn due(&mut self, wake: Wake) -> Vec<Effect> {
        match wake {
            Wake::Batch => self.batch_is_due = false,
            Wake::Retry => self.is_resting = false,
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
        let mut effects = Vec::new();
        let (kept, missing): (BTreeSet<_>, BTreeSet<_>) =
            opened.filter.uris.into_iter().partition(|uri| honoured.uris.contains(uri));
        opened.filter.uris = kept;
        opened.filter.lists.retain(|list| honoured.lists.contains(list));
        let missed = self.missed(&opened.filter);
        for uri in &opened.filter.uris {
            if let Some(accepted @ false) = self.wanted.get_mut(uri) {
                *accepted = true;
                effects.push(Effect::Verdict { uri: uri.clone(), verdict: Verdict::Accepted });
            }
        }
        self.give_up(missing, Verdict::Refused, &mut effects);
        self.overlap.join(stream);
        if !missed.is_empty() {
            effects.push(Effect::LookAt(missed));
        }
        if let Some(replaced) = self.current.replace(opened) {
            effects.push(Effect::WakeAfter(Wake::Leave(replaced.number), GRACE));
        }
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
                Ending::Over(_) => self.give_up_new(opening.filter.uris, Verdict::Unreachable, &mut effects),
                Ending::Refused => self.give_up_new(opening.filter.uris, Verdict::Refused, &mut effects),
                Ending::Unknown => {
                    self.is_unknown = true;
                    let all = std::mem::take(&mut self.wanted).into_keys();
                    effects.extend(all.map(|uri| Effect::Verdict { uri, verdict: Verdict::Refused }));
                    return effects;
                }
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

    /// Lists were fetched before a stream stood: what changed in between is looked at when one does.
    pub(super) fn owe_lists(&mut self) {
        self.owes_lists = true;
    }

    /// Of what is heard again, that of which something may have been missed: nobody waited for a resource before its first
    /// acknowledgement.
    fn missed(&mut self, heard: &Filter) -> Filter {
        let (owes_lists, owes_updates) =
            (std::mem::take(&mut self.owes_lists), std::mem::take(&mut self.owes_updates));
        let followed = heard.uris.iter().filter(|uri| owes_updates && self.wanted.get(*uri) == Some(&true));
        Filter {
            lists: if owes_lists { heard.lists.clone() } else { Vec::new() },
            uris: followed.cloned().collect(),
        }
    }

    /// Those that were asked for the first time: what was told before is asked for again.
    fn give_up_new(&mut self, uris: BTreeSet<String>, verdict: Verdict, effects: &mut Vec<Effect>) {
        let new = uris.into_iter().filter(|uri| self.wanted.get(uri) == Some(&false)).collect();
        self.give_up(new, verdict, effects);
    }

    fn give_up(&mut self, uris: BTreeSet<String>, verdict: Verdict, effects: &mut Vec<Effect>) {
        for uri in uris {
            if self.wanted.remove(&uri).is_some() {
                effects.push(Effect::Verdict { uri, verdict });
            }
        }
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
        let desired = Filter { lists: self.lists.clone(), uris: self.wanted.keys().cloned().collect() };
        // Lists that the upstream would not honour are no reason to ask again and again.
        let stands = |current: &Stream| current.filter.uris == desired.uris;
        match &self.current {
            Some(current) if stands(current) && !desired.is_empty() => Vec::new(),
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
                self.opening = Some(Stream { number: stream, filter: desired.clone() });
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
        assert_eq!(state.up(TOOLS.to_vec()), [open(1, filter(TOOLS, &[]))]);
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
        state.up(Vec::new());
        state.want("x:1");
        assert_eq!(state.due(Wake::Batch), [open(1, filter(&[], &["x:1"]))]);
        state.acknowledged(1, &filter(&[], &["x:1"]));
        assert_eq!(state.unwant("x:1"), [Effect::WakeAfter(Wake::Batch, BATCH)]);
        assert_eq!(state.unwant("x:1"), []);
        assert_eq!(state.due(Wake::Batch), [Effect::Close(1)], "nothing is left to listen to");
        assert_eq!(state.ended(1, Ending::Over(GOOD_AFTER)), [], "its end is no loss");
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
            [Effect::LookAt(filter(TOOLS, &["x:1"]))]
        );
        let effects = state.ended(stream, Ending::Over(GOOD_AFTER));
        assert_eq!(effects, [Effect::WakeAfter(Wake::Retry, Duration::ZERO)], "it was a good one");
    }

    #[test]
    fn s_sub_09_a_resource_that_is_not_acknowledged_again_is_over() {
        let mut state = state();
        state.up(Vec::new());
        state.want("x:1");
        state.due(Wake::Batch);
        state.acknowledged(1, &filter(&[], &["x:1"]));
        state.ended(1, Ending::Over(GOOD_AFTER));
        state.due(Wake::Retry);
        let effects = state.acknowledged(2, &filter(&[], &[]));
        assert_eq!(effects[0], verdict("x:1", false));
        assert_eq!(effects.last(), Some(&Effect::Close(2)), "nobody wants anything of it");
    }

    #[test]
    fn s_sub_02_a_refusal_is_of_what_is_new_and_the_rest_stands() {
        let mut state = standing();
        state.want("x:1");
        state.due(Wake::Batch);
        let effects = state.ended(2, Ending::Refused);
        assert_eq!(effects[0], verdict("x:1", false));
        assert!(state.hears_lists(), "the one before still stands");
        assert_eq!(state.due(Wake::Retry), [], "it is what is wanted now");
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
    fn an_upstream_that_knows_no_listening_is_left_alone_until_it_is_another() {
        let mut state = state();
        state.up(TOOLS.to_vec());
        state.want("x:1");
        assert_eq!(state.ended(1, Ending::Unknown), [verdict("x:1", false)]);
        assert!(state.is_settled() && !state.hears_lists());
        assert_eq!(state.want("x:1"), [verdict("x:1", false)]);
        assert_eq!(state.due(Wake::Batch), []);
        assert_eq!(state.up(TOOLS.to_vec()), [open(2, filter(TOOLS, &[]))]);
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
        assert_eq!(state.up(TOOLS.to_vec()), [open(3, all())]);
        // All its lists are fetched anyway, and nobody has missed anything of what is new.
        let missed = Effect::LookAt(filter(&[], &["x:1"]));
        assert_eq!(state.acknowledged(3, &all()), [verdict("x:2", true), missed]);
    }
}
