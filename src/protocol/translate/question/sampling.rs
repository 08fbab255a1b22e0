//! `sampling/createMessage` towards clients that know less of it than the server.

use bytes::Bytes;

use super::{Asked, Asking, invalid, written};
use crate::protocol::era::Revision;
use crate::protocol::json::{Limits, Object, elements};
use crate::protocol::splice::Edit;
use crate::protocol::translate::content::{Adapt, text_block};
use crate::protocol::translate::write_array;

const BEYOND: &str = "the client's revision has no way to say this content";

impl Asking<'_> {
    pub(super) fn sampling(&self, params: &Object, edit: &mut Edit<'_>) -> Result<(), Asked> {
        let tools = params.get("tools").is_some() || params.get("toolChoice").is_some();
        if tools && !self.capabilities.sampling_tools() {
            return Err(invalid("the client did not declare sampling.tools"));
        }
        if !params.get("maxTokens").is_some_and(|raw| raw.first().is_some_and(u8::is_ascii_digit)) {
            return Err(invalid("maxTokens must be a number"));
        }
        let messages = params.share("messages").and_then(|raw| elements(&raw, Limits::NONE).ok());
        let Some(messages) = messages else { return Err(invalid("messages must be an array")) };
        let context = params.text("includeContext").is_some_and(|context| context != "none");
        // Behind a gateway `thisServer` would mean every server (S-SAMP-03).
        if context && !(self.asker.context && self.capabilities.sampling_context()) {
            edit.set_text("includeContext", "none");
        }
        if self.revision < Revision::V2025_11_25
            && let Some(messages) = single_blocks(&messages, self.revision).ok_or(invalid(BEYOND))?
        {
            edit.set("messages", messages);
        }
        self.asker.mark(edit);
        Ok(())
    }
}

/// Messages of one block each; outer `None` when that loses something, inner when they are so already.
#[expect(clippy::option_option, reason = "read where it is called, both at once")]
fn single_blocks(messages: &[Bytes], revision: Revision) -> Option<Option<Vec<u8>>> {
    let mut changed = Vec::with_capacity(messages.len());
    for raw in messages {
        let message = Object::parse(raw.clone(), Limits::NONE).ok()?;
        let content = message.share("content")?;
        let block = single_block(&content, revision)?;
        if block == content && message.get("_meta").is_none() {
            changed.push(None);
            continue;
        }
        let mut edit = Edit::of(&message);
        edit.remove("_meta").set("content", &block[..]);
        changed.push(Some(written(&edit)));
    }
    if changed.iter().all(Option::is_none) {
        return Some(None);
    }
    let mut out = Vec::new();
    let all = messages.iter().zip(&changed).map(|(raw, changed)| changed.as_deref().unwrap_or(raw));
    write_array(all, &mut out);
    Some(Some(out))
}

/// Content as the one block that peers before 2025-11-25 know; `None` when they have no words for it (S-SAMP-05).
pub(super) fn single_block(content: &Bytes, revision: Revision) -> Option<Bytes> {
    if content.first() != Some(&b'[') {
        return known_block(content, revision);
    }
    let blocks = elements(content, Limits::NONE).ok()?;
    if let [only] = &blocks[..] {
        return known_block(only, revision);
    }
    let texts: Vec<String> = blocks.iter().map(text_of).collect::<Option<_>>()?;
    (!texts.is_empty()).then(|| text_block(&texts.join("\n")).into())
}

fn known_block(raw: &Bytes, revision: Revision) -> Option<Bytes> {
    let block = Object::parse(raw.clone(), Limits::NONE).ok()?;
    let known = match &*block.text("type")? {
        "text" | "image" => true,
        "audio" => revision >= Revision::V2025_03_26,
        _ => false,
    };
    let adapt = Adapt { revision, uris: None };
    known.then(|| adapt.block(raw).map_or_else(|| raw.clone(), Bytes::from))
}

fn text_of(raw: &Bytes) -> Option<String> {
    let block = Object::parse(raw.clone(), Limits::NONE).ok()?;
    (block.text("type")? == "text").then(|| block.text("text").map(|text| text.into_owned()))?
}
