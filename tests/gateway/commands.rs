//! The commands as a person or a script types them: what they print, and the exit code they end with.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::gateway::{Ended, Gateway, Plan};
use crate::support::{
    HANDSHAKE, STATELESS, eventually, gateway, http_upstream, patiently, stateless_upstream,
};

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml");

/// A directory of the story's own.
struct Directory(PathBuf);

impl Directory {
    async fn new() -> Directory {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).expect("the system has randomness");
        let name = format!("switchyard-command-{:x}", u64::from_le_bytes(random));
        let path = std::env::temp_dir().join(name);
        tokio::fs::create_dir_all(&path).await.expect("the temporary directory takes files");
        Directory(path)
    }

    async fn write(&self, name: &str, text: &str) {
        tokio::fs::write(self.0.join(name), text).await.expect("the temporary directory takes files");
    }

    /// Run a command in this directory to its end.
    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.args(arguments).current_dir(&self.0).kill_on_drop(true);
        let output = patiently(&format!("{arguments:?} to end"), command.output()).await;
        let output = output.expect("the binary was built with the tests");
        let ended = Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
        };
        println!("--- {arguments:?}: {ended:#?}");
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn code(ended: &Ended) -> i32 {
    ended.status.code().expect("it ended by itself")
}

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
async fn check_tells_by_its_exit_code_what_a_configuration_is_worth() {
    let directory = Directory::new().await;
    directory.write("good.yaml", "servers: { one: { url: \"http://127.0.0.1:1/mcp\" } }").await;
    directory.write("bad.yaml", "serverz: {}\nlisten: 0.0.0.0:80\nservers: { one: { urk: x } }").await;
    let mcp_json = json!({ "mcpServers": { "time": { "command": "uvx", "args": ["mcp-server-time"] } } });
    directory.write("mcp.json", &mcp_json.to_string()).await;

    let good = directory.run(&["check", "-c", "good.yaml"]).await;
    assert_eq!((code(&good), good.stderr.as_str()), (0, ""));
    assert!(good.stdout.contains("good.yaml") && good.stdout.contains("ok"), "{}", good.stdout);
    assert_eq!(code(&directory.run(&["check", "-c", "mcp.json"]).await), 0, "an mcp.json as it is");
    assert_eq!(code(&directory.run(&["check", "-c", CONFIGURATION]).await), 0, "the shipped one");

    let bad = directory.run(&["check", "-c", "bad.yaml"]).await;
    assert_eq!((code(&bad), bad.stdout.as_str()), (1, ""));
    for (place, words) in
        [("bad.yaml:1:1", "`servers`"), ("bad.yaml:2:9", "loopback"), ("bad.yaml:3:19", "`url`")]
    {
        let told = bad.stderr.lines().any(|line| line.starts_with(place) && line.contains(words));
        assert!(told, "{place} {words} in {}", bad.stderr);
    }
    let as_json = directory.run(&["check", "-c", "bad.yaml", "--json"]).await;
    assert_eq!((code(&as_json), as_json.stderr.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&as_json.stdout).expect("nothing but JSON");
    let lines: Vec<&Value> =
        report["problems"].as_array().expect("a list").iter().map(|problem| &problem["line"]).collect();
    assert!(
        lines.contains(&&json!(1)) && lines.contains(&&json!(2)) && lines.contains(&&json!(3)),
        "{report}"
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_and_exits_with_2() {
    let directory = Directory::new().await;
    for arguments in [
        &["check", "-c", "/nonexistent/gateway.yaml"][..],
        &["serve", "-c", "/nonexistent/gateway.yaml"],
        &["check"],
        &["serve"],
        &[],
    ] {
        let ended = directory.run(arguments).await;
        assert_eq!((code(&ended), ended.stdout.as_str()), (2, ""), "{arguments:?}");
        let file = if arguments.len() > 1 { "/nonexistent/gateway.yaml" } else { "gateway.yaml" };
        assert!(ended.stderr.contains(file), "{arguments:?} names the file: {}", ended.stderr);
    }
    directory.write("broken.yaml", "servers: [").await;
    for verb in ["check", "serve"] {
        let ended = directory.run(&[verb, "-c", "broken.yaml"]).await;
        assert_ne!(code(&ended), 0);
        assert!(ended.stderr.starts_with("broken.yaml:1:"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn check_probe_says_which_servers_are_there_and_leaves_nothing_running() {
    let directory = Directory::new().await;
    let old = http_upstream("old").start().await;
    let new = stateless_upstream("new").start().await;
    let nobody = http_upstream("nobody").reserve();
    let demo = json!({ "command": "${exe}", "args": ["demo-server"], "cwd": directory.0 });
    let all = gateway().with("old", &old).with("new", &new).with_server("demo", demo);
    directory.write("all.yaml", &all.file()).await;
    directory.write("one-missing.yaml", &all.with_server("gone", nobody.settings()).file()).await;

    let well = directory.run(&["check", "--probe", "-c", "all.yaml"]).await;
    assert_eq!(code(&well), 0);
    let row = |name: &str| well.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("old").contains("handshake") && row("old").contains(HANDSHAKE), "{}", well.stdout);
    assert!(row("new").contains("stateless") && row("new").contains(STATELESS), "{}", well.stdout);
    assert!(row("demo").contains("ok"), "{}", well.stdout);
    eventually("the probed child to be gone", || async {
        runs_in(&directory.0).await.is_none().then_some(())
    })
    .await;
    assert!(old.received("tools/call").is_empty() && new.received("tools/call").is_empty());
    assert!(old.sessions().is_empty(), "the session of the probe was ended (S-HTTPC-05)");

    let poor = directory.run(&["check", "--probe", "--json", "-c", "one-missing.yaml"]).await;
    assert_eq!(code(&poor), 1, "a server that is not there is a problem");
    let report: Value = serde_json::from_str(&poor.stdout).expect("nothing but JSON");
    let reached: Vec<(&Value, &Value)> = report["servers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|server| (&server["server"], &server["reached"]))
        .collect();
    let expected = [("old", true), ("new", true), ("demo", true), ("gone", false)];
    assert_eq!(json!(reached), json!(expected));
    assert!(report["servers"][3]["problem"].as_str().is_some_and(|why| why.contains("refused")), "{report}");
}

/// A process whose working directory is `directory`.
async fn runs_in(directory: &Path) -> Option<PathBuf> {
    let mut entries = tokio::fs::read_dir("/proc").await.expect("Linux has it");
    while let Ok(Some(entry)) = entries.next_entry().await {
        if tokio::fs::read_link(entry.path().join("cwd")).await.is_ok_and(|cwd| cwd == directory) {
            return Some(entry.path());
        }
    }
    None
}

#[tokio::test]
async fn schema_accepts_what_is_shipped_and_refuses_what_is_misspelt() {
    let directory = Directory::new().await;
    let printed = directory.run(&["schema"]).await;
    assert_eq!((code(&printed), printed.stderr.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&printed.stdout).expect("nothing but JSON");
    let schema = jsonschema::validator_for(&schema).expect("a JSON Schema");
    let shipped = tokio::fs::read_to_string(CONFIGURATION).await.expect("it is shipped");
    let shipped: Value = serde_saphyr::from_str(&shipped).expect("it is YAML");
    assert!(schema.is_valid(&shipped), "{shipped}");
    let plain = gateway().with_stdio("a", "x", &["y"]).with_http("b", "http://127.0.0.1:1/");
    let plain: Value = serde_saphyr::from_str(&plain.file()).expect("it is YAML");
    assert!(schema.is_valid(&plain), "{plain}");
    for wrong in [
        json!({ "serverz": {} }),
        json!({ "servers": { "one": { "urk": "http://127.0.0.1:1/" } } }),
        json!({ "servers": { "one": { "url": 7 } } }),
        json!({ "bounds": { "sessions": "many" } }),
        json!({ "telemetry": { "logs": "xml" } }),
        json!([]),
    ] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
    }
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
    assert_eq!(code(&servers), 0);
    assert!(servers.stdout.starts_with("NAME"), "{}", servers.stdout);
    let row = |name: &str| servers.stdout.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("one").contains("ready") && row("one").contains(HANDSHAKE), "{}", servers.stdout);
    assert!(row("gone").contains("refused"), "{}", servers.stdout);
    let tools = directory.run(&["tools", "--admin", &admin, "--json"]).await;
    let tools: Value = serde_json::from_str(&tools.stdout).expect("nothing but JSON");
    let first = json!({ "name": "one__echo", "server": "one", "original": "echo", "description": "Gives back its arguments." });
    assert_eq!(tools[0], first);

    let called = directory.run(&["call", "one__echo", r#"{"text":"hi"}"#, "--url", &url]).await;
    assert_eq!((code(&called), called.stdout.as_str()), (0, "one echoes {\"text\":\"hi\"}\n"));
    let plain = directory.run(&["call", "one__echo", "--json", "--url", &url]).await;
    let result: Value = serde_json::from_str(&plain.stdout).expect("nothing but JSON");
    assert_eq!((code(&plain), &result["content"][0]["text"]), (0, &json!("one echoes {}")));
    let failed = directory.run(&["call", "one__fails", "--url", &url]).await;
    assert_eq!((code(&failed), failed.stdout.as_str()), (1, "no such file\n"), "a tool's own error");
    for (arguments, word) in [
        (["call", "one__nothing", "{}"], "-32602"),
        (["call", "one__echo", "[1]"], "object"),
        (["call", "one__echo", "{"], "JSON"),
    ] {
        let ended = directory.run(&[&arguments[..], &["--url", &url]].concat()).await;
        assert_eq!((code(&ended), ended.stdout.as_str()), (1, ""), "{arguments:?}");
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
        assert_eq!((code(&ended), ended.stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(ended.stderr.contains(&address.to_string()), "{arguments:?}: {}", ended.stderr);
    }
    for verb in ["servers", "tools"] {
        let ended = directory.run(&[verb]).await;
        assert_ne!(code(&ended), 0);
        assert!(ended.stderr.contains("gateway.yaml"), "{verb} names the file it missed: {}", ended.stderr);
    }
    directory.write("gateway.yaml", "admin: off\nservers: {}").await;
    let off = directory.run(&["servers"]).await;
    assert!(code(&off) == 1 && off.stderr.contains("admin: off"), "{}", off.stderr);
    assert_eq!(code(&directory.run(&["frobnicate"]).await), 2);
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
    assert_eq!((code(&called), called.stdout.trim_end()), (0, "hi"));
    let tools = directory.run(&["tools"]).await;
    assert!(code(&tools) == 0 && tools.stdout.contains("demo__echo"), "{}", tools.stdout);
    let servers = directory.run(&["servers"]).await;
    assert!(code(&servers) == 0 && servers.stdout.contains("demo"), "{}", servers.stdout);
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
