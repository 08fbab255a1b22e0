//! One that listens, and what it has still to be told.
//!
//! Always: nothing is said before the acknowledgement; a change of a list waits at most once, and so do an update of a
//! resource and a change of a task, however often they happen; what waits is bounded, and a writer never waits for the
//! reader (S-HTTPS-17). Not here: the state of a task, which is looked up when it can be said, so that it is the newest.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::filter::Lists;
use super::words;
use crate::names::UpstreamName;
use crate::protocol::covering::{covers, shown_as};
use crate::protocol::frame::RequestId;
use crate::protocol::json::Object;
use crate::session::handle::PublicUris;

/// Updates that may wait, of whatever parts of resources; of further ones only the resource itself is named.
const WAITING_UPDATES: usize = 256;
/// Bytes of them, beyond which they are told in few words.
const WAITING_BYTES: usize = 64 * 1024;

/// A resource that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The URI the client uses.
    pub public: String,
    /// The URI the upstream uses.
    pub local: String,
    /// Whose resource it is.
    pub upstream: UpstreamName,
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A message, on one line.
    Message(Vec<u8>),
    /// The state of the task that the client knows by this id, as it is now (S-TX-10).
    Task(Arc<str>),
    /// Nothing more: the gateway ends it.
    Over,
}

/// See the module head.
#[derive(Debug)]
pub struct Listener {
    id: RequestId,
    lists: Lists,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Before it is told, what is honoured; `None` until that is known.
    acknowledgement: Option<Vec<u8>>,
    was_acknowledged: bool,
    changed: Lists,
    updated: VecDeque<Update>,
    updated_bytes: usize,
    followed: Vec<Followed>,
    tasks: Vec<Arc<str>>,
    changed_tasks: VecDeque<Arc<str>>,
    is_over: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Update {
    public: String,
    text: Vec<u8>,
}

impl Listener {
    pub(super) fn new(id: RequestId, lists: Lists) -> Arc<Self> {
        Arc::new(Listener { id, lists, inner: Mutex::default() })
    }

    /// The id of its request.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    pub(super) fn wants(&self, lists: Lists) -> bool {
        !self.lists.both(lists).is_empty()
    }

    /// Updates of this resource concern it from now on. Before the upstream is asked, so that none is early.
    pub fn follow(&self, followed: Followed) {
        self.lock().followed.push(followed);
    }

    /// They do not, because the upstream will not tell them.
    pub fn unfollow(&self, public: &str) {
        self.lock().followed.retain(|followed| followed.public != public);
    }

    /// Changes of the task of this id concern it from now on.
    pub fn follow_task(&self, id: Arc<str>) {
        self.lock().tasks.push(id);
    }

    /// A task that it follows changed.
    pub fn task_changed(&self, id: &Arc<str>) {
        self.change(|inner| {
            if !inner.changed_tasks.contains(id) {
                inner.changed_tasks.push_back(Arc::clone(id));
            }
        });
    }

    /// Everything is in place: what it asked for and can be told is acknowledged now.
    pub fn acknowledge(&self) {
        self.change(|inner| {
            let mut uris: Vec<&str> = inner.followed.iter().map(|followed| &*followed.public).collect();
            uris.sort_unstable();
            let tasks = inner.tasks.iter().map(|task| &**task);
            inner.acknowledgement = Some(words::acknowledged(&self.id, self.lists, uris.into_iter(), tasks));
        });
    }

    /// Lists changed.
    pub fn lists_changed(&self, lists: Lists) {
        let wanted = self.lists.both(lists);
        if !wanted.is_empty() {
            self.change(|inner| inner.changed.add(wanted));
        }
    }

    /// A server says that its resource was updated.
    pub(super) fn updated(&self, upstream: &UpstreamName, params: &Object, public_uris: &PublicUris) {
        let Some(uri) = params.text("uri") else { return };
        self.change(|inner| {
            let covering: Vec<(String, String)> = inner
                .followed
                .iter()
                .filter(|followed| followed.upstream == *upstream && covers(&followed.local, &uri))
                .map(|followed| {
                    let shown = |uri: &str| public_uris.of(upstream, uri);
                    (shown_as(&followed.public, &followed.local, &uri, shown), followed.public.clone())
                })
                .collect();
            for (shown, followed) in covering {
                inner.note(&self.id, params, shown, followed);
            }
        });
    }

    /// The gateway ends it.
    pub(super) fn end(&self) {
        self.change(|inner| inner.is_over = true);
    }

    /// The next thing to say, as soon as there is one.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Said> {
        let mut inner = self.lock();
        if let Some(acknowledgement) = inner.acknowledgement.take() {
            inner.was_acknowledged = true;
            return Poll::Ready(Said::Message(acknowledgement));
        }
        if inner.was_acknowledged {
            if let Some(kind) = inner.changed.take_first() {
                return Poll::Ready(Said::Message(words::list_changed(&self.id, kind.method)));
            }
            if let Some(update) = inner.updated.pop_front() {
                inner.updated_bytes -= update.text.len();
                if inner.updated.is_empty() {
                    // Most of the time nothing waits, and there are thousands.
                    inner.updated = VecDeque::new();
                }
                return Poll::Ready(Said::Message(update.text));
            }
            if let Some(task) = inner.changed_tasks.pop_front() {
                return Poll::Ready(Said::Task(task));
            }
            if inner.is_over {
                return Poll::Ready(Said::Over);
            }
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// As [`Listener::poll_next`].
    pub async fn next(&self) -> Said {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Notes an update unless the same waits. Where too much waits, the followed resource stands for its parts.
    fn note(&mut self, id: &RequestId, params: &Object, shown: String, followed: String) {
        let is_noted = |this: &Self, public: &str| this.updated.iter().any(|update| update.public == public);
        if is_noted(self, &shown) {
            return;
        }
        let text = words::updated(id, params, &shown);
        let has_room =
            self.updated.len() < WAITING_UPDATES && self.updated_bytes + text.len() <= WAITING_BYTES;
        let update = match has_room {
            true => Update { public: shown, text },
            false if is_noted(self, &followed) => return,
            // At most one for each resource that is followed.
            false => Update { text: words::updated(id, &Object::empty(), &followed), public: followed },
        };
        self.updated_bytes += update.text.len();
        self.updated.push_back(update);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::protocol::json::Limits;

    fn listener(lists: Lists) -> Arc<Listener> {
        Listener::new(RequestId::text("a"), lists)
    }

    fn said(listener: &Listener) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(Said::Message(text)) = listener.next().now_or_never() {
            all.push(String::from_utf8(text).expect("UTF-8"));
        }
        all
    }

    fn up() -> UpstreamName {
        UpstreamName::new("up")
    }

    fn follow(listener: &Listener, public: &str, local: &str) {
        listener.follow(Followed { public: public.into(), local: local.into(), upstream: up() });
    }

    fn update(listener: &Listener, upstream: &UpstreamName, uri: &str) {
        let params =
            Object::parse(Bytes::from(format!(r#"{{"uri":"{uri}"}}"#)), Limits::NONE).expect("valid");
        listener.updated(upstream, &params, &PublicUris::default());
    }

    #[test]
    fn s_sub_02_s_sub_05_nothing_precedes_the_acknowledgement_and_what_happened_before_it_is_told() {
        let listener = listener(Lists::of([(true, Lists::TOOLS), (true, Lists::PROMPTS)]));
        listener.lists_changed(Lists::TOOLS);
        follow(&listener, "x:1", "x:1");
        follow(&listener, "x:2", "x:2");
        listener.unfollow("x:2");
        update(&listener, &up(), "x:1");
        assert!(said(&listener).is_empty());
        listener.acknowledge();
        let told = said(&listener);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("acknowledged"), "{told:?}");
        let honoured = r#""notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["x:1"]}"#;
        assert!(told[0].contains(honoured), "{told:?}");
        assert!(told[1].contains("tools/list_changed") && told[2].contains("resources/updated"), "{told:?}");
    }

    #[test]
    fn s_sub_04_only_what_was_asked_for_is_told() {
        let listener = listener(Lists::PROMPTS);
        listener.acknowledge();
        follow(&listener, "x:1", "x:1");
        said(&listener);
        listener.lists_changed(Lists::of([(true, Lists::TOOLS), (true, Lists::RESOURCES)]));
        update(&listener, &up(), "x:2");
        update(&listener, &UpstreamName::new("other"), "x:1");
        assert!(said(&listener).is_empty());
        listener.lists_changed(Lists::PROMPTS);
        assert_eq!(said(&listener).len(), 1);
    }

    #[test]
    fn s_https_17_a_client_that_reads_nothing_is_told_once_of_what_happened_often() {
        let listener = listener(Lists::TOOLS);
        listener.acknowledge();
        follow(&listener, "x:dir", "x:dir");
        said(&listener);
        for n in 0..10_000 {
            listener.lists_changed(Lists::TOOLS);
            update(&listener, &up(), "x:dir");
            update(&listener, &up(), &format!("x:dir/{n}"));
        }
        let told = said(&listener);
        assert!(told.len() <= WAITING_UPDATES + 2, "{}", told.len());
        let of_all = told.iter().filter(|text| text.contains(r#""uri":"x:dir""#)).count();
        assert_eq!(of_all, 1, "the resource stands for parts that found no place");
        assert!(said(&listener).is_empty());
        update(&listener, &up(), "x:dir/1");
        assert_eq!(said(&listener).len(), 1, "what happens later is told again");
    }

    #[test]
    fn s_tx_10_a_task_that_changed_often_is_said_once_and_after_the_acknowledgement_that_names_it() {
        let listener = listener(Lists::default());
        let [one, two]: [Arc<str>; 2] = [Arc::from("1"), Arc::from("2")];
        listener.follow_task(Arc::clone(&one));
        listener.follow_task(Arc::clone(&two));
        for _ in 0..3 {
            listener.task_changed(&two);
            listener.task_changed(&one);
        }
        assert_eq!(listener.next().now_or_never(), None);
        listener.acknowledge();
        let told = said(&listener);
        assert!(told[0].contains(r#""notifications":{"taskIds":["1","2"]}"#), "{told:?}");
        // `said` took the first of them, which is no message.
        assert_eq!(listener.next().now_or_never(), Some(Said::Task(one)));
        assert_eq!(listener.next().now_or_never(), None);
        listener.task_changed(&two);
        assert_eq!(listener.next().now_or_never(), Some(Said::Task(two)), "what happens later is said again");
    }

    #[test]
    fn s_sub_10_the_end_comes_after_everything_and_never_before_the_acknowledgement() {
        let listener = listener(Lists::TOOLS);
        listener.end();
        assert_eq!(listener.next().now_or_never(), None);
        listener.lists_changed(Lists::TOOLS);
        listener.acknowledge();
        assert_eq!(said(&listener).len(), 2);
        assert_eq!(listener.next().now_or_never(), Some(Said::Over));
    }

    #[test]
    fn s_res_05_an_update_is_told_under_each_name_by_which_it_is_followed() {
        let listener = listener(Lists::default());
        listener.acknowledge();
        follow(&listener, "x:1", "x:1");
        follow(&listener, "switchyard://up/x:1", "x:1");
        said(&listener);
        update(&listener, &up(), "x:1");
        let told = said(&listener);
        assert!(
            told[0].contains(r#""uri":"x:1""#) && told[1].contains(r#""uri":"switchyard://up/x:1""#),
            "{told:?}"
        );
    }
}
