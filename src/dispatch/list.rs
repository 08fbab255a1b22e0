//! The four lists, from the catalogue alone: no upstream is asked.

use super::{Call, Failure, Outcome, Switchboard};
use crate::catalog::listing::ListKind;
use crate::catalog::pages::BadCursor;
use crate::protocol::era::Revision;

impl Switchboard {
    /// One page of a merged list, as a client of `revision` may see it.
    pub async fn list(&self, call: &Call, kind: ListKind, revision: Revision) -> Result<Outcome, Failure> {
        let view = self.complete_view(&call.client).await?;
        let cursor = match call.params.get("cursor") {
            None => None,
            Some(_) => Some(call.params.text("cursor").ok_or(BadCursor)?),
        };
        Ok(Outcome::Own(view.page(kind, revision, cursor.as_deref())?))
    }
}
