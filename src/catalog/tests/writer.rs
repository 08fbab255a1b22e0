//! The one writer: what is published when, and who is told.

use std::time::Duration;

use actix::{Actor, Addr, Context, Handler};
use tokio::time::Instant;

use super::*;
use crate::catalog::CatalogueHandle;
use crate::catalog::messages::CatalogueChanged;
use crate::catalog::snapshot::Freshness;
use crate::catalog::state::ViewChange;

/// What was told, and the tools a client would have seen at that moment.
type Told = Vec<(Vec<ViewChange>, Vec<String>)>;

/// Writes down what it is told, and what a client would see at that moment.
struct Listener {
    told: Arc<std::sync::Mutex<Told>>,
    catalogue: Arc<std::sync::OnceLock<CatalogueHandle>>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<CatalogueChanged> for Listener {
    type Result = ();

    fn handle(&mut self, changed: CatalogueChanged, _: &mut Context<Self>) {
        let view = self.catalogue.get().expect("started").view(None).expect("a view");
        self.told.lock().expect("unpoisoned").push((changed.views, shown(&view, ListKind::Tools)));
    }
}

struct Story {
    catalogue: CatalogueHandle,
    told: Arc<std::sync::Mutex<Told>>,
    _listener: Addr<Listener>,
}

impl Story {
    fn begin(settings: &Settings, keep_lost: Duration) -> Story {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let cell = Arc::new(std::sync::OnceLock::new());
        let listener = Listener { told: told.clone(), catalogue: cell.clone() }.start();
        let arbiter = actix::Arbiter::current();
        let catalogue =
            CatalogueHandle::start_on(&arbiter, settings, sealer(), listener.clone().recipient(), keep_lost);
        cell.set(catalogue.clone()).expect("set once");
        Story { catalogue, told, _listener: listener }
    }

    async fn hear(&self, upstream: &str, lists: FetchedLists) {
        self.catalogue.lists_fetched(UpstreamName::new(upstream), lists).await.expect("the writer lives");
    }

    fn tools(&self) -> Vec<String> {
        shown(&self.catalogue.view(None).expect("a view"), ListKind::Tools)
    }

    async fn until_told(&self, times: usize) -> Told {
        let told = || self.told.lock().expect("unpoisoned").clone();
        until(|| told().len() >= times).await;
        told()
    }
}

async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to be");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn run(story: impl Future<Output = ()>) {
    actix::System::new().block_on(story);
}

fn change(profile: Option<&str>, kinds: &str) -> ViewChange {
    ViewChange {
        profile: profile.map(ProfileName::new),
        tools: kinds.contains('t'),
        prompts: kinds.contains('p'),
        resources: kinds.contains('r'),
        templates: kinds.contains('m'),
    }
}

const LONG: Duration = Duration::from_secs(600);

#[test]
fn s_list_03_a_client_that_lists_when_told_sees_the_change() {
    run(async {
        let story = Story::begin(&settings(&[("a", "a")]), LONG);
        story.hear("a", tools(&["x"])).await;
        assert_eq!(story.tools(), ["a__x"], "first lists are current at once");
        assert_eq!(story.until_told(1).await, [(vec![change(None, "t")], vec!["a__x".to_owned()])]);
        story.hear("a", tools(&["x", "y"])).await;
        let told = story.until_told(2).await;
        assert_eq!(told[1], (vec![change(None, "t")], vec!["a__x".to_owned(), "a__y".to_owned()]));
    });
}

#[test]
fn s_list_02_fifty_changes_in_a_burst_are_told_once() {
    run(async {
        let mut settings = settings(&[("a", "a")]);
        settings.bounds.change_debounce = Duration::from_millis(300);
        let story = Story::begin(&settings, LONG);
        for change in 0..50 {
            let name = format!("t{change}");
            story.hear("a", tools(&[&name])).await;
        }
        let told = story.until_told(1).await;
        assert_eq!(told, [(vec![change(None, "t")], vec!["a__t49".to_owned()])]);
        // A later change is told by itself; by then a second telling of the burst would have come first.
        story.hear("a", only(ListKind::Prompts, &["p"])).await;
        assert_eq!(story.until_told(2).await[1].0, [change(None, "tp")]);
    });
}

#[test]
fn s_list_02_a_change_that_a_view_hides_is_not_told_to_it() {
    run(async {
        let mut settings = settings(&[("a", "a"), ("b", "b")]);
        settings.profiles =
            vec![profile("left", &["a"], None, &[]), profile("few", &["a", "b"], Some(&["*__seen"]), &[])];
        let story = Story::begin(&settings, LONG);
        story.hear("b", tools(&["hidden"])).await;
        assert_eq!(story.until_told(1).await[0].0, [change(None, "t")]);
        story.hear("b", tools(&["hidden", "seen"])).await;
        let told = story.until_told(2).await;
        assert_eq!(told[1].0, [change(None, "t"), change(Some("few"), "t")]);
    });
}

#[test]
fn s_list_01_a_loss_is_told_after_a_grace_time_and_a_quick_return_never() {
    run(async {
        let story = Story::begin(&settings(&[("a", "a"), ("b", "b")]), Duration::from_millis(200));
        let (a, b) = (UpstreamName::new("a"), UpstreamName::new("b"));
        story.hear("a", tools(&["x"])).await;
        story.hear("b", tools(&["x"])).await;
        story.until_told(1).await;
        story.catalogue.upstream_lost(a.clone()).await.expect("the writer lives");
        story.catalogue.upstream_lost(b).await.expect("the writer lives");
        let freshness = || story.catalogue.current().upstreams()[0].freshness;
        until(|| freshness() == Freshness::Stale).await;
        assert_eq!(story.tools(), ["a__x", "b__x"]);
        story.hear("a", tools(&["x"])).await;
        let told = story.until_told(2).await;
        assert_eq!(told[1], (vec![change(None, "t")], vec!["a__x".to_owned()]));
        assert_eq!(freshness(), Freshness::Present);
    });
}

#[test]
fn s_tool_15_a_silent_upstream_delays_a_list_by_the_budget_at_most() {
    run(async {
        let story = Story::begin(&settings(&[("a", "a"), ("silent", "s")]), LONG);
        story.hear("a", tools(&["x"])).await;
        let before = Instant::now();
        let partial = story.catalogue.first_lists(None, Duration::from_millis(50)).await;
        assert!(before.elapsed() >= Duration::from_millis(50) && partial.is_awaiting(None));
        assert_eq!(shown(partial.view(None).expect("a view"), ListKind::Tools), ["a__x"]);
        // It answers while someone waits: the wait ends with the answer.
        let waiting = story.catalogue.first_lists(None, LONG);
        let (whole, ()) = tokio::join!(waiting, story.hear("silent", tools(&["y"])));
        assert_eq!(shown(whole.view(None).expect("a view"), ListKind::Tools), ["a__x", "s__y"]);
    });
}

#[test]
fn news_of_an_unknown_upstream_changes_nothing() {
    run(async {
        let story = Story::begin(&settings(&[("a", "a")]), LONG);
        let before = story.catalogue.current().generation();
        story.hear("stranger", tools(&["x"])).await;
        story.catalogue.upstream_lost(UpstreamName::new("stranger")).await.expect("the writer lives");
        assert_eq!(story.catalogue.current().generation(), before);
    });
}
