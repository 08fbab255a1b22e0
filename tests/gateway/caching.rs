//! What is kept, for whom and how long, and what clients are told of it (S-CACHE, S-DISC).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::upstream::UpstreamPlan;
use crate::support::{
    Call, Client, Gateway, HANDSHAKE, STATELESS, TRANSPORTS, Transport, eventually, gateway, http_upstream,
    stateless_upstream, upstream, within,
};

const STATIC: &str = "test://one/static";

fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// A result of a stateless upstream that says this of how long it is good.
fn lasting(call: &Call, result: Value, ttl: impl Into<Value>, scope: &str) -> Value {
    let mut result = call.complete(result);
    result["ttlMs"] = ttl.into();
    result["cacheScope"] = json!(scope);
    result
}

/// Lists one tool, called after how often it was asked, and says this of it.
fn listing(plan: UpstreamPlan, ttl: i64, scope: &'static str) -> UpstreamPlan {
    plan.on("tools/list", move |mut call| async move {
        let tools = json!({ "tools": [tool(&format!("t{}", call.count()))] });
        let result = lasting(&call, tools, ttl, scope);
        call.result(result).await;
    })
}

/// Reads anything, and says this of it.
fn reading(plan: UpstreamPlan, ttl: i64, scope: &'static str) -> UpstreamPlan {
    plan.on("resources/read", move |mut call| async move {
        let text = format!("read {}", call.count());
        let contents = json!({ "contents": [{ "uri": call.params()["uri"], "text": text }] });
        call.pause(100).await;
        let result = lasting(&call, contents, ttl, scope);
        call.result(result).await;
    })
}

async fn tools(client: &Client) -> (Vec<String>, u64, String) {
    let answer = client.request("tools/list", json!({})).await;
    let result = answer.result();
    let ttl = result["ttlMs"].as_u64().unwrap_or_default();
    (answer.names("tools"), ttl, result["cacheScope"].as_str().unwrap_or_default().to_owned())
}

async fn read(client: &Client, uri: &str) -> (String, u64, String) {
    let answer = client.request("resources/read", json!({ "uri": uri })).await;
    let result = answer.result();
    let text = result["contents"][0]["text"].as_str().unwrap_or_default().to_owned();
    let ttl = result["ttlMs"].as_u64().unwrap_or_default();
    (text, ttl, result["cacheScope"].as_str().unwrap_or_default().to_owned())
}

/// The value of a metric with these labels.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let scraped = gateway.admin_get("/metrics").await;
    assert_eq!(scraped.status, 200);
    let line =
        scraped.body.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::to_owned));
    let line = line.unwrap_or_else(|| panic!("no {name} in {}", scraped.body));
    line.parse().expect("a number")
}

#[tokio::test]
async fn s_cache_02_a_merged_list_says_the_least_of_what_its_servers_said() {
    let long = listing(stateless_upstream("long"), 60_000, "public").start().await;
    let short = listing(stateless_upstream("short"), 30_000, "public").start().await;
    let secret = listing(stateless_upstream("secret"), 40_000, "private").start().await;
    let endless = listing(stateless_upstream("endless"), 10_000_000_000, "public").start().await;
    let silent =
        http_upstream("silent").capabilities(json!({ "tools": { "listChanged": true } })).start().await;
    let rows = [
        (vec![("long", &long)], 50_000..=60_000, "public"),
        (vec![("long", &long), ("short", &short)], 20_000..=30_000, "public"),
        (vec![("long", &long), ("secret", &secret)], 30_000..=40_000, "private"),
        (vec![("endless", &endless)], 290_000..=300_000, "public"),
        (vec![("long", &long), ("silent", &silent)], 5_000..=5_000, "private"),
    ];
    for (servers, expected, scope) in rows {
        let mut plan = gateway();
        for (name, server) in &servers {
            plan = plan.with(name, server);
        }
        let gateway = plan.start().await;
        let client = gateway.stateless();
        let (shown, ttl, told) = eventually("all lists", || async {
            let listed = tools(&client).await;
            (listed.0.len() == servers.len()).then_some(listed)
        })
        .await;
        assert!(expected.contains(&ttl), "{shown:?}: {ttl}");
        assert_eq!(told, scope, "{shown:?}");
    }
}

#[tokio::test]
async fn s_cache_04_a_list_is_asked_for_again_when_its_time_is_over_once_for_all_who_want_it() {
    let upstream = stateless_upstream("one")
        .on("tools/list", |mut call| async move {
            call.pause(if call.count() == 1 { 0 } else { 300 }).await;
            let tools = json!({ "tools": [tool(&format!("t{}", call.count()))] });
            let result = lasting(&call, tools, 1_500, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { relist_every: 10m }").start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__t1"]).await;
    for _ in 0..5 {
        let (names, ttl, _) = tools(&client).await;
        assert_eq!(names, ["one__t1"], "it is still good");
        assert!(ttl <= 1_500);
    }
    assert_eq!(upstream.received("tools/list").len(), 1, "many lists, one of the server");
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(upstream.received("tools/list").len(), 1, "nobody asked, so nor does the gateway");
    let many = (0..50).map(|_| {
        let client = client.clone().quiet();
        tokio::spawn(async move { tools(&client).await.0 })
    });
    for listed in many.collect::<Vec<_>>() {
        assert_eq!(listed.await.expect("listed"), ["one__t2"]);
    }
    assert_eq!(upstream.received("tools/list").len(), 2, "one for all");
    assert!(metric(&gateway, "switchyard_cache_hits_total{cache=\"lists\"}").await >= 5);
    assert!(metric(&gateway, "switchyard_cache_misses_total{cache=\"lists\"}").await >= 50);
}

#[tokio::test]
async fn s_cache_04_a_list_for_which_no_server_is_asked_is_not_counted_as_missed() {
    let upstream = listing(upstream("one", STATELESS, Transport::Stdio), 300, "public").start().await;
    let gateway = gateway().with_more("one", &upstream, json!({ "idle_stop": "1s" })).start().await;
    let client = gateway.stateless();
    eventually("the tools", || async { (!tools(&client).await.0.is_empty()).then_some(()) }).await;
    eventually("a child that sleeps", || async {
        gateway.admin_get("/api/v1/servers").await.body.contains("idle").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let (hits, misses) =
        ("switchyard_cache_hits_total{cache=\"lists\"}", "switchyard_cache_misses_total{cache=\"lists\"}");
    let before = (metric(&gateway, hits).await, metric(&gateway, misses).await);
    let listed = upstream.received("tools/list").len();
    for _ in 0..3 {
        assert_eq!(tools(&client).await.1, 0, "its time is over");
    }
    assert_eq!(upstream.received("tools/list").len(), listed);
    let after = (metric(&gateway, hits).await, metric(&gateway, misses).await);
    assert_eq!(after, (before.0 + 3, before.1));
}

#[tokio::test]
async fn s_cache_04_no_time_and_less_than_none_is_no_time() {
    for ttl in [0, -1] {
        let upstream = listing(stateless_upstream("one"), ttl, "public").start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        eventually("the tools", || async { (!tools(&client).await.0.is_empty()).then_some(()) }).await;
        let before = upstream.received("tools/list").len();
        for n in 1..=3 {
            let (names, told, _) = tools(&client).await;
            assert_eq!((names, told), (vec![format!("one__t{}", before + n)], 0), "ttl {ttl}");
        }
    }
}

#[tokio::test]
async fn s_cache_02_04_a_server_that_fails_leaves_its_last_list_and_nobody_keeps_that() {
    let failing = stateless_upstream("failing")
        .on("tools/list", |mut call| async move {
            if call.count() > 1 {
                return call.error(-32603, "out of order", Value::Null).await;
            }
            let result = lasting(&call, json!({ "tools": [tool("old")] }), 1_000, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let good = listing(stateless_upstream("good"), 60_000, "public").start().await;
    let gateway = gateway().with("failing", &failing).with("good", &good).start().await;
    let client = gateway.stateless();
    client.until_tools(&["failing__old", "good__t1"]).await;
    failing.until_received("tools/list", 1).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (names, ttl, _) = tools(&client).await;
    assert_eq!((names, ttl), (vec!["failing__old".to_owned(), "good__t1".to_owned()], 0));
    assert_eq!(failing.received("tools/list").len(), 2);
    assert_eq!(good.received("tools/list").len(), 1, "the other's is still good");
    tools(&client).await;
    assert_eq!(failing.received("tools/list").len(), 2, "not asked again at once");
}

#[tokio::test]
async fn s_cache_04_s_tool_15_a_server_that_hangs_is_waited_for_once_and_not_for_long() {
    let hanging = stateless_upstream("one")
        .on("tools/list", |mut call| async move {
            if call.count() > 1 {
                return call.disconnected().await;
            }
            let result = lasting(&call, json!({ "tools": [tool("old")] }), 500, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &hanging).config("bounds: { list_budget: 1s }").start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__old"]).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (names, ttl, _) = within(Duration::from_secs(5), "the last good list", tools(&client)).await;
    assert_eq!((names, ttl), (vec!["one__old".to_owned()], 0));
    let started = tokio::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(tools(&client).await.0, ["one__old"]);
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}: each waited anew", started.elapsed());
}

#[tokio::test]
async fn s_cache_06_an_older_server_is_listed_once_and_once_more_when_it_tells() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    upstream.until_standing().await;
    for _ in 0..20 {
        let (_, ttl, scope) = tools(&client).await;
        assert_eq!((ttl, scope.as_str()), (5_000, "private"));
    }
    assert_eq!(upstream.received("tools/list").len(), 1);
    upstream.show(|shown| shown.tools.push(tool("new")));
    upstream.announce("notifications/tools/list_changed", json!({})).await;
    client.until_tools(&["one__echo", "one__new"]).await;
    for _ in 0..5 {
        tools(&client).await;
    }
    assert_eq!(upstream.received("tools/list").len(), 2, "exactly one more");
    assert_eq!(metric(&gateway, "switchyard_cache_revocations_total{cache=\"lists\"}").await, 1);
}

#[tokio::test]
async fn s_cache_02_04_once_a_change_was_fetched_the_list_is_as_good_as_any() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    upstream.until_standing().await;
    for more in ["new", "newer"] {
        upstream.show(|shown| shown.tools.push(tool(more)));
        upstream.announce("notifications/tools/list_changed", json!({})).await;
        let name = format!("one__{more}");
        eventually("the changed list", || async { tools(&client).await.0.contains(&name).then_some(()) })
            .await;
        eventually("a list that may be kept", || async { (tools(&client).await.1 == 5_000).then_some(()) })
            .await;
        let misses = "switchyard_cache_misses_total{cache=\"lists\"}";
        let (hits, before) = (
            metric(&gateway, "switchyard_cache_hits_total{cache=\"lists\"}").await,
            metric(&gateway, misses).await,
        );
        for _ in 0..5 {
            tools(&client).await;
        }
        assert_eq!(metric(&gateway, "switchyard_cache_hits_total{cache=\"lists\"}").await, hits + 5);
        assert_eq!(metric(&gateway, misses).await, before);
    }
}

#[tokio::test]
async fn s_cache_03_fifty_readers_of_one_resource_are_one_read_and_later_ones_none() {
    for scope in ["public", "private"] {
        let upstream = reading(stateless_upstream("one"), 60_000, scope).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["static"]).await;
        let many = (0..50).map(|_| {
            let client = client.clone().quiet();
            tokio::spawn(async move { read(&client, STATIC).await })
        });
        for reader in many.collect::<Vec<_>>() {
            let (text, ttl, told) = reader.await.expect("read");
            assert_eq!((text.as_str(), told.as_str()), ("read 1", scope));
            assert!((1..=60_000).contains(&ttl), "{ttl}");
        }
        assert_eq!(upstream.received("resources/read").len(), 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (text, ttl, _) = read(&client, STATIC).await;
        assert!(text == "read 1" && ttl < 60_000, "what is left of it: {ttl}");
        let session = gateway.handshake(HANDSHAKE).await;
        assert_eq!(read(&session, STATIC).await.0, "read 1", "the other era reads the same");
        assert_eq!(read(&client, "test://one/item/7").await.0, "read 2", "another resource is another");
        assert_eq!(metric(&gateway, "switchyard_cache_hits_total{cache=\"resources\"}").await, 51);
        assert_eq!(metric(&gateway, "switchyard_cache_misses_total{cache=\"resources\"}").await, 2);
        assert_eq!(metric(&gateway, "switchyard_cache_entries{cache=\"resources\"}").await, 2);
        assert!(metric(&gateway, "switchyard_cache_bytes{cache=\"resources\"}").await > 100);
    }
}

#[tokio::test]
async fn s_cache_03_a_reader_who_leaves_while_he_asks_for_all_leaves_them_an_answer() {
    let upstream = stateless_upstream("one")
        .on("resources/read", |mut call| async move {
            if call.count() == 1 {
                return call.disconnected().await;
            }
            let contents = json!({ "contents": [{ "uri": call.params()["uri"], "text": "second" }] });
            let result = lasting(&call, contents, 60_000, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["static"]).await;
    let leader = client.open("resources/read", json!({ "uri": STATIC })).await;
    upstream.until_received("resources/read", 1).await;
    let others = (0..10).map(|_| {
        let client = client.clone().quiet();
        tokio::spawn(async move { read(&client, STATIC).await.0 })
    });
    let others: Vec<_> = others.collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(upstream.received("resources/read").len(), 1, "they wait for the first");
    drop(leader);
    for other in others {
        assert_eq!(other.await.expect("read"), "second");
    }
    assert_eq!(upstream.received("resources/read").len(), 2);
}

#[tokio::test]
async fn s_cache_03_who_waits_for_anothers_read_of_a_silent_server_waits_little_longer_than_alone() {
    let silent = stateless_upstream("one")
        .on("resources/read", |mut call| async move { call.disconnected().await })
        .start()
        .await;
    let gateway = gateway()
        .with_more("one", &silent, json!({ "timeout": "3s" }))
        .config("bounds: { list_budget: 300ms }")
        .start()
        .await;
    let client = gateway.stateless();
    client.until_listed("resources", &["static"]).await;
    let leader = client.open("resources/read", json!({ "uri": STATIC })).await;
    silent.until_received("resources/read", 1).await;
    let started = tokio::time::Instant::now();
    client.request("resources/read", json!({ "uri": STATIC })).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}: twice its time", started.elapsed());
    drop(leader);
}

#[tokio::test]
async fn s_cache_03_04_errors_and_what_has_no_time_are_never_kept() {
    let upstream = stateless_upstream("one")
        .on("resources/read", |mut call| async move {
            let uri = call.params()["uri"].clone();
            if call.count() % 2 == 1 {
                return call.error(-32602, "not now", json!({ "uri": uri, "ttlMs": 60_000 })).await;
            }
            let result = lasting(&call, json!({ "contents": [{ "uri": uri, "text": "now" }] }), 0, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["static"]).await;
    for _ in 0..2 {
        client.request("resources/read", json!({ "uri": STATIC })).await.expect_error(200, -32602);
        assert_eq!(read(&client, STATIC).await, ("now".to_owned(), 0, "public".to_owned()));
    }
    assert_eq!(upstream.received("resources/read").len(), 4);
    assert_eq!(metric(&gateway, "switchyard_cache_entries{cache=\"resources\"}").await, 0);
}

#[tokio::test]
async fn s_cache_02_what_an_older_server_reads_is_told_to_be_kept_by_nobody() {
    let upstream = http_upstream("one")
        .on("resources/read", |mut call| async move {
            let contents = json!([{ "uri": call.params()["uri"], "text": "now" }]);
            call.result(json!({ "contents": contents, "ttlMs": 60_000, "cacheScope": "public" })).await;
        })
        .lenient()
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_listed("resources", &["static"]).await;
    for _ in 0..2 {
        assert_eq!(read(&client, STATIC).await, ("now".to_owned(), 0, "private".to_owned()));
    }
    assert_eq!(upstream.received("resources/read").len(), 2, "its era has no such words");
}

#[tokio::test]
async fn s_mrtr_14_what_an_answered_question_led_to_is_not_kept() {
    let upstream = stateless_upstream("one")
        .on("resources/read", |mut call| async move {
            let contents = json!({ "contents": [{ "uri": call.params()["uri"], "text": format!("read {}", call.count()) }] });
            if call.count() == 1 {
                let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } } });
                let params = json!({ "mode": "form", "message": "Who?", "requestedSchema": schema });
                let asked = json!({ "who": { "method": "elicitation/create", "params": params } });
                return call
                    .result(json!({ "resultType": "input_required", "inputRequests": asked, "requestState": "mine" }))
                    .await;
            }
            let result = lasting(&call, contents, 60_000, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let mut client = gateway.stateless();
    client.capabilities = json!({ "elicitation": { "form": {} } });
    client.until_listed("resources", &["static"]).await;
    let asked = client.request("resources/read", json!({ "uri": STATIC })).await;
    assert_eq!(asked.result()["resultType"], "input_required", "{}", asked.raw);
    assert!(
        asked.result().get("ttlMs").is_none() && asked.result().get("cacheScope").is_none(),
        "{}",
        asked.raw
    );
    let retry = json!({
        "uri": STATIC,
        "inputResponses": { "who": { "action": "accept", "content": { "name": "me" } } },
        "requestState": asked.result()["requestState"],
    });
    let answered = client.request("resources/read", retry).await;
    assert_eq!(answered.result()["contents"][0]["text"], "read 2", "{}", answered.raw);
    assert_eq!(answered.result()["ttlMs"], 0, "nor is the client to keep it: {}", answered.raw);
    assert_eq!(read(&client, STATIC).await.0, "read 3", "a plain read gets an answer of its own");
    assert_eq!(read(&client, STATIC).await.0, "read 3", "which may be kept");
}

#[tokio::test]
async fn s_cache_04_what_a_server_tells_of_a_resource_ends_what_is_kept_of_it() {
    for transport in TRANSPORTS {
        let upstream = reading(upstream("one", STATELESS, transport), 60_000, "public").start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.stateless();
        client.until_listed("resources", &["static"]).await;
        let follows = json!({ "notifications": { "resourceSubscriptions": [STATIC] } });
        let mut stream = client.open("subscriptions/listen", follows).await;
        assert_eq!(
            stream.next().await.expect("an acknowledgement").method(),
            "notifications/subscriptions/acknowledged"
        );
        let mut last = read(&client, STATIC).await.0;
        let other = read(&client, "test://one/item/7").await.0;

        assert_eq!(read(&client, STATIC).await.0, last, "it is kept");
        upstream.announce("notifications/resources/updated", json!({ "uri": STATIC })).await;
        stream.until_method("notifications/resources/updated").await;
        let updated = read(&client, STATIC).await.0;
        assert_ne!(updated, last, "{transport:?}: who is told and reads at once sees the change");
        assert_eq!(read(&client, "test://one/item/7").await.0, other, "the other is still good");

        last = updated;
        upstream.announce("notifications/resources/list_changed", json!({})).await;
        eventually("another read when the list has changed", || async {
            let text = read(&client, STATIC).await.0;
            (text != last).then_some(())
        })
        .await;
        assert!(metric(&gateway, "switchyard_cache_revocations_total{cache=\"resources\"}").await >= 3);
    }
}

#[tokio::test]
async fn s_cache_05_what_is_kept_is_shown_to_nobody_who_may_not_ask_for_it() {
    let upstream = reading(stateless_upstream("one"), 60_000, "public").start().await;
    let other = stateless_upstream("two").start().await;
    let gateway = gateway()
        .with("one", &upstream)
        .with("two", &other)
        .config("profiles: { narrow: { servers: [two] } }")
        .start()
        .await;
    let client = gateway.stateless();
    client.until_listed("resources", &["static"]).await;
    read(&client, STATIC).await;
    let narrow = Client::stateless(&gateway.endpoint.at("/mcp/narrow"), json!({}));
    narrow.until_tools(&["two__echo"]).await;
    let answer = narrow.request("resources/read", json!({ "uri": STATIC })).await;
    assert!(!answer.raw.contains("read 1"), "{}", answer.raw);
}

#[tokio::test]
async fn s_disc_02_s_life_06_what_no_server_offers_is_neither_declared_nor_there() {
    let upstream =
        stateless_upstream("one").capabilities(json!({ "tools": { "listChanged": true } })).start().await;
    let older =
        http_upstream("two").capabilities(json!({ "tools": {}, "tasks": { "list": {} } })).start().await;
    let gateway = gateway().with("one", &upstream).with("two", &older).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo", "two__echo"]).await;
    let discovered = client.request("server/discover", json!({})).await;
    let capabilities = discovered.result()["capabilities"].as_object().expect("an object").clone();
    assert_eq!(capabilities.keys().collect::<Vec<_>>(), ["tools"], "{}", discovered.raw);
    for method in ["prompts/list", "resources/list", "resources/templates/list"] {
        client.request(method, json!({})).await.expect_error(404, -32601);
    }
    client.request("prompts/get", json!({ "name": "x" })).await.expect_error(404, -32601);
    client.request("resources/read", json!({ "uri": STATIC })).await.expect_error(404, -32601);
    let complete =
        json!({ "ref": { "type": "ref/prompt", "name": "x" }, "argument": { "name": "a", "value": "" } });
    client.request("completion/complete", complete).await.expect_error(404, -32601);
    client.call("no_such_tool", json!({})).await.expect_error(200, -32602);
    let session = gateway.handshake(HANDSHAKE).await;
    let welcome = session.welcome["capabilities"].as_object().expect("an object").clone();
    assert_eq!(welcome.keys().collect::<Vec<_>>(), ["tools"], "the same in both eras");
}

#[tokio::test]
async fn s_disc_02_s_ext_03_interfaces_are_told_of_where_a_server_has_them_and_nothing_else_passes() {
    let ui = json!({ "mimeTypes": ["text/html;profile=mcp-app"] });
    let extensions =
        json!({ "io.modelcontextprotocol/ui": ui, "io.modelcontextprotocol/tasks": {}, "com.example/x": {} });
    let with = stateless_upstream("with")
        .capabilities(json!({ "tools": {}, "extensions": extensions }))
        .start()
        .await;
    let without = stateless_upstream("without").capabilities(json!({ "tools": {} })).start().await;
    for (upstream, expected) in
        // Tasks are the gateway's own to offer, where a server makes any.
        [
            (&with, json!({ "io.modelcontextprotocol/ui": ui, "io.modelcontextprotocol/tasks": {} })),
            (&without, Value::Null),
        ]
    {
        let gateway = gateway().with("one", upstream).start().await;
        let client = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        let discovered = client.request("server/discover", json!({})).await;
        assert_eq!(discovered.result()["capabilities"]["extensions"], expected, "{}", discovered.raw);
    }
}

#[tokio::test]
async fn s_disc_03_04_a_server_is_asked_anew_what_it_is_when_its_word_for_that_is_over() {
    let upstream = stateless_upstream("one")
        .on("server/discover", |mut call| async move {
            let offers = if call.count() == 1 {
                json!({ "tools": {} })
            } else {
                json!({ "tools": {}, "prompts": {} })
            };
            // The form before publication has its identity in the body.
            let body = json!({
                "supportedVersions": [STATELESS], "capabilities": offers,
                "serverInfo": { "name": "early", "version": "0" },
                "instructions": format!("words {}", call.count()),
            });
            let result = lasting(&call, body, 1_200, "public");
            call.result(result).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { relist_every: 500ms }").start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let discovered = client.request("server/discover", json!({})).await;
    let result = discovered.result();
    assert!(result["ttlMs"].as_u64().is_some_and(|ttl| ttl <= 1_200), "{}", discovered.raw);
    assert_eq!((&result["cacheScope"], &result["instructions"]), (&json!("public"), &json!("words 1")));
    assert!(result.get("serverInfo").is_none(), "{}", discovered.raw);
    client.request("prompts/list", json!({})).await.expect_error(404, -32601);
    eventually("the prompts of the server that has some now", || async {
        tools(&client).await;
        let listed = client.request("prompts/list", json!({})).await;
        (listed.json.get("result").is_some() && listed.names("prompts") == ["one__greet"]).then_some(())
    })
    .await;
    let again = client.request("server/discover", json!({})).await;
    assert_ne!(again.result()["instructions"], "words 1", "{}", again.raw);
}

#[tokio::test]
async fn metrics_show_what_is_at_hand_and_only_on_the_admin_listener() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let session = gateway.handshake(HANDSHAKE).await;
    session.until_tools(&["one__echo"]).await;
    assert_eq!(metric(&gateway, "switchyard_sessions").await, 1);
    assert_eq!(metric(&gateway, "switchyard_requests_in_flight").await, 0);
    assert_eq!(metric(&gateway, "switchyard_upstream_state{upstream=\"one\",state=\"ready\"}").await, 1);
    assert_eq!(metric(&gateway, "switchyard_upstream_state{upstream=\"one\",state=\"down\"}").await, 0);
    let headers = crate::support::http::Headers::default();
    let outside = gateway.endpoint.at("/metrics").ask("GET", headers, b"").await;
    assert_ne!(outside.status, 200);
}
