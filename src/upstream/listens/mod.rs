//! Listening to one stateless upstream: for everybody, over one stream (S-SUB-06).
//!
//! Owns who waits for the verdict on a resource, and the way to the upstream while there is one. Always: what is decided
//! (`state`) is done by one task (`run`), which lives as long as the upstream's actor. Not here: who is told (`changes`,
//! `subscriptions`), taking turns (`follow`).

mod over_http;
mod over_pipe;
mod overlap;
mod run;
mod state;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

pub(super) use run::{Telling, run};

pub(super) use self::state::Verdict;
use self::state::{Effect, Ending, Filter, ListenState, Told, Wake};
use super::link::Link;
use super::messages::ListKind;
use super::probe::Facts;
use super::stateless::StatelessHttp;
use crate::protocol::era::Revision;
use crate::protocol::frame::Notification;
use crate::protocol::json::{Limits, Object, elements, quote, string};
use crate::protocol::splice::Edit;

/// The key that says of which listening a message is.
const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

/// Longest wait for an acknowledgement.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// See the module head.
#[derive(Debug)]
pub(super) struct StandingListen {
    inner: Mutex<Inner>,
    /// There is something to do.
    work: Notify,
    is_settled: watch::Sender<bool>,
    /// Between two doubts of the era: each has it found out anew, and that has the upstream listened to at once.
    between_doubts: Duration,
}

#[derive(Debug)]
struct Inner {
    state: ListenState,
    way: Option<Way>,
    to_do: VecDeque<Effect>,
    waiting: HashMap<String, Vec<oneshot::Sender<Verdict>>>,
    /// On a pipe: streams by the ids of their requests.
    on_pipe: HashMap<u64, u64>,
    /// When the era was doubted last.
    doubted: Option<Instant>,
}

/// How the upstream is listened to.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Http(Arc<StatelessHttp>, Revision),
    Pipe(Arc<Link>),
}

/// What a stream told, if it is news.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    Changed(ListKind),
    /// Without what was of this hop.
    Updated(Box<Notification>),
}

impl StandingListen {
    /// `waits` are the first and the longest wait between attempts.
    pub(super) fn new(waits: (Duration, Duration)) -> Self {
        let inner = Inner {
            state: ListenState::new(waits),
            way: None,
            to_do: VecDeque::new(),
            waiting: HashMap::new(),
            on_pipe: HashMap::new(),
            doubted: None,
        };
        StandingListen {
            inner: Mutex::new(inner),
            work: Notify::new(),
            is_settled: watch::Sender::new(true),
            between_doubts: waits.1,
        }
    }

    /// The upstream can be listened to in this way; these resources are followed already.
    pub(super) fn up(&self, way: Way, facts: &Facts, followed: &[String]) {
        self.change(|inner| {
            let mut effects = Vec::new();
            // What came over a pipe ended with it.
            if matches!(way, Way::Pipe(_)) || matches!(inner.way, Some(Way::Pipe(_))) {
                effects = inner.state.down();
                inner.on_pipe.clear();
            }
            inner.way = Some(way);
            effects.extend(inner.state.up(announced(facts), tells_of_resources(facts), followed));
            effects
        });
    }

    /// The upstream says something else of itself than before, and is listened to accordingly.
    pub(super) fn says(&self, facts: &Facts) {
        self.change(|inner| inner.state.says(announced(facts), tells_of_resources(facts)));
    }

    /// It cannot be, for now.
    pub(super) fn down(&self) {
        self.change(|inner| {
            inner.way = None;
            inner.on_pipe.clear();
            inner.state.down()
        });
    }

    /// Asks for updates of a resource, and waits for what becomes of that. Stays wanted whatever becomes of the future.
    pub(super) async fn want(&self, uri: &str) -> Verdict {
        let (sender, verdict) = oneshot::channel();
        self.change(|inner| {
            inner.waiting.entry(uri.to_owned()).or_default().push(sender);
            inner.state.want(uri)
        });
        verdict.await.unwrap_or(Verdict::Unreachable)
    }

    /// Asks for updates of a resource no longer, if nobody wants them: judged where nobody can begin to want them meanwhile.
    pub(super) fn unwant_unless(&self, uri: &str, is_wanted: impl FnOnce() -> bool) {
        self.change(|inner| {
            if is_wanted() {
                return Vec::new();
            }
            inner.waiting.remove(uri);
            inner.state.unwant(uri)
        });
    }

    /// Waits until the upstream is listened to, if that is to be soon.
    pub(super) async fn until_settled(&self) {
        // The sender is in self.
        let _ = self.is_settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// Lists are fetched now, whether or not anything is heard.
    pub(super) fn owe_lists(&self) {
        self.change(|inner| {
            inner.state.owe_lists();
            Vec::new()
        });
    }

    /// Whether every change of a list that the upstream tells of is heard.
    pub(super) fn hears_lists(&self) -> bool {
        self.lock().state.hears_lists()
    }

    /// Takes a notification of the listening that has this request id on the pipe.
    pub(super) fn hear_on_pipe(&self, request: u64, notification: Notification) -> Heard {
        let stream = self.lock().on_pipe.get(&request).copied();
        stream.map_or(Heard::Nothing, |stream| self.hear(stream, notification))
    }

    fn hear(&self, stream: u64, notification: Notification) -> Heard {
        let news = match &*notification.method {
            "notifications/subscriptions/acknowledged" => {
                let honoured = honoured(&notification.params);
                self.change(|inner| inner.state.acknowledged(stream, &honoured));
                return Heard::Nothing;
            }
            "notifications/tools/list_changed" => Told::Changed(ListKind::Tools),
            "notifications/prompts/list_changed" => Told::Changed(ListKind::Prompts),
            "notifications/resources/list_changed" => Told::Changed(ListKind::Resources),
            "notifications/resources/updated" => match notification.params.text("uri") {
                Some(uri) => Told::Updated(uri.into()),
                None => return Heard::Nothing,
            },
            _ => return Heard::Nothing,
        };
        if !self.lock().state.admits(stream, &news) {
            return Heard::Nothing;
        }
        match news {
            Told::Changed(list) => Heard::Changed(list),
            Told::Updated(_) => Heard::Updated(Box::new(without_subscription(notification))),
        }
    }

    /// A stream is about to be opened on the pipe, by the request of that id.
    fn is_on_pipe(&self, request: u64, stream: u64) {
        self.lock().on_pipe.insert(request, stream);
    }

    /// Whether a stream was acknowledged.
    fn stands(&self, stream: u64) -> bool {
        self.lock().state.stands(stream)
    }

    fn ended(&self, stream: u64, ending: Ending) {
        self.change(|inner| {
            inner.on_pipe.retain(|_, other| *other != stream);
            inner.state.ended(stream, ending)
        });
    }

    /// Whether the era may be doubted once more now; counts as a doubt.
    fn may_doubt(&self) -> bool {
        let mut inner = self.lock();
        let is_time = inner.doubted.is_none_or(|last| last.elapsed() >= self.between_doubts);
        if is_time {
            inner.doubted = Some(Instant::now());
        }
        is_time
    }

    /// A stream was left; nothing it brings is of use.
    fn left(&self, stream: u64) {
        self.lock().on_pipe.retain(|_, other| *other != stream);
    }

    fn due(&self, wake: Wake) {
        self.change(|inner| inner.state.due(wake));
    }

    /// The next thing to do, and the way there is now.
    fn take(&self) -> Option<(Effect, Option<Way>)> {
        let mut inner = self.lock();
        let effect = inner.to_do.pop_front()?;
        Some((effect, inner.way.clone()))
    }

    fn change(&self, change: impl FnOnce(&mut Inner) -> Vec<Effect>) {
        let mut inner = self.lock();
        let effects = change(&mut inner);
        for effect in effects {
            let waiting = match &effect {
                Effect::Verdict { uri, verdict } => inner.waiting.remove(uri).map(|all| (all, *verdict)),
                _ => None,
            };
            match waiting {
                Some((all, verdict)) => all.into_iter().for_each(|waiting| {
                    // Who does not wait any longer has no use for it.
                    let _ = waiting.send(verdict);
                }),
                None => inner.to_do.push_back(effect),
            }
        }
        let (is_settled, is_work) = (inner.state.is_settled(), !inner.to_do.is_empty());
        self.is_settled.send_if_modified(|settled| std::mem::replace(settled, is_settled) != is_settled);
        drop(inner);
        if is_work {
            self.work.notify_one();
        }
    }

    /// Held for a few instructions, and never across an await.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists of whose changes the upstream says that it tells.
fn announced(facts: &Facts) -> Vec<ListKind> {
    let all =
        [("tools", ListKind::Tools), ("prompts", ListKind::Prompts), ("resources", ListKind::Resources)];
    let told = all.into_iter().filter(|(feature, _)| facts.capabilities.flag(feature, "listChanged"));
    told.map(|(_, list)| list).collect()
}

fn tells_of_resources(facts: &Facts) -> bool {
    facts.capabilities.flag("resources", "subscribe")
}

/// The member of a filter that asks for changes of a list.
fn member(list: ListKind) -> &'static str {
    match list {
        ListKind::Tools => "toolsListChanged",
        ListKind::Prompts => "promptsListChanged",
        ListKind::Resources => "resourcesListChanged",
    }
}

/// The filter as a request says it.
fn written(filter: &Filter) -> String {
    let lists = filter.lists.iter().map(|list| format!("\"{}\":true", member(*list)));
    let uris: Vec<String> = filter.uris.iter().map(|uri| quote(uri)).collect();
    let uris = (!uris.is_empty()).then(|| format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
    format!("{{{}}}", lists.chain(uris).collect::<Vec<_>>().join(","))
}

/// What an acknowledgement honours. One that does not say honours nothing.
fn honoured(params: &Object) -> Filter {
    let honoured = params.object("notifications").unwrap_or_else(Object::empty);
    let all = [ListKind::Tools, ListKind::Prompts, ListKind::Resources];
    let uris = honoured.share("resourceSubscriptions");
    let uris = uris.and_then(|raw| elements(&raw, Limits::NONE).ok()).unwrap_or_default();
    Filter {
        lists: all.into_iter().filter(|list| honoured.get(member(*list)) == Some(b"true")).collect(),
        uris: uris.iter().filter_map(|raw| string(raw)).map(|uri| uri.into_owned()).collect::<BTreeSet<_>>(),
    }
}

fn without_subscription(notification: Notification) -> Notification {
    let mut edit = Edit::of(&notification.params);
    edit.remove_meta(SUBSCRIPTION_KEY);
    let mut text = Vec::new();
    edit.write(&mut text);
    match Object::parse(text.into(), Limits::NONE) {
        Ok(params) => Notification { params, ..notification },
        Err(_) => notification,
    }
}

/// The request id of ours that a notification on a pipe belongs to.
pub(super) fn subscription_of(notification: &Notification) -> Option<u64> {
    std::str::from_utf8(notification.params.meta(SUBSCRIPTION_KEY)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn s_sub_01_a_filter_reads_back_as_it_was_written() {
        let filter = Filter {
            lists: vec![ListKind::Tools, ListKind::Resources],
            uris: ["x:1".to_owned(), "x:\"2\"".to_owned()].into(),
        };
        let params = format!(r#"{{"notifications":{}}}"#, written(&filter));
        let params = Object::parse(Bytes::from(params), Limits::default()).expect("valid");
        assert_eq!(honoured(&params), filter);
        assert_eq!(written(&Filter::default()), "{}");
        for odd in [r#"{"notifications":{"toolsListChanged":false,"resourceSubscriptions":7}}"#, "{}"] {
            let params = Object::parse(Bytes::from(odd), Limits::default()).expect("valid");
            assert_eq!(honoured(&params), Filter::default(), "{odd}");
        }
    }

    #[test]
    fn s_sub_06_the_upstream_s_subscription_id_goes_no_further() {
        let params = r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":7,"mine":1},"uri":"x:1"}"#;
        let params = Object::parse(Bytes::from(params), Limits::default()).expect("valid");
        let notification = Notification { method: "notifications/resources/updated".into(), params };
        assert_eq!(subscription_of(&notification), Some(7));
        let passed = without_subscription(notification);
        assert_eq!(subscription_of(&passed), None);
        assert_eq!(
            (passed.params.text("uri").as_deref(), passed.params.meta("mine")),
            (Some("x:1"), Some(&b"1"[..]))
        );
    }

    #[tokio::test]
    async fn s_sub_05_who_waits_for_a_resource_is_told_the_verdict_and_when_all_is_settled() {
        let listen = StandingListen::new((Duration::from_secs(1), Duration::from_secs(1)));
        listen.until_settled().await;
        let effects = listen.lock().state.up(Vec::new(), true, &[]);
        assert!(effects.is_empty());
        let settle = async {
            listen.due(Wake::Batch);
            assert!(!*listen.is_settled.borrow(), "a stream is being opened");
            let honoured = Filter { uris: ["x:1".to_owned()].into(), ..Filter::default() };
            listen.change(|inner| inner.state.acknowledged(1, &honoured));
        };
        let verdicts = tokio::join!(listen.want("x:1"), listen.want("x:2"), settle);
        assert_eq!((verdicts.0, verdicts.1), (Verdict::Accepted, Verdict::Refused));
        listen.until_settled().await;
    }
}
