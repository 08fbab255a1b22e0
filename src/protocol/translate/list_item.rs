//! One tool, prompt, resource or template as a client of some revision may see it.

use std::borrow::Cow;

use bytes::Bytes;

use super::icons::{self, Icons};
use super::{ListKind, UriMap, content, write_array};
use crate::protocol::era::{Era, Revision};
use crate::protocol::json::{Limits, Object, elements, quote};
use crate::protocol::splice::Edit;
use crate::protocol::task::TaskSupport;

/// What of an item is replaced by the gateway's words.
pub struct ItemText<'t> {
    /// Public name, URI or URI template.
    pub identity: &'t str,
    /// For URIs that a tool's `_meta` refers to (S-RES-10).
    pub uris: &'t UriMap<'t>,
    /// Whether a tool's calls can be tasks.
    pub tasks: TaskSupport,
}

/// Appends `item` to `out`; what needs no change keeps its bytes.
pub fn list_item(kind: ListKind, item: &Object, text: &ItemText<'_>, revision: Revision, out: &mut Vec<u8>) {
    let mut edit = Edit::of(item);
    if item.text(kind.identity()).as_deref() != Some(text.identity) {
        edit.set(kind.identity(), quote(text.identity).into_bytes());
    }
    adapt_execution(item, text.tasks, revision, &mut edit);
    adapt_icons(item, revision, &mut edit);
    if revision < Revision::V2025_06_18 {
        edit.remove("title").remove("outputSchema").remove("_meta");
        drop_later_annotations(item, &mut edit);
        drop_argument_titles(kind, item, &mut edit);
    } else {
        map_linked_uris(kind, item, text.uris, &mut edit);
    }
    if kind == ListKind::Tools {
        if revision < Revision::V2025_03_26 {
            edit.remove("annotations");
        }
        if revision.era() == Era::Handshake && !has_object_output(item) {
            edit.remove("outputSchema");
        }
    }
    edit.write(out);
}

/// Only 2025-11-25 knows it, and nothing else has been said in it so far (S-TOOL-12, S-TASK-03).
fn adapt_execution(item: &Object, tasks: TaskSupport, revision: Revision, edit: &mut Edit<'_>) {
    if revision != Revision::V2025_11_25 || tasks == TaskSupport::Forbidden {
        edit.remove("execution");
    } else if TaskSupport::of_tool(item) != tasks {
        edit.set("execution", format!(r#"{{"taskSupport":"{}"}}"#, tasks.text()).into_bytes());
    }
}

fn adapt_icons(item: &Object, revision: Revision, edit: &mut Edit<'_>) {
    if revision < Revision::V2025_11_25 {
        edit.remove("icons");
        return;
    }
    let Some(raw) = item.share("icons") else { return };
    match icons::safe(&raw) {
        Icons::Keep => {}
        Icons::Replace(kept) => {
            edit.set("icons", kept);
        }
        Icons::Remove => {
            edit.remove("icons");
        }
    }
}

/// `lastModified` came with 2025-06-18.
fn drop_later_annotations(item: &Object, edit: &mut Edit<'_>) {
    if let Some(annotations) = content::annotations_without_last_modified(item) {
        edit.set("annotations", annotations);
    }
}

/// Arguments of prompts have a `title` since 2025-06-18.
fn drop_argument_titles(kind: ListKind, item: &Object, edit: &mut Edit<'_>) {
    if kind != ListKind::Prompts {
        return;
    }
    let Some(Ok(arguments)) = item.share("arguments").map(|raw| elements(&raw, Limits::NONE)) else {
        return;
    };
    let plain: Vec<Cow<'_, [u8]>> = arguments.iter().map(without_title).collect();
    if plain.iter().any(|argument| matches!(argument, Cow::Owned(_))) {
        let mut out = Vec::new();
        write_array(plain.iter().map(|argument| &argument[..]), &mut out);
        edit.set("arguments", out);
    }
}

fn without_title(argument: &Bytes) -> Cow<'_, [u8]> {
    match Object::parse(argument.clone(), Limits::NONE) {
        Ok(object) if object.get("title").is_some() => {
            let mut out = Vec::new();
            Edit::of(&object).remove("title").write(&mut out);
            Cow::Owned(out)
        }
        _ => Cow::Borrowed(argument),
    }
}

/// Until 2025-11-25 an output schema describes an object.
fn has_object_output(item: &Object) -> bool {
    item.get("outputSchema").is_none()
        || item.object("outputSchema").is_some_and(|schema| schema.text("type").as_deref() == Some("object"))
}

/// Members of a tool's `_meta` whose text names a resource: of the Apps extension, and of the hosts that had it before.
const LINKS: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];
/// The member that does so one level deeper.
const UI: &str = "ui";
const RESOURCE_URI: &str = "resourceUri";

/// The resources that a tool's `_meta` names, each once (S-RES-10).
pub fn linked_uris(tool: &Object) -> Vec<String> {
    if !tool.has_meta() {
        return Vec::new();
    }
    let flat = LINKS.into_iter().filter_map(|key| Some(tool.meta_text(key)?.into_owned()));
    let nested = ui_object(tool).and_then(|ui| ui.text(RESOURCE_URI).map(Cow::into_owned));
    let mut uris = Vec::new();
    for uri in flat.chain(nested) {
        if !uris.contains(&uri) {
            uris.push(uri);
        }
    }
    uris
}

fn ui_object(tool: &Object) -> Option<Object> {
    Object::parse(Bytes::copy_from_slice(tool.meta(UI)?), Limits::NONE).ok()
}

fn map_linked_uris(kind: ListKind, item: &Object, uris: &UriMap<'_>, edit: &mut Edit<'_>) {
    if kind != ListKind::Tools || !item.has_meta() {
        return;
    }
    for key in LINKS {
        if let Some(public) = item.meta_text(key).and_then(|uri| uris(&uri)) {
            edit.set_meta(key, quote(&public).into_bytes());
        }
    }
    let Some(ui) = ui_object(item) else { return };
    if let Some(public) = ui.text(RESOURCE_URI).and_then(|uri| uris(&uri)) {
        let mut out = Vec::new();
        Edit::of(&ui).set_text(RESOURCE_URI, &public).write(&mut out);
        edit.set_meta(UI, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::era::REVISIONS;

    const TOOL: &str = r#"{"name":"t" ,"title":"T","description":"d","inputSchema":{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}},"outputSchema":{"type":"object"},"annotations":{"readOnlyHint":true},"icons":[{"src":"https://a"}],"execution":{"taskSupport":"optional"},"_meta":{"v/x":1},"vendor":1.50}"#;

    fn seen(kind: ListKind, item: &str, identity: &str, revision: Revision) -> String {
        let item = Object::parse(Bytes::copy_from_slice(item.as_bytes()), Limits::default()).expect("valid");
        let uris = |uri: &str| (uri == "ui://taken").then(|| "switchyard://s/ui://taken".to_owned());
        let mut out = Vec::new();
        let text = ItemText { identity, uris: &uris, tasks: TaskSupport::Forbidden };
        list_item(kind, &item, &text, revision, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn s_task_03_a_tool_shows_what_becomes_of_its_calls_to_those_alone_who_can_wish_for_tasks() {
        let shown = |item: &str, tasks, revision| {
            let item =
                Object::parse(Bytes::copy_from_slice(item.as_bytes()), Limits::default()).expect("valid");
            let mut out = Vec::new();
            list_item(
                ListKind::Tools,
                &item,
                &ItemText { identity: "t", uris: &|_| None, tasks },
                revision,
                &mut out,
            );
            String::from_utf8(out).expect("UTF-8")
        };
        let bare = r#"{"name":"t","inputSchema":{}}"#;
        let said = |word: &str| {
            format!(r#"{{"name":"t","inputSchema":{{}},"execution":{{"taskSupport":"{word}"}}}}"#)
        };
        for tasks in [TaskSupport::Optional, TaskSupport::Required] {
            assert_eq!(shown(bare, tasks, Revision::V2025_11_25), said(tasks.text()));
            assert_eq!(shown(&said("optional"), tasks, Revision::V2025_11_25), said(tasks.text()));
            for revision in REVISIONS.into_iter().filter(|other| *other != Revision::V2025_11_25) {
                assert!(!shown(&said("optional"), tasks, revision).contains("execution"), "{revision}");
            }
        }
        assert_eq!(shown(&said("required"), TaskSupport::Forbidden, Revision::V2025_11_25), bare);
    }

    fn keys(text: &str) -> Vec<String> {
        let object =
            Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid");
        object.iter().map(|(key, _)| key.into_owned()).collect()
    }

    #[test]
    fn s_life_13_a_tool_shows_the_fields_of_each_revision() {
        let expected = [
            "name description inputSchema vendor",
            "name description inputSchema annotations vendor",
            "name title description inputSchema outputSchema annotations _meta vendor",
            "name title description inputSchema outputSchema annotations icons _meta vendor",
            "name title description inputSchema outputSchema annotations icons _meta vendor",
        ];
        for (revision, expected) in REVISIONS.into_iter().zip(expected) {
            let text = seen(ListKind::Tools, TOOL, "p__t", revision);
            assert_eq!(keys(&text).join(" "), expected, "{revision}");
            assert!(
                text.contains(r#""name":"p__t""#) && text.contains(r#""x-mcp-header":"A""#),
                "{revision}"
            );
        }
    }

    #[test]
    fn s_base_13_an_item_that_needs_no_change_keeps_its_bytes() {
        let item = r#"{ "name":"t", "inputSchema":{"$schema":"x","allOf":[ ],"if":{}},"n":1e2 }"#;
        for revision in REVISIONS {
            assert_eq!(seen(ListKind::Tools, item, "t", revision), item);
        }
    }

    #[test]
    fn s_tool_09_an_output_schema_that_is_no_object_is_for_the_newest_alone() {
        for schema in [r#"{"type":"array"}"#, "true", r#"{"anyOf":[]}"#] {
            let item = format!(r#"{{"name":"t","inputSchema":{{}},"outputSchema":{schema}}}"#);
            assert!(!seen(ListKind::Tools, &item, "t", Revision::V2025_11_25).contains("outputSchema"));
            assert_eq!(seen(ListKind::Tools, &item, "t", Revision::V2026_07_28), item);
        }
    }

    #[test]
    fn s_base_16_icons_lose_what_is_unsafe() {
        let item = r#"{"name":"t","icons":[{"src":"javascript:x"}],"inputSchema":{}}"#;
        assert_eq!(
            seen(ListKind::Tools, item, "t", Revision::V2026_07_28),
            r#"{"name":"t","inputSchema":{}}"#
        );
    }

    #[test]
    fn s_prompt_01_arguments_lose_their_titles_for_older_clients() {
        let item = r#"{"name":"p","arguments":[{"name":"a","title":"A","required":true},{"name":"b"}]}"#;
        assert_eq!(seen(ListKind::Prompts, item, "p", Revision::V2025_06_18), item);
        assert_eq!(
            seen(ListKind::Prompts, item, "x__p", Revision::V2025_03_26),
            r#"{"name":"x__p","arguments":[{"name":"a","required":true},{"name":"b"}]}"#
        );
    }

    #[test]
    fn s_res_05_resources_and_templates_change_their_uri_and_not_their_name() {
        let item = r#"{"name":"r","uri":"file:///a","annotations":{"priority":1,"lastModified":"2025"}}"#;
        assert_eq!(
            seen(ListKind::Resources, item, "switchyard://s/file:///a", Revision::V2024_11_05),
            r#"{"name":"r","uri":"switchyard://s/file:///a","annotations":{"priority":1}}"#
        );
        let item = r#"{"name":"r","uriTemplate":"file:///{a}"}"#;
        assert_eq!(seen(ListKind::Templates, item, "file:///{a}", Revision::V2024_11_05), item);
    }

    #[test]
    fn s_res_10_a_tools_user_interface_follows_its_resource() {
        let item = r#"{"name":"t","inputSchema":{},"_meta":{"ui":{"resourceUri":"ui://taken","visibility":["model"]},"ui/resourceUri":"ui://taken","openai/outputTemplate":"ui://taken"}}"#;
        assert_eq!(
            seen(ListKind::Tools, item, "t", Revision::V2025_11_25),
            item.replace("ui://taken", "switchyard://s/ui://taken")
        );
        let item = r#"{"name":"t","inputSchema":{},"_meta":{"ui":{"resourceUri":"ui://free"}}}"#;
        assert_eq!(seen(ListKind::Tools, item, "t", Revision::V2025_11_25), item);
    }

    #[test]
    fn s_res_10_every_resource_that_a_tools_metadata_names_is_found_once() {
        let links = |meta: &str| {
            let tool = format!(r#"{{"name":"t","_meta":{meta}}}"#);
            linked_uris(&Object::parse(tool.into(), Limits::default()).expect("valid"))
        };
        assert_eq!(links(r#"{"ui":{"resourceUri":"ui://a"},"ui/resourceUri":"ui://a"}"#), ["ui://a"]);
        assert_eq!(
            links(r#"{"openai/outputTemplate":"ui://b","ui":{"resourceUri":"ui://a"}}"#),
            ["ui://b", "ui://a"]
        );
        assert!(links(r#"{"ui":7,"ui/resourceUri":{},"vendor/uri":"ui://c"}"#).is_empty());
    }
}
