//! The gateway as a process: the real binary with a configuration of the story's own.
//!
//! Owns the child process, its directory and what it printed. Always: it is killed and its directory removed when the
//! story ends; a failing story shows what it logged. Not here: how requests are made.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::client::{Client, Endpoint};
use super::http::Headers;
use super::upstream::Upstream;
use super::{eventually, patiently};

/// Begin to describe a gateway.
pub(crate) fn gateway() -> Plan {
    Plan { servers: Vec::new(), settings: String::new(), environment: Vec::new() }
}

/// A gateway that is not running yet.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    servers: Vec<(String, Value)>,
    settings: String,
    environment: Vec<(String, String)>,
}

impl Plan {
    /// Put a scripted upstream behind it, under `name`.
    pub(crate) fn with(self, name: &str, upstream: &Upstream) -> Plan {
        self.with_server(name, upstream.settings())
    }

    /// As [`Plan::with`], with further keys for the server's entry.
    pub(crate) fn with_more(self, name: &str, upstream: &Upstream, more: Value) -> Plan {
        let mut settings = upstream.settings();
        for (key, value) in more.as_object().expect("more keys are an object") {
            settings[key] = value.clone();
        }
        self.with_server(name, settings)
    }

    /// Put an HTTP upstream behind it.
    pub(crate) fn with_http(self, name: &str, url: &str) -> Plan {
        self.with_server(name, json!({ "url": url }))
    }

    /// Put a child process behind it.
    pub(crate) fn with_stdio(self, name: &str, command: &str, args: &[&str]) -> Plan {
        self.with_server(name, json!({ "command": command, "args": args }))
    }

    /// Put any entry below `servers`.
    pub(crate) fn with_server(mut self, name: &str, settings: Value) -> Plan {
        self.servers.push((name.to_owned(), settings));
        self
    }

    /// Add lines to the configuration file.
    pub(crate) fn config(mut self, yaml: &str) -> Plan {
        self.settings.push_str(yaml);
        self.settings.push('\n');
        self
    }

    /// Set a variable in the gateway's environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> String {
        let mut yaml = String::from("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n");
        if self.servers.is_empty() {
            yaml.push_str("servers: {}\n");
        } else {
            yaml.push_str("servers:\n");
        }
        for (name, settings) in &self.servers {
            yaml.push_str(&format!("  {}: {settings}\n", Value::from(name.as_str())));
        }
        yaml.push_str(&self.settings);
        yaml
    }

    /// Start it and wait until it serves.
    pub(crate) async fn start(&self) -> Gateway {
        Plan::serving(Gateway::spawn(&self.file(), &self.environment)).await
    }

    /// Start the binary in `directory` with exactly these arguments and wait until it serves.
    pub(crate) async fn start_in(directory: &Path, arguments: &[&str]) -> Gateway {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.args(arguments).current_dir(directory);
        Plan::serving(Gateway::run(command, directory.to_owned())).await
    }

    async fn serving(mut gateway: Gateway) -> Gateway {
        let lines = Arc::clone(&gateway.stdout);
        let exited = async {
            let status = gateway.child.wait().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            status
        };
        let addresses = eventually_printed(&lines);
        let (endpoint, admin) = tokio::select! {
            addresses = addresses => addresses,
            status = exited => panic!("the gateway ended at once: {status:?}\n{}", gateway.stderr()),
        };
        gateway.endpoint = Endpoint::parse(&endpoint);
        gateway.admin = Endpoint::parse(&admin);
        gateway
    }
}

async fn eventually_printed(lines: &Mutex<Vec<String>>) -> (String, String) {
    let printed = |key: &str| {
        let lines = lines.lock().expect("nobody panics while holding it");
        lines.iter().find_map(|line| line.strip_prefix(key).map(|rest| rest.trim().to_owned()))
    };
    eventually("the gateway to print its addresses", || async {
        Some((printed("endpoint ")?, printed("admin ")?))
    })
    .await
}

/// What a gateway printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit code.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().expect("it ended by itself")
    }
}

/// Run the gateway with a configuration file that it should refuse.
pub(crate) async fn refused(file: &str) -> Ended {
    let mut gateway = Gateway::spawn(file, &[]);
    let status = patiently("the gateway to refuse its configuration", gateway.child.wait())
        .await
        .expect("a child ends");
    let printed =
        |lines: &Mutex<Vec<String>>| lines.lock().expect("nobody panics while holding it").join("\n");
    patiently("its pipes to close", async {
        while let Some(reader) = gateway.readers.pop() {
            reader.await.expect("readers only read");
        }
    })
    .await;
    Ended { status, stdout: printed(&gateway.stdout), stderr: printed(&gateway.stderr) }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The MCP endpoint.
    pub(crate) endpoint: Endpoint,
    /// The admin listener.
    pub(crate) admin: Endpoint,
    child: Child,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
    readers: Vec<tokio::task::JoinHandle<()>>,
}

impl Gateway {
    fn spawn(file: &str, environment: &[(String, String)]) -> Gateway {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("switchyard-story-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("the temporary directory takes files");
        let path = directory.join("gateway.yaml");
        std::fs::write(&path, file).expect("the temporary directory takes files");
        println!("--- gateway.yaml\n{file}---");
        let mut gateway = Gateway::run(Gateway::command(&directory, environment), directory);
        gateway.environment = environment.to_vec();
        gateway
    }

    fn command(directory: &Path, environment: &[(String, String)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchyard"));
        command.arg("serve").arg("-c").arg(directory.join("gateway.yaml")).current_dir(directory);
        for (name, value) in environment {
            command.env(name, value);
        }
        command
    }

    /// Start it again in its directory, with the same configuration, once it has ended; it listens elsewhere then.
    pub(crate) async fn start_again(&mut self) {
        let environment = self.environment.clone();
        self.start_again_with(&environment).await;
    }

    /// As [`Gateway::start_again`], with this environment.
    pub(crate) async fn start_again_with(&mut self, environment: &[(String, String)]) {
        println!("--- the gateway starts again");
        let command = Gateway::command(&self.directory, environment);
        let mut next = Plan::serving(Gateway::run(command, self.directory.clone())).await;
        next.environment = environment.to_vec();
        let mut last = std::mem::replace(self, next);
        // The directory is the next one's.
        last.directory = self.directory.join("of-the-last");
    }

    fn run(mut command: Command, directory: PathBuf) -> Gateway {
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built with the tests");
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let readers = vec![
            keep_lines(child.stdout.take().expect("piped"), Arc::clone(&stdout)),
            keep_lines(child.stderr.take().expect("piped"), Arc::clone(&stderr)),
        ];
        let unknown = Endpoint { address: ([127, 0, 0, 1], 1).into(), path: String::new() };
        let (endpoint, admin, environment) = (unknown.clone(), unknown, Vec::new());
        Gateway { endpoint, admin, child, directory, environment, stdout, stderr, readers }
    }

    /// Its directory, where the configuration lies and what it keeps.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// A client of the handshake era, after its handshake, that declares no capability.
    pub(crate) async fn handshake(&self, revision: &str) -> Client {
        Client::handshake(&self.endpoint, revision, json!({})).await
    }

    /// As [`Gateway::handshake`], with capabilities.
    pub(crate) async fn handshake_with(&self, revision: &str, capabilities: Value) -> Client {
        Client::handshake(&self.endpoint, revision, capabilities).await
    }

    /// A client of the stateless era that declares no capability.
    pub(crate) fn stateless(&self) -> Client {
        Client::stateless(&self.endpoint, json!({}))
    }

    /// A client of the era of `revision`.
    pub(crate) async fn client(&self, revision: &str) -> Client {
        match revision {
            super::STATELESS => self.stateless(),
            handshake => self.handshake(handshake).await,
        }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the gateway runs")
    }

    /// What it logged so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("nobody panics while holding it").join("\n")
    }

    /// Whether all that it printed was read, once it has ended.
    pub(crate) fn is_read_to_the_end(&self) -> bool {
        self.readers.iter().all(tokio::task::JoinHandle::is_finished)
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Ask the admin listener.
    pub(crate) async fn admin_get(&self, path: &str) -> super::client::Whole {
        let mut headers = Headers::default();
        headers.set("Host", &self.admin.address.to_string());
        self.admin.at(path).ask("GET", headers, b"").await
    }

    /// Send SIGTERM and wait for the end.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Wait for the end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        patiently("the gateway to end", self.child.wait()).await.expect("a child ends")
    }

    /// Send SIGKILL and wait for the end.
    pub(crate) async fn kill(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        patiently("the gateway to end after SIGKILL", self.child.wait()).await.expect("a child ends");
    }

    /// Send a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        signal_process(self.pid(), signal);
    }
}

/// Send a signal to a process that this story started.
pub(crate) fn signal_process(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("process ids are positive");
    rustix::process::kill_process(pid, signal).expect("the process exists");
}

/// Whether a process exists and is not a zombie.
pub(crate) async fn is_running(pid: u32) -> bool {
    match tokio::fs::read_to_string(format!("/proc/{pid}/stat")).await {
        Ok(stat) => !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'),
        Err(_) => false,
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the gateway logged\n{}\n---", self.stderr());
        }
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn keep_lines(
    pipe: impl tokio::io::AsyncRead + Unpin + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines.lock().expect("nobody panics while holding it").push(text);
            line.clear();
        }
    })
}
