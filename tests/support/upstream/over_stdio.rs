//! The stdio side of a scripted upstream: lines through `pipe_child.py`.
//!
//! Owns one child's lines. Always: calls run beside each other, as lines may be answered in any order. Not here: what is
//! answered.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::over_http::Command;
use super::{Call, Received, Shared, Standing, defaults, locked};
use crate::support::http::Headers;

/// Serve one child to its end.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, number: usize) {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read);
    let mut birth = String::new();
    if reader.read_line(&mut birth).await.is_err() {
        return;
    }
    locked(&shared.births).push(serde_json::from_str(&birth).unwrap_or(Value::Null));
    let (out, mut commands) = mpsc::channel::<Command>(1024);
    let (leaving, left) = watch::channel(false);
    let way = Standing { session: Some(format!("child-{number}")), out: out.clone(), is_stdio: true };
    locked(&shared.standing).push(way);
    shared.changed();
    let writing = tokio::spawn(async move {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Write(bytes) => {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Command::Finish => {}
                Command::Close | Command::Reset => {
                    write.shutdown().await.ok();
                    return;
                }
            }
        }
    });
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => take_line(&shared, &line, number, &out, &left).await,
        }
    }
    leaving.send_replace(true);
    locked(&shared.standing)
        .retain(|standing| standing.session.as_deref() != Some(&format!("child-{number}")));
    shared.changed();
    writing.abort();
}

async fn take_line(
    shared: &Arc<Shared>,
    line: &[u8],
    number: usize,
    out: &mpsc::Sender<Command>,
    left: &watch::Receiver<bool>,
) {
    let raw = String::from_utf8_lossy(line).trim_end_matches('\n').to_owned();
    let json = crate::support::json::parse(&raw).unwrap_or(Value::Null);
    let received =
        Received { verb: "LINE".to_owned(), headers: Headers::default(), raw, json, connection: number };
    shared.enter(received.clone());
    if defaults::takes_silently(shared, &received) {
        return;
    }
    let method = received.method().to_owned();
    let script = shared.script(&[&method, "*"]);
    let mut call = Call {
        received,
        shared: Arc::clone(shared),
        out: out.clone(),
        left: left.clone(),
        is_streaming: false,
    };
    match script {
        Some(script) => Shared::run(shared, &script, call),
        None => drop(tokio::spawn(async move { call.default().await })),
    }
}
