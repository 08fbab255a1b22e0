//! A collector of traces that keeps what it is sent.
//!
//! Owns a listener for OTLP over HTTP. Always: it thanks for everything. Not here: reading Protocol Buffers; stories look
//! for bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::http::{Framing, read_head};

/// One export: its start line and its body.
pub(crate) type Export = (String, Vec<u8>);

/// Takes whatever is exported and keeps it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Export>>>);

impl Collector {
    /// Listen; gives the address.
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("bound above");
        let kept = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Ok(Some(head)) = read_head(&mut stream).await {
                        let body = Framing::of_request(&head.headers).all(&mut stream).await;
                        let Ok(body) = body else { return };
                        kept.lock().expect("nobody panics while holding it").push((head.start, body));
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
                        if stream.get_mut().write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    /// Everything that was exported so far.
    pub(crate) fn exports(&self) -> Vec<Export> {
        self.0.lock().expect("nobody panics while holding it").clone()
    }

    /// Whether any export holds these bytes.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        self.exports().iter().any(|(_, body)| body.windows(bytes.len()).any(|window| window == bytes))
    }
}
