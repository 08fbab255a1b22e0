//! Tools that a server of the handshake era shows only to clients that it could ask: in no list, yet callable by those
//! (era-bridge §9.10).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{Call, Client, HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, upstream};

async fn scripted(mut call: Call) {
    match call.method() {
        "tools/call" => call.text("for your ears only").await,
        _ => {
            let declared = call.latest("initialize").params()["capabilities"].clone();
            let mut names = vec!["open"];
            if declared.get("elicitation").is_some() {
                names.push("confide");
            }
            let tools: Vec<_> = names
                .iter()
                .map(|name| json!({ "name": name, "inputSchema": { "type": "object" } }))
                .collect();
            call.result(json!({ "tools": tools })).await;
        }
    }
}

#[tokio::test]
async fn a_tool_shown_to_some_is_callable_by_those_of_either_era() {
    for transport in TRANSPORTS {
        for revision in [HANDSHAKE, STATELESS] {
            println!("=== {revision} client, server over {transport:?}");
            let upstream = upstream("one", HANDSHAKE, transport)
                .on("tools/list", scripted)
                .on("tools/call", scripted)
                .start()
                .await;
            let gateway = gateway().with("one", &upstream).start().await;
            let plain = gateway.client(revision).await;
            assert_eq!(plain.until_tools(&["one__open"]).await.names("tools"), ["one__open"]);
            plain.call("one__confide", json!({})).await.expect_error(200, -32602);
            let able = match revision {
                STATELESS => Client::stateless(&gateway.endpoint, json!({ "elicitation": {} })),
                handshake => gateway.handshake_with(handshake, json!({ "elicitation": {} })).await,
            };
            assert_eq!(able.call("one__confide", json!({})).await.text(), "for your ears only");
            able.call("one__nothing", json!({})).await.expect_error(200, -32602);
        }
    }
}

#[tokio::test]
async fn s_tool_14_a_list_that_failed_is_no_list_without_the_tool() {
    let failed = Arc::new(AtomicBool::new(false));
    let upstream = upstream("one", HANDSHAKE, Transport::Http)
        .on("tools/list", move |mut call| {
            let is_able = call.latest("initialize").params()["capabilities"].get("elicitation").is_some();
            let fails = is_able && !failed.swap(true, Ordering::Relaxed);
            async move {
                match fails {
                    true => call.error(-32603, "not now", json!({})).await,
                    false => scripted(call).await,
                }
            }
        })
        .on("tools/call", scripted)
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let able = Client::stateless(&gateway.endpoint, json!({ "elicitation": {} }));
    able.until_tools(&["one__open"]).await;
    able.call("one__confide", json!({})).await.expect_failure("upstream_unavailable", "not_sent");
    assert_eq!(able.call("one__confide", json!({})).await.text(), "for your ears only");
}
