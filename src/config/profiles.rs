//! `profiles`: named views of the catalogue, each an endpoint `/mcp/{profile}` of its own (S-HTTPS-19).

use globset::GlobSet;

use crate::names::{ProfileName, UpstreamName};

/// Checked: one profile.
#[derive(Debug, Clone)]
pub struct ProfileSettings {
    /// The key in `profiles`, and the last path segment of its endpoint.
    pub name: ProfileName,
    /// Servers it shows, in the order of `servers`.
    pub servers: Vec<UpstreamName>,
    /// Public tool names it shows; `None` shows all.
    pub allow: Option<GlobSet>,
    /// Public tool names it hides; wins over `allow`.
    pub deny: GlobSet,
}
