//! A request and its call, for as long as nothing is asked.
//!
//! Always: what the call tells goes to the request; a call that asks nothing is answered here. Not here: what becomes of one
//! that asks (`registry`).

use std::time::Duration;

use super::running::{Ended, Happening, Running};
use crate::upstream::call::EventSink;

/// What became of a call.
pub enum Attended {
    /// It is over.
    Ended(Ended),
    /// It asks something.
    Asks(Running),
}

/// Runs a call until it is over, or asks something and has had `gather` to ask more.
pub async fn attend(mut running: Running, sink: Option<&EventSink>, gather: Duration) -> Attended {
    let tell = |event| {
        // Nobody reads it when the client wants no stream.
        let _ = sink.map(|sink| sink.push(event));
    };
    loop {
        match running.next().await {
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
    running.close_inputs();
    Attended::Ended(ended)
}
