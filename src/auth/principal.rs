//! The authenticated caller, as policy and every table keyed by caller see it.

/// Who is behind a request. Without configured identity providers the gateway binds to loopback only, and whoever can
/// reach it there is the user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The local user.
    Local,
}

impl Principal {
    /// The principal of a key that was kept.
    pub fn of_key(key: &str) -> Option<Principal> {
        (key == "local").then_some(Principal::Local)
    }

    /// What identifiers are bound to, so that they open for nobody else.
    pub fn key(self) -> &'static str {
        match self {
            Principal::Local => "local",
        }
    }
}
