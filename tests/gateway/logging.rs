//! Logging levels and messages (S-LOG).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{HANDSHAKE, Transport, gateway, stateless_upstream, upstream};

#[tokio::test]
async fn s_log_01_02_levels_belong_to_sessions() {
    for transport in [Transport::Http, Transport::Stdio] {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                for level in ["debug", "info", "warning", "error"] {
                    let message = json!({ "level": level, "logger": "engine", "data": { "said": level } });
                    call.notify("notifications/message", message).await;
                }
                call.text("done").await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let (quiet, chatty) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
        quiet.until_tools(&["one__echo"]).await;
        quiet.request("logging/setLevel", json!({ "level": "error" })).await.result();
        chatty.request("logging/setLevel", json!({ "level": "info" })).await.result();
        let (mut quiet_stream, mut chatty_stream) =
            (quiet.standalone_stream().await, chatty.standalone_stream().await);
        for (client, stream, expected) in [
            (&quiet, &mut quiet_stream, &["error"][..]),
            (&chatty, &mut chatty_stream, &["info", "warning", "error"]),
        ] {
            let answer = client.call("one__echo", json!({})).await;
            let mut messages = answer.before;
            messages.extend(stream.messages_within(Duration::from_millis(400)).await);
            let levels: Vec<&Value> = messages
                .iter()
                .filter(|message| message.method() == "notifications/message")
                .map(|message| &message.params()["level"])
                .collect();
            assert_eq!(levels, expected, "{transport:?}");
        }
        for wrong in [json!("loud"), json!("WARNING"), json!(3), json!(null), json!("")] {
            quiet.request("logging/setLevel", json!({ "level": wrong })).await.expect_error(200, -32602);
        }
        for level in ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"] {
            quiet.request("logging/setLevel", json!({ "level": level })).await.result();
        }
    }
}

#[tokio::test]
async fn s_log_03_stateless_requests_get_the_logs_they_asked_for() {
    let upstream = stateless_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.params()["_meta"].get("io.modelcontextprotocol/logLevel").is_some() {
                for level in ["debug", "warning"] {
                    call.notify("notifications/message", json!({ "level": level, "data": "x" })).await;
                }
            }
            call.text("done").await;
        })
        .start()
        .await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.stateless();
    client.until_tools(&["one__echo"]).await;
    let call = |level: Option<&str>| {
        let mut params = json!({ "name": "one__echo", "arguments": {}, "_meta": {} });
        if let Some(level) = level {
            params["_meta"]["io.modelcontextprotocol/logLevel"] = json!(level);
        }
        client.request("tools/call", params)
    };
    assert!(call(None).await.before.is_empty());
    let logged = call(Some("info")).await;
    let levels: Vec<&Value> = logged.before.iter().map(|message| &message.params()["level"]).collect();
    assert_eq!(levels, ["warning"]);
    assert_eq!(call(Some("loud")).await.error_code(), -32602);
}
