//! Content blocks for clients whose revision knows fewer of them, and the URIs inside.

use bytes::Bytes;
use memchr::memmem;

use super::UriMap;
use super::icons::{self, Icons};
use crate::protocol::era::Revision;
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::splice::Edit;

/// What content is adapted to.
pub(super) struct Adapt<'a> {
    pub(super) revision: Revision,
    pub(super) uris: Option<&'a UriMap<'a>>,
}

impl Adapt<'_> {
    /// Whether `raw` could hold anything that needs a change: a search for words instead of a parse. Where words matter,
    /// an escape could hide one, so an escape counts as a find.
    pub(super) fn could_change(&self, raw: &[u8]) -> bool {
        let words: &[&str] = match self.revision {
            Revision::V2024_11_05 => {
                &["\"audio\"", "\"resource_link\"", "\"_meta\"", "\"lastModified\"", "\\u00"]
            }
            Revision::V2025_03_26 => &["\"resource_link\"", "\"_meta\"", "\"lastModified\"", "\\u00"],
            _ => &["\"icons\"", "\\u00"],
        };
        let holds = |word: &&str| memmem::find(raw, word.as_bytes()).is_some();
        words.iter().any(holds) || (self.uris.is_some() && ["\"uri\"", "\\u00"].iter().any(holds))
    }

    fn map(&self, uri: &str) -> Option<String> {
        self.uris.and_then(|uris| uris(uri))
    }

    /// One content block; `None` leaves it as it is.
    pub(super) fn block(&self, raw: &Bytes) -> Option<Vec<u8>> {
        let block = Object::parse(raw.clone(), Limits::NONE).ok()?;
        let kind = block.text("type")?;
        if kind == "audio" && self.revision < Revision::V2025_03_26 {
            let mime = block.text("mimeType").unwrap_or("audio".into());
            return Some(text_block(&format!(
                "[{mime} content was left out: this client's protocol has no audio]"
            )));
        }
        if kind == "resource_link" && self.revision < Revision::V2025_06_18 {
            return Some(self.link_as_text(&block));
        }
        let mut edit = Edit::of(&block);
        let mut changed = self.common(&block, &mut edit);
        match &*kind {
            "resource_link" => changed |= self.link(&block, &mut edit),
            "resource" => {
                if let Some(resource) = block.share("resource").and_then(|raw| self.contents(&raw)) {
                    edit.set("resource", resource);
                    changed = true;
                }
            }
            _ => {}
        }
        changed.then(|| written(&edit))
    }

    /// One element of `contents`, or the resource inside an embedded one; `None` leaves it as it is.
    pub(super) fn contents(&self, raw: &Bytes) -> Option<Vec<u8>> {
        let contents = Object::parse(raw.clone(), Limits::NONE).ok()?;
        let mut edit = Edit::of(&contents);
        let mut changed = self.common(&contents, &mut edit);
        if let Some(public) = contents.text("uri").and_then(|uri| self.map(&uri)) {
            edit.set_text("uri", &public);
            changed = true;
        }
        changed.then(|| written(&edit))
    }

    /// One message of a prompt; `None` leaves it as it is.
    pub(super) fn message(&self, raw: &Bytes) -> Option<Vec<u8>> {
        let message = Object::parse(raw.clone(), Limits::NONE).ok()?;
        let content = message.share("content").and_then(|content| self.block(&content))?;
        let mut edit = Edit::of(&message);
        edit.set("content", content);
        Some(written(&edit))
    }

    /// What every kind of block may carry since 2025-06-18.
    fn common(&self, block: &Object, edit: &mut Edit<'_>) -> bool {
        if self.revision >= Revision::V2025_06_18 {
            return false;
        }
        edit.remove("_meta");
        let annotations = annotations_without_last_modified(block);
        let changed = annotations.is_some() || block.get("_meta").is_some();
        if let Some(annotations) = annotations {
            edit.set("annotations", annotations);
        }
        changed
    }

    fn link(&self, block: &Object, edit: &mut Edit<'_>) -> bool {
        let mut changed = self.icons(block, edit);
        if let Some(public) = block.text("uri").and_then(|uri| self.map(&uri)) {
            edit.set_text("uri", &public);
            changed = true;
        }
        changed
    }

    /// Icons are as untrusted here as in a list (S-BASE-16), and newer than this client's revision may be.
    fn icons(&self, block: &Object, edit: &mut Edit<'_>) -> bool {
        let Some(icons) = block.share("icons") else { return false };
        let left = match self.revision < Revision::V2025_11_25 {
            true => Icons::Remove,
            false => icons::safe(&icons),
        };
        match left {
            Icons::Keep => return false,
            Icons::Replace(kept) => {
                edit.set("icons", kept);
            }
            Icons::Remove => {
                edit.remove("icons");
            }
        }
        true
    }

    fn link_as_text(&self, block: &Object) -> Vec<u8> {
        let uri = block.text("uri").unwrap_or_default();
        let uri = self.map(&uri).unwrap_or(uri.into_owned());
        match block.text("name") {
            Some(name) => text_block(&format!("{name}: {uri}")),
            None => text_block(&uri),
        }
    }
}

fn written(edit: &Edit<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    edit.write(&mut out);
    out
}

/// `{"type":"text","text":…}`.
pub(super) fn text_block(text: &str) -> Vec<u8> {
    format!(r#"{{"type":"text","text":{}}}"#, quote(text)).into_bytes()
}

/// The new `annotations` of `holder` when they have a `lastModified`.
pub(super) fn annotations_without_last_modified(holder: &Object) -> Option<Vec<u8>> {
    let annotations = holder.object("annotations")?;
    annotations.get("lastModified")?;
    Some(written(Edit::of(&annotations).remove("lastModified")))
}
