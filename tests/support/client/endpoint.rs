//! Requests on the wire: an address, a TCP connection, and an HTTP answer read whole.
//!
//! Owns connecting and writing. Always: nothing is added to a request but what framing needs. Not here: JSON-RPC.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::exchange::Exchange;
use crate::support::http::{Headers, write_head};
use crate::support::{json, patiently};

/// Where a client sends its requests.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// The listener.
    pub(crate) address: SocketAddr,
    /// The path of the MCP endpoint.
    pub(crate) path: String,
}

impl Endpoint {
    /// Read an address such as `http://127.0.0.1:8080/mcp`.
    pub(crate) fn parse(url: &str) -> Endpoint {
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not an http address: {url:?}"));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let address = authority.parse().unwrap_or_else(|_| panic!("not a socket address: {authority:?}"));
        Endpoint { address, path: format!("/{path}") }
    }

    /// The same listener, another path.
    pub(crate) fn at(&self, path: &str) -> Endpoint {
        Endpoint { address: self.address, path: path.to_owned() }
    }

    /// Send one HTTP request with nothing added but what framing needs.
    pub(crate) async fn send(&self, method: &str, headers: Headers, body: &[u8]) -> Exchange {
        let connection = Connection::open(self.address).await;
        connection.send(method, &self.path, headers, body).await
    }

    /// Send one HTTP request and read the whole answer.
    pub(crate) async fn ask(&self, method: &str, headers: Headers, body: &[u8]) -> Whole {
        self.send(method, headers, body).await.whole().await
    }

    /// The header fields that every MCP POST carries.
    pub(crate) fn post_headers(&self) -> Headers {
        let mut headers = Headers::default();
        headers.set("Host", &self.address.to_string());
        headers.set("Content-Type", "application/json");
        headers.set("Accept", "application/json, text/event-stream");
        headers
    }
}

/// One TCP connection to the gateway.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connect.
    pub(crate) async fn open(address: SocketAddr) -> Connection {
        let stream = patiently("a TCP connection", TcpStream::connect(address)).await;
        let stream = stream.unwrap_or_else(|e| panic!("nobody listens at {address}: {e}"));
        stream.set_nodelay(true).expect("a fresh socket takes options");
        Connection { stream: BufReader::new(stream) }
    }

    /// Write raw bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let written = patiently("the gateway to take bytes", self.stream.get_mut().write_all(bytes)).await;
        if let Err(e) = written {
            println!("   (the connection broke while writing: {e})");
        }
    }

    /// The stream itself, to be read as it comes.
    pub(crate) fn stream_mut(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }

    /// Close the sending direction alone.
    pub(crate) async fn finish_writing(&mut self) {
        patiently("half a close", self.stream.get_mut().shutdown()).await.expect("the connection is open");
    }

    /// Read until the peer closes, at most for `limit`; `None` when it did not close.
    pub(crate) async fn read_to_close(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(limit, self.stream.read_to_end(&mut bytes)).await;
        read.is_ok().then_some(bytes)
    }

    /// Send a request; the answer is read from the exchange.
    pub(crate) async fn send(self, method: &str, path: &str, headers: Headers, body: &[u8]) -> Exchange {
        let shown = String::from_utf8_lossy(&body[..body.len().min(1500)]);
        println!("-> {method} {path} {shown}");
        self.send_quietly(method, path, headers, body).await
    }

    /// As [`Connection::send`], printing nothing.
    pub(crate) async fn send_quietly(
        mut self,
        method: &str,
        path: &str,
        headers: Headers,
        body: &[u8],
    ) -> Exchange {
        let mut headers = headers;
        if headers.get("Content-Length").is_none()
            && headers.get("Transfer-Encoding").is_none()
            && method != "GET"
        {
            headers.set("Content-Length", &body.len().to_string());
        }
        let mut wire = write_head(&format!("{method} {path} HTTP/1.1"), &headers);
        wire.extend_from_slice(body);
        self.write(&wire).await;
        Exchange::new(self)
    }
}

/// An HTTP answer read to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The status code.
    pub(crate) status: u16,
    /// The header fields.
    pub(crate) headers: Headers,
    /// The body.
    pub(crate) body: String,
}

impl Whole {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        json::parse(&self.body)
            .unwrap_or_else(|| panic!("HTTP {} with a body that is not JSON: {:?}", self.status, self.body))
    }

    /// The code of the JSON-RPC error in the body.
    pub(crate) fn error_code(&self) -> i64 {
        let json = self.json();
        json["error"]["code"].as_i64().unwrap_or_else(|| panic!("HTTP {} is no error: {json}", self.status))
    }

    /// Fail unless the answer has this status and this JSON-RPC error code.
    pub(crate) fn expect_error(&self, status: u16, code: i64) -> &Whole {
        assert_eq!((self.status, self.error_code()), (status, code), "{}", self.body);
        self
    }
}
