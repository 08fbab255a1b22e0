//! Streams of changes (`subscriptions/listen`): memory of idle ones, and how long one change of a list takes to reach all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::caller::Target;
use crate::gateway::{Gateway, SOME, Server};
use crate::report::Report;
use crate::wire::Connection;
use crate::{Bench, STATELESS};

/// Streams that are open at once.
const COUNT: usize = 5_000;
/// Streams that are opened before counting, so that pools and tables have their first size.
const WARM: usize = 100;
/// Changes that are timed.
const CHANGES: usize = 5;
/// After this long nothing more is told of the start.
const SETTLED: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures the section.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let count = if bench.quick { COUNT / 10 } else { COUNT };
    let gateway = Gateway::start(&bench.gateway, &[Server::demo("demo", STATELESS)], SOME).await?;
    drop(open(&gateway, WARM).await?);
    // The first lists are told of as a change, too.
    tokio::time::sleep(SETTLED).await;
    let before = gateway.process.resident()?;
    let started = Instant::now();
    let mut streams = open(&gateway, count).await?;
    let each = started.elapsed().as_secs_f64() * 1e6 / count as f64;
    let opened = gateway.process.resident()?;
    let kib = (opened as f64 - before as f64) / count as f64 / 1024.0;
    report.budgeted(&format!("resident memory per idle listen stream, of {count}"), kib, "KiB", 24.0, 16.0);
    report.figure("one listen stream opened and acknowledged, one after the other", each, "µs");
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..CHANGES {
        let (one, all) = change(&gateway, &mut streams).await?;
        first.push(one);
        last.push(all);
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    report.figure("a list change, from its cause to one stream", median(&mut first), "ms");
    report.figure(&format!("a list change, from its cause to the last of {count}"), median(&mut last), "ms");
    Ok(())
}

/// An open stream of changes.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Asks for it, and reads its head and its acknowledgement.
    async fn open(target: &Target, id: usize) -> Result<Self> {
        let request = request(target, id, "subscriptions/listen", "", LISTEN);
        let mut stream = Stream(BufReader::with_capacity(1024, TcpStream::connect(target.address).await?));
        stream.0.get_mut().write_all(request.as_bytes()).await?;
        let status = stream.line().await?;
        ensure!(status.contains(" 200 "), "refused: {status}");
        while !stream.line().await?.is_empty() {}
        let message = stream.next().await?;
        ensure!(message.contains("subscriptions/acknowledged"), "instead of an acknowledgement: {message}");
        Ok(stream)
    }

    /// The next chunk that says something.
    async fn next(&mut self) -> Result<String> {
        loop {
            let size = usize::from_str_radix(&self.line().await?, 16)?;
            ensure!(size > 0, "the stream has ended");
            let mut chunk = vec![0; size];
            self.0.read_exact(&mut chunk).await?;
            self.line().await?;
            if !chunk.starts_with(b":") {
                return Ok(String::from_utf8(chunk)?);
            }
        }
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.context("nothing came")??;
        Ok(line.trim_end().to_owned())
    }
}

async fn open(gateway: &Gateway, count: usize) -> Result<Vec<Stream>> {
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        streams.push(Stream::open(&gateway.target, number).await?);
    }
    Ok(streams)
}

const LISTEN: &str = r#""notifications":{"toolsListChanged":true}"#;
const CHANGE: &str = r#""name":"demo__change_tools","arguments":{}"#;

/// Changes the list of tools, and gives the milliseconds until one stream, and until all of them, were told.
async fn change(gateway: &Gateway, streams: &mut [Stream]) -> Result<(f64, f64)> {
    let started = Instant::now();
    let mut caller = Connection::open(gateway.target.address).await?;
    let name = "Mcp-Name: demo__change_tools\r\n";
    caller.send(request(&gateway.target, 0, "tools/call", name, CHANGE).as_bytes()).await?;
    let mut body = Vec::new();
    let head = caller.head().await?.context("the call was not answered")?;
    caller.body(&head, &mut body).await?;
    let mut first = None;
    for stream in streams {
        let message = stream.next().await?;
        ensure!(message.contains("tools/list_changed"), "instead of a change: {message}");
        first.get_or_insert_with(|| started.elapsed());
    }
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Ok((millis(first.unwrap_or_default()), millis(started.elapsed())))
}

/// A request of the stateless era. `name` is a header line, or nothing.
fn request(target: &Target, id: usize, method: &str, name: &str, params: &str) -> String {
    let meta = format!(
        r#""io.modelcontextprotocol/protocolVersion":"{STATELESS}","io.modelcontextprotocol/clientCapabilities":{{}}"#
    );
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params},"_meta":{{{meta}}}}}}}"#
    );
    let (path, address, length) = (&target.path, target.address, body.len());
    format!(
        concat!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n",
            "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {}\r\n",
            "Mcp-Method: {}\r\n{}Content-Length: {}\r\n\r\n{}"
        ),
        path, address, STATELESS, method, name, length, body
    )
}
