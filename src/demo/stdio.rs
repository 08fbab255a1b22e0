//! The server on standard input and output: one JSON message per line.
//!
//! Always: lines are bounded; one task writes; after the input ends, what still runs gets a moment to answer and the server exits.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::engine::{Admitted, serve as serve_request};
use super::handshake;
use super::methods;
use super::outlet::Outlet;
use super::server::Server;
use super::session::Session;
use super::stateless;
use super::wire::{self, Fault, INVALID_REQUEST, Incoming, Object, PARSE_ERROR};
use crate::protocol::era::{Era, Revision};

const MAX_LINE: usize = 16 << 20;
const QUEUE: usize = 256;
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// The one connection's name in the hub.
const CONNECTION: &str = "stdio";

/// Serves until the input ends or a signal says to stop.
pub(crate) async fn serve(server: Arc<Server>) -> std::io::Result<()> {
    let (queue, queued) = mpsc::channel(QUEUE);
    let mut writer = tokio::spawn(write_lines(queued));
    let session = Session::new(Outlet::Pipe(queue.clone()));
    server
        .hub
        .enter(CONNECTION.to_owned(), Arc::clone(&session))
        .map_err(|fault| std::io::Error::other(fault.message))?;
    let connection = Connection { server: Arc::clone(&server), session: Arc::clone(&session), queue };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = connection.read_lines() => {}
        // Nobody reads any more.
        _ = &mut writer => return Ok(()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.hub.end_listens();
    // Quick calls may still be running when a script closes its end.
    let _ = timeout(LAST_ANSWERS, async {
        while session.running() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    server.hub.close();
    drop((connection, session, server));
    let _ = timeout(LAST_ANSWERS, writer).await;
    Ok(())
}

async fn write_lines(mut queued: mpsc::Receiver<Value>) {
    let mut output = tokio::io::stdout();
    while let Some(message) = queued.recv().await {
        let mut line = message.to_string();
        line.push('\n');
        while let Ok(next) = queued.try_recv() {
            line.push_str(&next.to_string());
            line.push('\n');
            if line.len() > 64 << 10 {
                break;
            }
        }
        if output.write_all(line.as_bytes()).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}

struct Connection {
    server: Arc<Server>,
    session: Arc<Session>,
    queue: mpsc::Sender<Value>,
}

impl Connection {
    async fn read_lines(&self) {
        let mut input = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        loop {
            match read_line(&mut input, &mut line).await {
                Ok(Line::Whole) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(Line::Whole) => self.take_line(&line).await,
                Ok(Line::TooLong) => {
                    self.refuse(None, &Fault::new(INVALID_REQUEST, "the line is too long")).await
                }
                Ok(Line::End) | Err(_) => return,
            }
        }
    }

    async fn refuse(&self, id: Option<&Value>, fault: &Fault) {
        let mut message = wire::error(id, fault);
        // Older schemas want an id; JSON-RPC names null for what could not be read.
        let old = self.session.handshake().is_some_and(|agreed| agreed.revision < Revision::V2025_11_25);
        if id.is_none() && old {
            message["id"] = Value::Null;
        }
        let _ = self.queue.send(message).await;
    }

    async fn take_line(&self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Err(error) => self.refuse(None, &Fault::new(PARSE_ERROR, format!("not JSON: {error}"))).await,
            Ok(Value::Array(batch)) => self.take_batch(batch).await,
            Ok(value) => self.take(value, &Outlet::Pipe(self.queue.clone())).await,
        }
    }

    /// Batches exist in one revision only. Their responses come back in one array, once all are there.
    async fn take_batch(&self, batch: Vec<Value>) {
        let revision = self.session.handshake().map(|agreed| agreed.revision);
        if revision != Some(Revision::V2025_03_26) || batch.is_empty() {
            return self.refuse(None, &Fault::new(INVALID_REQUEST, "a message is a JSON object")).await;
        }
        let (gather, mut gathered) = mpsc::channel(QUEUE);
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let mut responses = Vec::new();
            while let Some(message) = gathered.recv().await {
                let message: Value = message;
                if message.get("method").is_none() {
                    responses.push(message);
                } else if queue.send(message).await.is_err() {
                    return;
                }
            }
            if !responses.is_empty() {
                let _ = queue.send(Value::Array(responses)).await;
            }
        });
        let outlet = Outlet::Pipe(gather);
        for value in batch {
            if value["method"] == "initialize" {
                outlet
                    .send(wire::error(value.get("id"), &Fault::new(INVALID_REQUEST, "initialize in a batch")))
                    .await;
            } else {
                self.take(value, &outlet).await;
            }
        }
    }

    async fn take(&self, value: Value, outlet: &Outlet) {
        match Incoming::read(value) {
            Err(malformed) => {
                self.refuse(malformed.id.as_ref(), &malformed.fault).await;
            }
            Ok(Incoming::Response { id, outcome }) => self.session.answer(&id, outcome),
            Ok(Incoming::Notification { method, params }) => match (method.as_str(), params.get("requestId"))
            {
                ("notifications/cancelled", Some(id)) => self.session.cancel(id),
                ("notifications/initialized", _) if self.session.handshake().is_some() => {
                    self.session.begin_notices();
                }
                _ => {}
            },
            Ok(Incoming::Request { id, method, params }) => {
                if let Err(fault) = self.take_request(&id, method, params, outlet).await {
                    outlet.send(wire::error(Some(&id), &fault)).await;
                }
            }
        }
    }

    async fn take_request(
        &self,
        id: &Value,
        method: String,
        params: Object,
        outlet: &Outlet,
    ) -> Result<(), Fault> {
        let modern = self.server.serves_era(Era::Stateless) && stateless::has_metadata(&params);
        let caller = if modern {
            stateless::admit(&self.server, &method, &params, None)?
        } else if method == "initialize" && self.server.serves_era(Era::Handshake) {
            return self.initialize(id, &params).await;
        } else {
            match self.session.caller(Arc::default()) {
                Some(caller) => caller,
                None => return self.answer_stranger(id, &method, &params).await,
            }
        };
        let running = self.session.begin(id)?;
        let (server, outlet) = (Arc::clone(&self.server), outlet.clone());
        let request = Admitted { caller, id: id.clone(), method, params };
        tokio::spawn(async move {
            serve_request(server, request, outlet, running.cancelled.clone()).await;
            drop(running);
        });
        Ok(())
    }

    async fn initialize(&self, id: &Value, params: &Object) -> Result<(), Fault> {
        if self.session.handshake().is_some() {
            return Err(Fault::new(INVALID_REQUEST, "this connection is initialized already"));
        }
        let (handshake, result) = handshake::initialize(&self.server, params)?;
        self.session.settle_handshake(handshake);
        let _ = self.queue.send(wire::result(id, result)).await;
        Ok(())
    }

    /// A request before any handshake and without metadata.
    async fn answer_stranger(&self, id: &Value, method: &str, params: &Object) -> Result<(), Fault> {
        if !self.server.serves_era(Era::Handshake) {
            if method == "initialize" || !methods::is_stateless_method(method) {
                return Err(Fault::unknown_method(method));
            }
            return stateless::admit(&self.server, method, params, None).map(|_| ());
        }
        if method == "ping" {
            let _ = self.queue.send(wire::result(id, Value::Object(Object::new()))).await;
            return Ok(());
        }
        if !methods::is_handshake_method(method) {
            return Err(match self.server.settings.pinned {
                None if methods::is_stateless_method(method) => {
                    Fault::invalid_params("params._meta is missing")
                }
                _ => Fault::unknown_method(method),
            });
        }
        Err(Fault::new(INVALID_REQUEST, "send initialize first"))
    }
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads one line into `line`, without its end. A line over the bound is skipped to its end.
async fn read_line(input: &mut BufReader<tokio::io::Stdin>, line: &mut Vec<u8>) -> std::io::Result<Line> {
    line.clear();
    let mut too_long = false;
    loop {
        let piece = input.fill_buf().await?;
        if piece.is_empty() {
            return Ok(if line.is_empty() || too_long { Line::End } else { Line::Whole });
        }
        let end = memchr::memchr(b'\n', piece);
        let taken = end.unwrap_or(piece.len());
        if too_long || line.len() + taken > MAX_LINE {
            too_long = true;
            line.clear();
        } else {
            line.extend_from_slice(&piece[..taken]);
        }
        input.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole });
        }
    }
}
