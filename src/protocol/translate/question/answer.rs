//! A client's answer as the server's revision can read it.

use bytes::Bytes;

use super::sampling::single_block;
use super::written;
use crate::protocol::code::INTERNAL_ERROR;
use crate::protocol::era::Revision;
use crate::protocol::json::{Limits, Object, elements};
use crate::protocol::splice::Edit;
use crate::protocol::translate::write_array;

/// Which answer the server waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expecting {
    /// To `sampling/createMessage`.
    Message,
    /// To `elicitation/create` with a form.
    Form,
    /// To `elicitation/create` with a URL.
    Visit,
    /// To `roots/list`.
    Roots,
}

impl Expecting {
    /// What answers this request.
    pub fn of(method: &str, params: &Object) -> Expecting {
        match method {
            "sampling/createMessage" => Expecting::Message,
            "roots/list" => Expecting::Roots,
            _ if params.text("mode").as_deref() == Some("url") => Expecting::Visit,
            _ => Expecting::Form,
        }
    }
}

/// Whether this can be an answer: of the shape that the newest revision gives it (S-MRTR-09).
pub fn is_answer(expecting: Expecting, raw: &Bytes) -> bool {
    let Ok(result) = Object::parse(raw.clone(), Limits::NONE) else { return false };
    let is_object = |key: &str| result.get(key).is_some_and(|value| value.starts_with(b"{"));
    match expecting {
        Expecting::Form | Expecting::Visit => {
            let known = matches!(result.text("action").as_deref(), Some("accept" | "decline" | "cancel"));
            known && (result.get("content").is_none() || is_object("content"))
        }
        Expecting::Message => {
            let content = result.get("content");
            let is_content = content.is_some_and(|raw| raw.starts_with(b"{") || raw.starts_with(b"["));
            is_content && result.text("role").is_some() && result.text("model").is_some()
        }
        Expecting::Roots => {
            let roots = result.share("roots").and_then(|roots| elements(&roots, Limits::NONE).ok());
            let is_root = |raw: &Bytes| {
                Object::parse(raw.clone(), Limits::NONE).is_ok_and(|root| root.text("uri").is_some())
            };
            roots.is_some_and(|roots| roots.iter().all(is_root))
        }
    }
}

/// The client's result for a server that speaks `revision`, or code and text of the error that it gets instead.
pub fn answer(
    expecting: Expecting,
    revision: Revision,
    result: &Object,
) -> Result<Vec<u8>, (i64, &'static str)> {
    let mut edit = Edit::of(result);
    match expecting {
        Expecting::Message => {
            let content = result.share("content");
            if revision < Revision::V2025_11_25
                && let Some(content) = content
            {
                let block = single_block(&content, revision);
                let block =
                    block.ok_or((INTERNAL_ERROR, "the client's answer has content beyond 2025-06-18"))?;
                if block != content {
                    edit.set("content", block.to_vec());
                }
            }
        }
        // Only a form that was accepted brings content (S-ELIC-06).
        Expecting::Form if result.text("action").as_deref() == Some("accept") => {}
        Expecting::Form | Expecting::Visit => {
            edit.remove("content");
        }
        Expecting::Roots => {
            let roots = result.share("roots").and_then(|roots| elements(&roots, Limits::NONE).ok());
            let roots = roots.ok_or((INTERNAL_ERROR, "the client's answer is no list of roots"))?;
            if let Some(files) = only_files(&roots) {
                edit.set("roots", files);
            }
        }
    }
    Ok(written(&edit))
}

/// The roots without those that are no files, if there are any (S-ROOT-03).
fn only_files(roots: &[Bytes]) -> Option<Vec<u8>> {
    let is_file = |raw: &Bytes| {
        let root = Object::parse(raw.clone(), Limits::NONE).ok()?;
        let scheme = root.text("uri")?.get(..7)?.to_ascii_lowercase();
        (scheme == "file://").then_some(())
    };
    let files: Vec<_> = roots.iter().filter(|raw| is_file(raw).is_some()).collect();
    if files.len() == roots.len() {
        return None;
    }
    let mut out = Vec::new();
    write_array(files.into_iter().map(|raw| &raw[..]), &mut out);
    Some(out)
}
