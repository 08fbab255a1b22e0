//! How what an upstream asks and tells reaches one client, whatever stands for that client: a session, a call that waits for
//! its user, a stream of changes.
//!
//! Always: no method waits for the client; who takes nothing holds nobody up. Not here: whom something concerns (`arrivals`),
//! what each kind of client makes of it.

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use super::messages::{AskClient, Question, QuestionRefused, TellClient};
use crate::names::UpstreamName;
use crate::protocol::json::Object;

/// One client, as upstreams reach it. Two ports are the same client's only if they are the same port.
#[derive(Clone)]
pub struct ClientPort(Arc<dyn Reach>);

/// What stands for a client.
pub trait Reach: Send + Sync {
    /// Whether what a result asks is to be put here as well, on the way to the call's own answer; otherwise the client
    /// makes those rounds itself (S-MRTR-01).
    fn asks_by_requests(&self) -> bool {
        true
    }

    /// Puts a question to the client; what comes back is the question under way.
    fn ask(&self, asked: AskClient) -> LocalBoxFuture<'_, Result<Question, QuestionRefused>>;

    /// The upstream no longer waits for an answer to the question of that number (S-CANC-04).
    fn withdraw(&self, number: u64);

    /// Tells the client something that belongs to no call; says whether it was taken. What is expected is always taken.
    fn tell(&self, news: TellClient) -> bool;

    /// Resolves when everything that was told before stands where its client will read it.
    fn settled(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Whether the client takes this log message, which belongs to no call. Asked before anything is queued (F11).
    fn admits_log(&self, upstream: &UpstreamName, params: &Object) -> bool;
}

impl ClientPort {
    /// The port of whoever that reaches.
    pub fn new(reach: impl Reach + 'static) -> Self {
        ClientPort(Arc::new(reach))
    }

    /// Whether both lead to the same client.
    pub fn is(&self, other: &ClientPort) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::ops::Deref for ClientPort {
    type Target = dyn Reach;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for ClientPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientPort")
    }
}
