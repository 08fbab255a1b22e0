//! `listen`, `admin`, `public_url`, `origins`, `hosts`, `http_sse`: where the gateway is reached and by whom.

use std::net::{Ipv4Addr, SocketAddr};

use super::WrittenSettings;
use super::address::http_url;
use super::check::Check;
use super::node::{Node, Value};
use super::problem::{Place, Problems};
use super::written::{At, Given, Key, Text, Written, given, inline_schema, wrong_type};

/// The address of a listener as the file writes it; may hold references.
#[derive(Debug)]
pub(super) struct Address(String);

impl Written for Address {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Address(text.clone())),
            // A port alone is no address, with or without quotes.
            _ => wrong_type(
                node,
                place,
                &format!("an address with a port, such as `{DEFAULT_LISTEN}`"),
                problems,
            ),
        }
    }
}

inline_schema! { [] Address, |_generator| schemars::json_schema!({ "type": "string" }); }

/// `listen` when the file says nothing.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// `admin` when the file says nothing.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9090";

/// Checked: the two listeners and what they answer to.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// Data listener. Loopback, because this release has no `auth` (S-HTTPS-03).
    pub data: SocketAddr,
    /// Admin listener, or `None` when `admin: off`.
    pub admin: Option<SocketAddr>,
    /// The address clients use, when it is not `data` (no trailing slash).
    pub public_url: Option<String>,
    /// `Origin` values accepted besides loopback ones, lower case, for example `https://app.example.com`.
    pub origins: Vec<String>,
    /// `Host` names accepted besides loopback ones, lower case, without port.
    pub hosts: Vec<String>,
    /// Whether the data listener serves the HTTP+SSE transport of 2024-11-05 too.
    pub http_sse: bool,
}

/// Checked: the addresses of the listeners alone.
#[derive(Debug, Clone, Copy)]
pub struct Listeners {
    /// Data listener.
    pub data: SocketAddr,
    /// Admin listener, or `None` when `admin: off`.
    pub admin: Option<SocketAddr>,
}

impl Listeners {
    /// Checks `listen` and `admin`.
    pub(super) fn check(written: &WrittenSettings, check: &mut Check<'_>) -> Option<Self> {
        let data = listener(&written.listen, DEFAULT_LISTEN, check);
        let admin = admin(&written.admin, check);
        if let (Some(data), Some(Some(admin))) = (data, admin)
            && data == admin
            && data.port() != 0
            && let Some(written) = given(&written.admin).or(given(&written.listen))
        {
            check.conflict::<()>(
                &written.place,
                "`listen` and `admin` are the same address; choose two ports",
            );
        }
        Some(Listeners { data: data?, admin: admin? })
    }
}

impl ListenSettings {
    /// Checks the top of the file.
    pub(super) fn check(written: &WrittenSettings, check: &mut Check<'_>) -> Option<Self> {
        let listeners = Listeners::check(written, check);
        let public_url = given(&written.public_url).and_then(|url| public_url(url, check));
        let origins = each(&written.origins, origin, check);
        let hosts = each(&written.hosts, host, check);
        let http_sse = given(&written.http_sse).is_none_or(|http_sse| http_sse.value);
        let Listeners { data, admin } = listeners?;
        Some(ListenSettings { data, admin, public_url, origins, hosts, http_sse })
    }
}

fn admin(written: &Key<Address>, check: &mut Check<'_>) -> Option<Option<SocketAddr>> {
    match given(written) {
        Some(text) if text.value.0 == "off" => Some(None),
        _ => listener(written, DEFAULT_ADMIN, check).map(Some),
    }
}

/// The address of a listener: loopback only, as long as nobody can be asked who they are.
fn listener(written: &Key<Address>, default: &str, check: &mut Check<'_>) -> Option<SocketAddr> {
    let text = match written {
        None => return default.parse().ok(),
        Some(Given::Reported) => return None,
        Some(Given::Read(text)) => text,
    };
    let resolved = check.resolve_at(&text.value.0, &text.place)?;
    let address = match resolved.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => resolved.parse().ok(),
    };
    let Some(address) = address else {
        return check.bad(&text.place, format!("expected an address with a port, such as `{default}`"));
    };
    if !address.ip().is_loopback() {
        let advice = format!(
            "use `127.0.0.1:{}`, with a reverse proxy that signs people in before it",
            address.port()
        );
        let reason = "beyond this machine it would need `auth`, which is not served by this release";
        return check.bad(&text.place, format!("must be a loopback address: {reason}; {advice}"));
    }
    Some(address)
}

fn public_url(written: &At<Text>, check: &mut Check<'_>) -> Option<String> {
    let text = check.resolve(written)?;
    match http_url(&text) {
        Ok(url) if url.query().is_some() => check.bad(&written.place, "a public URL has no query (`?…`)"),
        Ok(_) => Some(text.trim_end_matches('/').to_owned()),
        Err(reason) => check.bad(&written.place, reason),
    }
}

fn each(
    list: &Key<Vec<Given<Text>>>,
    one: fn(&At<Text>, &mut Check<'_>) -> Option<String>,
    check: &mut Check<'_>,
) -> Vec<String> {
    let items = given(list).map(|list| list.value.as_slice()).unwrap_or_default();
    items.iter().filter_map(Given::read).filter_map(|item| one(item, check)).collect()
}

fn origin(written: &At<Text>, check: &mut Check<'_>) -> Option<String> {
    let text = check.resolve(written)?.to_ascii_lowercase();
    let bare =
        http_url(&text).is_ok_and(|url| url.path() == "/" && url.query().is_none() && !text.ends_with('/'));
    match text.as_str() {
        "*" | "null" => check.bad(
            &written.place,
            format!("`{text}` would let any web page use the gateway; name each origin, such as `https://app.example.com`"),
        ),
        _ if !bare => {
            check.bad(&written.place, "expected an origin without path or final slash, such as `https://app.example.com`")
        }
        _ => Some(text),
    }
}

fn host(written: &At<Text>, check: &mut Check<'_>) -> Option<String> {
    let text = check.resolve(written)?.to_ascii_lowercase();
    let name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if name || address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()) {
        return Some(text);
    }
    check.bad(
        &written.place,
        "expected a host name without scheme, port or wildcard, such as `mcp.example.com`",
    )
}
