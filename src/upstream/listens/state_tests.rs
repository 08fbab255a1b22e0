//! What is listened to, as stories of events and effects.

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
        assert_eq!(state.wanted.contains_key("x:2"), is_relied_on, "for good, or until it is asked again");
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
