//! `elicitation/create`: forms that an older client can show, and URLs under identifiers of the gateway.

use super::{Asked, Asking, Mint, invalid, written};
use crate::protocol::code::INTERNAL_ERROR;
use crate::protocol::era::{Era, Revision};
use crate::protocol::json::{Limits, Object, elements, quote};
use crate::protocol::splice::Edit;

/// Identifiers are remembered.
const LONGEST_ID: usize = 1024;
const CANCEL: &[u8] = br#"{"action":"cancel"}"#;

impl Asking<'_> {
    pub(super) fn elicitation(
        &self,
        params: &Object,
        edit: &mut Edit<'_>,
        mint: &mut Mint<'_>,
    ) -> Result<(), Asked> {
        let mode = params.get("mode").map(|_| params.text("mode").unwrap_or_default());
        let message = params.text("message").ok_or(invalid("message must be a string"))?;
        match mode.as_deref() {
            None | Some("form") => self.form(params, edit)?,
            Some("url") => self.url(params, edit, mint)?,
            Some(_) => return Err(invalid("unknown elicitation mode")),
        }
        self.asker.mark_message(&message, edit);
        self.asker.mark(edit);
        Ok(())
    }

    fn form(&self, params: &Object, edit: &mut Edit<'_>) -> Result<(), Asked> {
        if !self.capabilities.elicitation_form() {
            return Err(invalid("the client did not declare form elicitation"));
        }
        let schema = params.object("requestedSchema").ok_or(invalid("requestedSchema must be an object"))?;
        // An identifier has no meaning here, and it is the server's own.
        edit.remove("elicitationId");
        if self.revision < Revision::V2025_11_25 {
            edit.remove("mode");
            if let Some(schema) = older_schema(&schema)? {
                edit.set("requestedSchema", schema);
            }
        }
        Ok(())
    }

    fn url(&self, params: &Object, edit: &mut Edit<'_>, mint: &mut Mint<'_>) -> Result<(), Asked> {
        if !self.capabilities.elicitation_url() {
            return Err(invalid("the client did not declare url elicitation"));
        }
        if self.revision.era() == Era::Stateless {
            // Its clients know the question by the key under which they answer it.
            web_address(params)?;
            edit.remove("elicitationId");
            return Ok(());
        }
        edit.set_text("elicitationId", &mapped_id(params, mint)?);
        Ok(())
    }
}

/// The gateway's identifier for a URL elicitation that may be passed on.
pub(super) fn mapped_id(elicitation: &Object, mint: &mut Mint<'_>) -> Result<String, Asked> {
    web_address(elicitation)?;
    let original = elicitation.text("elicitationId").ok_or(invalid("elicitationId must be a string"))?;
    if original.len() > LONGEST_ID {
        return Err(invalid("elicitationId is too long"));
    }
    mint(&original).ok_or(Asked::Refused(INTERNAL_ERROR, "no identifier can be made"))
}

/// Whether it leads to a page that may be shown.
pub(super) fn web_address(elicitation: &Object) -> Result<(), Asked> {
    let url = elicitation.text("url").ok_or(invalid("url must be a string"))?;
    match is_web_address(&url) {
        true => Ok(()),
        false => Err(invalid("url must be an http or https address")),
    }
}

/// Only what a browser shows as a page: other schemes run programs or reach into the client's machine (S-ELIC-07).
pub(super) fn is_web_address(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let web = ["https", "http"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let plain = !url.chars().any(|c| c.is_control() || c.is_whitespace());
    web && plain && !rest.is_empty() && !rest.starts_with(['/', '?', '#'])
}

/// A form schema of 2025-11-25 in the words of 2025-06-18; `None` when it is so already (S-ELIC-05).
fn older_schema(schema: &Object) -> Result<Option<Vec<u8>>, Asked> {
    let Some(properties) = schema.object("properties") else { return Ok(None) };
    let mut changes = Vec::new();
    for (name, _) in properties.iter() {
        let Some(property) = properties.object(&name) else { continue };
        if let Some(older) = older_property(&property)? {
            changes.push((name.into_owned(), older));
        }
    }
    if changes.is_empty() {
        return Ok(None);
    }
    let mut edit = Edit::of(&properties);
    for (name, older) in &changes {
        edit.set(name, &older[..]);
    }
    Ok(Some(written(Edit::of(schema).set("properties", written(&edit)))))
}

fn older_property(property: &Object) -> Result<Option<Vec<u8>>, Asked> {
    let kind = property.text("type");
    if kind.as_deref() == Some("array") {
        return Err(Asked::Answered(CANCEL));
    }
    let mut edit = Edit::of(property);
    let mut changed = false;
    let mut drop = |key, edit: &mut Edit<'_>| {
        changed |= property.get(key).is_some();
        edit.remove(key);
    };
    drop("pattern", &mut edit);
    if kind.as_deref() != Some("boolean") {
        drop("default", &mut edit);
    }
    if let Some(choices) = property.share("oneOf") {
        let choices = elements(&choices, Limits::NONE).ok();
        let named: Option<Vec<(String, String)>> = choices.and_then(|all| all.iter().map(choice).collect());
        let named = named.ok_or(Asked::Answered(CANCEL))?;
        edit.remove("oneOf");
        edit.set("enum", array_of(named.iter().map(|(value, _)| value)));
        edit.set("enumNames", array_of(named.iter().map(|(_, title)| title)));
        changed = true;
    }
    Ok(changed.then(|| written(&edit)))
}

/// Value and title of one choice.
fn choice(raw: &bytes::Bytes) -> Option<(String, String)> {
    let choice = Object::parse(raw.clone(), Limits::NONE).ok()?;
    let value = choice.text("const")?.into_owned();
    let title = choice.text("title").map_or_else(|| value.clone(), |title| title.into_owned());
    Some((value, title))
}

fn array_of<'t>(texts: impl Iterator<Item = &'t String>) -> Vec<u8> {
    format!("[{}]", texts.map(|text| quote(text)).collect::<Vec<_>>().join(",")).into_bytes()
}
