//! The streamable HTTP side of a scripted upstream.
//!
//! Owns one connection at a time: requests in, whatever the script writes out. Always: a peer that leaves is noticed even
//! while nothing is written. Not here: what is answered.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::{Call, Received, Shared, Standing, defaults, locked};
use crate::support::http::{Framing, Headers, chunk, read_head, write_head};
use crate::support::sse;

/// What a script does to the connection.
#[derive(Debug)]
pub(crate) enum Command {
    /// Write these bytes.
    Write(Vec<u8>),
    /// The answer is complete; the connection serves the next request.
    Finish,
    /// Close the connection.
    Close,
    /// Break the connection.
    Reset,
}

/// One message as an event in a chunk.
pub(super) fn event_chunk(message: &str) -> Vec<u8> {
    chunk(&sse::event(message))
}

/// Serve one connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, stream: TcpStream, number: usize) {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read);
    if let Some(script) = shared.script(&["CONNECT"]) {
        let received = Received {
            verb: "CONNECT".to_owned(),
            headers: Headers::default(),
            raw: String::new(),
            json: Value::Null,
            connection: number,
        };
        match exchange(&shared, script, received, &mut reader, &mut write).await {
            After::GoOn => {}
            After::Stop => return,
        }
    }
    while let Ok(Some(head)) = read_head(&mut reader).await {
        let Ok(body) = Framing::of_request(&head.headers).all(&mut reader).await else { return };
        let raw = String::from_utf8(body).unwrap_or_else(|e| format!("not UTF-8: {e}"));
        let json = crate::support::json::parse(&raw).unwrap_or(Value::Null);
        let verb = head.start.split(' ').next().unwrap_or_default().to_owned();
        let received = Received { verb, headers: head.headers, raw, json, connection: number };
        shared.enter(received.clone());
        let method = received.method().to_owned();
        let is_answer = received.verb == "POST" && received.json.get("method").is_none();
        let refusal = is_answer.then(|| locked(&shared.refused_answers).pop_front()).flatten();
        match refusal {
            Some(0) => return rustix_linger_zero(&write),
            Some(status) => {
                let mut headers = Headers::default();
                headers.set("Content-Length", "0");
                if write
                    .write_all(&write_head(&format!("HTTP/1.1 {status} Scripted"), &headers))
                    .await
                    .is_err()
                {
                    return;
                }
                continue;
            }
            None => {}
        }
        if defaults::takes_silently(&shared, &received) {
            let mut headers = Headers::default();
            headers.set("Content-Length", "0");
            if write.write_all(&write_head("HTTP/1.1 202 Accepted", &headers)).await.is_err() {
                return;
            }
            continue;
        }
        let script = shared.script(&[&method, &received.verb, "*"]);
        let script = match script {
            Some(script) if !(method.is_empty() && received.verb == "POST") => script,
            _ => Arc::new(|mut call: Call| {
                let answer: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
                    call.default().await;
                });
                answer
            }),
        };
        match exchange(&shared, script, received, &mut reader, &mut write).await {
            After::GoOn => {}
            After::Stop => return,
        }
    }
}

enum After {
    GoOn,
    Stop,
}

async fn exchange(
    shared: &Arc<Shared>,
    script: super::Script,
    received: Received,
    reader: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
) -> After {
    let (out, mut commands) = mpsc::channel(64);
    let (leaving, left) = watch::channel(false);
    let is_standing = received.verb == "GET";
    let session = received.session().map(str::to_owned);
    let call = Call { received, shared: Arc::clone(shared), out: out.clone(), left, is_streaming: false };
    Shared::run(shared, &script, call);
    let after = loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Write(bytes)) => if write.write_all(&bytes).await.is_err() { break After::Stop },
                Some(Command::Finish) => break After::GoOn,
                Some(Command::Close) => { write.shutdown().await.ok(); break After::Stop }
                Some(Command::Reset) => {
                    // A reset instead of an orderly close: the kernel drops what was not delivered.
                    rustix_linger_zero(write);
                    break After::Stop;
                }
                None => break After::Stop,
            },
            gone = is_gone(reader) => if gone { leaving.send_replace(true); break After::Stop },
        }
    };
    drop(out);
    if matches!(after, After::Stop) {
        leaving.send_replace(true);
        shared.changed();
        if is_standing {
            locked(&shared.standing).retain(|standing| standing.session != session || standing.is_stdio);
        }
    }
    after
}

fn rustix_linger_zero(write: &OwnedWriteHalf) {
    let stream: &TcpStream = write.as_ref();
    stream.set_zero_linger().ok();
}

/// Wait until the peer closes. Pipelined bytes would make this spin, so they end the wait for good.
async fn is_gone(reader: &mut BufReader<OwnedReadHalf>) -> bool {
    match reader.fill_buf().await {
        Ok([]) | Err(_) => true,
        Ok(_) => std::future::pending().await,
    }
}

/// Offer the answer of a GET as the standing stream of its session.
pub(super) async fn stand(call: &mut Call) {
    call.stream().await;
    call.say_bytes(b": open\n\n").await;
    let session = call.received.session().map(str::to_owned);
    locked(&call.shared.standing).push(Standing { session, out: call.out.clone(), is_stdio: false });
    call.shared.changed();
    call.disconnected().await;
}
