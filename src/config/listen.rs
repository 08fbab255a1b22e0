//! `listen`, `admin`, `public_url`, `origins`, `hosts`: where the gateway is reached and by whom.

use std::net::SocketAddr;

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
}
