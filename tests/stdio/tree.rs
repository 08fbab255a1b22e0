//! Stopping: in stages, whole trees, whatever happens to the gateway (F20, F21, S-STDIO-03).

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use switchyard::upstream::stdio::{EndReason, start};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::time::Instant;

use crate::support::*;

const TWO_SECONDS: Duration = Duration::from_secs(2);
/// Tells the test binary to play the gateway that is killed; the value is the child's mark.
const PLAY_GATEWAY: &str = "SWITCHYARD_TEST_PLAY_GATEWAY";

#[tokio::test]
async fn s_stdio_03_a_polite_child_ends_on_eof_and_is_heard_to_the_end() {
    let (mut settings, _) = evil(&["polite"]);
    settings.stop_eof = PATIENCE;
    let mut process = start(settings).unwrap();
    process.send("last wish");
    soon(process.control.stop()).await;
    assert_eq!(process.text().await, "last wish");
    assert_eq!(process.text().await, "goodbye");
    assert_eq!(process.end().await, EndReason::Stopped);
}

#[tokio::test]
async fn s_stdio_03_sigterm_comes_second() {
    let (mut settings, _) = evil(&["ends_on_term"]);
    settings.stop_term = PATIENCE;
    let mut process = start(settings).unwrap();
    assert_eq!(process.text().await, "ready");
    soon(process.control.stop()).await;
    assert_eq!(process.text().await, "term");
    assert_eq!(process.end().await, EndReason::Stopped);
}

#[tokio::test]
async fn f21_a_child_that_ignores_eof_and_sigterm_is_killed() {
    let (mut process, mark) = start_evil(&["stubborn"]);
    assert_eq!(process.text().await, "ready");
    let begin = Instant::now();
    soon(process.control.stop()).await;
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(600), "all stages are waited for, not {took:?}");
    assert!(took < TWO_SECONDS, "{took:?}");
    assert_none_alive(&mark);
    assert_eq!(process.end().await, EndReason::Stopped);
}

#[tokio::test]
async fn f20_daemons_die_with_a_stop() {
    let (mut process, mark) = start_evil(&["daemonise_and_defy"]);
    assert_eq!(process.text().await, "ready");
    assert!(alive(&mark).len() >= 7, "warden, command and five daemons: {:?}", alive(&mark));
    let begin = Instant::now();
    soon(process.control.stop()).await;
    assert_none_alive(&mark);
    println!("stopped after {:?}", begin.elapsed());
    assert!(begin.elapsed() < TWO_SECONDS, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn f20_daemons_die_when_the_command_ends() {
    let (mut process, mark) = start_evil(&["daemonise_and_exit"]);
    assert_eq!(process.text().await, "ready");
    assert_eq!(process.end().await, EndReason::Exited(7));
    assert_none_alive(&mark);
}

/// This test binary in another role: a gateway whose one child is [`plays_the_gateway_that_is_killed`]'s.
struct Gateway {
    process: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
    mark: String,
}

impl Gateway {
    fn begin() -> Self {
        let (_, mark) = evil(&[]);
        let mut process = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tree::plays_the_gateway_that_is_killed", "--ignored", "--nocapture"])
            .env(PLAY_GATEWAY, &mark)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Gateway { process, lines, mark }
    }

    async fn says(&mut self, text: &str) {
        soon(async { while !self.lines.next_line().await.unwrap().expect("it lives").contains(text) {} })
            .await;
    }

    /// SIGKILL; how long its child's tree outlived it.
    async fn kill(mut self) -> Duration {
        self.process.kill().await.unwrap();
        until_none_is_alive(&self.mark).await
    }
}

#[tokio::test]
#[ignore = "played by Gateway"]
async fn plays_the_gateway_that_is_killed() {
    let Ok(mark) = std::env::var(PLAY_GATEWAY) else { return };
    let (mut settings, _) = evil(&["daemonise_and_defy", &mark]);
    settings.stop_term = PATIENCE;
    println!("about to start the child");
    let mut process = start(settings).unwrap();
    assert_eq!(process.text().await, "ready");
    println!("child is ready");
    tokio::time::sleep(PATIENCE).await;
}

#[tokio::test]
async fn f20_daemons_die_when_the_gateway_is_killed() {
    let mut gateway = Gateway::begin();
    gateway.says("child is ready").await;
    assert!(alive(&gateway.mark).len() >= 7, "{:?}", alive(&gateway.mark));
    let took = gateway.kill().await;
    println!("all gone {took:?} after the gateway");
    assert!(took < TWO_SECONDS, "{took:?}");
}

#[tokio::test]
async fn f20_a_gateway_killed_while_it_starts_a_child_leaves_nothing() {
    for moment in 0..12 {
        let mut gateway = Gateway::begin();
        gateway.says("about to start").await;
        tokio::time::sleep(Duration::from_micros(moment * 700)).await;
        let took = gateway.kill().await;
        assert!(took < TWO_SECONDS, "killed at moment {moment}: {took:?}");
    }
}

#[tokio::test]
async fn a_control_that_is_dropped_stops_its_process() {
    let (process, mark) = start_evil(&["daemonise_and_echo"]);
    let pid = process.control.pid();
    let mut output = process.output;
    soon(output.recv()).await;
    let other = process.control.clone();
    drop(process.control);
    assert!(!alive(&mark).is_empty());
    drop(other);
    until_none_is_alive(&mark).await;
    until("reaped", || !is_in_proc(pid)).await;
}

#[tokio::test]
async fn output_that_is_dropped_stops_its_process() {
    let (mut process, mark) = start_evil(&["daemonise_and_echo"]);
    assert_eq!(process.text().await, "ready");
    drop(process.output);
    soon(process.control.gone()).await;
    assert_none_alive(&mark);
}

#[test]
fn a_runtime_that_is_dropped_leaves_nothing() {
    let begun = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = begun();
    let (process, mark) = runtime.block_on(async {
        let (mut process, mark) = start_evil(&["daemonise_and_echo"]);
        assert_eq!(process.text().await, "ready");
        (process, mark)
    });
    drop(runtime);
    begun().block_on(until_none_is_alive(&mark));
    drop(process);
}

#[tokio::test]
async fn a_child_that_kills_its_warden_gains_nothing() {
    let (mut process, mark) = start_evil(&["kill_parent"]);
    assert_eq!(process.text().await, "ready");
    process.send("go");
    assert_eq!(process.end().await, EndReason::WardenLost);
    soon(process.control.gone()).await;
    until_none_is_alive(&mark).await;
}

#[tokio::test]
async fn a_warden_that_is_stopped_is_killed_in_the_end() {
    let (mut process, mark) = start_evil(&["stubborn"]);
    assert_eq!(process.text().await, "ready");
    let warden = Pid::from_raw(process.control.pid() as i32).unwrap();
    kill_process(warden, Signal::STOP).unwrap();
    soon(process.control.stop()).await;
    until_none_is_alive(&mark).await;
}

#[tokio::test]
async fn without_a_warden_the_group_is_stopped() {
    let (mut settings, mark) = evil(&["stubborn"]);
    settings.warden = None;
    let mut process = start(settings).unwrap();
    assert_eq!(process.text().await, "ready");
    soon(process.control.stop()).await;
    assert_eq!(process.end().await, EndReason::Stopped);
    assert_none_alive(&mark);

    let (mut settings, _) = evil(&["die_by", "6"]);
    settings.warden = None;
    let mut process = start(settings).unwrap();
    process.send("go");
    assert_eq!(process.end().await, EndReason::Signalled(6));

    let mut missing = crate::support::settings("no-such-server", &[]);
    missing.warden = None;
    assert!(
        start(missing).unwrap_err().to_string().starts_with("command not found: no-such-server (PATH is ")
    );
}

#[tokio::test]
async fn twenty_stopped_at_once_leave_no_zombie() {
    let mut processes: Vec<_> = (0..20).map(|_| start_evil(&["stubborn"])).collect();
    for (process, _) in &mut processes {
        assert_eq!(process.text().await, "ready");
    }
    let begin = Instant::now();
    join_all(processes.iter().map(|(process, _)| soon(process.control.stop()))).await;
    println!("twenty stopped after {:?}", begin.elapsed());
    for (process, mark) in &processes {
        assert!(!is_in_proc(process.control.pid()), "reaped");
        assert_none_alive(mark);
    }
}

fn is_in_proc(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
