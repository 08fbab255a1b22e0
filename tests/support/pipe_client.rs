//! A client of the gateway's own `stdio` verb: one line a message, both eras.
//!
//! Owns the process and its lines. Always: every line of stdout must be JSON; the process is killed when the story ends.
//! Not here: what is asked.

use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::command_line::Directory;
use super::inbox::Inbox;
use super::{HANDSHAKE, STATELESS, patiently};

/// A running `switchyard stdio`.
#[derive(Debug)]
pub(crate) struct PipeClient {
    /// What it wrote and nobody took yet.
    pub(crate) inbox: Inbox,
    child: Child,
    stdin: Option<ChildStdin>,
    stderr: Arc<Mutex<Vec<String>>>,
    /// Lines of stdout that were no JSON.
    garbage: Arc<Mutex<Vec<String>>>,
    next_id: AtomicI64,
    _directory: Directory,
}

impl PipeClient {
    /// Start it with this configuration file.
    pub(crate) async fn with_file(file: &str) -> PipeClient {
        let directory = Directory::new().await;
        println!("--- gateway.yaml\n{file}---");
        directory.write("gateway.yaml", file).await;
        PipeClient::start(directory, &["stdio", "-c", "gateway.yaml"])
    }

    /// Start it in front of a remote server.
    pub(crate) async fn with_url(url: &str) -> PipeClient {
        PipeClient::start(Directory::new().await, &["stdio", "--url", url])
    }

    fn start(directory: Directory, arguments: &[&str]) -> PipeClient {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.args(arguments).current_dir(&directory.0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with the tests");
        let (arrived, inbox) = Inbox::new();
        let garbage: Arc<Mutex<Vec<String>>> = Arc::default();
        let odd = Arc::clone(&garbage);
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        tokio::spawn(async move {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).into_owned();
                println!("<- {}", text[..text.floor_char_boundary(1500)].trim_end());
                let parsed = std::str::from_utf8(&line).ok().filter(|text| text.ends_with('\n'));
                match parsed.and_then(super::json::parse) {
                    Some(message) => drop(arrived.send(message).await),
                    None => odd.lock().expect("nobody panics while holding it").push(text),
                }
                line.clear();
            }
        });
        let stderr: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&stderr);
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().expect("nobody panics while holding it").push(line);
            }
        });
        let stdin = child.stdin.take();
        PipeClient { inbox, child, stdin, stderr, garbage, next_id: AtomicI64::new(1), _directory: directory }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it logged so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("nobody panics while holding it").join("\n")
    }

    /// Fail if anything but JSON ever came on stdout.
    pub(crate) fn expect_clean(&self) {
        let garbage = self.garbage.lock().expect("nobody panics while holding it");
        assert!(garbage.is_empty(), "stdout carries messages and nothing else: {garbage:?}");
    }

    /// Write bytes to its stdin.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin was not closed");
        let written = patiently("the gateway to take bytes", stdin.write_all(bytes)).await;
        written.expect("the gateway reads its stdin");
        stdin.flush().await.expect("the gateway reads its stdin");
    }

    /// Write one line.
    pub(crate) async fn line(&mut self, line: &str) {
        println!("-> {}", &line[..line.floor_char_boundary(1500)]);
        self.write(format!("{line}\n").as_bytes()).await;
    }

    /// Shake hands; the answer's revision is the session's from then on.
    pub(crate) async fn initialize(&mut self, revision: &str, capabilities: Value) -> Value {
        let params = json!({
            "protocolVersion": revision, "capabilities": capabilities,
            "clientInfo": { "name": "story", "version": "1" },
        });
        self.inbox.revision = HANDSHAKE.to_owned();
        let answer = self.request("initialize", params).await;
        let agreed = answer["result"]["protocolVersion"].as_str().expect("judged by the schema");
        self.inbox.revision = agreed.to_owned();
        self.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer
    }

    /// Send a request of the session; gives its id.
    pub(crate) async fn open(&mut self, method: &str, params: Value) -> Value {
        let revision = match params["protocolVersion"].as_str() {
            Some(asked) if method == "initialize" => super::answered_in(asked).to_owned(),
            _ => self.inbox.revision.clone(),
        };
        self.send_request(method, params, &revision).await
    }

    /// Send a request of the stateless era; gives its id.
    pub(crate) async fn open_stateless(&mut self, method: &str, mut params: Value) -> Value {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(STATELESS);
        if params["_meta"]["io.modelcontextprotocol/clientCapabilities"].is_null() {
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({ "name": "story", "version": "1" });
        self.send_request(method, params, STATELESS).await
    }

    async fn send_request(&mut self, method: &str, params: Value, revision: &str) -> Value {
        let id = json!(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.inbox.asked(&id, &super::schema::asked_as(revision, method, &params), revision);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.line(&message.to_string()).await;
        id
    }

    /// Send a request of the session and wait for the whole response.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.open(method, params).await;
        self.inbox.response(&id).await
    }

    /// Send a request of the stateless era and wait for the whole response.
    pub(crate) async fn stateless(&mut self, method: &str, params: Value) -> Value {
        let id = self.open_stateless(method, params).await;
        self.inbox.response(&id).await
    }

    /// List until this tool is there.
    pub(crate) async fn until_tool(&mut self, name: &str) {
        let deadline = tokio::time::Instant::now() + super::PATIENCE;
        loop {
            let listed = self.request("tools/list", json!({})).await;
            let tools = listed["result"]["tools"].as_array().cloned().unwrap_or_default();
            if tools.iter().any(|tool| tool["name"] == name) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name} never appeared: {listed}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Close its stdin and wait for the end; gives what it still wrote.
    pub(crate) async fn close(mut self) -> (ExitStatus, Vec<Value>) {
        drop(self.stdin.take());
        let status = patiently("the gateway to end with its stdin", self.child.wait()).await;
        let rest = self.inbox.rest().await;
        let garbage = self.garbage.lock().expect("nobody panics while holding it").clone();
        assert!(garbage.is_empty(), "stdout carries messages and nothing else: {garbage:?}");
        let log = self.stderr.lock().expect("nobody panics while holding it").join("\n");
        assert!(!log.contains("panicked"), "{log}");
        (status.expect("a child ends"), rest)
    }
}
