//! What is kept for clients that may come back is bounded, and what was lost is said (S-RESUM-05, F26, F37).

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Message, Place};
use crate::support::processes::resident;
use crate::support::upstream::UpstreamPlan;
use crate::support::{HANDSHAKE, gateway, http_upstream, within};

/// One step of progress, then a result of as many bytes as the call asks for.
fn heavy() -> UpstreamPlan {
    http_upstream("one").on("tools/call", |mut call| async move {
        let size = call.params()["arguments"]["size"].as_u64().unwrap_or_default();
        call.progress(1.0, 2.0).await;
        call.pause(50).await;
        let text = "x".repeat(usize::try_from(size).expect("small numbers"));
        call.text(&text).await;
    })
}

async fn left_after_one_step(client: &Client, size: usize) -> Place {
    let params =
        json!({ "name": "one__echo", "arguments": { "size": size }, "_meta": { "progressToken": 1 } });
    let mut stream = client.open("tools/call", params).await;
    stream.until_method("notifications/progress").await;
    stream.cut(true)
}

/// What a resumed stream gives: nothing at all (404), or the messages up to its end.
async fn resumed(client: &Client, place: &Place) -> Option<Vec<Message>> {
    let mut exchange = client.resume_after(place.last_id().expect("its events have ids")).await;
    match exchange.head().await.status() {
        404 => return None,
        status => assert_eq!(status, 200),
    }
    drop(exchange);
    let mut exchange = client.resume(place).await;
    Some(within(Duration::from_secs(10), "the resumed stream to end", exchange.rest()).await)
}

#[tokio::test]
async fn s_resum_05_a_result_that_was_too_large_to_keep_is_told_as_lost() {
    let upstream = heavy().start().await;
    let bounds = "bounds: { stream_buffer: 16KiB, session_buffer: 32KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    for revision in ["2025-03-26", HANDSHAKE] {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let small = left_after_one_step(&client, 1_000).await;
        let small = resumed(&client, &small).await.expect("it fits");
        let text = small.last().expect("a response").json["result"]["content"][0]["text"].clone();
        assert_eq!(text.as_str().map(str::len), Some(1_000), "{revision}");

        let lost = left_after_one_step(&client, 200_000).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let messages = resumed(&client, &lost).await.expect("the request's own stream is still known");
        let [response] = messages.as_slice() else { panic!("one response and nothing else: {messages:#?}") };
        assert_eq!(response.json["error"]["code"], -32603, "{revision}: {}", response.raw);
        assert_eq!(client.request("ping", json!({})).await.status, 200);
        assert!((200..300).contains(&client.delete().await));
    }
}

#[tokio::test]
async fn s_resum_05_older_streams_make_room_and_the_newest_stays() {
    let upstream = heavy().start().await;
    let bounds = "bounds: { stream_buffer: 32KiB, session_buffer: 64KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut places = Vec::new();
    for _ in 0..12 {
        places.push(left_after_one_step(&client, 20_000).await);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut kept = 0;
    for (number, place) in places.iter().enumerate() {
        let Some(messages) = resumed(&client, place).await else { continue };
        let [response] = messages.as_slice() else { panic!("{number}: {messages:#?}") };
        match response.json.get("result") {
            Some(result) => {
                assert_eq!(result["content"][0]["text"].as_str().map(str::len), Some(20_000));
                kept += 1;
            }
            None => assert_eq!(response.json["error"]["code"], -32603, "{number}: {}", response.raw),
        }
        assert!(
            number < 11 || response.json.get("result").is_some(),
            "the newest one stays: {}",
            response.raw
        );
    }
    assert!((1..=3).contains(&kept), "{kept} results of 20 kB are kept in 64 KiB");
}

#[tokio::test]
async fn s_resum_05_06_what_a_client_reads_costs_nobody_what_is_kept() {
    let upstream = heavy().start().await;
    let bounds = "bounds: { session_buffer: 128KiB, replay_total: 512KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let (reader, other) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
    for client in [&reader, &other] {
        client.until_tools(&["one__echo"]).await;
    }
    let mut left = Vec::new();
    for client in [&reader, &other] {
        left.push((client, left_after_one_step(client, 100).await));
    }
    upstream.until_received("tools/call", 2).await;
    // Far more than a session may keep, and than all may: every byte of it is read at once.
    let large = || async {
        let params = json!({ "name": "one__echo", "arguments": { "size": 1_200_000 }, "_meta": { "progressToken": 1 } });
        reader.request("tools/call", params).await
    };
    for answer in futures_util::future::join_all((0..5).map(|_| large())).await {
        assert_eq!(answer.text().len(), 1_200_000);
    }
    for (client, place) in left {
        let messages = resumed(client, &place).await.expect("its stream is known");
        let response = messages.last().expect("a response");
        assert!(response.json.get("result").is_some(), "a hundred bytes are kept: {}", response.raw);
    }
}

/// As many bytes as the call asks for, or a question of as many; its tool tells how that was answered.
fn inquisitive() -> UpstreamPlan {
    http_upstream("one").on("tools/call", |mut call| async move {
        let arguments = call.params()["arguments"].clone();
        let words =
            "x".repeat(usize::try_from(arguments["size"].as_u64().unwrap_or_default()).expect("small"));
        if arguments["asks"] != true {
            call.progress(1.0, 2.0).await;
            call.pause(50).await;
            return call.text(&words).await;
        }
        call.pause(100).await;
        let form = json!({ "message": words, "requestedSchema": { "type": "object", "properties": {} } });
        let answer = call.ask("elicitation/create", form).await;
        call.text(answer["result"]["action"].as_str().unwrap_or("refused")).await;
    })
}

/// A call that asks and is left with the question; gives the place of its priming event.
async fn left_with_a_question(client: &Client, size: usize) -> Place {
    let mut running = client.open_call("one__echo", json!({ "asks": true, "size": size })).await;
    running.until_method("elicitation/create").await;
    let mut place = running.cut(true);
    assert!(place.is_primed);
    place.ids.truncate(1);
    place
}

#[tokio::test]
async fn s_resum_02_05_a_question_waits_for_its_client_whatever_other_calls_answer() {
    let upstream = inquisitive().start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { prime_after: 10ms }").start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let place = left_with_a_question(&client, 10).await;
    let params =
        json!({ "name": "one__echo", "arguments": { "size": 1_200_000 }, "_meta": { "progressToken": 1 } });
    assert_eq!(client.request("tools/call", params).await.text().len(), 1_200_000);
    let mut resumed = client.resume(&place).await;
    let asked = resumed.until_method("elicitation/create").await;
    assert_eq!(client.respond(&asked.json["id"], json!({ "action": "decline" })).await, 202);
    assert_eq!(resumed.answer().await.text(), "decline");
}

#[tokio::test]
async fn s_resum_05_s_elic_11_a_question_that_had_to_go_is_cancelled_when_its_client_is_back() {
    let upstream = inquisitive().start().await;
    let bounds = "bounds: { prime_after: 10ms, stream_buffer: 16KiB, session_buffer: 16KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let place = left_with_a_question(&client, 10_000).await;
    let parked = left_after_one_step(&client, 10_000).await;
    within(Duration::from_secs(5), "the other answer to be kept", async {
        let messages = resumed(&client, &parked).await.expect("it is known");
        assert!(messages.last().is_some_and(|last| last.json.get("result").is_some()), "it is kept");
    })
    .await;
    let resumed = client.resume(&place).await;
    let answer = within(Duration::from_secs(5), "the call to go on", resumed.answer()).await;
    assert_eq!(answer.text(), "cancel");
}

#[tokio::test]
async fn s_resum_05_f31_what_is_kept_for_all_sessions_is_bounded() {
    let upstream = heavy().start().await;
    let bounds = "bounds: { session_buffer: 1MiB, replay_total: 2MiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let warm = gateway.handshake(HANDSHAKE).await.quiet();
    warm.until_tools(&["one__echo"]).await;
    left_after_one_step(&warm, 200_000).await;
    let before = resident(gateway.pid()).await;
    let mut last = None;
    for _ in 0..40 {
        let client = gateway.handshake(HANDSHAKE).await.quiet();
        for _ in 0..4 {
            let place = left_after_one_step(&client, 200_000).await;
            last = Some((client.clone(), place));
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (client, place) = last.expect("there was one");
    let messages = resumed(&client, &place).await.expect("the newest one stays");
    assert!(
        messages.last().is_some_and(|message| message.json.get("result").is_some()),
        "the newest one stays"
    );
    // Without the bound it would be 32 MB of results.
    let grown = resident(gateway.pid()).await.saturating_sub(before);
    assert!(grown < 20 << 20, "160 abandoned answers of 200 kB grew the gateway by {grown} bytes");
}

#[tokio::test]
async fn s_resum_05_a_result_beyond_every_buffer_still_reaches_a_client_that_reads() {
    let upstream = heavy().start().await;
    let bounds = "bounds: { stream_buffer: 16KiB, session_buffer: 32KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", HANDSHAKE, crate::support::STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        for token in [Some(1), None] {
            let mut params = json!({ "name": "one__echo", "arguments": { "size": 3_000_000 } });
            if let Some(token) = token {
                params["_meta"]["progressToken"] = json!(token);
            }
            let answer = client.request("tools/call", params).await;
            assert_eq!(answer.text().len(), 3_000_000, "{revision}");
        }
    }
}
