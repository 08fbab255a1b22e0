//! What happens to a session while its client is away (S-RESUM-02, -05, S-SESS-05, S-CANC-01, F26).

use std::time::Duration;

use serde_json::json;

use crate::support::{HANDSHAKE, gateway, http_upstream, within};

#[tokio::test]
async fn s_resum_05_of_a_standing_stream_that_was_left_too_long_the_newest_is_kept_in_order() {
    let upstream = http_upstream("one").start().await;
    let bounds = "bounds: { stream_buffer: 16KiB, session_buffer: 32KiB }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    for (round, revision) in ["2025-03-26", HANDSHAKE].into_iter().enumerate() {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
        client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
        let subscribed = upstream.until_received("resources/subscribe", round + 1).await;
        upstream.until_standing_for(&subscribed).await;
        let words = "x".repeat(2_000);
        let say = |n: i64| {
            let data = json!({ "level": "warning", "data": { "n": n, "words": words } });
            upstream.announce("notifications/message", data)
        };
        let mut stream = client.standalone_stream().await;
        say(1).await;
        stream.until_method("notifications/message").await;
        let place = stream.cut(true);
        // Far more than is kept.
        for n in 2..=60 {
            say(n).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut asking = client.resume_after(place.last_id().expect("its events have ids")).await;
        let status = asking.head().await.status();
        drop(asking);
        if status == 200 {
            let messages = client.resume(&place).await.messages_within(Duration::from_secs(1)).await;
            let numbers: Vec<i64> =
                messages.iter().filter_map(|message| message.params()["data"]["n"].as_i64()).collect();
            // Log messages may be left out (S-LOG-05), but what is left is the end, in order, and each once.
            let last = numbers.last().copied().expect("something is kept");
            assert_eq!(last, 60, "{revision}: {numbers:?}");
            let from = 61 - i64::try_from(numbers.len()).expect("few");
            assert_eq!(
                numbers,
                (from..=60).collect::<Vec<_>>(),
                "{revision}: one gap at most, before the first"
            );
        } else {
            assert_eq!(status, 404, "{revision}");
        }
        // The session itself did not suffer: a new stream hears what comes next.
        let mut fresh = client.standalone_stream().await;
        say(100).await;
        within(Duration::from_secs(5), "news on the new stream", async {
            while fresh.until_method("notifications/message").await.params()["data"]["n"] != 100 {}
        })
        .await;
        drop(fresh);
        assert!((200..300).contains(&client.delete().await));
    }
}

#[tokio::test]
async fn s_sess_05_s_resum_02_a_session_lives_as_long_as_its_call_although_nobody_is_there() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.pause(3_500).await;
            call.text("worth the wait").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("bounds: { session_idle: 1s }").start().await;
    for revision in ["2025-03-26", HANDSHAKE] {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.open_call_with_progress("one__echo", json!(1)).await;
        stream.until_method("notifications/progress").await;
        let place = stream.cut(true);
        // Long past the idle time, and the call is still running.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let answer = client.resume(&place).await.answer().await;
        assert_eq!(answer.text(), "worth the wait", "{revision}");
    }
}

#[tokio::test]
async fn s_canc_01_s_resum_02_a_call_is_cancelled_by_a_client_that_has_left_its_stream() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.cancelled().await;
            call.text("too late").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (round, revision) in ["2025-03-26", "2025-06-18", HANDSHAKE].into_iter().enumerate() {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.open_call_with_progress("one__echo", json!(1)).await;
        stream.until_method("notifications/progress").await;
        let id = stream.id();
        let place = stream.cut(true);
        assert_eq!(client.notify("notifications/cancelled", json!({ "requestId": id })).await, 202);
        upstream.until_received("notifications/cancelled", round + 1).await;
        let mut asking = client.resume_after(place.last_id().expect("its events have ids")).await;
        let status = asking.head().await.status();
        drop(asking);
        if status == 200 {
            let mut resumed = client.resume(&place).await;
            let rest =
                within(Duration::from_secs(5), "the stream of a cancelled call to end", resumed.rest()).await;
            assert!(rest.is_empty(), "{revision}: a cancelled call is never answered: {rest:#?}");
        } else {
            assert_eq!(status, 404, "{revision}");
        }
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn s_resum_02_f26_questions_asked_while_the_client_was_away_are_there_when_it_is_back() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 2.0).await;
            call.pause(300).await;
            let form = json!({ "message": "Who?", "requestedSchema": { "type": "object",
                "properties": { "name": { "type": "string" } } } });
            let answer = call.ask("elicitation/create", form).await;
            let name = answer["result"]["content"]["name"].to_string();
            call.text(&name).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in ["2025-06-18", HANDSHAKE] {
        let client = gateway.handshake_with(revision, json!({ "elicitation": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let mut standing = client.standalone_stream().await;
        let mut stream = client.open_call_with_progress("one__echo", json!(1)).await;
        stream.until_method("notifications/progress").await;
        let place = stream.cut(true);
        // The question comes meanwhile, and goes on no other stream.
        for message in standing.messages_within(Duration::from_millis(700)).await {
            assert_ne!(message.method(), "elicitation/create", "{revision}: {}", message.raw);
        }
        let mut resumed = client.resume(&place).await;
        let asked = resumed.until_method("elicitation/create").await;
        // Once more away, and the question is not forgotten, nor another one.
        drop(resumed);
        let mut again = client.resume(&place).await;
        let same = again.until_method("elicitation/create").await;
        assert_eq!(same.raw, asked.raw, "{revision}: the very same question");
        let result = json!({ "action": "accept", "content": { "name": "Ada" } });
        assert_eq!(client.respond(&asked.json["id"], result).await, 202);
        let answer = again.answer().await;
        assert_eq!(answer.text(), "\"Ada\"", "{revision}");
    }
}
