//! Pass-through fidelity: generated messages arrive byte for byte where nothing had to be touched (F35, S-BASE-17).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::generate::Seed;
use crate::support::json::raw_at;
use crate::support::{Client, HANDSHAKE, STATELESS, Transport, gateway, upstream};

const MESSAGES: usize = 10_000;
const AT_ONCE: usize = 16;

/// One generated exchange.
struct Generated {
    arguments: String,
    extra: String,
    content: String,
    structured: String,
    vendor: String,
}

fn generate(number: usize) -> Generated {
    let mut seed = Seed(0x5eed_0000_0000 + number as u64);
    let text = seed.object(1, &[("type", r#""text""#.to_owned()), ("text", r#""\u0041 text""#.to_owned())]);
    Generated {
        arguments: seed.object(3, &[("number", number.to_string())]),
        extra: seed.value(2),
        content: format!("[{text}]"),
        structured: seed.object(3, &[]),
        vendor: seed.value(2),
    }
}

async fn exchange(client: &Client, number: usize) {
    let generated = generate(number);
    let metadata = if client.is_stateless() {
        let pairs: Vec<String> =
            client.metadata().iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!(r#","_meta":{{{}}}"#, pairs.join(","))
    } else {
        String::new()
    };
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{"name":"one__echo","arguments":{},"extra":{}{metadata}}}}}"#,
        generated.arguments, generated.extra
    );
    let headers = client.headers("tools/call", &json!({ "name": "one__echo" }));
    let mut answer =
        client.open_raw(json!(number), "tools/call", headers, body.as_bytes()).await.answer().await;
    let expected = [
        ("content", generated.content),
        ("structuredContent", generated.structured),
        ("vendor", generated.vendor),
    ];
    for (member, text) in expected {
        assert_eq!(answer.raw_result(&[member]), text, "message {number}, {member}");
    }
    client.keep(&mut answer);
}

async fn check(revision: &str, transport: Transport) {
    let arrived: Arc<Mutex<HashMap<usize, (String, String)>>> = Arc::default();
    let ledger = Arc::clone(&arrived);
    let upstream = upstream("one", revision, transport)
        .quiet()
        .on("tools/call", move |mut call| {
            let raw = call.received.raw.clone();
            let arguments = raw_at(&raw, &["params", "arguments"]).expect("they were sent").to_owned();
            let extra = raw_at(&raw, &["params", "extra"]).unwrap_or("(dropped)").to_owned();
            let number =
                raw_at(&arguments, &["number"]).and_then(|n| n.parse::<usize>().ok()).expect("it was sent");
            ledger.lock().expect("nobody panics while holding it").insert(number, (arguments, extra));
            async move {
                let Generated { content, structured, vendor, .. } = generate(number);
                let kind = if revision_is_stateless(&call) { r#","resultType":"complete""# } else { "" };
                let members = [
                    format!(r#""content":{content}"#),
                    format!(r#""structuredContent":{structured}"#),
                    format!(r#""vendor":{vendor}"#),
                ];
                // The order of members changes from message to message.
                let order = [number % 3, (number + 1) % 3, (number + 2) % 3];
                let text: Vec<&str> = order.iter().map(|at| members[*at].as_str()).collect();
                call.raw_result(&format!("{{{}{kind}}}", text.join(","))).await;
            }
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).config("telemetry: { level: warn }").start().await;
    let client = gateway.client(revision).await;
    client.until_tools(&["one__echo"]).await;

    let started = tokio::time::Instant::now();
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, next) = (client.clone().quiet(), Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= MESSAGES {
                    return;
                }
                exchange(&client, number).await;
                if number % 1_000 == 0 {
                    println!("message {number} after {:?}", started.elapsed());
                }
            }
        });
    }
    let all = async {
        while let Some(worker) = workers.join_next().await {
            worker.expect("no message was changed");
        }
    };
    crate::support::within(Duration::from_secs(110), "all messages", all).await;
    println!("{MESSAGES} messages, {revision}, {transport:?}: {:?}", started.elapsed());

    let arrived = arrived.lock().expect("nobody panics while holding it");
    assert_eq!(arrived.len(), MESSAGES, "each arrived");
    assert_eq!(upstream.received("tools/call").len(), MESSAGES, "and none twice");
    for number in 0..MESSAGES {
        let Generated { arguments, extra, .. } = generate(number);
        let (there, there_extra) = &arrived[&number];
        assert_eq!((there, there_extra), (&arguments, &extra), "message {number}");
    }
}

fn revision_is_stateless(call: &crate::support::Call) -> bool {
    call.params()["_meta"].get("io.modelcontextprotocol/protocolVersion").is_some()
}

#[tokio::test]
async fn ten_thousand_messages_between_handshake_peers_over_http() {
    check(HANDSHAKE, Transport::Http).await;
}

#[tokio::test]
async fn ten_thousand_messages_between_handshake_peers_over_stdio() {
    check(HANDSHAKE, Transport::Stdio).await;
}

#[tokio::test]
async fn ten_thousand_messages_between_stateless_peers_over_http() {
    check(STATELESS, Transport::Http).await;
}

#[tokio::test]
async fn ten_thousand_messages_between_stateless_peers_over_stdio() {
    check(STATELESS, Transport::Stdio).await;
}
