//! News on the standing stream that no client has taken yet: what would say the same is not said again.
//!
//! Always: a piece of news is said at least once after it happened, and waits at most once (S-RES-08, S-LIST-01): a
//! client that was away finds what it has to look at, not how often it changed.

use std::collections::HashMap;

use bytes::Bytes;

use super::stream::{Full, Weight};
use super::streams::Streams;

/// Fewest of them among which it is worth looking for those that were taken.
const LOOK_AT: usize = 64;

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum News {
    /// The resource of this public URI was updated.
    Updated(String),
    /// The lists of this kind (`changes`) changed.
    Changed(u8),
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// By their numbers on the standing stream.
    waiting: HashMap<News, u64>,
    /// Length at which those that were taken are looked for.
    look_at: usize,
}

impl Untold {
    /// Puts news on the standing stream, unless the same waits there.
    pub(super) fn tell(&mut self, news: News, text: Bytes, streams: &Streams) -> Result<(), Full> {
        let standing = streams.standing();
        if self.waiting.get(&news).is_some_and(|number| standing.is_waiting(*number)) {
            return Ok(());
        }
        let number = streams.put(standing, text, Weight::Lasting)?;
        if self.waiting.len() >= self.look_at {
            self.waiting.retain(|_, number| standing.is_waiting(*number));
            self.look_at = LOOK_AT.max(self.waiting.len() * 2);
        }
        self.waiting.insert(news, number);
        Ok(())
    }
}
