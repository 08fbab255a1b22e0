//! What several listen streams of one upstream tell at the same time, told once.
//!
//! Always: as many events of a kind pass as came on the stream that brought most of them since it was heard beside the
//! others; while there is one stream, everything passes. So an event that is only on its way on the older stream is not
//! taken for one that the newer brought, as long as the older is read on for a while.

use std::collections::HashMap;

use super::state::Told;

/// Counts what the streams bring while there are several.
#[derive(Debug, Default)]
pub(super) struct Overlap {
    /// Events that passed.
    passed: HashMap<Told, u32>,
    /// The same by stream, as if each had brought what had passed when it joined.
    brought: HashMap<u64, HashMap<Told, u32>>,
}

impl Overlap {
    /// A stream is heard from now on.
    pub(super) fn join(&mut self, stream: u64) {
        self.brought.insert(stream, self.passed.clone());
    }

    /// It is heard no longer.
    pub(super) fn leave(&mut self, stream: u64) {
        self.brought.remove(&stream);
        if self.brought.len() <= 1 {
            self.passed.clear();
            self.brought.values_mut().for_each(HashMap::clear);
        }
    }

    /// Whether an event of this stream is news; never one of a stream that is not heard.
    pub(super) fn admits(&mut self, stream: u64, event: &Told) -> bool {
        let is_alone = self.brought.len() == 1;
        let Some(brought) = self.brought.get_mut(&stream) else { return false };
        if is_alone {
            return true;
        }
        let brought = brought.entry(event.clone()).or_default();
        *brought += 1;
        let passed = self.passed.entry(event.clone()).or_default();
        let is_news = *brought > *passed;
        *passed = (*passed).max(*brought);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::messages::ListKind;

    fn tools() -> Told {
        Told::Changed(ListKind::Tools)
    }

    fn both() -> Overlap {
        let mut overlap = Overlap::default();
        overlap.join(1);
        assert!(overlap.admits(1, &tools()) && overlap.admits(1, &tools()), "one stream tells everything");
        overlap.join(2);
        overlap
    }

    #[test]
    fn s_sub_06_what_both_streams_bring_passes_once_in_whatever_order() {
        for order in [[1, 2, 1, 2], [2, 1, 2, 1], [1, 1, 2, 2], [2, 2, 1, 1], [1, 2, 2, 1]] {
            let mut overlap = both();
            let passed = order.iter().filter(|stream| overlap.admits(**stream, &tools())).count();
            assert_eq!(passed, 2, "{order:?}");
        }
        let mut overlap = both();
        assert!(overlap.admits(1, &tools()));
        assert!(overlap.admits(2, &Told::Updated("x:1".into())), "another event");
    }

    #[test]
    fn s_sub_06_an_event_that_only_the_older_stream_brings_takes_nobody_s_place() {
        let mut overlap = both();
        // On its way when the newer stream began; what follows comes on both.
        assert!(overlap.admits(1, &tools()));
        let later = [2, 1].map(|stream| overlap.admits(stream, &tools()));
        assert_eq!(later.iter().filter(|passed| **passed).count(), 1);
    }

    #[test]
    fn s_sub_06_the_stream_that_is_left_tells_everything_again() {
        let mut overlap = both();
        for _ in 0..3 {
            overlap.admits(1, &tools());
        }
        overlap.leave(1);
        assert!(overlap.admits(2, &tools()), "it is alone");
        assert!(!overlap.admits(1, &tools()), "nobody hears a stream that was left");
        overlap.leave(2);
        assert!(!overlap.admits(2, &tools()) && overlap.passed.is_empty());
    }
}
