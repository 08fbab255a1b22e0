//! A gateway that is put behind itself: what a file shows is refused, the rest is noticed while it runs (S-SEC-08).

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::support::command_line::Directory;
use crate::support::gateway::Plan;
use crate::support::{HANDSHAKE, STATELESS, eventually, gateway, http_upstream};

#[tokio::test]
async fn s_sec_08_a_clients_whole_file_is_refused_for_the_gateways_own_entry() {
    let directory = Directory::new().await;
    let by_address = json!({ "type": "http", "url": "http://127.0.0.1:8080/mcp" });
    let file = directory.0.join("mcp.json");
    let by_program = json!({ "command": "switchyard", "args": ["stdio", "-c", file] });
    for entry in [by_address, by_program] {
        let text = json!({ "mcpServers": { "time": { "command": "uvx" }, "switchyard": entry } });
        directory.write("mcp.json", &text.to_string()).await;
        for verb in ["check", "serve", "stdio"] {
            let ended = directory.run(&[verb, "-c", "mcp.json"]).await;
            assert_eq!(ended.code(), if verb == "check" { 1 } else { 2 });
            assert!(ended.stderr.contains("leave the entry out"), "{}", ended.stderr);
        }
    }
}

/// Passes connections on to an address that is known later.
async fn relay() -> (SocketAddr, Arc<OnceLock<SocketAddr>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("bound above");
    let target: Arc<OnceLock<SocketAddr>> = Arc::default();
    let known = Arc::clone(&target);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let Some(target) = known.get().copied() else { continue };
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                }
            });
        }
    });
    (address, target)
}

#[tokio::test]
async fn s_sec_08_a_gateway_knows_itself_behind_a_proxy_in_every_era() {
    let (proxy, target) = relay().await;
    let good = http_upstream("good").start().await;
    let url = |path: &str| format!("http://{proxy}/{path}");
    let plan = gateway()
        .with("good", &good)
        .with_http("auto", &url("mcp"))
        .with_server("handshake", json!({ "url": url("mcp"), "protocol": HANDSHAKE }))
        .with_server("stateless", json!({ "url": url("mcp"), "protocol": STATELESS }))
        .with_server("sse", json!({ "url": url("sse"), "protocol": "sse" }))
        .config("bounds: { backoff_first: 100ms, backoff_longest: 200ms }");
    let gateway = plan.start().await;
    target.set(gateway.endpoint.address).expect("set once");
    for name in ["auto", "handshake", "stateless", "sse"] {
        eventually(&format!("{name} to be known"), || async {
            let rows: Value = serde_json::from_str(&gateway.admin_get("/api/v1/servers").await.body).ok()?;
            let row = rows.as_array()?.iter().find(|row| row["name"] == name)?.clone();
            (row["state"] == "down" && row["why"].as_str()?.contains("this gateway itself")).then_some(())
        })
        .await;
    }
    let client = gateway.stateless();
    client.until_tools(&["good__echo"]).await;
    let names = client.request("tools/list", json!({})).await.names("tools");
    assert!(names.iter().all(|name| name.starts_with("good__")), "{names:?}");
}

#[tokio::test]
async fn s_sec_08_a_gateway_behind_another_is_no_loop() {
    let good = http_upstream("good").start().await;
    let inner = gateway().with("good", &good).start().await;
    let url = format!("http://{}/mcp", inner.endpoint.address);
    let arguments = json!(["stdio", "--url", url]);
    let plan = gateway().with_http("web", &url);
    let outer = plan.with_server("pipe", json!({ "command": "${exe}", "args": arguments })).start().await;
    let client = outer.stateless();
    client.until_tools(&["web__good__echo", "pipe__good__echo"]).await;
}

#[tokio::test]
async fn s_sec_08_gateways_that_start_themselves_come_to_an_end() {
    let directory = Directory::new().await;
    // A script hides from the file what it does.
    let script = format!("exec {} stdio -c gateway.yaml", env!("CARGO_BIN_EXE_switchyard"));
    let entry = json!({ "command": "sh", "args": ["-c", script], "cwd": directory.0 });
    let file = format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nservers: {{ again: {entry} }}\n");
    directory.write("gateway.yaml", &file).await;
    let mut outermost = Plan::start_in(&directory.0, &["serve", "-c", "gateway.yaml"]).await;
    eventually("the innermost to be refused", || async {
        outermost.stderr().contains("leave that entry out").then_some(())
    })
    .await;
    let status: Value =
        serde_json::from_str(&outermost.admin_get("/api/v1/servers").await.body).expect("JSON");
    assert_eq!(status[0]["state"], "ready", "what is behind the others does not harm them: {status}");
    assert!(outermost.terminate().await.success());
}
