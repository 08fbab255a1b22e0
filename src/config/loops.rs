//! Entries that make the gateway its own server: whoever moves a client's whole file here moves the gateway's entry too.
//!
//! Such a gateway would start itself without end, or list its own tools under ever longer names. Always: only what
//! certainly leads back is refused; a gateway behind a gateway is fine. Not here: ways back that a file does not show,
//! through a proxy or a script, which a running gateway notices (`upstream::identity`, `upstream::stdio`).

use std::path::Path;

use http::Uri;

use super::check::Check;
use super::listen::ListenSettings;
use super::problem::Place;
use super::secret::Secret;
use super::servers::written::WrittenServer;
use super::servers::{ServerSettings, StdioSettings, TransportSettings};
use super::written::{At, Given, Table, given};

const ITSELF: &str =
    "this is the gateway itself; leave the entry out: it belongs to clients, not behind the gateway";

/// Refuses every enabled server that is this gateway.
pub(super) fn refuse(
    table: Option<&At<Table<WrittenServer>>>,
    servers: &[ServerSettings],
    listen: Option<&ListenSettings>,
    check: &mut Check<'_>,
) {
    for (name, written) in table.map(|table| table.value.0.as_slice()).unwrap_or_default() {
        let (Given::Read(written), Some(server)) =
            (written, servers.iter().find(|server| server.enabled && server.name.as_str() == name.value))
        else {
            continue;
        };
        let (text, leads_back) = match &server.transport {
            TransportSettings::Http(http) => (&written.value.url, leads_here(&http.url, listen)),
            TransportSettings::Stdio(stdio) => (&written.value.command, starts_this(stdio, listen, check)),
        };
        if leads_back {
            let place: &Place = given(text).map_or(&written.place, |text| &text.place);
            check.conflict::<()>(place, ITSELF);
        }
    }
}

/// Whether an address is one of this gateway's own.
fn leads_here(url: &str, listen: Option<&ListenSettings>) -> bool {
    let (Some(listen), Ok(url)) = (listen, url.parse::<Uri>()) else { return false };
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let here = host.eq_ignore_ascii_case("localhost") || host.parse() == Ok(listen.data.ip());
    // Nobody else answers there, whatever the path.
    if here && port(&url) == Some(listen.data.port()) {
        return true;
    }
    let public = listen.public_url.as_ref().and_then(|public| public.parse::<Uri>().ok());
    public.is_some_and(|public| {
        let same_host = url.host().zip(public.host()).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b));
        same_host && port(&url) == port(&public) && is_endpoint(url.path(), public.path())
    })
}

/// Whether the path below the public one is where clients come to. Other paths of that host may be other servers.
fn is_endpoint(path: &str, public: &str) -> bool {
    let below = path.strip_prefix(public.trim_end_matches('/')).map(|below| below.trim_start_matches('/'));
    let first = below.map(|below| below.split('/').next().unwrap_or_default());
    matches!(first, Some("" | "mcp" | "sse" | "messages"))
}

fn port(url: &Uri) -> Option<u16> {
    url.port_u16().or(match url.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    })
}

/// Whether a command runs the gateway with this file, or before an address of this gateway.
fn starts_this(stdio: &StdioSettings, listen: Option<&ListenSettings>, check: &Check<'_>) -> bool {
    let environment = check.environment;
    let program = Path::new(&stdio.command);
    let is_gateway = program.file_name().is_some_and(|name| name == "switchyard")
        || environment.executable().is_ok_and(|own| environment.real(program) == environment.real(&own));
    if !is_gateway {
        return false;
    }
    let arguments: Vec<&str> = stdio.args.iter().map(Secret::expose).collect();
    match arguments.iter().find(|argument| !argument.starts_with('-')) {
        None | Some(&("serve" | "stdio")) => {}
        // An option's value may stand where the verb is looked for.
        Some(_) if arguments.first().is_some_and(|first| first.starts_with('-')) => {}
        Some(_) => return false,
    }
    match option(&arguments, &["--url"]) {
        Some(url) => leads_here(url, listen),
        None => {
            let file = option(&arguments, &["--config", "-c"]).unwrap_or("gateway.yaml");
            let folder = stdio.cwd.as_deref().unwrap_or(Path::new(""));
            environment.real(&folder.join(file)) == environment.real(check.file)
        }
    }
}

/// The value of an option, in each of the ways in which it can be written.
fn option<'a>(arguments: &[&'a str], names: &[&str]) -> Option<&'a str> {
    arguments.iter().enumerate().find_map(|(at, argument)| {
        let (name, rest) = names.iter().find_map(|name| Some((*name, argument.strip_prefix(name)?)))?;
        match rest.strip_prefix('=').unwrap_or(rest) {
            "" => arguments.get(at + 1).copied(),
            value if rest.starts_with('=') || !name.starts_with("--") => Some(value),
            _ => None,
        }
    })
}
