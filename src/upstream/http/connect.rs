//! New connections: names, addresses, TCP, TLS.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::connection::Connection;
use super::failure::HttpFailure;
use super::target::{HttpTarget, TargetFault};

pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A peer that vanished without a word is noticed within 30 seconds (F06): after this silence the kernel asks whether
/// it still lives, this often, this many times,
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_PROBES: u32 = 3;
/// and what was sent must be acknowledged within this.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);

/// Opens one connection to the target, ready to send.
pub(super) async fn connect(target: &HttpTarget, deadline: Duration) -> Result<Connection, HttpFailure> {
    let opened = tokio::time::timeout(deadline, open(target)).await;
    let stream = opened.map_err(|_| HttpFailure::ConnectTimeout)??;
    Connection::over(stream).await
}

async fn open(target: &HttpTarget) -> Result<Stream, HttpFailure> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    tcp.set_keepalive_interval(Some(KEEP_ALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEP_ALIVE_PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp.enforce_http(false);
    let origin: Uri = target.origin().clone();
    match target.tls() {
        None => match tcp.call(origin).await {
            Ok(stream) => Ok(MaybeHttpsStream::Http(stream)),
            Err(error) => Err(HttpFailure::connect(&error)),
        },
        Some(tls) => {
            let opened = HttpsConnector::from((tcp, tls)).call(origin).await;
            opened.map_err(|error| HttpFailure::connect(&*error))
        }
    }
}

/// Certificates are verified against the system's authorities; HTTP/1.1 alone is offered.
pub(super) fn system_tls() -> Result<Arc<ClientConfig>, TargetFault> {
    static TLS: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls.clone());
    }
    let tls = Arc::new(read_system_tls().map_err(|error| TargetFault::Roots(error.to_string()))?);
    Ok(TLS.get_or_init(|| tls).clone())
}

fn read_system_tls() -> Result<ClientConfig, io::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = builder.with_native_roots()?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
