//! One list of one upstream as it was fetched: items that clients can be shown, and why others are left out.
//!
//! Always: every item has what its kind must have (S-TOOL-01), and no two have the same name or URI. One bad item costs
//! itself, never the list: strict clients refuse a whole list for it. Not here: public names (`namespace`), other
//! upstreams (`merge`).

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::freshness::Term;
use crate::names::LocalName;
use crate::protocol::json::Object;
use crate::protocol::task::{Dialect, TaskSupport};
use crate::protocol::translate::icons::{self, Icons};
use crate::protocol::translate::linked_uris;

pub use crate::protocol::translate::ListKind;

/// 128 bits that differ when the content differs.
pub type ContentHash = [u8; 16];

/// A further check of a tool, made by those who know its transport: the reason why it cannot be offered (S-TOOL-16).
pub type ToolCheck<'c> = dyn Fn(&Object) -> Result<(), String> + Send + Sync + 'c;

/// One tool, prompt, resource or template.
#[derive(Debug)]
pub struct Item {
    /// As the upstream wrote it.
    pub object: Object,
    /// Name, URI or URI template, as the upstream knows it.
    pub local: LocalName,
    /// The resources that a tool names in its `_meta` (S-RES-10).
    pub links: Box<[LocalName]>,
    /// What a tool says of tasks, whatever its upstream can do.
    pub task_support: TaskSupport,
    hash: ContentHash,
}

impl Item {
    /// Differs when the item differs.
    pub fn hash(&self) -> &ContentHash {
        &self.hash
    }
}

/// An item that clients are not shown, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which list it was in.
    pub kind: ListKind,
    /// Its name or URI, when it has one.
    pub name: String,
    /// Why, for the operator.
    pub reason: String,
}

/// Why a list is not whole (S-PAGE-04).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Partial {
    /// The upstream gave a cursor that it gave before.
    #[error("the list's cursors go round in circles")]
    Loop,
    /// More pages than `bounds.list_pages`.
    #[error("the list has more pages than the limit")]
    Pages,
    /// More items than `bounds.list_items`.
    #[error("the list has more items than the limit")]
    Items,
}

/// One list, immutable.
#[derive(Debug)]
pub struct Listing {
    /// Which list.
    pub kind: ListKind,
    /// Items in the upstream's order.
    pub items: Vec<Arc<Item>>,
    /// What is not shown, or not whole.
    pub left_out: Vec<LeftOut>,
    /// Set when there was more than was taken.
    pub partial: Option<Partial>,
    /// How long it is good; makes no difference to what it is.
    pub term: Term,
    /// How its upstream makes tasks of calls, if it does.
    pub tasks: Option<Dialect>,
    hash: ContentHash,
}

impl Listing {
    /// Differs when the items, their order, what is left out, or what becomes of calls differ.
    pub fn hash(&self) -> &ContentHash {
        &self.hash
    }

    /// Of an upstream that makes such tasks of calls.
    pub fn with_tasks(mut self, tasks: Option<Dialect>) -> Listing {
        self.tasks = tasks;
        let kind: &[u8] = match tasks {
            None => return self,
            Some(Dialect::Core) => b"core",
            Some(Dialect::Extension) => b"extension",
        };
        self.hash = content_hash([&self.hash[..], kind]);
        self
    }
}

/// Collects items page by page.
pub struct ListingBuilder<'c> {
    listing: Listing,
    read: usize,
    term: Option<Term>,
    seen: HashSet<LocalName>,
    check: &'c ToolCheck<'c>,
}

impl<'c> ListingBuilder<'c> {
    /// An empty list; `check` judges tools.
    pub fn new(kind: ListKind, check: &'c ToolCheck<'c>) -> Self {
        let hash = ContentHash::default();
        let term = Term::UNTIL_TOLD;
        let (items, left_out) = (Vec::new(), Vec::new());
        let listing = Listing { kind, items, left_out, partial: None, term, tasks: None, hash };
        ListingBuilder { listing, read: 0, term: None, seen: HashSet::new(), check }
    }

    /// Notes how long a page of it is good.
    pub fn page_is_good(&mut self, term: Term) {
        self.term = Some(self.term.map_or(term, |others| others.and(term)));
    }

    /// How many items were read, those that are left out included.
    pub fn count(&self) -> usize {
        self.read
    }

    /// Takes one element of the list, or its place when it is no object.
    pub fn push(&mut self, element: Option<Object>) {
        self.read += 1;
        let Some(object) = element else {
            return self.leave_out(String::new(), "not an object");
        };
        let kind = self.listing.kind;
        let identity = object.text(kind.identity()).map(|text| text.into_owned()).unwrap_or_default();
        if identity.is_empty() {
            return self.leave_out(identity, format!("has no {}", kind.identity()));
        }
        if let Err(reason) = self.judge(&object) {
            return self.leave_out(identity, reason);
        }
        let local = LocalName::new(identity);
        if !self.seen.insert(local.clone()) {
            return self.leave_out(local.as_str().to_owned(), "listed twice");
        }
        if object.share("icons").is_some_and(|icons| icons::safe(&icons) != Icons::Keep) {
            self.leave_out(local.as_str().to_owned(), "its unsafe icons are not shown");
        }
        let links = if kind == ListKind::Tools { linked_uris(&object) } else { Vec::new() };
        let links = links.into_iter().map(LocalName::new).collect();
        let task_support = match kind {
            ListKind::Tools => TaskSupport::of_tool(&object),
            _ => TaskSupport::Forbidden,
        };
        let hash = content_hash([object.as_bytes()]);
        self.listing.items.push(Arc::new(Item { object, local, links, task_support, hash }));
    }

    /// The list; `partial` when there was more.
    pub fn finish(mut self, partial: Option<Partial>) -> Listing {
        let items = self.listing.items.iter().map(|item| &item.hash[..]);
        let left_out =
            self.listing.left_out.iter().flat_map(|left| [left.name.as_bytes(), left.reason.as_bytes()]);
        self.listing.hash = content_hash(items.chain([&[partial.is_some() as u8][..]]).chain(left_out));
        self.listing.partial = partial;
        self.listing.term = self.term.unwrap_or(Term::UNTIL_TOLD);
        self.listing
    }

    fn judge(&self, object: &Object) -> Result<(), String> {
        if object.text("name").is_none_or(|name| name.is_empty()) {
            return Err("has no name".to_owned());
        }
        if self.listing.kind != ListKind::Tools {
            return Ok(());
        }
        if object.get("inputSchema").and_then(|schema| schema.first()) != Some(&b'{') {
            return Err("inputSchema is not an object".to_owned());
        }
        (self.check)(object)
    }

    fn leave_out(&mut self, name: String, reason: impl Into<String>) {
        self.listing.left_out.push(LeftOut { kind: self.listing.kind, name, reason: reason.into() });
    }
}

/// A hash of parts, each with its length.
pub(super) fn content_hash<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> ContentHash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut short = ContentHash::default();
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::json::Limits;

    fn listing(kind: ListKind, items: &[&str]) -> Listing {
        let check = |tool: &Object| match tool.get("bad") {
            Some(_) => Err("x-mcp-header is invalid".to_owned()),
            None => Ok(()),
        };
        let mut builder = ListingBuilder::new(kind, &check);
        for item in items {
            builder.push(Object::parse(Bytes::copy_from_slice(item.as_bytes()), Limits::default()).ok());
        }
        builder.finish(None)
    }

    #[test]
    fn s_tool_01_a_bad_tool_costs_itself_alone() {
        let listing = listing(
            ListKind::Tools,
            &[
                r#"{"name":"good","inputSchema":{}}"#,
                r#"{"inputSchema":{}}"#,
                r#"{"name":"","inputSchema":{}}"#,
                r#"{"name":"null","inputSchema":null}"#,
                r#"{"name":"none"}"#,
                r#"{"name":"good","inputSchema":{},"again":1}"#,
                r#"{"name":"header","inputSchema":{},"bad":1}"#,
                "7",
            ],
        );
        assert_eq!(listing.items.len(), 1);
        let reasons: Vec<_> = listing.left_out.iter().map(|left| left.reason.as_str()).collect();
        assert_eq!(
            reasons,
            [
                "has no name",
                "has no name",
                "inputSchema is not an object",
                "inputSchema is not an object",
                "listed twice",
                "x-mcp-header is invalid",
                "not an object"
            ]
        );
    }

    #[test]
    fn s_res_01_resources_need_uri_and_name() {
        let resources = listing(
            ListKind::Resources,
            &[r#"{"uri":"a:b","name":"n"}"#, r#"{"uri":"a:c"}"#, r#"{"name":"n"}"#],
        );
        assert_eq!(resources.items.len(), 1);
        let templates = listing(ListKind::Templates, &[r#"{"uriTemplate":"a:{b}","name":"n"}"#]);
        assert_eq!(templates.items[0].local.as_str(), "a:{b}");
    }
}
