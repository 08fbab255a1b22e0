//! Processes that end, and how that is told.

use std::time::Duration;

use switchyard::upstream::stdio::{EndReason, Line, StartError, start};
use tokio::time::Instant;

use crate::support::*;

const SEEN_WITHIN: Duration = Duration::from_millis(100);

#[tokio::test]
async fn f14_a_crash_is_seen_within_100_ms() {
    let (mut fastest, mut crashes) = (Duration::MAX, 0);
    // The best of some: this is about our own waiting, not about a busy machine.
    while crashes < 5 || (fastest > SEEN_WITHIN && crashes < 60) {
        crashes += 1;
        let (mut process, mark) = start_evil(&["die_by", "11"]);
        // Until it stands before its first line, so that the interpreter's start is not counted.
        until("it waits for input", || is_waiting_for_input(&mark)).await;
        let crash = Instant::now();
        process.send("go");
        assert_eq!(process.end().await, EndReason::Signalled(11));
        fastest = fastest.min(crash.elapsed());
    }
    println!("crash seen after {fastest:?}, the best of {crashes}");
    assert!(fastest <= SEEN_WITHIN, "{fastest:?}");
}

/// Whether the child sleeps in a read of a pipe.
fn is_waiting_for_input(mark: &str) -> bool {
    alive(mark).iter().any(|pid| {
        let read =
            |file| std::fs::File::open(format!("/proc/{pid}/{file}")).and_then(std::io::read_to_string);
        read("comm").is_ok_and(|name| name.starts_with("python"))
            && read("syscall").is_ok_and(|call| call.starts_with("0 0x0 "))
    })
}

#[tokio::test]
async fn exit_codes_arrive() {
    let (mut process, _) = start_evil(&["exit_with", "3"]);
    process.send("go");
    assert_eq!(process.end().await, EndReason::Exited(3));
    soon(process.control.stop()).await;
}

#[tokio::test]
async fn f17_huge_line() {
    let (mut settings, mark) = evil(&["huge_line", "1073741824"]);
    settings.line_limit = 16 * MIB as usize;
    let own = std::process::id();
    let before = memory(own, "VmRSS");
    let mut process = start(settings).unwrap();
    let mut most = before;
    let reason = soon(async {
        loop {
            tokio::select! {
                line = process.output.recv() => match line {
                    Some(Line::Ended(reason)) => break reason,
                    other => panic!("{other:?}"),
                },
                () = tokio::time::sleep(Duration::from_millis(2)) => most = most.max(memory(own, "VmRSS")),
            }
        }
    })
    .await;
    most = most.max(memory(own, "VmRSS"));
    println!("grew by {} KiB", (most - before) / 1024);
    assert_eq!(reason, EndReason::LineTooLong(16 * MIB as usize));
    assert!(most - before < (2 * 16 + 8) * MIB, "grew by {} bytes", most - before);
    soon(process.control.gone()).await;
    assert_none_alive(&mark);
}

#[tokio::test]
async fn f22_a_missing_command_is_named() {
    let mut process = start(settings("no-such-server", &["--stdio"])).unwrap();
    let path = std::env::var("PATH").unwrap();
    let text = format!("command not found: no-such-server (PATH is {path})");
    assert_eq!(process.end().await, EndReason::StartFailed(text));

    let mut process = start(settings("/no/such/server", &[])).unwrap();
    assert_eq!(process.end().await.to_string(), "command not found: /no/such/server");
}

#[tokio::test]
async fn f22_a_command_that_cannot_be_run_is_told_from_a_missing_one() {
    let mut process = start(settings("/etc/passwd", &[])).unwrap();
    let text = "command cannot be run: /etc/passwd: Permission denied (os error 13)";
    assert_eq!(process.end().await.to_string(), text);

    let script = std::env::temp_dir().join(format!("switchyard-script-{}", std::process::id()));
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let mut process = start(settings(script.to_str().unwrap(), &[])).unwrap();
    let end = process.end().await.to_string();
    std::fs::remove_file(&script).unwrap();
    assert_eq!(end, format!("command cannot be run: {}: its interpreter is missing", script.display()));
}

#[tokio::test]
async fn a_missing_working_directory_or_warden_is_told_at_once() {
    let (mut wrong, _) = evil(&["echo"]);
    wrong.cwd = Some("/no/such/directory".into());
    let error = start(wrong).unwrap_err();
    assert!(matches!(&error, StartError::WorkingDirectory(_)), "{error}");

    let (mut wrong, _) = evil(&["echo"]);
    wrong.warden = Some("/no/such/warden".into());
    let error = start(wrong).unwrap_err();
    assert!(matches!(&error, StartError::Warden { .. }), "{error}");
}

#[tokio::test]
async fn f24_stdout_closed_while_alive_is_a_crash() {
    let (mut process, mark) = start_evil(&["close_stdout"]);
    assert_eq!(process.text().await, "last words");
    assert_eq!(process.end().await, EndReason::OutputClosed);
    soon(process.control.gone()).await;
    assert_none_alive(&mark);
}

#[tokio::test]
async fn f24_half_a_line_before_death_is_dropped_and_counted() {
    let (mut process, _) = start_evil(&["half_line"]);
    assert_eq!(process.text().await, "whole");
    assert_eq!(process.end().await, EndReason::Exited(5));
    assert_eq!(process.control.counts().half_lines, 1);
}

#[tokio::test]
async fn a_child_cannot_speak_for_its_warden() {
    let (mut process, _) = start_evil(&["forge"]);
    process.send("go");
    assert_eq!(process.end().await, EndReason::Exited(6));
    let told = ["switchyard-warden: memory 1", "switchyard-warden: exited 42"];
    assert_eq!(process.control.stderr_tail(), told);
}
