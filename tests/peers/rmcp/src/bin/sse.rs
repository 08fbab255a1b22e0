//! The Rust SDK 0.10, the last with the HTTP+SSE transport of 2024-11-05.
//!
//!     sse server                 # prints `endpoint URL`, ends with SIGTERM
//!     sse client URL PREFIX      # prints rows

use std::env::args;

use sse::ServiceExt;
use sse::transport::SseClientTransport;
use sse::transport::sse_server::{SseServer, SseServerConfig};

const REVISION: &str = "2025-06-18";

switchyard_peers_rmcp::peers!(
    sse,
    CallToolRequestParam,
    PaginatedRequestParam,
    CreateElicitationRequestParam
);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => serve().await,
        ["client", url, prefix] => visit(url, prefix).await,
        _ => panic!("usage: sse server | sse client URL PREFIX"),
    }
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (server, router) = SseServer::new(SseServerConfig {
        bind: address,
        sse_path: "/sse".into(),
        post_path: "/message".into(),
        ct: Default::default(),
        sse_keep_alive: None,
    });
    server.with_service(|| Server);
    println!("endpoint http://{address}/sse");
    axum::serve(listener, router).await.expect("it serves until it is stopped");
}

async fn visit(url: &str, prefix: &str) {
    let connected = async {
        let transport = SseClientTransport::start(url.to_owned()).await.map_err(|error| error.to_string())?;
        Visitor.serve(transport).await.map_err(|error| error.to_string())
    };
    match connected.await {
        Ok(guest) => {
            switchyard_peers_rmcp::tell("rmcp 0.10/S-SSE-01 connects over HTTP+SSE", Ok(()));
            story("rmcp 0.10", guest, prefix).await;
        }
        Err(error) => switchyard_peers_rmcp::tell("rmcp 0.10/connects over HTTP+SSE", Err(error)),
    }
}
