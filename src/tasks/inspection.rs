//! All tasks, as operators look at them: whoever's they are.
//!
//! Always: a task is named by its number, the first digits of its key, which says when it was made and opens nothing; a
//! request looks at a bounded number of records, however many are kept. Not here: what clients may see (`registry`).

use std::sync::Arc;

use super::handle::{Source, TaskFault, TaskHandle};
use super::keeping::TASKS;
use super::record::TaskKey;
use super::registry::TaskRegistry;
use super::view::TaskStatus;
use crate::protocol::task::Status;
use crate::store::error::StoreError;
use crate::store::records::Position;

/// Records read at once, and how often for one request; what follows is on the next page.
const AT_ONCE: usize = 256;
const PAGES: usize = 40;
/// Digits of a key that stand for no time yet.
const LEADING: &str = "0000";
/// Digits of a number: those of the time in milliseconds, and 32 random bits.
const DIGITS: usize = 20;

/// Which tasks are looked for.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// In this state, in the words of the extension.
    pub state: Option<Status>,
    /// Of this upstream.
    pub upstream: Option<String>,
    /// Of this principal.
    pub principal: Option<String>,
}

/// Why a number names no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// Unknown, or gone.
    #[error("no such task")]
    None,
    /// Its digits are those of several.
    #[error("that is the beginning of several numbers")]
    Several,
    /// See [`StoreError`].
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl TaskKey {
    /// By which operators know the task, and logs name it. No client ever sees it.
    pub fn number(&self) -> String {
        self.text()[LEADING.len()..LEADING.len() + DIGITS].to_owned()
    }

    /// What all keys begin with whose numbers begin so; `None` where there are none such.
    fn beginning(number: &str) -> Option<Vec<u8>> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if number.is_empty() || number.len() > DIGITS || !number.bytes().all(is_digit) {
            return None;
        }
        let padded = format!("{LEADING}{number}{}", if number.len().is_multiple_of(2) { "" } else { "0" });
        let digits = |at: usize| u8::from_str_radix(padded.get(at..at + 2)?, 16).ok();
        (0..padded.len()).step_by(2).map(digits).collect()
    }
}

impl Choice {
    fn fits(&self, task: &TaskStatus) -> bool {
        let is =
            |wanted: &Option<String>, there: &str| wanted.as_deref().is_none_or(|wanted| wanted == there);
        self.state.is_none_or(|state| state.text() == task.status)
            && is(&self.upstream, &task.upstream)
            && is(&self.principal, &task.principal)
    }
}

impl TaskRegistry {
    /// The tasks that fit, the newest first, at most `limit` of them made before `before`; and where to go on, if there may
    /// be more. May give fewer while more follow.
    pub async fn survey(
        &self,
        choice: &Choice,
        before: Option<TaskKey>,
        limit: usize,
    ) -> Result<(Vec<TaskStatus>, Option<TaskKey>), StoreError> {
        let (mut rows, mut next) = (Vec::new(), before);
        for _ in 0..PAGES {
            let (page, more) = self.statuses(next, AT_ONCE).await?;
            for task in page.into_iter().filter(|task| choice.fits(task)) {
                if rows.len() == limit {
                    return Ok((rows, next));
                }
                next = Some(task.key);
                rows.push(task);
            }
            next = more;
            if next.is_none() {
                break;
            }
        }
        Ok((rows, next))
    }

    /// The task whose number begins so, if it is the only one.
    pub async fn numbered(self: &Arc<Self>, number: &str) -> Result<TaskHandle, NotFound> {
        let beginning = TaskKey::beginning(number).ok_or(NotFound::None)?;
        let page = self.records().scan(TASKS, Position::After(&beginning), 2).await?;
        let keys = page.items.iter().filter_map(|(key, _)| TaskKey::of_bytes(key));
        let mut named = keys.filter(|key| key.number().starts_with(number));
        let (first, other) = (named.next(), named.next());
        match (first, other) {
            (None, _) => Err(NotFound::None),
            (Some(_), Some(_)) => Err(NotFound::Several),
            (Some(key), None) => match self.find_by_key(key).await {
                Ok(task) => Ok(task),
                Err(TaskFault::Unknown) => Err(NotFound::None),
                Err(TaskFault::Unavailable(fault)) => Err(NotFound::Unavailable(fault)),
            },
        }
    }
}

impl TaskHandle {
    /// How an operator sees it now.
    pub fn status(&self) -> TaskStatus {
        let is_live = matches!(self.source, Source::Live(..));
        TaskStatus::of(&self.view(), self.registry.now_ms(), is_live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_beginning_of_its_key_and_finds_it_by_any_of_its_first_digits() {
        let key = TaskKey::of(0x019b_0a1b_2c3d, 0x4f2a_9c01_dead_beef_0000_0000_0000_0000);
        assert_eq!(key.number(), "019b0a1b2c3d4f2a9c01");
        for length in 1..=DIGITS {
            let beginning = TaskKey::beginning(&key.number()[..length]).expect("digits");
            assert!(beginning.as_slice() <= key.as_bytes(), "{length} digits");
        }
        let longer = format!("{}0", key.number());
        for odd in ["", "x", "é", "019B", " 1", &longer] {
            assert_eq!(TaskKey::beginning(odd), None, "{odd:?}");
        }
    }
}
