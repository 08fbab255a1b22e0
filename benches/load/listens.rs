//! Streams of changes (`subscriptions/listen`): memory of idle ones, and how long one change of a list takes to reach all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{Instant, timeout};

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

async fn open(gateway: &Gateway, count: usize) -> Result<Vec<Connection>> {
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = request(gateway, number, "subscriptions/listen", None, LISTEN).await?;
        let message = next(&mut stream).await?;
        ensure!(message.contains("subscriptions/acknowledged"), "instead of an acknowledgement: {message}");
        streams.push(stream);
    }
    Ok(streams)
}

const LISTEN: &str = r#""notifications":{"toolsListChanged":true}"#;

/// Changes the list of tools, and gives the milliseconds until one stream, and until all of them, were told.
async fn change(gateway: &Gateway, streams: &mut [Connection]) -> Result<(f64, f64)> {
    let started = Instant::now();
    let tool = "demo__change_tools";
    let mut caller =
        request(gateway, 0, "tools/call", Some(tool), &format!(r#""name":"{tool}","arguments":{{}}"#))
            .await?;
    let mut body = Vec::new();
    let head = caller.head().await?.context("the call was not answered")?;
    caller.body(&head, &mut body).await?;
    let mut first = None;
    for stream in streams {
        let message = next(stream).await?;
        ensure!(message.contains("tools/list_changed"), "instead of a change: {message}");
        first.get_or_insert_with(|| started.elapsed());
    }
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Ok((millis(first.unwrap_or_default()), millis(started.elapsed())))
}

/// The next chunk of a stream that says something.
async fn next(stream: &mut Connection) -> Result<String> {
    let mut chunk = Vec::new();
    loop {
        timeout(PATIENCE, stream.chunk(&mut chunk)).await.context("nothing came")??;
        if !chunk.starts_with(b":") {
            return Ok(String::from_utf8(chunk)?);
        }
    }
}

/// Sends a request on a connection of its own; of a stream, the head is read already.
async fn request(
    gateway: &Gateway,
    id: usize,
    method: &str,
    name: Option<&str>,
    params: &str,
) -> Result<Connection> {
    let body = format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params},"_meta":{{"#,
            r#""io.modelcontextprotocol/protocolVersion":"{revision}","#,
            r#""io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        ),
        id = id,
        method = method,
        params = params,
        revision = STATELESS,
    );
    let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
    let text = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: {STATELESS}\r\nMcp-Method: {method}\r\n{name}Content-Length: {}\r\n\r\n{body}",
        gateway.target.path,
        gateway.target.address,
        body.len()
    );
    let mut connection = Connection::open(gateway.target.address).await?;
    connection.send(text.as_bytes()).await?;
    if method == "subscriptions/listen" {
        let head = connection.head().await?.context("closed instead of an answer")?;
        ensure!(head.status() == 200 && head.event_stream, "refused: {}", head.first_line);
    }
    Ok(connection)
}
