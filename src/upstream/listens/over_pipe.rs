//! A listen stream on a pipe: a request whose answer does not come while it is of use. What it brings arrives among
//! everything else (`arrivals`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::over_http::ending_of;
use super::state::{Ending, Filter};
use super::{ACKNOWLEDGED_WITHIN, StandingListen, written};
use crate::upstream::encode::own_meta;
use crate::upstream::link::Link;

/// Asks, and waits for the end. Dropping the future tells the upstream that nobody listens any longer.
pub(super) async fn listen(
    listen: &StandingListen,
    stream: u64,
    filter: &Filter,
    link: &Arc<Link>,
) -> Ending {
    let began = Instant::now();
    let Ok(facts) = link.facts() else { return Ending::Over(Duration::ZERO) };
    let params = format!(r#"{{"_meta":{},"notifications":{}}}"#, own_meta(facts.revision), written(filter));
    let Ok(asked) = link.begin_listening(&params) else { return Ending::Over(Duration::ZERO) };
    // Nothing is read between the request and this: the reader runs on this thread.
    listen.is_on_pipe(asked.id(), stream);
    let mut answer = std::pin::pin!(asked.answer());
    let answered = tokio::select! {
        answered = &mut answer => answered,
        () = tokio::time::sleep(ACKNOWLEDGED_WITHIN) => match listen.stands(stream) {
            true => answer.await,
            false => return Ending::Over(Duration::ZERO),
        },
    };
    match answered {
        Ok(answer) => ending_of(&answer, began),
        Err(_) if listen.stands(stream) => Ending::Over(began.elapsed()),
        Err(_) => Ending::Over(Duration::ZERO),
    }
}
