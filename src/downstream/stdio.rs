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
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
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
/// Bytes that are written at once: who takes this much is no client that takes nothing.
const PIECE: usize = 16 * 1024;
/// Time in which a client must take something of the last bytes.
const LAST_STALL: Duration = Duration::from_secs(2);

/// The client on standard input and output.
#[derive(Debug)]
pub struct Stdio {
    edge: Data<Edge>,
    pipe: Arc<Pipe>,
    lines: mpsc::Receiver<Line>,
    /// Cancelled when nothing more is written.
    silent: CancellationToken,
    writing: JoinHandle<Result<(), Unwritten>>,
    progress: watch::Receiver<Progress>,
}

/// Why the client did not get all that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// It reads nothing.
    #[error("the client does not take what is written to it")]
    Stalled,
    /// The system takes nothing; a client that has closed its end is not meant.
    #[error("standard output cannot be written: {0}")]
    Failed(io::ErrorKind),
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
        let (output, thread) = Output::new();
        spawn_thread("stdout", move || thread.run(io::stdout().lock()))?;
        let silent = CancellationToken::new();
        let (stall, done, reads) = (edge.settings.bounds.write_stall, silent.clone(), Arc::clone(&pipe));
        let progress = output.progress.clone();
        let writing = actix_web::rt::spawn(async move {
            let _done = done.drop_guard();
            let outcome = write_stream(reader, output, stall).await;
            reads.leave();
            outcome
        });
        Ok(Stdio { edge, pipe, lines, silent, writing, progress })
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

    /// Ends the session. What was said last is still written, within `limit` and for as long as the client takes it.
    pub async fn close(mut self, limit: Duration) -> Result<(), Unwritten> {
        self.pipe.end("its client left").await;
        let written = async {
            loop {
                tokio::select! {
                    outcome = &mut self.writing => return outcome.unwrap_or(Err(Unwritten::Stalled)),
                    progress = timeout(LAST_STALL, self.progress.changed()) => match progress {
                        Ok(Ok(())) => {}
                        // The thread has ended, and what it wrote for is about to.
                        Ok(Err(_)) => return self.writing.await.unwrap_or(Err(Unwritten::Stalled)),
                        Err(_) => return Err(Unwritten::Stalled),
                    }
                }
            }
        };
        timeout(limit, written).await.unwrap_or(Err(Unwritten::Stalled))
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

/// Where the thread that writes is given its work, and how far it is.
struct Output {
    chunks: mpsc::Sender<Vec<u8>>,
    progress: watch::Receiver<Progress>,
}

/// The other side of an [`Output`].
struct OutputThread {
    chunks: mpsc::Receiver<Vec<u8>>,
    progress: watch::Sender<Progress>,
}

/// Bytes that the system has taken, and why it takes no more.
#[derive(Debug, Default)]
struct Progress {
    written: u64,
    fault: Option<io::ErrorKind>,
}

impl Output {
    fn new() -> (Output, OutputThread) {
        let (sender, chunks) = mpsc::channel(1);
        let (progress, seen) = watch::channel(Progress::default());
        (Output { chunks: sender, progress: seen }, OutputThread { chunks, progress })
    }

    /// Waits until `target` bytes were taken, for as long as there is progress.
    async fn until(&mut self, target: u64, stall: Duration) -> Result<(), Unwritten> {
        loop {
            match &*self.progress.borrow_and_update() {
                Progress { fault: Some(kind), .. } => return Err(Unwritten::Failed(*kind)),
                Progress { written, .. } if *written >= target => return Ok(()),
                Progress { .. } => {}
            }
            match timeout(stall, self.progress.changed()).await {
                Ok(Ok(())) => {}
                // The thread is gone without a word.
                Ok(Err(_)) => return Err(Unwritten::Failed(io::ErrorKind::Other)),
                Err(_) => return Err(Unwritten::Stalled),
            }
        }
    }
}

impl OutputThread {
    fn run(mut self, mut output: impl Write) {
        while let Some(chunk) = self.chunks.blocking_recv() {
            for piece in chunk.chunks(PIECE) {
                if let Err(error) = output.write_all(piece).and_then(|()| output.flush()) {
                    self.progress.send_modify(|progress| progress.fault = Some(error.kind()));
                    // What comes now is for nobody; whoever sends it reads the fault.
                    return;
                }
                self.progress.send_modify(|progress| progress.written += piece.len() as u64);
            }
        }
    }
}

/// Writes what comes on the stream, until its end or the output's, or until the client takes nothing for too long. A
/// client that has closed its end misses nothing.
async fn write_stream(
    mut reader: StreamReader,
    mut output: Output,
    stall: Duration,
) -> Result<(), Unwritten> {
    let mut said = 0;
    let mut next = Some(reader.next().await);
    while let Some(Next::Event(_, text)) = next {
        let mut chunk = Vec::with_capacity(text.len() + 1);
        add_line(&mut chunk, &text);
        while chunk.len() < CHUNK
            && let Some(Next::Event(_, text)) = reader.next().now_or_never()
        {
            add_line(&mut chunk, &text);
        }
        said += chunk.len() as u64;
        // One chunk at a time, so there is room for it unless the thread is gone.
        let _ = output.chunks.send(chunk).await;
        match output.until(said, stall).await {
            Ok(()) => {}
            Err(Unwritten::Failed(io::ErrorKind::BrokenPipe)) => return Ok(()),
            Err(why) => return Err(why),
        }
        next = Some(reader.next().await);
    }
    Ok(())
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
        let (output, mut thread) = Output::new();
        let writing = write_stream(stream.read(), output, Duration::from_millis(20));
        let (outcome, chunk) = tokio::join!(writing, thread.chunks.recv());
        assert_eq!((outcome, chunk.as_deref()), (Err(Unwritten::Stalled), Some(&b"{}\n"[..])));
    }

    /// Takes some bytes and then fails.
    struct Narrow(usize, io::ErrorKind);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(self.1.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn s_stdio_01_bytes_that_found_no_place_are_told_and_a_client_that_left_misses_none() {
        use io::ErrorKind::{BrokenPipe, StorageFull};
        for (room, kind, expected) in [
            (PIECE, StorageFull, Err(Unwritten::Failed(StorageFull))),
            (PIECE, BrokenPipe, Ok(())),
            (PIECE * 4, StorageFull, Ok(())),
        ] {
            let stream = crate::session::stream::Stream::alone(PIECE * 4);
            let text = Bytes::from(vec![b'x'; PIECE * 3]);
            stream.push(text, crate::session::stream::Weight::Lasting).expect("room");
            stream.finish();
            let (output, thread) = Output::new();
            spawn_thread("narrow", move || thread.run(Narrow(room, kind))).expect("threads are to be had");
            let outcome = write_stream(stream.read(), output, Duration::from_secs(10)).await;
            assert_eq!(outcome, expected, "{room} {kind}");
        }
    }
}
