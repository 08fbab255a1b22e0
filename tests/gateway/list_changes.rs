//! Lists further on: every kind of list in pages, when changes are told, endless lists (S-PAGE, S-LIST, F12).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    HANDSHAKE, HANDSHAKE_REVISIONS, STATELESS, Transport, eventually, gateway, http_upstream, stdio_upstream,
    upstream, within,
};

const CHANGED: &str = "notifications/tools/list_changed";

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

#[tokio::test]
async fn s_page_01_every_kind_of_list_is_walked_whole_in_every_revision() {
    let many = |name: &'static str, transport| {
        upstream(name, HANDSHAKE, transport).show(move |shown| {
            for n in 0..4 {
                shown.prompts.push(json!({ "name": format!("p{n}") }));
                shown.resources.push(json!({ "uri": format!("test://{name}/r{n}"), "name": format!("{name}-r{n}") }));
                shown.templates.push(json!({ "uriTemplate": format!("test://{name}/t{n}/{{id}}"), "name": format!("{name}-t{n}") }));
                shown.tools.push(tool(&format!("t{n}")));
            }
            shown.page = Some(3);
        })
    };
    let (one, two) =
        (many("one", Transport::Http).start().await, many("two", Transport::Stdio).start().await);
    let gateway =
        gateway().with("one", &one).with("two", &two).config("bounds: { page_size: 3 }").start().await;
    for revision in HANDSHAKE_REVISIONS.into_iter().chain([STATELESS]) {
        let client = gateway.client(revision).await;
        for (list, method) in [
            ("tools", "tools/list"),
            ("prompts", "prompts/list"),
            ("resources", "resources/list"),
            ("resourceTemplates", "resources/templates/list"),
        ] {
            let names = eventually("ten items", || async {
                let (mut names, mut params) = (Vec::new(), json!({}));
                loop {
                    let page = client.request(method, params).await;
                    if page.json["error"]["code"] == -32602 {
                        // The lists were still filling; the walk begins again (S-PAGE-03).
                        break None;
                    }
                    assert!(page.names(list).len() <= 3, "{revision} {list}: pages are small");
                    names.extend(page.names(list));
                    match page.result().get("nextCursor") {
                        Some(cursor) => params = json!({ "cursor": cursor }),
                        None => break (names.len() == 10).then_some(names),
                    }
                }
            })
            .await;
            let mut distinct = names.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let expected = if matches!(list, "tools" | "prompts") { 10 } else { 9 };
            assert_eq!(
                distinct.len(),
                expected,
                "only `static` and `item` are called alike: {revision} {names:?}"
            );
        }
    }
}

#[tokio::test]
async fn s_list_01_an_upstream_that_comes_or_goes_is_told() {
    let late = http_upstream("late").reserve();
    let there = http_upstream("there").start().await;
    let gateway = gateway()
        .with("there", &there)
        .with_server("late", late.settings())
        .config("bounds: { backoff_first: 100ms, backoff_longest: 300ms, change_debounce: 100ms }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["there__echo"]).await;
    let mut stream = client.standalone_stream().await;
    stream.messages_within(Duration::from_millis(500)).await;
    let _late = late.start().await;
    stream.until_method(CHANGED).await;
    let listing = client.request("tools/list", json!({})).await;
    assert_eq!(listing.names("tools"), ["there__echo", "late__echo"], "what is told can be seen (S-LIST-03)");
}

#[tokio::test]
async fn s_list_02_fifty_changes_in_a_moment_are_told_once_and_soon() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        upstream.until_standing().await;
        stream.messages_within(Duration::from_millis(700)).await;
        upstream.show(|shown| shown.tools.extend((0..50).map(|n| tool(&format!("t{n}")))));
        for _ in 0..50 {
            upstream.announce(CHANGED, json!({})).await;
        }
        let told = stream.until_method(CHANGED);
        within(Duration::from_secs(3), "the change to be told soon", told).await;
        let listing = client.request("tools/list", json!({})).await;
        assert_eq!(listing.names("tools").len(), 51, "all of it can be seen at once");
        let more = stream.messages_within(Duration::from_millis(1_200)).await;
        assert!(more.is_empty(), "{transport:?}: told again and again: {more:?}");
    }
}

#[tokio::test]
async fn s_list_02_a_change_that_changes_nothing_visible_is_no_news() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway()
        .with("one", &upstream)
        .config("profiles: { quiet: { tools: { deny: [one__secret] } } }\nbounds: { change_debounce: 100ms }")
        .start()
        .await;
    let whole = gateway.handshake(HANDSHAKE).await;
    let quiet =
        crate::support::Client::handshake(&gateway.endpoint.at("/mcp/quiet"), HANDSHAKE, json!({})).await;
    whole.until_tools(&["one__echo"]).await;
    let (mut to_whole, mut to_quiet) = (whole.standalone_stream().await, quiet.standalone_stream().await);
    upstream.until_standing().await;
    to_whole.messages_within(Duration::from_millis(500)).await;
    to_quiet.messages_within(Duration::from_millis(10)).await;
    upstream.show(|shown| shown.tools.push(tool("secret")));
    upstream.announce(CHANGED, json!({})).await;
    to_whole.until_method(CHANGED).await;
    to_quiet.expect_quiet(Duration::from_millis(500)).await;
    // Neither is a word about a list that stayed as it was.
    upstream.announce(CHANGED, json!({})).await;
    to_whole.expect_quiet(Duration::from_millis(700)).await;
}

#[tokio::test]
async fn s_list_04_changes_told_by_servers_that_never_promised_to_are_not_followed() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport)
            .capabilities(json!({ "tools": {}, "prompts": { "listChanged": false } }))
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config("bounds: { relist_every: 10m }").start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        client.call("one__echo", json!({})).await.text();
        let call = upstream.until_received("tools/call", 1).await;
        upstream.until_standing_for(&call).await;
        stream.messages_within(Duration::from_millis(500)).await;
        let before = upstream.received("tools/list").len() + upstream.received("prompts/list").len();
        for kind in ["tools", "prompts"] {
            upstream.announce(&format!("notifications/{kind}/list_changed"), json!({})).await;
        }
        stream.expect_quiet(Duration::from_millis(700)).await;
        let after = upstream.received("tools/list").len() + upstream.received("prompts/list").len();
        assert_eq!(after, before, "{transport:?}");
    }
}

#[tokio::test]
async fn f12_an_endless_list_is_cut_and_said_so_and_holds_nobody_up() {
    let endless = stdio_upstream("endless")
        .on("tools/list", |mut call| async move {
            let n = call.params()["cursor"].as_str().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
            let tools: Vec<Value> = (0..10).map(|at| tool(&format!("t{}", n * 10 + at))).collect();
            let result = json!({ "tools": tools, "nextCursor": (n + 1).to_string() });
            call.result(result).await;
        })
        .start()
        .await;
    let calm = http_upstream("calm").start().await;
    let gateway = gateway()
        .with("endless", &endless)
        .with("calm", &calm)
        .config("bounds: { list_items: 35, list_pages: 1000 }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    let listing = within(
        Duration::from_secs(5),
        "the lists of both",
        client.until_tools(&["calm__echo", "endless__t0"]),
    )
    .await;
    let cut = listing.names("tools").iter().filter(|name| name.starts_with("endless__")).count();
    assert!((10..=35).contains(&cut), "{cut} items of an endless list");
    assert!(endless.received("tools/list").len() < 20, "the walk ends where the limit is");
    eventually("a word in the log that the list is partial", || async {
        let log = gateway.stderr();
        log.lines().any(|line| line.contains("endless") && line.contains("WARN")).then_some(())
    })
    .await;
    let called = client.call("endless__t3", json!({}));
    within(Duration::from_secs(5), "a listed tool of the cut list", called).await;
}

#[tokio::test]
async fn f12_ten_servers_of_a_thousand_tools_are_one_list() {
    let mut plan = gateway();
    let mut upstreams = Vec::new();
    for s in 0..10 {
        let many = http_upstream(&format!("s{s}"))
            .show(|shown| shown.tools = (0..1_000).map(|n| tool(&format!("t{n}"))).collect())
            .quiet()
            .start()
            .await;
        plan = plan.with(&format!("s{s}"), &many);
        upstreams.push(many);
    }
    let gateway = plan.start().await;
    let client = gateway.handshake(HANDSHAKE).await.quiet();
    let names = eventually("ten thousand tools", || async {
        let (mut names, mut params) = (Vec::new(), json!({}));
        loop {
            let page = client.request("tools/list", params).await;
            if page.json["error"]["code"] == -32602 {
                // The lists were still filling; the walk begins again (S-PAGE-03).
                break None;
            }
            names.extend(page.names("tools"));
            match page.result().get("nextCursor") {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => break (names.len() == 10_000).then_some(names),
            }
        }
    })
    .await;
    assert_eq!((names[0].as_str(), names[9_999].as_str()), ("s0__t0", "s9__t999"), "in configured order");
}

#[tokio::test]
async fn s_list_01_who_has_read_the_resources_is_still_told_of_changed_templates() {
    const CHANGED: &str = "notifications/resources/list_changed";
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let witness = gateway.handshake(HANDSHAKE).await;
    witness.until_tools(&["one__echo"]).await;
    let mut seen = witness.standalone_stream().await;
    upstream.until_standing().await;
    seen.messages_within(Duration::from_millis(700)).await;
    // The first reads only the resources, the second reads both, the third fails to read the templates.
    let clients = [
        gateway.handshake(HANDSHAKE).await,
        gateway.handshake(HANDSHAKE).await,
        gateway.handshake(HANDSHAKE).await,
    ];
    let template = json!({ "uriTemplate": "new://{id}", "name": "new" });
    upstream.show(|shown| shown.templates.push(template));
    upstream.announce(CHANGED, json!({})).await;
    seen.until_method(CHANGED).await;
    for (n, client) in clients.iter().enumerate() {
        client.request("resources/list", json!({})).await.result();
        match n {
            1 => _ = client.request("resources/templates/list", json!({})).await.result(),
            2 => _ = client.request("resources/templates/list", json!({ "cursor": "x" })).await.error(),
            _ => {}
        }
        let mut stream = client.standalone_stream().await;
        match n {
            1 => stream.never(CHANGED, Duration::from_millis(500)).await,
            _ => _ = stream.until_method(CHANGED).await,
        }
    }
}
