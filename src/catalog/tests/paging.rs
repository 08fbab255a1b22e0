//! Pages and their cursors.

use proptest::prelude::*;

use super::*;
use crate::catalog::pages::BadCursor;
use crate::protocol::era::{REVISIONS, Revision};

const NEW: Revision = Revision::V2026_07_28;

fn walk(view: &View, kind: ListKind, revision: Revision) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = view.page(kind, revision, cursor.as_deref()).expect("a page");
        let (names, next) = read_page(&page, kind);
        all.extend(names);
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("t{at}")).collect()
}

fn with_tools(state: &mut CatalogueState, count: usize) -> Arc<View> {
    let names = names(count);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    hear(state, vec![("a", tools(&names))]).view(None).expect("a view").clone()
}

#[test]
fn s_page_01_a_walk_meets_every_item_once_in_every_revision() {
    for count in [0, 1, 3, 4, 6, 7] {
        let view = with_tools(&mut state(&settings(&[("a", "a")])), count);
        for revision in REVISIONS {
            let expected: Vec<_> = names(count).iter().map(|name| format!("a__{name}")).collect();
            assert_eq!(walk(&view, ListKind::Tools, revision), expected);
        }
    }
}

#[test]
fn s_page_01_an_empty_list_is_an_answer() {
    let view = state(&settings(&[])).snapshot().view(None).expect("a view").clone();
    assert_eq!(view.page(ListKind::Templates, NEW, None).expect("a page"), r#"{"resourceTemplates":[]}"#);
}

#[test]
fn s_page_02_a_cursor_is_good_for_its_endpoint_and_list_alone() {
    let mut settings = settings(&[("a", "a")]);
    settings.profiles = vec![profile("p", &["a"], None, &[])];
    let mut state = state(&settings);
    let many = ["1", "2", "3", "4"];
    let lists = tools(&many).with(ListKind::Prompts, listed(ListKind::Prompts, &many));
    let snapshot = hear(&mut state, vec![("a", lists)]);
    let view = snapshot.view(None).expect("a view");
    let page = view.page(ListKind::Tools, NEW, None).expect("a page");
    let cursor = read_page(&page, ListKind::Tools).1.expect("more");
    assert!(view.page(ListKind::Tools, NEW, Some(&cursor)).is_ok());
    // The same cursor serves a client of another revision: it names a place, not a rendering.
    assert!(view.page(ListKind::Tools, Revision::V2024_11_05, Some(&cursor)).is_ok());
    assert_eq!(view.page(ListKind::Prompts, NEW, Some(&cursor)), Err(BadCursor));
    let other = snapshot.view(Some("p")).expect("a profile");
    assert_eq!(other.page(ListKind::Tools, NEW, Some(&cursor)), Err(BadCursor));
    for bad in ["", "3", "a__3", &cursor[1..], &format!("{cursor}A")] {
        assert_eq!(view.page(ListKind::Tools, NEW, Some(bad)), Err(BadCursor), "{bad}");
    }
    let foreign = with_tools(&mut super::state(&settings), 4);
    assert_eq!(foreign.page(ListKind::Tools, NEW, Some(&cursor)), Err(BadCursor));
}

#[test]
fn s_page_03_a_cursor_lasts_while_the_list_does() {
    let mut state = state(&settings(&[("a", "a"), ("b", "b")]));
    let view = with_tools(&mut state, 5);
    let cursor = read_page(&view.page(ListKind::Tools, NEW, None).expect("a page"), ListKind::Tools).1;
    let cursor = cursor.expect("more");
    // News that leaves this list alone leaves the cursor alone.
    let after = hear(&mut state, vec![("b", only(ListKind::Prompts, &["p"]))]);
    assert!(after.view(None).expect("a view").page(ListKind::Tools, NEW, Some(&cursor)).is_ok());
    let after = with_tools(&mut state, 6);
    assert_eq!(after.page(ListKind::Tools, NEW, Some(&cursor)), Err(BadCursor));
}

#[test]
fn s_tool_06_a_page_is_rendered_once_and_shared() {
    let mut state = state(&settings(&[("a", "a")]));
    let view = with_tools(&mut state, 5);
    let first = view.page(ListKind::Tools, NEW, None).expect("a page");
    for _ in 0..100 {
        let again = view.page(ListKind::Tools, NEW, None).expect("a page");
        assert_eq!(again.as_ptr(), first.as_ptr(), "the same memory, not a copy");
    }
    let other = view.page(ListKind::Tools, Revision::V2024_11_05, None).expect("a page");
    assert_ne!(other.as_ptr(), first.as_ptr());
    // A snapshot that shows the same shows the same bytes.
    let next = state.snapshot().view(None).expect("a view").page(ListKind::Tools, NEW, None).expect("a page");
    assert_eq!(next.as_ptr(), first.as_ptr());
}

#[test]
fn s_hdr_07_definitions_keep_their_annotations_and_their_bytes() {
    let tool = r#"{"inputSchema":{ "properties":{"q":{"type":"string","x-mcp-header":"Query"}},"type":"object"}, "name":"t" , "vendor":1.50}"#;
    let mut state = state(&settings(&[("a", "")]));
    let lists = FetchedLists::default()
        .with(ListKind::Tools, Fetched::Listed(listing_of(ListKind::Tools, &[tool.to_owned()])));
    let view = hear(&mut state, vec![("a", lists)]).view(None).expect("a view").clone();
    assert_eq!(view.page(ListKind::Tools, NEW, None).expect("a page"), format!(r#"{{"tools":[{tool}]}}"#));
}

#[test]
fn s_res_10_a_tools_user_interface_is_named_as_its_resource_is() {
    let tool = |name: &str| {
        format!(r#"{{"name":"{name}","inputSchema":{{}},"_meta":{{"ui":{{"resourceUri":"ui://chart"}}}}}}"#)
    };
    let lists = || {
        resources(&["ui://chart"], &[])
            .with(ListKind::Tools, Fetched::Listed(listing_of(ListKind::Tools, &[tool("t")])))
    };
    let mut state = state(&settings(&[("a", "a"), ("b", "b")]));
    let before = hear(&mut state, vec![("b", lists())]);
    let before = before.view(None).expect("a view").page(ListKind::Tools, NEW, None).expect("a page");
    assert!(!before.windows(13).any(|part| part == b"switchyard://"));
    let after = hear(&mut state, vec![("a", resources(&["ui://chart"], &[]))]);
    let after = after.view(None).expect("a view").page(ListKind::Tools, NEW, None).expect("a page");
    let text = String::from_utf8(after.to_vec()).expect("UTF-8");
    assert!(text.contains(r#""resourceUri":"switchyard://b/ui://chart""#), "{text}");
}

#[test]
fn s_res_10_only_tools_that_a_view_shows_lead_to_their_resources() {
    let tool = |name: &str| {
        format!(r#"{{"name":"{name}","inputSchema":{{}},"_meta":{{"ui/resourceUri":"ui://{name}"}}}}"#)
    };
    let tools = [tool("t"), tool("hidden")];
    let lists =
        resources(&[], &[]).with(ListKind::Tools, Fetched::Listed(listing_of(ListKind::Tools, &tools)));
    let mut settings = settings(&[("a", "a"), ("b", "b")]);
    settings.profiles = vec![profile("some", &["a", "b"], None, &["b__hidden"])];
    let mut state = state(&settings);
    let snapshot = hear(&mut state, vec![("a", resources(&[], &[])), ("b", lists)]);
    let (all, some) = (snapshot.view(None).expect("a view"), snapshot.view(Some("some")).expect("a profile"));
    let leads = |view: &View, uri: &str| view.resolve_uri("", uri).map(|route| route.upstream.to_string());
    assert_eq!(leads(all, "ui://t").as_deref(), Some("b"));
    assert_eq!(leads(all, "ui://hidden").as_deref(), Some("b"));
    assert_eq!(leads(some, "ui://t").as_deref(), Some("b"));
    assert_eq!(leads(some, "ui://hidden"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn s_page_02_no_altered_cursor_opens(at in any::<prop::sample::Index>(), bit in 0_u32..7) {
        let view = with_tools(&mut state(&settings(&[("a", "a")])), 4);
        let page = view.page(ListKind::Tools, NEW, None).expect("a page");
        let mut cursor = read_page(&page, ListKind::Tools).1.expect("more").into_bytes();
        let at = at.index(cursor.len());
        cursor[at] ^= 1 << bit;
        let cursor = String::from_utf8(cursor).expect("ASCII");
        prop_assert_eq!(view.page(ListKind::Tools, NEW, Some(&cursor)), Err(BadCursor));
    }

    #[test]
    fn s_tool_02_a_merged_view_has_unique_valid_names(
        lists in prop::collection::vec(prop::collection::btree_set("[a-c._]{1,5}|[a-c.]{60,80}", 0..12), 1..4),
    ) {
        let keys = [("a", "a"), ("b", "a__a"), ("c", "c")];
        let mut state = state(&settings(&keys[..lists.len()]));
        let news = keys.iter().zip(&lists).map(|((key, _), names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (*key, tools(&names))
        });
        let news = news.collect();
        let snapshot = hear(&mut state, news);
        let view = snapshot.view(None).expect("a view");
        let shown = shown(view, ListKind::Tools);
        let unique: std::collections::HashSet<_> = shown.iter().collect();
        prop_assert_eq!(unique.len(), shown.len());
        prop_assert_eq!(shown.len() + view.left_out().len(), lists.iter().map(|names| names.len()).sum::<usize>());
        for name in &shown {
            prop_assert!(name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
            prop_assert_eq!(view.resolve_tool(name).expect("listed").public.as_str(), name);
        }
    }
}
