//! A first session as the README tells it: the shipped configuration, the demo server, and commands that ask a gateway.

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::command_line::Directory;
use crate::support::gateway::{Gateway, Plan};
use crate::support::{HANDSHAKE, STATELESS, gateway, http_upstream, patiently};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml");

/// Where a running gateway is reached, as arguments.
fn addresses(gateway: &Gateway) -> (String, String) {
    let url = format!("http://{}{}", gateway.endpoint.address, gateway.endpoint.path);
    (url, format!("http://{}", gateway.admin.address))
}

/// An address that nobody else is given while the socket lives, yet the gateway can listen on.
fn kept_address() -> (TcpSocket, std::net::SocketAddr) {
    let socket = TcpSocket::new_v4().expect("sockets are to be had");
    socket.set_reuseaddr(true).expect("a fresh socket takes options");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback has free ports");
    let address = socket.local_addr().expect("bound above");
    (socket, address)
}

#[tokio::test]
async fn servers_tools_and_call_ask_a_running_gateway() {
    let directory = Directory::new().await;
    let one = http_upstream("one")
        .tool("fails")
        .on("tools/call", |mut call| async move {
            if call.name() == "fails" {
                let content = json!([{ "type": "text", "text": "no such file" }]);
                return call.result(json!({ "content": content, "isError": true })).await;
            }
            call.default().await;
        })
        .start()
        .await;
    let nobody = http_upstream("gone").reserve();
    let gateway = gateway().with("one", &one).with_server("gone", nobody.settings()).start().await;
    gateway.stateless().until_tools(&["one__echo"]).await;
    let (url, admin) = addresses(&gateway);

    let servers = directory.run(&["servers", "--admin", &admin]).await;
    assert_eq!(servers.code(), 0);
    assert!(servers.stdout.starts_with("NAME"), "{}", servers.stdout);
    let row = |name: &str| servers.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("one").contains("ready") && row("one").contains(HANDSHAKE), "{}", servers.stdout);
    assert!(row("gone").contains("refused"), "{}", servers.stdout);
    let tools = directory.run(&["tools", "--admin", &admin, "--json"]).await;
    let tools: Value = serde_json::from_str(&tools.stdout).expect("nothing but JSON");
    let first = json!({ "name": "one__echo", "server": "one", "original": "echo", "description": "Gives back its arguments." });
    assert_eq!(tools[0], first);

    let called = directory.run(&["call", "one__echo", r#"{"text":"hi"}"#, "--url", &url]).await;
    assert_eq!((called.code(), called.stdout.as_str()), (0, "one echoes {\"text\":\"hi\"}\n"));
    let plain = directory.run(&["call", "one__echo", "--json", "--url", &url]).await;
    let result: Value = serde_json::from_str(&plain.stdout).expect("nothing but JSON");
    assert_eq!((plain.code(), &result["content"][0]["text"]), (0, &json!("one echoes {}")));
    let failed = directory.run(&["call", "one__fails", "--url", &url]).await;
    assert_eq!((failed.code(), failed.stdout.as_str()), (1, "no such file\n"), "a tool's own error");
    for (arguments, word) in [
        (["call", "one__nothing", "{}"], "-32602"),
        (["call", "one__echo", "[1]"], "object"),
        (["call", "one__echo", "{"], "JSON"),
    ] {
        let ended = directory.run(&[&arguments[..], &["--url", &url]].concat()).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(ended.stderr.contains(word), "{arguments:?}: {}", ended.stderr);
    }
    assert_eq!(one.received("tools/call").len(), 3, "what cannot be called is not sent");
}

#[tokio::test]
async fn commands_without_a_gateway_say_where_they_looked() {
    let directory = Directory::new().await;
    let (_kept, address) = kept_address();
    let (url, admin) = (format!("http://{address}/mcp"), format!("http://{address}"));
    for arguments in
        [&["servers", "--admin", &admin][..], &["tools", "--admin", &admin], &["call", "x", "--url", &url]]
    {
        let ended = directory.run(arguments).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(ended.stderr.contains(&address.to_string()), "{arguments:?}: {}", ended.stderr);
    }
    for verb in ["servers", "tools"] {
        let ended = directory.run(&[verb]).await;
        assert_ne!(ended.code(), 0);
        assert!(ended.stderr.contains("gateway.yaml"), "{verb} names the file it missed: {}", ended.stderr);
    }
    directory.write("gateway.yaml", "admin: off\nservers: {}").await;
    let off = directory.run(&["servers"]).await;
    assert!(off.code() == 1 && off.stderr.contains("admin: off"), "{}", off.stderr);
    assert_eq!(directory.run(&["frobnicate"]).await.code(), 2);
}

#[tokio::test]
async fn the_shipped_configuration_needs_nothing_but_the_binary() {
    let directory = Directory::new().await;
    let ((_data, listen), (_admin, admin)) = (kept_address(), kept_address());
    let shipped = tokio::fs::read_to_string(CONFIGURATION).await.expect("it is shipped");
    let here = shipped.replace("127.0.0.1:8080 #", &format!("{listen} #"));
    let here = here.replace("127.0.0.1:9090 #", &format!("{admin} #"));
    assert!(here.contains(&listen.to_string()) && here.contains(&admin.to_string()), "{here}");
    directory.write("gateway.yaml", &here).await;
    // No verb at all: that is `serve` with the file of this directory.
    let mut gateway = Plan::start_in(&directory.0, &[]).await;
    assert_eq!((gateway.endpoint.address, gateway.admin.address), (listen, admin));
    for revision in [HANDSHAKE, STATELESS] {
        gateway.client(revision).await.until_tools(&["demo__echo"]).await;
    }
    let called = directory.run(&["call", "demo__echo", r#"{"text":"hi"}"#]).await;
    assert_eq!((called.code(), called.stdout.trim_end()), (0, "hi"));
    let tools = directory.run(&["tools"]).await;
    assert!(tools.code() == 0 && tools.stdout.contains("demo__echo"), "{}", tools.stdout);
    let servers = directory.run(&["servers"]).await;
    assert!(servers.code() == 0 && servers.stdout.contains("demo"), "{}", servers.stdout);
    assert!(gateway.terminate().await.success());
}

#[tokio::test]
async fn demo_servers_of_either_era_stand_behind_the_gateway_over_both_transports() {
    let directory = Directory::new().await;
    let mut over_http = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
    over_http.args(["demo-server", "--http", "127.0.0.1:0", "--protocol", STATELESS]);
    over_http.current_dir(&directory.0).kill_on_drop(true).stdout(std::process::Stdio::piped());
    let mut over_http = over_http.spawn().expect("the binary was built with the tests");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
        over_http.stdout.take().expect("it is piped"),
    ));
    let first = patiently("the demo server to serve", lines.next_line()).await;
    let first = first.expect("it prints UTF-8").expect("it says where it serves");
    let url = first.strip_prefix("endpoint ").unwrap_or_else(|| panic!("{first:?}"));

    let mut plan = gateway().with_http("web", url);
    for revision in ["2024-11-05", HANDSHAKE, STATELESS] {
        let arguments = json!(["demo-server", "--protocol", revision]);
        plan = plan.with_server(revision, json!({ "command": "${exe}", "args": arguments }));
    }
    let gateway = plan.start().await;
    for revision in [HANDSHAKE, STATELESS] {
        let client = gateway.client(revision).await;
        let names = ["web__echo", "2024-11-05__echo", "2025-11-25__echo", "2026-07-28__echo"];
        client.until_tools(&names).await;
        for name in names {
            assert_eq!(client.call(name, json!({ "text": "hi" })).await.text(), "hi", "{name}");
        }
    }
    over_http.kill().await.expect("it runs");
}

#[tokio::test]
async fn a_program_named_by_a_path_is_looked_for_where_its_file_is() {
    let directory = Directory::new().await;
    for folder in ["etc/bin", "etc/work", "elsewhere"] {
        tokio::fs::create_dir_all(directory.0.join(folder)).await.expect("the directory takes folders");
    }
    let script = format!("#!/bin/sh\nexec {} demo-server\n", env!("CARGO_BIN_EXE_switchyard"));
    directory.write("etc/bin/server", &script).await;
    let program = directory.0.join("etc/bin/server");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    tokio::fs::set_permissions(&program, mode).await.expect("the file is ours");
    let file = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nservers:\n  a: { command: bin/server }\n  b: { command: ./bin/server, cwd: work }\n";
    directory.write("etc/gateway.yaml", file).await;
    // Neither the gateway's own directory nor the child's is where the path starts.
    let gateway =
        Plan::start_in(&directory.0.join("elsewhere"), &["serve", "-c", "../etc/gateway.yaml"]).await;
    gateway.stateless().until_tools(&["a__echo", "b__echo"]).await;
}
