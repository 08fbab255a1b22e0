//! The evil child as an upstream, and eyes for `/proc`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use switchyard::config::secret::Secret;
use switchyard::names::UpstreamName;
use switchyard::upstream::stdio::{EndReason, Line, Process, ProcessSettings, start};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const MIB: u64 = 1024 * 1024;
/// Far more than anything here takes, so that a busy machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Settings of an evil child in this mode, and the mark by which its processes are found.
pub(crate) fn evil(mode: &[&str]) -> (ProcessSettings, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mark = format!("evil-{}-{}.", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/evil_child.py");
    let mut args = vec!["-I", script];
    args.extend(mode);
    args.extend(["--mark", &mark]);
    (settings(python(), &args), mark)
}

pub(crate) fn settings(command: &str, args: &[&str]) -> ProcessSettings {
    ProcessSettings {
        name: UpstreamName::new("evil"),
        command: command.to_owned(),
        args: args.iter().map(|&arg| Secret::new(arg)).collect(),
        env: BTreeMap::new(),
        cwd: None,
        line_limit: 16 * MIB as usize,
        stdin_queue: 16 * MIB as usize,
        write_stall: Duration::from_secs(30),
        stop_eof: Duration::from_millis(300),
        stop_term: Duration::from_millis(300),
        max_memory: None,
        max_cpu_seconds: None,
        max_open_files: None,
        warden: Some(PathBuf::from(env!("CARGO_BIN_EXE_switchyard"))),
    }
}

/// The interpreter itself, without wrappers that would add to its environment.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "a question asked before the test starts")]
        let mut command = std::process::Command::new("python3");
        let output =
            command.args(["-c", "import sys; print(sys.executable)"]).output().expect("python3 is installed");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

pub(crate) fn start_evil(mode: &[&str]) -> (Process, String) {
    let (settings, mark) = evil(mode);
    (start(settings).unwrap(), mark)
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) trait Story {
    fn send(&self, line: &str);
    async fn text(&mut self) -> String;
    async fn end(&mut self) -> EndReason;
}

impl Story for Process {
    fn send(&self, line: &str) {
        self.input.send(Bytes::copy_from_slice(line.as_bytes())).unwrap();
    }

    /// The next line.
    async fn text(&mut self) -> String {
        match soon(self.output.recv()).await {
            Some(Line::Text(line)) => String::from_utf8_lossy(&line).into_owned(),
            other => panic!("no line but {other:?}; stderr: {:?}", self.control.stderr_tail()),
        }
    }

    /// The end, past all lines.
    async fn end(&mut self) -> EndReason {
        loop {
            if let Line::Ended(reason) = soon(self.output.recv()).await.expect("told before") {
                assert_eq!(soon(self.output.recv()).await, None, "the end is told once");
                return reason;
            }
        }
    }
}

/// Processes, zombies left out, with the mark on their command line.
pub(crate) fn alive(mark: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::File::open(format!("/proc/{pid}/cmdline")).and_then(std::io::read_to_string);
        line.is_ok_and(|line| line.contains(mark))
    })
    .collect()
}

/// Nothing with the mark is left, now.
#[track_caller]
pub(crate) fn assert_none_alive(mark: &str) {
    let alive = alive(mark);
    assert!(alive.is_empty(), "still alive: {alive:?}");
}

/// How long it takes until nothing with the mark is left.
pub(crate) async fn until_none_is_alive(mark: &str) -> Duration {
    let begin = Instant::now();
    while !alive(mark).is_empty() {
        assert!(begin.elapsed() < PATIENCE, "still alive: {:?}", alive(mark));
        sleep(Duration::from_millis(10)).await;
    }
    begin.elapsed()
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A field of `/proc/PID/status` in bytes.
pub(crate) fn memory(pid: u32, field: &str) -> u64 {
    let status =
        std::io::read_to_string(std::fs::File::open(format!("/proc/{pid}/status")).unwrap()).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
