//! The bridge matrix: every feature in every pairing of eras, over both transports of the server.
//!
//! Owns the rows and what each expects, which is said by the published specification alone. A row is one function; its
//! cells are tests of their own, named `bridge::ROW::COLUMN`, each with a gateway and a demo server to itself. A column
//! such as `l_to_m_stdio` is a client of the handshake era (L) before a server of the stateless era (M) that is a child
//! process. A row that does not exist in a column says why. Always: the demo server is the other side, but for tasks; it has nothing of
//! the gateway's code but the names of the revisions. A cell that is known to fail is listed with its reason in
//! `tests/bridge-expected.tsv`; one listed there that passes fails the run. Not here: the table that is made of it all
//! (`tests/gate/bridge.py`), and features that have no other side (`stateless`, `sessions`, …).

mod calls;
mod cell;
mod conversation;
mod crowds;
mod leaving;
mod listening;
mod outages;
mod questions;
mod resources;
mod stage;
mod states;
mod tasks;

/// One row: its cells by column or by pairing, and where it has none, why.
macro_rules! row {
    ($row:ident: [$($column:ident)*] $({ $($absent:ident: $why:literal),* $(,)? })?) => {
        mod $row {
            $( crate::bridge::columns!($row $column); )*
        }
    };
}

/// The cells of a row in one pairing, or in one column.
macro_rules! columns {
    ($row:ident every) => {
        crate::bridge::columns!($row l_to_l);
        crate::bridge::columns!($row l_to_m);
        crate::bridge::columns!($row m_to_l);
        crate::bridge::columns!($row m_to_m);
    };
    ($row:ident l_to_l) => {
        crate::bridge::cells!($row, HANDSHAKE, HANDSHAKE, l_to_l_http l_to_l_stdio);
    };
    ($row:ident l_to_m) => {
        crate::bridge::cells!($row, HANDSHAKE, STATELESS, l_to_m_http l_to_m_stdio);
    };
    ($row:ident m_to_l) => {
        crate::bridge::cells!($row, STATELESS, HANDSHAKE, m_to_l_http m_to_l_stdio);
    };
    ($row:ident m_to_m) => {
        crate::bridge::cells!($row, STATELESS, STATELESS, m_to_m_http m_to_m_stdio);
    };
    ($row:ident l_to_l_http) => {
        crate::bridge::one!($row, HANDSHAKE, HANDSHAKE, Http, l_to_l_http);
    };
    ($row:ident l_to_l_stdio) => {
        crate::bridge::one!($row, HANDSHAKE, HANDSHAKE, Stdio, l_to_l_stdio);
    };
    ($row:ident l_to_m_http) => {
        crate::bridge::one!($row, HANDSHAKE, STATELESS, Http, l_to_m_http);
    };
    ($row:ident l_to_m_stdio) => {
        crate::bridge::one!($row, HANDSHAKE, STATELESS, Stdio, l_to_m_stdio);
    };
    ($row:ident m_to_l_http) => {
        crate::bridge::one!($row, STATELESS, HANDSHAKE, Http, m_to_l_http);
    };
    ($row:ident m_to_l_stdio) => {
        crate::bridge::one!($row, STATELESS, HANDSHAKE, Stdio, m_to_l_stdio);
    };
    ($row:ident m_to_m_http) => {
        crate::bridge::one!($row, STATELESS, STATELESS, Http, m_to_m_http);
    };
    ($row:ident m_to_m_stdio) => {
        crate::bridge::one!($row, STATELESS, STATELESS, Stdio, m_to_m_stdio);
    };
}

macro_rules! cells {
    ($row:ident, $client:ident, $upstream:ident, $http:ident $stdio:ident) => {
        crate::bridge::one!($row, $client, $upstream, Http, $http);
        crate::bridge::one!($row, $client, $upstream, Stdio, $stdio);
    };
}

macro_rules! one {
    ($row:ident, $client:ident, $upstream:ident, $transport:ident, $column:ident) => {
        #[tokio::test]
        async fn $column() {
            let cell = crate::bridge::cell::Cell {
                row: stringify!($row),
                column: stringify!($column),
                client: crate::support::$client,
                upstream: crate::support::$upstream,
                transport: crate::support::Transport::$transport,
            };
            crate::bridge::cell::judge(cell, super::$row(cell)).await;
        }
    };
}

pub(crate) use {cells, columns, one, row};
