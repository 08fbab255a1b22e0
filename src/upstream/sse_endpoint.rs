//! Where messages go to over HTTP+SSE: what an `endpoint` event may say (S-SSE-04).
//!
//! Always: it leads to a path on the origin that was asked, never elsewhere, however it is written; what cannot be read
//! without guessing is refused. Not here: waiting for the event.

use http::Uri;
use http::uri::PathAndQuery;

/// Longer ones are refused.
const LONGEST: usize = 8 * 1024;

/// Why an `endpoint` event leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndpointFault {
    /// Not a URL or path.
    #[error("its endpoint event names no address")]
    Unreadable,
    /// Messages, and the credentials with them, would go to somebody else.
    #[error("its endpoint event names another origin")]
    OtherOrigin,
}

/// Resolves what the event says against the URL that the stream came from.
pub(super) fn resolve(base: &Uri, said: &[u8]) -> Result<PathAndQuery, EndpointFault> {
    let text = std::str::from_utf8(said).map_err(|_| EndpointFault::Unreadable)?.trim();
    // Browsers read a backslash as a slash and drop line breaks; nobody honest writes either.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let text = text.split('#').next().unwrap_or_default();
    if !is_plain || text.is_empty() || text.len() > LONGEST {
        return Err(EndpointFault::Unreadable);
    }
    let scheme = base.scheme_str().unwrap_or_default();
    let resolved = if has_scheme(text) {
        same_origin(base, text)?
    } else if text.starts_with("//") {
        same_origin(base, &format!("{scheme}:{text}"))?
    } else if text.starts_with('/') {
        text.to_owned()
    } else if text.starts_with('?') {
        format!("{}{text}", base.path())
    } else {
        let folder = base.path().rfind('/').map_or("/", |end| &base.path()[..=end]);
        format!("{folder}{text}")
    };
    without_dots(&resolved).parse().map_err(|_| EndpointFault::Unreadable)
}

/// Whether a colon stands before anything that could not be part of a scheme.
fn has_scheme(text: &str) -> bool {
    let end = text.find([':', '/', '?']);
    end.is_some_and(|end| text.as_bytes()[end] == b':')
}

/// Path and query of an absolute URL on the base's origin.
fn same_origin(base: &Uri, text: &str) -> Result<String, EndpointFault> {
    let uri: Uri = text.parse().map_err(|_| EndpointFault::Unreadable)?;
    let authority = uri.authority().ok_or(EndpointFault::Unreadable)?;
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let same_host = base.host().is_some_and(|host| host.eq_ignore_ascii_case(authority.host()));
    let same_scheme = uri.scheme() == base.scheme();
    if authority.as_str().contains('@') || !same_host || !same_scheme || port(&uri) != port(base) {
        return Err(EndpointFault::OtherOrigin);
    }
    Ok(uri.path_and_query().map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned()))
}

/// Resolves `.` and `..` in the path.
fn without_dots(path_and_query: &str) -> String {
    let end = path_and_query.find('?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at(end);
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    // What ends with dots names a folder.
    let folder = if path.ends_with("/.") || path.ends_with("/..") { "/" } else { "" };
    let folder = if kept.last() == Some(&"") { "" } else { folder };
    let path = kept.join("/");
    match path.is_empty() {
        true => format!("/{query}"),
        false => format!("/{path}{folder}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(base: &str, said: &str) -> Result<String, EndpointFault> {
        resolve(&base.parse().expect("a URL"), said.as_bytes()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn s_sse_04_an_endpoint_is_resolved_against_the_url_of_its_stream() {
        let base = "http://mcp.example.com:8080/api/v1/sse?key=1";
        for (said, expected) in [
            ("/messages?sessionId=abc", "/messages?sessionId=abc"),
            ("messages?sessionId=abc", "/api/v1/messages?sessionId=abc"),
            ("?sessionId=abc", "/api/v1/sse?sessionId=abc"),
            ("./messages", "/api/v1/messages"),
            ("../messages/?a=../b", "/api/messages/?a=../b"),
            ("../../../../messages", "/messages"),
            ("..", "/api/"),
            (" /messages ", "/messages"),
            ("/messages#part", "/messages"),
            ("/a:b/c", "/a:b/c"),
            ("/messages?next=http://elsewhere.example", "/messages?next=http://elsewhere.example"),
            ("http://mcp.example.com:8080/m?s=1", "/m?s=1"),
            ("HTTP://MCP.example.COM:8080", "/"),
            ("//mcp.example.com:8080/m", "/m"),
        ] {
            assert_eq!(resolved(base, said).as_deref(), Ok(expected), "{said}");
        }
        assert_eq!(resolved("https://a.example/sse", "https://a.example:443/m").as_deref(), Ok("/m"));
        assert_eq!(resolved("http://a.example:80", "//a.example/m").as_deref(), Ok("/m"));
    }

    #[test]
    fn s_sse_04_no_endpoint_leads_to_another_origin() {
        let base = "https://mcp.example.com/sse";
        for said in [
            "https://evil.example/messages",
            "http://mcp.example.com/messages",
            "https://mcp.example.com:8443/messages",
            "https://mcp.example.com.evil.example/messages",
            "https://mcp.example.com@evil.example/messages",
            "https://user:password@mcp.example.com/messages",
            "//evil.example/messages",
            "//evil.example",
        ] {
            assert_eq!(resolved(base, said), Err(EndpointFault::OtherOrigin), "{said}");
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        for said in [
            "",
            " ",
            "#part",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https:messages",
            "/\\evil.example/messages",
            "\\\\evil.example",
            "/messages\r\nHost: evil.example",
            "/mess ages",
            "/nachrichten/zwölf",
            &long,
        ] {
            assert!(resolved(base, said).is_err(), "{said:?}");
        }
        assert!(resolve(&base.parse().expect("a URL"), b"/\xff").is_err());
    }

    #[test]
    fn a_path_that_looks_like_a_host_stays_a_path() {
        // The connection is the base's whatever the path says.
        assert_eq!(
            resolved("http://a.example/sse", "/..//evil.example/m").as_deref(),
            Ok("//evil.example/m")
        );
    }
}
