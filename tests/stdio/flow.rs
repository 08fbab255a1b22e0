//! Lines go in and come out.

use std::time::Duration;

use bytes::Bytes;
use switchyard::upstream::stdio::{EndReason, Line, SendError, start};
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn lines_arrive_in_order_whatever_their_size() {
    let (mut process, mark) = start_evil(&["echo"]);
    let sizes = [1, 100, 65_535, 65_536, 3_000_000, 5];
    for (n, size) in sizes.iter().enumerate() {
        process.send(&n.to_string().repeat(*size));
    }
    for (n, size) in sizes.iter().enumerate() {
        assert_eq!(process.text().await, n.to_string().repeat(*size));
    }
    let counts = process.control.counts();
    assert_eq!((counts.lines_sent, counts.lines_received), (6, 6));
    assert_eq!(counts.bytes_sent, counts.bytes_received);
    soon(process.control.stop()).await;
    assert_eq!(process.end().await, EndReason::Stopped);
    assert_none_alive(&mark);
}

#[tokio::test]
async fn lines_written_just_before_the_end_are_not_lost() {
    let (mut process, _) = start_evil(&["say_and_exit", "50000"]);
    // Nobody receives while the process ends.
    for n in 0..50_000 {
        assert_eq!(process.text().await, n.to_string());
    }
    assert_eq!(process.end().await, EndReason::Exited(0));
}

#[tokio::test]
async fn f16_lines_that_are_not_json_arrive_as_they_are() {
    let (mut process, _) = start_evil(&["garbage"]);
    let expected: [&[u8]; 4] =
        [b"Listening on port 3000...", b"{\"jsonrpc\":\"2.0\"}", b"\xff\xfe not text", b"[1,\x002]"];
    for line in expected {
        assert_eq!(soon(process.output.recv()).await, Some(Line::Text(Bytes::from_static(line))));
    }
    process.send("still here");
    assert_eq!(process.text().await, "still here");
}

#[tokio::test]
async fn f18_a_child_that_never_reads_is_bounded_heard_and_ended() {
    let (mut settings, mark) = evil(&["deaf"]);
    settings.stdin_queue = MIB as usize;
    settings.write_stall = Duration::from_secs(2);
    let mut process = start(settings).unwrap();
    let line = Bytes::from(vec![b'x'; 10_000]);
    let mut taken = 0;
    let refused = loop {
        match process.input.send(line.clone()) {
            Ok(()) => taken += line.len(),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, SendError::Full);
    assert!(taken as u64 <= MIB, "{taken}");
    for _ in 0..20 {
        assert_eq!(process.text().await, "tick");
    }
    assert_eq!(process.end().await, EndReason::WriteStalled);
    assert_eq!(process.input.send(line), Err(SendError::Closed));
    soon(process.control.gone()).await;
    assert_none_alive(&mark);
}

#[tokio::test]
async fn f19_a_flood_on_stderr_delays_no_answer() {
    let (mut process, _) = start_evil(&["flood_stderr", "200000000"]);
    let mut slowest = Duration::ZERO;
    let mut rounds = 0;
    loop {
        let asked = Instant::now();
        process.send("ping");
        if process.text().await == "flooded" {
            break;
        }
        slowest = slowest.max(asked.elapsed());
        rounds += 1;
    }
    let counts = process.control.counts();
    println!("{rounds} answers during the flood, slowest {slowest:?}; {counts:?}");
    assert!(rounds > 10 && slowest < Duration::from_secs(1), "{rounds} answers, slowest {slowest:?}");
    until("all of it was read", || process.control.counts().stderr_lines == 2_000_000).await;
    assert!(process.control.counts().stderr_dropped > 1_990_000);
    let tail = process.control.stderr_tail();
    assert_eq!((tail.len(), tail[0].len()), (64, 99));
}

#[tokio::test]
async fn output_that_nobody_receives_is_bounded_and_the_child_waits() {
    let (mut settings, _) = evil(&["echo"]);
    settings.line_limit = 100_000;
    let mut process = start(settings).unwrap();
    let line = "y".repeat(50_000);
    for _ in 0..100 {
        process.send(&line);
    }
    // Two lines fit the queue, one waits to get in; the rest stays in the pipes and with the child.
    until("the queue is full", || process.control.counts().lines_received == 3).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let counts = process.control.counts();
    assert!(counts.lines_received == 3 && counts.bytes_received < 300_000, "{counts:?}");
    for _ in 0..100 {
        assert_eq!(process.text().await.len(), line.len());
    }
}

#[tokio::test]
async fn everything_works_on_a_local_set_too() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let (mut process, _) = start_evil(&["echo"]);
            process.send("hello");
            assert_eq!(process.text().await, "hello");
            soon(process.control.stop()).await;
        })
        .await;
}

#[test]
fn a_process_may_be_handed_to_another_thread() {
    fn check<T: Send + 'static>() {}
    check::<switchyard::upstream::stdio::Process>();
}
