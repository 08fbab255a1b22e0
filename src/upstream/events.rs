//! What happens to a call before its answer, on its way to whoever writes it for the client.
//!
//! Always: the queue is bounded, and what upstreams send never waits for a client: when it is full, progress takes the
//! place of older progress, so that the last word on it arrives (S-PROG-06), logs are dropped, and messages of the
//! session push either out. Not here: what clients get to see of it (`downstream::events`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio_util::sync::CancellationToken;

use crate::names::UpstreamName;
use crate::protocol::json::Object;

/// What happens to a call before its answer. Small, because every call has a queue of them and few calls have any.
#[derive(Debug)]
pub enum CallEvent {
    /// Parameters of a `notifications/progress`, still with the upstream's token.
    Progress(Box<Object>),
    /// Parameters of a `notifications/message`, and the upstream that its logger is to name, if it is to.
    Log(Option<UpstreamName>, Box<Object>),
    /// For the call's own stream.
    Message(SessionMessage),
}

/// A whole message of the session: a question, its withdrawal, the completion of a page.
#[derive(Debug)]
pub struct SessionMessage {
    /// On one line.
    pub text: bytes::Bytes,
    /// Cancelled when it is lost on its way.
    asker: Option<CancellationToken>,
}

impl SessionMessage {
    /// A message that nobody waits for.
    pub fn new(text: bytes::Bytes) -> Self {
        SessionMessage { text, asker: None }
    }

    /// A message that is answered: `lost` is cancelled unless it finds a place on a stream.
    pub fn awaited(text: bytes::Bytes, lost: CancellationToken) -> Self {
        SessionMessage { text, asker: Some(lost) }
    }

    /// Who waits for an answer, to be told when the message is lost behind its place.
    pub fn asker(&self) -> Option<CancellationToken> {
        self.asker.clone()
    }

    /// It found its place.
    pub fn arrived(mut self) {
        self.asker = None;
    }
}

impl Drop for SessionMessage {
    fn drop(&mut self) {
        if let Some(asker) = &self.asker {
            asker.cancel();
        }
    }
}

/// What carries events to a client once they came out of their queue.
pub trait Readership: Send + Sync {
    /// Whether the client reads it now.
    fn is_attended(&self) -> bool;
}

/// Whether anybody reads what is put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Somebody does, or waits for the first that comes.
    Now,
    /// Nobody does, but who left may come back for what was put there.
    Later,
    /// Nobody will.
    Never,
}

/// Where events of one call go.
#[derive(Debug, Clone)]
pub struct EventSink(Arc<Queue>);

/// Where they come out. Dropping it closes the queue.
#[derive(Debug)]
pub struct Events(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<CallEvent>,
    /// Of progress and logs.
    bytes: usize,
    closed: bool,
    reader: Option<Waker>,
    /// By whom what comes out is read; `None` until that is known.
    readership: Option<Weak<dyn Readership>>,
}

impl Queue {
    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue of at most `limit` events.
pub fn event_queue(limit: usize) -> (EventSink, Events) {
    let queue = Arc::new(Queue { limit: limit.max(1), state: Mutex::default() });
    (EventSink(Arc::clone(&queue)), Events(queue))
}

/// Bytes of progress and logs beyond which the queue counts as full.
const QUEUED_BYTES: usize = 1024 * 1024;

impl EventSink {
    /// Whether it is the same queue.
    pub fn is(&self, other: &EventSink) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether anybody reads what is put here.
    pub fn reading(&self) -> Reading {
        let state = self.0.lock();
        let (closed, readership) = (state.closed, state.readership.clone());
        drop(state);
        match readership.map(|readership| readership.upgrade()) {
            _ if closed => Reading::Never,
            None => Reading::Now,
            Some(Some(readership)) if readership.is_attended() => Reading::Now,
            Some(Some(_)) => Reading::Later,
            Some(None) => Reading::Never,
        }
    }

    /// Queues an event. Progress and logs that find no place are no failure; a message that will be read by nobody comes
    /// back.
    pub fn push(&self, event: CallEvent) -> Result<(), CallEvent> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(event);
        }
        if state.events.len() >= self.0.limit || state.bytes + event.passing_bytes() > QUEUED_BYTES {
            match event {
                CallEvent::Progress(_) => {
                    state.replace_progress(event);
                    return Ok(());
                }
                CallEvent::Log(..) => return Ok(()),
                CallEvent::Message(_) => {
                    if !state.drop_passing() {
                        return Err(event);
                    }
                }
            }
        }
        state.bytes += event.passing_bytes();
        state.events.push_back(event);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }
}

impl CallEvent {
    fn passing_bytes(&self) -> usize {
        match self {
            CallEvent::Progress(params) | CallEvent::Log(_, params) => params.as_bytes().len(),
            CallEvent::Message(_) => 0,
        }
    }
}

impl State {
    /// In the place of the newest progress there is.
    fn replace_progress(&mut self, event: CallEvent) {
        let mut newest = self.events.iter_mut().rev();
        if let Some(older) = newest.find(|queued| matches!(queued, CallEvent::Progress(_))) {
            self.bytes = self.bytes + event.passing_bytes() - older.passing_bytes();
            *older = event;
        }
    }

    /// Makes a place for what does not pass.
    fn drop_passing(&mut self) -> bool {
        let passing = |queued: &CallEvent| !matches!(queued, CallEvent::Message(_));
        let Some(dropped) = self.events.iter().position(passing).and_then(|at| self.events.remove(at)) else {
            return false;
        };
        self.bytes -= dropped.passing_bytes();
        true
    }

    fn pop(&mut self) -> Option<CallEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= event.passing_bytes();
        Some(event)
    }
}

impl Events {
    /// The next event, as soon as there is one.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<CallEvent> {
        let mut state = self.0.lock();
        match state.pop() {
            Some(event) => Poll::Ready(event),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// An event that is there already.
    pub fn try_recv(&mut self) -> Option<CallEvent> {
        self.0.lock().pop()
    }

    /// What comes out is on its way to these readers from now on.
    pub fn are_read_by(&self, readership: Weak<dyn Readership>) {
        self.0.lock().readership = Some(readership);
    }

    /// Takes no more, and gives what is there: nothing comes between the last event and the end.
    pub fn close(&mut self) -> VecDeque<CallEvent> {
        let mut state = self.0.lock();
        state.closed = true;
        state.bytes = 0;
        std::mem::take(&mut state.events)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        drop(self.close());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    fn object(text: String) -> Box<Object> {
        Box::new(Object::parse(text.into(), Limits::default()).expect("valid"))
    }

    fn progress(value: u32) -> CallEvent {
        CallEvent::Progress(object(format!(r#"{{"progress":{value}}}"#)))
    }

    fn told(events: &mut Events) -> Vec<String> {
        std::iter::from_fn(|| events.try_recv())
            .map(|event| match event {
                CallEvent::Progress(params) | CallEvent::Log(_, params) => {
                    String::from_utf8_lossy(params.as_bytes()).into_owned()
                }
                CallEvent::Message(message) => String::from_utf8_lossy(&message.text).into_owned(),
            })
            .collect()
    }

    #[test]
    fn s_prog_06_whatever_is_left_out_the_last_progress_arrives() {
        let (sink, mut events) = event_queue(3);
        for value in 0..10_000 {
            sink.push(progress(value)).expect("open");
        }
        assert_eq!(told(&mut events), [r#"{"progress":0}"#, r#"{"progress":1}"#, r#"{"progress":9999}"#]);
    }

    #[test]
    fn f11_a_storm_of_logs_keeps_no_question_out() {
        let (sink, mut events) = event_queue(2);
        for _ in 0..100 {
            let log = CallEvent::Log(Some(UpstreamName::new("up")), object(r#"{"level":"error"}"#.into()));
            sink.push(log).expect("open");
        }
        let message = |text| CallEvent::Message(SessionMessage::new(Bytes::from_static(text)));
        sink.push(message(b"question")).expect("it has a place");
        assert_eq!(told(&mut events), [r#"{"level":"error"}"#, "question"]);
        drop(events);
        assert!(matches!(sink.push(message(b"late")), Err(CallEvent::Message(late)) if late.text == "late"));
    }

    #[test]
    fn f11_large_progress_takes_no_more_than_its_share() {
        let (sink, mut events) = event_queue(1000);
        for value in 0..100 {
            let text = format!(r#"{{"progress":{value},"message":"{}"}}"#, "x".repeat(100_000));
            sink.push(CallEvent::Progress(object(text))).expect("open");
        }
        let told = told(&mut events);
        assert!(told.len() <= 10, "{}", told.len());
        assert!(told.last().is_some_and(|last| last.starts_with(r#"{"progress":99,"#)));
    }

    #[test]
    fn s_elic_11_whoever_waits_for_an_answer_learns_that_the_question_was_lost() {
        let (sink, events) = event_queue(1);
        let (kept, lost) = (CancellationToken::new(), CancellationToken::new());
        SessionMessage::awaited(Bytes::new(), kept.clone()).arrived();
        let question = CallEvent::Message(SessionMessage::awaited(Bytes::new(), lost.clone()));
        sink.push(question).expect("open");
        drop(events);
        assert!(lost.is_cancelled() && !kept.is_cancelled());
    }
}
