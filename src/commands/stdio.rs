//! `stdio`: the gateway as a program that a client starts, instead of an address that it calls.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{fail, load, settings_of};
use crate::config::reference::ProcessEnvironment;
use crate::config::{self, Reading};
use crate::gateway;
use crate::telemetry::setup;
use crate::upstream::stdio::check_depth;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// No configuration: the one server at this address, its names unchanged
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let settings = match &arguments.url {
        None => load(&arguments.config),
        Some(url) => settings_of(one_server(url)),
    };
    let Some(settings) = settings else { return ExitCode::from(2) };
    if let Err(too_deep) = check_depth() {
        return fail(&too_deep.to_string());
    }
    // Dropped last: it sends what is still queued.
    let _telemetry = match setup::install(&settings.telemetry) {
        Ok(guard) => guard,
        Err(error) => return fail(&format!("logs cannot be set up: {error}")),
    };
    match actix_rt::System::new().block_on(gateway::serve_stdio(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}

/// The configuration of a gateway before one server: checked as a file is, so that there is one set of rules.
fn one_server(url: &str) -> Reading {
    // On a command line nothing is a reference.
    let url = url.replace("${", "$${");
    // There are no listeners, and the address may be the one that a gateway has by default. There is no file to keep
    // state beside.
    let file = json!({ "listen": "127.0.0.1:0", "admin": "off", "state": "memory", "servers": { "server": { "url": url, "prefix": "" } } });
    config::examine(&file.to_string(), Path::new("--url"), &ProcessEnvironment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::servers::TransportSettings;

    #[test]
    fn s_stdio_10_an_address_is_a_whole_configuration() {
        let settings = one_server("http://127.0.0.1:9/mcp?a=${b}").settings.expect("an address");
        let [server] = settings.servers.as_slice() else { panic!("one server: {:?}", settings.servers) };
        assert_eq!(server.prefix, "", "its names stay as they are");
        let TransportSettings::Http(http) = &server.transport else { panic!("{server:?}") };
        assert_eq!(http.url, "http://127.0.0.1:9/mcp?a=${b}");
        assert!(one_server("ftp://127.0.0.1").settings.is_none());
    }
}
