//! Upstream streams that break off, and how the gateway takes them up again (S-HTTPC-07, S-HTTPC-08, S-RESUM-06, F07).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::upstream::{Received, UpstreamPlan};
use crate::support::{
    Call, HANDSHAKE, STATELESS, Upstream, gateway, http_upstream, stateless_upstream, within,
};

const QUICK: &str = "bounds: { backoff_first: 100ms, backoff_longest: 500ms, retry: 50ms }";

/// How a stream of the upstream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Gracefully,
    MidAir,
    ByReset,
}

/// What an upstream wrote down of its calls, so that their streams can be read on: priming event, two progress
/// notifications, the answer; their ids end with 0, 1, 2 and 3.
#[derive(Clone, Default)]
struct Tapes(Arc<Mutex<TapesInner>>);

#[derive(Default)]
struct TapesInner {
    events: HashMap<String, String>,
    calls: usize,
    resumed: Vec<(Instant, String)>,
}

impl Tapes {
    fn write_down(&self, call: &Call, retry: u64) -> (usize, Vec<String>) {
        let mut tapes = self.0.lock().expect("nobody panics while holding it");
        let (number, token) = (tapes.calls, &call.params()["_meta"]["progressToken"]);
        tapes.calls += 1;
        let progress = |n| {
            let params = json!({ "progressToken": token, "progress": n, "total": 2 });
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }).to_string()
        };
        let result = json!({ "content": [{ "type": "text", "text": format!("done {number}") }] });
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id());
        let events: Vec<String> = vec![
            format!("id: up-{number}-0\nretry: {retry}\ndata: \n\n"),
            format!("id: up-{number}-1\ndata: {}\n\n", progress(1)),
            format!("event: message\r\nid: up-{number}-2\r\ndata: {}\r\n\r\n", progress(2)),
            format!("id: up-{number}-3\ndata: {answer}\n\n"),
        ];
        for (n, event) in events.iter().enumerate() {
            tapes.events.insert(format!("up-{number}-{n}"), event.clone());
        }
        (number, events)
    }

    /// What follows an event.
    fn after(&self, id: &str) -> Vec<String> {
        let mut tapes = self.0.lock().expect("nobody panics while holding it");
        tapes.resumed.push((Instant::now(), id.to_owned()));
        let (stream, last) = id.rsplit_once('-').expect("one of these ids");
        let last: usize = last.parse().expect("a number");
        (last + 1..4).filter_map(|n| tapes.events.get(&format!("{stream}-{n}")).cloned()).collect()
    }

    fn resumed(&self) -> Vec<(Instant, String)> {
        self.0.lock().expect("nobody panics while holding it").resumed.clone()
    }

    fn resumed_with(&self) -> Vec<String> {
        self.resumed().into_iter().map(|(_, id)| id).collect()
    }
}

async fn end(mut call: Call, how: End) {
    match how {
        End::Gracefully => call.finish().await,
        End::MidAir => call.close().await,
        End::ByReset => {
            // What was written shall arrive: a reset drops what is still under way.
            call.pause(60).await;
            call.reset().await;
        }
    }
}

fn last_event_id(call: &Call) -> Option<String> {
    call.received.headers.get("last-event-id").map(str::to_owned)
}

/// An upstream whose streams carry at most `each` events of a call, then end.
fn polling(tapes: &Tapes, retry: u64, each: usize, how: End) -> UpstreamPlan {
    let (told, resumed) = (tapes.clone(), tapes.clone());
    http_upstream("one")
        .on("tools/call", move |mut call| {
            let tapes = told.clone();
            async move {
                let (_, events) = tapes.write_down(&call, retry);
                for event in events.iter().take(each) {
                    call.say_bytes(event.as_bytes()).await;
                }
                end(call, how).await;
            }
        })
        .on("GET", move |mut call| {
            let tapes = resumed.clone();
            async move {
                let Some(last) = last_event_id(&call) else { return call.default().await };
                for event in tapes.after(&last).iter().take(each) {
                    call.say_bytes(event.as_bytes()).await;
                }
                end(call, how).await;
            }
        })
}

fn gets(upstream: &Upstream) -> Vec<Option<String>> {
    let ledger = upstream.ledger().into_iter().filter(|received| received.verb == "GET");
    ledger.map(|get| get.headers.get("last-event-id").map(str::to_owned)).collect()
}

#[tokio::test]
async fn s_httpc_07_a_stream_that_ends_early_is_read_on_after_the_wait_it_named() {
    for how in [End::Gracefully, End::MidAir, End::ByReset] {
        println!("=== the stream ends {how:?}");
        let tapes = Tapes::default();
        let upstream = polling(&tapes, 500, 1, how).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let started = Instant::now();
        assert_eq!(client.call("one__echo", json!({})).await.text(), "done 0");
        let resumed = tapes.resumed();
        assert_eq!(tapes.resumed_with(), ["up-0-0", "up-0-1", "up-0-2"], "one stream after the other");
        let mut before = started;
        for (at, id) in resumed {
            let waited = at - before;
            // The upper end is generous: tests share a busy machine.
            assert!(waited >= Duration::from_millis(450), "{id} after {waited:?}");
            assert!(waited <= Duration::from_millis(2_000), "{id} after {waited:?}");
            before = at;
        }
        let posted = upstream.received("tools/call");
        assert_eq!(posted.len(), 1, "a call is never sent again");
        for get in upstream.ledger().iter().filter(|received| received.verb == "GET") {
            assert!(get.session().is_some(), "{:?}", get.headers);
            assert_eq!(get.headers.get("mcp-protocol-version"), Some(HANDSHAKE));
            assert_eq!(get.headers.get("accept"), Some("text/event-stream"));
        }
    }
}

#[tokio::test]
async fn f07_reset_mid_stream() {
    // The events of a call have some 600 bytes together; each cut is another call.
    for how in [End::MidAir, End::ByReset] {
        let (tapes, cut) = (Tapes::default(), Arc::new(Mutex::new(0_usize)));
        let (told, at) = (tapes.clone(), Arc::clone(&cut));
        let upstream = polling(&tapes, 30, 4, End::Gracefully)
            .on("tools/call", move |mut call| {
                let (tapes, cut) = (told.clone(), *at.lock().expect("nobody panics while holding it"));
                async move {
                    let (_, events) = tapes.write_down(&call, 30);
                    let bytes = events.concat().into_bytes();
                    call.say_bytes(&bytes[..cut.min(bytes.len())]).await;
                    end(call, how).await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let priming = "id: up-00-0\nretry: 30\ndata: \n\n".len();
        for (number, position) in [1, 5, priming - 3, priming, priming + 1, 90, 140, 200, 260, 300, 333, 350]
            .into_iter()
            .enumerate()
        {
            *cut.lock().expect("nobody panics while holding it") = position;
            let answer = client.open_call_with_progress("one__echo", json!(number)).await.answer().await;
            let resumed = tapes.resumed_with().iter().any(|id| id.starts_with(&format!("up-{number}-")));
            println!("=== {how:?} after {position} bytes: resumed {resumed}");
            if position < priming - 3 {
                assert!(!resumed, "an event that did not arrive whole has no id");
            }
            if resumed {
                assert_eq!(answer.text(), format!("done {number}"));
                assert_eq!(answer.progress(), [1.0, 2.0], "each event once, and in order");
            } else {
                answer.expect_failure("upstream_lost", "unknown");
            }
            if position > priming && how == End::MidAir {
                assert!(resumed, "after {position} bytes there was an id");
            }
        }
        assert_eq!(upstream.received("tools/call").len(), 12, "a call that may have run is never sent again");
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn s_httpc_07_f07_without_an_id_nobody_knows_what_became_of_the_call() {
    for how in [End::Gracefully, End::MidAir] {
        let upstream = http_upstream("one")
            .on("tools/call", move |mut call| async move {
                // An empty id forgets the one before it.
                call.say_bytes(b"id: up-1\ndata: \n\nretry: 10\nid:\ndata: \n\n: comment\n\n").await;
                end(call, how).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.expect_failure("upstream_lost", "unknown");
        assert!(gets(&upstream).iter().all(Option::is_none), "{:?}", gets(&upstream));
    }
}

#[tokio::test]
async fn s_httpc_08_each_stream_goes_on_with_its_own_id() {
    let tapes = Tapes::default();
    let (told, resumed) = (tapes.clone(), tapes.clone());
    let upstream = polling(&tapes, 100, 2, End::Gracefully)
        .on("tools/call", move |mut call| {
            let tapes = told.clone();
            async move {
                let (number, events) = tapes.write_down(&call, 100);
                // The streams of several calls break off at different places, all at about the same time.
                for event in events.iter().take(1 + number % 3) {
                    call.say_bytes(event.as_bytes()).await;
                }
                call.finish().await;
            }
        })
        .on("GET", move |mut call| {
            let tapes = resumed.clone();
            async move {
                match last_event_id(&call) {
                    None => {
                        call.say_bytes(b"id: standing-1\nretry: 40\ndata: \n\n").await;
                        call.finish().await;
                    }
                    Some(id) if id.starts_with("standing-") => {
                        call.notify("notifications/tools/list_changed", json!({})).await;
                        call.disconnected().await;
                    }
                    Some(id) => {
                        for event in tapes.after(&id) {
                            call.say_bytes(event.as_bytes()).await;
                        }
                        call.finish().await;
                    }
                }
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = Vec::new();
    for n in 0..6 {
        running.push(client.open_call_with_progress("one__echo", json!(n)).await);
    }
    for call in running {
        let answer = call.answer().await;
        assert!(answer.text().starts_with("done "), "{}", answer.raw);
        assert_eq!(answer.progress(), [1.0, 2.0], "{:?}", answer.before);
    }
    let mut resumed = tapes.resumed_with();
    resumed.sort();
    assert_eq!(resumed, ["up-0-0", "up-1-1", "up-2-2", "up-3-0", "up-4-1", "up-5-2"]);
    let standing = || gets(&upstream).into_iter().flatten().any(|id| id == "standing-1");
    crate::support::eventually("the standing stream to go on", || async { standing().then_some(()) }).await;
}

#[tokio::test]
async fn s_resum_06_a_polling_upstream_is_nothing_that_a_client_sees() {
    for revision in ["2025-03-26", "2025-06-18", HANDSHAKE, STATELESS] {
        let tapes = Tapes::default();
        let upstream = polling(&tapes, 150, 1, End::Gracefully).start().await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.client(revision).await;
        client.until_tools(&["one__echo"]).await;
        let mut call = client.open_call_with_progress("one__echo", json!("mine")).await;
        let mut seen = Vec::new();
        while let Some(event) = call.event().await {
            assert!(!format!("{event:?}").contains("up-0-"), "an id of the upstream: {event:?}");
            let data = event.data.unwrap_or_default();
            let is_answer = data.contains(r#""result""#);
            if !data.is_empty() {
                seen.push(data);
            }
            if is_answer {
                break;
            }
        }
        assert_eq!(seen.len(), 3, "two of progress and the answer, on one stream: {seen:?}");
        assert!(seen[2].contains("done 0"), "{seen:?}");
        assert_eq!(tapes.resumed_with(), ["up-0-0", "up-0-1", "up-0-2"]);
        assert!(!gateway.stderr().contains("up-0-"), "nor are they logged");
    }
}

#[tokio::test]
async fn s_httpc_07_the_wait_ends_when_the_answer_comes_on_another_stream() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            call.say_bytes(b"id: up-0-0\nretry: 15000\ndata: \n\n").await;
            call.finish().await;
            call.pause(200).await;
            let result = json!({ "content": [{ "type": "text", "text": "over there" }] });
            call.elsewhere(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id())).await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let answer = within(Duration::from_secs(10), "the answer", client.call("one__echo", json!({}))).await;
    assert_eq!(answer.text(), "over there");
    assert!(gets(&upstream).iter().all(Option::is_none), "there is nothing left to read");
}

#[tokio::test]
async fn s_httpc_07_an_upstream_that_will_not_go_on_ends_the_call_and_not_the_session() {
    for (status, attempts) in [(400, 1), (405, 1), (404, 1), (503, 5)] {
        println!("=== the resumption is answered with {status}");
        let upstream = polling(&Tapes::default(), 30, 1, End::Gracefully)
            .on("GET", move |mut call| async move {
                match last_event_id(&call) {
                    Some(_) => call.http(status, &[], b"").await,
                    None => call.default().await,
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.request("prompts/get", json!({ "name": "one__greet", "arguments": {} })).await;
        let before = upstream.received("initialize").len();
        client.call("one__echo", json!({})).await.expect_failure("upstream_lost", "unknown");
        client.request("prompts/get", json!({ "name": "one__greet", "arguments": {} })).await.result();
        assert_eq!(upstream.received("initialize").len(), before, "what it forgot may be the event alone");
        assert_eq!(gets(&upstream).iter().flatten().count(), attempts);
    }
}

/// An upstream whose sessions' first standing streams end after these bytes. What it then makes of an attempt without an
/// id is told; with an id, it is 404.
fn forgetful(first: &'static [u8], without_id: Option<u16>) -> UpstreamPlan {
    let stood = Arc::new(Mutex::new(HashSet::new()));
    http_upstream("one").on("GET", move |mut call| {
        let session = call.received.session().map(str::to_owned);
        let is_first = stood.lock().expect("nobody panics while holding it").insert(session);
        async move {
            match without_id {
                _ if is_first => {
                    call.say_bytes(first).await;
                    call.finish().await;
                }
                _ if last_event_id(&call).is_some() => call.http(404, &[], b"").await,
                Some(status) => call.http(status, &[], b"").await,
                None => call.default().await,
            }
        }
    })
}

#[tokio::test]
async fn s_httpc_07_a_standing_stream_whose_event_was_forgotten_begins_anew_in_the_same_session() {
    let upstream = forgetful(b"id: standing-1\nretry: 30\ndata: \n\n", None).start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    let session = upstream.received("tools/call")[0].session().map(str::to_owned);
    let anew = |ledger: &[Received]| {
        let own = ledger.iter().filter(|get| get.verb == "GET" && get.session() == session.as_deref());
        let ids: Vec<_> = own.map(|get| get.headers.get("last-event-id")).collect();
        (ids == [None, Some("standing-1"), None]).then_some(())
    };
    upstream.until("the standing stream without the id", anew).await;
    client.call("one__echo", json!({})).await.text();
    assert_eq!(upstream.received("tools/call")[1].session(), session.as_deref(), "which was never in doubt");
}

#[tokio::test]
async fn s_httpc_04_a_standing_stream_that_is_unknown_after_a_good_one_ends_the_session() {
    let upstream = forgetful(b"retry: 30\ndata: \n\n", Some(404)).start().await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    let session = upstream.received("tools/call")[0].session().map(str::to_owned);
    let given_up = || async {
        client.call("one__echo", json!({})).await.text();
        let calls = upstream.received("tools/call");
        calls.iter().any(|call| call.session() != session.as_deref()).then_some(())
    };
    crate::support::eventually("another session", given_up).await;
    let useless = |gone: &Received| gone.verb == "DELETE" && gone.session() == session.as_deref();
    assert!(!upstream.ledger().iter().any(useless), "there is nothing left to end");
}

#[tokio::test]
async fn s_httpc_07_a_stream_that_breaks_off_again_and_again_is_given_up() {
    let upstream = polling(&Tapes::default(), 30, 1, End::Gracefully)
        .on("GET", |mut call| async move {
            if last_event_id(&call).is_none() {
                return call.default().await;
            }
            call.say_bytes(b"id: up-0-0\nretry: 30\ndata: \n\n").await;
            call.close().await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let answer =
        within(Duration::from_secs(15), "the call to end", client.call("one__echo", json!({}))).await;
    answer.expect_failure("upstream_lost", "unknown");
    assert_eq!(gets(&upstream).iter().flatten().count(), 5);
}

#[tokio::test]
async fn s_httpc_07_s_httpc_08_an_upstream_may_be_polled_for_as_long_as_the_call_may_take() {
    for silent in [&b": nothing yet\n\n"[..], b"id: up-0-0\nretry: 30\ndata: \n\n"] {
        let (tapes, polls) = (Tapes::default(), Arc::new(AtomicUsize::new(0)));
        let (resumed, counted) = (tapes.clone(), Arc::clone(&polls));
        let upstream = polling(&tapes, 30, 1, End::Gracefully)
            .on("GET", move |mut call| {
                let (tapes, polls) = (resumed.clone(), Arc::clone(&counted));
                async move {
                    let Some(last) = last_event_id(&call) else { return call.default().await };
                    if polls.fetch_add(1, Ordering::Relaxed) < 12 {
                        call.say_bytes(silent).await;
                    } else {
                        call.say_bytes(tapes.after(&last).concat().as_bytes()).await;
                    }
                    call.finish().await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let started = Instant::now();
        assert_eq!(client.call("one__echo", json!({})).await.text(), "done 0");
        assert_eq!(polls.load(Ordering::Relaxed), 13, "twelve brought nothing");
        assert!(started.elapsed() >= Duration::from_millis(13 * 25), "each after the wait that was named");
    }
}

#[tokio::test]
async fn s_httpc_07_a_standing_stream_that_is_polled_keeps_its_place() {
    let polls = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&polls);
    let upstream = http_upstream("one")
        .on("GET", move |mut call| {
            counted.lock().expect("nobody panics while holding it").push(last_event_id(&call));
            async move {
                call.say_bytes(b"id: standing-1\nretry: 30\ndata: \n\n").await;
                call.finish().await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
    gateway.handshake(HANDSHAKE).await.until_tools(&["one__echo"]).await;
    let polls = || polls.lock().expect("nobody panics while holding it").clone();
    crate::support::eventually("a dozen polls", || async { (polls().len() > 12).then_some(()) }).await;
    assert!(polls()[1..].iter().all(|id| id.as_deref() == Some("standing-1")), "{:?}", polls());
}

#[tokio::test]
async fn s_httpc_07_waiting_for_a_stream_is_part_of_the_call_s_own_time() {
    let upstream = polling(&Tapes::default(), 60_000, 1, End::Gracefully).start().await;
    let gateway =
        gateway().with_more("one", &upstream, json!({ "timeout": "1s" })).config(QUICK).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.expect_failure("upstream_timeout", "unknown");
    upstream.until_received("notifications/cancelled", 1).await;
}

#[tokio::test]
async fn f07_a_stateless_stream_that_breaks_off_is_lost_and_asked_for_nowhere() {
    for how in [End::Gracefully, End::MidAir, End::ByReset] {
        let upstream = stateless_upstream("one")
            .on("tools/call", move |mut call| async move {
                // Ids and waits mean nothing in this era.
                call.say_bytes(b"id: up-0-0\nretry: 10\ndata: \n\n").await;
                end(call, how).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).config(QUICK).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.expect_failure("upstream_lost", "unknown");
        assert_eq!(upstream.received("tools/call").len(), 1, "a call that may have run is never sent again");
        assert!(gets(&upstream).is_empty(), "{:?}", gets(&upstream));
    }
}
