//! Error `-32042`: a call that waits for pages to be visited first (S-ELIC-09).

use super::elicitation::{mapped_id, web_address};
use super::{Asker, Mint, written};
use crate::protocol::json::{Limits, Object, elements};
use crate::protocol::splice::Edit;
use crate::protocol::translate::write_array;

/// Pages that one error may name.
const PAGES: usize = 16;
/// Characters of a server's message that are told where its page is not.
const MESSAGE: usize = 300;

/// What people are told of pages that their client cannot show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlsNeeded {
    /// What the server says they are for; messages that hold an address are left out.
    pub messages: Vec<String>,
}

/// The error object for a client that opens URLs, every identifier the gateway's own; `None` when the error is not what
/// the protocol says, or names an address that must not be passed on.
pub fn url_required(asker: &Asker, error: &Object, mint: &mut Mint<'_>) -> Option<Vec<u8>> {
    let data = error.object("data")?;
    let pages = elements(&data.share("elicitations")?, Limits::NONE).ok()?;
    if pages.is_empty() || pages.len() > PAGES {
        return None;
    }
    let pages: Vec<Vec<u8>> = pages
        .iter()
        .map(|raw| {
            let page = Object::parse(raw.clone(), Limits::default()).ok()?;
            let message = page.text("message")?;
            let mode = page.text("mode")?;
            let id = (mode == "url").then(|| mapped_id(&page, mint).ok())??;
            let mut edit = Edit::of(&page);
            edit.remove("task").remove_meta("progressToken").set_text("elicitationId", &id);
            asker.mark_message(&message, &mut edit);
            asker.mark(&mut edit);
            Some(written(&edit))
        })
        .collect::<Option<_>>()?;
    let mut array = Vec::new();
    write_array(pages.iter().map(|page| &page[..]), &mut array);
    let data = written(Edit::of(&data).set("elicitations", array));
    Some(written(Edit::of(error).set("data", data)))
}

/// A page to be visited before the call is made again, as a question to a stateless client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// By which the server says that it was completed.
    pub id: String,
    /// Parameters of `elicitation/create`, without that.
    pub params: Vec<u8>,
}

/// The pages of such an error for a client that opens URLs and answers by other requests; `None` as for [`url_required`].
pub fn pages_required(asker: &Asker, error: &Object) -> Option<Vec<Page>> {
    let data = error.object("data")?;
    let pages = elements(&data.share("elicitations")?, Limits::NONE).ok()?;
    if pages.is_empty() || pages.len() > PAGES {
        return None;
    }
    let page = |raw: &bytes::Bytes| {
        let page = Object::parse(raw.clone(), Limits::default()).ok()?;
        let (message, id) = (page.text("message")?, page.text("elicitationId")?.into_owned());
        web_address(&page).ok().filter(|()| page.text("mode").as_deref() == Some("url"))?;
        let mut edit = Edit::of(&page);
        edit.remove("task").remove("elicitationId").remove_meta("progressToken");
        asker.mark_message(&message, &mut edit);
        asker.mark(&mut edit);
        Some(Page { id, params: written(&edit) })
    };
    pages.iter().map(page).collect()
}

/// What can be told of such an error to a client that opens no URLs.
pub fn urls_needed(error: &Object) -> UrlsNeeded {
    let data = error.object("data");
    let pages = data.and_then(|data| elements(&data.share("elicitations")?, Limits::NONE).ok());
    let messages = pages.unwrap_or_default().into_iter().take(PAGES).filter_map(|raw| {
        let page = Object::parse(raw, Limits::NONE).ok()?;
        let message = page.text("message")?;
        // Never shown as something to follow (era-bridge §9.6).
        (!message.contains("://")).then(|| message.chars().take(MESSAGE).collect())
    });
    UrlsNeeded { messages: messages.collect() }
}
