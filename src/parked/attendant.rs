//! A request and its call, for as long as nothing is asked.
//!
//! Always: what the call tells goes to the request; a call that asks nothing is answered here. Not here: what becomes of one
//! that asks (`registry`).

use std::time::Duration;

use tokio::time::Instant;

use super::running::{Ended, Happening, Running};
use crate::dispatch::Outcome;
use crate::upstream::call::EventSink;

/// What became of a call.
pub enum Attended {
    /// It is over.
    Ended(Ended),
    /// It asks something.
    Asks(Running),
    /// It asked nothing, and was not over in time.
    Slow(Running),
}

/// Runs a call until it is over, or asks something and has had `gather` to ask more, or that time has come.
pub async fn attend(
    mut running: Running,
    sink: Option<&EventSink>,
    gather: Duration,
    slow_at: Option<Instant>,
) -> Attended {
    let tell = |event| {
        // Nobody reads it when the client wants no stream.
        let _ = sink.map(|sink| sink.push(event));
    };
    loop {
        let happening = match slow_at {
            None => running.next().await,
            Some(slow_at) => match tokio::time::timeout_at(slow_at, running.next()).await {
                Ok(happening) => happening,
                Err(_) => return Attended::Slow(running),
            },
        };
        match happening {
            Happening::Told(event) => tell(event),
            Happening::Ended(ended) => return over(&running, ended),
            Happening::Asked if !running.inputs().are_open() => {}
            Happening::Asked => {
                let gathered = tokio::time::sleep(gather);
                tokio::pin!(gathered);
                loop {
                    tokio::select! {
                        happening = running.next() => match happening {
                            Happening::Told(event) => tell(event),
                            Happening::Ended(ended) => return over(&running, ended),
                            Happening::Asked => {}
                        },
                        () = &mut gathered => break,
                    }
                }
                if running.inputs().are_open() {
                    return Attended::Asks(running);
                }
            }
        }
    }
}

fn over(running: &Running, ended: Ended) -> Attended {
    // A task goes on asking.
    if !matches!(ended, Ok(Outcome::Task(_))) {
        running.close_inputs();
    }
    Attended::Ended(ended)
}
