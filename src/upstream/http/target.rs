//! Where requests go: an upstream's address with everything about its requests that never changes, prepared once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::{ExtraHeaders, connect};

/// One upstream endpoint under one set of fixed headers. Clones are the same target; two targets never share a
/// connection, so what was authorised for one credential is never used for another (S-HTTPC-15).
#[derive(Clone)]
pub struct HttpTarget(Arc<Prepared>);

#[derive(Clone)]
struct Prepared {
    id: TargetId,
    origin: Uri,
    /// Path and query alone, as they stand in a request line.
    path: Uri,
    tls: Option<Arc<rustls::ClientConfig>>,
    post: HeaderMap,
    bare: HeaderMap,
}

/// Names a target in the pools of all threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TargetId(u64);

/// Why an address cannot be a target.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TargetFault {
    /// Neither `http` nor `https`, or no host.
    #[error("not an absolute http or https URL")]
    Url,
    /// The system's certificate authorities could not be read.
    #[error("no trusted certificate authorities: {0}")]
    Roots(String),
}

impl HttpTarget {
    /// Prepares `uri` with headers sent on every request. An `https` target reads the system's certificate
    /// authorities, the first time from files.
    pub fn new(uri: &Uri, headers: HeaderMap) -> Result<HttpTarget, TargetFault> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let scheme = uri.scheme().filter(|scheme| **scheme == Scheme::HTTP || **scheme == Scheme::HTTPS);
        let scheme = scheme.ok_or(TargetFault::Url)?;
        let authority = uri.authority().ok_or(TargetFault::Url)?;
        let tls = (*scheme == Scheme::HTTPS).then(connect::system_tls).transpose()?;
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let origin = Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query("/");

        let mut bare = headers;
        if !bare.contains_key(HOST) {
            bare.insert(HOST, host(uri).ok_or(TargetFault::Url)?);
        }
        bare.entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("switchyard/", env!("CARGO_PKG_VERSION"))));
        let mut post = bare.clone();
        post.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        post.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(HttpTarget(Arc::new(Prepared {
            id: TargetId(NEXT.fetch_add(1, Ordering::Relaxed)),
            origin: origin.build().map_err(|_| TargetFault::Url)?,
            path: Uri::from(path),
            tls,
            post,
            bare,
        })))
    }

    /// Scheme and authority.
    pub fn origin(&self) -> &Uri {
        &self.0.origin
    }

    /// The address as it was given, without a fragment.
    pub fn url(&self) -> Uri {
        let mut parts = self.0.origin.clone().into_parts();
        parts.path_and_query = self.0.path.path_and_query().cloned();
        Uri::from_parts(parts).unwrap_or_else(|_| self.0.origin.clone())
    }

    /// Another path of the same origin, under the same headers and over the same connections.
    pub fn at(&self, path: PathAndQuery) -> HttpTarget {
        HttpTarget(Arc::new(Prepared { path: Uri::from(path), ..Prepared::clone(&self.0) }))
    }

    pub(super) fn id(&self) -> TargetId {
        self.0.id
    }

    pub(super) fn tls(&self) -> Option<Arc<rustls::ClientConfig>> {
        self.0.tls.clone()
    }

    pub(super) fn post(&self, extra: &ExtraHeaders, body: Bytes) -> Request<Full<Bytes>> {
        self.request(Method::POST, &self.0.post, extra, body)
    }

    pub(super) fn bare(&self, method: Method, extra: &ExtraHeaders) -> Request<Full<Bytes>> {
        self.request(method, &self.0.bare, extra, Bytes::new())
    }

    fn request(
        &self,
        method: Method,
        fixed: &HeaderMap,
        extra: &ExtraHeaders,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.0.path.clone();
        let headers = request.headers_mut();
        *headers = fixed.clone();
        for (name, value) in extra {
            headers.insert(name, value.clone());
        }
        request
    }
}

/// Without user info, and without a port that the scheme implies.
fn host(uri: &Uri) -> Option<HeaderValue> {
    let name = uri.host().filter(|name| !name.is_empty())?;
    let implied = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    match uri.port_u16().filter(|port| *port != implied) {
        Some(port) => HeaderValue::from_str(&format!("{name}:{port}")).ok(),
        None => HeaderValue::from_str(name).ok(),
    }
}

impl fmt::Debug for HttpTarget {
    /// Headers and query may hold secrets and are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpTarget").field(&self.0.origin).finish()
    }
}
