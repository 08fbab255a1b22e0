//! Sessions that outlive the gateway (`sessions: durable`): it is killed, another one starts on the same state, and its
//! clients go on where they were (F26, S-RESUM-05, S-SESS).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Exchange, Message};
use crate::support::gateway::{Gateway, Plan};
use crate::support::upstream::UpstreamPlan;
use crate::support::{HANDSHAKE, eventually, gateway, http_upstream, patiently};

/// The revisions whose streams can be resumed.
const RESUMABLE: [&str; 3] = ["2025-03-26", "2025-06-18", HANDSHAKE];

/// A directory for the state of several gateways, one after the other.
struct State(PathBuf);

impl State {
    fn new() -> State {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchyard-kept-{}-{number}", std::process::id());
        State(std::env::temp_dir().join(name))
    }

    /// Keeps sessions here.
    fn durable(&self, plan: Plan) -> Plan {
        self.alone(plan).config("sessions: durable")
    }

    /// Keeps other state here.
    fn alone(&self, plan: Plan) -> Plan {
        plan.config(&format!("state: {}", self.0.display()))
    }

    fn is_there(&self) -> bool {
        self.0.exists()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Kill the gateway and start the next one.
async fn killed(mut before: Gateway, plan: &Plan) -> Gateway {
    before.kill().await;
    plan.start().await
}

/// Says as many steps as it is asked for; after the fifth comes the result, and before it nothing more.
fn stepping(plan: UpstreamPlan) -> UpstreamPlan {
    plan.on("tools/call", |mut call| async move {
        let steps = call.params()["arguments"]["steps"].as_i64().unwrap_or(STEPS);
        for step in 1..=steps {
            call.progress(step as f64, STEPS as f64).await;
        }
        if steps < STEPS {
            std::future::pending::<()>().await;
        }
        call.text("done").await;
    })
}

const STEPS: i64 = 5;

async fn call(client: &Client, steps: i64) -> Exchange {
    let params = json!({ "name": "one__echo", "arguments": { "steps": steps }, "_meta": { "progressToken": "token" } });
    client.open("tools/call", params).await
}

async fn read(exchange: &mut Exchange, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    for number in 0..count {
        let message = exchange.next().await;
        messages.push(message.unwrap_or_else(|| panic!("the stream ended after {number} of {count}")));
    }
    messages
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.raw.as_str()).collect()
}

fn steps_of(messages: &[Message]) -> Vec<i64> {
    let progress = messages.iter().filter(|message| message.method() == "notifications/progress");
    progress.map(|message| message.params()["progress"].as_f64().expect("a number") as i64).collect()
}

/// Fail unless this says that the gateway was restarted and that nobody knows whether the call ran.
fn assert_cut_short(message: &Message) {
    let failure = &message.json["error"]["data"];
    let said = (&failure["reason"], &failure["outcome"], &failure["retryable"]);
    assert_eq!(said, (&json!("gateway_restarted"), &json!("unknown"), &json!(false)), "{}", message.raw);
}

#[tokio::test]
async fn f26_s_resum_02_after_kill_9_a_stream_goes_on_behind_what_its_client_has_had() {
    let (upstream, state) = (stepping(http_upstream("one")).start().await, State::new());
    let plan = state.durable(gateway().with("one", &upstream));
    let first = plan.start().await;
    first.stateless().until_tools(&["one__echo"]).await;
    let mut left = Vec::new();
    for revision in RESUMABLE {
        let client = first.handshake(revision).await;
        let mut finished = call(&client, STEPS).await;
        let whole = read(&mut finished, 6).await;
        assert!(whole[5].is_response() && finished.next().await.is_none());
        let finished = finished.cut(false);
        let mut running = call(&client, 3).await;
        let begun = read(&mut running, 3).await;
        assert_eq!(steps_of(&begun), [1, 2, 3]);
        left.push((client, whole, finished, begun, running.cut(true)));
    }
    let sent = upstream.received("tools/call").len();

    let second = killed(first, &plan).await;
    for (client, whole, finished, begun, running) in left {
        let (client, revision) = (client.at(&second.endpoint), client.revision.clone());
        let before = finished.ids.len() - 6;
        for seen in 1..=6 {
            let mut earlier = finished.clone();
            earlier.ids.truncate(before + seen);
            let rest = client.resume(&earlier).await.rest().await;
            assert_eq!(texts(&rest), texts(&whole[seen..]), "{revision}, after {seen}");
        }
        let mut after_two = running.clone();
        after_two.ids.truncate(running.ids.len() - 1);
        let rest = client.resume(&after_two).await.rest().await;
        assert_eq!(texts(&rest[..1]), texts(&begun[2..]), "{revision}");
        assert_cut_short(&rest[1]);
        assert_eq!(rest.len(), 2, "{revision}: {rest:#?}");
        let again = client.resume(&running).await.rest().await;
        assert_eq!(texts(&again), texts(&rest[1..]), "{revision}: as often as it is asked for");
    }
    assert_eq!(upstream.received("tools/call").len(), sent, "no call was sent twice");
}

#[tokio::test]
async fn f26_s_sess_05_a_session_goes_on_after_kill_9_with_its_level_and_subscriptions() {
    let (upstream, state) = (http_upstream("one").start().await, State::new());
    let plan = state.durable(gateway().with("one", &upstream));
    let first = plan.start().await;
    let client = first.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.request("logging/setLevel", json!({ "level": "debug" })).await.result();
    for uri in ["test://one/static", "test://one/other"] {
        client.request("resources/subscribe", json!({ "uri": uri })).await.result();
    }
    client.request("resources/unsubscribe", json!({ "uri": "test://one/other" })).await.result();
    upstream.until_standing_for(&upstream.until_received("resources/subscribe", 1).await).await;
    let updated =
        || upstream.announce("notifications/resources/updated", json!({ "uri": "test://one/static" }));
    let mut standing = client.standalone_stream().await;
    updated().await;
    standing.until_method("notifications/resources/updated").await;
    let place = standing.cut(true);
    let connections = upstream.sessions().len();

    let second = killed(first, &plan).await;
    let client = client.at(&second.endpoint);
    let mut standing = client.resume(&place).await;
    // Its server is asked again, and what happened meanwhile nobody knows.
    let again = upstream.until_received("resources/subscribe", 3).await;
    assert_eq!(again.params()["uri"], "test://one/static", "the other one was ended");
    standing.until_method("notifications/resources/updated").await;
    upstream.until_standing_for(&again).await;
    updated().await;
    standing.until_method("notifications/resources/updated").await;
    let log = json!({ "level": "debug", "logger": "engine", "data": "a detail" });
    upstream.announce("notifications/message", log).await;
    standing.until_method("notifications/message").await;
    assert!(upstream.sessions().len() > connections, "its connections are new");
    upstream.until_received("logging/setLevel", 2).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({ "text": "here" })).await.result();
}

#[tokio::test]
async fn f26_s_sess_03_a_session_that_ended_stays_ended() {
    let (upstream, state) = (http_upstream("one").start().await, State::new());
    let plan = state.durable(gateway().with("one", &upstream)).config("bounds: { session_idle: 1s }");
    let first = plan.start().await;
    let (ended, idle) = (first.handshake(HANDSHAKE).await, first.handshake(HANDSHAKE).await);
    let kept = first.handshake(HANDSHAKE).await;
    let _used = kept.standalone_stream().await;
    assert!((200..300).contains(&ended.delete().await));
    eventually("the idle session to end", || async {
        let count = first.admin_get("/api/v1/sessions").await.json().as_array().map(Vec::len);
        (count == Some(1)).then_some(())
    })
    .await;
    // What is written after an end is written when this is answered.
    kept.request("logging/setLevel", json!({ "level": "info" })).await.result();

    let second = killed(first, &plan).await;
    for client in [&ended, &idle] {
        let answer = client.at(&second.endpoint).request("ping", json!({})).await;
        assert_eq!(answer.status, 404, "{}", answer.raw);
    }
    assert_eq!(kept.at(&second.endpoint).request("ping", json!({})).await.status, 200);
}

#[tokio::test]
async fn f26_a_session_whose_streams_cannot_be_resumed_goes_on_as_well() {
    let (upstream, state) = (http_upstream("one").start().await, State::new());
    let plan = state.durable(gateway().with("one", &upstream));
    let first = plan.start().await;
    let client = first.handshake("2024-11-05").await;
    client.until_tools(&["one__echo"]).await;
    let second = killed(first, &plan).await;
    let client = client.at(&second.endpoint);
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({ "text": "here" })).await.result();
    let mut standing = client.standalone_stream().await;
    upstream.announce("notifications/message", json!({ "level": "error", "data": "loud" })).await;
    standing.until_method("notifications/message").await;
}

#[tokio::test]
async fn f26_sessions_that_were_kept_end_when_that_is_no_longer_asked_for() {
    let (upstream, state) = (http_upstream("one").start().await, State::new());
    let durable = state.durable(gateway().with("one", &upstream));
    let memory = state.alone(gateway().with("one", &upstream));
    let first = durable.start().await;
    let client = first.handshake(HANDSHAKE).await;
    let mut second = killed(first, &memory).await;
    assert_eq!(client.at(&second.endpoint).request("ping", json!({})).await.status, 404);
    assert!(second.terminate().await.success());
    let third = durable.start().await;
    assert_eq!(client.at(&third.endpoint).request("ping", json!({})).await.status, 404);
}

#[tokio::test]
async fn f26_an_orderly_end_keeps_sessions_too_and_what_was_cut_short_by_it() {
    let (upstream, state) = (stepping(http_upstream("one")).start().await, State::new());
    let plan = state.durable(gateway().with("one", &upstream)).config("bounds: { drain: 100ms }");
    let mut first = plan.start().await;
    let client = first.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    let mut running = call(&client, 2).await;
    assert_eq!(steps_of(&read(&mut running, 2).await), [1, 2]);
    let place = running.cut(true);
    assert!(first.terminate().await.success());

    let second = plan.start().await;
    let client = client.at(&second.endpoint);
    let rest = client.resume(&place).await.rest().await;
    assert_eq!(rest.len(), 1, "{rest:#?}");
    assert_cut_short(&rest[0]);
    client.until_tools(&["one__echo"]).await;
    assert_eq!(client.call("one__echo", json!({})).await.text(), "done");
}

#[tokio::test]
async fn f26_s_canc_06_a_question_that_was_open_is_withdrawn_and_its_number_is_not_used_again() {
    let upstream = http_upstream("one").asking().start().await;
    let state = State::new();
    let plan = state.durable(gateway().with("one", &upstream));
    let first = plan.start().await;
    let client = first.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    let form = json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": {} } });
    let arguments = crate::support::client::question("elicitation/create", &form);
    let mut asking = client.open_call("one__echo", arguments.clone()).await;
    let question = asking.until_method("elicitation/create").await;
    let place = asking.cut(true);

    let second = killed(first, &plan).await;
    let client = client.at(&second.endpoint);
    let rest = client.resume(&place).await.rest().await;
    assert_eq!(rest[0].method(), "notifications/cancelled", "{rest:#?}");
    assert_eq!(rest[0].params()["requestId"], question.json["id"]);
    assert_cut_short(&rest[1]);
    client.until_tools(&["one__echo"]).await;
    let mut asking = client.open_call("one__echo", arguments).await;
    let next = asking.until_method("elicitation/create").await;
    assert_ne!(next.json["id"], question.json["id"]);
    // A late answer to the one before answers nothing.
    client.respond(&question.json["id"], json!({ "action": "cancel" })).await;
    client.respond(&next.json["id"], json!({ "action": "accept", "content": {} })).await;
    let answer = asking.answer().await;
    assert!(answer.text().contains("accept"), "{}", answer.raw);
}

#[tokio::test]
async fn f26_unless_it_is_asked_for_nothing_is_kept() {
    let (upstream, state) = (http_upstream("one").start().await, State::new());
    let plan = state.alone(gateway().with("one", &upstream));
    let first = plan.start().await;
    let client = first.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.result();
    let second = killed(first, &plan).await;
    assert_eq!(client.at(&second.endpoint).request("ping", json!({})).await.status, 404);
    assert!(!state.is_there(), "nothing was written");
}

/// The stream of one call over several gateways.
struct Reader {
    client: Client,
    had: Vec<Message>,
    exchange: Option<Exchange>,
}

#[tokio::test]
async fn f26_s_resum_05_killed_at_any_moment_no_client_misses_an_event_or_gets_one_twice() {
    const MANY: i64 = 60;
    let upstream = http_upstream("one").on("tools/call", |mut call| async move {
        for step in 1..=MANY {
            call.progress(step as f64, MANY as f64).await;
            call.pause(15).await;
        }
        call.text("done").await;
    });
    let (upstream, state) = (upstream.start().await, State::new());
    let plan = state.durable(gateway().with("one", &upstream));
    let mut running = plan.start().await;
    running.stateless().until_tools(&["one__echo"]).await;
    let mut clients = Vec::new();
    for revision in RESUMABLE.iter().cycle().take(6) {
        clients.push(running.handshake(revision).await);
    }
    let (mut finished, mut cut_short) = (0, 0);
    for round in 0..6_u64 {
        let mut readers = Vec::new();
        let (begun, mut all_begun) = tokio::sync::mpsc::channel(clients.len());
        for client in &clients {
            let (client, begun) = (client.at(&running.endpoint), begun.clone());
            readers.push(tokio::spawn(async move {
                let mut exchange = call(&client, 0).await;
                let mut had = read(&mut exchange, 1).await;
                begun.send(()).await.expect("the story waits");
                had.extend(exchange.until_broken().await);
                Reader { client, had, exchange: Some(exchange) }
            }));
        }
        for _ in &clients {
            patiently("a first event", all_begun.recv()).await;
        }
        // From the first event to behind the last one.
        tokio::time::sleep(Duration::from_millis(round * 270)).await;
        running = killed(running, &plan).await;
        running.stateless().until_tools(&["one__echo"]).await;
        for reader in readers {
            let mut reader = reader.await.expect("it only reads");
            let place = reader.exchange.take().expect("it was put there").cut(false);
            let client = reader.client.at(&running.endpoint);
            let mut messages = reader.had;
            if place.last_id().is_some() {
                messages.extend(client.resume(&place).await.rest().await);
            }
            let steps = steps_of(&messages);
            let expected: Vec<i64> = (1..=steps.len() as i64).collect();
            assert_eq!(steps, expected, "round {round}, {}", client.revision);
            let Some((last, before)) = messages.split_last() else { continue };
            assert!(
                last.is_response() && !before.iter().any(Message::is_response),
                "round {round}: {messages:#?}"
            );
            if last.json.get("result").is_some() {
                assert_eq!(steps.len() as i64, MANY, "round {round}");
                finished += 1;
            } else {
                assert_cut_short(last);
                cut_short += 1;
            }
        }
    }
    assert!(finished > 0 && cut_short > 0, "{finished} calls finished, and {cut_short} were cut short");
}

/// The complete events of a broken answer: each one's id, and its data where there is any.
fn events_of(raw: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(raw);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut id, mut events) = (None, Vec::new());
    for line in whole.lines() {
        if let Some(value) = line.strip_prefix("id:") {
            id = Some(value.trim().to_owned());
        } else if let (Some(data), Some(id)) = (line.strip_prefix("data:"), &id) {
            events.push((id.clone(), data.trim().to_owned()));
        }
    }
    events
}

/// Debug builds die at a transaction of the store's, so that what was shown too early is shown and lost.
#[tokio::test]
async fn f26_f45_what_a_client_has_seen_is_there_whichever_write_the_gateway_died_at() {
    let upstream = http_upstream("one").on("tools/call", |mut call| async move {
        for step in 1..=STEPS {
            call.progress(step as f64, STEPS as f64).await;
            call.pause(30).await;
        }
        call.text("done").await;
    });
    let upstream = upstream.start().await;
    let mut seen = 0;
    // The first two are the session's own.
    for (point, number) in (3..=8).flat_map(|number| [("before", number), ("after", number)]) {
        let state = State::new();
        let plan = state.durable(gateway().with("one", &upstream));
        let dies = format!("abort_{point}_commit={number}");
        let first = plan.clone().environment("SWITCHYARD_FAILPOINTS", &dies).start().await;
        first.stateless().until_tools(&["one__echo"]).await;
        let client = first.handshake(HANDSHAKE).await;
        let exchange = call(&client, STEPS).await;
        let mut place = exchange.here();
        let mut connection = exchange.into_connection();
        let raw = connection.read_to_close(Duration::from_secs(2)).await.unwrap_or_default();
        let had = events_of(&raw);
        let second = killed(first, &plan).await;
        let Some((last, _)) = had.last() else { continue };
        let client = client.at(&second.endpoint);
        println!("   ({dies}, after {had:#?})");
        place.ids.push(last.clone());
        let rest = client.resume(&place).await.rest().await;
        let had = had.iter().filter_map(|(_, data)| serde_json::from_str(data).ok());
        let had = had.map(|json| Message { raw: String::new(), json });
        let all: Vec<Message> = had.chain(rest).collect();
        let steps = steps_of(&all);
        seen += steps.len();
        assert_eq!(steps, (1..=steps.len() as i64).collect::<Vec<_>>(), "{dies}");
        assert!(all.last().is_some_and(Message::is_response), "{dies}: {all:#?}");
        assert_eq!(all.iter().filter(|message| message.is_response()).count(), 1, "{dies}: {all:#?}");
    }
    assert!(seen > 0, "something was shown");
}
