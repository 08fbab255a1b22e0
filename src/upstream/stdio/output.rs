//! From the child's stdout to whoever receives its lines.
//!
//! Always: lines that wait to be received are bounded by count and by bytes, then the pipe fills and the child waits;
//! lines written before a normal end are received before `Ended`; after `Ended` comes nothing.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::counts::Counters;
use super::ended::EndReason;
use super::lines::{Cut, LineBuffer};

/// Lines that may wait to be received, whatever their size.
const WAITING_LINES: usize = 256;
/// How long a pipe is still read when its process is gone. Only a process that got the pipe from outside the tree can
/// keep it open that long.
pub(super) const AFTER_THE_END: Duration = Duration::from_millis(500);

/// What a process said, or that it will say nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// One line of stdout, never empty, without its newline.
    Text(Bytes),
    /// The last event.
    Ended(EndReason),
}

/// The lines of a process. Dropping it stops the process.
#[derive(Debug)]
pub struct LineReceiver {
    lines: mpsc::Receiver<Waiting>,
    room: Arc<Semaphore>,
    ended: watch::Receiver<Option<EndReason>>,
    finished: bool,
}

impl LineReceiver {
    /// The next line; once `Ended`; then `None`. Cancel safe.
    ///
    /// A fault (a line too long, stdin stalled, stdout closed) is told as soon as it is noticed, while the process is
    /// still being stopped.
    pub async fn recv(&mut self) -> Option<Line> {
        if self.finished {
            return None;
        }
        let reason = tokio::select! {
            biased;
            Some(waiting) = self.lines.recv() => return Some(Line::Text(waiting.line)),
            ended = self.ended.wait_for(Option::is_some) => {
                // No answer means that the runtime is being torn down, and the process with it.
                ended.ok().and_then(|reason| reason.clone()).unwrap_or(EndReason::Stopped)
            }
        };
        self.finished = true;
        Some(Line::Ended(reason))
    }
}

impl Drop for LineReceiver {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// A line and the room it takes up until it is received.
#[derive(Debug)]
struct Waiting {
    line: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Where the reader puts its lines.
#[derive(Debug)]
pub(super) struct LineSink {
    lines: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    all_room: u32,
}

/// The two ends of the queue of received lines, `room` bytes large.
pub(super) fn queue(room: usize, ended: watch::Receiver<Option<EndReason>>) -> (LineSink, LineReceiver) {
    let all_room = u32::try_from(room.max(1)).unwrap_or(u32::MAX);
    let (sender, lines) = mpsc::channel(WAITING_LINES);
    let room = Arc::new(Semaphore::new(all_room as usize));
    let sink = LineSink { lines: sender, room: Arc::clone(&room), all_room };
    (sink, LineReceiver { lines, room, ended, finished: false })
}

impl LineSink {
    async fn put(&self, line: Bytes) -> Result<(), ReceiverGone> {
        let size = u32::try_from(line.len()).unwrap_or(u32::MAX).clamp(1, self.all_room);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.map_err(|_| ReceiverGone)?;
        self.lines.send(Waiting { line, _room: room }).await.map_err(|_| ReceiverGone)
    }
}

struct ReceiverGone;

/// Why the reader stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputEnd {
    /// stdout was closed.
    Closed,
    /// A line passed the limit.
    LineTooLong,
    /// Nobody receives lines any more.
    Unheard,
}

/// Reads lines until one of the ends above. `gone` says that the process has been reaped.
pub(super) async fn read_lines(
    mut stdout: impl AsyncRead + Unpin,
    limit: usize,
    sink: LineSink,
    counters: Arc<Counters>,
    gone: CancellationToken,
) -> OutputEnd {
    let mut buffer = LineBuffer::new(limit);
    let mut overtime = pin!(async {
        gone.cancelled().await;
        tokio::time::sleep(AFTER_THE_END).await;
    });
    loop {
        match buffer.cut() {
            Cut::Line(line) if line.is_empty() => continue,
            Cut::Line(line) => {
                counters.lines_received.fetch_add(1, Relaxed);
                if sink.put(line).await.is_err() {
                    return OutputEnd::Unheard;
                }
                continue;
            }
            Cut::TooLong => return OutputEnd::LineTooLong,
            Cut::NeedMore => {}
        }
        let read = tokio::select! {
            biased;
            read = buffer.fill(&mut stdout) => read.unwrap_or(0),
            () = &mut overtime => 0,
            () = sink.lines.closed() => return OutputEnd::Unheard,
        };
        if read == 0 {
            counters.half_lines.fetch_add(u64::from(buffer.holds_half_a_line()), Relaxed);
            return OutputEnd::Closed;
        }
        counters.bytes_received.fetch_add(read as u64, Relaxed);
    }
}
