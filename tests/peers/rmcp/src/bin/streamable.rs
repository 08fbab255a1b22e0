//! The Rust SDK 1.8: streamable HTTP of 2025-11-25.
//!
//!     streamable server                 # prints `endpoint URL`, ends with SIGTERM
//!     streamable client URL PREFIX      # prints rows

use std::env::args;
use std::sync::Arc;

use streamable::ServiceExt;
use streamable::transport::StreamableHttpClientTransport;
use streamable::transport::streamable_http_server::session::local::LocalSessionManager;
use streamable::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

const REVISION: &str = "2025-11-25";

switchyard_peers_rmcp::peers!(
    streamable,
    CallToolRequestParams,
    PaginatedRequestParams,
    CreateElicitationRequestParams
);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => serve().await,
        ["client", url, prefix] => visit(url, prefix).await,
        _ => panic!("usage: streamable server | streamable client URL PREFIX"),
    }
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(|| Ok(Server), sessions, StreamableHttpServerConfig::default());
    println!("endpoint http://{address}/mcp");
    let router = axum::Router::new().nest_service("/mcp", service);
    axum::serve(listener, router).await.expect("it serves until it is stopped");
}

async fn visit(url: &str, prefix: &str) {
    match Visitor.serve(StreamableHttpClientTransport::from_uri(url)).await {
        Ok(guest) => {
            switchyard_peers_rmcp::tell("rmcp 1.8/connects over streamable HTTP", Ok(()));
            story("rmcp 1.8", guest, prefix).await;
        }
        Err(error) => {
            switchyard_peers_rmcp::tell("rmcp 1.8/connects over streamable HTTP", Err(error.to_string()))
        }
    }
}
