//! Names, order, clashes, views, routes.

use tokio::time::Instant;

use super::*;
use crate::catalog::snapshot::Freshness;
use crate::catalog::state::Urgency;

#[test]
fn s_tool_05_order_is_the_configurations_whoever_answers_first() {
    let settings = settings(&[("b", "b"), ("a", "a"), ("c", "c")]);
    let mut first = state(&settings);
    let mut second = state(&settings);
    let news = || vec![("a", tools(&["z", "y"])), ("c", tools(&["x"])), ("b", tools(&["x", "w"]))];
    let one = hear(&mut first, news());
    let two = hear(&mut second, news().into_iter().rev().collect());
    let expected = ["b__x", "b__w", "a__z", "a__y", "c__x"];
    for snapshot in [&one, &two] {
        assert_eq!(shown(snapshot.view(None).expect("a view"), ListKind::Tools), expected);
    }
    let hash = |snapshot: &Snapshot| snapshot.view(None).expect("a view").list(ListKind::Tools).hash;
    assert_eq!(hash(&one), hash(&two));
}

#[test]
fn s_tool_14_a_public_name_leads_to_the_upstreams_own() {
    let mut state = state(&settings(&[("github", "gh")]));
    let snapshot = hear(&mut state, vec![("github", tools(&["issues.create", "a__b"]))]);
    let view = snapshot.view(None).expect("a view");
    let route = view.resolve_tool("gh__issues_create").expect("known");
    assert_eq!((route.upstream.as_str(), route.local.as_str()), ("github", "issues.create"));
    assert_eq!(view.resolve_tool("gh__a__b").expect("known").local.as_str(), "a__b");
    for unknown in ["issues.create", "gh__issues.create", "gh__", "", "github__a__b"] {
        assert!(view.resolve_tool(unknown).is_none(), "{unknown}");
    }
}

#[test]
fn s_tool_03_a_new_server_renames_nothing_even_when_names_clash() {
    let two = [("x", "a"), ("y", "a__b")];
    let mut alone = state(&settings(&two[..1]));
    let before = hear(&mut alone, vec![("x", tools(&["b__c", "d"]))]);
    let mut both = state(&settings(&two));
    let after = hear(&mut both, vec![("x", tools(&["b__c", "d"])), ("y", tools(&["c"]))]);
    let view = after.view(None).expect("a view");
    assert_eq!(shown(before.view(None).expect("a view"), ListKind::Tools), ["a__b__c", "a__d"]);
    // The longer prefix owns the name, in whatever order the servers stand.
    assert_eq!(view.resolve_tool("a__b__c").expect("known").upstream.as_str(), "y");
    assert_eq!(view.left_out()[0].0.as_str(), "x");
    assert!(view.left_out()[0].1.reason.contains("belongs to y"));
    assert_eq!(shown(view, ListKind::Tools), ["a__d", "a__b__c"]);
}

#[test]
fn s_tool_04_without_prefix_the_earlier_server_keeps_a_name() {
    let mut state = state(&settings(&[("one", ""), ("two", "")]));
    let snapshot = hear(&mut state, vec![("two", tools(&["echo", "b.c"])), ("one", tools(&["echo"]))]);
    let view = snapshot.view(None).expect("a view");
    assert_eq!(shown(view, ListKind::Tools), ["echo", "b.c"]);
    assert_eq!(view.resolve_tool("echo").expect("known").upstream.as_str(), "one");
    assert_eq!(view.left_out().len(), 1);
}

#[test]
fn s_prompt_01_prompts_are_named_like_tools_and_apart_from_them() {
    let mut state = state(&settings(&[("s", "s")]));
    let lists = tools(&["same"]).with(ListKind::Prompts, listed(ListKind::Prompts, &["same", "ask.me"]));
    let snapshot = hear(&mut state, vec![("s", lists)]);
    let view = snapshot.view(None).expect("a view");
    assert_eq!(view.resolve_prompt("s__ask_me").expect("known").local.as_str(), "ask.me");
    assert_eq!(shown(view, ListKind::Tools), ["s__same"]);
    assert_eq!(shown(view, ListKind::Prompts), ["s__same", "s__ask_me"]);
}

#[test]
fn s_https_19_a_profile_shows_its_servers_and_the_tools_it_allows() {
    let mut settings = settings(&[("a", "a"), ("b", "b")]);
    settings.profiles = vec![
        profile("review", &["b"], Some(&["b__*"]), &["b__delete_*"]),
        profile("open", &["a", "b"], None, &["a__x"]),
    ];
    let mut state = state(&settings);
    let snapshot = hear(&mut state, vec![("a", tools(&["x", "y"])), ("b", tools(&["get", "delete_all"]))]);
    let review = snapshot.view(Some("review")).expect("a profile");
    assert_eq!(shown(review, ListKind::Tools), ["b__get"]);
    assert!(review.resolve_tool("b__delete_all").is_none() && review.resolve_tool("a__y").is_none());
    let open = snapshot.view(Some("open")).expect("a profile");
    assert_eq!(shown(open, ListKind::Tools), ["a__y", "b__get", "b__delete_all"]);
    assert!(snapshot.view(Some("unknown")).is_none());
}

#[test]
fn s_res_05_equal_uris_of_two_servers_are_both_reachable_everywhere() {
    let mut settings = settings(&[("a", "a"), ("b", "b")]);
    settings.profiles = vec![profile("second", &["b"], None, &[])];
    let mut state = state(&settings);
    let lists = || resources(&["file:///a"], &["db://{table}"]);
    let snapshot = hear(&mut state, vec![("a", lists()), ("b", lists())]);
    let view = snapshot.view(None).expect("a view");
    assert_eq!(shown(view, ListKind::Resources), ["file:///a", "switchyard://b/file:///a"]);
    assert_eq!(shown(view, ListKind::Templates), ["db://{table}", "switchyard://b/db://{table}"]);
    for (uri, upstream, local) in [
        ("file:///a", "a", "file:///a"),
        ("switchyard://b/file:///a", "b", "file:///a"),
        ("db://users", "a", "db://users"),
        ("switchyard://b/db://users", "b", "db://users"),
    ] {
        let route = view.resolve_uri("", uri).expect("known");
        assert_eq!((route.upstream.as_str(), &*route.local), (upstream, local));
        let back = view.public_uri("", route.upstream, local).unwrap_or_else(|| local.to_owned());
        assert_eq!(back, uri);
    }
    // Where nothing clashes, nothing is wrapped; a hidden server leaves no trace.
    let second = snapshot.view(Some("second")).expect("a profile");
    assert_eq!(shown(second, ListKind::Resources), ["file:///a"]);
    assert_eq!(second.resolve_uri("", "file:///a").expect("known").upstream.as_str(), "b");
    assert!(second.resolve_uri("", "switchyard://a/file:///a").is_none());
}

#[test]
fn s_res_04_unlisted_uris_go_to_the_only_server_or_to_who_named_them() {
    let mut settings = settings(&[("a", "a"), ("b", "b"), ("t", "t")]);
    settings.profiles = vec![profile("one", &["a", "t"], None, &[])];
    let mut state = state(&settings);
    let news = vec![("a", resources(&[], &[])), ("b", resources(&[], &[])), ("t", tools(&["x"]))];
    let snapshot = hear(&mut state, news);
    let (view, one) = (snapshot.view(None).expect("a view"), snapshot.view(Some("one")).expect("a profile"));
    assert_eq!(one.resolve_uri("me", "odd:thing").expect("the only one").upstream.as_str(), "a");
    assert!(view.resolve_uri("me", "odd:thing").is_none());
    let b = UpstreamName::new("b");
    assert_eq!(view.hand_out_uris("me", &b)("odd:thing"), None);
    assert_eq!(view.resolve_uri("me", "odd:thing").expect("learnt").upstream, &b);
    assert!(view.resolve_uri("you", "odd:thing").is_none());
    let a = UpstreamName::new("a");
    assert_eq!(view.hand_out_uris("me", &a)("odd:thing").as_deref(), Some("switchyard://a/odd:thing"));
    // Knowledge outlives the snapshot.
    let next = state.snapshot();
    assert_eq!(next.view(None).expect("a view").resolve_uri("me", "odd:thing").expect("learnt").upstream, &b);
}

#[test]
fn s_res_04_a_server_that_is_away_makes_no_other_the_only_one() {
    let mut state = state(&settings(&[("a", "a"), ("b", "b")]));
    let (a, b) = (UpstreamName::new("a"), UpstreamName::new("b"));
    let leads = |state: &mut CatalogueState| {
        let snapshot = state.snapshot();
        let view = snapshot.view(None).expect("a view");
        view.resolve_uri("me", "odd:thing").map(|route| route.upstream.clone())
    };
    state.lists_fetched(&a, resources(&[], &[]));
    assert_eq!(leads(&mut state), None, "b was not heard of yet");
    state.upstream_lost(&b);
    assert_eq!(leads(&mut state), None, "b is absent");
    // Its resources could not be listed; that is not to have none.
    let unknown = FetchedLists::default().with(ListKind::Tools, listed(ListKind::Tools, &["x"]));
    state.lists_fetched(&b, unknown);
    assert_eq!(leads(&mut state), None, "b may have resources");
    assert_ne!(state.lists_fetched(&b, tools(&["x"])), Urgency::None, "that is news");
    assert_eq!(leads(&mut state), Some(a.clone()), "b has none");
    state.upstream_lost(&b);
    assert_eq!(leads(&mut state), None, "b may come back with some");
    state.lists_fetched(&b, tools(&["x"]));
    state.upstream_lost(&a);
    assert_eq!(leads(&mut state), Some(a), "b has none, so it can only be a's");
}

#[test]
fn s_comp_references_lead_to_prompts_templates_and_uris() {
    let mut state = state(&settings(&[("a", "a"), ("b", "b")]));
    let lists =
        || resources(&["x:1"], &["db://{t}"]).with(ListKind::Prompts, listed(ListKind::Prompts, &["p.q"]));
    let snapshot = hear(&mut state, vec![("a", lists()), ("b", lists())]);
    let view = snapshot.view(None).expect("a view");
    for (reference, expected) in [
        (r#"{"type":"ref/prompt","name":"b__p_q"}"#, Some(("b", "p.q", "name"))),
        (r#"{"type":"ref/resource","uri":"db://{t}"}"#, Some(("a", "db://{t}", "uri"))),
        (r#"{"type":"ref/resource","uri":"switchyard://b/db://{t}"}"#, Some(("b", "db://{t}", "uri"))),
        (r#"{"type":"ref/resource","uri":"x:1"}"#, Some(("a", "x:1", "uri"))),
        (r#"{"type":"ref/prompt","name":"p.q"}"#, None),
        (r#"{"type":"ref/resource","uri":"unknown:{t}"}"#, None),
        (r#"{"type":"ref/other","uri":"x:1"}"#, None),
        (r#"{"name":"b__p_q"}"#, None),
    ] {
        let object =
            Object::parse(Bytes::from_static(reference.as_bytes()), Limits::default()).expect("valid");
        let route = view.resolve_completion_ref("", &object);
        let found = route.as_ref().map(|route| (route.upstream.as_str(), &*route.local, route.member));
        assert_eq!(found, expected, "{reference}");
    }
}

#[test]
fn s_tool_15_the_last_good_list_stays_until_the_upstream_is_forgotten() {
    let mut state = state(&settings(&[("a", "a"), ("b", "b")]));
    let (a, b) = (UpstreamName::new("a"), UpstreamName::new("b"));
    assert!(state.snapshot().is_awaiting(None));
    assert_eq!(state.lists_fetched(&a, tools(&["x"])), Urgency::Now);
    assert_eq!(state.upstream_lost(&b), (Urgency::Now, None));
    assert!(!state.snapshot().is_awaiting(None));
    // A failed re-listing changes nothing; the same list again is no news.
    assert_eq!(state.lists_fetched(&a, FetchedLists::default()), Urgency::None);
    assert_eq!(state.lists_fetched(&a, tools(&["x"])), Urgency::None);
    let (_, loss) = state.upstream_lost(&a);
    let stale = state.snapshot();
    assert_eq!(shown(stale.view(None).expect("a view"), ListKind::Tools), ["a__x"]);
    let freshness: Vec<_> = stale.upstreams().iter().map(|report| report.freshness).collect();
    assert_eq!(freshness, [Freshness::Stale, Freshness::Absent]);
    // It returns, and the clock of the first loss no longer counts.
    state.lists_fetched(&a, FetchedLists::default());
    let (_, second) = state.upstream_lost(&a);
    assert_eq!(state.forget(&a, loss.expect("a loss")), Urgency::None);
    assert_eq!(state.forget(&a, second.expect("a loss")), Urgency::Soon);
    assert!(shown(state.snapshot().view(None).expect("a view"), ListKind::Tools).is_empty());
}

#[test]
fn an_operator_sees_what_is_missing_and_why() {
    let mut state = state(&settings(&[("a", "a")]));
    let items = [item(ListKind::Tools, "good"), r#"{"name":"bad"}"#.to_owned()];
    let lists = FetchedLists::default()
        .with(ListKind::Tools, Fetched::Listed(listing_of(ListKind::Tools, &items)))
        .with(ListKind::Prompts, Fetched::Unsupported);
    let snapshot = hear(&mut state, vec![("a", lists)]);
    let report = &snapshot.upstreams()[0];
    assert_eq!(report.counts, [Some(1), None, None, None]);
    assert_eq!(report.left_out[0].name, "bad");
}

#[test]
fn s_cache_04_a_change_doubts_what_was_asked_for_before_it_and_nothing_else() {
    let mut state = state(&settings(&[("a", "a")]));
    let (upstream, start) = (UpstreamName::new("a"), Instant::now() - Duration::from_secs(1));
    let at = |ms| start + Duration::from_millis(ms);
    let fetched = |state: &mut CatalogueState, begun: Instant| {
        state.lists_fetched(
            &upstream,
            FetchedLists::begun_at(begun).with(ListKind::Tools, listed(ListKind::Tools, &["x"])),
        );
        state.snapshot()
    };
    let is_good =
        |snapshot: &Snapshot| !snapshot.view(None).expect("a view").lifetime(ListKind::Tools).ttl.is_zero();
    let snapshot = fetched(&mut state, at(0));
    assert!(is_good(&snapshot));
    for (told, begun, good) in
        [(at(1), at(2), true), (at(3), at(3), true), (at(5), at(4), false), (at(5), at(6), true)]
    {
        state.revoke(&upstream, &[ListKind::Tools], told);
        assert_eq!(is_good(&fetched(&mut state, begun)), good, "told {told:?}, asked {begun:?}");
    }
    // The word of a change may come in after the list that was fetched because of it.
    state.revoke(&upstream, &[ListKind::Tools], at(5));
    assert!(is_good(&state.snapshot()));
    state.revoke(&upstream, &[ListKind::Tools], at(7));
    assert!(!is_good(&state.snapshot()));
}
