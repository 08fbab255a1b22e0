//! What a request must have before its body counts.

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, ORIGIN};

use super::Refusal;

fn text(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    request.headers().get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Only programs and pages of this machine may ask: a page of elsewhere shows by its `Host` or `Origin`.
pub(super) fn check(request: &HttpRequest) -> Result<(), Refusal> {
    if !text(request, HOST).is_some_and(is_loopback_authority) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "this Host is not served here"));
    }
    let foreign = text(request, ORIGIN).is_some_and(|origin| {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        !authority.is_some_and(is_loopback_authority)
    });
    if foreign {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "this Origin may not use this server"));
    }
    Ok(())
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback_authority(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

/// A POST carries JSON and takes both forms of answer.
pub(super) fn check_post(request: &HttpRequest) -> Result<(), Refusal> {
    let media_type = text(request, CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/json",
        ));
    }
    if !(accepts(request, "application/json") && accepts(request, "text/event-stream")) {
        let message = "Accept must list application/json and text/event-stream";
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, message));
    }
    Ok(())
}

/// A GET takes a stream.
pub(super) fn check_get(request: &HttpRequest) -> Result<(), Refusal> {
    if accepts(request, "text/event-stream") {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "Accept must list text/event-stream"))
}

fn accepts(request: &HttpRequest, media_type: &str) -> bool {
    let family = media_type.split_once('/').map_or(media_type, |(family, _)| family);
    request
        .headers()
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .any(|range| range == media_type || range == "*/*" || range == format!("{family}/*"))
}

#[cfg(test)]
mod tests {
    use super::is_loopback_authority;

    #[test]
    fn loopback_by_any_name_and_port_and_nothing_else() {
        for good in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "[::1]", "[::1]:9"] {
            assert!(is_loopback_authority(good), "{good}");
        }
        for bad in ["", "null", "evil.example.com", "localhost.evil.example.com", "127.0.0.1.evil:80", "::1"]
        {
            assert!(!is_loopback_authority(bad), "{bad}");
        }
    }
}
