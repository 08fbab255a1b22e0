//! F26: clients that lose their connection again and again, at places a seed chooses, miss nothing and hear nothing twice.

use std::time::Duration;

use serde_json::json;

use crate::support::client::{Client, Message};
use crate::support::generate::Seed;
use crate::support::{HANDSHAKE, TRANSPORTS, gateway, upstream, within};

const SEEDS: u64 = 50;
const AT_ONCE: usize = 5;

/// What one client heard over all its connections.
#[derive(Debug, Default)]
struct Heard {
    progress: Vec<i64>,
    text: Option<String>,
    cuts: usize,
}

impl Heard {
    fn take(&mut self, message: &Message, seed: u64) {
        if message.is_response() {
            assert!(self.text.is_none(), "seed {seed}: answered twice: {}", message.raw);
            let text = message.json["result"]["content"][0]["text"].as_str();
            self.text = Some(text.unwrap_or_else(|| panic!("seed {seed}: {}", message.raw)).to_owned());
            return;
        }
        assert_eq!(message.method(), "notifications/progress", "seed {seed}: {}", message.raw);
        assert_eq!(message.params()["progressToken"], seed, "seed {seed}: {}", message.raw);
        self.progress.push(message.params()["progress"].as_f64().expect("a number") as i64);
    }
}

/// One call of `steps` messages, its stream cut wherever the seed says, until the response is there.
async fn one_call(client: &Client, seed: u64, steps: i64) -> Heard {
    let mut random = Seed(seed);
    let mut heard = Heard::default();
    let params = json!({
        "name": "one__echo", "arguments": { "seed": seed, "steps": steps },
        "_meta": { "progressToken": seed },
    });
    let mut stream = client.open("tools/call", params).await;
    loop {
        // Without any id there is nothing to come back to, so the first connection reads one message at least; later
        // ones may be cut before anything came on them.
        let least = usize::from(stream.place.ids.is_empty() && heard.cuts == 0);
        let most = least + random.below(4);
        for _ in 0..most {
            match stream.next().await {
                Some(message) => heard.take(&message, seed),
                None => break,
            }
            if heard.text.is_some() {
                break;
            }
        }
        if heard.text.is_some() {
            let more = within(Duration::from_secs(10), "the stream to end", stream.rest()).await;
            assert!(more.is_empty(), "seed {seed}: after the response: {more:#?}");
            return heard;
        }
        let place = stream.cut(random.below(2) == 0);
        heard.cuts += 1;
        tokio::time::sleep(Duration::from_millis(random.below(25) as u64)).await;
        stream = client.resume(&place).await;
        assert!(heard.cuts < 200, "seed {seed}: it never ends: {heard:?}");
    }
}

#[tokio::test]
async fn f26_s_resum_02_cut_streams_have_no_gap_and_no_duplicate_in_fifty_seeds() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let arguments = call.params()["arguments"].clone();
                let seed = arguments["seed"].as_u64().expect("a number");
                let mut random = Seed(seed ^ 0xabcd);
                for step in 1..=arguments["steps"].as_i64().expect("a number") {
                    call.pause(random.below(12) as u64).await;
                    call.progress(step as f64, 100.0).await;
                }
                call.text(&format!("the answer to {seed}")).await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        gateway.stateless().until_tools(&["one__echo"]).await;
        let mut clients = Vec::new();
        for number in 0..AT_ONCE {
            let revision = ["2025-03-26", "2025-06-18", HANDSHAKE][number % 3];
            clients.push(gateway.handshake(revision).await);
        }
        let cuts = std::cell::Cell::new(0);
        for round in 0..SEEDS / AT_ONCE as u64 {
            let calls = clients.iter().enumerate().map(|(number, client)| {
                let seed = 1 + round * AT_ONCE as u64 + number as u64;
                let cuts = &cuts;
                async move {
                    let steps = 3 + Seed(seed).below(10) as i64;
                    let heard = one_call(client, seed, steps).await;
                    let expected: Vec<i64> = (1..=steps).collect();
                    assert_eq!(heard.progress, expected, "seed {seed} after {} cuts", heard.cuts);
                    assert_eq!(heard.text, Some(format!("the answer to {seed}")), "seed {seed}");
                    cuts.set(cuts.get() + heard.cuts);
                }
            });
            futures_util::future::join_all(calls).await;
        }
        assert!(cuts.get() > 50, "only {} cuts in all", cuts.get());
        assert_eq!(upstream.received("tools/call").len() as u64, SEEDS, "no call was sent twice");
        assert!(upstream.received("notifications/cancelled").is_empty(), "a cut is no cancellation");
    }
}
