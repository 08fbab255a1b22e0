//! What happens to a call before its answer, on its way to whoever writes it for the client.
//!
//! Always: the queue is bounded, and what upstreams send never waits for a client: when it is full, progress takes the
//! place of older progress, so that the last word on it arrives (S-PROG-06), logs are dropped, and messages of the
//! session push either out. Not here: what clients get to see of it (`downstream::events`).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::names::UpstreamName;
use crate::protocol::json::Object;

/// What happens to a call before its answer. Small, because every call has a queue of them and few calls have any.
#[derive(Debug)]
pub enum CallEvent {
    /// Parameters of a `notifications/progress`, still with the upstream's token.
    Progress(Box<Object>),
    /// Parameters of a `notifications/message`, and the upstream that its logger is to name, if it is to.
    Log(Option<UpstreamName>, Box<Object>),
    /// A whole message of the session, a question or its withdrawal, for the call's own stream.
    Message(bytes::Bytes),
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
    closed: bool,
    reader: Option<Waker>,
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

/// Nobody will read it on this queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTaken;

impl EventSink {
    /// Whether it is the same queue.
    pub fn is(&self, other: &EventSink) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Queues an event. Progress and logs that find no place are no failure.
    pub fn push(&self, event: CallEvent) -> Result<(), NotTaken> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(NotTaken);
        }
        if state.events.len() >= self.0.limit {
            match event {
                CallEvent::Progress(_) => {
                    let newest = state.events.iter_mut().rev();
                    let mut newest = newest.filter(|queued| matches!(queued, CallEvent::Progress(_)));
                    if let Some(older) = newest.next() {
                        *older = event;
                    }
                    return Ok(());
                }
                CallEvent::Log(..) => return Ok(()),
                CallEvent::Message(_) => {
                    let passing = |queued: &CallEvent| !matches!(queued, CallEvent::Message(_));
                    let at = state.events.iter().position(passing).ok_or(NotTaken)?;
                    state.events.remove(at);
                }
            }
        }
        state.events.push_back(event);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }
}

impl Events {
    /// The next event, as soon as there is one. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> CallEvent {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            match state.events.pop_front() {
                Some(event) => Poll::Ready(event),
                None => {
                    state.reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// An event that is there already.
    pub fn try_recv(&mut self) -> Option<CallEvent> {
        self.0.lock().events.pop_front()
    }
}

impl Events {
    /// Takes no more, and gives what is there: nothing comes between the last event and the end.
    pub fn close(&mut self) -> VecDeque<CallEvent> {
        let mut state = self.0.lock();
        state.closed = true;
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
                CallEvent::Message(text) => String::from_utf8_lossy(&text).into_owned(),
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
        sink.push(CallEvent::Message(Bytes::from_static(b"question"))).expect("it has a place");
        assert_eq!(told(&mut events), [r#"{"level":"error"}"#, "question"]);
        drop(events);
        assert_eq!(sink.push(CallEvent::Message(Bytes::new())), Err(NotTaken));
    }
}
