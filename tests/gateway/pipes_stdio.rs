//! `switchyard stdio` as the client that started it sees it: both eras on one pipe, and how it ends (S-STDIO).

use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use crate::support::command_line::Directory;
use crate::support::gateway::{Plan, is_running, signal_process};
use crate::support::schema::{Answers, message_faults};
use crate::support::{
    HANDSHAKE, STATELESS, eventually, gateway, http_upstream, patiently, stdio_upstream, within,
};

/// A gateway that this story started as its server.
struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    /// Holds the configuration.
    _directory: Directory,
}

impl Pipe {
    async fn start(plan: &Plan) -> Pipe {
        let directory = Directory::new().await;
        directory.write("gateway.yaml", &plan.file()).await;
        Pipe::run(directory, &[])
    }

    fn run(directory: Directory, arguments: &[&str]) -> Pipe {
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchyard"))
            .arg("stdio")
            .args(arguments)
            .current_dir(&directory.0)
            // As talkative as it can be: none of it may reach the output.
            .env("RUST_LOG", "trace")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary was built with the tests");
        let output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let input = child.stdin.take();
        Pipe { child, input, output, _directory: directory }
    }

    async fn write(&mut self, text: &str) {
        println!("-> {}", &text[..text.floor_char_boundary(600)]);
        let input = self.input.as_mut().expect("the input is open");
        let line = format!("{text}\n");
        patiently("the gateway to read", input.write_all(line.as_bytes())).await.expect("it reads");
    }

    async fn send(&mut self, message: &Value) {
        self.write(&message.to_string()).await;
    }

    /// The next line, but for news of lists. Each must be a message or a batch; `None` at the end of the output.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let line = patiently("a line", self.output.next_line()).await.expect("UTF-8")?;
            println!("<- {line}");
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line}"));
            assert!(message.is_array() || message["jsonrpc"] == "2.0", "{line}");
            if !line.contains("/list_changed\"") {
                return Some(message);
            }
        }
    }

    /// Sends a request and reads its answer, which must be the next message.
    async fn request(&mut self, revision: &str, id: Value, method: &str, params: Value) -> Value {
        self.send(&request(revision, id.clone(), method, params)).await;
        let answer = self.next().await.expect("an answer");
        assert_eq!(answer["id"], id, "{answer}");
        let faults = message_faults(revision, &answer, Answers::Method(method));
        assert!(faults.is_empty(), "{faults:?} in {answer}");
        answer
    }

    async fn initialize(&mut self, revision: &str) -> Value {
        let info = json!({ "name": "story", "version": "1" });
        let params = json!({ "protocolVersion": revision, "capabilities": {}, "clientInfo": info });
        let answer = self.request(revision, json!("hello"), "initialize", params).await;
        assert_eq!(answer["result"]["protocolVersion"], revision, "{answer}");
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        answer
    }

    async fn until_tool(&mut self, revision: &str, name: &str) {
        for _ in 0..200 {
            let listing = self.request(revision, json!("list"), "tools/list", json!({})).await;
            let tools = listing["result"]["tools"].as_array().expect("judged by the schema");
            if tools.iter().any(|tool| tool["name"] == name) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        panic!("{name} was never listed");
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    async fn ended(&mut self) -> ExitStatus {
        within(Duration::from_secs(10), "the gateway to end", self.child.wait()).await.expect("a child ends")
    }
}

/// A request with the metadata of its era.
fn request(revision: &str, id: Value, method: &str, mut params: Value) -> Value {
    if revision == STATELESS {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(revision);
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    }
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn echo(arguments: Value) -> Value {
    json!({ "name": "one__echo", "arguments": arguments })
}

#[tokio::test]
async fn s_stdio_01_nothing_but_messages_is_on_the_output_each_on_its_line() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.params()["arguments"]["slow"] == true {
                call.progress(1.0, 2.0).await;
            }
            call.raw_result("{\n\"content\":[\r\n{\"type\":\"text\",\"text\":\"a\\nb\"}]}").await;
        })
        .start()
        .await;
    let mut pipe = Pipe::start(&gateway().with("one", &upstream)).await;
    pipe.initialize(HANDSHAKE).await;
    pipe.until_tool(HANDSHAKE, "one__echo").await;
    let answer = pipe.request(HANDSHAKE, json!(1), "tools/call", echo(json!({}))).await;
    assert_eq!(answer["result"]["content"][0]["text"], "a\nb", "{answer}");
    let mut params = echo(json!({ "slow": true }));
    params["_meta"] = json!({ "progressToken": 5 });
    pipe.send(&request(HANDSHAKE, json!(2), "tools/call", params)).await;
    let progress = pipe.next().await.expect("progress");
    assert_eq!(progress["params"]["progressToken"], 5, "{progress}");
    assert_eq!(pipe.next().await.expect("the answer")["id"], 2);
    pipe.write("").await;
    pipe.write("  \r").await;
    pipe.write("nonsense").await;
    let error = pipe.next().await.expect("an error");
    assert_eq!((&error["id"], &error["error"]["code"]), (&Value::Null, &json!(-32700)), "{error}");
    drop(pipe.input.take());
    assert_eq!(pipe.next().await, None);
    assert!(pipe.ended().await.success());
}

#[tokio::test]
async fn s_stdio_10_both_eras_are_served_on_one_pipe() {
    let upstream = http_upstream("one").start().await;
    let mut pipe = Pipe::start(&gateway().with("one", &upstream)).await;
    let early = pipe.request(HANDSHAKE, json!(1), "tools/list", json!({})).await;
    assert_eq!(early["error"]["code"], -32600, "{early}");
    assert_eq!(pipe.request(HANDSHAKE, json!(2), "ping", json!({})).await["result"], json!({}));
    let discovered = pipe.request(STATELESS, json!(3), "server/discover", json!({})).await;
    assert!(discovered["result"]["supportedVersions"].is_array(), "{discovered}");
    pipe.until_tool(STATELESS, "one__echo").await;
    pipe.initialize("2025-06-18").await;
    for (id, revision) in [(4, STATELESS), (5, "2025-06-18"), (6, STATELESS)] {
        let answer = pipe.request(revision, json!(id), "tools/call", echo(json!({ "n": id }))).await;
        assert_eq!(answer["result"]["content"][0]["text"], format!(r#"one echoes {{"n":{id}}}"#), "{answer}");
    }
    let again = json!({ "protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": { "name": "x", "version": "1" } });
    let refused = pipe.request("2025-06-18", json!(7), "initialize", again.clone()).await;
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    // The modern signal wins, and in its era there is no such method (S-LIFE-15).
    let refused = pipe.request(STATELESS, json!(8), "initialize", again).await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    let unserved = request(STATELESS, json!(9), "tools/list", json!({}));
    let text = unserved.to_string().replace(STATELESS, "2099-01-01");
    pipe.write(&text).await;
    let refused = pipe.next().await.expect("a refusal");
    assert_eq!(refused["error"]["code"], -32022, "{refused}");
    assert_eq!(refused["error"]["data"]["requested"], "2099-01-01", "{refused}");
}

#[tokio::test]
async fn s_stdio_10_s_canc_05_a_cancelled_request_is_not_heard_of_again() {
    for revision in [STATELESS, HANDSHAKE] {
        let (tell, mut told) = mpsc::channel(1);
        let upstream = http_upstream("one")
            .on("tools/call", move |mut call| {
                let tell = tell.clone();
                async move {
                    call.progress(1.0, 9.0).await;
                    call.cancelled().await;
                    tell.send(()).await.ok();
                }
            })
            .start()
            .await;
        let mut pipe = Pipe::start(&gateway().with("one", &upstream)).await;
        pipe.initialize(HANDSHAKE).await;
        pipe.until_tool(revision, "one__echo").await;
        let mut params = echo(json!({}));
        params["_meta"] = json!({ "progressToken": "p" });
        pipe.send(&request(revision, json!("long"), "tools/call", params)).await;
        let progress = pipe.next().await.expect("progress");
        assert_eq!(progress["method"], "notifications/progress", "{progress}");
        // On one pipe an id means one request, of whichever era.
        for other in [STATELESS, HANDSHAKE] {
            pipe.send(&request(other, json!("long"), "tools/list", json!({}))).await;
            let refused = pipe.next().await.expect("a refusal");
            assert_eq!(refused["error"]["code"], -32600, "{refused}");
        }
        let params = json!({ "requestId": "long", "reason": "enough" });
        pipe.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
        within(Duration::from_secs(5), "the upstream to hear of it", told.recv()).await;
        let next = pipe.request(revision, json!("long"), "tools/list", json!({})).await;
        assert!(next["result"]["tools"].is_array(), "nothing came between, and the id is free: {next}");
    }
}

#[tokio::test]
async fn s_stdio_06_a_batch_in_a_line_is_answered_in_a_line() {
    let mut pipe = Pipe::start(&gateway()).await;
    pipe.initialize("2025-03-26").await;
    let ping = |id: i64| json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
    pipe.send(&json!([ping(1), { "jsonrpc": "2.0", "method": "notifications/unknown" }, ping(2)])).await;
    let answers = pipe.next().await.expect("an array");
    assert_eq!(answers.as_array().map(Vec::len), Some(2), "{answers}");
    let mut other = Pipe::start(&gateway()).await;
    other.send(&json!([ping(1)])).await;
    assert_eq!(other.next().await.expect("a refusal")["error"]["code"], -32600, "before any handshake");
}

#[tokio::test]
async fn s_base_18_a_line_that_is_too_long_is_refused_and_the_pipe_lives_on() {
    let mut pipe = Pipe::start(&gateway().config("bounds: { stdio_line: 4KiB }")).await;
    pipe.write(&"x".repeat(300_000)).await;
    let refused = pipe.next().await.expect("a refusal");
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&Value::Null, &json!(-32600)), "{refused}");
    assert_eq!(pipe.request(HANDSHAKE, json!(1), "ping", json!({})).await["result"], json!({}));
}

#[tokio::test]
async fn s_stdio_10_the_end_of_the_input_lets_calls_finish_and_leaves_nothing_behind() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            call.pause(400).await;
            call.text("in time").await;
        })
        .start()
        .await;
    for end in ["input", "signal"] {
        let plan = gateway().with("one", &upstream);
        let mut pipe = Pipe::start(&plan).await;
        pipe.initialize(HANDSHAKE).await;
        pipe.until_tool(HANDSHAKE, "one__echo").await;
        let children = children_of(pipe.pid()).await;
        assert!(!children.is_empty(), "the server runs");
        let before = upstream.received("tools/call").len();
        pipe.send(&request(HANDSHAKE, json!(1), "tools/call", echo(json!({})))).await;
        upstream.until_received("tools/call", before + 1).await;
        match end {
            "input" => drop(pipe.input.take()),
            _ => signal_process(pipe.pid(), rustix::process::Signal::TERM),
        }
        let answer = pipe.next().await.expect("the answer");
        assert_eq!(answer["result"]["content"][0]["text"], "in time", "{answer}");
        assert_eq!(pipe.next().await, None, "nothing comes after it");
        assert_eq!(pipe.ended().await.code(), Some(0));
        for child in children {
            eventually("its children to be gone", || async { (!is_running(child).await).then_some(()) })
                .await;
        }
    }
}

async fn children_of(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    let mut tasks = tokio::fs::read_dir(format!("/proc/{pid}/task")).await.expect("it runs");
    while let Some(task) = tasks.next_entry().await.expect("readable") {
        let text = tokio::fs::read_to_string(task.path().join("children")).await.unwrap_or_default();
        children.extend(text.split_whitespace().map(|pid| pid.parse::<u32>().expect("a number")));
    }
    children
}

#[tokio::test]
async fn s_stdio_10_a_client_that_is_idle_for_ever_keeps_no_gateway_from_stopping() {
    let mut pipe = Pipe::start(&gateway()).await;
    pipe.initialize(HANDSHAKE).await;
    assert_eq!(pipe.request(HANDSHAKE, json!(1), "ping", json!({})).await["result"], json!({}));
    signal_process(pipe.pid(), rustix::process::Signal::TERM);
    assert_eq!(pipe.ended().await.code(), Some(0), "its input is open still");
}

#[tokio::test]
async fn s_stdio_10_f27_a_client_that_takes_nothing_is_left() {
    let plan = gateway().config("bounds: { write_stall: 300ms, session_buffer: 64KiB }");
    let mut pipe = Pipe::start(&plan).await;
    pipe.initialize(HANDSHAKE).await;
    let long = "x".repeat(1_000);
    let flood = async {
        for number in 0.. {
            let params = json!({ "name": long });
            let line =
                format!("{}\n", request(HANDSHAKE, json!(format!("{number}{long}")), "no/such", params));
            if pipe.input.as_mut().expect("open").write_all(line.as_bytes()).await.is_err() {
                return;
            }
        }
    };
    within(Duration::from_secs(15), "the gateway to go", flood).await;
    assert_eq!(pipe.ended().await.code(), Some(1), "not all was written");
    let mut rest = Vec::new();
    patiently("what was written", pipe.output.get_mut().read_to_end(&mut rest)).await.expect("readable");
    assert!(rest.len() < 4_000_000, "{} bytes were kept for nobody", rest.len());
}

/// Text of this many bytes takes a slow reader a while.
const LONG: usize = 3_000_000;

impl Pipe {
    /// Reads what comes like a client that has much else to do, until a line of at least `LONG` bytes or the end.
    async fn read_slowly(&mut self) -> String {
        let mut piece = vec![0; 32 * 1024];
        let mut all = Vec::new();
        loop {
            let read = patiently("bytes", self.output.get_mut().read(&mut piece)).await.expect("readable");
            all.extend_from_slice(&piece[..read]);
            if read == 0 || (all.len() > LONG && all.ends_with(b"\n")) {
                return String::from_utf8(all).expect("UTF-8");
            }
            // About a megabyte in a second.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

#[tokio::test]
async fn s_stdio_01_s_https_17_a_client_that_reads_slowly_gets_whole_lines() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move { call.text(&"x".repeat(LONG)).await })
        .start()
        .await;
    for input_ends in [false, true] {
        let mut pipe =
            Pipe::start(&gateway().with("one", &upstream).config("bounds: { write_stall: 1s }")).await;
        pipe.initialize(HANDSHAKE).await;
        pipe.until_tool(HANDSHAKE, "one__echo").await;
        let before = upstream.received("tools/call").len();
        pipe.send(&request(HANDSHAKE, json!(1), "tools/call", echo(json!({})))).await;
        upstream.until_received("tools/call", before + 1).await;
        // Once the answer is on its way, whatever time the upstream needed for it.
        patiently("the answer to begin", pipe.output.get_mut().fill_buf()).await.expect("readable");
        if input_ends {
            drop(pipe.input.take());
        }
        let read = pipe.read_slowly().await;
        assert!(read.ends_with('\n'), "{} bytes, and the last line is cut", read.len());
        // News of lists may come at any time.
        let lines: Vec<&str> = read.lines().filter(|line| !line.contains("/list_changed\"")).collect();
        let [line] = lines.as_slice() else { panic!("{:?}", read.lines().map(str::len).collect::<Vec<_>>()) };
        let answer: Value = serde_json::from_str(line).expect("a whole line");
        let text = answer["result"]["content"][0]["text"].as_str();
        assert_eq!(text.map(str::len), Some(LONG), "{}", &line[..line.len().min(600)]);
        drop(pipe.input.take());
        assert_eq!(pipe.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn s_stdio_01_what_a_client_never_took_is_told_by_the_exit_code() {
    let upstream = http_upstream("one")
        .on("tools/call", |mut call| async move { call.text(&"x".repeat(LONG)).await })
        .start()
        .await;
    let mut pipe = Pipe::start(&gateway().with("one", &upstream)).await;
    pipe.initialize(HANDSHAKE).await;
    pipe.until_tool(HANDSHAKE, "one__echo").await;
    pipe.send(&request(HANDSHAKE, json!(1), "tools/call", echo(json!({})))).await;
    patiently("the answer to begin", pipe.output.get_mut().fill_buf()).await.expect("readable");
    drop(pipe.input.take());
    assert_eq!(pipe.ended().await.code(), Some(1));
}

#[tokio::test]
async fn s_https_20_a_signal_leaves_running_calls_the_whole_drain_and_their_client_its_say() {
    let upstream = stdio_upstream("one")
        .on("tools/call", |mut call| async move {
            if call.params()["arguments"]["long"] == true {
                call.cancelled().await;
                return;
            }
            call.pause(2_500).await;
            call.text("in time").await;
        })
        .start()
        .await;
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        let mut pipe = Pipe::start(&gateway().with("one", &upstream)).await;
        pipe.initialize(HANDSHAKE).await;
        pipe.until_tool(HANDSHAKE, "one__echo").await;
        let before = upstream.received("tools/call").len();
        pipe.send(&request(HANDSHAKE, json!(1), "tools/call", echo(json!({})))).await;
        pipe.send(&request(HANDSHAKE, json!(2), "tools/call", echo(json!({ "long": true })))).await;
        upstream.until_received("tools/call", before + 2).await;
        signal_process(pipe.pid(), signal);
        let params = json!({ "requestId": 2, "reason": "enough" });
        pipe.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;
        let answer = pipe.next().await.expect("the answer");
        assert_eq!(answer["result"]["content"][0]["text"], "in time", "{answer}");
        assert_eq!(pipe.next().await, None, "nothing comes after it");
        assert_eq!(pipe.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn s_stdio_10_an_address_is_enough_and_names_stay_as_they_are() {
    let upstream = http_upstream("one").start().await;
    let url = upstream.settings()["url"].as_str().expect("an HTTP upstream").to_owned();
    let mut pipe = Pipe::run(Directory::new().await, &["--url", &url]);
    pipe.initialize(HANDSHAKE).await;
    pipe.until_tool(HANDSHAKE, "echo").await;
    let params = json!({ "name": "echo", "arguments": { "n": 1 } });
    let answer = pipe.request(HANDSHAKE, json!(1), "tools/call", params).await;
    assert_eq!(answer["result"]["content"][0]["text"], r#"one echoes {"n":1}"#, "{answer}");

    let directory = Directory::new().await;
    for wrong in [&["stdio", "--url", "ftp://127.0.0.1/"][..], &["stdio", "--url", &url, "-c", "x.yaml"]] {
        let ended = directory.run(wrong).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{}", ended.stderr);
    }
}
