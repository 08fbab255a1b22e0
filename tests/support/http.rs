//! HTTP/1.1 on the bare wire, as little as both ends of a story need.
//!
//! Owns heads, header lists and the three kinds of body framing. Always: nothing is normalised, so a story can send and
//! see exactly what it means. Not here: what the messages say.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Header fields in wire order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of a field, whatever the case of its name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Set a field, replacing whatever it was.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Leave a field out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
    }
}

/// A start line and its header fields.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `POST /mcp HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub(crate) start: String,
    /// The fields below it.
    pub(crate) headers: Headers,
}

impl Head {
    /// The status code of a response head.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("not a status line: {:?}", self.start))
    }
}

/// Read one head; `None` when the peer closed instead of sending one.
pub(crate) async fn read_head<R: AsyncBufRead + Unpin>(reader: &mut R) -> io::Result<Option<Head>> {
    let Some(start) = read_line(reader).await? else { return Ok(None) };
    let mut headers = Headers::default();
    loop {
        let line = read_line(reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(Some(Head { start, headers }));
        }
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.0.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if reader.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

/// How a body ends, and how far it was read. Reading may be abandoned and taken up again.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    line: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After this many further bytes.
    Length(usize),
    /// When the peer closes.
    UntilClose,
    /// Chunked, before the size of a chunk.
    ChunkSize,
    /// Chunked, within a chunk.
    Chunk(usize),
    /// Chunked, before the line break after a chunk; `true` after the last one.
    ChunkEnd(bool),
}

impl Framing {
    /// No body at all.
    pub(crate) fn nothing() -> Framing {
        Framing { state: State::Length(0), line: Vec::new() }
    }

    /// The framing of a request body.
    pub(crate) fn of_request(headers: &Headers) -> Framing {
        Framing { state: announced(headers).unwrap_or(State::Length(0)), line: Vec::new() }
    }

    /// The framing of a response body.
    pub(crate) fn of_response(head: &Head) -> Framing {
        match head.status() {
            204 | 304 => Framing::nothing(),
            _ => Framing { state: announced(&head.headers).unwrap_or(State::UntilClose), line: Vec::new() },
        }
    }

    /// Whether the body was read to its end, with the connection in order behind it.
    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Length(0)
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn next<R: AsyncBufRead + Unpin>(
        &mut self,
        reader: &mut R,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.state {
                State::Length(0) => return Ok(None),
                State::Length(left) => {
                    let piece = read_some(reader, left).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    self.state = State::Length(left - piece.len());
                    return Ok(Some(piece));
                }
                State::UntilClose => return read_some(reader, usize::MAX).await,
                State::ChunkSize => {
                    let line = self.line(reader).await?;
                    let size =
                        usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
                    self.state = if size == 0 { State::ChunkEnd(true) } else { State::Chunk(size) };
                }
                State::Chunk(left) => {
                    let piece = read_some(reader, left).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    let left = left - piece.len();
                    self.state = if left == 0 { State::ChunkEnd(false) } else { State::Chunk(left) };
                    return Ok(Some(piece));
                }
                State::ChunkEnd(is_last) => {
                    self.line(reader).await?;
                    self.state = if is_last { State::Length(0) } else { State::ChunkSize };
                }
            }
        }
    }

    async fn line<R: AsyncBufRead + Unpin>(&mut self, reader: &mut R) -> io::Result<String> {
        reader.read_until(b'\n', &mut self.line).await?;
        if self.line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim_end().to_owned())
    }

    /// The rest of the body.
    pub(crate) async fn all<R: AsyncBufRead + Unpin>(&mut self, reader: &mut R) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.next(reader).await? {
            body.extend(piece);
        }
        Ok(body)
    }
}

fn announced(headers: &Headers) -> Option<State> {
    let coding = headers.get("transfer-encoding").unwrap_or_default();
    if coding.eq_ignore_ascii_case("chunked") {
        return Some(State::ChunkSize);
    }
    headers.get("content-length")?.parse().ok().map(State::Length)
}

async fn read_some<R: AsyncBufRead + Unpin>(reader: &mut R, most: usize) -> io::Result<Option<Vec<u8>>> {
    let available = reader.fill_buf().await?;
    let taken = available.len().min(most);
    let piece = available[..taken].to_vec();
    reader.consume(taken);
    Ok((taken > 0).then_some(piece))
}

/// A head in wire form.
pub(crate) fn write_head(start: &str, headers: &Headers) -> Vec<u8> {
    let mut wire = format!("{start}\r\n");
    for (name, value) in &headers.0 {
        wire.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.push_str("\r\n");
    wire.into_bytes()
}

/// One chunk of a chunked body; an empty piece is the end.
pub(crate) fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut wire = format!("{:x}\r\n", piece.len()).into_bytes();
    wire.extend_from_slice(piece);
    wire.extend_from_slice(b"\r\n");
    wire
}
