//! Requests that may fail because the gateway dies, which is no fault of its answer.
//!
//! Owns one request on one connection. Always: what came whole is given, what broke off is an I/O error. Not here: judging.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Client;
use crate::support::http::{Framing, read_head, write_head};

impl Client {
    /// Send a request on a connection of its own; gives the response message.
    pub(crate) async fn attempt(&self, method: &str, params: Value) -> io::Result<Value> {
        let params = self.dress(params);
        let mut headers = self.headers(method, &params);
        let id = self.fresh_id();
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        headers.set("Content-Length", &body.len().to_string());
        headers.set("Connection", "close");
        let mut wire = write_head(&format!("POST {} HTTP/1.1", self.endpoint.path), &headers);
        wire.extend_from_slice(body.as_bytes());
        let mut stream = BufReader::new(TcpStream::connect(self.endpoint.address).await?);
        stream.get_mut().write_all(&wire).await?;
        let head = read_head(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = Framing::of_response(&head).all(&mut stream).await?;
        let text = String::from_utf8_lossy(&body);
        let lines = text.lines().map(|line| line.strip_prefix("data:").unwrap_or(line).trim());
        let mut messages = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let answer = messages.find(|message| message["id"] == id && message.get("method").is_none());
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
