//! Elicitation by URL: whose id it is, and who hears that it is complete (S-ELIC-07, -08, S-TRUST).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::client::{Client, Exchange, Message, question};
use crate::support::upstream::UpstreamPlan;
use crate::support::{Gateway, HANDSHAKE, TRANSPORTS, Transport, gateway, http_upstream, upstream};

const METHOD: &str = "elicitation/create";
const COMPLETE: &str = "notifications/elicitation/complete";

/// How long silence must last to count as silence.
const A_WHILE: Duration = Duration::from_millis(400);

fn by_url(id: &str) -> Value {
    json!({ "mode": "url", "message": "Sign in", "url": "https://example.com/in?k=v", "elicitationId": id })
}

fn able() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} } })
}

fn agreed() -> Value {
    json!({ "action": "accept" })
}

/// A client of the gateway with its standing stream.
async fn with_stream(gateway: &Gateway, tools: &[&str]) -> (Client, Exchange) {
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    client.until_tools(tools).await;
    let stream = client.standalone_stream().await;
    (client, stream)
}

/// Let `tool` send the client to a page; gives the id by which the client knows it.
async fn sent_to_page(client: &Client, tool: &str, id: &str) -> String {
    let asked = client.asked(tool, question(METHOD, &by_url(id)), &agreed()).await;
    assert_eq!(asked.told[0]["result"], agreed(), "{}", asked.told);
    id_of(asked.question())
}

fn id_of(question: &Message) -> String {
    question.params()["elicitationId"].as_str().expect("judged by the schema").to_owned()
}

async fn until_complete(stream: &mut Exchange, id: &str) {
    let told = stream.until_method(COMPLETE).await;
    assert_eq!(told.params()["elicitationId"], id, "under the id the client knows: {}", told.raw);
}

#[tokio::test]
async fn s_elic_07_pages_are_shown_under_ids_of_the_gateway() {
    let [one, two] = ["one", "two"].map(|name| http_upstream(name).asking());
    let (one, two) = (one.start().await, two.start().await);
    let gateway = gateway().with("one", &one).with("two", &two).start().await;
    let (client, _stream) = with_stream(&gateway, &["one__echo", "two__echo"]).await;
    let mut ids = Vec::new();
    for tool in ["one__echo", "two__echo", "one__echo"] {
        let asked = client.asked(tool, question(METHOD, &by_url("marker-7")), &agreed()).await;
        let reached = asked.question();
        assert_eq!(reached.params()["mode"], "url");
        assert_eq!(reached.params()["url"], "https://example.com/in?k=v", "the page is the server's");
        assert!(reached.params()["message"].as_str().is_some_and(|message| message.ends_with("Sign in")));
        assert!(!reached.raw.contains("marker-7"), "the upstream's id stays on its hop: {}", reached.raw);
        let id = id_of(reached);
        assert!(id.len() >= 22, "128 bits that nobody guesses: {id:?}");
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1], "the same id of two servers means two things");
    for at in 0..3 {
        let (here, other) = (&ids[at], &ids[(at + 1) % 3]);
        let shared = here.bytes().zip(other.bytes()).filter(|(a, b)| a == b).count();
        assert!(here == other || shared < here.len() / 2 + 8, "ids that are counted can be guessed: {ids:?}");
    }
}

#[tokio::test]
async fn s_elic_07_the_gateway_neither_opens_the_page_nor_logs_its_secrets() {
    let page = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = page.local_addr().expect("bound above");
    let upstream = http_upstream("one").asking().start().await;
    let gateway = gateway().with("one", &upstream).config("telemetry: { level: trace }").start().await;
    let (client, _stream) = with_stream(&gateway, &["one__echo"]).await;
    let mut params = by_url("e-1");
    params["url"] = json!(format!("http://{address}/page?ticket=hush-hush-4711"));
    for answer in [agreed(), json!({ "action": "decline" })] {
        let asked = client.asked("one__echo", question(METHOD, &params), &answer).await;
        assert_eq!(asked.question().params()["url"], params["url"]);
    }
    let opened = tokio::time::timeout(A_WHILE, page.accept()).await;
    assert!(opened.is_err(), "the page belongs to the user's browser alone");
    assert!(!gateway.stderr().contains("hush-hush-4711"), "what the page's address says is secret");
}

#[tokio::test]
async fn s_elic_08_completion_reaches_the_client_that_was_asked_long_after_the_call() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let (client, mut stream) = with_stream(&gateway, &["one__echo"]).await;
        let (_other, mut other_stream) = with_stream(&gateway, &["one__echo"]).await;
        let id = sent_to_page(&client, "one__echo", "marker-1").await;
        let call = upstream.until_received("tools/call", 1).await;
        upstream.until_standing_for(&call).await;
        stream.never(COMPLETE, A_WHILE).await;
        upstream.tell(&call, COMPLETE, json!({ "elicitationId": "marker-1" })).await;
        until_complete(&mut stream, &id).await;

        // It is finished: a second word about it is none.
        upstream.tell(&call, COMPLETE, json!({ "elicitationId": "marker-1" })).await;
        for unknown in ["never-asked", "", id.as_str()] {
            upstream.tell(&call, COMPLETE, json!({ "elicitationId": unknown })).await;
        }
        stream.never(COMPLETE, A_WHILE).await;
        other_stream.never(COMPLETE, Duration::from_millis(50)).await;
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn s_elic_08_completion_may_come_while_the_call_runs() {
    for transport in TRANSPORTS {
        let upstream = completing("one", transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let (client, mut stream) = with_stream(&gateway, &["one__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let asked = client.answer_next(&mut running, METHOD, agreed()).await;
        let answer = running.answer().await;
        assert_eq!(answer.text(), "signed in");
        let mut told: Vec<Message> =
            answer.before.into_iter().filter(|message| message.method() == COMPLETE).collect();
        let elsewhere = stream.messages_within(A_WHILE).await;
        told.extend(elsewhere.into_iter().filter(|message| message.method() == COMPLETE));
        assert_eq!(told.len(), 1, "once, on one stream (S-HTTPS-09): {told:?}");
        assert_eq!(told[0].params()["elicitationId"], json!(id_of(&asked)));
    }
}

/// A server whose tool waits for its own page and says so on the way.
fn completing(name: &str, transport: Transport) -> UpstreamPlan {
    upstream(name, HANDSHAKE, transport).on("tools/call", |mut call| async move {
        call.ask(METHOD, by_url("e-1")).await;
        call.notify(COMPLETE, json!({ "elicitationId": "e-1" })).await;
        call.text("signed in").await;
    })
}

#[tokio::test]
async fn s_elic_08_s_trust_03_no_server_completes_what_another_asked() {
    for transport in TRANSPORTS {
        let victim = upstream("victim", HANDSHAKE, transport).asking().start().await;
        let hostile = upstream("hostile", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("victim", &victim).with("hostile", &hostile).start().await;
        let tools = ["victim__echo", "hostile__echo"];
        let (client, mut stream) = with_stream(&gateway, &tools).await;
        let id = sent_to_page(&client, "victim__echo", "same").await;
        client.call("hostile__echo", question("ping", &json!({}))).await.result();
        let foothold = hostile.until_received("tools/call", 1).await;
        hostile.until_standing_for(&foothold).await;
        for guess in ["same", id.as_str()] {
            hostile.tell(&foothold, COMPLETE, json!({ "elicitationId": guess })).await;
        }
        stream.never(COMPLETE, A_WHILE).await;

        // With an id of its own that reads the same, it completes its own and nothing else.
        let own = sent_to_page(&client, "hostile__echo", "same").await;
        assert_ne!(own, id);
        hostile.tell(&foothold, COMPLETE, json!({ "elicitationId": "same" })).await;
        until_complete(&mut stream, &own).await;
        let call = victim.until_received("tools/call", 1).await;
        victim.until_standing_for(&call).await;
        victim.tell(&call, COMPLETE, json!({ "elicitationId": "same" })).await;
        until_complete(&mut stream, &id).await;
    }
}

#[tokio::test]
async fn s_elic_08_s_trust_01_clients_with_equal_ids_hear_only_of_their_own() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let (ada, mut to_ada) = with_stream(&gateway, &["one__echo"]).await;
        let (bob, mut to_bob) = with_stream(&gateway, &["one__echo"]).await;
        let of_ada = sent_to_page(&ada, "one__echo", "same").await;
        let of_bob = sent_to_page(&bob, "one__echo", "same").await;
        assert_ne!(of_ada, of_bob);
        for (nth, own, id, other) in [(2, &mut to_bob, &of_bob, None), (1, &mut to_ada, &of_ada, Some(()))] {
            let call = upstream.until_received("tools/call", nth).await;
            upstream.until_standing_for(&call).await;
            upstream.tell(&call, COMPLETE, json!({ "elicitationId": "same" })).await;
            until_complete(own, id).await;
            assert!(other.is_none() || nth == 1);
        }
        to_ada.never(COMPLETE, A_WHILE).await;
        to_bob.never(COMPLETE, Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn s_elic_08_on_a_shared_server_completion_finds_the_one_session_that_was_asked() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
        let (ada, mut to_ada) = with_stream(&gateway, &["one__echo"]).await;
        let (bob, mut to_bob) = with_stream(&gateway, &["one__echo"]).await;
        let of_ada = sent_to_page(&ada, "one__echo", "for-ada").await;
        let of_bob = sent_to_page(&bob, "one__echo", "for-bob").await;
        let call = upstream.until_received("tools/call", 1).await;
        upstream.until_standing_for(&call).await;
        upstream.announce(COMPLETE, json!({ "elicitationId": "for-bob" })).await;
        until_complete(&mut to_bob, &of_bob).await;
        to_ada.never(COMPLETE, A_WHILE).await;
        upstream.announce(COMPLETE, json!({ "elicitationId": "for-ada" })).await;
        until_complete(&mut to_ada, &of_ada).await;
        to_bob.never(COMPLETE, A_WHILE).await;
    }
}

#[tokio::test]
async fn s_elic_08_a_session_that_ended_is_told_nothing_and_nobody_inherits_its_ids() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
    let (leaver, stream) = with_stream(&gateway, &["one__echo"]).await;
    let (stayer, mut stays) = with_stream(&gateway, &["one__echo"]).await;
    sent_to_page(&leaver, "one__echo", "left").await;
    drop(stream);
    assert!((200..300).contains(&leaver.delete().await));
    upstream.announce(COMPLETE, json!({ "elicitationId": "left" })).await;
    stays.never(COMPLETE, A_WHILE).await;
    assert_eq!(stayer.request("ping", json!({})).await.status, 200);
}
