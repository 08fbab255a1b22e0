//! A task of an upstream that nobody follows any longer (S-TASK-15, S-TX-07): its upstream is told, in the background.
//!
//! Always: until it has answered, whatever that is; an upstream that is away for a moment is told when it is back. Bounded
//! by the time for which it keeps the task, and by [`LONGEST`]. Ends with the process. Not here: whether a task is given
//! up, and can be cancelled at all (`followed`).

use std::time::Duration;

use tokio::time::Instant;

use super::followed::{Followed, Looked};
use super::pace::Pace;
use crate::policy::{Permit, Policy};
use crate::protocol::frame::Answer;
use crate::upstream::error::UpstreamError;

/// Longest wait for the answer to one request, which nobody waits for.
const CANCELLING: Duration = Duration::from_secs(10);
/// After this nobody is told any more, however long the task is kept.
const LONGEST: Duration = Duration::from_secs(600);

/// See the module head.
pub(super) async fn cancel(mut followed: Followed, permit: Permit) {
    let until = Instant::now() + LONGEST;
    let until = followed.expires().map_or(until, |expires| until.min(expires));
    let mut pace = Pace::of(followed.poll_ms());
    let mut permit = Some(permit);
    loop {
        let upstream = followed.upstream().name().clone();
        let own = |permit: &mut Option<Permit>| {
            permit.take().unwrap_or_else(|| Policy::default().own_errand(&upstream))
        };
        let told = match followed.place().has_ended() {
            true => followed.find_again(own(&mut permit)).await,
            false => Ok(()),
        };
        let is_gone = matches!(told, Err(UpstreamError::Lost { .. }));
        // Another's task is not cancelled, whatever its id.
        let told = match told {
            Ok(()) if followed.is_doubtful() => match followed.look(own(&mut permit)).await {
                Ok(Looked::Seen(..)) => Ok(()),
                Ok(Looked::Forgotten | Looked::Refused(_)) => return,
                Err(error) => Err(error),
            },
            told => told,
        };
        let answered = match told {
            Ok(()) => followed.ask_to_cancel(own(&mut permit), CANCELLING).await,
            Err(error) => Err(error),
        };
        let error = match answered {
            Ok(Answer::Result(_)) => return,
            Ok(Answer::Error(error)) => {
                tracing::debug!(%upstream, code = error.code, "a task was not cancelled");
                return;
            }
            Err(error) => error,
        };
        pace.failed();
        let next = Instant::now() + pace.pause();
        if is_gone || is_answer(&error) || next > until {
            tracing::warn!(%upstream, %error, "a task was not cancelled");
            return;
        }
        tracing::debug!(%upstream, %error, "a task is not cancelled yet");
        tokio::time::sleep_until(next).await;
    }
}

/// Whether the upstream has spoken, if only nonsense.
fn is_answer(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::NotOffered(_) | UpstreamError::TooLarge | UpstreamError::BeyondLimits { .. }
    )
}
