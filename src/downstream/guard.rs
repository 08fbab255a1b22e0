//! Who may knock: the `Host` a request names and the web page, if any, it comes from (S-HTTPS-02).
//!
//! Always: a browser page of another site never gets further than this, whatever name it found for the listener
//! (DNS rebinding). Not here: who the caller is, and the answer's form.

use std::borrow::Cow;
use std::net::IpAddr;

use http::Uri;

use crate::config::listen::ListenSettings;

/// Request headers that a page may send besides those every page may.
const ALLOWED_HEADERS: [&str; 12] = [
    "accept",
    "authorization",
    "baggage",
    "content-type",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "traceparent",
    "tracestate",
    "x-request-id",
];
const EXPOSED_HEADERS: &str = "Mcp-Session-Id, WWW-Authenticate";
const ALLOWED_METHODS: &str = "GET, POST, DELETE, OPTIONS";

/// Judges requests to one listener.
#[derive(Debug, Clone)]
pub struct Guard {
    address: IpAddr,
    hosts: Box<[Box<str>]>,
    origins: Box<[Box<str>]>,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `Host`.
    #[error("host is missing")]
    HostMissing,
    /// A `Host` that is not this gateway.
    #[error("host is not allowed")]
    ForeignHost,
    /// `null`, more than one, or a page of another site.
    #[error("origin is not allowed")]
    ForeignOrigin,
}

impl Refusal {
    /// HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::HostMissing => 400,
            Refusal::ForeignHost | Refusal::ForeignOrigin => 403,
        }
    }
}

impl Guard {
    /// For the data listener.
    pub fn new(listen: &ListenSettings) -> Guard {
        let public: Option<Uri> = listen.public_url.as_ref().and_then(|url| url.parse().ok());
        let public_host = public.as_ref().and_then(Uri::host).map(name_of);
        let public_origin = public.as_ref().and_then(origin_of);
        Guard {
            address: listen.data.ip(),
            hosts: listen.hosts.iter().map(|host| name_of(host)).chain(public_host).collect(),
            origins: listen.origins.iter().map(|origin| lower(origin)).chain(public_origin).collect(),
        }
    }

    /// For another listener, such as the admin one, that answers to loopback names alone.
    pub fn loopback_only(address: IpAddr) -> Guard {
        Guard { address, hosts: Box::default(), origins: Box::default() }
    }

    /// Whether a request with this `Host` and these `Origin` headers may pass; the page it came from, if any.
    ///
    /// On a loopback listener the host must be a loopback name or a configured one. On another listener only a page
    /// is judged, unless names are configured.
    pub fn judge<'a>(
        &self,
        host: Option<&[u8]>,
        mut origins: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Option<AllowedOrigin<'a>>, Refusal> {
        let host = host.ok_or(Refusal::HostMissing)?;
        let open = !self.address.is_loopback() && self.hosts.is_empty();
        if !open && !host_of(host).is_some_and(|name| self.is_own_host(&name)) {
            return Err(Refusal::ForeignHost);
        }
        match (origins.next(), origins.next()) {
            (None, _) => Ok(None),
            (Some(origin), None) => self.origin(origin).map(Some).ok_or(Refusal::ForeignOrigin),
            (Some(_), Some(_)) => Err(Refusal::ForeignOrigin),
        }
    }

    fn is_own_host(&self, name: &str) -> bool {
        (self.address.is_loopback() && self.is_loopback_name(name))
            || self.hosts.iter().any(|host| **host == *name)
    }

    /// An address cannot be rebound, so only `localhost` and the addresses themselves are names of this machine.
    fn is_loopback_name(&self, name: &str) -> bool {
        matches!(name, "localhost" | "127.0.0.1" | "::1") || name.parse() == Ok(self.address)
    }

    fn origin<'a>(&self, raw: &'a [u8]) -> Option<AllowedOrigin<'a>> {
        let text =
            std::str::from_utf8(raw).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))?;
        let origin = text.to_ascii_lowercase();
        let authority = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
        let local = self.address.is_loopback()
            && authority
                .and_then(|authority| host_of(authority.as_bytes()))
                .is_some_and(|name| self.is_loopback_name(&name));
        let configured = origin != "null" && self.origins.iter().any(|allowed| **allowed == *origin);
        (local || configured).then_some(AllowedOrigin(text))
    }
}

/// The name in `name[:port]`: lower case, without brackets and without the dot that ends an absolute name.
fn host_of(raw: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(raw).ok()?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || port.len() > 5 {
        return None;
    }
    let name = match name.strip_suffix('.') {
        Some(address) if address.parse::<IpAddr>().is_ok() => return None,
        Some(name) => name,
        None => name,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain)).then(|| {
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        }
    })
}

/// A configured host as `host_of` gives it.
fn name_of(host: &str) -> Box<str> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    lower(name.strip_suffix('.').unwrap_or(name))
}

fn origin_of(url: &Uri) -> Option<Box<str>> {
    Some(lower(&format!("{}://{}", url.scheme_str()?, url.authority()?)))
}

fn lower(text: &str) -> Box<str> {
    text.to_ascii_lowercase().into()
}

/// The page a request came from, judged and allowed: only to it are answers readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedOrigin<'a>(&'a str);

impl<'a> AllowedOrigin<'a> {
    /// Headers of every answer to the page.
    pub fn answer_headers(self) -> [(&'static str, Cow<'a, str>); 3] {
        [
            ("access-control-allow-origin", Cow::Borrowed(self.0)),
            ("access-control-expose-headers", Cow::Borrowed(EXPOSED_HEADERS)),
            ("vary", Cow::Borrowed("Origin")),
        ]
    }

    /// Headers of the answer to an `OPTIONS` preflight whose `Access-Control-Request-Headers` is `requested`. Names of
    /// `Mcp-Param-*` headers are the tools' own, so those that are asked for are allowed.
    pub fn preflight_headers(self, requested: Option<&[u8]>) -> [(&'static str, Cow<'a, str>); 5] {
        let mut allowed = ALLOWED_HEADERS.join(", ");
        let requested = requested.and_then(|raw| std::str::from_utf8(raw).ok()).unwrap_or_default();
        for name in requested.split(',').map(str::trim) {
            let token =
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
            if token && name.len() > 10 && name[..10].eq_ignore_ascii_case("mcp-param-") {
                allowed.push_str(", ");
                allowed.push_str(name);
            }
        }
        [
            ("access-control-allow-origin", Cow::Borrowed(self.0)),
            ("access-control-allow-methods", Cow::Borrowed(ALLOWED_METHODS)),
            ("access-control-allow-headers", Cow::Owned(allowed)),
            ("access-control-max-age", Cow::Borrowed("600")),
            ("vary", Cow::Borrowed("Origin, Access-Control-Request-Headers")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard(address: &str) -> Guard {
        Guard::new(&ListenSettings {
            data: address.parse().expect("an address"),
            admin: None,
            public_url: Some("https://MCP.example.com:8443".into()),
            origins: vec!["https://app.example.com".into(), "vscode-webview://abc".into()],
            hosts: vec!["gateway.internal".into(), "[fd00::1]".into()],
            http_sse: true,
        })
    }

    fn judge(guard: &Guard, host: &str, origins: &[&str]) -> Result<bool, Refusal> {
        let judged = guard.judge(Some(host.as_bytes()), origins.iter().map(|origin| origin.as_bytes()));
        judged.map(|page| page.is_some())
    }

    #[test]
    fn s_https_02_hosts_of_a_loopback_listener() {
        let guard = guard("127.0.0.1:8080");
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "localhost.:1",
            "127.0.0.1",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "localhost:",
            "mcp.example.com",
            "Mcp.Example.Com:8443",
            "gateway.internal:1",
            "[fd00::1]:9",
        ] {
            assert_eq!(judge(&guard, host, &[]), Ok(false), "{host}");
        }
        for host in [
            "",
            ":8080",
            "evil.example",
            "localhost.evil.example",
            "evil.example:127.0.0.1",
            "127.0.0.1.evil.example",
            "127.0.0.1.",
            "127.0.0.2",
            "127.1",
            "0x7f.0.0.1",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
            "[::]",
            "[::1",
            "::1]",
            "[localhost]",
            "localhost:80:80",
            "localhost:http",
            "a@localhost",
            "localhost/",
            "localhost localhost",
            "localhost..",
            ".",
            "localhost,evil.example",
            "loc\u{e4}lhost",
            "[::1]x",
            "mcp.example.com.evil.example",
        ] {
            assert_eq!(judge(&guard, host, &[]), Err(Refusal::ForeignHost), "{host}");
        }
        assert_eq!(guard.judge(None, std::iter::empty()), Err(Refusal::HostMissing));
        assert_eq!(judge(&Guard::loopback_only([127, 0, 0, 5].into()), "127.0.0.5:1", &[]), Ok(false));
        assert_eq!(
            judge(&Guard::loopback_only([127, 0, 0, 1].into()), "gateway.internal", &[]),
            Err(Refusal::ForeignHost)
        );
    }

    #[test]
    fn s_https_02_origins_of_a_loopback_listener() {
        let guard = guard("[::1]:8080");
        for origin in [
            "http://localhost",
            "https://localhost:3000",
            "http://127.0.0.1:1",
            "http://[::1]:9",
            "HTTP://LocalHost:3000",
            "https://app.example.com",
            "HTTPS://APP.EXAMPLE.COM",
            "vscode-webview://abc",
            "https://mcp.example.com:8443",
        ] {
            assert_eq!(judge(&guard, "localhost", &[origin]), Ok(true), "{origin}");
        }
        for origin in [
            "",
            "null",
            "NULL",
            "http://app.example.com",
            "https://app.example.com:444",
            "https://app.example.com/",
            "https://evil.example",
            "http://localhost.evil.example",
            "http://evil.example#localhost",
            "localhost",
            "file://localhost",
            "ftp://localhost",
            "http://localhost/",
            "http://localhost@evil.example",
            "http://",
            "http://localhost http://evil.example",
            "http://localhost,http://evil.example",
            "https://mcp.example.com",
            "chrome-extension://abc",
        ] {
            assert_eq!(judge(&guard, "localhost", &[origin]), Err(Refusal::ForeignOrigin), "{origin}");
        }
        let doubled = ["http://localhost", "http://localhost"];
        assert_eq!(judge(&guard, "localhost", &doubled), Err(Refusal::ForeignOrigin));
        assert_eq!(judge(&guard, "evil.example", &["http://localhost"]), Err(Refusal::ForeignHost));
    }

    #[test]
    fn s_https_02_a_listener_for_the_network_trusts_no_loopback_name() {
        let guard = guard("10.0.0.1:8080");
        assert_eq!(judge(&guard, "gateway.internal", &["https://app.example.com"]), Ok(true));
        assert_eq!(judge(&guard, "localhost", &[]), Err(Refusal::ForeignHost));
        assert_eq!(
            judge(&guard, "gateway.internal", &["http://localhost:3000"]),
            Err(Refusal::ForeignOrigin)
        );
        let open = Guard::loopback_only([10, 0, 0, 1].into());
        assert_eq!(judge(&open, "whatever.example", &[]), Ok(false));
    }

    #[test]
    fn s_https_02_only_an_allowed_page_may_read_answers() {
        let guard = guard("127.0.0.1:8080");
        let origin = &b"http://localhost:3000"[..];
        let page =
            guard.judge(Some(b"localhost"), std::iter::once(origin)).expect("allowed").expect("a page");
        let find = |headers: &[(&'static str, Cow<'_, str>)], name| {
            headers
                .iter()
                .find(|header| header.0 == name)
                .map(|header| header.1.clone().into_owned())
                .expect("there")
        };
        let answer = page.answer_headers();
        assert_eq!(find(&answer, "access-control-allow-origin"), "http://localhost:3000");
        assert_eq!(find(&answer, "access-control-expose-headers"), "Mcp-Session-Id, WWW-Authenticate");
        assert_eq!(find(&answer, "vary"), "Origin");
        let requested = b"content-type, Mcp-Param-Region, mcp-param-a\r\nb, x-other, mcp-param-";
        let preflight = page.preflight_headers(Some(requested));
        let allowed = find(&preflight, "access-control-allow-headers");
        assert!(allowed.contains("mcp-session-id") && allowed.ends_with(", Mcp-Param-Region"), "{allowed}");
        assert!(page.preflight_headers(Some(&[0xff])).iter().all(|header| !header.1.contains('\u{fffd}')));
    }

    proptest! {
        #[test]
        fn no_other_name_passes(host in "[a-zA-Z0-9.:\\[\\]@-]{0,24}", origin in "[a-z:/.0-9\\[\\]@-]{0,24}") {
            let guard = Guard::loopback_only([127, 0, 0, 1].into());
            let name = host.to_ascii_lowercase();
            if judge(&guard, &host, &[]).is_ok() {
                prop_assert!(["localhost", "127.0.0.1", "[::1]", "[0"].iter().any(|own| name.starts_with(own)));
            }
            if judge(&guard, "localhost", &[&origin]).is_ok() {
                prop_assert!(origin.contains("localhost") || origin.contains("127.0.0.1") || origin.contains("["));
            }
        }
    }
}
