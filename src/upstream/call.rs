//! One call on its way to an upstream: era-neutral until an adapter writes it down.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use super::client_port::ClientPort;
pub use super::events::{CallEvent, EventSink};
use super::input::Input;
pub use super::task::TaskWish;
use crate::auth::principal::Principal;
use crate::names::{ProfileName, SessionId};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::log_level::LogLevel;
use crate::protocol::method::Method;
use crate::protocol::splice::Edit;

/// Which connection of an upstream this is, or which one serves a caller. Callers are [`Affinity::Shared`], a session or
/// [`Affinity::Caller`]; `users` knows where sessions share, `pool` where callers without a session do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Affinity {
    /// The gateway's own one: listing, and callers that bring no session.
    Shared,
    /// One per client session, so that nothing an upstream keeps or asks reaches another session (S-STDIO-08).
    Session(SessionId),
    /// One for all sessions of a principal that can be asked the same; numbered by `users`.
    Principal(u64),
    /// A stateless client's stream of changes, which follows resources over the gateway's own connection.
    Listen(u64),
    /// Of nobody for longer than one call: a caller without a session that can be asked something.
    Caller(u64),
    /// One that such callers of a principal use one after the other, or at once where each question names its call;
    /// numbered by `pool`.
    Pooled(u64),
}

impl Affinity {
    /// That of a caller for one call, never given again.
    pub fn of_one_call() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Affinity::Caller(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl Client {
    /// Whether what is put to its port is asked while its call runs; otherwise a result that asks is for it to see.
    pub fn is_asked_by_requests(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.asks_by_requests())
    }

    /// Whether it is a task whose session has ended: connections of that are no longer to be had, and the task goes on
    /// where callers without a session do.
    pub fn has_lost_its_session(&self) -> bool {
        self.task_of.as_ref().is_some_and(|session| session.closed.is_cancelled())
    }

    /// Whether both are one client, however each is asked: a session and its tasks are. Callers without a session are not
    /// taken for each other unless they are asked in the same way.
    pub fn is_same(&self, other: &Client) -> bool {
        let same_port = matches!((&self.port, &other.port), (Some(one), Some(other)) if one.is(other));
        same_port || (self.affinity == other.affinity && self.affinity != Affinity::Shared)
    }

    /// Whether an upstream could ask it anything.
    pub fn can_be_asked(&self) -> bool {
        self.port.is_some() && self.capabilities.can_be_asked()
    }
}

/// Everything about a caller that outlives one call.
#[derive(Debug)]
pub struct Client {
    /// Who it is.
    pub principal: Principal,
    /// Which upstream connections are its own.
    pub affinity: Affinity,
    /// The session that made the task which this one stands for: while it lives, that session's connections are the
    /// task's, and are opened for the session. A task of a caller without a session has none.
    pub task_of: Option<Arc<Client>>,
    /// Which endpoint it uses; `None` is `/mcp`.
    pub profile: Option<ProfileName>,
    /// What it can be asked.
    pub capabilities: ClientCapabilities,
    /// How it is asked; `None` when it cannot be.
    pub port: Option<ClientPort>,
    /// Cancelled when its session has ended: nothing is opened or kept for it from then on.
    pub closed: CancellationToken,
}

/// One call's own circumstances.
#[derive(Debug)]
pub struct Circumstances {
    /// The caller.
    pub client: Arc<Client>,
    /// Whether it wants progress.
    pub progress: bool,
    /// Log level it wants for this call or session; `None` wants no logs.
    pub log_level: Option<LogLevel>,
    /// Trace context for the next hop: `_meta` keys and raw JSON values.
    pub trace: Vec<(&'static str, String)>,
    /// Where its events go.
    pub events: Option<EventSink>,
    /// What the client answers to an earlier round.
    pub input: Option<Arc<Input>>,
    /// Set where the call may come back as a task of the upstream's.
    pub task: Option<TaskWish>,
}

/// A call in the upstream's own names, its other parameters still raw.
#[derive(Debug)]
pub struct UpstreamCall<'a> {
    /// What is called.
    pub method: Method,
    /// Parameters with names and URIs already the upstream's.
    pub params: Edit<'a>,
    /// The tool, prompt or URI, for `Mcp-Name`.
    pub target: Option<Cow<'a, str>>,
    /// `Mcp-Param-*` names and values (S-HTTPC-10).
    pub param_headers: Vec<(HeaderName, HeaderValue)>,
    /// The caller and its wishes.
    pub circumstances: &'a Circumstances,
}

/// When progress was last heard of, so that a deadline can be moved (S-LIFE-10). While a person is asked, it is not the
/// upstream that takes its time.
#[derive(Debug)]
pub struct Activity {
    started: Instant,
    last_ms: AtomicU64,
    held: AtomicUsize,
}

/// The deadline does not count while this lives; it counts anew afterwards.
#[derive(Debug)]
pub struct Held(Arc<Activity>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.touch();
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Nothing heard yet.
    pub fn starting_now() -> Self {
        Activity { started: Instant::now(), last_ms: AtomicU64::new(0), held: AtomicUsize::new(0) }
    }

    /// Something was heard.
    pub fn touch(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(elapsed, Ordering::Relaxed);
    }

    /// Stops the deadline for as long as somebody else is waited for.
    pub fn hold(self: Arc<Self>) -> Held {
        self.held.fetch_add(1, Ordering::Relaxed);
        Held(self)
    }

    /// Resolves when nothing was heard for `quiet`, or `maximum` after the start whatever was heard.
    pub async fn expired(&self, quiet: Duration, maximum: Duration) {
        loop {
            let now = Instant::now();
            if self.held.load(Ordering::Relaxed) > 0 {
                // Seen to be over at the latest when the deadline that follows could be.
                self.touch();
            }
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let due = self.started + (last + quiet).min(maximum);
            if now >= due {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn s_life_10_a_deadline_waits_for_a_person_but_not_for_ever() {
        let millis = Duration::from_millis;
        let expired = async |holding: Duration, maximum: Duration| {
            let activity = Arc::new(Activity::starting_now());
            let held = Arc::clone(&activity).hold();
            let started = Instant::now();
            let asking = async {
                tokio::time::sleep(holding).await;
                drop(held);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = activity.expired(millis(50), maximum) => {}
                () = asking => {}
            }
            started.elapsed()
        };
        let moved = expired(millis(200), Duration::from_secs(60)).await;
        assert!((millis(250)..Duration::from_secs(30)).contains(&moved), "{moved:?}");
        let ended = expired(Duration::from_secs(60), millis(200)).await;
        assert!((millis(200)..Duration::from_secs(30)).contains(&ended), "{ended:?}");
    }
}
