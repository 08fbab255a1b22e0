//! What a peer's revision cannot express, adapted (S-LIFE-13, requirements §33).
//!
//! Always: what the peer's revision can express keeps its bytes, and finding that out costs a look at a few members, not
//! a pass over the content. Pure: no catalogue, no session; names and URIs come in as text or as a [`UriMap`]. Not here:
//! capabilities, error codes.

mod content;
pub mod icons;
mod list_item;
pub mod question;
mod result;

pub use list_item::{ItemText, linked_uris, list_item};
pub use result::{
    ClientView, ResultKind, created_task, own_result, own_result_tail, read_result, result, task_result,
};

/// `_meta` keys that belong to one hop (S-BASE-11).
pub const HOP_META: [&str; 8] = [
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
    "io.modelcontextprotocol/serverInfo",
    "io.modelcontextprotocol/subscriptionId",
    "io.modelcontextprotocol/related-task",
];

/// An upstream's URI to the one clients know it by; `None` leaves it as it is.
pub type UriMap<'m> = dyn Fn(&str) -> Option<String> + 'm;

/// The four lists a server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListKind {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

impl ListKind {
    /// Every list, in the order in which arrays by kind hold them.
    pub const ALL: [ListKind; 4] =
        [ListKind::Tools, ListKind::Prompts, ListKind::Resources, ListKind::Templates];

    /// Place in an array by kind.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The method that asks for it.
    pub const fn method(self) -> &'static str {
        match self {
            ListKind::Tools => "tools/list",
            ListKind::Prompts => "prompts/list",
            ListKind::Resources => "resources/list",
            ListKind::Templates => "resources/templates/list",
        }
    }

    /// The list that `method` asks for.
    pub fn of_method(method: &str) -> Option<ListKind> {
        ListKind::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The member of the result that holds the items.
    pub const fn member(self) -> &'static str {
        match self {
            ListKind::Tools => "tools",
            ListKind::Prompts => "prompts",
            ListKind::Resources => "resources",
            ListKind::Templates => "resourceTemplates",
        }
    }

    /// The member of an item that clients call it by.
    pub const fn identity(self) -> &'static str {
        match self {
            ListKind::Tools | ListKind::Prompts => "name",
            ListKind::Resources => "uri",
            ListKind::Templates => "uriTemplate",
        }
    }
}

/// Writes `[a,b,…]` from raw elements.
fn write_array<'e>(elements: impl IntoIterator<Item = &'e [u8]>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(element);
    }
    out.push(b']');
}
