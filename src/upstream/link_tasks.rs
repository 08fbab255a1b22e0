//! The upstream's tasks that are reached over one connection: whose each is, and what is told of it there.
//!
//! Always: a task is known from the moment its creation arrives, before the next message is looked at, until its last
//! [`TaskPlace`](super::task::TaskPlace) is dropped; bounded. A connection without tasks pays for none of this but the
//! look at one number. Not here: what tasks mean (`task`), their questions (`task_questions`), polling (`dispatch`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::call::{Activity, CallEvent, Client, EventSink};
use super::calls::Caller;
use super::error::UpstreamError;
use super::task::created;
use crate::protocol::frame::Answer;
use crate::protocol::json::Object;
use crate::protocol::task::{Dialect, TaskFacts, without_related};

/// Tasks of one connection, and calls that may become some.
const AT_ONCE: usize = 10_000;

/// Calls that were given up whose late answer may name a task that nobody wants.
const GIVEN_UP: usize = 1_024;

/// See the module head. The lock is held for a few instructions and never across an await.
#[derive(Debug, Default)]
pub(super) struct LinkTasks {
    /// How much is in the table; without anything nobody locks it.
    in_use: AtomicUsize,
    table: Mutex<Table>,
    /// A task was entered, or a call that might have become one was answered otherwise.
    settled: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// Calls under way that may become tasks.
    awaited: HashMap<u64, (Caller, Dialect)>,
    /// Answered after all, they may name a task that nobody wants.
    given_up: HashSet<u64>,
    /// By the upstream's id.
    tasks: HashMap<String, Arc<LinkTask>>,
}

/// One task.
#[derive(Debug)]
pub(super) struct LinkTask {
    pub(super) id: String,
    owner: watch::Sender<Owner>,
    /// The call that became it, whose id is its progress token.
    call: Option<u64>,
    /// Touched by whatever is told of it; held while its client is asked.
    pub(super) activity: Arc<Activity>,
    /// Cancelled when nobody wants anything of it any longer.
    pub(super) over: CancellationToken,
    told: Mutex<Told>,
    news: Notify,
}

/// Whose a task is now.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) caller: Caller,
    /// Whether somebody has said so; until then it is whose call became it.
    pub(super) is_settled: bool,
}

#[derive(Debug, Default)]
struct Told {
    /// Whether somebody holds a place of it.
    is_taken: bool,
    /// Questions that it caused so far.
    questions: usize,
    /// What was told last, until it is taken note of.
    status: Option<TaskFacts>,
}

/// Whose a message is that names a task.
#[derive(Debug)]
pub(super) enum Named {
    Task(Arc<LinkTask>),
    /// Perhaps of a call under way, whose answer will tell.
    Awaited,
    Nobody,
}

/// Why a task was not entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotEntered {
    /// Its id is another's here: what was made under it before is known no longer (S-TASK-07).
    Known,
    /// There is no room.
    Full,
}

impl NotEntered {
    /// What becomes of the search for it.
    pub(super) fn error(self) -> UpstreamError {
        match self {
            NotEntered::Known => UpstreamError::lost("its id is another task's now"),
            NotEntered::Full => UpstreamError::unavailable("its connection has too many tasks"),
        }
    }
}

impl LinkTasks {
    /// Whether anything has to be looked up at all.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) > 0
    }

    /// Whether any task is reached over this connection.
    pub(super) fn has_any(&self) -> bool {
        self.is_in_use() && !self.lock().tasks.is_empty()
    }

    /// This call may become a task; `false` when there is no room for one.
    pub(super) fn expect(&self, call: u64, caller: Caller, dialect: Dialect) -> bool {
        let mut table = self.lock();
        let has_room = table.awaited.len() + table.tasks.len() < AT_ONCE;
        if has_room {
            table.awaited.insert(call, (caller, dialect));
        }
        self.count(&table);
        has_room
    }

    /// An answer arrived. Gives the id of a task that nobody wants any longer.
    pub(super) fn answered(&self, call: u64, answer: &Answer) -> Option<String> {
        let mut table = self.lock();
        let Table { awaited, given_up, tasks } = &mut *table;
        let mut unwanted = None;
        if let Some((caller, dialect)) = awaited.remove(&call) {
            // An id that is taken is refused where the answer is read: `take` finds it is another's.
            if let Ok(Some(begun)) = created(answer, dialect)
                && !tasks.contains_key(&begun.facts.id)
            {
                let id = begun.facts.id;
                tasks.insert(id.clone(), LinkTask::new(id, caller, Some(call)));
            }
        } else if given_up.remove(&call) {
            let begun = created(answer, Dialect::Core).ok().flatten();
            unwanted = begun.map(|begun| begun.facts.id).filter(|id| !tasks.contains_key(id));
        }
        self.count(&table);
        drop(table);
        self.settled.notify_waiters();
        unwanted
    }

    /// Nobody waits for the call any longer. Gives the id of the task that it became meanwhile; where it became none yet,
    /// a late answer is looked out for if `may_come`.
    pub(super) fn give_up(&self, call: u64, may_come: bool) -> Option<String> {
        let mut table = self.lock();
        let awaited = table.awaited.remove(&call);
        let is_core = matches!(awaited, Some((_, Dialect::Core)));
        if is_core && may_come && table.given_up.len() < GIVEN_UP {
            table.given_up.insert(call);
        }
        let left = table.tasks.values().find(|task| task.call == Some(call) && !task.told().is_taken);
        let left = left.map(|task| task.id.clone());
        if let Some(task) = left.as_ref().and_then(|id| table.tasks.remove(id)) {
            task.over.cancel();
        }
        self.count(&table);
        drop(table);
        self.settled.notify_waiters();
        left
    }

    /// The task that a call of this client became, for whoever made the call; `None` when it is another's.
    pub(super) fn take(&self, id: &str, client: &Arc<Client>) -> Option<Arc<LinkTask>> {
        let task = Arc::clone(self.lock().tasks.get(id)?);
        let is_own = Arc::ptr_eq(&task.owner.borrow().caller.client, client);
        (is_own && !std::mem::replace(&mut task.told().is_taken, true)).then_some(task)
    }

    /// Enters a task that was made before this connection.
    pub(super) fn enter(&self, id: &str, caller: Caller) -> Result<Arc<LinkTask>, NotEntered> {
        let mut table = self.lock();
        if table.tasks.contains_key(id) {
            return Err(NotEntered::Known);
        }
        if table.awaited.len() + table.tasks.len() >= AT_ONCE {
            return Err(NotEntered::Full);
        }
        let task = LinkTask::new(id.to_owned(), caller, None);
        task.told().is_taken = true;
        table.tasks.insert(id.to_owned(), Arc::clone(&task));
        self.count(&table);
        Ok(task)
    }

    /// Nobody wants anything of it any longer.
    pub(super) fn leave(&self, task: &LinkTask) {
        let mut table = self.lock();
        table.tasks.remove(&task.id);
        self.count(&table);
        drop(table);
        task.over.cancel();
    }

    /// Which task is meant by this id.
    pub(super) fn named(&self, id: &str) -> Named {
        if !self.is_in_use() {
            return Named::Nobody;
        }
        let table = self.lock();
        match table.tasks.get(id) {
            Some(task) => Named::Task(Arc::clone(task)),
            None if table.awaited.is_empty() => Named::Nobody,
            None => Named::Awaited,
        }
    }

    /// The task of this id, as soon as the call is answered that becomes it; `None` when no call can any longer.
    pub(super) async fn until_known(&self, id: &str) -> Option<Arc<LinkTask>> {
        loop {
            let settled = self.settled.notified();
            match self.named(id) {
                Named::Task(task) => return Some(task),
                Named::Nobody => return None,
                Named::Awaited => settled.await,
            }
        }
    }

    /// Every task.
    pub(super) fn all(&self) -> Vec<Arc<LinkTask>> {
        self.lock().tasks.values().cloned().collect()
    }

    /// Passes progress on to the task of the call whose id is the token (S-PROG-04).
    pub(super) fn progress(&self, token: u64, params: Object) {
        let task = self.lock().tasks.values().find(|task| task.call == Some(token)).cloned();
        let Some(task) = task else { return };
        task.activity.touch();
        if let Some(events) = task.events() {
            // Nobody reads it when the task's client reads no stream.
            let _ = events.push(CallEvent::Progress(Box::new(without_related(params))));
        }
    }

    /// Takes what is told of a task (S-TASK-18); what is no task object, or of no task that is known, is nothing.
    pub(super) fn status(&self, params: &Object) {
        let Ok(facts) = TaskFacts::of(Dialect::Core, params) else { return };
        if let Named::Task(task) = self.named(&facts.id) {
            task.activity.touch();
            task.told().status = Some(facts);
            task.news.notify_waiters();
        }
    }

    fn count(&self, table: &Table) {
        let in_use = table.awaited.len() + table.given_up.len() + table.tasks.len();
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkTask {
    fn new(id: String, caller: Caller, call: Option<u64>) -> Arc<Self> {
        Arc::new(LinkTask {
            id,
            owner: watch::Sender::new(Owner { caller, is_settled: false }),
            call,
            activity: Arc::new(Activity::starting_now()),
            over: CancellationToken::new(),
            told: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Whose it is now.
    pub(super) fn owner(&self) -> Caller {
        self.owner.borrow().caller.clone()
    }

    /// To learn when somebody takes it over.
    pub(super) fn owners(&self) -> watch::Receiver<Owner> {
        self.owner.subscribe()
    }

    /// Where its progress and logs go.
    pub(super) fn events(&self) -> Option<EventSink> {
        self.owner.borrow().caller.events.clone()
    }

    /// From now on it is this client's.
    pub(super) fn belongs_to(&self, client: &Arc<Client>, events: Option<&EventSink>) {
        let is_same = |caller: &Caller| {
            let same_events = match (&caller.events, events) {
                (Some(known), Some(events)) => known.is(events),
                (None, None) => true,
                _ => false,
            };
            Arc::ptr_eq(&caller.client, client) && same_events
        };
        self.owner.send_if_modified(|owner| {
            let is_news = !owner.is_settled || !is_same(&owner.caller);
            if is_news {
                let caller = Caller { client: Arc::clone(client), events: events.cloned() };
                *owner = Owner { caller, is_settled: true };
            }
            is_news
        });
    }

    /// Counts a question that it causes, and gives how many those are now.
    pub(super) fn count_question(&self) -> usize {
        let mut told = self.told();
        told.questions += 1;
        told.questions
    }

    /// What is told of it next; what was told since the last look counts, and the last word of it alone.
    pub(super) async fn news(&self) -> TaskFacts {
        loop {
            let news = self.news.notified();
            if let Some(facts) = self.told().status.take() {
                return facts;
            }
            news.await;
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::protocol::json::Limits;
    use crate::upstream::connections::tests::session;
    use crate::upstream::events::event_queue;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::NONE).expect("valid")
    }

    fn begun(id: &str) -> Answer {
        Answer::Result(object(&format!(r#"{{"task":{{"taskId":"{id}","status":"working","ttl":null}}}}"#)))
    }

    fn caller(client: &Arc<Client>) -> Caller {
        Caller { client: Arc::clone(client), events: None }
    }

    #[test]
    fn s_task_07_a_task_is_its_callers_and_equal_ids_are_not_mistaken() {
        let (tasks, one, other) = (LinkTasks::default(), session(), session());
        assert!(
            tasks.expect(1, caller(&one), Dialect::Core) && tasks.expect(2, caller(&other), Dialect::Core)
        );
        assert_eq!(tasks.answered(1, &begun("t")), None);
        tasks.answered(2, &begun("t"));
        assert!(tasks.take("t", &other).is_none(), "the id is another's");
        let task = tasks.take("t", &one).expect("its own");
        assert!(tasks.take("t", &one).is_none(), "once");
        assert!(tasks.has_any());
        tasks.leave(&task);
        assert!(task.over.is_cancelled() && !tasks.is_in_use());
    }

    #[tokio::test]
    async fn s_task_16_who_names_a_task_waits_for_the_call_that_may_become_it() {
        let (tasks, one) = (LinkTasks::default(), session());
        assert!(matches!(tasks.named("t"), Named::Nobody));
        tasks.expect(1, caller(&one), Dialect::Core);
        let mut waiting = Box::pin(tasks.until_known("t"));
        assert!(waiting.as_mut().now_or_never().is_none());
        tasks.answered(1, &begun("t"));
        assert_eq!(waiting.await.expect("known").id, "t");
        tasks.expect(2, caller(&one), Dialect::Core);
        let other = tasks.until_known("u");
        tasks.answered(2, &Answer::Result(Object::empty()));
        assert!(other.await.is_none(), "the call became none");
    }

    #[test]
    fn s_task_15_a_task_that_comes_too_late_is_named_to_be_cancelled() {
        let (tasks, one) = (LinkTasks::default(), session());
        tasks.expect(1, caller(&one), Dialect::Core);
        assert_eq!(tasks.give_up(1, true), None);
        assert_eq!(tasks.answered(1, &begun("late")).as_deref(), Some("late"));
        tasks.expect(2, caller(&one), Dialect::Core);
        tasks.answered(2, &begun("unseen"));
        assert_eq!(tasks.give_up(2, true).as_deref(), Some("unseen"));
        assert!(!tasks.is_in_use());
    }

    #[test]
    fn s_prog_04_the_token_of_the_call_holds_while_its_task_is_wanted() {
        let (tasks, one) = (LinkTasks::default(), session());
        let (sink, mut events) = event_queue(4);
        tasks.expect(7, Caller { client: Arc::clone(&one), events: Some(sink) }, Dialect::Core);
        tasks.answered(7, &begun("t"));
        let task = tasks.take("t", &one).expect("its own");
        let said = r#"{"progressToken":7,"progress":1,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}"#;
        tasks.progress(7, object(said));
        let Some(CallEvent::Progress(params)) = events.try_recv() else { panic!("it was told") };
        assert_eq!(params.as_bytes(), br#"{"progressToken":7,"progress":1}"#, "the upstream's id stays here");
        tasks.leave(&task);
        tasks.progress(7, object(said));
        assert!(events.try_recv().is_none());
    }

    #[test]
    fn s_task_18_of_what_is_told_the_last_word_counts() {
        let (tasks, one) = (LinkTasks::default(), session());
        let task = tasks.enter("t", caller(&one)).expect("free");
        assert_eq!(tasks.enter("t", caller(&one)).expect_err("known already"), NotEntered::Known);
        assert!(task.news().now_or_never().is_none());
        for status in ["working", "nonsense", "completed"] {
            tasks.status(&object(&format!(r#"{{"taskId":"t","status":"{status}","ttl":null}}"#)));
        }
        let facts = task.news().now_or_never().expect("told");
        assert_eq!(facts.status.text(), "completed");
        assert!(task.news().now_or_never().is_none(), "told once");
    }
}
