//! All tasks: whose they are, under which ids, and how many.
//!
//! Always: a task is its principal's and its endpoint's, and for everybody else there is none; reading a task that is over, and
//! a page of a list, costs the same however many are kept; unfinished ones are bounded for each principal. One gateway at a
//! time has the store, so that every unfinished task is this process's to run: where several share one, a lease per task
//! belongs between `TaskRegistry::claim` and the actor, with its fence in each write (`keeping`). Not here: one task
//! (`actor`), what is written (`record`).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::actor::{Creating, TaskActor};
use super::audit::{Audit, TaskCounts};
use super::handle::{NotCancelled, SharedEnding, Source, TaskFault, TaskHandle};
use super::inputs::TaskInputs;
use super::keeping::{RESULTS, TASKS, writes};
use super::places::Places;
use super::record::{Ending, Intent, NotReadable, Record, TaskKey, owner};
use super::state::{Change, State};
use super::view::{TaskPage, TaskStatus, TaskView};
use crate::auth::principal::Principal;
use crate::config::tasks::TaskSettings;
use crate::dispatch::{BegunTask, Failure, TaskLink, TaskSink};
use crate::names::{ProfileName, UpstreamName};
use crate::parked::{Running, Story};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::task::Status;
use crate::store::clock::Clock;
use crate::store::error::{StoreError, WriteError};
use crate::store::records::{Expect, Kept, Position, Records};
use crate::store::seal::{Purpose, Sealer};
use crate::upstream::events::Events;

/// Makes the story of a task, once the task is kept.
pub type MakeStory = Box<dyn FnOnce(Arc<dyn TaskSink>) -> Story>;

/// Says how a call that failed is answered, in the words that a plain call would get (S-TASK-11).
pub type TellFailure = Arc<dyn Fn(&Failure) -> Ending + Send + Sync>;

/// A task that is to be.
#[derive(Debug)]
pub struct NewTask {
    /// Whose.
    pub principal: Principal,
    /// At which endpoint; `None` is `/mcp`.
    pub endpoint: Option<ProfileName>,
    /// What its client speaks.
    pub revision: Revision,
    /// What its client can be asked.
    pub capabilities: ClientCapabilities,
    /// Whose tool.
    pub upstream: UpstreamName,
    /// The tool, by its public name.
    pub tool: String,
    /// How long its client wishes it to be kept, milliseconds from now; bounded here.
    pub ttl_ms: Option<u64>,
    /// The trace that its call belongs to.
    pub trace_id: Option<String>,
    /// How its client is asked.
    pub inputs: TaskInputs,
}

/// How a task goes on whose upstream made one of its own.
pub type Followed = Box<dyn FnOnce(Box<BegunTask>, Arc<dyn TaskSink>) -> Story>;

/// How a task begins.
pub enum Beginning {
    /// With a call that was not made yet: its story is made and run once the task is kept.
    Hosted {
        /// What the call tells.
        events: Option<Events>,
        /// Its story.
        story: MakeStory,
    },
    /// With a task that an upstream made of a call: the story follows that.
    Linked {
        /// The upstream's task.
        link: TaskLink,
        /// What the story tells.
        events: Option<Events>,
        /// The story.
        story: MakeStory,
    },
    /// With a call under way, which takes its time.
    Called {
        /// The call, which stands still until the task is kept.
        running: Running,
        /// How it goes on should its upstream still make a task of it.
        followed: Followed,
    },
}

/// Why there is no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCreated {
    /// The principal has as many unfinished ones as it may (`tasks.each`); `overloaded`.
    #[error("too many unfinished tasks")]
    TooMany,
    /// It cannot be kept; `store_unavailable`.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Why there is no task, and what it would have begun with: a call under way may go on without.
pub struct Refused {
    /// Why.
    pub why: NotCreated,
    /// As it was given.
    pub beginning: Beginning,
}

/// A cursor that was not handed out here for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor")]
pub struct BadTaskCursor;

/// Why tasks cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotListed {
    /// `-32602` (S-TASK-13).
    #[error(transparent)]
    BadCursor(#[from] BadTaskCursor),
    /// `store_unavailable`.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

/// Public ids.
const TASK: Purpose = Purpose::new("task");
/// Cursors of lists.
const CURSOR: Purpose = Purpose::new("task cursor");
/// For how long who looks for an unfinished task waits for [`TaskRegistry::resume`].
const RESUME_PATIENCE: Duration = Duration::from_secs(5);

/// See the module head.
pub struct TaskRegistry {
    records: Arc<dyn Records>,
    sealer: Arc<Sealer>,
    clock: Clock,
    settings: TaskSettings,
    tell_failure: TellFailure,
    table: Mutex<Table>,
    audit: Audit,
    /// Whether every unfinished task of before the start is in the table, or settled.
    is_resumed: watch::Sender<bool>,
    /// Whether the gateway stops: then what runs no longer is not over.
    is_suspended: AtomicBool,
}

struct Table {
    /// Tasks that are not over.
    live: HashMap<TaskKey, Source>,
    places: Places,
}

/// The place of one unfinished task; free again when this is dropped.
pub(super) struct Place {
    registry: Arc<TaskRegistry>,
    principal: Principal,
    key: TaskKey,
}

impl Place {
    pub(super) fn key(&self) -> TaskKey {
        self.key
    }

    pub(super) fn registry(&self) -> &Arc<TaskRegistry> {
        &self.registry
    }

    /// The task runs, and is reached so.
    pub(super) fn occupy(&self, source: Source) {
        self.registry.lock().live.insert(self.key, source);
    }

    /// The task runs no longer.
    pub(super) fn leave(&self) {
        let left = self.registry.lock().live.remove(&self.key);
        // It may hold the last address of an actor.
        drop(left);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
        self.registry.lock().places.release(self.principal);
    }
}

impl TaskRegistry {
    /// Over this store; [`TaskRegistry::resume`] has to be called once, for until then nobody is told of what was unfinished
    /// before. `clock` is the store's.
    pub fn new(
        records: Arc<dyn Records>,
        sealer: Arc<Sealer>,
        clock: Clock,
        settings: TaskSettings,
        tell_failure: TellFailure,
    ) -> Arc<Self> {
        let table = Mutex::new(Table { live: HashMap::new(), places: Places::new(settings.each) });
        let is_resumed = watch::channel(false).0;
        let is_suspended = AtomicBool::new(false);
        Arc::new(TaskRegistry {
            records,
            sealer,
            clock,
            settings,
            tell_failure,
            table,
            audit: Audit::default(),
            is_resumed,
            is_suspended,
        })
    }

    /// Makes a task: when this resolves well, it is kept (I3, S-TX-04), and its story has begun, on this thread. A client that
    /// stops waiting before that has no task.
    pub async fn create(
        self: &Arc<Self>,
        new: NewTask,
        beginning: Beginning,
    ) -> Result<TaskHandle, Box<Refused>> {
        let created_ms = self.now_ms();
        let Ok(key) = TaskKey::random(created_ms) else {
            let why = StoreError::Io("no randomness".into()).into();
            return Err(Box::new(Refused { why, beginning }));
        };
        let Some(place) = self.claim(new.principal, key) else {
            return Err(Box::new(Refused { why: NotCreated::TooMany, beginning }));
        };
        let record = self.record_of(&new, &beginning, key, created_ms);
        new.inputs.name(&record.id);
        let (reply, created) = oneshot::channel();
        let creating = Creating { beginning, reply };
        TaskActor::create_task(place, State::create(record), new.inputs, creating);
        match created.await {
            Ok(created) => created,
            // A fault of the gateway's own ended it, and what it would have begun with.
            Err(_) => {
                let lost: MakeStory = Box::new(|_| Box::pin(std::future::pending()));
                let beginning = Beginning::Hosted { events: None, story: lost };
                Err(Box::new(Refused { why: StoreError::Closed.into(), beginning }))
            }
        }
    }

    fn record_of(&self, new: &NewTask, beginning: &Beginning, key: TaskKey, created_ms: u64) -> Record {
        let endpoint = new.endpoint.as_ref().map(ProfileName::as_str);
        let scope = [new.principal.key(), endpoint.unwrap_or_default()];
        let link = match beginning {
            Beginning::Linked { link, .. } => Some(link.clone()),
            Beginning::Hosted { .. } | Beginning::Called { .. } => None,
        };
        let is_dispatched = !matches!(beginning, Beginning::Hosted { .. });
        let facts = link.as_ref().map(|link| &link.facts);
        let granted = facts.and_then(|facts| facts.ttl_ms).map_or(u64::MAX, |granted| granted.max(1_000));
        let mut record = Record {
            id: self.sealer.seal(TASK, &scope, key.as_bytes()),
            principal: new.principal.key().to_owned(),
            endpoint: endpoint.map(str::to_owned),
            revision: new.revision.text().to_owned(),
            capabilities: String::from_utf8_lossy(&new.capabilities.to_upstream()).into_owned(),
            upstream: new.upstream.to_string(),
            tool: new.tool.clone(),
            trace_id: new.trace_id.clone(),
            created_ms,
            updated_ms: created_ms,
            ttl_ms: self.settings.granted_ttl_ms(new.ttl_ms).min(granted),
            poll_ms: facts.and_then(|facts| facts.poll_ms),
            status: Status::Working,
            is_tool_error: false,
            message: None,
            intent: if is_dispatched { Intent::Dispatched } else { Intent::NotDispatched },
            link: None,
            progress: None,
        };
        record.say(facts.and_then(|facts| facts.message.as_deref()));
        record.link = link;
        record
    }

    /// The task that this client knows by this id (S-TASK-10).
    pub async fn find(
        self: &Arc<Self>,
        principal: Principal,
        endpoint: Option<&ProfileName>,
        id: &str,
    ) -> Result<TaskHandle, TaskFault> {
        let scope = [principal.key(), endpoint.map_or("", ProfileName::as_str)];
        let key = self.sealer.open(TASK, &scope, id).ok();
        let key = key.and_then(|key| TaskKey::of_bytes(&key)).ok_or(TaskFault::Unknown)?;
        self.find_by_key(key).await
    }

    /// The task of that key, for operators.
    pub async fn find_by_key(self: &Arc<Self>, key: TaskKey) -> Result<TaskHandle, TaskFault> {
        let source = match self.live(key) {
            Some(live) => live,
            None => match self.view_of(key).await {
                // It was there before it was looked for in the store, or is since.
                Err(TaskFault::Unknown) => self.live(key).ok_or(TaskFault::Unknown)?,
                Err(fault) => return Err(fault),
                Ok(view) if view.is_over() => Source::Kept(view),
                Ok(view) => self.live(key).unwrap_or(Source::Kept(view)),
            },
        };
        let handle = TaskHandle { registry: Arc::clone(self), source };
        let view = handle.view();
        if view.is_gone || self.is_expired(&view.record) {
            return Err(TaskFault::Unknown);
        }
        Ok(handle)
    }

    /// A page of the client's tasks (S-TASK-13).
    pub async fn list(
        &self,
        principal: Principal,
        endpoint: Option<&ProfileName>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<TaskPage, NotListed> {
        let endpoint = endpoint.map(ProfileName::as_str);
        let scope = [principal.key(), endpoint.unwrap_or_default()];
        let after = match cursor {
            Some(cursor) => Some(self.sealer.open(CURSOR, &scope, cursor).map_err(|_| BadTaskCursor)?),
            None => None,
        };
        let position = after.as_deref().map_or(Position::First, Position::After);
        let owner = owner(principal.key(), endpoint);
        let page = self.records.list(TASKS, &owner, position, limit.max(1)).await?;
        for key in &page.damaged {
            tracing::error!(task = ?TaskKey::of_bytes(key), "a task in the store is damaged");
        }
        let tasks = page.items.iter().filter_map(|(key, kept)| self.shown(key, kept)).collect();
        let next = page.next.map(|last| self.sealer.seal(CURSOR, &scope, &last));
        Ok(TaskPage { tasks, next })
    }

    /// Tasks as operators see them, of everybody, the newest first: those made before `before`, and where to go on.
    pub async fn statuses(
        &self,
        before: Option<TaskKey>,
        limit: usize,
    ) -> Result<(Vec<TaskStatus>, Option<TaskKey>), StoreError> {
        let position = before.as_ref().map_or(Position::Last, |key| Position::Before(key.as_bytes()));
        let page = self.records.scan(TASKS, position, limit.max(1)).await?;
        let now_ms = self.now_ms();
        let shown = page.items.iter().filter_map(|(key, kept)| self.shown(key, kept));
        let statuses = shown.map(|view| TaskStatus::of(&view, now_ms, self.live(view.key).is_some()));
        Ok((statuses.collect(), page.next.as_deref().and_then(TaskKey::of_bytes)))
    }

    /// How many tasks there are, and were since the start.
    pub fn counts(&self) -> TaskCounts {
        let live: Vec<Source> = self.lock().live.values().cloned().collect();
        let asking = live.iter().filter(|source| source.view().asks_in.is_some()).count();
        let figure = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.audit.counts(figure(live.len() - asking), figure(asking))
    }

    /// How many tasks are not over.
    pub fn unfinished(&self) -> usize {
        self.lock().live.len()
    }

    /// The gateway stops: stories end here, and tasks that upstreams keep are left to them, to be followed after the next
    /// start.
    pub async fn suspend(&self) {
        self.is_suspended.store(true, Ordering::Release);
        let live: Vec<_> = self.lock().live.values().cloned().collect();
        for source in live {
            source.suspend().await;
        }
    }

    /// What is kept of a task as it is shown: what runs shows more than the store has.
    fn shown(&self, key: &[u8], kept: &Kept) -> Option<TaskView> {
        let key = TaskKey::of_bytes(key)?;
        let view = match self.live(key) {
            Some(live) => live.view(),
            None => match Record::decode(&kept.value) {
                Ok(record) => TaskView::of(key, record),
                Err(error) => {
                    tracing::error!(task = %key.number(), %error, "a task in the store cannot be read");
                    return None;
                }
            },
        };
        (!view.is_gone && !self.is_expired(&view.record)).then_some(view)
    }

    /// What is kept of a task that does not run here. One that is not over, and that nobody goes on with, is settled first.
    pub(super) async fn view_of(&self, key: TaskKey) -> Result<TaskView, TaskFault> {
        loop {
            let kept = self.records.get(TASKS, key.as_bytes()).await?.ok_or(TaskFault::Unknown)?;
            let record = Record::decode(&kept.value).map_err(|error| unreadable(key, &error))?;
            if self.is_expired(&record) {
                return Err(TaskFault::Unknown);
            }
            if record.status.is_terminal() {
                return Ok(TaskView::of(key, record));
            }
            let mut is_resumed = self.is_resumed.subscribe();
            if !*is_resumed.borrow() {
                let resumed = is_resumed.wait_for(|resumed| *resumed);
                if tokio::time::timeout(RESUME_PATIENCE, resumed).await.is_err() {
                    return Err(StoreError::Busy.into());
                }
            }
            if let Some(live) = self.live(key) {
                return Ok(live.view());
            }
            if self.is_suspended.load(Ordering::Acquire) {
                return Err(StoreError::Closed.into());
            }
            if let Some(view) = self.settle(key, record, kept.version).await? {
                return Ok(view);
            }
        }
    }

    /// Says of a task whose story ended with its thread that its outcome is unknown; `None` when it was changed meanwhile.
    async fn settle(
        &self,
        key: TaskKey,
        record: Record,
        version: u64,
    ) -> Result<Option<TaskView>, TaskFault> {
        let ending = Ending::gateway_restarted(&UpstreamName::new(&*record.upstream), record.intent);
        let updated_ms = self.now_ms().max(record.updated_ms);
        let record = Record { status: ending.status(), updated_ms, ..record };
        let change = Change::Finish(record.clone(), Some(ending));
        match self.records.write(writes(key, &change, Expect::Version(version))).await {
            Ok(_) => Ok(Some(TaskView::of(key, record))),
            Err(WriteError::Conflict(_)) => Ok(None),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }

    /// How a task that is over ended.
    pub(super) async fn ending_of(&self, key: TaskKey) -> Result<SharedEnding, TaskFault> {
        let kept = self.records.get(RESULTS, key.as_bytes()).await?.ok_or(TaskFault::Unknown)?;
        Ending::decode(&kept.value).map(Arc::new).map_err(|error| unreadable(key, &error))
    }

    /// A cancellation that comes too late.
    pub(super) async fn settle_cancelled(&self, view: TaskView) -> Result<TaskView, NotCancelled> {
        match view.is_gone || self.is_expired(&view.record) {
            true => Err(TaskFault::Unknown.into()),
            false => Err(NotCancelled::AlreadyOver(Box::new(view))),
        }
    }

    /// Whether its time is over, to the millisecond.
    pub(super) fn is_expired(&self, record: &Record) -> bool {
        self.now_ms() >= record.expires_ms()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(super) fn records(&self) -> &Arc<dyn Records> {
        &self.records
    }

    pub(super) fn tell_failure(&self, failure: &Failure) -> Ending {
        (self.tell_failure)(failure)
    }

    /// A place for a new task, if its principal may have one more.
    fn claim(self: &Arc<Self>, principal: Principal, key: TaskKey) -> Option<Place> {
        let is_free = self.lock().places.claim(principal);
        is_free.then(|| Place { registry: Arc::clone(self), principal, key })
    }

    /// A place for a task that was there before: it has one whatever is allowed now.
    pub(super) fn claim_again(self: &Arc<Self>, principal: Principal, key: TaskKey) -> Place {
        self.lock().places.claim_again(principal);
        Place { registry: Arc::clone(self), principal, key }
    }

    pub(super) fn resumed(&self) {
        self.is_resumed.send_replace(true);
    }

    pub(super) fn live(&self, key: TaskKey) -> Option<Source> {
        self.lock().live.get(&key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(key: TaskKey, error: &NotReadable) -> TaskFault {
    tracing::error!(task = %key.number(), %error, "a task in the store cannot be read");
    TaskFault::Unavailable(StoreError::Damaged(TASKS))
}

impl fmt::Debug for TaskRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskRegistry")
    }
}
