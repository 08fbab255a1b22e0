//! One cell: who talks to whom, and whether its story ends as the list of known failures says.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::support::{STATELESS, Transport};

/// Known failures, one a line: `row::column`, a tab, the reason.
const EXPECTED: &str = include_str!("../../bridge-expected.tsv");

/// One row in one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    /// The row's name.
    pub(super) row: &'static str,
    /// The column's name.
    pub(super) column: &'static str,
    /// The client's revision.
    pub(super) client: &'static str,
    /// The server's revision.
    pub(super) upstream: &'static str,
    /// How the server is reached.
    pub(super) transport: Transport,
}

impl Cell {
    /// Whether the client is of the stateless era.
    pub(super) fn has_stateless_client(&self) -> bool {
        self.client == STATELESS
    }

    /// Whether the server is of the stateless era.
    pub(super) fn has_stateless_upstream(&self) -> bool {
        self.upstream == STATELESS
    }

    /// Whether the server is a child process.
    pub(super) fn is_stdio(&self) -> bool {
        self.transport == Transport::Stdio
    }

    fn expected_failure(&self) -> Option<&'static str> {
        EXPECTED.lines().find_map(|line| {
            let (name, reason) = line.split_once('\t')?;
            let (row, column) = name.split_once("::")?;
            (row == self.row && (column == self.column || column == "*")).then_some(reason)
        })
    }
}

/// Play the story of a cell. One that is known to fail has to fail.
pub(super) async fn judge(cell: Cell, story: impl Future<Output = ()>) {
    println!("=== {}, {}: {} client, {} server", cell.row, cell.column, cell.client, cell.upstream);
    let outcome = AssertUnwindSafe(story).catch_unwind().await;
    match (outcome, cell.expected_failure()) {
        (Ok(()), None) => {}
        (Ok(()), Some(reason)) => {
            panic!("this works now; take it off tests/bridge-expected.tsv, which says: {reason}")
        }
        // The gate counts this line, and the cell as skipped.
        (Err(_), Some(reason)) => println!("\nskipped: expected failure: {reason}"),
        (Err(cause), None) => std::panic::resume_unwind(cause),
    }
}
