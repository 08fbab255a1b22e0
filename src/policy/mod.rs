//! May this caller do that? The only maker of [`Permit`]s.
//!
//! Always: nothing reaches an upstream without a permit, and a permit names the upstream it is for. Rules over
//! principals, tools and arguments come with the policy engine; until then what a caller's view shows is what it may use.

use crate::auth::principal::Principal;
use crate::names::UpstreamName;

/// Proof that one operation on one upstream was allowed. It cannot be made elsewhere and is used up by the operation.
#[derive(Debug)]
pub struct Permit {
    upstream: UpstreamName,
}

impl Permit {
    /// The upstream it is for.
    pub fn upstream(&self) -> &UpstreamName {
        &self.upstream
    }
}

/// The policy in force.
#[derive(Debug, Default)]
pub struct Policy {}

impl Policy {
    /// Allows the local user what the catalogue view has already resolved for it.
    pub fn authorise(&self, principal: Principal, upstream: &UpstreamName) -> Permit {
        match principal {
            Principal::Local => Permit { upstream: upstream.clone() },
        }
    }

    /// Whether two principals may be shown different lists at one endpoint (S-CACHE-02).
    pub fn filters_by_principal(&self) -> bool {
        false
    }

    /// The gateway's own housekeeping: discovery and listing, on nobody's behalf.
    pub fn own_errand(&self, upstream: &UpstreamName) -> Permit {
        Permit { upstream: upstream.clone() }
    }
}
