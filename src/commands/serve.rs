//! `serve`: the main job.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::{fail, load};
use crate::config::servers::TransportSettings;
use crate::gateway::{self, Addresses};
use crate::telemetry::setup;
use crate::upstream::stdio::check_depth;

pub(super) fn run(config: &Path) -> ExitCode {
    let Some(settings) = load(config) else { return ExitCode::from(2) };
    if let Err(too_deep) = check_depth() {
        return fail(&too_deep.to_string());
    }
    // Dropped last: it sends what is still queued.
    let _telemetry = match setup::install(&settings.telemetry) {
        Ok(guard) => guard,
        Err(error) => return fail(&format!("logs cannot be set up: {error}")),
    };
    let servers: Vec<String> = settings
        .servers
        .iter()
        .map(|server| {
            let transport = match &server.transport {
                TransportSettings::Stdio(_) => "stdio",
                TransportSettings::Http(http) if http.sse => "sse",
                TransportSettings::Http(_) => "http",
            };
            format!("server {} {}", server.name, if server.enabled { transport } else { "disabled" })
        })
        .collect();
    let ready = |addresses: &Addresses| {
        let mut lines = vec![format!("endpoint http://{}/mcp", addresses.data)];
        lines.extend(addresses.admin.map(|admin| format!("admin http://{admin}")));
        lines.extend(servers);
        let mut out = std::io::stdout().lock();
        // Whoever started us may not read what we say.
        let _ = writeln!(out, "{}", lines.join("\n")).and_then(|()| out.flush());
    };
    match actix_rt::System::new().block_on(gateway::serve(settings, ready)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{error:#}")),
    }
}
