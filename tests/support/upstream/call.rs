//! One message from the gateway, in the hands of a script.
//!
//! Owns the ways to answer it, lawful and not. Always: what a script writes is printed. Not here: reading from the wire.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::over_http::{self, Command};
use super::{Received, Shared, clipped, defaults, locked};
use crate::support::http::{Headers, chunk, write_head};
use crate::support::patiently;

/// A message that a script answers.
pub(crate) struct Call {
    /// The message.
    pub(crate) received: Received,
    pub(super) shared: Arc<Shared>,
    pub(super) out: mpsc::Sender<Command>,
    pub(super) left: watch::Receiver<bool>,
    pub(super) is_streaming: bool,
}

impl Call {
    /// The method.
    pub(crate) fn method(&self) -> &str {
        self.received.method()
    }

    /// The parameters.
    pub(crate) fn params(&self) -> &Value {
        self.received.params()
    }

    /// The request id as it stood on the wire.
    pub(crate) fn id(&self) -> &str {
        crate::support::json::raw_at(&self.received.raw, &["id"]).unwrap_or("null")
    }

    /// The name of the tool or prompt that is meant.
    pub(crate) fn name(&self) -> &str {
        self.params()["name"].as_str().unwrap_or_default()
    }

    /// How many messages with this method came so far, this one included.
    pub(crate) fn count(&self) -> usize {
        locked(&self.shared.ledger).iter().filter(|other| other.method() == self.method()).count()
    }

    /// The newest message with this method that the upstream received.
    pub(crate) fn latest(&self, method: &str) -> Received {
        let ledger = locked(&self.shared.ledger);
        ledger.iter().rfind(|received| received.method() == method).expect("it came before").clone()
    }

    fn is_http(&self) -> bool {
        self.received.verb != "LINE"
    }

    fn show(&self, message: &str) {
        if !self.shared.is_quiet {
            println!("   [{}] => {}", self.shared.name, clipped(message));
        }
    }

    async fn write(&self, bytes: Vec<u8>) {
        self.out.send(Command::Write(bytes)).await.ok();
    }

    /// Begin an event stream as the answer.
    pub(crate) async fn stream(&mut self) {
        if self.is_http() && !self.is_streaming {
            self.is_streaming = true;
            let mut headers = Headers::default();
            headers.set("Content-Type", "text/event-stream");
            headers.set("Transfer-Encoding", "chunked");
            self.write(write_head("HTTP/1.1 200 OK", &headers)).await;
        }
    }

    /// Write one message on the stream of this call.
    pub(crate) async fn say(&mut self, message: &str) {
        self.show(message);
        self.stream().await;
        let piece = if self.is_http() {
            over_http::event_chunk(message)
        } else {
            format!("{message}\n").into_bytes()
        };
        self.write(piece).await;
    }

    /// Write bytes on the stream of this call, exactly.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream().await;
        let piece = if self.is_http() { chunk(bytes) } else { bytes.to_vec() };
        self.write(piece).await;
    }

    /// Write a final message and end the answer.
    pub(crate) async fn last(&mut self, message: &str) {
        if self.is_http() && !self.is_streaming {
            self.show(message);
            let headers = [("Content-Type", "application/json")];
            return self.http(200, &headers, message.as_bytes()).await;
        }
        self.say(message).await;
        self.finish().await;
    }

    /// End the event stream.
    pub(crate) async fn finish(&mut self) {
        if self.is_http() {
            self.write(chunk(b"")).await;
            self.out.send(Command::Finish).await.ok();
        }
    }

    /// Answer with a result.
    pub(crate) async fn result(&mut self, result: Value) {
        self.raw_result(&result.to_string()).await;
    }

    /// Answer with a result of exactly this text.
    pub(crate) async fn raw_result(&mut self, result: &str) {
        let message = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, self.id());
        self.last(&message).await;
    }

    /// Answer a tool call with one text block.
    pub(crate) async fn text(&mut self, text: &str) {
        let result = self.complete(json!({ "content": [{ "type": "text", "text": text }] }));
        self.result(result).await;
    }

    /// A result with what the upstream's era adds to it.
    pub(crate) fn complete(&self, result: Value) -> Value {
        defaults::complete(&self.shared, self.method(), result)
    }

    /// Answer with an error.
    pub(crate) async fn error(&mut self, code: i64, message: &str, data: Value) {
        let mut error = json!({ "code": code, "message": message });
        if !data.is_null() {
            error["data"] = data;
        }
        self.raw_error(&error.to_string()).await;
    }

    /// Answer with an error object of exactly this text.
    pub(crate) async fn raw_error(&mut self, error: &str) {
        let message = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, self.id());
        self.last(&message).await;
    }

    /// Send a notification on the stream of this call.
    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
        self.say(&message).await;
    }

    /// Report progress if the gateway asked for it; gives whether it did.
    pub(crate) async fn progress(&mut self, progress: f64, total: f64) -> bool {
        let token = self.params()["_meta"]["progressToken"].clone();
        if token.is_null() {
            return false;
        }
        let params =
            json!({ "progressToken": token, "progress": progress, "total": total, "message": "at work" });
        self.notify("notifications/progress", params).await;
        true
    }

    /// Ask the gateway something on the stream of this call; gives the whole response message.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> Value {
        let (_, answer) = self.begin_to_ask(method, params).await;
        patiently(&format!("the answer to {method}"), answer).await.expect("answers are kept until they come")
    }

    /// As [`Call::ask`], without waiting; gives the id used as well.
    pub(crate) async fn begin_to_ask(
        &mut self,
        method: &str,
        params: Value,
    ) -> (String, oneshot::Receiver<Value>) {
        self.begin_to_ask_raw(method, &params.to_string()).await
    }

    /// As [`Call::begin_to_ask`], with parameters of exactly this text.
    pub(crate) async fn begin_to_ask_raw(
        &mut self,
        method: &str,
        params: &str,
    ) -> (String, oneshot::Receiver<Value>) {
        let (id, answer) = self.shared.expect_answer(method);
        let message = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{params}}}"#);
        self.say(&message).await;
        (id, answer)
    }

    /// Answer on HTTP with anything at all. On stdio only the body is written, as a line.
    pub(crate) async fn http(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        if !self.is_http() {
            let mut line = body.to_vec();
            line.push(b'\n');
            return self.write(line).await;
        }
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.set(name, value);
        }
        headers.set("Content-Length", &body.len().to_string());
        let mut wire = write_head(&format!("HTTP/1.1 {status} Scripted"), &headers);
        wire.extend_from_slice(body);
        self.write(wire).await;
        self.out.send(Command::Finish).await.ok();
    }

    /// Write bytes to the socket with nothing around them.
    pub(crate) async fn wire(&mut self, bytes: &[u8]) {
        self.write(bytes.to_vec()).await;
    }

    /// Close the connection (or let the child die) without a further word.
    pub(crate) async fn close(self) {
        println!("   [{}] => closes", self.shared.name);
        self.out.send(Command::Close).await.ok();
    }

    /// Reset the connection.
    pub(crate) async fn reset(self) {
        println!("   [{}] => resets", self.shared.name);
        self.out.send(Command::Reset).await.ok();
    }

    /// Write a message on the standing stream of this call's session instead of the call's own.
    pub(crate) async fn elsewhere(&self, message: &str) {
        println!("   [{}] => (standing) {}", self.shared.name, clipped(message));
        let session = self.received.session();
        let ways: Vec<_> = locked(&self.shared.standing)
            .iter()
            .filter(|standing| standing.session.as_deref() == session)
            .map(|standing| standing.out.clone())
            .collect();
        for way in ways {
            way.send(Command::Write(over_http::event_chunk(message))).await.ok();
        }
    }

    /// Answer as the well-behaved server would.
    pub(crate) async fn default(&mut self) {
        defaults::answer(self).await;
    }

    /// Wait until the gateway closes the connection of this call.
    pub(crate) async fn disconnected(&mut self) {
        self.left.wait_for(|left| *left).await.ok();
    }

    /// Wait until the gateway cancels this call, in the way of the upstream's era and transport.
    pub(crate) async fn cancelled(&mut self) {
        if self.shared.is_stateless() && self.is_http() {
            return self.disconnected().await;
        }
        let id: Value = serde_json::from_str(self.id()).expect("the id was read before");
        let mut changes = self.shared.changes.subscribe();
        loop {
            let is_cancelled = locked(&self.shared.ledger).iter().any(|received| {
                // Ids repeat from session to session and from child to child.
                let is_of_this_hop = received.session() == self.received.session()
                    && (self.is_http() || received.connection == self.received.connection);
                received.method() == "notifications/cancelled"
                    && received.params()["requestId"] == id
                    && is_of_this_hop
            });
            if is_cancelled {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Let time pass.
    pub(crate) async fn pause(&self, milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}
