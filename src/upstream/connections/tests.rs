//! The state machine told as stories: no actor, no process, no time that passes by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Connection, Connections, Effect, GOOD_AFTER, OUTLIVING, Opened};
use crate::auth::principal::Principal;
use crate::names::SessionId;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Era;
use crate::upstream::call::{Affinity, Client};
use crate::upstream::error::UpstreamError;
use crate::upstream::messages::Progress;
use crate::upstream::subscriptions::Subscriptions;

const SECOND: Duration = Duration::from_secs(1);

/// A connection as the state machine sees it.
#[derive(Debug, Clone)]
struct Wire {
    name: &'static str,
    ended: Arc<AtomicBool>,
    busy: Arc<AtomicBool>,
    has_tasks: Arc<AtomicBool>,
}

impl Wire {
    fn named(name: &'static str) -> Self {
        Wire { name, ended: Arc::default(), busy: Arc::default(), has_tasks: Arc::default() }
    }
}

impl Connection for Wire {
    fn ended_because(&self) -> Option<String> {
        self.ended.load(Ordering::Relaxed).then(|| "cut".into())
    }

    fn ended_well(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    fn retires_after(&self, limit: Duration) -> bool {
        limit <= Duration::from_secs(60) && !self.busy.load(Ordering::Relaxed) && !self.holds_tasks()
    }

    fn holds_tasks(&self) -> bool {
        self.has_tasks.load(Ordering::Relaxed)
    }
}

pub(in crate::upstream) fn client(affinity: Affinity) -> Arc<Client> {
    Arc::new(Client {
        principal: Principal::Local,
        affinity,
        task_of: None,
        profile: None,
        capabilities: ClientCapabilities::none(),
        port: None,
        closed: CancellationToken::new(),
    })
}

/// A client with a session of its own.
pub(in crate::upstream) fn session() -> Arc<Client> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    client(Affinity::Session(SessionId(u128::from(LAST.fetch_add(1, Ordering::Relaxed)))))
}

struct Story {
    connections: Connections<Wire>,
    subscriptions: Arc<Subscriptions>,
    now: Instant,
}

impl Story {
    /// The shared connection is being opened: attempt 1.
    fn starting() -> Self {
        let subscriptions = Arc::<Subscriptions>::default();
        let own = client(Affinity::Shared);
        let waits = (SECOND, Duration::from_secs(60));
        let mut connections = Connections::new(own, Arc::clone(&subscriptions), waits);
        let now = Instant::now();
        let effects = connections.start(now);
        assert_eq!(told(&effects), ["attempt 1"]);
        Story { connections, subscriptions, now }
    }

    /// The shared connection is open.
    fn up() -> Self {
        let mut story = Story::starting();
        let effects = story.settles(Affinity::Shared, 1, Wire::named("shared"));
        assert_eq!(effects, ["use shared", "up"]);
        story
    }

    /// A session that is alone on its connection subscribes to something.
    fn follows(&self, client: &Arc<Client>) {
        let _turn = self.subscriptions.turn(client, "test://one");
        self.subscriptions.add(client.affinity, client, "test://one");
        self.subscriptions.accept(client.affinity, "test://one");
    }

    fn opens(&mut self, client: &Arc<Client>) -> (watch::Receiver<Progress<Wire>>, Vec<String>) {
        let (progress, effects) = self.connections.open(client, self.now);
        (progress, told(&effects))
    }

    fn settles(&mut self, affinity: Affinity, number: u64, wire: Wire) -> Vec<String> {
        told(&self.connections.settled(affinity, number, Ok(Opened::Link(wire)), self.now))
    }

    fn fails(&mut self, affinity: Affinity, number: u64) -> Vec<String> {
        let error = UpstreamError::unavailable("no luck");
        told(&self.connections.settled(affinity, number, Err(error), self.now))
    }
}

fn told(effects: &[Effect<Wire>]) -> Vec<String> {
    let word = |effect: &Effect<Wire>| match effect {
        Effect::Attempt { number, .. } => format!("attempt {number}"),
        Effect::Use { link, .. } => format!("use {}", link.name),
        Effect::Forget(_) => "forget".into(),
        Effect::Close { link, .. } => format!("close {}", link.name),
        Effect::WakeAfter { .. } => "wake".into(),
        Effect::Up => "up".into(),
        Effect::Asleep => "asleep".into(),
        Effect::Doubted => "doubted".into(),
        Effect::Down { .. } => "down".into(),
    };
    effects.iter().map(word).collect()
}

fn state(progress: &watch::Receiver<Progress<Wire>>) -> String {
    match &*progress.borrow() {
        Progress::Starting => "starting".into(),
        Progress::Ready(wire) => format!("ready {}", wire.name),
        Progress::NotNeeded => "not needed".into(),
        Progress::Failed(error) => format!("failed, {:?}", error.ran()),
    }
}

#[test]
fn two_callers_share_one_attempt() {
    let (mut story, client) = (Story::up(), session());
    let (first, effects) = story.opens(&client);
    assert_eq!(effects, ["attempt 2"]);
    let (second, effects) = story.opens(&client);
    assert!(effects.is_empty(), "{effects:?}");
    assert_eq!(story.settles(client.affinity, 2, Wire::named("own")), ["use own"]);
    assert_eq!((state(&first), state(&second)), ("ready own".into(), "ready own".into()));
    let (third, effects) = story.opens(&client);
    assert_eq!((state(&third).as_str(), effects.len()), ("ready own", 0));
}

#[test]
fn a_session_that_ends_while_its_connection_opens_leaves_nothing_behind() {
    let (mut story, client) = (Story::up(), session());
    let (progress, effects) = story.connections.open(&client, story.now);
    let [Effect::Attempt { abandoned, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    client.closed.cancel();
    assert!(told(&story.connections.release(client.affinity, "gone")).is_empty());
    assert!(abandoned.is_cancelled(), "the attempt is told");
    assert_eq!(state(&progress), "failed, NotSent");
    // It was open already when it was told.
    assert_eq!(story.settles(client.affinity, 2, Wire::named("late")), ["close late"]);
    let (progress, effects) = story.opens(&client);
    assert_eq!((state(&progress).as_str(), effects.len()), ("failed, NotSent", 0), "nor is it opened again");
}

#[test]
fn a_link_that_ends_while_it_opens_is_told_once() {
    let (mut story, client) = (Story::up(), session());
    let (progress, _) = story.opens(&client);
    assert!(story.connections.ended(client.affinity, 2, story.now).is_empty());
    assert_eq!(state(&progress), "starting");
    let dead = Wire::named("dead");
    dead.ended.store(true, Ordering::Relaxed);
    assert!(story.settles(client.affinity, 2, dead).is_empty());
    assert_eq!(state(&progress), "failed, Unknown");
}

#[test]
fn f15_a_session_s_connection_that_keeps_failing_is_tried_less_and_less_often() {
    let (mut story, client) = (Story::up(), session());
    let mut number = 2;
    for wait in [0, 1, 2, 4] {
        let (progress, effects) = story.opens(&client);
        assert_eq!(effects, [format!("attempt {number}")]);
        story.fails(client.affinity, number);
        assert_eq!(state(&progress), "failed, NotSent");
        if wait > 0 {
            let (progress, effects) = story.opens(&client);
            assert!(effects.is_empty(), "nobody makes it try before its time");
            let Progress::Failed(UpstreamError::Unavailable { retry_after, .. }) = &*progress.borrow() else {
                panic!("a refusal that says when");
            };
            let wait = SECOND * wait;
            assert!(retry_after.is_some_and(|after| after <= wait && after >= wait.mul_f64(0.79)));
        }
        story.now += SECOND * wait;
        number += 1;
    }
    // A good life wipes it out.
    story.opens(&client);
    let wire = Wire::named("good");
    story.settles(client.affinity, number, wire.clone());
    story.now += GOOD_AFTER;
    wire.ended.store(true, Ordering::Relaxed);
    assert_eq!(told(&story.connections.ended(client.affinity, number, story.now)), ["forget"]);
    assert_eq!(story.opens(&client).1, [format!("attempt {}", number + 1)]);
}

#[test]
fn f15_where_updates_are_awaited_the_connection_comes_back_by_itself_but_not_in_a_tight_loop() {
    let (mut story, client) = (Story::up(), session());
    story.follows(&client);
    story.opens(&client);
    assert_eq!(story.fails(client.affinity, 2), ["attempt 3"]);
    assert_eq!(story.fails(client.affinity, 3), ["wake"]);
    assert_eq!(told(&story.connections.due(client.affinity, story.now)), ["wake"], "too early");
    story.now += SECOND;
    assert_eq!(told(&story.connections.due(client.affinity, story.now)), ["attempt 4"]);
}

#[test]
fn sessions_wait_for_the_shared_connection_and_begin_when_it_is_up() {
    let (mut story, client) = (Story::starting(), session());
    let (progress, effects) = story.opens(&client);
    assert!(effects.is_empty(), "{effects:?}");
    assert_eq!(story.settles(Affinity::Shared, 1, Wire::named("shared")), ["use shared", "up", "attempt 2"]);
    assert_eq!(state(&progress), "starting");
    story.settles(client.affinity, 2, Wire::named("own"));
    assert_eq!(state(&progress), "ready own");
}

#[test]
fn sessions_that_wait_fail_with_the_shared_connection_and_count_no_failure_of_their_own() {
    let (mut story, client) = (Story::starting(), session());
    let (progress, _) = story.opens(&client);
    assert_eq!(story.fails(Affinity::Shared, 1), ["down", "attempt 2"], "the first retry is immediate");
    assert_eq!(state(&progress), "failed, NotSent");
    assert_eq!(story.fails(Affinity::Shared, 2), ["down", "wake"]);
    let (progress, effects) = story.opens(&client);
    assert_eq!((state(&progress).as_str(), effects.len()), ("failed, NotSent", 0));
    story.now += SECOND;
    assert_eq!(told(&story.connections.due(Affinity::Shared, story.now)), ["attempt 3"]);
    story.settles(Affinity::Shared, 3, Wire::named("shared"));
    assert_eq!(story.opens(&client).1, ["attempt 4"], "at once");
}

#[test]
fn s_res_07_subscribed_sessions_are_connected_again_when_the_upstream_is_back() {
    let mut story = Story::starting();
    let (waits, left) = (session(), session());
    for client in [&waits, &left] {
        story.follows(client);
    }
    left.closed.cancel();
    assert_eq!(story.settles(Affinity::Shared, 1, Wire::named("shared")), ["use shared", "up", "attempt 2"]);
    assert!(story.connections.awaits(waits.affinity, 2));
}

#[test]
fn an_end_that_nobody_told_is_noticed_by_the_next_caller_and_by_the_tick() {
    for by_tick in [false, true] {
        let (mut story, client) = (Story::up(), session());
        story.opens(&client);
        let wire = Wire::named("own");
        story.settles(client.affinity, 2, wire.clone());
        wire.ended.store(true, Ordering::Relaxed);
        if by_tick {
            assert_eq!(told(&story.connections.tick(|_| None, story.now)), ["forget"]);
        } else {
            let (progress, effects) = story.opens(&client);
            assert_eq!(
                (state(&progress).as_str(), effects),
                ("starting", vec!["forget".into(), "attempt 3".into()])
            );
        }
    }
}

#[test]
fn the_tick_closes_what_is_idle_and_what_belonged_to_sessions_that_ended() {
    let mut story = Story::up();
    let (ended, idle, waits) = (session(), session(), session());
    for (client, number, name) in [(&ended, 2, "ended"), (&idle, 3, "idle"), (&waits, 4, "waits")] {
        story.opens(client);
        story.settles(client.affinity, number, Wire::named(name));
    }
    story.follows(&waits);
    ended.closed.cancel();
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), ["forget", "close ended"]);
    let limit = Some(Duration::from_secs(30));
    let mut closed = told(&story.connections.tick(|_| limit, story.now));
    closed.sort_unstable();
    assert_eq!(closed, ["asleep", "close idle", "close shared", "forget", "forget"]);
    assert!(story.connections.tick(|_| limit, story.now).is_empty(), "who waits for updates stays");
}

#[test]
fn s_life_14_an_upstream_of_another_era_loses_its_connections_and_is_probed_again() {
    let (mut story, client) = (Story::up(), session());
    story.opens(&client);
    story.settles(client.affinity, 2, Wire::named("own"));
    assert!(story.connections.era_mistaken(Era::Stateless, story.now).is_empty(), "an old doubt");
    assert_eq!(
        told(&story.connections.era_mistaken(Era::Handshake, story.now)),
        ["forget", "close own", "forget", "close shared", "down", "attempt 3"]
    );
    let (progress, _) = story.opens(&client);
    assert_eq!(
        told(&story.connections.settled(Affinity::Shared, 3, Ok(Opened::Stateless), story.now)),
        ["up"]
    );
    assert_eq!(state(&progress), "not needed");
    assert_eq!(told(&story.connections.era_mistaken(Era::Stateless, story.now)), ["doubted", "attempt 4"]);
}

#[test]
fn s_stdio_03_an_idle_shared_connection_sleeps_and_its_era_stays_known() {
    let (mut story, client) = (Story::starting(), session());
    let shared = Wire::named("shared");
    shared.busy.store(true, Ordering::Relaxed);
    story.settles(Affinity::Shared, 1, shared.clone());
    let limit = Some(Duration::from_secs(30));
    assert!(story.connections.tick(|_| limit, story.now).is_empty(), "not while it is used");
    shared.busy.store(false, Ordering::Relaxed);
    assert_eq!(told(&story.connections.tick(|_| limit, story.now)), ["forget", "close shared", "asleep"]);
    assert!(story.connections.ended(Affinity::Shared, 1, story.now).is_empty(), "its end is no failure");
    assert!(story.connections.due(Affinity::Shared, story.now).is_empty(), "nor is it opened by itself");

    assert_eq!(story.opens(&client).1, ["attempt 2"], "a session needs its own connection only");
    let own = super::tests::client(Affinity::Shared);
    let (first, effects) = story.opens(&own);
    assert_eq!(effects, ["attempt 3"]);
    let (second, effects) = story.opens(&own);
    assert!(effects.is_empty(), "all who wait share one start: {effects:?}");
    assert_eq!(story.settles(Affinity::Shared, 3, Wire::named("again")), ["use again", "up"]);
    assert_eq!((state(&first), state(&second)), ("ready again".into(), "ready again".into()));
}

#[test]
fn s_httpc_04_sessions_that_served_and_were_forgotten_are_opened_anew_without_waiting() {
    let (mut story, client) = (Story::up(), session());
    for number in 2..6 {
        assert_eq!(story.opens(&client).1, [format!("attempt {number}")], "however often it happens");
        let wire = Wire::named("good");
        wire.busy.store(true, Ordering::Relaxed);
        story.settles(client.affinity, number, wire.clone());
        wire.ended.store(true, Ordering::Relaxed);
        story.connections.ended(client.affinity, number, story.now);
    }
}

#[test]
fn s_elic_11_a_link_in_doubt_is_left_to_its_last_calls() {
    let mut story = Story::up();
    let users = client(Affinity::Principal(1));
    story.opens(&users);
    let old = Wire::named("old");
    old.busy.store(true, Ordering::Relaxed);
    story.settles(users.affinity, 2, old.clone());
    let doubted =
        |story: &mut Story, affinity, number| told(&story.connections.doubted(affinity, number, story.now));
    assert_eq!(doubted(&mut story, Affinity::Shared, 1), [""; 0], "over that nobody is asked");
    assert_eq!(doubted(&mut story, users.affinity, 7), [""; 0], "it was another one");
    assert_eq!(doubted(&mut story, users.affinity, 2), ["forget"]);
    assert_eq!(doubted(&mut story, users.affinity, 2), [""; 0], "once");
    assert_eq!(story.opens(&users).1, ["attempt 3"], "no rest: nothing has failed");
    let new = Wire::named("new");
    new.busy.store(true, Ordering::Relaxed);
    assert_eq!(story.settles(users.affinity, 3, new), ["use new"]);
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), [""; 0], "it has a call");
    old.busy.store(false, Ordering::Relaxed);
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), ["close old"]);
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), [""; 0]);

    assert_eq!(doubted(&mut story, users.affinity, 3), ["forget"]);
    let effects = story.connections.release(users.affinity, "its session ended");
    assert_eq!(told(&effects), ["close new"], "it ends with its users");

    story.opens(&users);
    story.settles(users.affinity, 4, Wire::named("free"));
    assert_eq!(doubted(&mut story, users.affinity, 4), ["close free", "forget"], "nothing is left to end");
}

#[test]
fn f01_a_connection_of_the_pool_that_failed_and_is_not_asked_for_is_forgotten() {
    let mut story = Story::up();
    let pooled = client(Affinity::Pooled(1));
    let (_progress, effects) = story.opens(&pooled);
    assert_eq!(effects, ["attempt 2"]);
    story.fails(pooled.affinity, 2);
    assert!(story.connections.rests_until(pooled.affinity).is_some());
    story.connections.tick(|_| None, story.now);
    assert!(story.connections.knows(pooled.affinity), "it is not tried again too soon");
    story.now += 62 * SECOND;
    story.connections.tick(|_| None, story.now);
    assert!(!story.connections.knows(pooled.affinity));
}

#[test]
fn s_task_21_a_link_with_tasks_outlives_its_session_and_ends_with_the_last_of_them() {
    let mut story = Story::up();
    let open = |story: &mut Story, name, number| {
        let client = session();
        story.opens(&client);
        let wire = Wire::named(name);
        wire.has_tasks.store(true, Ordering::Relaxed);
        story.settles(client.affinity, number, wire.clone());
        (client, wire)
    };
    let (client, wire) = open(&mut story, "kept", 2);
    let limit = |affinity| (affinity != Affinity::Shared).then_some(SECOND);
    assert_eq!(told(&story.connections.tick(limit, story.now)), [""; 0], "it is not idle");
    assert_eq!(told(&story.connections.release(client.affinity, "its session ended")), ["forget"]);
    assert!(!story.connections.knows(client.affinity));
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), [""; 0]);
    wire.has_tasks.store(false, Ordering::Relaxed);
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), ["close kept"]);
    assert_eq!(told(&story.connections.tick(|_| None, story.now)), [""; 0]);

    // No more than there is room for, and none beyond the end of everything.
    for number in 3..=OUTLIVING as u64 + 2 {
        let (client, _) = open(&mut story, "one of many", number);
        assert_eq!(told(&story.connections.release(client.affinity, "its session ended")), ["forget"]);
    }
    let (client, _) = open(&mut story, "one too many", OUTLIVING as u64 + 3);
    let effects = story.connections.release(client.affinity, "its session ended");
    assert_eq!(told(&effects), ["forget", "close one too many"]);
    let effects = told(&story.connections.close_all(&UpstreamError::unavailable("over"), "over"));
    assert_eq!(effects.iter().filter(|effect| *effect == "close one of many").count(), OUTLIVING);
}
