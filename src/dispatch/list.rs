//! The four lists, from the catalogue: an upstream is asked only where its own list is no longer good (S-CACHE-04).

use super::{Call, Failure, Outcome, Switchboard};
use crate::catalog::listing::ListKind;
use crate::catalog::pages::BadCursor;
use crate::protocol::caching::Lifetime;
use crate::protocol::era::Revision;

/// Whether any upstream is called with a credential of the caller's own.
const CREDENTIAL_PER_USER: bool = false;

impl Switchboard {
    /// One page of a merged list, as a client of `revision` may see it.
    pub async fn list(&self, call: &Call, kind: ListKind, revision: Revision) -> Result<Outcome, Failure> {
        let view = self.complete_view(&call.client, Some(kind)).await?;
        let cursor = match call.params.get("cursor") {
            None => None,
            Some(_) => Some(call.params.text("cursor").ok_or(BadCursor)?),
        };
        // Who walks through pages stays in the list that he began with, as long as that is there.
        let view = match cursor {
            None => self.catalogue.refreshed(view, kind, self.list_budget).await,
            Some(_) => view,
        };
        let page = view.page(kind, revision, cursor.as_deref())?;
        Ok(Outcome::Lasting(page, self.told(view.lifetime(kind))))
    }

    /// What clients are told of a result to which upstreams contributed this (S-CACHE-02). What upstreams are shown of
    /// the caller is the same for all callers in this release: the credentials that the configuration holds.
    pub(super) fn told(&self, contributed: Lifetime) -> Lifetime {
        let scope = contributed.scope.narrowed(self.policy.filters_by_principal(), CREDENTIAL_PER_USER);
        Lifetime { scope, ..contributed }
    }
}
