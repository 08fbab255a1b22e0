//! Where the messages of one request or one session go.
//!
//! Always bounded: a pipe makes its writer wait, a log forgets its oldest. Not here: bytes on a socket.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::event_log::EventLog;

/// One way to the client.
#[derive(Debug, Clone)]
pub(crate) enum Outlet {
    /// A reader is there or the messages have no point: standard output, or the answer to one stateless request.
    Pipe(mpsc::Sender<Value>),
    /// A stream of the handshake era, whose reader may come back later.
    Log(Arc<EventLog>),
    /// Nobody is there.
    Nowhere,
}

impl Outlet {
    /// Writes, waiting for room where the reader is slow. False when nobody can ever read it.
    pub(crate) async fn send(&self, message: Value) -> bool {
        match self {
            Outlet::Pipe(pipe) => pipe.send(message).await.is_ok(),
            Outlet::Log(log) => log.push(&message),
            Outlet::Nowhere => false,
        }
    }

    /// Writes if there is room now.
    pub(crate) fn offer(&self, message: Value) -> bool {
        match self {
            Outlet::Pipe(pipe) => pipe.try_send(message).is_ok(),
            Outlet::Log(log) => log.push(&message),
            Outlet::Nowhere => false,
        }
    }
}
