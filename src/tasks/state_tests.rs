//! Moves of one task, and those that are none.

use super::*;
use crate::protocol::frame::Answer;
use crate::tasks::record::tests::{record, result};
use crate::upstream::task::KeptPlace;

const NOW: u64 = 2_000;

fn running() -> State {
    let (mut state, effects) = State::create(record(1_000));
    assert!(matches!(effects.as_slice(), [Effect::Write(Change::Create(_))]));
    let effects = state.on(Event::Kept, NOW);
    assert!(matches!(effects.as_slice(), [Effect::Begin]), "{effects:?}");
    state
}

fn facts(status: Status) -> TaskFacts {
    TaskFacts {
        id: "theirs".to_owned(),
        status,
        message: Some(format!("it is {}", status.text())),
        created_at: None,
        updated_at: None,
        ttl_ms: None,
        poll_ms: Some(250),
    }
}

fn link() -> Box<TaskLink> {
    Box::new(TaskLink {
        upstream: "one".to_owned(),
        tool: "one_slow".to_owned(),
        id: "theirs".to_owned(),
        dialect: Dialect::Core,
        place: KeptPlace::of(Dialect::Core),
        facts: facts(Status::Working),
    })
}

/// What is done, in short.
fn short(effects: &[Effect]) -> Vec<String> {
    let one = |effect: &Effect| match effect {
        Effect::Write(Change::Create(_)) => "create".to_owned(),
        Effect::Write(Change::Renew(_)) => "renew".to_owned(),
        Effect::Write(Change::Finish(record, _)) => format!("finish {}", record.status.text()),
        Effect::Write(Change::Delete) => "delete".to_owned(),
        Effect::Tell(ticket, verdict) => format!("tell {ticket} {verdict:?}"),
        other => format!("{other:?}"),
    };
    effects.iter().map(one).collect()
}

#[test]
fn f45_a_call_leaves_only_after_its_intent_is_kept() {
    let mut state = running();
    assert_eq!(short(&state.on(Event::Dispatching(1), NOW)), ["renew"]);
    assert_eq!(short(&state.on(Event::NotKept, NOW)), ["RetryLater"]);
    assert_eq!(short(&state.on(Event::RetryDue, NOW)), ["renew"]);
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["Publish", "tell 1 Kept"]);
    // Rounds of the same call are told at once.
    assert_eq!(short(&state.on(Event::Dispatching(2), NOW)), ["tell 2 Kept"]);
    assert_eq!(short(&state.on(Event::Linked(link(), 3), NOW)), ["Publish", "renew"]);
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["Publish", "tell 3 Kept"]);
    assert_eq!(state.record().poll_ms, Some(250));
}

#[test]
fn s_task_15_cancelled_is_kept_before_anybody_hears_of_it_and_the_story_goes_after_that() {
    let mut state = running();
    state.on(Event::Dispatching(1), NOW);
    // Behind the write under way; the call must not leave any more.
    assert!(state.on(Event::Cancel(7), NOW).is_empty());
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["Publish", "finish cancelled"]);
    assert_eq!(state.record().status, Status::Working, "nobody is shown what is not kept");
    // It completes meanwhile.
    assert!(state.on(Event::Ended(Some(result("{}"))), NOW).is_empty());
    let told = short(&state.on(Event::Kept, NOW));
    assert_eq!(told, ["DropStory", "Publish", "tell 7 Cancelled", "Finish"]);
    assert_eq!(state.record().status, Status::Cancelled);
    assert!(state.ending().is_none());
    assert_eq!(short(&state.on(Event::Cancel(8), NOW)), ["tell 8 AlreadyOver"]);
}

#[test]
fn f48_a_cancellation_that_cannot_be_kept_is_refused_and_the_call_goes_on() {
    let mut state = running();
    assert_eq!(short(&state.on(Event::Cancel(7), NOW)), ["finish cancelled"]);
    assert_eq!(short(&state.on(Event::NotKept, NOW)), ["tell 7 Unavailable"]);
    assert_eq!(short(&state.on(Event::Ended(Some(result("{}"))), NOW)), ["finish completed"]);
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["Publish", "Finish"]);
    assert_eq!(state.record().status, Status::Completed);
}

#[test]
fn f48_an_ending_that_cannot_be_kept_is_not_shown_and_not_lost() {
    let mut state = running();
    state.on(Event::Ended(Some(result("{}"))), NOW);
    assert_eq!(short(&state.on(Event::NotKept, NOW)), ["RetryLater", "Publish"]);
    assert_eq!((state.record().status, state.ending().is_none()), (Status::Working, true));
    assert!(state.record().message.as_ref().is_some_and(|message| message.contains("cannot be kept yet")));
    assert_eq!(short(&state.on(Event::RetryDue, NOW)), ["finish completed"]);
    // Who cancels meanwhile hears how it ended.
    assert!(state.on(Event::Cancel(7), NOW).is_empty());
    let told = short(&state.on(Event::Kept, NOW));
    assert_eq!(told, ["Publish", "tell 7 AlreadyOver", "Finish"]);
    assert!(matches!(state.ending(), Some(Ending { answer: Answer::Result(_), .. })));
    assert_eq!(state.record().message, None);
}

#[test]
fn s_task_06_what_is_over_stays_as_it_is_whatever_its_upstream_says() {
    let mut state = running();
    for status in Status::ALL {
        state.on(Event::Said(facts(status)), NOW);
        assert_eq!(state.record().status, Status::Working, "an upstream's {status:?} is no ending");
    }
    state.on(Event::Ended(Some(result(r#"{"isError":true}"#))), NOW);
    state.on(Event::Kept, NOW);
    let over = state.record().clone();
    assert!(over.is_tool_error);
    for event in [
        Event::Said(facts(Status::Working)),
        Event::Asks(Some(Dialect::Core)),
        Event::Ended(Some(result("{}"))),
        Event::Linked(link(), 1),
        Event::Dispatching(2),
        Event::TtlOver,
        Event::Abandoned,
        Event::RetryDue,
        Event::Kept,
        Event::NotKept,
    ] {
        assert!(state.on(event, NOW + 5).is_empty());
        assert_eq!((state.record(), state.asks_in()), (&over, None));
    }
}

#[test]
fn s_task_06_a_task_that_its_upstream_cancelled_is_cancelled_once_that_can_be_kept() {
    let mut state = running();
    assert_eq!(short(&state.on(Event::Ended(None), NOW)), ["finish cancelled"]);
    assert_eq!(short(&state.on(Event::NotKept, NOW)), ["RetryLater", "Publish"]);
    assert_eq!(state.record().status, Status::Working);
    assert_eq!(short(&state.on(Event::RetryDue, NOW)), ["finish cancelled"]);
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["Publish", "Finish"]);
    assert_eq!((state.record().status, state.ending().is_none()), (Status::Cancelled, true));
}

#[test]
fn s_task_17_input_is_required_while_something_is_asked() {
    let mut state = running();
    assert_eq!(short(&state.on(Event::Asks(Some(Dialect::Extension)), NOW)), ["Publish"]);
    assert_eq!(state.asks_in(), Some(Dialect::Extension));
    state.on(Event::Asks(None), NOW);
    assert_eq!(state.asks_in(), None);
    state.on(Event::Asks(Some(Dialect::Extension)), NOW);
    state.on(Event::Ended(Some(result("{}"))), NOW);
    assert_eq!(state.asks_in(), None, "who has its answers asks nothing");
}

#[test]
fn s_tx_11_when_its_time_is_over_the_call_is_given_up_and_the_record_goes() {
    let mut state = running();
    state.on(Event::Cancel(7), NOW);
    let told = short(&state.on(Event::TtlOver, NOW));
    assert_eq!(told, ["DropStory", "Publish", "tell 7 Gone"], "behind the write under way");
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["DropStory", "delete"]);
    assert_eq!(short(&state.on(Event::NotKept, NOW)), ["Finish"]);
    assert!(state.is_gone());
}

#[test]
fn s_task_08_no_more_is_shown_than_the_upstream_grants() {
    let mut state = running();
    let said = |ttl_ms| Event::Said(TaskFacts { ttl_ms: Some(ttl_ms), ..facts(Status::Working) });
    assert_eq!(short(&state.on(said(30_000), NOW)), ["ExpiryMoved", "Publish", "renew"]);
    assert_eq!(state.record().ttl_ms, 30_000);
    state.on(said(90_000), NOW);
    assert_eq!(state.record().ttl_ms, 30_000, "nor is it kept for longer");
    // Created 20 seconds ago, and the upstream keeps it for 5: it is not gone at once.
    state.on(said(5_000), 21_000);
    assert_eq!(state.record().expires_ms(), 22_000);
}

#[test]
fn s_tx_04_what_is_not_kept_is_no_task() {
    let (mut state, _) = State::create(record(1_000));
    assert_eq!(short(&state.on(Event::Cancel(1), NOW)), ["tell 1 Gone"]);
    assert_eq!(short(&state.on(Event::NotKept, NOW)), ["NotCreated", "delete"]);
    assert_eq!(short(&state.on(Event::Kept, NOW)), ["Finish"]);
    let (mut state, _) = State::create(record(1_000));
    state.on(Event::Kept, NOW);
    assert_eq!(short(&state.on(Event::Abandoned, NOW)), ["DropStory", "Publish", "delete"]);
}
