//! The child's stderr: always read, remembered a little, logged at a bounded rate.
//!
//! Always: whatever a child writes, it is not blocked, and memory and log stay bounded. The last line is the warden's.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::counts::Counters;
use super::output::AFTER_THE_END;
use super::report::Report;
use crate::names::UpstreamName;
use crate::protocol::redact::redacted;

/// Lines remembered.
const REMEMBERED: usize = 64;
/// Bytes kept of one line; the rest of it is cut off.
const LINE: usize = 1024;
/// Lines logged in a second, and at once after a quiet time.
const LOGGED_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

/// The last lines a process wrote to stderr.
#[derive(Debug, Default)]
pub(super) struct StderrTail(Mutex<VecDeque<Vec<u8>>>);

impl StderrTail {
    /// The lines, oldest first, as text without secrets and without control characters (they may end up on a terminal).
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|line| readable(line)).collect()
    }

    fn remember(&self, line: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place =
            if lines.len() < REMEMBERED { Vec::new() } else { lines.pop_front().unwrap_or_default() };
        place.clear();
        place.extend_from_slice(line);
        lines.push_back(place);
    }
}

fn readable(line: &[u8]) -> String {
    let clean = redacted(line);
    let text = String::from_utf8_lossy(&clean);
    text.chars().map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Takes stderr apart into lines and deals with each.
struct Listener {
    name: UpstreamName,
    tail: Arc<StderrTail>,
    counters: Arc<Counters>,
    rate: DefaultDirectRateLimiter,
    /// The line being collected, at most `LINE` bytes of it.
    line: Vec<u8>,
    /// The latest line when it reads like a warden's report; one more line unmasks it.
    report: Option<(Vec<u8>, Report)>,
}

impl Listener {
    fn take(&mut self, mut chunk: &[u8]) {
        while let Some(newline) = memchr(b'\n', chunk) {
            self.extend(&chunk[..newline]);
            self.end_line();
            chunk = &chunk[newline + 1..];
        }
        self.extend(chunk);
    }

    fn extend(&mut self, part: &[u8]) {
        let room = LINE - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if !line.is_empty() {
            if let Some((forged, _)) = self.report.take() {
                self.tell(&forged);
            }
            match Report::parse(&line) {
                Some(report) => self.report = Some((line.clone(), report)),
                None => self.tell(&line),
            }
        }
        line.clear();
        self.line = line;
    }

    fn tell(&self, line: &[u8]) {
        self.tail.remember(line);
        self.counters.stderr_lines.fetch_add(1, Relaxed);
        if self.rate.check().is_ok() {
            tracing::info!(upstream = %self.name, "stderr: {}", readable(line));
        } else {
            self.counters.stderr_dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Reads stderr to its end, and returns the warden's report if that was the last line. `gone` says that the process has
/// been reaped.
pub(super) async fn listen(
    mut stderr: impl AsyncRead + Unpin,
    name: UpstreamName,
    tail: Arc<StderrTail>,
    counters: Arc<Counters>,
    gone: CancellationToken,
) -> Option<Report> {
    let rate = RateLimiter::direct(Quota::per_second(LOGGED_PER_SECOND));
    let mut listener = Listener { name, tail, counters, rate, line: Vec::new(), report: None };
    let mut overtime = pin!(async {
        gone.cancelled().await;
        tokio::time::sleep(AFTER_THE_END).await;
    });
    let mut chunk = Vec::with_capacity(8 * 1024);
    loop {
        chunk.clear();
        let read = tokio::select! {
            biased;
            read = stderr.read_buf(&mut chunk) => read.unwrap_or(0),
            () = &mut overtime => 0,
        };
        if read == 0 {
            listener.end_line();
            return listener.report.map(|(_, report)| report);
        }
        listener.take(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn heard(text: &str) -> (Option<Report>, Vec<String>) {
        let tail = Arc::new(StderrTail::default());
        let name = UpstreamName::new("child");
        let report =
            listen(text.as_bytes(), name, Arc::clone(&tail), Arc::default(), CancellationToken::new()).await;
        (report, tail.lines())
    }

    #[tokio::test]
    async fn only_the_last_line_is_the_wardens() {
        let forged = "switchyard-warden: memory 1";
        let (report, lines) = heard(&format!("{forged}\nhalf a line\nswitchyard-warden: exited 4\n")).await;
        assert_eq!(report, Some(Report::Exited(4)));
        assert_eq!(lines, [forged, "half a line"]);
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_old_ones_forgotten() {
        let text: String = (0..100).map(|n| format!("{n:03}{}\n", "x".repeat(5000))).collect();
        let (report, lines) = heard(&text).await;
        assert_eq!((report, lines.len()), (None, REMEMBERED));
        assert!(lines.iter().all(|line| line.len() == LINE));
        assert!(lines[0].starts_with("036") && lines[63].starts_with("099"));
    }

    #[tokio::test]
    async fn a_terminal_is_not_given_orders() {
        assert_eq!(heard("a\u{1b}[2Jb\tc\r\n").await.1, ["a\u{fffd}[2Jb\tc"]);
    }
}
