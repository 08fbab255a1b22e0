//! The registry over real stores: memory, and a file that is opened again.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix::System;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::*;
use crate::auth::principal::Principal;
use crate::config::tasks::TaskSettings;
use crate::dispatch::{Failure, Outcome, TaskLink, TaskSink};
use crate::names::{ProfileName, UpstreamName};
use crate::parked::tests::{FORM, asked, object};
use crate::parked::{Inputs, Running, Story};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::Answer;
use crate::protocol::task::{Dialect, Status, TaskFacts};
use crate::store::clock::Clock;
use crate::store::embedded::Embedded;
use crate::store::error::{StoreError, WriteError};
use crate::store::memory::Memory;
use crate::store::places::Place;
use crate::store::records::{Kept, Page, Position, Records, Space, Write};
use crate::store::seal::{Sealer, SealingKey};
use crate::upstream::events::event_queue;
use crate::upstream::task::KeptPlace;

const REVISION: Revision = Revision::V2026_07_28;
const DONE: &[u8] = br#"{"content":[],"n":1.50}"#;

/// A store that fails when it is told to, and counts.
#[derive(Debug)]
struct Watched {
    store: Arc<dyn Records>,
    is_full: AtomicBool,
    /// So many looks find it busy.
    busy: AtomicUsize,
    gets: AtomicUsize,
    lists: AtomicUsize,
}

impl Records for Watched {
    fn get<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        if self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return std::future::ready(Err(StoreError::Busy)).boxed();
        }
        self.store.get(space, key)
    }

    fn write(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<u64>, WriteError>> {
        match self.is_full.load(Ordering::Relaxed) {
            true => std::future::ready(Err(StoreError::Full.into())).boxed(),
            false => self.store.write(writes),
        }
    }

    fn take<'a>(&'a self, space: Space, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Kept>, StoreError>> {
        self.store.take(space, key)
    }

    fn list<'a>(
        &'a self,
        space: Space,
        owner: &'a str,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.store.list(space, owner, position, limit)
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        position: Position<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.store.scan(space, position, limit)
    }

    fn purge(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.store.purge(limit)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(&[SealingKey::new([7; 32])]).expect("one key"))
}

fn tell_failure() -> TellFailure {
    Arc::new(|failure: &Failure| {
        let record = FailureRecord::of_gateway(Reason::UpstreamLost, false, None, Ran::Unknown);
        Ending::failure(&failure.to_string(), &record)
    })
}

struct Setup {
    store: Arc<Watched>,
    registry: Arc<TaskRegistry>,
}

impl Setup {
    fn over(store: Arc<dyn Records>, clock: Clock, settings: TaskSettings) -> Self {
        let store = Arc::new(Watched {
            store,
            is_full: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            gets: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
        });
        let records: Arc<dyn Records> = Arc::clone(&store) as _;
        Setup { store, registry: TaskRegistry::new(records, sealer(), clock, settings, tell_failure()) }
    }

    /// Over memory, after a start that found nothing.
    async fn in_memory(settings: TaskSettings) -> Self {
        let clock = Clock::system();
        let setup = Setup::over(Arc::new(Memory::new(clock)), clock, settings);
        assert_eq!(setup.registry.resume(|_| None).await, Ok(0));
        setup
    }

    async fn begin(&self, story: impl FnOnce(Arc<dyn TaskSink>) -> Story + 'static) -> TaskHandle {
        self.create(new_task(TaskInputs::None), story)
            .await
            .unwrap_or_else(|refused| panic!("{}", refused.why))
    }

    async fn create(
        &self,
        new: NewTask,
        story: impl FnOnce(Arc<dyn TaskSink>) -> Story + 'static,
    ) -> Result<TaskHandle, Box<Refused>> {
        self.registry.create(new, Beginning::Hosted { events: None, story: Box::new(story) }).await
    }

    async fn find(&self, id: &str) -> Result<TaskHandle, TaskFault> {
        self.registry.find(Principal::Local, None, id).await
    }
}

fn new_task(inputs: TaskInputs) -> NewTask {
    NewTask {
        principal: Principal::Local,
        endpoint: None,
        revision: REVISION,
        capabilities: capabilities(),
        upstream: UpstreamName::new("one"),
        tool: "one__slow".to_owned(),
        ttl_ms: Some(60_000),
        trace_id: None,
        inputs,
    }
}

fn capabilities() -> ClientCapabilities {
    ClientCapabilities::of(&object(r#"{"roots":{},"elicitation":{}}"#), REVISION)
}

fn done() -> Result<Outcome, Failure> {
    Ok(Outcome::Own(Bytes::from_static(DONE)))
}

/// A story that ends when it is told to.
fn until_told() -> (oneshot::Sender<()>, impl FnOnce(Arc<dyn TaskSink>) -> Story) {
    let (tell, told) = oneshot::channel();
    let story = |_: Arc<dyn TaskSink>| -> Story {
        Box::pin(async move {
            let _ = told.await;
            done()
        })
    };
    (tell, story)
}

fn link() -> TaskLink {
    TaskLink {
        upstream: "one".to_owned(),
        tool: "one__slow".to_owned(),
        id: "theirs".to_owned(),
        dialect: Dialect::Extension,
        place: KeptPlace::of(Dialect::Extension),
        facts: TaskFacts {
            id: "theirs".to_owned(),
            status: Status::Working,
            message: Some("on it".to_owned()),
            created_at: None,
            updated_at: None,
            ttl_ms: None,
            poll_ms: Some(50),
        },
    }
}

fn status(view: &TaskView) -> Status {
    view.status(Dialect::Extension)
}

fn text_of(view: &TaskView) -> String {
    match &view.ending.as_ref().expect("an ending").answer {
        Answer::Result(result) => String::from_utf8_lossy(result.as_bytes()).into_owned(),
        Answer::Error(error) => String::from_utf8_lossy(error.object.as_bytes()).into_owned(),
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

#[test]
fn i3_s_tx_04_a_task_is_known_from_the_moment_its_handle_is() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let (tell, story) = until_told();
        let task = setup.begin(story).await;
        let page = setup.store.store.scan(Space::new("task"), Position::First, 10).await.expect("memory");
        assert_eq!(page.items.len(), 1, "it is kept");
        let found = setup.find(&task.id()).await.expect("known");
        assert_eq!((status(&found.view()), found.id()), (Status::Working, task.id()));
        let facts = found.view().facts(Dialect::Core);
        assert_eq!((facts.ttl_ms, facts.status), (Some(60_000), Status::Working));
        tell.send(()).expect("it waits");
        let over = found.until_over().await.expect("known");
        assert_eq!(
            (status(&over), text_of(&over)),
            (Status::Completed, String::from_utf8_lossy(DONE).into_owned())
        );
        until("it runs no longer", || setup.registry.unfinished() == 0).await;
        // From the store, to the byte, as often as anybody asks.
        for _ in 0..2 {
            let again = setup.find(&task.id()).await.expect("known").read().await.expect("kept");
            assert_eq!(text_of(&again), text_of(&over));
        }
    });
}

#[test]
fn s_task_19_unknown_foreign_altered_and_made_up_ids_are_the_same() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let id = setup.begin(|_| Box::pin(async { done() })).await.id();
        let elsewhere = ProfileName::new("other");
        let foreign = setup.registry.find(Principal::Local, Some(&elsewhere), &id).await;
        assert_eq!(foreign.err(), Some(TaskFault::Unknown));
        let never_kept = sealer().seal(crate::store::seal::Purpose::new("task"), &["local", ""], &[9; 24]);
        let cursor = sealer().seal(crate::store::seal::Purpose::new("task cursor"), &["local", ""], &[9; 24]);
        let other = if id.as_bytes()[40] == b'A' { "B" } else { "A" };
        let altered = format!("{}{other}{}", &id[..40], &id[41..]);
        for unknown in ["", "made-up", &altered, &id[1..], &never_kept, &cursor] {
            assert_eq!(setup.find(unknown).await.err(), Some(TaskFault::Unknown), "{unknown}");
        }
        setup.find(&id).await.expect("the right one");
    });
}

#[test]
fn s_task_11_any_number_may_wait_and_who_leaves_changes_nothing() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let (tell, story) = until_told();
        let task = setup.begin(story).await;
        assert!(task.until_over().now_or_never().is_none(), "it waits, and leaves");
        let waiting = [task.clone(), task.clone()].map(|task| async move { task.until_over().await });
        let [first, second] = waiting;
        let (first, second, _) = tokio::join!(first, second, async { tell.send(()) });
        assert_eq!(text_of(&first.expect("known")), text_of(&second.expect("known")));
    });
}

#[test]
fn s_task_13_lists_are_paged_in_the_order_of_creation_and_cursors_are_sealed() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let mut ids = Vec::new();
        for at in 0..5 {
            let (tell, story) = until_told();
            ids.push(setup.begin(story).await.id());
            if at % 2 == 0 {
                std::mem::forget(tell);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let list = async |cursor: Option<&str>| setup.registry.list(Principal::Local, None, cursor, 2).await;
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let lists = setup.store.lists.load(Ordering::Relaxed);
            let page = list(cursor.as_deref()).await.expect("a page");
            assert_eq!(setup.store.lists.load(Ordering::Relaxed), lists + 1, "one look per page");
            seen.extend(page.tasks.iter().map(|task| task.record.id.clone()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
        let bad = Some(NotListed::BadCursor(BadTaskCursor));
        for cursor in ["", "2", &ids[0]] {
            assert_eq!(list(Some(cursor)).await.err(), bad, "{cursor}");
        }
        let elsewhere = ProfileName::new("other");
        let none = setup.registry.list(Principal::Local, Some(&elsewhere), None, 10).await.expect("a page");
        assert!(none.tasks.is_empty() && none.next.is_none());
        let (statuses, _) = setup.registry.statuses(None, 10).await.expect("memory");
        assert_eq!((statuses.len(), statuses[0].upstream.as_str()), (5, "one"));
        assert_eq!(statuses.iter().filter(|status| status.is_live).count(), setup.registry.unfinished());
    });
}

/// Sets a flag when it is dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn endless(is_dropped: &Rc<Cell<bool>>) -> impl FnOnce(Arc<dyn TaskSink>) -> Story + 'static {
    let flag = Flag(Rc::clone(is_dropped));
    |_| {
        Box::pin(async move {
            let _flag = flag;
            pending().await
        })
    }
}

#[test]
fn s_task_15_a_cancelled_task_stays_cancelled_and_its_call_is_given_up() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let is_dropped = Rc::default();
        let task = setup.begin(endless(&is_dropped)).await;
        let cancelled = task.cancel().await.expect("it ran");
        assert_eq!(status(&cancelled), Status::Cancelled);
        assert!(is_dropped.get(), "its call is given up");
        let found = setup.find(&task.id()).await.expect("known").read().await.expect("known");
        assert!(status(&found) == Status::Cancelled && found.ending.is_none());
        for handle in [task.clone(), setup.find(&task.id()).await.expect("known")] {
            let late = handle.cancel().await;
            assert!(
                matches!(late, Err(NotCancelled::AlreadyOver(view)) if status(&view) == Status::Cancelled)
            );
        }
        assert_eq!(status(&task.until_over().await.expect("known")), Status::Cancelled);
    });
}

#[test]
fn s_task_20_a_principal_has_only_so_many_unfinished_tasks() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings { each: 2, ..TaskSettings::default() }).await;
        let is_dropped = Rc::default();
        let first = setup.begin(endless(&is_dropped)).await;
        setup.begin(endless(&Rc::default())).await;
        let refused = setup.create(new_task(TaskInputs::None), endless(&Rc::default())).await;
        assert_eq!(refused.err().map(|refused| refused.why), Some(NotCreated::TooMany));
        first.cancel().await.expect("it ran");
        until("its place is free", || setup.registry.unfinished() == 1).await;
        setup.begin(endless(&Rc::default())).await;
    });
}

#[test]
fn f48_nothing_is_acknowledged_that_is_not_kept_and_an_ending_waits_for_space() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let (tell, story) = until_told();
        let task = setup.begin(story).await;
        setup.store.is_full.store(true, Ordering::Relaxed);
        // A call under way comes back, and goes on as a plain one.
        let inputs = Inputs::new(REVISION, capabilities());
        let running = Running::new(Box::pin(async { done() }), event_queue(4).1, inputs);
        let beginning = Beginning::Called { running, followed: Box::new(|_, _| Box::pin(pending())) };
        let refused = setup.registry.create(new_task(TaskInputs::None), beginning).await;
        let refused = refused.expect_err("it cannot be kept");
        assert_eq!(refused.why, NotCreated::Unavailable(StoreError::Full));
        let Beginning::Called { running, .. } = refused.beginning else { panic!("as it was given") };
        assert!(running.into_parts().0.await.is_ok());
        let cancelled = task.cancel().await;
        assert!(matches!(cancelled, Err(NotCancelled::Fault(TaskFault::Unavailable(StoreError::Full)))));
        tell.send(()).expect("the call goes on");
        let waits =
            || task.view().record.message.as_ref().is_some_and(|text| text.contains("cannot be kept"));
        until("its ending waits", waits).await;
        assert_eq!(status(&task.read().await.expect("known")), Status::Working);
        setup.store.is_full.store(false, Ordering::Relaxed);
        let over = task.until_over().await.expect("known");
        assert_eq!((status(&over), over.record.message.clone()), (Status::Completed, None));
        assert_eq!(
            setup.registry.list(Principal::Local, None, None, 10).await.expect("a page").tasks.len(),
            1
        );
    });
}

#[test]
fn s_tx_11_a_task_is_known_for_its_time_and_to_the_millisecond() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let is_dropped = Rc::default();
        let new = |ttl_ms| NewTask { ttl_ms: Some(ttl_ms), ..new_task(TaskInputs::None) };
        let running = setup.create(new(10), endless(&is_dropped)).await.ok().expect("kept");
        let finished = setup.create(new(0), |_| Box::pin(async { done() })).await.ok().expect("kept");
        finished.until_over().await.expect("known");
        assert_eq!(running.view().record.ttl_ms, 1_000, "at least");
        for task in [&running, &finished] {
            let expires_ms = task.view().record.expires_ms();
            let (mut known, mut looks) = (true, 0);
            while known {
                let before = setup.registry.now_ms();
                let found = setup.find(&task.id()).await;
                let after = setup.registry.now_ms();
                known = found.is_ok();
                assert!(known || after >= expires_ms, "too early by {}", expires_ms - after);
                assert!(!known || before < expires_ms, "too late by {}", before - expires_ms);
                looks += usize::from(known);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(looks > 0 || task.id() == finished.id(), "it was known before");
        }
        assert_eq!(running.until_over().await.err(), Some(TaskFault::Unknown), "who waits is told");
        assert!(is_dropped.get(), "its call is given up");
        assert_eq!(finished.read().await.err(), Some(TaskFault::Unknown));
        assert!(setup.store.purge(10).await.expect("memory") > 0, "the sweep takes it away");
    });
}

#[test]
fn s_tx_06_what_is_asked_is_shown_until_it_is_answered() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let keyed = Inputs::new(REVISION, capabilities());
        let inputs = TaskInputs::Keyed(keyed);
        let port = inputs.port().expect("it can be asked");
        let story = |_: Arc<dyn TaskSink>| -> Story {
            Box::pin(async move {
                let form = port.ask(asked("elicitation/create", FORM)).await.expect("declared");
                let roots = port.ask(asked("roots/list", "{}")).await.expect("declared");
                let answers = (form.answer.await, roots.answer.await);
                assert!(matches!(answers, (Ok(Answer::Result(_)), Ok(Answer::Result(_)))));
                done()
            })
        };
        let task = setup.create(new_task(inputs), story).await.ok().expect("kept");
        let open = || task.view().requests.map(|text| object(std::str::from_utf8(&text).expect("UTF-8")));
        let count = || open().map_or(0, |open| open.iter().count());
        until("both are asked", || count() == 2).await;
        assert_eq!(status(&task.view()), Status::InputRequired);
        assert_eq!(task.view().status(Dialect::Core), Status::Working, "who cannot answer sees it at work");
        task.update(object(r#"{"other":{},"elicitation-1":{"action":"accept","content":{}}}"#)).await;
        assert_eq!(count(), 1, "an acknowledged answer is asked for no longer");
        task.update(object(r#"{"elicitation-1":{"action":"cancel"},"roots-2":7}"#)).await;
        assert_eq!(count(), 1, "neither answered keys nor other shapes count");
        task.update(object(r#"{"roots-2":{"roots":[]}}"#)).await;
        let over = task.until_over().await.expect("known");
        assert!(status(&over) == Status::Completed && over.requests.is_none());
    });
}

#[test]
fn s_task_10_a_look_at_a_task_that_is_over_costs_one_look_into_the_store() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let mut last = None;
        for _ in 0..200 {
            let task = setup.begin(|_| Box::pin(async { done() })).await;
            task.until_over().await.expect("known");
            last = Some(task.id());
        }
        until("none runs", || setup.registry.unfinished() == 0).await;
        let before = setup.store.gets.load(Ordering::Relaxed);
        let found = setup.find(&last.expect("some")).await.expect("known");
        assert_eq!(status(&found.view()), Status::Completed);
        assert_eq!(setup.store.gets.load(Ordering::Relaxed), before + 1);
        found.read().await.expect("its ending");
        assert_eq!(setup.store.gets.load(Ordering::Relaxed), before + 2, "one more for its ending");
    });
}

#[test]
fn f56_a_story_that_ends_with_its_thread_is_settled_by_who_looks() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let (tell, told) = oneshot::channel::<()>();
        let story = |sink: Arc<dyn TaskSink>| -> Story {
            Box::pin(async move {
                sink.dispatching().await;
                let _ = told.await;
                panic!("a fault of the gateway's");
            })
        };
        let task = setup.begin(story).await;
        until("it was sent", || task.view().record.intent == Intent::Dispatched).await;
        let (over, _) = tokio::join!(task.until_over(), async { tell.send(()) });
        let over = over.expect("known");
        assert_eq!(status(&over), Status::Failed);
        assert!(text_of(&over).contains(r#""outcome":"unknown""#), "{}", text_of(&over));
        assert_eq!(setup.registry.unfinished(), 0, "its place is free");
        assert!(matches!(task.cancel().await, Err(NotCancelled::AlreadyOver(_))));
    });
}

#[test]
fn s_task_05_a_call_under_way_becomes_a_task_and_one_that_nobody_waits_for_is_none() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let (tell, told) = oneshot::channel::<()>();
        let story: Story = Box::pin(async move {
            let _ = told.await;
            done()
        });
        let inputs = Inputs::new(REVISION, capabilities());
        let running = Running::new(story, event_queue(4).1, Arc::clone(&inputs));
        let beginning = Beginning::Called { running, followed: Box::new(|_, _| Box::pin(pending())) };
        let task = setup.registry.create(new_task(TaskInputs::Keyed(inputs)), beginning).await;
        let task = task.ok().expect("kept");
        assert_eq!(task.view().record.intent, Intent::Dispatched);
        tell.send(()).expect("it runs on");
        assert_eq!(status(&task.until_over().await.expect("known")), Status::Completed);
        // The client leaves before it has its handle.
        let is_dropped = Rc::default();
        let left = setup.create(new_task(TaskInputs::None), endless(&is_dropped)).now_or_never();
        assert!(left.is_none());
        until("its call is not made", || is_dropped.get() && setup.registry.unfinished() == 0).await;
        let page = setup.registry.list(Principal::Local, None, None, 10).await.expect("a page");
        assert_eq!(page.tasks.len(), 1, "there is no such task");
    });
}

/// What one gateway leaves to the next.
struct Left {
    finished: String,
    linked: String,
    sent: String,
    unsent: String,
}

/// Runs until it is killed: whatever its threads held is gone.
fn first_run(store: impl FnOnce(Clock) -> Arc<dyn Records>) -> Left {
    System::new().block_on(async {
        let clock = Clock::system();
        let setup = Setup::over(store(clock), clock, TaskSettings::default());
        assert_eq!(setup.registry.resume(|_| None).await, Ok(0));
        let finished = setup.begin(|_| Box::pin(async { done() })).await;
        finished.until_over().await.expect("known");
        let linked = setup
            .begin(|sink| {
                Box::pin(async move {
                    sink.dispatching().await;
                    sink.linked(link()).await;
                    pending().await
                })
            })
            .await;
        let sent = setup
            .begin(|sink| {
                Box::pin(async move {
                    sink.dispatching().await;
                    pending().await
                })
            })
            .await;
        let unsent = setup.begin(|_| Box::pin(pending())).await;
        until("it is linked", || linked.view().record.link.is_some()).await;
        until("it is sent", || sent.view().record.intent == Intent::Dispatched).await;
        // What was told to stories was kept before.
        for _ in 0..2 {
            setup.begin(|_| Box::pin(async { done() })).await.until_over().await.expect("known");
        }
        setup.registry.suspend().await;
        setup.store.close().await;
        Left { finished: finished.id(), linked: linked.id(), sent: sent.id(), unsent: unsent.id() }
    })
}

fn second_run(left: &Left, store: impl FnOnce(Clock) -> Arc<dyn Records>) {
    System::new().block_on(async {
        let clock = Clock::system();
        let setup = Setup::over(store(clock), clock, TaskSettings::default());
        let (finish, finished) = oneshot::channel::<()>();
        let finished = Rc::new(Cell::new(Some(finished)));
        // Who looks before everything is settled waits for that.
        let early = setup.find(&left.sent);
        let resumed = setup.registry.resume(|resumption| {
            assert_eq!(resumption.link, link());
            assert!(resumption.capabilities.roots() && resumption.inputs.port().is_some());
            let finished = finished.take().expect("one task is followed");
            Some(Box::pin(async move {
                let facts = TaskFacts { message: Some("still on it".to_owned()), ..resumption.link.facts };
                resumption.sink.status(&facts);
                let _ = finished.await;
                done()
            }))
        });
        let (early, resumed) = tokio::join!(early, resumed);
        assert_eq!(resumed, Ok(3));
        early.expect("known");
        let read = async |id: &str| setup.find(id).await.expect("known").read().await.expect("readable");
        assert_eq!(text_of(&read(&left.finished).await).as_bytes(), DONE);
        for (id, outcome) in [(&left.sent, "unknown"), (&left.unsent, "not_sent")] {
            let over = setup.find(id).await.expect("known").until_over().await.expect("known");
            assert_eq!(status(&over), Status::Failed);
            let text = text_of(&over);
            assert!(
                text.contains("gateway_restarted") && text.contains(&format!(r#""outcome":"{outcome}""#)),
                "{text}"
            );
        }
        let linked = setup.find(&left.linked).await.expect("known");
        assert_eq!(status(&linked.view()), Status::Working);
        until("its upstream is heard of", || linked.view().record.message.as_deref() == Some("still on it"))
            .await;
        finish.send(()).expect("it is followed");
        assert_eq!(status(&linked.until_over().await.expect("known")), Status::Completed);
        setup.store.close().await;
    });
}

#[test]
fn f45_s_task_21_after_a_restart_tasks_are_followed_or_fail_with_what_is_known() {
    let memory: Arc<dyn Records> = Arc::new(Memory::new(Clock::system()));
    let left = first_run(|_| Arc::clone(&memory));
    second_run(&left, |_| memory);
}

#[test]
fn f45_s_task_21_the_same_over_a_file_that_is_opened_again() {
    let place = Place::new();
    let open = |clock| -> Arc<dyn Records> {
        let file = place.path("store.redb");
        Arc::new(Embedded::open(file, || Ok(()), false, clock).expect("opens"))
    };
    let left = first_run(open);
    second_run(&left, open);
    second_run_finds_everything_settled(&left, open);
}

#[test]
fn f49_a_store_that_is_busy_at_the_start_is_asked_again() {
    let memory: Arc<dyn Records> = Arc::new(Memory::new(Clock::system()));
    let left = first_run(|_| Arc::clone(&memory));
    System::new().block_on(async {
        let clock = Clock::system();
        let setup = Setup::over(Arc::clone(&memory), clock, TaskSettings::default());
        setup.store.busy.store(1, Ordering::Relaxed);
        assert_eq!(setup.registry.resume(|_| None).await, Ok(3));
        for id in [&left.linked, &left.sent, &left.unsent] {
            let over = setup.find(id).await.expect("known").until_over().await.expect("known");
            assert_eq!(status(&over), Status::Failed, "none is left behind, and none is gone on with twice");
        }
    });
}

fn second_run_finds_everything_settled(left: &Left, store: impl FnOnce(Clock) -> Arc<dyn Records>) {
    System::new().block_on(async {
        let clock = Clock::system();
        let setup = Setup::over(store(clock), clock, TaskSettings::default());
        assert_eq!(setup.registry.resume(|_| panic!("nothing is left")).await, Ok(0));
        for id in [&left.finished, &left.linked, &left.sent, &left.unsent] {
            let view = setup.find(id).await.expect("known").read().await.expect("readable");
            assert!(view.is_over() && view.ending.is_some());
        }
        setup.store.close().await;
    });
}

#[test]
fn s_tx_16_a_stop_leaves_a_followed_task_to_its_upstream_and_gives_up_what_is_its_own() {
    System::new().block_on(async {
        let setup = Setup::in_memory(TaskSettings::default()).await;
        let (linked_is_dropped, own_is_dropped) = (Rc::default(), Rc::default());
        let story = endless(&linked_is_dropped);
        let beginning = Beginning::Linked { link: link(), events: None, story: Box::new(story) };
        let linked = setup.registry.create(new_task(TaskInputs::None), beginning).await.ok().expect("kept");
        assert_eq!(linked.view().record.poll_ms, Some(50));
        setup.begin(endless(&own_is_dropped)).await;
        let (waited, ()) = tokio::join!(linked.until_over(), setup.registry.suspend());
        assert_eq!(waited.err(), Some(TaskFault::Unavailable(StoreError::Closed)), "it is not over");
        let kept = setup.registry.list(Principal::Local, None, None, 10).await.expect("a page").tasks;
        assert!(kept.iter().all(|task| !task.is_over()));
        until("both have stopped", || own_is_dropped.get() && setup.registry.unfinished() == 0).await;
        assert!(!linked_is_dropped.get(), "dropping it would cancel the upstream's task");
    });
}
