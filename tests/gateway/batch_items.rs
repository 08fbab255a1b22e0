//! What becomes of each item of a batch (S-HTTPS-14, F36): judged alone, run beside the others, counted like any call.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::client::{Client, Exchange};
use crate::support::schema::{self, Answers};
use crate::support::{gateway, http_upstream, within};

const REVISION: &str = "2025-03-26";

fn call(id: &str, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": id } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

async fn open(client: &Client, batch: &Value) -> Exchange {
    let body = batch.to_string();
    let mut exchange = client.endpoint.send("POST", client.headers("", &json!({})), body.as_bytes()).await;
    exchange.revision(REVISION);
    exchange
}

/// Every message of an answer in its order, judged; batched ones one after another.
async fn messages(exchange: Exchange) -> Vec<Value> {
    within(Duration::from_secs(15), "the end of a batch's answer", read_all(exchange)).await
}

async fn read_all(mut exchange: Exchange) -> Vec<Value> {
    let head = exchange.head().await.clone();
    let is_stream =
        head.headers.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
    let mut messages = Vec::new();
    if is_stream {
        while let Some(event) = exchange.event().await {
            println!("<- {event:?}");
            assert!(event.id.is_some(), "streams of {REVISION} have event ids: {event:?}");
            take(&event.data.expect("no event without data"), &mut messages);
        }
    } else {
        take(&exchange.whole().await.body, &mut messages);
    }
    messages
}

fn take(text: &str, messages: &mut Vec<Value>) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text:?}"));
    let items = match value {
        Value::Array(items) => items,
        one => vec![one],
    };
    for item in items {
        let is_call = item["result"].get("content").is_some();
        let is_readable = item.get("result").is_none() || is_call;
        if is_readable {
            let answers = if is_call { Answers::Method("tools/call") } else { Answers::Unreadable };
            let faults = schema::message_faults(REVISION, &item, answers);
            assert!(faults.is_empty(), "{faults:#?} in {item}");
        }
        messages.push(item);
    }
}

fn response<'a>(messages: &'a [Value], id: &str) -> &'a Value {
    let own: Vec<&Value> =
        messages.iter().filter(|message| message.get("method").is_none() && message["id"] == id).collect();
    let [one] = own.as_slice() else { panic!("{id} was answered {} times: {messages:#?}", own.len()) };
    one
}

#[tokio::test]
async fn s_https_14_requests_of_a_batch_run_beside_each_other_and_fail_alone() {
    let release = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&release);
    let upstream = http_upstream("one")
        .tool("slow")
        .tool("failing")
        .on("tools/call", move |mut call| {
            let gate = Arc::clone(&gate);
            async move {
                match call.name() {
                    "failing" => return call.error(-31_999, "broken", json!({ "deep": [1] })).await,
                    "slow" => gate.acquire().await.expect("nobody closes it").forget(),
                    _ => {}
                }
                call.text("fine").await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(REVISION).await;
    client.until_tools(&["one__slow"]).await;
    let batch = json!([
        call("slow-1", "one__slow", json!({})),
        call("failing", "one__failing", json!({})),
        call("unknown", "one__nothing", json!({})),
        { "jsonrpc": "2.0", "method": "notifications/unknown" },
        call("slow-2", "one__slow", json!({})),
        call("quick", "one__echo", json!({})),
        { "jsonrpc": "2.0", "id": "ping", "method": "ping" },
    ]);
    let exchange = open(&client, &batch).await;
    // Both slow ones are at the upstream before either is let go.
    upstream.until_received("tools/call", 4).await;
    release.add_permits(2);
    let messages = messages(exchange).await;
    for fine in ["slow-1", "slow-2", "quick"] {
        assert_eq!(response(&messages, fine)["result"]["content"][0]["text"], "fine");
    }
    assert_eq!(response(&messages, "failing")["error"]["code"], -31_999);
    assert_eq!(response(&messages, "unknown")["error"]["code"], -32602);
    assert_eq!(response(&messages, "ping")["result"], json!({}));
    assert_eq!(messages.len(), 6, "one response for each request: {messages:#?}");
}

#[tokio::test]
async fn s_https_14_batches_of_responses_are_taken_and_mixed_ones_are_not() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(REVISION).await;
    client.until_tools(&["one__echo"]).await;
    let stray = |id: &str| json!({ "jsonrpc": "2.0", "id": id, "result": {} });
    let taken = open(&client, &json!([stray("x"), stray("y")])).await.whole().await;
    assert_eq!((taken.status, taken.body.as_str()), (202, ""));
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/unknown" });
    let taken = open(&client, &json!([notification, notification])).await.whole().await;
    assert_eq!((taken.status, taken.body.as_str()), (202, ""));
    let mixed = json!([stray("x"), call("forbidden", "one__echo", json!({}))]);
    let refused = open(&client, &mixed).await.whole().await;
    assert!(refused.body.contains("-32600"), "responses and requests do not mix: {}", refused.body);
    assert!(upstream.received("tools/call").is_empty(), "nothing of a refused batch is run");
}

#[tokio::test]
async fn s_https_14_f36_every_item_is_judged_for_itself() {
    let upstream = http_upstream("one").start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(REVISION).await;
    client.until_tools(&["one__echo"]).await;
    let batch = json!([
        7,
        { "jsonrpc": "1.0", "id": "old", "method": "ping" },
        { "jsonrpc": "2.0", "id": null, "method": "ping" },
        [{ "jsonrpc": "2.0", "id": "nested", "method": "ping" }],
        call("good", "one__echo", json!({ "n": 1 })),
    ]);
    let exchange = open(&client, &batch).await;
    let messages = messages(exchange).await;
    // A batch with such items may be refused whole, or item by item; but nothing is answered twice or made up.
    let refusals = messages.iter().filter(|message| message["error"]["code"] == -32600).count();
    if messages.len() == 1 {
        assert_eq!(refusals, 1, "{messages:#?}");
        assert!(upstream.received("tools/call").is_empty());
    } else {
        assert_eq!(refusals, 4, "{messages:#?}");
        assert_eq!(response(&messages, "good")["result"]["content"][0]["text"], r#"one echoes {"n":1}"#);
        assert_eq!(messages.len(), 5, "{messages:#?}");
    }
    assert!(messages.iter().all(|message| message["id"] != "nested"), "no batch within a batch");
}

#[tokio::test]
async fn s_base_06_f36_initialize_and_reused_ids_have_no_place_in_a_batch() {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.acquire().await.expect("nobody closes it").forget();
                call.text("fine").await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(REVISION).await;
    client.until_tools(&["one__echo"]).await;
    let greeting = json!({ "jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": {
        "protocolVersion": REVISION, "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } } });
    for batch in [json!([greeting]), json!([{ "jsonrpc": "2.0", "id": "p", "method": "ping" }, greeting])] {
        let refused = open(&client, &batch).await.whole().await;
        assert!(refused.body.contains("-32600"), "{}", refused.body);
        assert!(!refused.body.contains("protocolVersion"), "{}", refused.body);
        // Nor may it open a session.
        let mut nobody = client.clone();
        nobody.session = None;
        let refused = open(&nobody, &batch).await.whole().await;
        assert!((400..500).contains(&refused.status), "{}: {}", refused.status, refused.body);
        assert!(refused.headers.get("mcp-session-id").is_none(), "{:?}", refused.headers);
    }

    let twice = json!([call("same", "one__echo", json!({})), call("same", "one__echo", json!({}))]);
    let exchange = open(&client, &twice).await;
    gate.add_permits(2);
    let messages = messages(exchange).await;
    let served = messages.iter().filter(|message| message.get("result").is_some()).count();
    let refused = messages.iter().filter(|message| message["error"]["code"] == -32600).count();
    assert!(served <= 1 && refused >= 1, "an id in flight is not used again (S-BASE-03): {messages:#?}");
    assert!(upstream.received("tools/call").len() <= 1);
}

#[tokio::test]
async fn f36_a_forbidden_call_hidden_in_a_batch_is_as_unknown_as_alone() {
    let upstream = http_upstream("one").tool("open").tool("secret").start().await;
    let profiles = r#"profiles: { few: { tools: { deny: ["one__secret"] } } }"#;
    let gateway = gateway().with("one", &upstream).config(profiles).start().await;
    let client = Client::handshake(&gateway.endpoint.at("/mcp/few"), REVISION, json!({})).await;
    client.until_tools(&["one__open"]).await;
    let alone = client.call("one__secret", json!({})).await;
    let batch = json!([
        call("first", "one__open", json!({})),
        call("hidden", "one__secret", json!({})),
        call("unknown", "one__nothing", json!({})),
        call("last", "one__open", json!({})),
    ]);
    let messages = messages(open(&client, &batch).await).await;
    for id in ["first", "last"] {
        assert!(response(&messages, id).get("result").is_some(), "{messages:#?}");
    }
    let hidden = &response(&messages, "hidden")["error"];
    assert_eq!(hidden, alone.error(), "no other answer than alone");
    let named = |error: &Value, name: &str| error.to_string().replace(name, "NAME");
    let unknown = &response(&messages, "unknown")["error"];
    assert_eq!(named(hidden, "one__secret"), named(unknown, "one__nothing"));
    assert_eq!(upstream.received("tools/call").len(), 2, "it never went upstream");
}

#[tokio::test]
async fn f36_calls_in_a_batch_count_like_any_other() {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let waiting = Arc::clone(&waiting);
            async move {
                waiting.acquire().await.expect("nobody closes it").forget();
                call.text("fine").await;
            }
        })
        .start()
        .await;
    let bounds = "bounds: { session_calls: 3, batch_items: 6 }";
    let gateway = gateway().with("one", &upstream).config(bounds).start().await;
    let client = gateway.handshake(REVISION).await;
    client.until_tools(&["one__echo"]).await;
    let items = |count: usize| -> Value {
        (0..count).map(|n| call(&format!("n{n}"), "one__echo", json!({}))).collect::<Vec<_>>().into()
    };
    let refused = open(&client, &items(7)).await.whole().await;
    assert!(refused.body.contains("-32600"), "more than batch_items: {}", refused.body);
    let exchange = open(&client, &items(6)).await;
    upstream.until_received("tools/call", 3).await;
    gate.add_permits(6);
    let messages = messages(exchange).await;
    let overloaded = messages.iter().filter(|message| message.to_string().contains("overloaded")).count();
    assert_eq!((messages.len(), overloaded), (6, 3), "{messages:#?}");
    assert_eq!(upstream.received("tools/call").len(), 3);
}

#[tokio::test]
async fn s_https_14_s_prog_01_s_resum_02_progress_of_a_batch_is_on_its_own_stream_which_can_be_resumed() {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let upstream = http_upstream("one")
        .on("tools/call", move |mut call| {
            let waiting = Arc::clone(&waiting);
            async move {
                call.progress(1.0, 2.0).await;
                waiting.acquire().await.expect("nobody closes it").forget();
                call.progress(2.0, 2.0).await;
                call.text("fine").await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake(REVISION).await;
    client.until_tools(&["one__echo"]).await;
    let mut standing = client.standalone_stream().await;
    let batch = json!([call("ada", "one__echo", json!({})), call("bob", "one__echo", json!({}))]);
    let progress_of = |messages: &[Value], token: &str| -> Vec<f64> {
        let own = messages.iter().filter(|message| message["params"]["progressToken"] == token);
        own.map(|message| message["params"]["progress"].as_f64().expect("a number")).collect()
    };

    let exchange = open(&client, &batch).await;
    gate.add_permits(2);
    let whole = messages(exchange).await;
    for token in ["ada", "bob"] {
        assert_eq!(progress_of(&whole, token), [1.0, 2.0], "{whole:#?}");
        let answered = whole.iter().position(|message| message["id"] == token).expect("it is answered");
        let last = whole.iter().rposition(|message| message["params"]["progressToken"] == token);
        assert!(last < Some(answered), "progress never follows its response: {whole:#?}");
    }
    assert_eq!(whole.len(), 6, "{whole:#?}");

    let mut cut = open(&client, &batch).await;
    let mut before = Vec::new();
    for _ in 0..2 {
        take(&cut.event().await.expect("progress").data.expect("a message"), &mut before);
    }
    let place = cut.cut(true);
    gate.add_permits(2);
    let mut resumed = client.resume(&place).await;
    resumed.revision(REVISION);
    let after = messages(resumed).await;
    let both: Vec<Value> = before.into_iter().chain(after).collect();
    for token in ["ada", "bob"] {
        assert_eq!(progress_of(&both, token), [1.0, 2.0], "{both:#?}");
        response(&both, token);
    }
    assert_eq!(both.len(), 6, "{both:#?}");
    standing.expect_no_more_than_changes(Duration::from_millis(200)).await;
}
