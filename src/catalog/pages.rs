//! Pages of merged lists: rendered once per revision, shared as bytes, found by sealed cursors.
//!
//! Always: a cursor opens only at the endpoint and list it was made for and while that list is unchanged; altered,
//! foreign and outdated ones are one [`BadCursor`] (S-PAGE-02, S-PAGE-03). No upstream cursor is in it (S-TRUST-02). A
//! page that was rendered before costs one look-up.

use std::sync::Arc;

use bytes::Bytes;

use super::listing::{ContentHash, ListKind};
use super::snapshot::View;
use super::uris::Answering;
use crate::protocol::era::Revision;
use crate::protocol::translate::{ItemText, list_item};
use crate::store::seal::{Purpose, Sealer};

const CURSOR: Purpose = Purpose::new("list cursor");

/// Rendered pages kept, in bytes: several times what a large installation shows.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;

/// Not a cursor of this list as it is now: `-32602`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid or outdated cursor")]
pub struct BadCursor;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PageKey {
    /// Already differs by view and kind.
    list: ContentHash,
    revision: Revision,
    offset: u32,
}

/// What all pages of all snapshots share.
pub struct Pages {
    sealer: Arc<Sealer>,
    size: usize,
    rendered: moka::sync::Cache<PageKey, Bytes>,
}

impl Pages {
    /// Pages of at most `size` items, with cursors sealed by `sealer`.
    pub fn new(sealer: Arc<Sealer>, size: usize) -> Self {
        let rendered = moka::sync::Cache::builder()
            .max_capacity(KEPT_BYTES)
            .weigher(|_, page: &Bytes| u32::try_from(page.len() + 256).unwrap_or(u32::MAX))
            .build();
        Pages { sealer, size: size.max(1), rendered }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("size", &self.size).finish_non_exhaustive()
    }
}

impl View {
    /// One page as the object of a list result, without the members of the stateless hop: `translate::own_result` adds
    /// them. `cursor` is the text of the client's `cursor`.
    pub fn page(&self, kind: ListKind, revision: Revision, cursor: Option<&str>) -> Result<Bytes, BadCursor> {
        let list = &self.lists[kind.index()];
        let offset = match cursor {
            None => 0,
            Some(cursor) => self.open_cursor(list.hash, cursor)?,
        };
        let key = PageKey { list: list.hash, revision, offset };
        if let Some(page) = self.pages.rendered.get(&key) {
            return Ok(page);
        }
        // Many clients may come at once after a change: one renders, the others wait for it.
        Ok(self.pages.rendered.get_with(key, || self.render(kind, revision, offset as usize)))
    }

    fn render(&self, kind: ListKind, revision: Revision, offset: usize) -> Bytes {
        let list = &self.lists[kind.index()];
        let end = list.entries.len().min(offset + self.pages.size);
        let page = &list.entries[offset.min(end)..end];
        let size: usize = page.iter().map(|route| route.item.object.as_bytes().len() + 64).sum();
        let mut out = Vec::with_capacity(size + 256);
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(kind.member().as_bytes());
        out.extend_from_slice(b"\":[");
        let answering = Answering::default();
        for (at, route) in page.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            let uris = |uri: &str| self.uris.public(&route.upstream, uri, &answering, |_| None);
            let text = ItemText { identity: route.public.as_str(), uris: &uris, tasks: route.tasks };
            list_item(kind, &route.item.object, &text, revision, &mut out);
        }
        out.push(b']');
        if end < list.entries.len() {
            out.extend_from_slice(b",\"nextCursor\":\"");
            out.extend_from_slice(self.seal_cursor(list.hash, end).as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
        Bytes::from(out)
    }

    fn seal_cursor(&self, list: ContentHash, offset: usize) -> String {
        let offset = u32::try_from(offset).expect("lists are bounded far below 2^32 items");
        self.pages.sealer.seal(CURSOR, &[&self.endpoint, &hex(list)], &offset.to_be_bytes())
    }

    fn open_cursor(&self, list: ContentHash, cursor: &str) -> Result<u32, BadCursor> {
        let opened = self.pages.sealer.open(CURSOR, &[&self.endpoint, &hex(list)], cursor);
        let payload = opened.map_err(|_| BadCursor)?;
        payload.try_into().map(u32::from_be_bytes).map_err(|_| BadCursor)
    }
}

fn hex(hash: ContentHash) -> String {
    format!("{:032x}", u128::from_be_bytes(hash))
}
