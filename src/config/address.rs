//! `http` and `https` addresses as settings.

/// An absolute `http` or `https` URL, or the reason why it is none. The reason never quotes the URL.
pub(super) fn http_url(text: &str) -> Result<http::Uri, &'static str> {
    if text.contains('#') {
        return Err("a URL here has no fragment (`#…`)");
    }
    let url: http::Uri =
        text.parse().map_err(|_| "expected an absolute URL such as `https://mcp.example.com/mcp`")?;
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err("the URL must begin with `http://` or `https://`"),
        None => return Err("expected an absolute URL such as `https://mcp.example.com/mcp`"),
    }
    let authority = url.authority().ok_or("the URL names no host")?;
    if authority.as_str().contains('@') {
        return Err("a URL here has no user or password; use `headers` with a `${env:NAME}` reference");
    }
    if authority.host().is_empty() {
        return Err("the URL names no host");
    }
    let has_port = authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port && matches!(authority.port_u16(), None | Some(0)) {
        return Err("the URL's port is not a number from 1 to 65535");
    }
    Ok(url)
}

/// Whether a URL's host is this machine.
pub(super) fn is_loopback(url: &http::Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
