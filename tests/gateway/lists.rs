//! Pages of merged lists, and how clients learn that lists changed (S-PAGE, S-LIST).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::{
    Client, HANDSHAKE, STATELESS, Transport, Upstream, gateway, http_upstream, stdio_upstream, upstream,
    within,
};

async fn walk(client: &Client, list: &str) -> (Vec<String>, Vec<Answer>) {
    let method = format!("{list}/list");
    let (mut names, mut pages) = (Vec::new(), Vec::new());
    let mut params = json!({});
    loop {
        let page = client.request(&method, params).await;
        names.extend(page.names(list));
        let cursor = page.result().get("nextCursor").cloned();
        pages.push(page);
        assert!(pages.len() < 100, "the walk never ends");
        match cursor {
            Some(cursor) => params = json!({ "cursor": cursor }),
            None => return (names, pages),
        }
    }
}

async fn three_upstreams() -> [Upstream; 3] {
    let many = |name: &str, transport| {
        let mut plan = upstream(name, HANDSHAKE, transport);
        for n in 0..5 {
            plan = plan.tool(&format!("t{n}"));
        }
        plan.show(|shown| shown.page = Some(2))
    };
    [
        many("one", Transport::Http).start().await,
        many("two", Transport::Stdio).start().await,
        many("three", Transport::Http).start().await,
    ]
}

fn expected() -> Vec<String> {
    let of = |name: &str| ["echo", "t0", "t1", "t2", "t3", "t4"].map(|tool| format!("{name}__{tool}"));
    ["one", "two", "three"].into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn s_page_01_02_03_walks_over_all_upstreams_are_whole_and_cursors_are_sealed() {
    let upstreams = three_upstreams().await;
    let gateway = gateway()
        .with("one", &upstreams[0])
        .with("two", &upstreams[1])
        .with("three", &upstreams[2])
        .config("bounds: { page_size: 4 }\nprofiles: { some: { servers: [one, two] } }")
        .start()
        .await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        crate::support::eventually("all eighteen tools", || async {
            (walk(&client, "tools").await.0.len() == 18).then_some(())
        })
        .await;
        let (names, pages) = walk(&client, "tools").await;
        assert_eq!(names, expected(), "no gap, no duplicate, in configured order");
        assert!(pages.iter().rev().skip(1).all(|page| page.names("tools").len() == 4), "pages are full");
        let cursors: Vec<String> =
            pages.iter().filter_map(|page| page.result()["nextCursor"].as_str().map(str::to_owned)).collect();
        assert!(cursors.iter().all(|cursor| !cursor.contains("marker-cursor")), "{cursors:?}");
        let again = walk(&client, "tools").await.0;
        assert_eq!(again, names);

        let cursor = &cursors[0];
        let mut refused: Vec<(&str, Value)> = vec![
            ("prompts/list", json!(cursor)),
            ("resources/list", json!(cursor)),
            ("tools/list", json!("made up")),
            ("tools/list", json!("marker-cursor-2")),
            ("tools/list", json!("")),
            ("tools/list", json!(format!("{cursor}A"))),
            ("tools/list", json!(&cursor[..cursor.len() - 1])),
        ];
        for at in [0, cursor.len() / 2, cursor.len() - 2] {
            let mut bytes = cursor.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            refused.push(("tools/list", json!(String::from_utf8(bytes).expect("cursors are ASCII"))));
        }
        for (method, cursor) in refused {
            client.request(method, json!({ "cursor": cursor })).await.expect_error(200, -32602);
        }
        let mut elsewhere = Client::stateless(&gateway.endpoint.at("/mcp/some"), json!({}));
        if revision == HANDSHAKE {
            elsewhere = Client::handshake(&gateway.endpoint.at("/mcp/some"), HANDSHAKE, json!({})).await;
        }
        elsewhere.request("tools/list", json!({ "cursor": cursor })).await.expect_error(200, -32602);
    }
}

#[tokio::test]
async fn s_page_03_a_change_in_the_middle_of_a_walk_never_shows_a_name_twice() {
    let one = http_upstream("one").tool("a").tool("b").tool("c").start().await;
    let gateway =
        gateway().with("one", &one).config("bounds: { page_size: 2, change_debounce: 50ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "one__a"]).await;
    let first = client.request("tools/list", json!({})).await;
    one.show(|shown| shown.tools.insert(0, json!({ "name": "new", "inputSchema": { "type": "object" } })));
    one.until_standing().await;
    one.announce("notifications/tools/list_changed", json!({})).await;
    client.until_tools(&["one__new"]).await;
    let second = client.request("tools/list", json!({ "cursor": first.result()["nextCursor"] })).await;
    match second.json.get("error") {
        Some(error) => assert_eq!(error["code"], -32602, "{}", second.raw),
        None => {
            let seen = first.names("tools");
            assert!(
                second.names("tools").iter().all(|name| !seen.contains(name)),
                "{seen:?} then {}",
                second.raw
            );
        }
    }
}

#[tokio::test]
async fn s_page_04_upstream_cursors_are_opaque_and_endless_ones_are_cut() {
    let empty_cursor =
        http_upstream("one").tool("a").tool("b").show(|shown| shown.page = Some(1)).start().await;
    let looping = http_upstream("two")
        .on("tools/list", |mut call| async move {
            let tools = json!([{ "name": "echo", "inputSchema": { "type": "object" } }]);
            call.result(json!({ "tools": tools, "nextCursor": "the same again" })).await;
        })
        .start()
        .await;
    let endless = stdio_upstream("three")
        .on("tools/list", |mut call| async move {
            let n =
                call.params()["cursor"].as_str().and_then(|cursor| cursor.parse::<u32>().ok()).unwrap_or(0);
            let tools = json!([{ "name": format!("t{n}"), "inputSchema": { "type": "object" } }]);
            call.result(json!({ "tools": tools, "nextCursor": (n + 1).to_string() })).await;
        })
        .start()
        .await;
    let gateway = gateway()
        .with("one", &empty_cursor)
        .with("two", &looping)
        .with("three", &endless)
        .config("bounds: { list_pages: 8 }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    let listing = client.until_tools(&["one__echo", "one__a", "one__b", "two__echo", "three__t0"]).await;
    let names = listing.names("tools");
    assert!(names.iter().filter(|name| name.starts_with("three__")).count() <= 8, "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("two__")).count(), 1, "{names:?}");
}

#[tokio::test]
async fn s_list_01_03_a_change_upstream_is_told_once_and_can_be_seen_at_once() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.text();
        let mut stream = client.standalone_stream().await;
        upstream.until_standing().await;
        stream.messages_within(Duration::from_millis(500)).await;
        for (kind, list, name) in [
            ("tools", "tools", "one__new"),
            ("prompts", "prompts", "one__new"),
            ("resources", "resources", "new"),
        ] {
            upstream.show(|shown| match list {
                "tools" => shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })),
                "prompts" => shown.prompts.push(json!({ "name": "new" })),
                _ => shown.resources.push(json!({ "uri": "test://one/new", "name": "new" })),
            });
            upstream.announce(&format!("notifications/{kind}/list_changed"), json!({})).await;
            stream.until_method(&format!("notifications/{kind}/list_changed")).await;
            let listing = client.request(&format!("{list}/list"), json!({})).await;
            assert!(
                listing.names(list).contains(&name.to_owned()),
                "told before it could be seen: {}",
                listing.raw
            );
            let more = stream.messages_within(Duration::from_millis(700)).await;
            assert!(more.is_empty(), "{kind}: told more than once: {more:?}");
        }
    }
}

#[tokio::test]
async fn s_list_01_a_lost_upstream_leaves_the_lists_and_comes_back() {
    let upstream = stdio_upstream("one").start().await;
    let mut other = http_upstream("two").start().await;
    let gateway = gateway()
        .with("one", &upstream)
        .with("two", &other)
        .config("bounds: { backoff_first: 100ms, backoff_longest: 300ms }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "two__echo"]).await;
    other.kill().await;
    // Whether its tools stay listed for a grace time or not, calls fail clearly and the other upstream works.
    let answer = client.call("two__echo", json!({})).await;
    let failed = answer.json.get("error").is_some() || answer.result()["isError"] == true;
    assert!(failed, "{}", answer.raw);
    assert_eq!(client.call("one__echo", json!({})).await.text(), "one echoes {}");
}

#[tokio::test]
async fn s_list_02_bursts_are_told_as_one_and_hidden_changes_not_at_all() {
    let seen = http_upstream("seen").start().await;
    let hidden = http_upstream("hidden").start().await;
    let gateway = gateway()
        .with("seen", &seen)
        .with("hidden", &hidden)
        .config("profiles: { part: { servers: [seen] } }")
        .start()
        .await;
    let whole = gateway.handshake(HANDSHAKE).await;
    whole.until_tools(&["seen__echo", "hidden__echo"]).await;
    let part = Client::handshake(&gateway.endpoint.at("/mcp/part"), HANDSHAKE, json!({})).await;
    part.until_tools(&["seen__echo"]).await;
    let (mut whole_stream, mut part_stream) =
        (whole.standalone_stream().await, part.standalone_stream().await);
    seen.until_standing().await;
    hidden.until_standing().await;
    whole_stream.messages_within(Duration::from_millis(500)).await;
    part_stream.messages_within(Duration::from_millis(10)).await;

    for n in 0..50 {
        hidden.show(|shown| {
            shown.tools.push(json!({ "name": format!("t{n}"), "inputSchema": { "type": "object" } }));
        });
        hidden.announce("notifications/tools/list_changed", json!({})).await;
    }
    whole.until_tools(&["hidden__t49"]).await;
    let told = whole_stream.messages_within(Duration::from_millis(1_000)).await;
    assert!((1..=5).contains(&told.len()), "50 changes at once were told {} times", told.len());
    part_stream.expect_quiet(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn s_list_04_upstreams_that_never_notify_are_listed_again_by_themselves() {
    let upstream =
        http_upstream("one").capabilities(json!({ "tools": {} })).without_standing_stream().start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { relist_every: 300ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = client.standalone_stream().await;
    upstream.show(|shown| shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })));
    stream.until_method("notifications/tools/list_changed").await;
    client.until_tools(&["one__echo", "one__new"]).await;
}

#[tokio::test]
async fn s_list_04_who_only_listens_is_told_of_what_never_notifies() {
    let upstream =
        http_upstream("one").capabilities(json!({ "tools": {} })).without_standing_stream().start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { relist_every: 300ms }").start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let mut stream = client.open("subscriptions/listen", wanted).await;
    stream.until_method("notifications/subscriptions/acknowledged").await;
    // Whoever asked before he listened counted as somebody for the time of one more fetch.
    let listed = upstream.received("tools/list").len();
    upstream.until_received("tools/list", listed + 2).await;
    upstream.show(|shown| shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })));
    stream.until_method("notifications/tools/list_changed").await;
}

#[tokio::test]
async fn s_tool_15_a_list_that_hangs_withholds_no_other_list_of_its_server() {
    let upstream = http_upstream("one")
        .on("prompts/list", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    within(Duration::from_secs(5), "the tools", client.until_tools(&["one__echo"])).await;
    within(Duration::from_secs(5), "the resources", client.until_listed("resources", &["static"])).await;
    upstream.until_standing().await;
    upstream.show(|shown| shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })));
    upstream.announce("notifications/tools/list_changed", json!({})).await;
    within(Duration::from_secs(5), "the new tool", client.until_tools(&["one__echo", "one__new"])).await;
}

#[tokio::test]
async fn s_list_04_a_server_that_tells_of_a_change_whenever_it_is_listed_is_not_listed_for_ever() {
    let upstream = stdio_upstream("one")
        .on("tools/list", |mut call| async move {
            call.notify("notifications/tools/list_changed", json!({})).await;
            call.default().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    upstream.until_received("tools/list", 3).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let listed = upstream.received("tools/list").len();
    assert!(listed <= 10, "{listed} lists, and nothing new in any");
    upstream.show(|shown| shown.tools.push(json!({ "name": "new", "inputSchema": { "type": "object" } })));
    within(Duration::from_secs(2), "who asks", gateway.stateless().until_tools(&["one__new"])).await;
}
