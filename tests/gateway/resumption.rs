//! Streams that are left and taken up again (S-RESUM): event ids, replay of exactly one stream, polling.
//!
//! Every upstream here says its messages one by one, when the story lets it, so that the story decides what was said
//! before a cut, what while nobody listened, and what afterwards.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::client::{Client, Exchange, Message};
use crate::support::upstream::UpstreamPlan;
use crate::support::{
    HANDSHAKE, STATELESS, TRANSPORTS, Upstream, eventually, gateway, http_upstream, upstream, within,
};

/// The revisions whose streams can be resumed.
const RESUMABLE: [&str; 3] = ["2025-03-26", "2025-06-18", HANDSHAKE];

/// Lets an upstream say one more message for each permit: five times progress, then the result.
type Gate = Arc<Semaphore>;

fn stepping(plan: UpstreamPlan) -> (UpstreamPlan, Gate) {
    let gate: Gate = Arc::new(Semaphore::new(0));
    let steps = Arc::clone(&gate);
    let plan = plan.on("tools/call", move |mut call| {
        let steps = Arc::clone(&steps);
        async move {
            for step in 1..=5 {
                steps.acquire().await.expect("nobody closes it").forget();
                call.progress(f64::from(step), 5.0).await;
            }
            steps.acquire().await.expect("nobody closes it").forget();
            let words = format!("done {}", call.params()["arguments"]["who"]);
            call.text(&words).await;
        }
    });
    (plan, gate)
}

async fn call(client: &Client, who: &str) -> Exchange {
    let params =
        json!({ "name": "one__echo", "arguments": { "who": who }, "_meta": { "progressToken": who } });
    client.open("tools/call", params).await
}

fn steps_of(messages: &[Message]) -> Vec<i64> {
    let progress = messages.iter().filter(|message| message.method() == "notifications/progress");
    progress.map(|message| message.params()["progress"].as_f64().expect("a number") as i64).collect()
}

/// Read so many messages, and no further.
async fn read(exchange: &mut Exchange, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    for number in 0..count {
        let message = exchange.next().await;
        messages
            .push(message.unwrap_or_else(|| panic!("the stream ended after {number} of {count} messages")));
    }
    messages
}

/// The numbers of so many log messages, leaving out that lists changed.
async fn logged(exchange: &mut Exchange, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let message = exchange.next().await.expect("the stream does not end");
        if !message.method().ends_with("/list_changed") {
            numbers.push(message.params()["data"]["n"].as_i64().unwrap_or(-1));
        }
    }
    numbers
}

async fn ready(plan: UpstreamPlan) -> (Upstream, crate::support::Gateway) {
    let upstream = plan.start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    (upstream, gateway)
}

#[tokio::test]
async fn s_resum_01_event_ids_never_repeat_within_a_session_and_say_nothing() {
    let (plan, gate) = stepping(http_upstream("one"));
    let (upstream, gateway) = ready(plan).await;
    gate.add_permits(1_000);
    for revision in RESUMABLE {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
        let subscribed = upstream.until("a subscription", |ledger| {
            ledger.iter().rfind(|received| received.method() == "resources/subscribe").cloned()
        });
        let subscribed = subscribed.await;
        upstream.until_standing_for(&subscribed).await;
        let mut standing = client.standalone_stream().await;
        upstream.announce("notifications/resources/updated", json!({ "uri": "test://one/static" })).await;
        standing.until_method("notifications/resources/updated").await;
        let mut ids = standing.cut(false).ids;
        assert!(!ids.is_empty(), "{revision}: the standing stream has ids, too");
        for who in ["ada", "bob", "cyd"] {
            let mut stream = call(&client, who).await;
            let messages = read(&mut stream, 6).await;
            assert!(messages[5].is_response());
            assert!(stream.place.ids.len() >= 6, "{revision}: each event has an id: {:?}", stream.place);
            assert_eq!(stream.place.is_primed, revision == HANDSHAKE, "{revision}: {:?}", stream.place);
            ids.extend(stream.cut(false).ids);
        }
        let different: HashSet<&String> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{revision}: an id came twice: {ids:#?}");
        let session = client.session.as_deref().expect("given at initialize");
        for id in &ids {
            assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
            // A word long enough that chance does not write it into sealed bytes.
            assert!(!id.contains(session) && !id.contains("one__"), "{id:?} tells of its session or server");
        }
        assert!((200..300).contains(&client.delete().await));
    }
}

#[tokio::test]
async fn s_resum_02_f26_after_two_of_five_come_three_to_five_and_the_response_and_nothing_else() {
    for transport in TRANSPORTS {
        let (plan, gate) = stepping(upstream("one", HANDSHAKE, transport));
        let (upstream, gateway) = ready(plan).await;
        for revision in RESUMABLE {
            let client = gateway.handshake(revision).await;
            let mut stream = call(&client, "ada").await;
            gate.add_permits(2);
            assert_eq!(steps_of(&read(&mut stream, 2).await), [1, 2]);
            let place = stream.cut(true);
            // The third comes while nobody listens, the rest after the client is back.
            gate.add_permits(1);
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut resumed = client.resume(&place).await;
            assert_eq!(steps_of(&read(&mut resumed, 1).await), [3], "{revision} {transport:?}");
            gate.add_permits(3);
            let rest = resumed.answer().await;
            assert_eq!(steps_of(&rest.before), [3, 4, 5], "{revision} {transport:?}: {rest:#?}");
            assert_eq!(rest.before.len(), 3, "nothing else: {:#?}", rest.before);
            assert_eq!(rest.text(), "done \"ada\"");
        }
        assert!(upstream.received("notifications/cancelled").is_empty(), "leaving cancels nothing");
        assert_eq!(upstream.received("tools/call").len(), 3, "no call was sent twice");
    }
}

#[tokio::test]
async fn s_resum_02_a_finished_stream_is_replayed_from_wherever_the_client_stood() {
    let (plan, gate) = stepping(http_upstream("one"));
    let (_upstream, gateway) = ready(plan).await;
    gate.add_permits(1_000);
    for revision in RESUMABLE {
        let client = gateway.handshake(revision).await;
        let mut stream = call(&client, "ada").await;
        let whole = read(&mut stream, 6).await;
        assert!(whole[5].is_response());
        let place = stream.cut(false);
        let first = place.ids.len() - 6;
        for seen in 1..=5 {
            let mut earlier = place.clone();
            earlier.ids.truncate(first + seen);
            let mut again = client.resume(&earlier).await;
            let rest = again.rest().await;
            let texts: Vec<&str> = rest.iter().map(|message| message.raw.as_str()).collect();
            let expected: Vec<&str> = whole[seen..].iter().map(|message| message.raw.as_str()).collect();
            assert_eq!(texts, expected, "{revision}, after {seen} messages");
        }
        let mut over = client.resume_after(place.last_id().expect("it had ids")).await;
        if over.head().await.status() == 200 {
            assert!(over.rest().await.is_empty(), "{revision}: there was nothing after the response");
        }
    }
}

#[tokio::test]
async fn s_resum_02_s_https_09_two_streams_of_a_session_never_mix() {
    let plan = http_upstream("one").on("tools/call", |mut call| async move {
        for step in 1..=5 {
            call.progress(f64::from(step), 5.0).await;
            call.pause(20).await;
        }
        let words = format!("done {}", call.params()["arguments"]["who"]);
        call.text(&words).await;
    });
    let (_upstream, gateway) = ready(plan).await;
    for revision in RESUMABLE {
        let client = gateway.handshake(revision).await;
        let mut standing = client.standalone_stream().await;
        let mut streams = Vec::new();
        for who in ["ada", "bob", "cyd"] {
            streams.push((who, call(&client, who).await));
        }
        let mut places = Vec::new();
        for (seen, (who, mut stream)) in streams.into_iter().enumerate() {
            read(&mut stream, 1 + seen).await;
            places.push((who, 1 + seen, stream.cut(true)));
        }
        for (who, seen, place) in places {
            let mut resumed = client.resume(&place).await;
            let rest = resumed.rest().await;
            let steps = steps_of(&rest);
            assert_eq!(steps, (seen as i64 + 1..=5).collect::<Vec<_>>(), "{revision}, {who}");
            for message in &rest[..rest.len() - 1] {
                assert_eq!(message.params()["progressToken"], who, "{revision}: {}", message.raw);
            }
            let response = rest.last().expect("there is a response");
            assert_eq!(
                response.json["result"]["content"][0]["text"],
                format!("done {:?}", who),
                "{revision}"
            );
        }
        standing.expect_no_more_than_changes(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn s_resum_02_the_standing_stream_is_resumed_without_gap_or_duplicate() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for (round, revision) in RESUMABLE.iter().enumerate() {
            let client = gateway.handshake(revision).await;
            client.until_tools(&["one__echo"]).await;
            client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
            client.request("resources/subscribe", json!({ "uri": "test://one/static" })).await.result();
            let subscribed = upstream.until_received("resources/subscribe", round + 1).await;
            upstream.until_standing_for(&subscribed).await;
            let say = |n: i64| {
                let data = json!({ "level": "warning", "logger": "engine", "data": { "n": n } });
                upstream.announce("notifications/message", data)
            };
            let mut stream = client.standalone_stream().await;
            say(1).await;
            say(2).await;
            assert_eq!(logged(&mut stream, 2).await, [1, 2], "{revision} {transport:?}");
            let place = stream.cut(true);
            say(3).await;
            say(4).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut resumed = client.resume(&place).await;
            assert_eq!(logged(&mut resumed, 2).await, [3, 4], "{revision} {transport:?}");
            say(5).await;
            assert_eq!(logged(&mut resumed, 1).await, [5], "it goes on: {revision} {transport:?}");
            resumed.expect_no_more_than_changes(Duration::from_millis(100)).await;
            drop(resumed);
            assert!((200..300).contains(&client.delete().await));
        }
    }
}

#[tokio::test]
async fn s_resum_02_s_https_09_a_resumed_stream_takes_over_from_a_reader_that_hangs() {
    let (plan, gate) = stepping(http_upstream("one"));
    let (_upstream, gateway) = ready(plan).await;
    for revision in RESUMABLE {
        let client = gateway.handshake(revision).await;
        let mut hanging = call(&client, "ada").await;
        gate.add_permits(2);
        read(&mut hanging, 2).await;
        // The network of the first connection is gone, but nobody told the gateway.
        let mut resumed = client.resume(&hanging.here()).await;
        gate.add_permits(4);
        let steps = steps_of(&read(&mut resumed, 4).await);
        assert_eq!(steps, [3, 4, 5], "{revision}");
        let late = hanging.messages_within(Duration::from_millis(300)).await;
        assert!(late.is_empty(), "{revision}: messages go on one stream only: {late:#?}");
    }
}

#[tokio::test]
async fn s_resum_03_priming_is_for_2025_11_25_alone_and_older_streams_have_no_ids() {
    // A slow call without progress becomes a stream by itself; with a first message at once it is one anyway.
    let (plan, gate) = stepping(http_upstream("one"));
    let upstream = plan.start().await;
    let gateway = gateway()
        .with("one", &upstream)
        .config("bounds: { prime_after: 200ms, stream_after: 1s }")
        .start()
        .await;
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        for asks_for_progress in [true, false] {
            let mut stream = match asks_for_progress {
                true => call(&client, "ada").await,
                false => client.open_call("one__echo", json!({ "who": "ada" })).await,
            };
            stream.head().await;
            if revision == HANDSHAKE {
                let first = within(Duration::from_secs(5), "the priming event", stream.event()).await;
                let first = first.expect("the stream does not end");
                assert!(first.id.is_some(), "{first:?}");
                assert_eq!(first.data.as_deref(), Some(""), "an empty data field: {first:?}");
            }
            gate.add_permits(6);
            // That no other revision gets ids or empty events is checked with every event that is read.
            let place = {
                let messages = stream.rest().await;
                assert!(messages.last().is_some_and(Message::is_response), "{revision}: {messages:?}");
                stream.cut(false)
            };
            let has_ids = RESUMABLE.contains(&revision);
            assert_eq!(!place.ids.is_empty(), has_ids, "{revision}: {place:?}");
        }
    }
}

#[tokio::test]
async fn s_resum_04_a_stream_that_is_too_old_is_closed_with_a_retry_and_polled_to_the_result() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            for step in 1..=4 {
                call.pause(1_200).await;
                call.progress(f64::from(step), 4.0).await;
            }
            call.text("after five seconds").await;
        })
        .start()
        .await;
    let gateway =
        gateway().with("one", &upstream).config("bounds: { stream_age: 1s, retry: 150ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut stream = call(&client, "ada").await;
    let mut messages = Vec::new();
    let mut polls = 0;
    loop {
        let begun = tokio::time::Instant::now();
        messages.extend(within(Duration::from_secs(8), "the stream to be closed", stream.rest()).await);
        if messages.last().is_some_and(Message::is_response) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "closed at its age, not later");
        assert_eq!(stream.place.retry, Some(150), "a `retry` comes before the end: {:?}", stream.place);
        let place = stream.cut(false);
        tokio::time::sleep(Duration::from_millis(150)).await;
        stream = client.resume(&place).await;
        polls += 1;
    }
    assert!((2..=20).contains(&polls), "it was polled {polls} times");
    assert_eq!(steps_of(&messages), [1, 2, 3, 4]);
    assert_eq!(messages.len(), 5, "{messages:#?}");
    assert_eq!(upstream.received("tools/call").len(), 1, "the call went on all the time");

    // Clients that know nothing of polling keep their stream.
    let older = gateway.handshake("2025-06-18").await;
    let answer = call(&older, "bob").await.answer().await;
    assert_eq!(answer.text(), "after five seconds");
}

#[tokio::test]
async fn s_resum_04_the_standing_stream_is_polled_as_well() {
    let upstream = http_upstream("one").start().await;
    let gateway =
        gateway().with("one", &upstream).config("bounds: { stream_age: 1s, retry: 100ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
    client.call("one__echo", json!({})).await.result();
    let called = upstream.until_received("tools/call", 1).await;
    upstream.until_standing_for(&called).await;
    let mut stream = client.standalone_stream().await;
    let mut heard = Vec::new();
    for n in 1..=4_i64 {
        upstream.announce("notifications/message", json!({ "level": "error", "data": { "n": n } })).await;
        heard.extend(within(Duration::from_secs(5), "the stream to be closed", stream.rest()).await);
        assert_eq!(stream.place.retry, Some(100), "{:?}", stream.place);
        let place = stream.cut(false);
        stream = client.resume(&place).await;
    }
    heard.extend(stream.messages_within(Duration::from_millis(500)).await);
    let numbers: Vec<i64> =
        heard.iter().filter_map(|message| message.params()["data"]["n"].as_i64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[tokio::test]
async fn s_resum_06_a_polling_upstream_behind_a_client_that_is_not_polled() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            let id = call.id().to_owned();
            call.say_bytes(b"id: theirs-1\ndata:\n\n").await;
            let token = call.params()["_meta"]["progressToken"].clone();
            let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
                "params": { "progressToken": token, "progress": 1, "message": id } });
            call.say_bytes(format!("id: theirs-2\nretry: 100\ndata: {progress}\n\n").as_bytes()).await;
            call.finish().await;
        })
        .on("GET", |mut call| async move {
            let Some(last) = call.received.headers.get("last-event-id").map(str::to_owned) else {
                return call.default().await;
            };
            assert_eq!(last, "theirs-2", "the id of that stream");
            let asked = call.latest("tools/call");
            let answer = json!({ "jsonrpc": "2.0", "id": asked.json["id"],
                "result": { "content": [{ "type": "text", "text": "polled" }] } });
            call.say_bytes(format!("id: theirs-3\ndata: {answer}\n\n").as_bytes()).await;
            call.finish().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    for revision in ["2024-11-05", "2025-06-18", HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = call(&client, "ada").await;
        let messages = read(&mut stream, 2).await;
        assert_eq!(steps_of(&messages), [1], "{revision}");
        assert_eq!(messages[1].json["result"]["content"][0]["text"], "polled", "{revision}");
        let ids = stream.cut(false).ids;
        assert!(ids.iter().all(|id| !id.contains("theirs-")), "ids of the other hop: {ids:?}");
    }
}

#[tokio::test]
async fn s_resum_07_the_stateless_era_knows_no_resumption() {
    let (plan, gate) = stepping(http_upstream("one"));
    let (_upstream, gateway) = ready(plan).await;
    gate.add_permits(100);
    let session = gateway.handshake(HANDSHAKE).await;
    let mut stream = call(&session, "ada").await;
    read(&mut stream, 6).await;
    let id = stream.cut(false).last_id().expect("it has ids").to_owned();
    let client = gateway.stateless();
    assert_eq!(client.resume_after(&id).await.head().await.status(), 405);
    let params = client.dress(json!({ "name": "one__echo", "arguments": { "who": "bob" } }));
    let mut headers = client.headers("tools/call", &params);
    headers.set("Last-Event-ID", &id);
    let body = json!({ "jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": params });
    let answer =
        client.open_raw(json!("x"), "tools/call", headers, body.to_string().as_bytes()).await.answer().await;
    assert_eq!(answer.text(), "done \"bob\"", "the header is ignored");
}

#[tokio::test]
async fn s_https_12_s_resum_02_an_answer_nobody_waits_for_is_kept_only_for_who_saw_the_priming_event() {
    let (plan, gate) = stepping(http_upstream("one"));
    let upstream = plan.start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { prime_after: 200ms }").start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut standing = client.standalone_stream().await;

    // The one was primed and left; the other left before anything was sent.
    let mut primed = client.open_call("one__echo", json!({ "who": "primed" })).await;
    let first = primed.event().await.expect("the priming event");
    assert!(first.id.is_some(), "{first:?}");
    let place = primed.cut(true);
    let unprimed = client.open_call("one__echo", json!({ "who": "unprimed" })).await;
    let id = unprimed.id();
    upstream.until_received("tools/call", 2).await;
    drop(unprimed);
    gate.add_permits(12);

    let answer = client.resume(&place).await.answer().await;
    assert_eq!(answer.text(), "done \"primed\"");
    assert!(answer.before.is_empty(), "{:#?}", answer.before);
    eventually("the id of the lost call to be free", || async {
        let answer = client.open_as(id.clone(), "ping", json!({})).await.whole().await;
        (answer.json().get("result") == Some(&json!({}))).then_some(())
    })
    .await;
    standing.expect_no_more_than_changes(Duration::from_millis(300)).await;
    assert!(upstream.received("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn s_https_10_what_a_call_causes_comes_before_its_response_on_its_own_stream() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.progress(1.0, 3.0).await;
            call.notify("notifications/message", json!({ "level": "error", "data": "from the call" })).await;
            let form =
                json!({ "message": "Sure?", "requestedSchema": { "type": "object", "properties": {} } });
            let answer = call.ask("elicitation/create", form).await;
            call.progress(2.0, 3.0).await;
            let action = answer["result"]["action"].to_string();
            call.text(&action).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
    let mut standing = client.standalone_stream().await;
    let mut stream = call(&client, "ada").await;
    let asked = stream.until_method("elicitation/create").await;
    // The question is asked again of nobody else, and survives a cut of the stream that carried it.
    let seen = stream.place.ids.len();
    let place = stream.cut(true);
    assert!(seen >= 3, "{place:?}");
    let resumed = client.resume(&place).await;
    assert_eq!(client.respond(&asked.json["id"], json!({ "action": "decline" })).await, 202);
    let answer = resumed.answer().await;
    assert_eq!(answer.text(), "\"decline\"");
    assert_eq!(answer.progress(), [2.0]);
    standing.expect_no_more_than_changes(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn s_resum_04_f52_sigterm_closes_streams_in_good_order() {
    let plan = http_upstream("one").on("tools/call", |mut call| async move {
        call.progress(1.0, 5.0).await;
        call.cancelled().await;
    });
    let upstream = plan.start().await;
    let mut gateway = gateway().with("one", &upstream).config("bounds: { drain: 2s }").start().await;
    let mut opened = Vec::new();
    for revision in RESUMABLE {
        let client = gateway.handshake(revision).await;
        client.until_tools(&["one__echo"]).await;
        let standing = client.standalone_stream().await;
        let mut running = call(&client, "ada").await;
        read(&mut running, 1).await;
        opened.push((revision, standing, running));
    }
    gateway.signal(rustix::process::Signal::TERM);
    // Reading on panics if a stream breaks off instead of ending, or ends inside an event.
    for (revision, mut standing, mut running) in opened {
        let idle = within(Duration::from_secs(10), "the standing stream to end", standing.rest()).await;
        let is_change = |message: &Message| message.method().ends_with("/list_changed");
        assert!(idle.iter().all(is_change), "{revision}: {idle:#?}");
        let rest = within(Duration::from_secs(10), "the call's stream to end", running.rest()).await;
        assert!(steps_of(&rest).is_empty(), "{revision}: {rest:#?}");
        assert!(rest.iter().all(Message::is_response), "{revision}: {rest:#?}");
        if revision == HANDSHAKE {
            assert!(
                standing.place.retry.is_some(),
                "a client is told when to come back: {:?}",
                standing.place
            );
        }
    }
    let status = gateway.ended().await;
    assert!(status.success(), "{status:?}");
}
