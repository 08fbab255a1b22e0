//! The check of a server that is an HTTP endpoint.

use http::{HeaderName, HeaderValue, Uri};

use super::HttpSettings;
use super::stdio::lint_literal;
use super::written::{ProtocolWord, ServerType, WrittenServer};
use crate::config::address::{http_url, is_loopback};
use crate::config::check::Check;
use crate::config::problem::Place;
use crate::config::reference;
use crate::config::secret::{Secret, names_secret};
use crate::config::written::{At, Given, Key, Text, given};
use crate::protocol::era::Era;

/// Headers that belong to one hop, or that the gateway writes itself.
const RESERVED: [&str; 19] = [
    "accept",
    "accept-encoding",
    "baggage",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HttpSettings {
    /// Checks the keys of a server that has `url`.
    pub(super) fn check(written: &WrittenServer, check: &mut Check<'_>) -> Option<Self> {
        refuse_process_keys(written, check);
        let url = given(&written.url).and_then(|url| endpoint(url, check));
        let headers = headers(written, check);
        let sse = is_sse(written, check);
        let (url, text) = url?;
        let credentials = headers.iter().any(|(name, _)| names_secret(name));
        if credentials && url.scheme_str() == Some("http") && !is_loopback(&url) {
            let place = given(&written.url).map_or_else(Place::default, |url| url.place.clone());
            check
                .problems
                .lint(&place, "credentials in `headers` go over the network unencrypted; use `https://`");
        }
        Some(HttpSettings { url: text, headers, sse })
    }
}

/// `type: sse` and `protocol: sse` say the same.
fn is_sse(written: &WrittenServer, check: &mut Check<'_>) -> bool {
    let declared = given(&written.server_type).map(|at| at.value.0);
    let protocol = given(&written.protocol);
    match (declared, protocol.map(|at| at.value.0)) {
        (Some(ServerType::Sse), Some(ProtocolWord::Pinned(revision))) if revision.era() == Era::Stateless => {
            let place = protocol.map_or_else(Place::default, |at| at.place.clone());
            check.conflict::<()>(&place, "this revision is not spoken over `type: sse`");
            true
        }
        (Some(ServerType::Http), Some(ProtocolWord::Sse)) => {
            let place = protocol.map_or_else(Place::default, |at| at.place.clone());
            check.conflict::<()>(&place, "`type` says streamable HTTP; leave it out or write `type: sse`");
            true
        }
        (Some(ServerType::Sse), _) | (_, Some(ProtocolWord::Sse)) => true,
        _ => false,
    }
}

fn endpoint(written: &At<Text>, check: &mut Check<'_>) -> Option<(Uri, String)> {
    let text = check.resolve(written)?;
    // Only of a server that is switched off: there is nothing to judge yet.
    if text == written.value.0 && reference::has_reference(&text) {
        return Some((Uri::default(), text));
    }
    match http_url(&text) {
        Ok(url) => Some((url, text)),
        Err(reason) => check.bad(&written.place, reason),
    }
}

/// Keys of a child process say nothing about an endpoint. Empty ones are forgiven: some clients write them.
fn refuse_process_keys(written: &WrittenServer, check: &mut Check<'_>) {
    fn place<T>(key: &Key<T>) -> Option<Place> {
        given(key).map(|at| at.place.clone())
    }
    let args = given(&written.args).filter(|args| !args.value.is_empty());
    let env = given(&written.env).filter(|env| !env.value.0.is_empty());
    let keys = [
        ("args", args.map(|at| at.place.clone())),
        ("env", env.map(|at| at.place.clone())),
        ("cwd", place(&written.cwd)),
        ("idle_stop", place(&written.idle_stop)),
        ("max_memory", place(&written.max_memory)),
        ("max_cpu_seconds", place(&written.max_cpu_seconds)),
        ("max_open_files", place(&written.max_open_files)),
    ];
    for (key, place) in keys {
        if let Some(place) = place {
            check.conflict::<()>(&place, format!("`{key}` belongs to a server with `command`"));
        }
    }
}

fn headers(written: &WrittenServer, check: &mut Check<'_>) -> Vec<(String, Secret)> {
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, value) in given(&written.headers).map(|table| table.value.0.as_slice()).unwrap_or_default() {
        let Some(lower) = header_name(name, check) else { continue };
        if headers.iter().any(|(seen, _)| *seen == lower) {
            check.conflict::<()>(&name.place, "the header is given twice: upper and lower case are the same");
        }
        let Given::Read(value) = value else { continue };
        lint_literal(&lower, value, check);
        let Some(text) = check.resolve(value) else { continue };
        if HeaderValue::from_str(&text).is_err() {
            check.bad::<()>(&value.place, "a header's value has visible ASCII characters and spaces only");
        }
        headers.push((lower, Secret::new(text)));
    }
    headers
}

fn header_name(name: &At<String>, check: &mut Check<'_>) -> Option<String> {
    let Ok(valid) = HeaderName::from_bytes(name.value.as_bytes()) else {
        return check.bad(&name.place, "not a header name");
    };
    let lower = valid.as_str().to_owned();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("mcp-") {
        return check.bad(&name.place, "the gateway sets this header itself");
    }
    Some(lower)
}
