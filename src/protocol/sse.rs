//! Server-Sent Events: an incremental parser over byte chunks, and the lines the gateway writes (S-HTTPC-08).
//!
//! Always: how a stream is cut into chunks changes nothing about its events; what the parser holds is bounded by its
//! limit; an event that passes it is a fault at once, and is passed over to its end. Not here: what an event's data means, and resuming a stream.

use bytes::{Buf, Bytes, BytesMut};

/// What is kept of the beginning of an event that is too large.
const START: usize = 512;

/// What a field name and its colon may add to a line of the longest value.
const FIELD_SPACE: usize = 16;

/// One block of fields. An event whose data is empty is no message, but may carry an id or a reconnection time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// `id`, when the block had one; `""` forgets earlier ids.
    pub id: Option<Box<str>>,
    /// `event`, when the block had one.
    pub event: Option<Bytes>,
    /// The data lines, joined by newlines; a single line shares the memory of its chunk.
    pub data: Bytes,
    /// `retry`, milliseconds.
    pub retry: Option<u64>,
}

/// Why an event cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseFault {
    /// A line, or an event's data lines together, beyond the limit.
    #[error("event larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// How its data begins.
        start: Bytes,
    },
}

/// Reads events from chunks: `push` one, then call `next_event` until it has none.
#[derive(Debug)]
pub struct SseParser {
    limit: usize,
    chunk: Bytes,
    /// The start of a line whose end has not arrived.
    line: BytesMut,
    /// The last chunk ended with CR: an LF at the start of the next one belongs to it.
    after_cr: bool,
    /// No line was read yet, so a byte order mark may come.
    first: bool,
    /// A field was read since the last event.
    begun: bool,
    event: SseEvent,
    /// Data of an event with several data lines.
    joined: BytesMut,
    data_lines: usize,
    /// The rest of this line is passed over.
    passing: bool,
    /// The data of this event was too large, and what still comes of it is passed over.
    oversized: bool,
}

impl SseParser {
    /// A parser that accepts events of up to `limit` bytes of data.
    pub fn new(limit: usize) -> Self {
        SseParser {
            limit,
            chunk: Bytes::new(),
            line: BytesMut::new(),
            after_cr: false,
            first: true,
            begun: false,
            event: SseEvent::default(),
            joined: BytesMut::new(),
            data_lines: 0,
            passing: false,
            oversized: false,
        }
    }

    /// Takes the next chunk. Chunks pushed before the events of the last one were taken are joined to it by copying.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else if !chunk.is_empty() {
            let mut both = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            both.extend_from_slice(&self.chunk);
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
    }

    /// The next complete event, if there is one. One that is too large is a fault as soon as that is seen; its id and its
    /// time, where it has any, come afterwards in an event without data.
    pub fn next_event(&mut self) -> Option<Result<SseEvent, SseFault>> {
        self.read().transpose()
    }

    fn read(&mut self) -> Result<Option<SseEvent>, SseFault> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if let Some(event) = self.finish_event() {
                    return Ok(Some(event));
                }
            } else {
                self.field(line)?;
            }
        }
        Ok(None)
    }

    /// The next line without its end; a byte order mark at the very start is dropped.
    fn next_line(&mut self) -> Result<Option<Bytes>, SseFault> {
        loop {
            if self.after_cr && !self.chunk.is_empty() {
                self.after_cr = false;
                if self.chunk[0] == b'\n' {
                    self.chunk.advance(1);
                }
            }
            let end = memchr::memchr2(b'\n', b'\r', &self.chunk);
            if !self.passing && self.line.len() + end.unwrap_or(self.chunk.len()) > self.limit + FIELD_SPACE {
                self.pass_over_line()?;
            }
            let Some(end) = end else {
                if !self.passing {
                    self.line.extend_from_slice(&self.chunk);
                }
                self.chunk.clear();
                return Ok(None);
            };
            let mut line = self.chunk.split_to(end);
            self.after_cr = self.chunk[0] == b'\r';
            self.chunk.advance(1);
            if std::mem::take(&mut self.passing) {
                continue;
            }
            if !self.line.is_empty() {
                self.line.extend_from_slice(&line);
                line = self.line.split().freeze();
            }
            if std::mem::take(&mut self.first) && line.starts_with("\u{feff}".as_bytes()) {
                line.advance(3);
            }
            return Ok(Some(line));
        }
    }

    /// This line is too long. A comment is nobody's loss.
    fn pass_over_line(&mut self) -> Result<(), SseFault> {
        self.passing = true;
        self.first = false;
        let mut start = std::mem::take(&mut self.line);
        start.truncate(START);
        start.extend_from_slice(&self.chunk[..self.chunk.len().min(START)]);
        if start.first() == Some(&b':') || self.oversized {
            return Ok(());
        }
        let value = start.strip_prefix(b"data:").unwrap_or_default();
        Err(self.too_large(value.strip_prefix(b" ").unwrap_or(value)))
    }

    fn field(&mut self, line: Bytes) -> Result<(), SseFault> {
        let colon = memchr::memchr(b':', &line);
        let name = &line[..colon.unwrap_or(line.len())];
        let start = match colon {
            None => line.len(),
            Some(colon) if line.get(colon + 1) == Some(&b' ') => colon + 2,
            Some(colon) => colon + 1,
        };
        let value = line.slice(start..);
        match name {
            b"data" if self.oversized => return Ok(()),
            b"data" => self.data(value)?,
            b"event" => self.event.event = Some(value),
            // Copied, because an id outlives its event and must not keep a large chunk alive.
            b"id" if memchr::memchr(0, &value).is_none() => {
                self.event.id = Some(String::from_utf8_lossy(&value).into());
            }
            b"retry" => match decimal(&value) {
                Some(retry) => self.event.retry = Some(retry),
                None => return Ok(()),
            },
            // A comment (no name) or a field of another time.
            _ => return Ok(()),
        }
        self.begun = true;
        Ok(())
    }

    fn data(&mut self, value: Bytes) -> Result<(), SseFault> {
        let before = if self.data_lines > 1 { self.joined.len() } else { self.event.data.len() };
        if before + value.len() + usize::from(self.data_lines > 0) > self.limit {
            return Err(self.too_large(&value));
        }
        match self.data_lines {
            0 => self.event.data = value,
            lines => {
                if lines == 1 {
                    self.joined.extend_from_slice(&std::mem::take(&mut self.event.data));
                }
                self.joined.extend_from_slice(b"\n");
                self.joined.extend_from_slice(&value);
            }
        }
        self.data_lines += 1;
        Ok(())
    }

    fn finish_event(&mut self) -> Option<SseEvent> {
        self.oversized = false;
        if !std::mem::take(&mut self.begun) {
            return None;
        }
        let mut event = std::mem::take(&mut self.event);
        if std::mem::take(&mut self.data_lines) > 1 {
            event.data = self.joined.split().freeze();
        }
        Some(event)
    }

    /// The data of this event, of which `next` would have been the next piece, is given up.
    fn too_large(&mut self, next: &[u8]) -> SseFault {
        let held = if self.data_lines > 1 { &self.joined[..] } else { &self.event.data[..] };
        let start = if self.data_lines > 0 { held } else { next };
        let start = Bytes::copy_from_slice(&start[..start.len().min(START)]);
        self.joined = BytesMut::new();
        self.event.data = Bytes::new();
        self.data_lines = 0;
        self.oversized = true;
        self.begun = self.event.id.is_some() || self.event.retry.is_some();
        SseFault::TooLarge { limit: self.limit, start }
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Writes one event. `data` is one JSON text: a raw newline can only stand between its tokens, where a space means
/// the same, so the data stays one line. Empty data makes an event that carries its id alone.
pub fn write_event(out: &mut Vec<u8>, id: Option<&str>, event: Option<&str>, data: &[u8]) {
    out.reserve(data.len() + id.map_or(0, str::len) + event.map_or(0, str::len) + 32);
    write_fields(out, id, event);
    write_line(out, b"data: ", data);
    out.push(b'\n');
}

/// Writes an event up to its data, which the caller sends after it, on one line and followed by an empty one.
pub fn write_event_head(out: &mut Vec<u8>, id: Option<&str>, event: Option<&str>) {
    write_fields(out, id, event);
    out.extend_from_slice(b"data: ");
}

fn write_fields(out: &mut Vec<u8>, id: Option<&str>, event: Option<&str>) {
    if let Some(event) = event {
        write_line(out, b"event: ", event.as_bytes());
    }
    if let Some(id) = id {
        write_line(out, b"id: ", id.as_bytes());
    }
}

/// Writes a comment, which keeps an idle stream alive.
pub fn write_comment(out: &mut Vec<u8>, comment: &str) {
    write_line(out, b": ", comment.as_bytes());
    out.push(b'\n');
}

/// Writes a `retry` line; it belongs to the event written next.
pub fn write_retry(out: &mut Vec<u8>, milliseconds: u64) {
    write_line(out, b"retry: ", milliseconds.to_string().as_bytes());
}

fn write_line(out: &mut Vec<u8>, field: &[u8], value: &[u8]) {
    out.extend_from_slice(field);
    let start = out.len();
    out.extend_from_slice(value);
    for at in memchr::memchr2_iter(b'\n', b'\r', value) {
        out[start + at] = b' ';
    }
    out.push(b'\n');
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
