//! Roots: which paths of which client an upstream may learn (S-ROOT).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::question;
use crate::support::{
    Gateway, HANDSHAKE, HANDSHAKE_REVISIONS, TRANSPORTS, Transport, Upstream, gateway, upstream,
};

const METHOD: &str = "roots/list";
const CHANGED: &str = "notifications/roots/list_changed";

fn able() -> Value {
    json!({ "roots": { "listChanged": true } })
}

fn roots(paths: &[&str]) -> Value {
    let roots: Vec<Value> =
        paths.iter().map(|path| json!({ "uri": format!("file://{path}"), "name": path })).collect();
    json!({ "roots": roots })
}

fn ask() -> Value {
    question(METHOD, &json!({}))
}

/// A gateway that lets this upstream ask for roots.
async fn open(upstream: &Upstream) -> Gateway {
    gateway().with_more("one", upstream, json!({ "ask": { "roots": true } })).start().await
}

#[tokio::test]
async fn s_root_01_an_upstream_learns_the_roots_of_its_client_or_that_it_has_none() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in HANDSHAKE_REVISIONS {
        let client = gateway.handshake_with(revision, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mine = roots(&["/home/ada/a%20b", "/srv"]);
        let asked = client.asked("one__echo", ask(), &mine).await;
        assert_eq!(asked.told[0]["result"]["roots"], mine["roots"], "{revision}");
        assert_eq!(upstream.declared()["roots"], able()["roots"], "{revision}");

        let none = client.asked("one__echo", ask(), &json!({ "roots": [] })).await;
        // Asked again or remembered, there is an answer either way.
        assert!(none.told[0]["result"]["roots"].is_array(), "{revision}: {}", none.told);

        let rootless = gateway.handshake_with(revision, json!({ "sampling": {} })).await;
        rootless.asked("one__echo", ask(), &mine).await.expect_refused(-32601);
        assert!(upstream.declared().get("roots").is_none(), "{}", upstream.declared());
    }
}

#[tokio::test]
async fn s_root_01_a_client_that_refuses_to_tell_is_relayed() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call("one__echo", ask()).await;
    let asked = running.until_method(METHOD).await;
    assert_eq!(client.refuse(&asked.json["id"], -32603, "not now").await, 202);
    let told: Value = serde_json::from_str(running.answer().await.text()).expect("JSON");
    assert!(told[0]["error"]["code"].is_i64(), "{told}");
}

#[tokio::test]
async fn s_root_02_changes_are_told_and_the_next_answer_is_new() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = open(&upstream).await;
        let [ada, bob] = [
            gateway.handshake_with(HANDSHAKE, able()).await,
            gateway.handshake_with(HANDSHAKE, able()).await,
        ];
        ada.until_tools(&["one__echo"]).await;
        for (client, path) in [(&ada, "/ada"), (&bob, "/bob")] {
            let told = client.asked("one__echo", ask(), &roots(&[path])).await.told;
            assert_eq!(told[0]["result"], roots(&[path]));
        }
        let of_ada = upstream.until_received("tools/call", 1).await;
        assert_eq!(ada.notify(CHANGED, json!({})).await, 202);
        let told = upstream.until_received(CHANGED, 1).await;
        assert_eq!(
            (told.session(), told.connection == of_ada.connection || told.session().is_some()),
            (of_ada.session(), true),
            "the session of that client and no other"
        );
        let fresh = ada.asked("one__echo", ask(), &roots(&["/ada/new"])).await;
        assert_eq!(fresh.told[0]["result"], roots(&["/ada/new"]), "what was remembered is forgotten");
        let other = bob.asked("one__echo", ask(), &roots(&["/bob"])).await;
        assert_eq!(other.told[0]["result"], roots(&["/bob"]));
        assert_eq!(upstream.received(CHANGED).len(), 1, "nobody else's session heard of it");
    }
}

#[tokio::test]
async fn s_root_02_a_client_that_never_promised_changes_causes_none() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = open(&upstream).await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "roots": {} })).await;
    client.until_tools(&["one__echo"]).await;
    client.asked("one__echo", ask(), &roots(&["/a"])).await;
    assert_eq!(client.notify(CHANGED, json!({})).await, 202);
    client.asked("one__echo", question("ping", &json!({})), &json!({})).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(upstream.received(CHANGED).len(), 0);
    assert_ne!(upstream.declared()["roots"]["listChanged"], true, "{}", upstream.declared());
}

#[tokio::test]
async fn s_root_03_what_is_no_file_is_no_root() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = open(&upstream).await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let kept = json!({ "uri": "file:///keep/me", "name": "kept", "_meta": { "com.example/x": 1 } });
        let mixed = json!({ "roots": [
            { "uri": "https://example.com/", "name": "web" },
            kept,
            { "uri": "ftp://example.com/a" },
            { "uri": "not a uri" },
            { "uri": "/plain/path" },
            { "uri": "file" },
            { "uri": "" },
            { "uri": 7 },
            { "name": "nameless place" },
            "file:///not/an/object",
            { "uri": "files:///almost" },
        ] });
        let told = client.asked("one__echo", ask(), &mixed).await.told;
        assert_eq!(told[0]["result"]["roots"], json!([kept]), "over {transport:?}");
    }
}

#[tokio::test]
async fn s_root_03_an_answer_that_is_no_list_of_roots_never_reaches_the_upstream() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for odd in [json!({}), json!({ "roots": "file:///a" }), json!({ "roots": null }), json!([])] {
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let told = client.asked("one__echo", ask(), &odd).await.told;
        let is_lawful = told[0]["result"]["roots"] == json!([]) || told[0]["error"]["code"].is_i64();
        assert!(is_lawful, "{odd} became {told}");
    }
}

#[tokio::test]
async fn s_root_03_roots_of_clients_that_ask_at_the_same_time_are_never_mixed() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = open(&upstream).await;
        let mut calls = Vec::new();
        for who in 0..6 {
            let client = gateway.handshake_with(HANDSHAKE, able()).await;
            client.until_tools(&["one__echo"]).await;
            calls.push(tokio::spawn(async move {
                let mine = roots(&[&format!("/home/{who}")]);
                for _ in 0..3 {
                    let told = client.asked("one__echo", ask(), &mine).await.told;
                    assert_eq!(told[0]["result"], mine, "{who} over {transport:?}");
                }
            }));
        }
        for call in calls {
            call.await.expect("every client's roots were its own");
        }
    }
}

#[tokio::test]
async fn s_root_05_remote_servers_learn_paths_only_when_allowed() {
    for (transport, setting, allowed) in [
        (Transport::Http, None, false),
        (Transport::Http, Some(true), true),
        (Transport::Http, Some(false), false),
        (Transport::Stdio, None, true),
        (Transport::Stdio, Some(false), false),
    ] {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let more = setting.map_or(json!({}), |roots| json!({ "ask": { "roots": roots } }));
        let gateway = gateway().with_more("one", &upstream, more).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let asked = client.asked("one__echo", ask(), &roots(&["/home/ada"])).await;
        let declared = upstream.declared();
        assert_eq!(declared.get("roots").is_some(), allowed, "{transport:?} {setting:?}: {declared}");
        if allowed {
            assert_eq!(asked.told[0]["result"], roots(&["/home/ada"]));
        } else {
            asked.expect_refused(-32601);
            assert_eq!(client.notify(CHANGED, json!({})).await, 202);
            client.call("one__echo", question("ping", &json!({}))).await.result();
            assert_eq!(upstream.received(CHANGED).len(), 0, "not even that there are any");
        }
    }
}
