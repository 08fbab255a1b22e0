//! The state machine of tasks in a world where everything that can go wrong does, under virtual time and a seed (T18).
//!
//! The world has upstreams that poll late, forget, say strange things and ask; clients that look, wait, answer badly, cancel
//! and leave; a store that fails, also after it has written; a gateway that ends between any two effects. `SEED=n` plays one
//! seed again and tells what happened; `SEEDS=n` plays so many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::inputs::TaskInputs;
use super::places::Places;
use super::record::tests::{record, result};
use super::record::{Ending, Intent, Record};
use super::state::{Change, Effect, Event, State, Ticket, Verdict};
use crate::auth::principal::Principal;
use crate::dispatch::TaskLink;
use crate::names::UpstreamName;
use crate::parked::Inputs;
use crate::parked::tests::{FORM, object, pose};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::Object;
use crate::protocol::task::{Dialect, Status, TaskFacts};
use crate::upstream::messages::Question;
use crate::upstream::task::KeptPlace;

/// Tasks that are made in one run, and unfinished ones that there may be.
const TASKS: usize = 5;
const EACH: usize = 3;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// What comes due.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Create,
    Written { task: usize, boot: u64, is_told: bool },
    Retry { task: usize, boot: u64 },
    Story { task: usize, boot: u64 },
    Expiry { task: usize, boot: u64 },
    Client,
    Crash,
    Restart,
}

/// What the store has of one task.
#[derive(Debug, Clone)]
struct Durable {
    /// As it was read again.
    record: Record,
    ending: Option<Bytes>,
    is_open: bool,
}

/// The server behind one task, which knows nothing of gateways.
#[derive(Debug, Default)]
struct Upstream {
    calls: u32,
    makes_tasks: bool,
    /// When it is done.
    ends_at: u64,
    forgets: bool,
    is_cancelled: bool,
    tool_fails: bool,
}

/// How far a story is.
#[derive(Debug)]
enum Step {
    Begin,
    UntilIntentIsKept(Ticket),
    Called,
    UntilLinkIsKept(Ticket),
    Following,
}

struct Story {
    step: Step,
    questions: Vec<Question>,
}

/// A task that the gateway runs.
struct Live {
    state: State,
    inputs: Arc<Inputs>,
    story: Option<Story>,
    /// What readers see.
    shown: Shown,
    /// Requests that wait for its end, and cancellations that wait to be told.
    waiters: usize,
    cancels: BTreeSet<Ticket>,
    tickets: Ticket,
    write: Option<Change>,
    is_resumed: bool,
    /// When its story ended.
    ended_at: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Shown {
    record: Record,
    ending: Option<Bytes>,
    asks_in: Option<Dialect>,
    is_gone: bool,
}

/// What clients know of one task.
#[derive(Debug, Default)]
struct Known {
    /// Its handle was handed out.
    is_handed_out: bool,
    over: Option<(Status, Option<Bytes>)>,
    ttl_ms: u64,
    /// Which question a key meant.
    keys: HashMap<String, (u64, usize)>,
}

struct World {
    seed: u64,
    dice: Dice,
    now_ms: u64,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    sequence: u64,
    boot: u64,
    is_up: bool,
    is_crashing: bool,
    store_is_out: bool,
    store_has_failed: bool,
    store: BTreeMap<usize, Durable>,
    live: BTreeMap<usize, Live>,
    places: Places,
    upstreams: Vec<Upstream>,
    known: Vec<Known>,
    created: usize,
    refused: usize,
    answered: usize,
    disconnected: usize,
    waited: usize,
    log: Option<Vec<String>>,
}

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let mut world = World {
            seed,
            dice: Dice(seed),
            now_ms: 1_000_000,
            due: BinaryHeap::new(),
            sequence: 0,
            boot: 0,
            is_up: true,
            is_crashing: false,
            store_is_out: false,
            store_has_failed: false,
            store: BTreeMap::new(),
            live: BTreeMap::new(),
            places: Places::new(EACH),
            upstreams: Vec::new(),
            known: Vec::new(),
            created: 0,
            refused: 0,
            answered: 0,
            disconnected: 0,
            waited: 0,
            log: is_told.then(Vec::new),
        };
        for _ in 0..TASKS {
            let after = world.dice.below(8_000);
            world.after(after, Due::Create);
        }
        for _ in 0..40 {
            let after = world.dice.below(30_000);
            world.after(after, Due::Client);
        }
        for _ in 0..world.dice.below(4) {
            let after = world.dice.below(30_000);
            world.after(after, Due::Crash);
        }
        world
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>8} {}", self.now_ms, text()));
        }
    }

    fn after(&mut self, wait_ms: u64, due: Due) {
        self.sequence += 1;
        self.due.push(Reverse((self.now_ms + wait_ms, self.sequence, due)));
    }

    #[track_caller]
    fn holds(&self, is_so: bool, what: &str) {
        if !is_so {
            for line in self.log.iter().flatten() {
                eprintln!("{line}");
            }
            panic!("seed {}: {what} (SEED={} plays it again)", self.seed, self.seed);
        }
    }

    /// Runs until nothing is due: then every time is over.
    fn run(mut self) -> World {
        while let Some(Reverse((at, _, due))) = self.due.pop() {
            self.now_ms = self.now_ms.max(at);
            self.tell(|| format!("{due:?}"));
            self.step(due);
            // Those of before a restart have their places whatever is allowed.
            let unfinished = self.live.values().filter(|live| !live.is_resumed).count();
            self.holds(unfinished <= EACH, "no more unfinished tasks than there may be");
        }
        self.holds(self.live.is_empty(), "every task comes to its end");
        self.holds(self.answered + self.disconnected == self.waited, "whoever waited was answered once");
        self
    }

    fn step(&mut self, due: Due) {
        let boot = self.boot;
        match due {
            Due::Create => self.create(),
            Due::Client => self.client(),
            Due::Crash => self.crash(),
            Due::Restart => self.restart(),
            Due::Written { task, boot: of, is_told } => {
                if of != boot {
                    return;
                }
                let event = if is_told { Event::Kept } else { Event::NotKept };
                self.on(task, event);
            }
            Due::Retry { task, boot: of } if of == boot => self.on(task, Event::RetryDue),
            Due::Story { task, boot: of } if of == boot => self.story(task),
            Due::Expiry { task, boot: of } if of == boot => {
                let live = self.live.get(&task);
                let expires_ms = live.map(|live| live.state.record().expires_ms());
                let waits_since = live.and_then(|live| live.ended_at).unwrap_or(self.now_ms);
                let is_late = self.now_ms - waits_since > 200 && !self.store_has_failed;
                self.holds(!is_late, "an ending is kept as soon as the store takes it");
                match expires_ms {
                    Some(expires_ms) if self.now_ms >= expires_ms => self.on(task, Event::TtlOver),
                    Some(expires_ms) => self.after(expires_ms - self.now_ms, Due::Expiry { task, boot }),
                    None => {}
                }
            }
            Due::Retry { .. } | Due::Story { .. } | Due::Expiry { .. } => {}
        }
        self.watch();
    }

    fn create(&mut self) {
        if !self.is_up || self.known.len() >= TASKS {
            return;
        }
        if !self.places.claim(Principal::Local) {
            self.refused += 1;
            return;
        }
        let task = self.known.len();
        self.known.push(Known::default());
        let ends_at = self.now_ms + self.dice.below(12_000);
        self.upstreams.push(Upstream {
            makes_tasks: self.dice.percent(60),
            ends_at,
            forgets: self.dice.percent(10),
            tool_fails: self.dice.percent(20),
            ..Upstream::default()
        });
        let made = Record {
            id: format!("public-{task}"),
            ttl_ms: 1_000 + self.dice.below(20_000),
            ..record(self.now_ms)
        };
        let (state, effects) = State::create(made);
        self.add(task, state, None, false);
        self.created += 1;
        self.perform(task, effects);
    }

    fn add(&mut self, task: usize, state: State, story: Option<Story>, is_resumed: bool) {
        let revision = Revision::V2026_07_28;
        let capabilities = ClientCapabilities::of(&object(r#"{"roots":{},"elicitation":{}}"#), revision);
        let last = if self.boot == 0 { 0 } else { self.now_ms };
        let inputs = Inputs::counting_from(last, revision, capabilities);
        let shown = shown(&state);
        let wait = shown.record.expires_ms().saturating_sub(self.now_ms);
        let live = Live {
            state,
            inputs,
            story,
            shown,
            waiters: 0,
            cancels: BTreeSet::new(),
            tickets: 0,
            write: None,
            is_resumed,
            ended_at: None,
        };
        self.live.insert(task, live);
        let boot = self.boot;
        self.after(wait, Due::Expiry { task, boot });
    }

    fn on(&mut self, task: usize, event: Event) {
        let now_ms = self.now_ms;
        if let Some(live) = self.live.get_mut(&task) {
            if matches!(event, Event::Kept | Event::NotKept) {
                live.write = None;
            }
            let effects = live.state.on(event, now_ms);
            self.perform(task, effects);
        }
    }

    /// Does what the machine says, and perhaps no more than part of it.
    fn perform(&mut self, task: usize, effects: Vec<Effect>) {
        for effect in effects {
            if self.is_crashing {
                return;
            }
            self.tell(|| format!("  task {task}: {effect:?}"));
            self.perform_one(task, effect);
            self.watch();
            if self.is_up && self.dice.below(400) == 0 {
                self.is_crashing = true;
                self.after(0, Due::Crash);
            }
        }
    }

    fn perform_one(&mut self, task: usize, effect: Effect) {
        let boot = self.boot;
        match effect {
            Effect::Write(change) => self.write(task, change),
            Effect::RetryLater => self.after(1_000, Due::Retry { task, boot }),
            Effect::Begin => {
                if self.dice.percent(5) {
                    return self.on(task, Event::Abandoned);
                }
                let Some(live) = self.live.get_mut(&task) else { return };
                live.story = Some(Story { step: Step::Begin, questions: Vec::new() });
                self.known[task].is_handed_out = true;
                self.known[task].ttl_ms = live.shown.record.expires_ms();
                self.after(1, Due::Story { task, boot });
            }
            Effect::NotCreated => {
                self.holds(!self.known[task].is_handed_out, "who has a handle has a task");
            }
            Effect::Publish => {
                let Some(live) = self.live.get_mut(&task) else { return };
                live.shown = shown(&live.state);
                if live.state.is_over() || live.state.is_gone() {
                    self.answered += std::mem::take(&mut live.waiters);
                }
            }
            Effect::ExpiryMoved => self.after(0, Due::Expiry { task, boot }),
            Effect::DropStory => self.drop_story(task),
            Effect::Tell(ticket, verdict) => self.tell_ticket(task, ticket, verdict),
            Effect::Finish => {
                let Some(live) = self.live.remove(&task) else { return };
                self.places.release(Principal::Local);
                self.late_words(task, live.state);
                self.holds(live.waiters == 0 && live.cancels.is_empty(), "nobody waits for what is over");
                self.holds(live.story.is_none(), "no story goes on behind what is over");
            }
        }
    }

    /// What comes after the end, from whom had not heard of it, changes nothing.
    fn late_words(&mut self, task: usize, mut state: State) {
        let before = shown(&state);
        let link = Box::new(self.link(task));
        for event in [
            Event::Said(link.facts.clone()),
            Event::Asks(Some(Dialect::Extension)),
            Event::Linked(link, 0),
            Event::Dispatching(0),
            Event::Ended(Some(result("{}"))),
            Event::TtlOver,
            Event::RetryDue,
        ] {
            let text = format!("{event:?}");
            let effects = state.on(event, self.now_ms);
            self.holds(effects.is_empty() && shown(&state) == before, &format!("too late: {text}"));
        }
    }

    /// Writes now, later or never, and tells of it or not.
    fn write(&mut self, task: usize, change: Change) {
        let boot = self.boot;
        if let Some(live) = self.live.get_mut(&task) {
            assert!(live.write.is_none(), "one write is under way at a time");
            live.write = Some(change.clone());
        }
        if self.dice.percent(3) {
            self.store_is_out = !self.store_is_out;
        }
        let fails = if self.store_is_out { self.dice.percent(70) } else { self.dice.percent(3) };
        self.store_has_failed |= fails;
        let is_written = !fails || self.dice.percent(30);
        if is_written {
            self.apply(task, change);
        }
        let wait = 1 + self.dice.below(60);
        self.after(wait, Due::Written { task, boot, is_told: !fails });
    }

    fn apply(&mut self, task: usize, change: Change) {
        match change {
            Change::Create(record) | Change::Renew(record) => {
                self.store.insert(task, Durable { record: reread(&record), ending: None, is_open: true });
            }
            Change::Finish(record, ending) => {
                let ending = ending.map(|ending| ending.encode());
                self.store.insert(task, Durable { record: reread(&record), ending, is_open: false });
            }
            Change::Delete => drop(self.store.remove(&task)),
        }
    }

    fn tell_ticket(&mut self, task: usize, ticket: Ticket, verdict: Verdict) {
        let Some(live) = self.live.get_mut(&task) else { return };
        if live.cancels.remove(&ticket) {
            if verdict == Verdict::Cancelled {
                let kept = self.store.get(&task).map(|kept| kept.record.clone());
                let is_kept = kept.is_some_and(|kept| kept.status == Status::Cancelled);
                self.holds(is_kept, "a cancellation that is told of is kept");
            }
            return;
        }
        let Some(story) = &mut live.story else { return };
        match story.step {
            Step::UntilIntentIsKept(own) if own == ticket => {
                let kept = self.store.get(&task).map(|kept| kept.record.clone());
                let is_kept = kept.is_some_and(|kept| kept.intent == Intent::Dispatched);
                story.step = Step::Called;
                self.upstreams[task].calls += 1;
                self.holds(is_kept, "a call leaves after its intent is kept");
                self.holds(self.upstreams[task].calls == 1, "a call leaves once");
            }
            Step::UntilLinkIsKept(own) if own == ticket => story.step = Step::Following,
            _ => return,
        }
        let boot = self.boot;
        let wait = 1 + self.dice.below(500);
        self.after(wait, Due::Story { task, boot });
    }

    fn drop_story(&mut self, task: usize) {
        let Some(live) = self.live.get_mut(&task) else { return };
        live.inputs.close();
        if let Some(story) = live.story.take() {
            self.upstreams[task].is_cancelled |= matches!(story.step, Step::Called | Step::Following);
        }
    }

    /// What `dispatch` would do next.
    fn story(&mut self, task: usize) {
        let boot = self.boot;
        let (now_ms, wait) = (self.now_ms, 50 + self.dice.below(1_000));
        let Some(live) = self.live.get_mut(&task) else { return };
        if live.ended_at.is_some() {
            let facts = self.facts(task);
            self.on(task, Event::Said(facts));
            return self.on(task, Event::Ended(Some(result("{}"))));
        }
        let Some(story) = &mut live.story else { return };
        let waits = |question: &mut Question| question.answer.try_recv().is_err();
        story.questions.retain_mut(waits);
        match story.step {
            Step::Begin => {
                live.tickets += 1;
                let ticket = live.tickets;
                story.step = Step::UntilIntentIsKept(ticket);
                self.on(task, Event::Dispatching(ticket));
            }
            Step::UntilIntentIsKept(_) | Step::UntilLinkIsKept(_) => {}
            Step::Called if self.upstreams[task].makes_tasks => {
                live.tickets += 1;
                let ticket = live.tickets;
                story.step = Step::UntilLinkIsKept(ticket);
                let link = self.link(task);
                self.on(task, Event::Linked(Box::new(link), ticket));
            }
            Step::Called | Step::Following => {
                let is_following = matches!(story.step, Step::Following);
                let is_asked = !story.questions.is_empty();
                if self.dice.percent(15) && story.questions.len() < 3 {
                    let (method, params) = match self.dice.percent(50) {
                        true => ("roots/list", "{}"),
                        false => ("elicitation/create", FORM),
                    };
                    let question = pose(&live.inputs, method, params);
                    story.questions.push(question);
                    let asks = TaskInputs::Keyed(Arc::clone(&live.inputs)).asks_in();
                    self.on(task, Event::Asks(asks));
                } else if !is_asked && now_ms >= self.upstreams[task].ends_at {
                    return self.end_story(task);
                } else if is_following {
                    let facts = self.facts(task);
                    self.on(task, Event::Said(facts));
                }
                self.after(wait, Due::Story { task, boot });
            }
        }
    }

    fn end_story(&mut self, task: usize) {
        let upstream = &self.upstreams[task];
        let ending = match (upstream.forgets && upstream.makes_tasks, upstream.tool_fails) {
            (true, _) => {
                let name = UpstreamName::new("one");
                let (reason, outcome) = (Reason::UpstreamLost, Ran::Unknown);
                let upstream = Some(&name);
                let record =
                    FailureRecord { reason, upstream, retryable: false, retry_after_ms: None, outcome };
                Ending::failure("it forgot the task", &record)
            }
            (_, true) => result(r#"{"content":[],"isError":true}"#),
            _ if self.dice.percent(10) => {
                Ending { answer: Answer::Error(ErrorObject::own(-32000, "no")), upstream: None }
            }
            _ => result(r#"{"content":[]}"#),
        };
        let (boot, now_ms) = (self.boot, self.now_ms);
        if let Some(live) = self.live.get_mut(&task) {
            (live.story, live.ended_at) = (None, Some(now_ms));
            live.inputs.close();
        }
        // Its last words, perhaps.
        self.after(10, Due::Story { task, boot });
        // Now and then an upstream cancels by itself.
        let ending = (!self.dice.percent(5)).then_some(ending);
        self.on(task, Event::Ended(ending));
    }

    /// Whatever comes to an upstream's mind.
    fn facts(&mut self, task: usize) -> TaskFacts {
        let status = Status::ALL[usize::try_from(self.dice.below(5)).expect("small")];
        TaskFacts {
            id: format!("theirs-{task}"),
            status,
            message: self.dice.percent(50).then(|| format!("{status:?}")),
            created_at: None,
            updated_at: None,
            ttl_ms: self.dice.percent(10).then(|| self.dice.below(30_000)),
            poll_ms: self.dice.percent(20).then(|| self.dice.below(3_000)),
        }
    }

    fn link(&mut self, task: usize) -> TaskLink {
        TaskLink {
            upstream: "one".to_owned(),
            tool: "one_slow".to_owned(),
            id: format!("theirs-{task}"),
            dialect: Dialect::Extension,
            place: KeptPlace::of(Dialect::Extension),
            facts: self.facts(task),
        }
    }

    /// A client does something with a task that it knows.
    fn client(&mut self) {
        if !self.is_up || self.known.is_empty() {
            return;
        }
        let task = usize::try_from(self.dice.below(self.known.len() as u64)).expect("small");
        if !self.known[task].is_handed_out {
            return;
        }
        match self.dice.below(10) {
            0..=3 => self.look(task),
            4..=6 => self.wait(task),
            7 => self.cancel(task),
            _ => self.answer(task),
        }
    }

    fn wait(&mut self, task: usize) {
        if let Some(live) = self.live.get_mut(&task)
            && !(live.shown.is_gone || live.shown.record.status.is_terminal())
        {
            live.waiters += 1;
            self.waited += 1;
            if self.dice.percent(20) {
                // It leaves again, which changes nothing.
                live.waiters -= 1;
                self.disconnected += 1;
            }
        }
    }

    fn cancel(&mut self, task: usize) {
        let Some(live) = self.live.get_mut(&task) else { return };
        live.tickets += 1;
        let ticket = live.tickets;
        live.cancels.insert(ticket);
        self.on(task, Event::Cancel(ticket));
    }

    /// Some answers, some of another shape, some to nothing.
    fn answer(&mut self, task: usize) {
        let Some(live) = self.live.get_mut(&task) else { return };
        let open = live.inputs.requests(None).map(|(_, requests)| requests);
        let open = open.map(|text| object(std::str::from_utf8(&text).expect("UTF-8")));
        let mut members = vec![r#""unknown-1":{"action":"accept"}"#.to_owned()];
        let mut right = 0;
        for (key, _) in open.iter().flat_map(Object::iter) {
            let answer = match (self.dice.below(3), key.starts_with("roots")) {
                (0, _) => continue,
                (1, _) => "12345",
                (_, true) => r#"{"roots":[]}"#,
                (_, false) => r#"{"action":"decline"}"#,
            };
            right += usize::from(answer != "12345");
            members.push(format!(r#""{key}":{answer}"#));
        }
        let before = open.as_ref().map_or(0, |open| open.iter().count());
        let inputs = TaskInputs::Keyed(Arc::clone(&live.inputs));
        inputs.answer(&object(&format!("{{{}}}", members.join(","))));
        let after = live.inputs.requests(None).map_or(0, |(open, _)| open.len());
        let asks_in = inputs.asks_in();
        self.holds(before - right == after, "right answers are taken, others leave their questions open");
        self.on(task, Event::Asks(asks_in));
    }

    /// The gateway ends. What it was writing is written or not.
    fn crash(&mut self) {
        self.is_crashing = false;
        if !self.is_up {
            return;
        }
        (self.is_up, self.boot) = (false, self.boot + 1);
        let live = std::mem::take(&mut self.live);
        for (task, live) in live {
            self.disconnected += live.waiters;
            let ambiguous = live.write.filter(|_| self.dice.percent(50));
            if let Some(change) = ambiguous {
                self.apply(task, change);
            }
        }
        self.places = Places::new(EACH);
        let wait = 10 + self.dice.below(3_000);
        self.after(wait, Due::Restart);
    }

    fn restart(&mut self) {
        self.is_up = true;
        let open: Vec<_> =
            self.store.iter().filter(|(_, kept)| kept.is_open).map(|(task, _)| *task).collect();
        for task in open {
            let record = self.store[&task].record.clone();
            if self.now_ms >= record.expires_ms() {
                self.store.remove(&task);
                continue;
            }
            self.places.claim_again(Principal::Local);
            let (intent, is_linked) = (record.intent, record.link.is_some());
            // Sometimes its upstream is not there any more.
            let is_followed = is_linked && self.dice.percent(80);
            let following = Story { step: Step::Following, questions: Vec::new() };
            self.add(task, State::resume(record), is_followed.then_some(following), true);
            match is_followed {
                true => {
                    let boot = self.boot;
                    self.after(10, Due::Story { task, boot });
                }
                false => {
                    let ending = Ending::gateway_restarted(&UpstreamName::new("one"), intent);
                    self.on(task, Event::Ended(Some(ending)));
                }
            }
            if !self.is_up || self.is_crashing {
                return;
            }
        }
    }

    /// What a reader sees now; `None` when it sees no task.
    fn seen(&self, task: usize) -> Option<Shown> {
        let shown = match self.live.get(&task) {
            Some(live) => live.shown.clone(),
            None => {
                let kept = self.store.get(&task)?;
                let record = kept.record.clone();
                Shown { record, ending: kept.ending.clone(), asks_in: None, is_gone: false }
            }
        };
        (!shown.is_gone && self.now_ms < shown.record.expires_ms()).then_some(shown)
    }

    fn look(&mut self, task: usize) {
        let Some(shown) = self.seen(task) else {
            let is_early = self.now_ms < self.known[task].ttl_ms;
            return self.holds(!is_early, "a handle that was handed out is known for its time");
        };
        let status = shown.record.status;
        self.known[task].ttl_ms = shown.record.expires_ms();
        if let Some(over) = &self.known[task].over {
            let is_same = (over.0, &over.1) == (status, &shown.ending);
            return self.holds(is_same, "what was shown as over stays as it is");
        }
        if !status.is_terminal() {
            return;
        }
        let has_ending = shown.ending.is_some() == (status != Status::Cancelled);
        self.holds(has_ending && shown.asks_in.is_none(), "what is over has its ending, and asks nothing");
        let kept = self.store.get(&task);
        let is_kept = kept.is_some_and(|kept| kept.record.status == status && kept.ending == shown.ending);
        self.holds(is_kept, "what is shown as over is kept");
        if let Some(ending) = &shown.ending {
            let not_sent = String::from_utf8_lossy(ending).contains("not_sent");
            self.holds(!not_sent || self.upstreams[task].calls == 0, "what was not sent was not sent");
        }
        self.known[task].over = Some((status, shown.ending));
    }

    /// Somebody looks at everything at every moment.
    fn watch(&mut self) {
        if !self.is_up || self.is_crashing {
            return;
        }
        for task in 0..self.known.len() {
            if self.known[task].is_handed_out {
                self.look(task);
                self.look_at_keys(task);
            }
        }
    }

    fn look_at_keys(&mut self, task: usize) {
        let Some(live) = self.live.get(&task) else { return };
        let Some((numbers, requests)) = live.inputs.requests(None) else { return };
        let requests = object(std::str::from_utf8(&requests).expect("UTF-8"));
        let keys: Vec<_> = requests.iter().map(|(key, _)| key.into_owned()).collect();
        let boot = self.boot;
        for (key, number) in keys.into_iter().zip(numbers) {
            let meant = (boot, usize::try_from(number).expect("64 bits"));
            let before = *self.known[task].keys.entry(key).or_insert(meant);
            self.holds(before == meant, "a key means one question for ever");
        }
    }
}

fn shown(state: &State) -> Shown {
    Shown {
        record: state.record().clone(),
        ending: state.ending().map(Ending::encode),
        asks_in: state.asks_in(),
        is_gone: state.is_gone(),
    }
}

fn reread(record: &Record) -> Record {
    Record::decode(&record.encode()).expect("readable")
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn t18_s_task_06_tasks_keep_their_word_whatever_happens() {
    let replayed = variable("SEED");
    let seeds = match replayed {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SEEDS").unwrap_or(2_000),
    };
    let mut totals = (0, 0, 0, 0, 0);
    for seed in seeds {
        let world = World::new(seed, replayed.is_some()).run();
        for line in world.log.iter().flatten() {
            println!("{line}");
        }
        let over = world.known.iter().filter(|known| known.over.is_some()).count();
        totals.0 += world.created;
        totals.1 += over;
        totals.2 += usize::try_from(world.boot).expect("small");
        totals.3 += world.answered;
        totals.4 += world.refused;
    }
    println!("made, seen over, restarts, waiters answered, refused: {totals:?}");
    if replayed.is_none() {
        // A world in which nothing happens proves nothing.
        let (made, over, restarts, answered, refused) = totals;
        assert!(
            made > 1_000 && over > 500 && restarts > 500 && answered > 500 && refused > 100,
            "{totals:?}"
        );
    }
}
