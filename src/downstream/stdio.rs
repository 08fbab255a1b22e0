//! One client on standard input and output: a message per line, of both eras (S-STDIO-01, S-STDIO-10).
//!
//! Always: nothing but messages goes to the output; a line beyond its bound is refused and skipped without being kept;
//! the process can end whatever the client does, because input and output have threads that nobody waits for: a read
//! or write that the system holds up cannot be called off. Not here: what lines mean (`pipe`).

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::edge::Edge;
use super::http::trace_in_body;
use super::pipe::{Kind, Pipe};
use super::respond;
use crate::protocol::code::INVALID_REQUEST;
use crate::protocol::message::one_line;
use crate::session::stream::{Next, StreamReader};
use crate::telemetry::spans::Transport;

/// Lines that were read and not taken yet.
const LINES: usize = 4;
/// Bytes gathered before they are written.
const CHUNK: usize = 64 * 1024;
/// Time for the last bytes to be written.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// The client on standard input and output.
#[derive(Debug)]
pub struct Stdio {
    edge: Data<Edge>,
    pipe: Arc<Pipe>,
    lines: mpsc::Receiver<Line>,
    /// Cancelled when nothing more is written.
    silent: CancellationToken,
}

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The client says nothing more.
    Input,
    /// The client takes nothing more.
    Output,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Bytes),
    /// Beyond the bound; the rest of it is not kept.
    TooLong,
}

impl Stdio {
    /// Takes hold of standard input and output.
    pub fn open(edge: Data<Edge>) -> io::Result<Self> {
        let kind = Kind { profile: None, transport: Transport::Stdio, both_eras: true };
        let (pipe, reader) = Pipe::new(&edge, kind);
        let (sender, lines) = mpsc::channel(LINES);
        let limit = edge.settings.bounds.stdio_line;
        spawn_thread("stdin", move || pass_lines(io::stdin().lock(), limit, &sender))?;
        let (output, chunks) = mpsc::channel(1);
        spawn_thread("stdout", move || write_chunks(io::stdout().lock(), chunks))?;
        let silent = CancellationToken::new();
        let (stall, done, reads) = (edge.settings.bounds.write_stall, silent.clone(), Arc::clone(&pipe));
        actix_web::rt::spawn(async move {
            let _done = done.drop_guard();
            write_stream(reader, &output, stall).await;
            reads.leave();
        });
        Ok(Stdio { edge, pipe, lines, silent })
    }

    /// Takes lines until one of the two sides is over.
    pub async fn until_over(&mut self) -> Over {
        loop {
            let line = tokio::select! {
                line = self.lines.recv() => line,
                () = self.silent.cancelled() => return Over::Output,
            };
            match line {
                None => return Over::Input,
                Some(Line::Whole(text)) if text.iter().all(u8::is_ascii_whitespace) => {}
                Some(Line::Whole(text)) => drop(self.pipe.take(&self.edge, text, &trace_in_body).await),
                Some(Line::TooLong) => drop(self.pipe.refuse(too_long()).await),
            }
        }
    }

    /// Ends the session; what was said last is still written, if the client takes it.
    pub async fn close(self) {
        self.pipe.end("its client left").await;
        // Whether the time was enough makes no difference to what can still be done.
        let _ = tokio::time::timeout(LAST_BYTES, self.silent.cancelled()).await;
    }
}

fn too_long() -> super::exchange::Finished {
    respond::error(None, StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, "the line is too long", None)
}

fn spawn_thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Reads lines until the input ends or nobody wants them. What has no line end at the end of the input is a line too.
fn pass_lines(mut input: impl BufRead, limit: usize, lines: &mpsc::Sender<Line>) {
    let mut line = Vec::new();
    let mut skipping = false;
    loop {
        let piece = match input.fill_buf() {
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if piece.is_empty() {
            if !line.is_empty() {
                let _ = lines.blocking_send(Line::Whole(line.into()));
            }
            return;
        }
        let end = memchr::memchr(b'\n', piece);
        let length = end.unwrap_or(piece.len());
        let mut passed = None;
        if !skipping && line.len() + length > limit {
            skipping = true;
            line = Vec::new();
            passed = Some(Line::TooLong);
        }
        if !skipping {
            line.extend_from_slice(&piece[..length]);
            passed = end.map(|_| Line::Whole(std::mem::take(&mut line).into()));
        }
        skipping &= end.is_none();
        input.consume(end.map_or(length, |end| end + 1));
        if passed.is_some_and(|line| lines.blocking_send(line).is_err()) {
            return;
        }
    }
}

/// Bytes to be written, and whom to tell when they are.
type Chunk = (Vec<u8>, oneshot::Sender<()>);

fn write_chunks(mut output: impl Write, mut chunks: mpsc::Receiver<Chunk>) {
    while let Some((chunk, written)) = chunks.blocking_recv() {
        if output.write_all(&chunk).and_then(|()| output.flush()).is_err() {
            return;
        }
        let _ = written.send(());
    }
}

/// Writes what comes on the stream, until its end or the output's, or until the client takes nothing for too long.
async fn write_stream(mut reader: StreamReader, output: &mpsc::Sender<Chunk>, stall: Duration) {
    let mut next = Some(reader.next().await);
    while let Some(Next::Event(_, text)) = next {
        let mut chunk = Vec::with_capacity(text.len() + 1);
        add_line(&mut chunk, &text);
        while chunk.len() < CHUNK
            && let Some(Next::Event(_, text)) = reader.next().now_or_never()
        {
            add_line(&mut chunk, &text);
        }
        let (done, written) = oneshot::channel();
        if output.send((chunk, done)).await.is_err() {
            return;
        }
        if !matches!(tokio::time::timeout(stall, written).await, Ok(Ok(()))) {
            tracing::warn!("the client does not take what is written to it");
            return;
        }
        next = Some(reader.next().await);
    }
}

fn add_line(chunk: &mut Vec<u8>, text: &[u8]) {
    let start = chunk.len();
    chunk.extend_from_slice(text);
    one_line(&mut chunk[start..]);
    chunk.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], limit: usize) -> Vec<Line> {
        let (sender, mut receiver) = mpsc::channel(64);
        // A buffer smaller than most lines, so that they come in pieces.
        pass_lines(io::BufReader::with_capacity(3, input), limit, &sender);
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    fn whole(text: &'static str) -> Line {
        Line::Whole(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn s_stdio_01_every_line_is_one_text_and_so_is_what_ends_without_a_line_end() {
        assert_eq!(
            lines(b"one\n\ntwo two\r\nthree", 64),
            [whole("one"), whole(""), whole("two two\r"), whole("three")]
        );
        assert_eq!(lines(b"", 64), []);
    }

    #[test]
    fn s_base_18_a_line_beyond_its_bound_is_told_once_and_skipped_to_its_end() {
        assert_eq!(lines(b"12345\n123456\nafter\n", 5), [whole("12345"), Line::TooLong, whole("after")]);
        assert_eq!(lines(b"a long line without an end", 5), [Line::TooLong]);
    }

    #[test]
    fn s_stdio_01_whatever_a_server_wrote_leaves_on_one_line() {
        let mut chunk = Vec::new();
        add_line(&mut chunk, b"{\n\r\"a\":1}");
        add_line(&mut chunk, b"{}");
        assert_eq!(chunk, b"{  \"a\":1}\n{}\n");
    }

    #[tokio::test]
    async fn f27_a_client_that_takes_nothing_is_left() {
        let stream = crate::session::stream::Stream::alone(1024);
        stream.push(Bytes::from_static(b"{}"), crate::session::stream::Weight::Lasting).expect("room");
        let (output, mut chunks) = mpsc::channel(1);
        let writing = write_stream(stream.read(), &output, Duration::from_millis(20));
        let (chunk, _never) = tokio::join!(writing, chunks.recv()).1.expect("one chunk");
        assert_eq!(chunk, b"{}\n");
    }
}
