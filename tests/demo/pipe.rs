//! A demo server as a child process.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; killed when dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) output: Lines<BufReader<ChildStdout>>,
    pub(crate) input: Option<ChildStdin>,
}

pub(crate) fn start(arguments: &[&str]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_switchyard"))
        .arg("demo-server")
        .args(arguments)
        .env("DEMO_TEST_SECRET", "never-shown")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap()).lines();
    let input = child.stdin.take();
    Running { child, output, input }
}

/// A server over HTTP, and its address.
pub(crate) async fn start_http(arguments: &[&str]) -> (Running, String) {
    let mut running = start(&[&["--http", "127.0.0.1:0"], arguments].concat());
    let line = running.line().await.unwrap();
    let url =
        line.strip_prefix("endpoint ").unwrap_or_else(|| panic!("unexpected first line {line}")).to_owned();
    (running, url)
}

impl Running {
    pub(crate) async fn write(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(text.as_bytes()).await.unwrap();
        input.write_all(b"\n").await.unwrap();
        input.flush().await.unwrap();
    }

    pub(crate) async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.output.next_line()).await.expect("the server wrote nothing").unwrap()
    }

    pub(crate) async fn message(&mut self) -> Value {
        let line = self.line().await.expect("the server ended its output");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON on standard output: {line}"))
    }

    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("the server did not exit").unwrap().code()
    }
}
