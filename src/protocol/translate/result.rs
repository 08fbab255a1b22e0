//! A result as a client of some revision may see it: content adapted, members of one hop kept on that hop.

use std::borrow::Cow;

use bytes::Bytes;

use super::content::{Adapt, text_block};
use super::{HOP_META, UriMap, write_array};
use crate::protocol::caching::{Hints, Lifetime};
use crate::protocol::era::{Era, Revision};
use crate::protocol::json::{Limits, Object, elements, quote, string};
use crate::protocol::splice::Edit;
use crate::protocol::task::{Dialect, IMMEDIATE_RESPONSE, RELATED_TASK, TaskFacts, related};

const SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// What the gateway must know of a client to write results for it. One per endpoint and revision.
#[derive(Debug, Clone)]
pub struct ClientView {
    /// The revision the client speaks.
    pub revision: Revision,
    /// The gateway's own `Implementation` object, raw: stateless clients see it on every result.
    pub server: Bytes,
}

/// What a result answers, as far as writing it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    /// `tools/call`
    Call,
    /// `prompts/get`
    Prompt,
    /// `resources/read`
    Read,
    /// One of the lists, or `server/discover`.
    List,
    /// Anything else.
    Other,
}

impl ResultKind {
    /// By method name.
    pub fn of_method(method: &str) -> ResultKind {
        match method {
            "tools/call" => ResultKind::Call,
            "prompts/get" => ResultKind::Prompt,
            "resources/read" => ResultKind::Read,
            "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "server/discover" => ResultKind::List,
            _ => ResultKind::Other,
        }
    }

    /// Whether its complete results say how long they are good (S-CACHE-01).
    fn is_cacheable(self) -> bool {
        matches!(self, ResultKind::Read | ResultKind::List)
    }
}

/// Appends an upstream's `result` to `out`. Without `uris` the URIs in it stay as they are.
pub fn result(
    view: &ClientView,
    kind: ResultKind,
    result: &Object,
    uris: Option<&UriMap<'_>>,
    out: &mut Vec<u8>,
) {
    // A server that says nothing of a result does not want it kept.
    write(view, kind, result, None, uris, None, out);
}

/// As [`result`], of a call that became the task of that id, where its client asks for the result of a task (S-TASK-11).
pub fn task_result(
    view: &ClientView,
    result: &Object,
    uris: Option<&UriMap<'_>>,
    task: &str,
    out: &mut Vec<u8>,
) {
    write(view, ResultKind::Call, result, None, uris, Some(task), out);
}

/// Appends the result that says that a call became a task (S-TASK-05, S-TX-03), with words for the model meanwhile: raw, where
/// there are any.
pub fn created_task(view: &ClientView, task: &TaskFacts, immediate: Option<&[u8]>, out: &mut Vec<u8>) {
    let words = immediate.map(|raw| format!(r#""{IMMEDIATE_RESPONSE}":{}"#, String::from_utf8_lossy(raw)));
    let text = match view.revision.era() {
        Era::Handshake => {
            let meta = words.map(|words| format!(r#","_meta":{{{words}}}"#)).unwrap_or_default();
            format!(r#"{{"task":{{{}}}{meta}}}"#, task.members(Dialect::Core))
        }
        Era::Stateless => {
            let server = String::from_utf8_lossy(&view.server);
            let words = words.map(|words| format!(",{words}")).unwrap_or_default();
            let members = task.members(Dialect::Extension);
            format!(r#"{{"resultType":"task",{members},"_meta":{{"{SERVER}":{server}{words}}}}}"#)
        }
    };
    out.extend_from_slice(text.as_bytes());
}

/// As [`result`], of a complete `resources/read` whose lifetime the gateway decided.
pub fn read_result(
    view: &ClientView,
    result: &Object,
    lifetime: Lifetime,
    uris: Option<&UriMap<'_>>,
    out: &mut Vec<u8>,
) {
    write(view, ResultKind::Read, result, Some(lifetime), uris, None, out);
}

fn write(
    view: &ClientView,
    kind: ResultKind,
    result: &Object,
    lifetime: Option<Lifetime>,
    uris: Option<&UriMap<'_>>,
    task: Option<&str>,
    out: &mut Vec<u8>,
) {
    let mut edit = Edit::of(result);
    if result.has_meta() {
        for key in HOP_META {
            edit.remove_meta(key);
        }
    }
    if let Some(task) = task {
        edit.set_meta(RELATED_TASK, related(task).into_bytes());
    }
    match view.revision.era() {
        Era::Handshake => strip_stateless_members(&mut edit),
        Era::Stateless => add_stateless_members(view, kind, result, lifetime, &mut edit),
    }
    let adapt = Adapt { revision: view.revision, uris };
    match kind {
        ResultKind::Call => adapt_call(&adapt, result, &mut edit),
        ResultKind::Prompt => adapt_array(result, "messages", &adapt, Adapt::message, &mut edit),
        ResultKind::Read => adapt_array(result, "contents", &adapt, Adapt::contents, &mut edit),
        ResultKind::List | ResultKind::Other => {}
    }
    edit.write(out);
}

/// Appends an object that the gateway itself made, without members of this hop, to `out`: no parse, whatever its size.
/// `lifetime` is that of a list or of `server/discover`.
pub fn own_result(view: &ClientView, lifetime: Option<Lifetime>, object: &[u8], out: &mut Vec<u8>) {
    let (Some(tail), Some(open)) = (own_result_tail(view, lifetime), object.strip_suffix(b"}")) else {
        out.extend_from_slice(object);
        return;
    };
    out.reserve(object.len() + tail.len());
    out.extend_from_slice(open);
    // The tail begins with a comma.
    out.extend_from_slice(if open.last() == Some(&b'{') { &tail[1..] } else { &tail });
}

/// What stands in the place of the last `}` of a gateway-made object with members, or `None` when the object goes out as
/// it is: so that a large shared list can be sent without a copy.
pub fn own_result_tail(view: &ClientView, lifetime: Option<Lifetime>) -> Option<Vec<u8>> {
    if view.revision.era() == Era::Handshake {
        return None;
    }
    let mut tail = Vec::with_capacity(view.server.len() + 160);
    tail.extend_from_slice(br#","resultType":"complete""#);
    if let Some(lifetime) = lifetime {
        tail.push(b',');
        tail.extend_from_slice(lifetime.members().as_bytes());
    }
    tail.extend_from_slice(format!(r#","_meta":{{"{SERVER}":"#).as_bytes());
    tail.extend_from_slice(&view.server);
    tail.extend_from_slice(b"}}");
    Some(tail)
}

fn strip_stateless_members(edit: &mut Edit<'_>) {
    edit.remove("resultType").remove("ttlMs").remove("cacheScope");
}

fn add_stateless_members<'a>(
    view: &'a ClientView,
    kind: ResultKind,
    result: &'a Object,
    lifetime: Option<Lifetime>,
    edit: &mut Edit<'a>,
) {
    let result_type = result.text("resultType");
    let complete = result_type.as_deref().is_none_or(|kind| kind == "complete");
    if result_type.is_none() {
        edit.set("resultType", &br#""complete""#[..]);
    }
    edit.set_meta(SERVER, &view.server[..]);
    // Results that ask for input are no answer yet and are never kept (S-MRTR-14).
    if !complete {
        edit.remove("ttlMs").remove("cacheScope");
    }
    if !(complete && kind.is_cacheable()) {
        return;
    }
    let said = Hints::of(result);
    let lifetime = lifetime.unwrap_or(Lifetime { ttl: said.ttl.unwrap_or_default(), scope: said.scope });
    let ttl = lifetime.ttl_ms().to_string().into_bytes();
    if result.get("ttlMs") != Some(&ttl) {
        edit.set("ttlMs", ttl);
    }
    if result.get("cacheScope").and_then(string).as_deref() != Some(lifetime.scope.text()) {
        edit.set("cacheScope", quote(lifetime.scope.text()).into_bytes());
    }
}

fn adapt_call(adapt: &Adapt<'_>, result: &Object, edit: &mut Edit<'_>) {
    let structured = result.get("structuredContent");
    let unwanted = structured.filter(|raw| {
        adapt.revision < Revision::V2025_06_18
            || (adapt.revision.era() == Era::Handshake && raw.first() != Some(&b'{'))
    });
    let Some(structured) = unwanted else {
        return adapt_array(result, "content", adapt, Adapt::block, edit);
    };
    edit.remove("structuredContent");
    let blocks =
        result.share("content").and_then(|raw| elements(&raw, Limits::NONE).ok()).unwrap_or_default();
    let mut content: Vec<Cow<'_, [u8]>> =
        blocks.iter().map(|raw| adapt.block(raw).map_or(Cow::Borrowed(&raw[..]), Cow::Owned)).collect();
    // The model must not lose what only the structured part said (S-TOOL-09).
    if !blocks.iter().any(|block| says(block, structured)) {
        content.push(Cow::Owned(text_block(&String::from_utf8_lossy(structured))));
    }
    let mut out = Vec::new();
    write_array(content.iter().map(|block| &block[..]), &mut out);
    edit.set("content", out);
}

/// Whether a block is the structured content as text, however it is spaced.
fn says(block: &Bytes, structured: &[u8]) -> bool {
    let Ok(block) = Object::parse(block.clone(), Limits::NONE) else { return false };
    let Some(text) = block.text("text") else { return false };
    let tree = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).ok();
    tree(text.as_bytes()).is_some_and(|text| Some(text) == tree(structured))
}

/// Rewrites the elements of `key` that need it, if any could.
fn adapt_array<'a, 'u>(
    result: &Object,
    key: &'a str,
    adapt: &Adapt<'u>,
    change: impl Fn(&Adapt<'u>, &Bytes) -> Option<Vec<u8>>,
    edit: &mut Edit<'a>,
) {
    if !result.get(key).is_some_and(|raw| adapt.could_change(raw)) {
        return;
    }
    let Some(Ok(all)) = result.share(key).map(|raw| elements(&raw, Limits::NONE)) else {
        return;
    };
    let changed: Vec<Option<Vec<u8>>> = all.iter().map(|raw| change(adapt, raw)).collect();
    if changed.iter().all(Option::is_none) {
        return;
    }
    let mut out = Vec::new();
    write_array(all.iter().zip(&changed).map(|(old, new)| new.as_deref().unwrap_or(old)), &mut out);
    edit.set(key, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;
    use crate::protocol::caching::Scope;
    use crate::protocol::era::REVISIONS;

    fn view(revision: Revision) -> ClientView {
        ClientView { revision, server: Bytes::from_static(br#"{"name":"gw"}"#) }
    }

    fn mapped(revision: Revision, kind: ResultKind, text: &str, uris: Option<&UriMap<'_>>) -> String {
        let object =
            Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid");
        let mut out = Vec::new();
        result(&view(revision), kind, &object, uris, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    fn seen(revision: Revision, kind: ResultKind, text: &str) -> String {
        mapped(revision, kind, text, None)
    }

    #[test]
    fn s_base_17_what_a_revision_can_say_keeps_its_bytes() {
        let text = r#"{ "content":[ {"type":"text","text":"\u00e9", "x":1.0} ],"structuredContent":{"a":1e2}, "v":null }"#;
        assert_eq!(seen(Revision::V2025_11_25, ResultKind::Call, text), text);
        assert_eq!(seen(Revision::V2025_06_18, ResultKind::Call, text), text);
        assert_eq!(
            seen(Revision::V2026_07_28, ResultKind::Call, text),
            r#"{"content":[ {"type":"text","text":"\u00e9", "x":1.0} ],"structuredContent":{"a":1e2},"v":null,"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"gw"}}}"#
        );
    }

    #[test]
    fn s_life_13_members_of_the_stateless_hop_stay_on_it() {
        let text = r#"{"contents":[],"resultType":"complete","ttlMs":9,"cacheScope":"public","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"up"},"v/x":1}}"#;
        for revision in REVISIONS.into_iter().filter(|revision| revision.era() == Era::Handshake) {
            assert_eq!(seen(revision, ResultKind::Read, text), r#"{"contents":[],"_meta":{"v/x":1}}"#);
        }
        assert_eq!(
            seen(Revision::V2026_07_28, ResultKind::Read, text),
            text.replace(r#"{"name":"up"}"#, r#"{"name":"gw"}"#)
        );
    }

    #[test]
    fn s_task_05_s_tx_03_a_task_is_told_of_in_the_form_of_each_era() {
        let facts = TaskFacts {
            id: "t".into(),
            status: crate::protocol::task::Status::Working,
            message: None,
            created_at: Some("a".into()),
            updated_at: Some("b".into()),
            ttl_ms: Some(5),
            poll_ms: Some(7),
        };
        let told = |revision, words: Option<&[u8]>| {
            let mut out = Vec::new();
            created_task(&view(revision), &facts, words, &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(
            told(Revision::V2025_11_25, None),
            r#"{"task":{"taskId":"t","status":"working","createdAt":"a","lastUpdatedAt":"b","ttl":5,"pollInterval":7}}"#
        );
        assert_eq!(
            told(Revision::V2026_07_28, Some(br#""wait""#)),
            r#"{"resultType":"task","taskId":"t","status":"working","createdAt":"a","lastUpdatedAt":"b","ttlMs":5,"pollIntervalMs":7,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"gw"},"io.modelcontextprotocol/model-immediate-response":"wait"}}"#
        );
    }

    #[test]
    fn s_task_11_s_task_16_a_result_of_a_task_names_it_by_the_clients_own_id() {
        let text =
            r#"{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"theirs"},"v/x":1}}"#;
        let object = Object::parse(text.into(), Limits::default()).expect("valid");
        let mut out = Vec::new();
        task_result(&view(Revision::V2025_11_25), &object, None, "ours", &mut out);
        assert_eq!(String::from_utf8(out).expect("UTF-8"), text.replace("theirs", "ours"));
        assert!(!seen(Revision::V2026_07_28, ResultKind::Call, text).contains("related-task"));
    }

    #[test]
    fn s_cache_01_reads_carry_hints_and_questions_do_not() {
        let read =
            seen(Revision::V2026_07_28, ResultKind::Read, r#"{"contents":[],"ttlMs":-1,"cacheScope":7}"#);
        assert!(read.contains(r#""ttlMs":0,"cacheScope":"private""#), "{read}");
        let asked = seen(
            Revision::V2026_07_28,
            ResultKind::Read,
            r#"{"resultType":"input_required","inputRequests":{}}"#,
        );
        assert!(!asked.contains("ttlMs") && asked.contains(r#""resultType":"input_required""#), "{asked}");
    }

    #[test]
    fn s_cache_02_a_read_says_what_the_gateway_decided_and_no_more_than_that_is_changed() {
        let text = r#"{"contents":[ ],"ttlMs":60000,"cacheScope":"public"}"#;
        let read = |revision, ttl, scope| {
            let object = Object::parse(text.into(), Limits::default()).expect("valid");
            let mut out = Vec::new();
            let lifetime = Lifetime { ttl: Duration::from_millis(ttl), scope };
            read_result(&view(revision), &object, lifetime, None, &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        let told = read(Revision::V2026_07_28, 12_345, Scope::Private);
        assert!(told.starts_with(r#"{"contents":[ ],"ttlMs":12345,"cacheScope":"private""#), "{told}");
        let same = read(Revision::V2026_07_28, 60_000, Scope::Public);
        assert!(same.starts_with(text.trim_end_matches('}')), "{same}");
        assert_eq!(read(Revision::V2025_11_25, 1, Scope::Public), r#"{"contents":[ ]}"#);
    }

    #[test]
    fn s_cache_01_what_the_gateway_made_is_completed_without_a_parse() {
        let kept = Some(Lifetime { ttl: Duration::from_millis(5), scope: Scope::Private });
        let own = |revision, lifetime, text: &str| {
            let mut out = Vec::new();
            own_result(&view(revision), lifetime, text.as_bytes(), &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(own(Revision::V2025_11_25, kept, r#"{"tools":[]}"#), r#"{"tools":[]}"#);
        assert_eq!(
            own(Revision::V2026_07_28, kept, r#"{"tools":[]}"#),
            r#"{"tools":[],"resultType":"complete","ttlMs":5,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"gw"}}}"#
        );
        assert_eq!(
            own(Revision::V2026_07_28, None, "{}"),
            r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"gw"}}}"#
        );
    }

    #[test]
    fn s_tool_09_structured_content_becomes_text_where_it_cannot_be_said() {
        let only = r#"{"structuredContent":{"a":[1,"x"]}}"#;
        assert_eq!(
            seen(Revision::V2025_03_26, ResultKind::Call, only),
            r#"{"content":[{"type":"text","text":"{\"a\":[1,\"x\"]}"}]}"#
        );
        assert_eq!(seen(Revision::V2025_06_18, ResultKind::Call, only), only);
        let array = r#"{"content":[{"type":"image","data":"","mimeType":"a/b"}],"structuredContent":[1]}"#;
        assert_eq!(
            seen(Revision::V2025_11_25, ResultKind::Call, array),
            r#"{"content":[{"type":"image","data":"","mimeType":"a/b"},{"type":"text","text":"[1]"}]}"#
        );
        let with_text = r#"{"content":[{"type":"text","text":"[ 1 ]"}],"structuredContent":[1]}"#;
        assert_eq!(
            seen(Revision::V2025_11_25, ResultKind::Call, with_text),
            r#"{"content":[{"type":"text","text":"[ 1 ]"}]}"#
        );
        let other_text = r#"{"content":[{"type":"text","text":"one"}],"structuredContent":[1]}"#;
        assert_eq!(
            seen(Revision::V2025_11_25, ResultKind::Call, other_text),
            r#"{"content":[{"type":"text","text":"one"},{"type":"text","text":"[1]"}]}"#
        );
        assert!(seen(Revision::V2026_07_28, ResultKind::Call, array).contains(r#""structuredContent":[1]"#));
    }

    #[test]
    fn s_prompt_02_content_types_follow_the_revision() {
        let audio = r#"{"type":"audio","data":"AA==","mimeType":"audio/wav"}"#;
        let link = r#"{"type":"resource_link","name":"doc","uri":"file:///d","icons":[]}"#;
        let text = format!(
            r#"{{"messages":[{{"role":"user","content":{audio}}},{{"role":"user","content":{link}}}]}}"#
        );
        let old = seen(Revision::V2024_11_05, ResultKind::Prompt, &text);
        assert!(!old.contains("AA==") && old.contains("audio/wav content was left out"), "{old}");
        assert!(old.contains(r#"{"type":"text","text":"doc: file:///d"}"#), "{old}");
        let next = seen(Revision::V2025_03_26, ResultKind::Prompt, &text);
        assert!(next.contains(audio) && !next.contains("resource_link"), "{next}");
        let later = seen(Revision::V2025_06_18, ResultKind::Prompt, &text);
        assert!(later.contains(r#""resource_link","name":"doc","uri":"file:///d"}"#), "{later}");
        assert_eq!(seen(Revision::V2025_11_25, ResultKind::Prompt, &text), text);
    }

    #[test]
    fn s_life_13_an_escaped_word_hides_nothing() {
        let text = r#"{"content":[{"type":"\u0061udio","data":"AA==","mimeType":"audio/wav"}]}"#;
        assert!(!seen(Revision::V2024_11_05, ResultKind::Call, text).contains("AA=="));
    }

    #[test]
    fn s_res_05_uris_are_mapped_wherever_a_result_names_one() {
        let uris = |uri: &str| (uri == "file:///a").then(|| "switchyard://b/file:///a".to_owned());
        let cases = [
            (
                ResultKind::Read,
                r#"{"contents":[{"uri":"file:///a","text":"file:///a"},{"uri":"file:///b","text":""}]}"#,
            ),
            (
                ResultKind::Call,
                r#"{"content":[{"type":"resource_link","name":"n","uri":"file:///a"},{"type":"resource","resource":{"uri":"file:///a","text":""}}]}"#,
            ),
            (
                ResultKind::Prompt,
                r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"file:///a","text":""}}}]}"#,
            ),
        ];
        for (kind, text) in cases {
            assert_eq!(
                mapped(Revision::V2025_11_25, kind, text, Some(&uris)),
                text.replace(r#""uri":"file:///a""#, r#""uri":"switchyard://b/file:///a""#)
            );
        }
        let plain = r#"{ "content":[{"type":"text","text":"\"uri\""}] }"#;
        assert_eq!(mapped(Revision::V2025_11_25, ResultKind::Call, plain, Some(&uris)), plain);
    }

    #[test]
    fn s_life_13_metadata_of_blocks_is_dropped_before_it_existed() {
        let text = r#"{"content":[{"type":"text","text":"t","_meta":{"a":1},"annotations":{"priority":1,"lastModified":"x"}},{"type":"resource","resource":{"uri":"u:x","text":"","_meta":{}}}]}"#;
        assert_eq!(
            seen(Revision::V2025_03_26, ResultKind::Call, text),
            r#"{"content":[{"type":"text","text":"t","annotations":{"priority":1}},{"type":"resource","resource":{"uri":"u:x","text":""}}]}"#
        );
    }

    #[test]
    fn s_base_11_s_trust_02_what_belongs_to_the_upstreams_hop_stays_on_it_in_every_revision() {
        let hop = HOP_META.map(|key| format!(r#""{key}":"theirs""#)).join(",");
        let only = format!(r#"{{"content":[],"_meta":{{{hop}}}}}"#);
        let more = format!(r#"{{"content":[],"_meta":{{"vendor/key":1,{hop}}}}}"#);
        for revision in REVISIONS {
            for kind in [ResultKind::Call, ResultKind::Prompt, ResultKind::Read, ResultKind::Other] {
                assert!(!seen(revision, kind, &only).contains("theirs"), "{revision}");
                let seen = seen(revision, kind, &more);
                assert!(seen.contains(r#""vendor/key":1"#) && !seen.contains("theirs"), "{seen}");
            }
        }
        assert_eq!(seen(Revision::V2025_11_25, ResultKind::Call, &only), r#"{"content":[]}"#);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "audio|uri|_meta|resource_link".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[a-z]{1,5}|type|uri|_meta|icons|resource", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn s_base_17_whatever_it_holds_a_current_handshake_client_sees_it_unchanged(
            content in prop::collection::vec(any_json(), 0..4), extra in any_json(), pretty in any::<bool>(),
        ) {
            let tree = serde_json::json!({"content": content, "messages": content, "contents": content, "extra": extra});
            let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) };
            let text = text.expect("serialises");
            // Unsafe icons are taken off, which is another property.
            prop_assume!(!text.contains("icons"));
            for kind in [ResultKind::Call, ResultKind::Prompt, ResultKind::Read, ResultKind::Other] {
                prop_assert_eq!(&mapped(Revision::V2025_11_25, kind, &text, Some(&|_| None)), &text);
            }
        }

        #[test]
        fn every_revision_gets_json_whatever_the_upstream_wrote(tree in prop::collection::vec(any_json(), 0..4)) {
            let tree = serde_json::json!({"content": tree, "messages": tree, "contents": tree, "structuredContent": tree});
            let text = tree.to_string();
            for revision in REVISIONS {
                for kind in [ResultKind::Call, ResultKind::Prompt, ResultKind::Read] {
                    let seen = mapped(revision, kind, &text, Some(&|uri| Some(format!("x{uri}"))));
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&seen).is_ok(), "{}", seen);
                }
            }
        }
    }
}
