//! What requests tell before their answer, as one: of a request alone, or of all requests of a batch.
//!
//! Always: each request's events are written for its own token and level, at its own rate; what was held back comes when
//! it is due. Not here: writing (`events`), where it goes (`pump`).

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tokio::time::Sleep;

use super::events::{EventWriter, Told};
use crate::session::stream::Stream;
use crate::upstream::events::{CallEvent, Events};

/// See the module head.
#[derive(Debug)]
pub(super) struct Telling(SmallVec<[Source; 1]>);

#[derive(Debug)]
struct Source {
    events: Events,
    writer: EventWriter,
    /// Set while something is held back.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Telling {
    /// Of one request.
    pub(super) fn of(events: Events, writer: EventWriter) -> Self {
        Telling(SmallVec::from_iter([Source { events, writer, timer: None }]))
    }

    /// Of several, as one.
    pub(super) fn together(all: impl IntoIterator<Item = Telling>) -> Self {
        Telling(all.into_iter().flat_map(|telling| telling.0).collect())
    }

    /// What is told goes to the readers of this stream.
    pub(super) fn is_read_on(&self, stream: &Arc<Stream>) {
        for source in &self.0 {
            let stream = Arc::downgrade(stream);
            source.events.are_read_by(stream);
        }
    }

    /// The next message for the client, as soon as there is one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Told {
        poll_fn(|cx| {
            for source in &mut self.0 {
                if let Poll::Ready(told) = source.poll_next(cx) {
                    return Poll::Ready(told);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// A message that is there already.
    pub(super) fn try_next(&mut self) -> Option<Told> {
        self.0.iter_mut().find_map(|source| {
            std::iter::from_fn(|| source.events.try_recv()).find_map(|event| source.writer.write(event))
        })
    }

    /// Takes no more, and gives what is left: everything, or, of requests that were withdrawn, only what their session
    /// still has to say, that its questions are withdrawn as well (S-CANC-06).
    pub(super) fn close(self, withdrawn: bool) -> Vec<Told> {
        let mut left = Vec::new();
        for Source { mut events, mut writer, .. } in self.0 {
            for event in events.close() {
                if !withdrawn || matches!(event, CallEvent::Message(_)) {
                    left.extend(writer.write(event));
                }
            }
            if !withdrawn {
                left.extend(writer.release());
            }
        }
        left
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        while let Poll::Ready(event) = self.events.poll_recv(cx) {
            if let Some(told) = self.writer.write(event) {
                return Poll::Ready(told);
            }
        }
        let Some(due) = self.writer.due() else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        std::task::ready!(timer.as_mut().poll(cx));
        self.timer = None;
        match self.writer.release() {
            Some(told) => Poll::Ready(told),
            None => Poll::Pending,
        }
    }
}
