//! What a process and the gateway said to each other, in numbers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lines written to stdin.
    pub lines_sent: u64,
    /// Bytes written to stdin.
    pub bytes_sent: u64,
    /// Lines read from stdout, empty ones left out.
    pub lines_received: u64,
    /// Bytes read from stdout.
    pub bytes_received: u64,
    /// 1 when stdout ended within a line; that half is dropped.
    pub half_lines: u64,
    /// Lines read from stderr.
    pub stderr_lines: u64,
    /// Those of them that were not logged, because there were too many.
    pub stderr_dropped: u64,
}

/// [`Counts`] while they grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) lines_sent: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) lines_received: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) half_lines: AtomicU64,
    pub(super) stderr_lines: AtomicU64,
    pub(super) stderr_dropped: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        Counts {
            lines_sent: self.lines_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            lines_received: self.lines_received.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            half_lines: self.half_lines.load(Relaxed),
            stderr_lines: self.stderr_lines.load(Relaxed),
            stderr_dropped: self.stderr_dropped.load(Relaxed),
        }
    }
}
