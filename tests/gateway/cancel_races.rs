//! F30: cancellation against completion, two thousand times.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::client::Client;
use crate::support::generate::Seed;
use crate::support::{HANDSHAKE, TRANSPORTS, gateway, upstream};

const RACES: u64 = 1_000;
const AT_ONCE: u64 = 20;

/// When each call reached the upstream and when it was answered there, by the number the call carries.
type Answered = Arc<Mutex<HashMap<u64, [Instant; 2]>>>;

/// Calls that were answered although their cancellation had been accepted so long before their server answered.
type Late = RefCell<Vec<(u64, Duration)>>;

#[derive(Debug, Default)]
struct Outcome {
    answered: u32,
    cancelled: u32,
}

async fn race(client: &Client, number: u64, random: &mut Seed, answered: &Answered, late: &Late) -> bool {
    let server = random.below(6_000) as u64;
    let cancel = Duration::from_micros(random.below(9_000) as u64);
    let params = json!({ "name": "one__echo", "arguments": { "number": number, "micros": server } });
    let exchange = client.open_as(json!(number), "tools/call", params).await;
    let cancelling = async {
        tokio::time::sleep(cancel).await;
        let sent = Instant::now();
        let notice = json!({ "requestId": number, "reason": "a race" });
        assert_eq!(client.notify_quietly("notifications/cancelled", notice).await, 202, "call {number}");
        (sent, Instant::now())
    };
    let reading = async {
        let mut exchange = exchange;
        let mut terminals = Vec::new();
        while let Some(message) = exchange.next().await {
            if message.is_response() {
                terminals.push(message.json);
            }
        }
        terminals
    };
    let ((sent, accepted), terminals): (_, Vec<Value>) = tokio::join!(cancelling, reading);
    assert!(terminals.len() <= 1, "call {number} was answered {} times: {terminals:?}", terminals.len());
    let Some(terminal) = terminals.first() else { return false };
    assert_eq!(terminal["id"], number, "{terminal}");
    let text = terminal["result"]["content"][0]["text"].as_str();
    assert_eq!(text, Some(format!("number {number}").as_str()), "only its own whole answer: {terminal}");
    let times = answered.lock().expect("nobody panics while holding it").get(&number).copied();
    let [arrived, at] = times.expect("the upstream answered it");
    // A cancel that overtakes its call is a cancel of nothing, and lawfully ignored.
    let was_early = sent < arrived;
    if !was_early && at >= accepted {
        late.borrow_mut().push((number, at - accepted));
    }
    true
}

#[tokio::test]
async fn f30_s_canc_01_a_cancelled_call_has_one_end_and_is_never_answered_later() {
    for transport in TRANSPORTS {
        let answered: Answered = Arc::default();
        let noted = Arc::clone(&answered);
        let upstream = upstream("one", HANDSHAKE, transport)
            .quiet()
            .on("tools/call", move |mut call| {
                let noted = Arc::clone(&noted);
                async move {
                    let arguments = call.params()["arguments"].clone();
                    let number = arguments["number"].as_u64().expect("a number");
                    let pause = Duration::from_micros(arguments["micros"].as_u64().expect("a number"));
                    let arrived = Instant::now();
                    tokio::time::sleep(pause).await;
                    noted
                        .lock()
                        .expect("nobody panics while holding it")
                        .insert(number, [arrived, Instant::now()]);
                    call.text(&format!("number {number}")).await;
                }
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        gateway.stateless().quiet().until_tools(&["one__echo"]).await;
        let mut clients = Vec::new();
        for number in 0..AT_ONCE {
            let revision = ["2025-03-26", HANDSHAKE][(number % 2) as usize];
            clients.push(gateway.handshake(revision).await.quiet());
        }
        let outcome = RefCell::new(Outcome::default());
        let late = Late::default();
        let racing = clients.iter().enumerate().map(|(lane, client)| {
            let (answered, outcome, late) = (&answered, &outcome, &late);
            async move {
                let mut random = Seed(30 + lane as u64);
                for round in 0..RACES / AT_ONCE {
                    let number = 1_000 + lane as u64 * 10_000 + round;
                    let won = race(client, number, &mut random, answered, late).await;
                    let mut outcome = outcome.borrow_mut();
                    *(if won { &mut outcome.answered } else { &mut outcome.cancelled }) += 1;
                }
            }
        });
        futures_util::future::join_all(racing).await;
        let outcome = outcome.into_inner();
        let late = late.into_inner();
        assert!(
            late.is_empty(),
            "{transport:?}: cancelled before their server answered, yet answered: {late:?}"
        );
        println!("{transport:?}: {outcome:?}");
        assert!(outcome.answered > 10 && outcome.cancelled > 10, "both must happen: {outcome:?}");
        let mut seen: Vec<u64> = upstream
            .received("tools/call")
            .iter()
            .map(|call| call.params()["arguments"]["number"].as_u64().expect("a number"))
            .collect();
        let sent = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), sent, "{transport:?}: no call went upstream twice");
        let notices = upstream.received("notifications/cancelled");
        let mut told: Vec<String> = notices
            .iter()
            .map(|notice| {
                format!("{:?} {} {}", notice.session(), notice.connection, notice.params()["requestId"])
            })
            .collect();
        if transport == crate::support::Transport::Http {
            // Connections vary there; the session and the id say which call is meant.
            told = notices.iter().map(|n| format!("{:?} {}", n.session(), n.params()["requestId"])).collect();
        }
        let all = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), all, "{transport:?}: no call was cancelled twice");
        // Nothing is left over: each session still works, and has no answers to give.
        for client in &clients {
            assert_eq!(client.request("ping", json!({})).await.status, 200);
            let mut standing = client.standalone_stream().await;
            for message in standing.messages_within(Duration::from_millis(20)).await {
                assert!(!message.is_response(), "an answer came later: {}", message.raw);
            }
        }
    }
}
