//! `gateway.yaml`: read, checked, explained.
//!
//! Owns the file format. Always: a `Settings` value is complete and consistent; every problem of a file is reported at
//! once with line and column. Not here: sockets, processes, clients: those are built from `Settings` by `gateway`.

pub mod bounds;
pub mod listen;
pub mod names;
pub mod profiles;
pub mod secret;
pub mod servers;
pub mod telemetry;

use bounds::Bounds;
use listen::ListenSettings;
use names::NameSettings;
use profiles::ProfileSettings;
use servers::ServerSettings;
use telemetry::TelemetrySettings;

/// Checked configuration; nothing in it needs a further default.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Listeners.
    pub listen: ListenSettings,
    /// Upstreams in the order of the file.
    pub servers: Vec<ServerSettings>,
    /// Profiles in the order of the file.
    pub profiles: Vec<ProfileSettings>,
    /// Public names.
    pub names: NameSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// Limits.
    pub bounds: Bounds,
}
