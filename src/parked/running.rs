//! One call under way, whoever runs it: its story, what it tells on the way, what it asks.
//!
//! Always: what was told before the end comes before it; dropping this cancels the call, upstream too. Not here: what is
//! made of it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::inputs::Inputs;
use crate::dispatch::{Failure, Outcome};
use crate::upstream::events::{CallEvent, Events, event_queue};

/// How a story ended.
pub type Ended = Result<Outcome, Failure>;

/// A story that owns what it works with.
pub type Story = Pin<Box<dyn Future<Output = Ended>>>;

/// See the module head.
pub struct Running {
    story: Option<Story>,
    /// Its end, once it is known.
    ended: Option<Ended>,
    events: Events,
    inputs: Arc<Inputs>,
}

/// The next thing that happened to a call.
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once, and never kept")]
pub(super) enum Happening {
    /// It told something.
    Told(CallEvent),
    /// What it asks is not what it was.
    Asked,
    /// It is over; nothing follows.
    Ended(Ended),
}

impl Running {
    /// A story, where what it tells comes out, and what it asks.
    pub fn new(story: Story, events: Events, inputs: Arc<Inputs>) -> Self {
        Running { story: Some(story), ended: None, events, inputs }
    }

    /// Its story, where what it tells comes out, and what it asks: to be run by somebody else.
    pub fn into_parts(mut self) -> (Story, Events, Arc<Inputs>) {
        let (ended, running) = (self.ended.take(), self.story.take());
        let story: Story = match running {
            Some(story) => story,
            None => Box::pin(async move {
                match ended {
                    Some(ended) => ended,
                    // Its end was told already: nothing follows.
                    None => std::future::pending().await,
                }
            }),
        };
        let events = std::mem::replace(&mut self.events, event_queue(1).1);
        (story, events, Arc::clone(&self.inputs))
    }

    pub(super) fn inputs(&self) -> &Arc<Inputs> {
        &self.inputs
    }

    /// Its end is told: what its servers still ask, nobody who was told of it can answer.
    pub(super) fn close_inputs(&self) {
        self.inputs.close();
    }

    /// Whether it has come to its end and told so.
    pub(super) fn is_over(&self) -> bool {
        self.story.is_none() && self.ended.is_none()
    }

    /// What happens next. Dropping the future loses nothing. After the end, never.
    pub(super) async fn next(&mut self) -> Happening {
        let Running { story, ended, events, inputs } = self;
        let mut changed = std::pin::pin!(inputs.changed());
        poll_fn(|cx| {
            if let Some(running) = story
                && let Poll::Ready(end) = running.as_mut().poll(cx)
            {
                *story = None;
                *ended = Some(end);
            }
            // What was told before the end is there by now.
            if let Poll::Ready(event) = events.poll_recv(cx) {
                return Poll::Ready(Happening::Told(event));
            }
            if let Some(end) = ended.take() {
                return Poll::Ready(Happening::Ended(end));
            }
            changed.as_mut().poll(cx).map(|()| Happening::Asked)
        })
        .await
    }
}

impl Drop for Running {
    /// What a call asks that was given up, nobody is asked any longer. What one that ended still asks may be answered by
    /// a client that was told of it (`state`).
    fn drop(&mut self) {
        // In this order: whose call is over, is known before its questions end.
        if self.story.take().is_some() {
            self.inputs.close();
        }
    }
}
