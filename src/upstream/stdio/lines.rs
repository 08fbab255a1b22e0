//! Cutting a byte stream into lines without holding more than one line's limit.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes read at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;
/// Room made before a read; it grows only while one long line is being collected.
const ROOM: usize = 16 * 1024;

/// What a buffer has to offer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A whole line, without `\n` or `\r\n`.
    Line(Bytes),
    /// No whole line yet.
    NeedMore,
    /// The line being collected has passed the limit.
    TooLong,
}

/// The unread end of a stream of lines.
#[derive(Debug)]
pub(super) struct LineBuffer {
    held: BytesMut,
    /// Bytes of `held` known to contain no newline, so that a slow long line is not searched again and again.
    searched: usize,
    limit: usize,
}

impl LineBuffer {
    pub(super) fn new(limit: usize) -> Self {
        LineBuffer { held: BytesMut::new(), searched: 0, limit }
    }

    /// Reads once; 0 at the end of the stream. Cancel safe.
    pub(super) async fn fill(&mut self, source: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
        self.held.reserve(ROOM);
        let mut room = bytes::BufMut::limit(&mut self.held, CHUNK);
        source.read_buf(&mut room).await
    }

    /// Takes the next line out. After `TooLong` the buffer is of no further use.
    pub(super) fn cut(&mut self) -> Cut {
        let Some(found) = memchr(b'\n', &self.held[self.searched..]) else {
            self.searched = self.held.len();
            // One byte over the limit may still be the `\r` of a line that fits.
            return if self.held.len() > self.limit + 1 { Cut::TooLong } else { Cut::NeedMore };
        };
        let newline = self.searched + found;
        self.searched = 0;
        let end = if newline > 0 && self.held[newline - 1] == b'\r' { newline - 1 } else { newline };
        if end > self.limit { Cut::TooLong } else { Cut::Line(self.take(end, newline + 1)) }
    }

    /// Whether the stream has ended, or would end, in the middle of a line.
    pub(super) fn holds_half_a_line(&self) -> bool {
        !self.held.is_empty()
    }

    fn take(&mut self, end: usize, next: usize) -> Bytes {
        if end < CHUNK {
            // A copy, so that a small line kept for long does not keep a whole chunk alive.
            let line = Bytes::copy_from_slice(&self.held[..end]);
            self.held.advance(next);
            return line;
        }
        // A long line leaves with its buffer; what follows it, at most a chunk, starts a small one.
        let rest = BytesMut::from(&self.held[next..]);
        let mut line = std::mem::replace(&mut self.held, rest);
        line.truncate(end);
        line.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cuts(input: &[u8], limit: usize) -> Vec<Cut> {
        let mut source = input;
        let mut buffer = LineBuffer::new(limit);
        let mut cuts = Vec::new();
        loop {
            match buffer.cut() {
                Cut::NeedMore if buffer.fill(&mut source).await.unwrap() == 0 => return cuts,
                Cut::NeedMore => {}
                Cut::TooLong => {
                    cuts.push(Cut::TooLong);
                    return cuts;
                }
                line => cuts.push(line),
            }
        }
    }

    fn line(text: &str) -> Cut {
        Cut::Line(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[tokio::test]
    async fn both_newlines_end_a_line_and_half_a_line_is_left() {
        assert_eq!(cuts(b"a\nb\r\n\nc", 10).await, vec![line("a"), line("b"), line("")]);
    }

    #[tokio::test]
    async fn the_limit_counts_the_line_and_not_its_newline() {
        assert_eq!(cuts(b"12345\n", 5).await, vec![line("12345")]);
        assert_eq!(cuts(b"12345\r\n", 5).await, vec![line("12345")]);
        assert_eq!(cuts(b"123456\n", 5).await, vec![Cut::TooLong]);
        assert_eq!(cuts(b"1234567", 5).await, vec![Cut::TooLong]);
    }

    #[tokio::test]
    async fn long_and_short_lines_follow_each_other_unharmed() {
        let lengths = [10, CHUNK - 1, CHUNK, 3, 5 * CHUNK + 7, 1, 1];
        let input: Vec<u8> =
            lengths.iter().flat_map(|&length| std::iter::repeat_n(b'x', length).chain([b'\n'])).collect();
        let found: Vec<usize> = cuts(&input, 10 * CHUNK)
            .await
            .into_iter()
            .map(|cut| match cut {
                Cut::Line(line) => line.len(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, lengths);
    }
}
