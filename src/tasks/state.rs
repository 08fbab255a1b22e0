//! What may happen to a task, as a plain state machine: events in, effects out, no clock and no store of its own.
//!
//! Always: what is over stays as it is, whatever comes later (S-TASK-06); what is shown as over is kept, and so is whatever
//! a ticket was told; one write is under way at a time; `cancelled` is kept before anybody hears of it and before the story
//! is dropped (S-TASK-15); a call leaves only after its intent is kept (I4). A move that is not allowed changes nothing. Not
//! here: who runs the story, who waits (`actor`).

use super::record::{Ending, Intent, Record};
use crate::dispatch::TaskLink;
use crate::protocol::frame::Answer;
use crate::protocol::task::{Dialect, Status, TaskFacts};

/// Somebody who waits to be told, by a number of the caller's.
pub(super) type Ticket = u64;

/// What happened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once, and never kept")]
pub(super) enum Event {
    /// The write under way is done.
    Kept,
    /// It is not, or not surely.
    NotKept,
    /// Time has passed since a write failed.
    RetryDue,
    /// The story is about to send its call; the ticket is told when that is kept.
    Dispatching(Ticket),
    /// An upstream keeps a task for it; likewise.
    Linked(Box<TaskLink>, Ticket),
    /// The upstream says something of its task.
    Said(TaskFacts),
    /// What is asked of the client is not what it was; in which dialect something is.
    Asks(Option<Dialect>),
    /// The call tells how far it is.
    Progressed(Vec<u8>),
    /// The client wishes it to end; the ticket is told what became of that.
    Cancel(Ticket),
    /// The story ended; without an ending when its upstream cancelled the task.
    Ended(Option<Ending>),
    /// Its time is over.
    TtlOver,
    /// Nobody takes it: who made it has gone.
    Abandoned,
}

/// What is to be done, in this order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once, and never kept")]
pub(super) enum Effect {
    /// Make this change of the store; [`Event::Kept`] or [`Event::NotKept`] is the answer.
    Write(Change),
    /// It is kept: whoever made it may know, and the story may begin.
    Begin,
    /// It is not kept, and will not be.
    NotCreated,
    /// Its readers are to see it as it is now.
    Publish,
    /// Its time is over at another moment than was thought.
    ExpiryMoved,
    /// The story is to end: its call is given up, upstream too.
    DropStory,
    /// Send [`Event::RetryDue`] after a while.
    RetryLater,
    /// Tell who waits.
    Tell(Ticket, Verdict),
    /// Nothing will happen to it any more.
    Finish,
}

/// One transaction of the store.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one at a time for each task, and rarely the small one")]
pub(super) enum Change {
    /// A new task, which is open.
    Create(Record),
    /// The same task, still open.
    Renew(Record),
    /// It is over: no longer open, with its ending unless it was cancelled.
    Finish(Record, Option<Ending>),
    /// It is gone.
    Delete,
}

/// What who waits is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is kept.
    Kept,
    /// It is cancelled.
    Cancelled,
    /// It was over before.
    AlreadyOver,
    /// There is no such task any more.
    Gone,
    /// The store does not keep it now.
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Creating,
    Running,
    Over,
    Gone,
}

/// The write under way.
#[derive(Debug)]
enum Flight {
    Create,
    /// Everything up to this revision.
    Renew(u64),
    Finish(Box<Record>),
    Cancel(Box<Record>),
    Delete,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct State {
    record: Record,
    stage: Stage,
    asks_in: Option<Dialect>,
    /// Whether the story ended, which is shown once it is kept; and how, unless its upstream cancelled the task.
    has_ended: bool,
    ending: Option<Ending>,
    flight: Option<Flight>,
    /// A write failed, and the next attempt is not due.
    on_hold: bool,
    /// Counts changes that have to be kept, and those that are.
    revision: u64,
    kept: u64,
    /// Told when their revision is kept.
    sinks: Vec<(u64, Ticket)>,
    cancels: Vec<Ticket>,
    /// Its removal was tried, which is done once: what is left expires.
    is_removed: bool,
}

impl State {
    /// A task that is to be kept.
    pub(super) fn create(record: Record) -> (Self, Vec<Effect>) {
        let mut state = State::resume(record);
        state.stage = Stage::Creating;
        state.flight = Some(Flight::Create);
        let write = Effect::Write(Change::Create(state.record.clone()));
        (state, vec![write])
    }

    /// A task that was kept and is not over.
    pub(super) fn resume(record: Record) -> Self {
        State {
            record,
            stage: Stage::Running,
            asks_in: None,
            has_ended: false,
            ending: None,
            flight: None,
            on_hold: false,
            revision: 0,
            kept: 0,
            sinks: Vec::new(),
            cancels: Vec::new(),
            is_removed: false,
        }
    }

    /// As it may be shown.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// How it ended, if that may be shown.
    pub(super) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref().filter(|_| self.is_over() && self.record.status != Status::Cancelled)
    }

    /// In which dialect it asks something.
    pub(super) fn asks_in(&self) -> Option<Dialect> {
        self.asks_in.filter(|_| self.stage == Stage::Running && !self.has_ended)
    }

    /// Whether it is over, and that is kept.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether it is no longer known.
    pub(super) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Takes an event at that time.
    pub(super) fn on(&mut self, event: Event, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Kept => self.is_kept(now_ms, &mut effects),
            Event::NotKept => self.is_not_kept(now_ms, &mut effects),
            Event::RetryDue => self.on_hold = false,
            Event::Cancel(ticket) => self.cancel(ticket, &mut effects),
            Event::TtlOver if self.stage == Stage::Running => self.go(&mut effects),
            Event::Abandoned if self.stage == Stage::Running => self.go(&mut effects),
            // Whether it may still say anything.
            _ if self.stage != Stage::Running || self.has_ended => {}
            Event::Dispatching(ticket) => self.dispatching(ticket),
            Event::Linked(link, ticket) => self.linked(*link, ticket, now_ms, &mut effects),
            Event::Said(facts) => self.said(&facts, now_ms, &mut effects),
            Event::Asks(asks_in) => {
                // Which questions these are may have changed even when that there are any has not.
                self.asks_in = asks_in;
                self.changed(now_ms, &mut effects);
            }
            Event::Progressed(params) => {
                self.record.progressed(&params);
                effects.push(Effect::Publish);
            }
            Event::Ended(ending) => (self.has_ended, self.ending) = (true, ending),
            Event::TtlOver | Event::Abandoned => {}
        }
        self.settle_sinks(&mut effects);
        self.write_next(now_ms, &mut effects);
        effects
    }

    fn changed(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.record.updated_ms = now_ms.max(self.record.updated_ms);
        effects.push(Effect::Publish);
    }

    fn dispatching(&mut self, ticket: Ticket) {
        if self.record.intent == Intent::NotDispatched {
            self.record.intent = Intent::Dispatched;
            self.revision += 1;
        }
        self.sinks.push((self.revision, ticket));
    }

    fn linked(&mut self, link: TaskLink, ticket: Ticket, now_ms: u64, effects: &mut Vec<Effect>) {
        let facts = link.facts.clone();
        self.record.intent = Intent::Dispatched;
        self.record.link = Some(link);
        self.revision += 1;
        self.said(&facts, now_ms, effects);
        self.sinks.push((self.revision, ticket));
    }

    /// The upstream's state is not shown: until the story ends there is no result to go with it, and what it needs of the
    /// client is asked.
    fn said(&mut self, facts: &TaskFacts, now_ms: u64, effects: &mut Vec<Effect>) {
        let mut is_new = self.record.say(facts.message.as_deref());
        if facts.poll_ms.is_some() && facts.poll_ms != self.record.poll_ms {
            self.record.poll_ms = facts.poll_ms;
            is_new = true;
        }
        // However little is granted: who looks now and then is to see how it ends.
        let least = now_ms.saturating_sub(self.record.created_ms).saturating_add(SHORTEST_TTL_MS);
        let granted = facts.ttl_ms.map_or(u64::MAX, |granted| granted.max(least));
        if granted < self.record.ttl_ms {
            self.record.ttl_ms = granted;
            self.revision += 1;
            effects.push(Effect::ExpiryMoved);
            is_new = true;
        }
        if is_new {
            self.changed(now_ms, effects);
        }
    }

    fn cancel(&mut self, ticket: Ticket, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Over => effects.push(Effect::Tell(ticket, Verdict::AlreadyOver)),
            Stage::Gone | Stage::Creating => effects.push(Effect::Tell(ticket, Verdict::Gone)),
            Stage::Running => {
                self.cancels.push(ticket);
                // Whoever asks learns how the store is now.
                self.on_hold = false;
            }
        }
    }

    /// It is no longer known, whatever else was to happen.
    fn go(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Gone;
        self.asks_in = None;
        effects.extend([Effect::DropStory, Effect::Publish]);
        self.tell_cancels(Verdict::Gone, effects);
    }

    fn is_kept(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        match self.flight.take() {
            Some(Flight::Create) => {
                self.stage = Stage::Running;
                effects.push(Effect::Begin);
                if now_ms >= self.record.expires_ms() {
                    self.go(effects);
                }
            }
            Some(Flight::Renew(revision)) => {
                self.kept = revision;
                effects.push(Effect::Publish);
            }
            Some(Flight::Finish(record)) => {
                let is_cancelled = record.status == Status::Cancelled;
                let verdict = if is_cancelled { Verdict::Cancelled } else { Verdict::AlreadyOver };
                self.finish(*record, verdict, effects);
            }
            Some(Flight::Cancel(record)) => {
                effects.push(Effect::DropStory);
                self.finish(*record, Verdict::Cancelled, effects);
            }
            Some(Flight::Delete) => effects.push(Effect::Finish),
            None => {}
        }
    }

    fn is_not_kept(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        match self.flight.take() {
            Some(Flight::Create) => {
                // It may be there all the same: then nobody knows its id, and it is taken away.
                self.stage = Stage::Gone;
                effects.push(Effect::NotCreated);
            }
            Some(Flight::Cancel(_)) => self.tell_cancels(Verdict::Unavailable, effects),
            Some(Flight::Renew(_)) => self.hold(effects),
            Some(Flight::Finish(_)) => {
                self.tell_cancels(Verdict::Unavailable, effects);
                self.hold(effects);
                if self.stage == Stage::Running && self.record.say(Some(NOT_KEPT)) {
                    self.changed(now_ms, effects);
                }
            }
            // It expires in the store by itself.
            Some(Flight::Delete) => effects.push(Effect::Finish),
            None => {}
        }
    }

    fn hold(&mut self, effects: &mut Vec<Effect>) {
        if !self.on_hold {
            self.on_hold = true;
            effects.push(Effect::RetryLater);
        }
    }

    /// It is over, and that is kept. What its time took with it meanwhile is gone all the same.
    fn finish(&mut self, record: Record, verdict: Verdict, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Running {
            return;
        }
        (self.record, self.stage, self.asks_in) = (record, Stage::Over, None);
        effects.push(Effect::Publish);
        self.tell_cancels(verdict, effects);
        effects.push(Effect::Finish);
    }

    fn tell_cancels(&mut self, verdict: Verdict, effects: &mut Vec<Effect>) {
        effects.extend(self.cancels.drain(..).map(|ticket| Effect::Tell(ticket, verdict)));
    }

    /// The story is told that what it waits for is kept. Not once it is to end: then it must not go on.
    fn settle_sinks(&mut self, effects: &mut Vec<Effect>) {
        if self.stage != Stage::Running || !self.cancels.is_empty() {
            return;
        }
        let kept = self.kept;
        self.sinks.retain(|(revision, ticket)| {
            let is_kept = *revision <= kept;
            if is_kept {
                effects.push(Effect::Tell(*ticket, Verdict::Kept));
            }
            !is_kept
        });
    }

    fn write_next(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.flight.is_some() {
            return;
        }
        let Some((flight, change)) = self.next_change(now_ms) else { return };
        self.is_removed |= matches!(flight, Flight::Delete);
        self.flight = Some(flight);
        effects.push(Effect::Write(change));
    }

    fn next_change(&self, now_ms: u64) -> Option<(Flight, Change)> {
        let over = |status, is_tool_error| {
            let updated_ms = now_ms.max(self.record.updated_ms);
            Record { status, is_tool_error, updated_ms, ..self.record.clone() }
        };
        match self.stage {
            Stage::Gone if !self.is_removed => Some((Flight::Delete, Change::Delete)),
            Stage::Creating | Stage::Over | Stage::Gone => None,
            Stage::Running if self.has_ended => (!self.on_hold).then(|| {
                let (status, is_tool_error) = match &self.ending {
                    Some(ending) => (ending.status(), ending.is_tool_error()),
                    None => (Status::Cancelled, false),
                };
                let mut record = over(status, is_tool_error);
                record.message = record.message.filter(|message| message != NOT_KEPT);
                if let Some(Ending { answer: Answer::Error(error), .. }) = &self.ending {
                    record.say(Some(&error.message()));
                }
                let change = Change::Finish(record.clone(), self.ending.clone());
                (Flight::Finish(Box::new(record)), change)
            }),
            Stage::Running if !self.cancels.is_empty() => {
                let record = over(Status::Cancelled, false);
                Some((Flight::Cancel(Box::new(record.clone())), Change::Finish(record, None)))
            }
            Stage::Running if self.kept < self.revision && !self.on_hold => {
                Some((Flight::Renew(self.revision), Change::Renew(self.record.clone())))
            }
            Stage::Running => None,
        }
    }
}

/// How long a task is known at least after its upstream said that it keeps it no longer.
const SHORTEST_TTL_MS: u64 = 1_000;

/// Shown while an ending waits for the store.
const NOT_KEPT: &str = "The call is over, and its result cannot be kept yet.";

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
