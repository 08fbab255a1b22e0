//! Event ids in wrong hands (S-RESUM-01, -08): whatever is wrong with one, the answer is the same and gives nothing away.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Place, Whole};
use crate::support::{HANDSHAKE, gateway, http_upstream};

/// Ask to resume with exactly these header values.
async fn ask(client: &Client, ids: &[&str]) -> Whole {
    let mut headers = client.headers("", &json!({}));
    headers.remove("Content-Type");
    headers.set("Accept", "text/event-stream");
    for id in ids {
        headers.0.push(("Last-Event-ID".to_owned(), (*id).to_owned()));
    }
    let mut exchange = client.endpoint.send("GET", headers, b"").await;
    let status = exchange.head().await.status();
    assert_ne!(status, 200, "a stream was opened for {ids:?}");
    exchange.whole().await
}

/// A finished call whose stream can be resumed.
async fn finished_call(client: &Client) -> Place {
    let mut stream = client.open_call_with_progress("one__echo", json!("secret-token")).await;
    stream.until_method("notifications/progress").await;
    let place = stream.cut(true);
    let again = client.resume(&place).await.answer().await;
    assert_eq!(again.text(), "the secret answer", "the right id works");
    place
}

fn upstream() -> crate::support::upstream::UpstreamPlan {
    http_upstream("one").on("tools/call", |mut call| async move {
        call.progress(1.0, 2.0).await;
        call.text("the secret answer").await;
    })
}

/// The answers must be one answer.
fn all_alike(answers: &[(String, Whole)]) {
    let different: BTreeSet<(u16, &str, Option<&str>)> = answers
        .iter()
        .map(|(_, whole)| (whole.status, whole.body.as_str(), whole.headers.get("content-type")))
        .collect();
    assert_eq!(different.len(), 1, "what is wrong with an id is not told: {answers:#?}");
    for (what, whole) in answers {
        assert_eq!(whole.status, 404, "{what}: {}", whole.body);
        assert!(!whole.body.contains("secret"), "{what}: {}", whole.body);
    }
}

#[tokio::test]
async fn s_resum_01_an_id_altered_at_any_place_is_unknown() {
    let upstream = upstream().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in ["2025-03-26", HANDSHAKE] {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let place = finished_call(&client).await;
        let id = place.last_id().expect("its events have ids").to_owned();
        let mut answers = Vec::new();
        for at in 0..id.len() {
            // A neighbour, a far one and the other case: lax decoders take some of them for the same bytes.
            let own = id.as_bytes()[at];
            let other_case = own ^ 0x20;
            let next = if own == b'z' { b'y' } else { own + 1 };
            for put in [next, if own == b'A' { b'B' } else { b'A' }, other_case] {
                if put == own || !put.is_ascii_alphanumeric() {
                    continue;
                }
                let mut altered = id.clone().into_bytes();
                altered[at] = put;
                let altered = String::from_utf8(altered).expect("letters only");
                answers.push((format!("byte {at} of {id}"), ask(&client, &[&altered]).await));
            }
        }
        let longer =
            [format!("{id}A"), format!("{id}="), format!("A{id}"), format!("{id}{id}"), format!("{id}.1")];
        let shorter = [&id[..id.len() - 1], &id[1..], &id[..id.len() / 2]];
        for wrong in longer.iter().map(String::as_str).chain(shorter) {
            answers.push((wrong.to_owned(), ask(&client, &[wrong]).await));
        }
        all_alike(&answers);
        assert_eq!(
            client.resume(&place).await.answer().await.text(),
            "the secret answer",
            "and the right one works"
        );
    }
}

#[tokio::test]
async fn s_resum_01_guessed_ids_are_unknown() {
    let upstream = upstream().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let place = finished_call(&client).await;
    let id = place.last_id().expect("its events have ids");
    let session = client.session.clone().expect("given at initialize");
    let random = |length: usize| "kJ8_-x2Q".chars().cycle().take(length).collect::<String>();
    let long = "A".repeat(4_000);
    let guesses = [
        "0",
        "1",
        "2",
        "-1",
        "0-0",
        "0-1",
        "1-1",
        "1_1",
        "a",
        "null",
        "*",
        "%00",
        "../../1",
        "{}",
        "[1]",
        "\"1\"",
        &session,
        &format!("{session}-1"),
        &format!("{session}_0"),
        &random(id.len()),
        &random(22),
        &long,
        "AAAAAAAAAAAAAAAAAAAAAA",
        "00000000-0000-0000-0000-000000000000",
    ];
    let mut answers = Vec::new();
    for guess in guesses {
        answers.push((guess.to_owned(), ask(&client, &[guess]).await));
    }
    all_alike(&answers);
    assert_eq!(client.request("ping", json!({})).await.status, 200, "the session did not suffer");
}

#[tokio::test]
async fn s_resum_08_s_sess_04_an_id_of_another_session_is_as_unknown_as_any() {
    let upstream = upstream().start().await;
    let gateway =
        gateway().with("one", &upstream).config("profiles: { inner: { servers: [one] } }").start().await;
    let victim = gateway.handshake(HANDSHAKE).await;
    victim.until_tools(&["one__echo"]).await;
    let place = finished_call(&victim).await;
    let id = place.last_id().expect("its events have ids").to_owned();

    let thief = gateway.handshake(HANDSHAKE).await;
    let older_thief = gateway.handshake("2025-03-26").await;
    let inner = Client::handshake(&gateway.endpoint.at("/mcp/inner"), HANDSHAKE, json!({})).await;
    let never = ask(&thief, &["never-given-out"]).await;
    let mut answers = vec![("a guess".to_owned(), never)];
    for (who, client) in [("another session", &thief), ("an older one", &older_thief), ("a profile", &inner)]
    {
        answers.push((who.to_owned(), ask(client, &[&id]).await));
    }
    all_alike(&answers);

    // The session itself is unknown at another endpoint, whatever else it brings.
    let mut misplaced = victim.clone();
    misplaced.endpoint = gateway.endpoint.at("/mcp/inner");
    let at_profile = ask(&misplaced, &[&id]).await;
    assert_eq!(at_profile.status, 404, "{}", at_profile.body);
    let mut posing = victim.clone();
    posing.session = Some(id.clone());
    let as_session = ask(&posing, &[&id]).await;
    assert_eq!(as_session.status, 404, "an event id is no session id: {}", as_session.body);
    assert_eq!(posing.open("ping", json!({})).await.whole().await.status, 404);
    let mut nobody = victim.clone();
    nobody.session = None;
    let without = ask(&nobody, &[&id]).await;
    assert!(matches!(without.status, 400 | 404 | 405), "{}: {}", without.status, without.body);
    for answer in [&at_profile, &as_session, &without] {
        assert!(!answer.body.contains("secret"), "{}", answer.body);
    }
    assert_eq!(victim.resume(&place).await.answer().await.text(), "the secret answer", "its owner may still");
}

#[tokio::test]
async fn s_resum_08_two_ids_in_one_request_and_ids_of_ended_sessions_give_nothing() {
    let upstream = upstream().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let place = finished_call(&client).await;
    let id = place.last_id().expect("its events have ids").to_owned();
    for twice in [[id.as_str(), id.as_str()], [id.as_str(), "x"], ["x", id.as_str()]] {
        let answer = ask(&client, &twice).await;
        assert!(matches!(answer.status, 400 | 404), "{twice:?}: {} {}", answer.status, answer.body);
        assert!(!answer.body.contains("secret"), "{}", answer.body);
    }
    let joined = ask(&client, &[&format!("{id}, {id}")]).await;
    assert_eq!(joined.status, 404, "{}", joined.body);

    assert!((200..300).contains(&client.delete().await));
    assert_eq!(ask(&client, &[&id]).await.status, 404, "the session is over, and its streams with it");
    let next = gateway.handshake(HANDSHAKE).await;
    assert_eq!(ask(&next, &[&id]).await.status, 404);
}

#[tokio::test]
async fn s_resum_05_finished_streams_are_forgotten_at_their_age() {
    let upstream = upstream().start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { replay_age: 1s }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let place = finished_call(&client).await;
    let id = place.last_id().expect("its events have ids");
    // Its age is what is told of here, and asking too early might renew it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut asking = client.resume_after(id).await;
    if asking.head().await.status() == 404 {
        let unknown = ask(&client, &["never-given-out"]).await;
        let expired = ask(&client, &[id]).await;
        return all_alike(&[("expired".to_owned(), expired), ("unknown".to_owned(), unknown)]);
    }
    // The requirement leaves the choice to say to its own client that the answer is lost.
    drop(asking);
    let messages = client.resume(&place).await.rest().await;
    let [lost] = messages.as_slice() else { panic!("one response and nothing else: {messages:#?}") };
    assert_eq!(lost.json["error"]["code"], -32603, "nothing is replayed any more: {}", lost.raw);
}
