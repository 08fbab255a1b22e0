//! From whoever sends lines to the child's stdin.
//!
//! Always: sending never waits; what waits to be written is bounded in bytes; a line cannot smuggle in a second one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

use bytes::{Buf, Bytes};
use memchr::memchr;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::counts::Counters;

/// What a waiting line costs besides its bytes, so that many tiny lines are bounded as well.
const COST_PER_LINE: usize = 64;

/// Why a line was not taken; it has not been and will not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Too many bytes wait already.
    #[error("too much waits to be written to the process")]
    Full,
    /// The process has ended, is stopping, or closed its stdin.
    #[error("the process takes no more input")]
    Closed,
    /// The text contains a newline.
    #[error("the text is more than one line")]
    NotOneLine,
}

/// Sends lines to a process. When the last clone is dropped and all is written, stdin is closed.
#[derive(Debug, Clone)]
pub struct LineSender {
    queue: mpsc::Sender<Bytes>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

impl LineSender {
    /// Queues one line, given without its newline. Never waits.
    pub fn send(&self, line: Bytes) -> Result<(), SendError> {
        if memchr(b'\n', &line).is_some() {
            return Err(SendError::NotOneLine);
        }
        if self.queue.is_closed() {
            return Err(SendError::Closed);
        }
        let cost = line.len() + COST_PER_LINE;
        if self.waiting.fetch_add(cost, AcqRel) + cost > self.limit {
            self.waiting.fetch_sub(cost, Release);
            return Err(SendError::Full);
        }
        self.queue.try_send(line).map_err(|refused| {
            self.waiting.fetch_sub(cost, Release);
            match refused {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::Closed,
            }
        })
    }
}

/// The writer's end of the queue.
#[derive(Debug)]
pub(super) struct LineSource {
    queue: mpsc::Receiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// The two ends of a queue that holds `limit` bytes, counting a little for each line.
pub(super) fn queue(limit: usize) -> (LineSender, LineSource) {
    let (sender, queue) = mpsc::channel((limit / COST_PER_LINE).max(1));
    let waiting = Arc::new(AtomicUsize::new(0));
    (LineSender { queue: sender, waiting: Arc::clone(&waiting), limit }, LineSource { queue, waiting })
}

/// Why the writer stopped; stdin is closed in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// Nobody sends any more, or the process is being stopped.
    Finished,
    /// The child closed its stdin.
    Refused,
    /// The child read nothing for too long.
    Stalled,
}

/// Writes lines until one of the ends above. After `close` it takes no more lines, and writes those it has.
pub(super) async fn write_lines(
    mut stdin: impl AsyncWrite + Unpin,
    mut source: LineSource,
    stall: Duration,
    counters: Arc<Counters>,
    close: CancellationToken,
) -> InputEnd {
    loop {
        let next = tokio::select! {
            biased;
            () = close.cancelled(), if !source.queue.is_closed() => {
                source.queue.close();
                continue;
            }
            next = source.queue.recv() => next,
        };
        let Some(line) = next else { return InputEnd::Finished };
        let cost = line.len() + COST_PER_LINE;
        match write_line(&mut stdin, line, stall, &counters).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return InputEnd::Stalled,
            Err(_) => return InputEnd::Refused,
        }
        source.waiting.fetch_sub(cost, Release);
        counters.lines_sent.fetch_add(1, Relaxed);
    }
}

async fn write_line(
    stdin: &mut (impl AsyncWrite + Unpin),
    line: Bytes,
    stall: Duration,
    counters: &Counters,
) -> io::Result<()> {
    let mut data = line.chain(&b"\n"[..]);
    while data.has_remaining() {
        // The time starts anew with every write that moves something: slow is not stalled.
        let written = tokio::time::timeout(stall, stdin.write_buf(&mut data)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        counters.bytes_sent.fetch_add(written as u64, Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes_and_says_so() {
        let (sender, source) = queue(3 * (COST_PER_LINE + 10));
        let line = Bytes::from_static(b"0123456789");
        for _ in 0..3 {
            assert_eq!(sender.send(line.clone()), Ok(()));
        }
        assert_eq!(sender.send(line.clone()), Err(SendError::Full));
        drop(source);
        assert_eq!(sender.send(line), Err(SendError::Closed));
    }

    #[tokio::test]
    async fn a_line_cannot_carry_a_second_one() {
        let (sender, _source) = queue(1000);
        assert_eq!(sender.send(Bytes::from_static(b"{}\n{}")), Err(SendError::NotOneLine));
    }

    #[tokio::test]
    async fn a_child_that_reads_nothing_is_noticed() {
        let (stdin, child) = tokio::io::duplex(4);
        let (sender, source) = queue(1000);
        sender.send(Bytes::from_static(b"0123456789")).unwrap();
        let counters = Arc::new(Counters::default());
        let stall = Duration::from_millis(20);
        let end = write_lines(stdin, source, stall, Arc::clone(&counters), CancellationToken::new()).await;
        assert_eq!((end, counters.bytes_sent.load(Relaxed)), (InputEnd::Stalled, 4));
        assert_eq!(sender.send(Bytes::new()), Err(SendError::Closed));
        drop(child);
    }

    #[tokio::test]
    async fn closing_writes_what_waits_and_takes_no_more() {
        let (stdin, mut child) = tokio::io::duplex(100);
        let (sender, source) = queue(1000);
        sender.send(Bytes::from_static(b"one")).unwrap();
        sender.send(Bytes::from_static(b"two")).unwrap();
        let close = CancellationToken::new();
        close.cancel();
        let end = write_lines(stdin, source, Duration::from_secs(30), Arc::default(), close).await;
        assert_eq!(end, InputEnd::Finished);
        assert_eq!(sender.send(Bytes::from_static(b"three")), Err(SendError::Closed));
        let mut written = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut child, &mut written).await.unwrap();
        assert_eq!(written, "one\ntwo\n");
    }
}
