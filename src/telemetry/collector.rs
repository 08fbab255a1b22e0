//! Spans on their way to an OTLP collector.
//!
//! Always: exports happen on the batch thread, with a deadline and a connection of their own; whoever ends a span only
//! queues it. Spans that a slow or dead collector does not take are dropped and counted, and that is logged once per
//! outage.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};

/// Longest time for one export.
pub(super) const EXPORT_DEADLINE: Duration = Duration::from_secs(5);
/// Largest answer of a collector.
const ANSWER_LIMIT: usize = 64 * 1024;

/// How many spans came and went.
#[derive(Debug, Default)]
pub(super) struct SpanCount {
    ended: AtomicU64,
    exported: AtomicU64,
    failed: AtomicU64,
}

impl SpanCount {
    /// Spans that no collector took, and that none will: exact after shutdown, before that without those still queued.
    pub(super) fn dropped(&self, after_shutdown: bool) -> u64 {
        let failed = self.failed.load(Ordering::Relaxed);
        if !after_shutdown {
            return failed;
        }
        self.ended.load(Ordering::Relaxed).saturating_sub(self.exported.load(Ordering::Relaxed))
    }
}

/// The batch processor, with ended spans counted.
#[derive(Debug)]
pub(super) struct CountedBatches {
    pub(super) batches: BatchSpanProcessor,
    pub(super) count: Arc<SpanCount>,
}

impl SpanProcessor for CountedBatches {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.count.ended.fetch_add(1, Ordering::Relaxed);
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter, with its successes and failures counted and outages logged.
#[derive(Debug)]
pub(super) struct CountedExporter<E> {
    pub(super) exporter: E,
    pub(super) count: Arc<SpanCount>,
    failing: AtomicBool,
}

impl<E> CountedExporter<E> {
    pub(super) fn new(exporter: E, count: Arc<SpanCount>) -> Self {
        CountedExporter { exporter, count, failing: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) => {
                self.count.exported.fetch_add(spans, Ordering::Relaxed);
                if self.failing.swap(false, Ordering::Relaxed) {
                    let dropped = self.count.dropped(false);
                    tracing::info!(dropped, "the collector takes spans again");
                }
            }
            Err(error) => {
                self.count.failed.fetch_add(spans, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, spans, "the collector takes no spans; they are dropped until it does");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// HTTP for the batch thread, which is no part of any runtime: each export brings its own small one.
#[derive(Debug)]
pub(super) struct CollectorClient {
    connector: HttpsConnector<HttpConnector>,
}

impl CollectorClient {
    /// A client that trusts the machine's certificates, should the collector's address be `https`.
    pub(super) fn new(https: bool) -> std::io::Result<Self> {
        let roots = HttpsConnectorBuilder::new();
        let connector = if https {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            roots.with_provider_and_native_roots(provider)?.https_only().enable_http1().build()
        } else {
            // No certificates are read for a collector that has none.
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(std::io::Error::other)?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            roots.with_tls_config(tls).https_or_http().enable_http1().build()
        };
        Ok(CollectorClient { connector })
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(self.connector.clone());
        let answer = async {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        runtime.block_on(async { tokio::time::timeout(EXPORT_DEADLINE, answer).await? })
    }
}

impl HttpClient for CollectorClient {
    /// Blocks the thread that polls, which is the batch thread alone.
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move { self.send(request) })
    }
}
