//! Questions of a task to a client that is asked by requests: they are carried to wherever it can be reached.
//!
//! Always: on the newest `tasks/result` of the task that somebody reads, else on the standing stream of the session that made it
//! while somebody reads that, else on a `tasks/result` whose reader may come back, else a question waits (S-TASK-17); one
//! whose reader left moves on to who reads; one that is lost on its way is put again on the next; a question gets one
//! answer; bounded. Not here: how a session asks (`session`), how long an asker waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::names::UpstreamName;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object};
use crate::protocol::splice::Edit;
use crate::protocol::task::RELATED_TASK;
use crate::protocol::translate::question::{Asked, Asking};
use crate::upstream::call::{ClientPort, EventSink};
use crate::upstream::client_port::Reach;
use crate::upstream::events::Reading;
use crate::upstream::messages::{AskClient, Question, QuestionRefused, TellClient};
use crate::upstream::put_question::PutQuestion;

/// Questions of one task that may be open at once.
const AT_ONCE: usize = 16;
/// Between two looks whether the standing stream is open, while questions wait.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Between two ways that a question is put on.
const PUT_AGAIN: Duration = Duration::from_millis(100);
/// How long a question stays with a reader who left, while somebody else could be asked: who reads by coming back now and
/// then (S-RESUM) is back by then.
const MAY_COME_BACK: Duration = Duration::from_secs(2);
/// Longer than any task lives: how long an answer is waited for is its asker's to say.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A `tasks/result` that waits for the task.
#[derive(Debug, Clone)]
pub struct Way {
    /// The session it came in.
    pub port: ClientPort,
    /// Its stream.
    pub stream: EventSink,
}

impl Way {
    /// Whether anybody reads its stream.
    fn reading(&self) -> Reading {
        self.stream.reading()
    }
}

/// The session that made the task.
#[derive(Clone)]
pub struct Standing {
    /// The session.
    pub port: ClientPort,
    /// Whether somebody reads its standing stream.
    pub is_open: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

/// See the module head.
#[derive(Debug)]
pub struct CarriedInputs {
    revision: Revision,
    capabilities: ClientCapabilities,
    standing: Option<Standing>,
    /// By which id the client knows the task.
    id: OnceLock<Arc<str>>,
    table: Mutex<Table>,
    /// One watcher at a time: whoever runs the task.
    changed: Notify,
    /// For questions that wait.
    ways_changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    closed: bool,
    last: u64,
    /// Cancelled when nobody waits any longer.
    open: BTreeMap<u64, DropGuard>,
    /// Counted from 1.
    ways: Vec<(u64, CancellationToken, Way)>,
    ways_made: u64,
}

/// Where a question goes out.
struct Found {
    /// Later ones have higher numbers; the standing stream has 0.
    number: u64,
    port: ClientPort,
    stream: Option<EventSink>,
}

impl CarriedInputs {
    /// For a client of that revision which declared this; `standing` is the session that made the task, where there is one
    /// (after a restart there is none).
    pub fn new(
        revision: Revision,
        capabilities: ClientCapabilities,
        standing: Option<Standing>,
    ) -> Arc<Self> {
        Arc::new(CarriedInputs {
            revision,
            capabilities,
            standing,
            id: OnceLock::new(),
            table: Mutex::default(),
            changed: Notify::new(),
            ways_changed: Notify::new(),
        })
    }

    /// How upstreams reach the client.
    pub fn port(self: &Arc<Self>) -> impl Reach + use<> {
        CarriedPort(Arc::clone(self))
    }

    /// Whether anything is asked.
    pub(super) fn are_open(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// Resolves when a question was added, answered or withdrawn since the last time.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(super) fn name(&self, id: &str) {
        self.id.get_or_init(|| id.into());
    }

    /// Opens a way, which closes when what this gives is dropped.
    pub(super) fn attach(&self, way: Way) -> DropGuard {
        let closed = CancellationToken::new();
        let mut table = self.lock();
        table.ways_made += 1;
        let number = table.ways_made;
        // A client that waits again and again leaves as many behind.
        table.ways.retain(|(_, closed, _)| !closed.is_cancelled());
        table.ways.push((number, closed.clone(), way));
        drop(table);
        self.ways_changed.notify_waiters();
        closed.drop_guard()
    }

    /// Nobody is asked anything any longer.
    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        let dropped = (std::mem::take(&mut table.open), std::mem::take(&mut table.ways));
        drop(table);
        drop(dropped);
    }

    fn permitted(&self, asked: &AskClient) -> Result<(), QuestionRefused> {
        let (revision, capabilities) = (self.revision, &self.capabilities);
        let asking = Asking { asker: &asked.asker, revision, capabilities, token: 0, task: None };
        asking.permitted(&asked.request.method).map_err(|instead| match instead {
            Asked::Refused(code, text) => QuestionRefused::Refused(code, text),
            Asked::Answered(result) => QuestionRefused::Answered(result),
            Asked::Put(_) => QuestionRefused::Gone,
        })
    }

    /// Takes a question on; it is carried by a task of this thread.
    fn pose(self: &Arc<Self>, asked: AskClient) -> Result<Question, QuestionRefused> {
        self.permitted(&asked)?;
        let mut table = self.lock();
        if table.closed {
            return Err(QuestionRefused::Gone);
        }
        if table.open.len() >= AT_ONCE {
            return Err(QuestionRefused::TooMany);
        }
        table.last += 1;
        let number = table.last;
        let given_up = CancellationToken::new();
        table.open.insert(number, given_up.clone().drop_guard());
        drop(table);
        self.changed.notify_one();
        let (answer, answered) = oneshot::channel();
        let (progress, progressed) = watch::channel(None);
        let inputs = Arc::clone(self);
        tokio::task::spawn_local(async move {
            let carried = given_up.run_until_cancelled(inputs.carry(asked, progress)).await;
            if let Some(carried) = carried {
                let _ = answer.send(carried);
            }
            inputs.settle(number);
        });
        Ok(Question { number, answer: answered, progress: progressed, lost: CancellationToken::new() })
    }

    fn settle(&self, number: u64) {
        let settled = self.lock().open.remove(&number);
        if let Some(guard) = settled {
            guard.disarm();
            self.changed.notify_one();
        }
    }

    /// Puts a question on one way after the other until it is answered.
    async fn carry(&self, asked: AskClient, progress: watch::Sender<Option<Object>>) -> Answer {
        loop {
            let way = self.way().await;
            let put = PutQuestion::put(&way.port, self.on_way(&asked, &way)).await;
            match put {
                Ok(question) => {
                    let forward = |told: &Object| {
                        progress.send_replace(Some(told.clone()));
                        true
                    };
                    let answer = tokio::select! {
                        answer = question.answer(FOR_EVER, FOR_EVER, forward) => answer,
                        // Who waits there may have left without a word.
                        () = self.until_better_than(way.number) => None,
                    };
                    if let Some(answer) = answer {
                        return unrelated(answer);
                    }
                }
                Err(QuestionRefused::Refused(code, text)) => {
                    return Answer::Error(ErrorObject::own(code, text));
                }
                Err(QuestionRefused::Answered(result)) => {
                    let result = Object::parse(bytes::Bytes::from_static(result), Limits::NONE);
                    return Answer::Result(result.unwrap_or_else(|_| Object::empty()));
                }
                Err(QuestionRefused::Gone) => self.lock().ways.retain(|(.., own)| !own.port.is(&way.port)),
                Err(QuestionRefused::TooMany | QuestionRefused::TooOften) => {}
            }
            tokio::time::sleep(PUT_AGAIN).await;
        }
    }

    fn on_way(&self, asked: &AskClient, way: &Found) -> AskClient {
        AskClient {
            upstream: asked.upstream.clone(),
            asker: Arc::clone(&asked.asker),
            per_minute: asked.per_minute,
            request: asked.request.clone(),
            stream: way.stream.clone(),
            otherwise: None,
            task: self.id.get().cloned(),
        }
    }

    /// The way that is open, as soon as one is.
    async fn way(&self) -> Found {
        loop {
            let changed = self.ways_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = self.open_way() {
                return found;
            }
            match self.standing {
                Some(_) => drop(tokio::time::timeout(LOOK_AGAIN, changed).await),
                None => changed.await,
            }
        }
    }

    /// Resolves when somebody reads another way and that is the better one: it came later, or nobody reads this one any
    /// longer. The standing stream, which has the number 0, is given up as soon as nobody reads it.
    async fn until_better_than(&self, number: u64) {
        let mut left_at = None;
        loop {
            let changed = self.ways_changed.notified();
            let best = self.read_way().map(|way| way.number);
            match best {
                _ if number == 0 => {
                    if self.read_standing().is_none() {
                        return;
                    }
                }
                Some(best) if best > number => return,
                Some(best) if best == number => left_at = None,
                _ => {
                    let left_at = *left_at.get_or_insert_with(Instant::now);
                    let is_left =
                        self.reading(number) == Reading::Never || left_at.elapsed() >= MAY_COME_BACK;
                    if best.is_some() && is_left {
                        return;
                    }
                }
            }
            drop(tokio::time::timeout(LOOK_AGAIN, changed).await);
        }
    }

    /// The best way there is.
    fn open_way(&self) -> Option<Found> {
        self.read_way().or_else(|| self.newest(Reading::Later))
    }

    /// The best way that somebody reads.
    fn read_way(&self) -> Option<Found> {
        self.newest(Reading::Now).or_else(|| self.read_standing())
    }

    fn read_standing(&self) -> Option<Found> {
        let standing = self.standing.as_ref().filter(|standing| (standing.is_open)())?;
        Some(Found { number: 0, port: standing.port.clone(), stream: None })
    }

    /// The newest `tasks/result` that is read so.
    fn newest(&self, reading: Reading) -> Option<Found> {
        let mut table = self.lock();
        table.ways.retain(|(_, closed, _)| !closed.is_cancelled());
        let (number, _, way) = table.ways.iter().rev().find(|(.., way)| way.reading() == reading)?;
        Some(Found { number: *number, port: way.port.clone(), stream: Some(way.stream.clone()) })
    }

    fn reading(&self, number: u64) -> Reading {
        let table = self.lock();
        let way = table.ways.iter().find(|(own, closed, _)| *own == number && !closed.is_cancelled());
        way.map_or(Reading::Never, |(.., way)| way.reading())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave a half-made entry.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer without the task's id of this hop.
fn unrelated(answer: Answer) -> Answer {
    let Answer::Result(result) = &answer else { return answer };
    if result.meta(RELATED_TASK).is_none() {
        return answer;
    }
    let mut edit = Edit::of(result);
    edit.remove_meta(RELATED_TASK);
    let mut text = Vec::with_capacity(result.as_bytes().len());
    edit.write(&mut text);
    match Object::parse(text.into(), Limits::NONE) {
        Ok(plain) => Answer::Result(plain),
        Err(_) => answer,
    }
}

struct CarriedPort(Arc<CarriedInputs>);

impl Reach for CarriedPort {
    fn ask(&self, asked: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>> {
        std::future::ready(self.0.pose(asked)).boxed_local()
    }

    fn withdraw(&self, number: u64) {
        let withdrawn = self.0.lock().open.remove(&number);
        if withdrawn.is_some() {
            self.0.changed.notify_one();
        }
    }

    /// What belongs to no call is the session's.
    fn tell(&self, news: TellClient) -> bool {
        self.0.standing.as_ref().is_none_or(|standing| standing.port.tell(news))
    }

    fn admits_log(&self, upstream: &UpstreamName, params: &Object) -> bool {
        self.0.standing.as_ref().is_some_and(|standing| standing.port.admits_log(upstream, params))
    }
}

#[cfg(test)]
#[path = "carried_tests.rs"]
mod tests;
