//! How a task is written and read: up to three records of one key, changed in one transaction.
//!
//! Always: `task` has every task of its owner; `task.result` has the ending of one that is over, so that lists read none;
//! `task.open` names those that are not over, so that a start reads no others. All of them expire together. Not here: when
//! (`state`).

use bytes::Bytes;

use super::record::TaskKey;
use super::state::Change;
use crate::store::records::{Expect, Space, Write};

/// All tasks.
pub(super) const TASKS: Space = Space::new("task");
/// How they ended.
pub(super) const RESULTS: Space = Space::new("task.result");
/// Those that are not over.
pub(super) const OPEN: Space = Space::new("task.open");

/// The transaction that makes a change; `expect` of the task's own record, besides that of the kind of change.
pub(super) fn writes(key: TaskKey, change: &Change, expect: Expect) -> Vec<Write> {
    let key = || key.as_bytes().to_vec();
    let put = |space, value, owner, expires, expect| Write::Put {
        space,
        key: key(),
        value,
        owner,
        expires: Some(expires),
        expect,
    };
    let delete = |space| Write::Delete { space, key: key(), expect: Expect::Any };
    match change {
        Change::Create(record) | Change::Renew(record) => {
            let is_new = matches!(change, Change::Create(_));
            let expect = if is_new { Expect::Absent } else { expect };
            let expires = record.expires_ms();
            vec![
                put(TASKS, record.encode(), Some(record.owner()), expires, expect),
                put(OPEN, Bytes::new(), None, expires, Expect::Any),
            ]
        }
        Change::Finish(record, ending) => {
            let expires = record.expires_ms();
            let task = put(TASKS, record.encode(), Some(record.owner()), expires, expect);
            let ending =
                ending.as_ref().map(|ending| put(RESULTS, ending.encode(), None, expires, Expect::Any));
            [Some(task), Some(delete(OPEN)), ending].into_iter().flatten().collect()
        }
        Change::Delete => vec![delete(TASKS), delete(OPEN), delete(RESULTS)],
    }
}
