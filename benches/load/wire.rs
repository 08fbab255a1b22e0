//! The few pieces of HTTP/1.1 that both ends of the benchmark speak: heads, sized and chunked bodies, keep-alive.
//!
//! Always: one message is read whole before the next one is looked at, so a connection is reusable after every success.
//! Not here: what the messages mean (`upstream`, `caller`), TLS, compression, HTTP/2.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest head that is read before the peer is given up on.
const HEAD_LIMIT: usize = 64 * 1024;

/// One keep-alive connection and the bytes that were read ahead on it.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

/// A message's first line and the header fields that matter here.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Request line or status line, without the line end.
    pub(crate) first_line: String,
    /// `Content-Length`.
    pub(crate) length: Option<usize>,
    /// `Transfer-Encoding: chunked`.
    pub(crate) chunked: bool,
    /// The body is `text/event-stream`.
    pub(crate) event_stream: bool,
    /// `Mcp-Session-Id`.
    pub(crate) session: Option<String>,
    /// `MCP-Protocol-Version`.
    pub(crate) revision: Option<String>,
    /// `Mcp-Method`.
    pub(crate) method: Option<String>,
    /// `Mcp-Name`.
    pub(crate) name: Option<String>,
}

impl Head {
    /// Status code of a status line; 0 when it has none.
    pub(crate) fn status(&self) -> u16 {
        self.first_line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

impl Connection {
    /// Connects to a peer.
    pub(crate) async fn open(peer: SocketAddr) -> io::Result<Self> {
        Connection::over(TcpStream::connect(peer).await?)
    }

    /// Takes over an accepted stream.
    pub(crate) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(4096), start: 0 })
    }

    /// Writes a whole message.
    pub(crate) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await
    }

    /// Reads the next head; `None` when the peer closed between two messages.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(length) = memchr::memmem::find(self.unread(), b"\r\n\r\n") {
                let head = parse_head(&self.unread()[..length])?;
                self.start += length + 4;
                return Ok(Some(head));
            }
            if self.unread().len() > HEAD_LIMIT {
                return Err(broken("head too large"));
            }
            if self.fill().await? == 0 {
                return if self.unread().is_empty() { Ok(None) } else { Err(broken("closed inside a head")) };
            }
        }
    }

    /// Reads the body that belongs to `head` into `body`, which is emptied first.
    pub(crate) async fn body(&mut self, head: &Head, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        if !head.chunked {
            return self.take(head.length.unwrap_or(0), body).await;
        }
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).map_err(|_| broken("bad chunk size"))?;
            self.take(size, body).await?;
            if !self.line().await?.is_empty() {
                return Err(broken("chunk or trailer not ended by an empty line"));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// Reads one chunk of a body that may have no end into `chunk`, which is emptied first.
    pub(crate) async fn chunk(&mut self, chunk: &mut Vec<u8>) -> io::Result<()> {
        chunk.clear();
        let line = self.line().await?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| broken("bad chunk size"))?;
        self.take(size, chunk).await?;
        self.line().await?;
        if size == 0 { Err(broken("the stream has ended")) } else { Ok(()) }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(16 * 1024);
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn fill_more(&mut self) -> io::Result<()> {
        if self.fill().await? == 0 { Err(broken("closed inside a body")) } else { Ok(()) }
    }

    async fn take(&mut self, mut wanted: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.reserve(wanted);
        loop {
            let ready = wanted.min(self.unread().len());
            into.extend_from_slice(&self.buffer[self.start..self.start + ready]);
            self.start += ready;
            wanted -= ready;
            if wanted == 0 {
                return Ok(());
            }
            self.fill_more().await?;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', self.unread()) {
                let line = String::from_utf8_lossy(&self.unread()[..end]).trim_end().to_owned();
                self.start += end + 1;
                return Ok(line);
            }
            self.fill_more().await?;
        }
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| broken("head is not text"))?;
    let mut lines = text.split("\r\n");
    let mut head = Head { first_line: lines.next().unwrap_or_default().to_owned(), ..Head::default() };
    for line in lines {
        let (field, value) = line.split_once(':').ok_or_else(|| broken("header without colon"))?;
        let value = value.trim();
        match field.len() {
            8 if field.eq_ignore_ascii_case("mcp-name") => head.name = Some(value.to_owned()),
            10 if field.eq_ignore_ascii_case("mcp-method") => head.method = Some(value.to_owned()),
            12 if field.eq_ignore_ascii_case("content-type") => {
                head.event_stream = value.starts_with("text/event-stream");
            }
            14 if field.eq_ignore_ascii_case("content-length") => {
                head.length = Some(value.parse().map_err(|_| broken("bad content-length"))?);
            }
            14 if field.eq_ignore_ascii_case("mcp-session-id") => head.session = Some(value.to_owned()),
            17 if field.eq_ignore_ascii_case("transfer-encoding") => {
                head.chunked = value.eq_ignore_ascii_case("chunked");
            }
            20 if field.eq_ignore_ascii_case("mcp-protocol-version") => {
                head.revision = Some(value.to_owned())
            }
            _ => {}
        }
    }
    Ok(head)
}

/// An error about what the peer wrote.
pub(crate) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The JSON messages of a body: the body itself, or the data of each event.
pub(crate) fn messages<'a>(head: &Head, body: &'a [u8]) -> Vec<&'a [u8]> {
    if !head.event_stream {
        return vec![body];
    }
    // Both ends write one data line per event, so the lines need not be joined.
    body.split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(<[u8]>::trim_ascii)
        .filter(|data| !data.is_empty())
        .collect()
}
