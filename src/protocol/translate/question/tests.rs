//! Each row of what becomes of a question, and of its answer.

use bytes::Bytes;

use super::*;
use crate::protocol::json::Limits;

const V24: Revision = Revision::V2024_11_05;
const V25A: Revision = Revision::V2025_03_26;
const V25B: Revision = Revision::V2025_06_18;
const V25C: Revision = Revision::V2025_11_25;

const EVERYTHING: &str =
    r#"{"roots":{},"sampling":{"tools":{},"context":{}},"elicitation":{"form":{},"url":{}}}"#;

fn object(text: &str) -> Object {
    Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
}

fn asker() -> Asker {
    Asker {
        title: "Files".into(),
        title_in_message: true,
        roots: true,
        sampling: true,
        elicitation: true,
        context: true,
    }
}

fn ask_as(asker: &Asker, revision: Revision, capabilities: &str, method: &str, params: &str) -> Asked {
    let capabilities = ClientCapabilities::of(&object(capabilities), revision);
    let asking = Asking { asker, revision, capabilities: &capabilities, token: 7, task: None };
    asking.question(method, &object(params), &mut |original| Some(format!("minted-for-{original}")))
}

fn ask(revision: Revision, capabilities: &str, method: &str, params: &str) -> Asked {
    ask_as(&asker(), revision, capabilities, method, params)
}

fn put(asked: Asked) -> String {
    let Asked::Put(params) = asked else { panic!("it is not put: {asked:?}") };
    object(&String::from_utf8(params.clone()).expect("UTF-8"));
    String::from_utf8(params).expect("UTF-8")
}

fn code(asked: &Asked) -> i64 {
    let Asked::Refused(code, _) = asked else { panic!("it is not refused: {asked:?}") };
    *code
}

fn sample(revision: Revision, messages: &str) -> Asked {
    let params = format!(r#"{{"messages":{messages},"maxTokens":5}}"#);
    ask(revision, r#"{"sampling":{"tools":{}}}"#, "sampling/createMessage", &params)
}

fn form(revision: Revision, properties: &str) -> Asked {
    let schema = format!(r#"{{"type":"object","properties":{properties},"required":["a"]}}"#);
    let params = format!(r#"{{"mode":"form","message":"m","requestedSchema":{schema}}}"#);
    ask(revision, r#"{"elicitation":{}}"#, "elicitation/create", &params)
}

const FORM: &str = r#"{"message":"m","requestedSchema":{"type":"object","properties":{}}}"#;
const PAGE: &str =
    r#"{"mode":"url","message":"m","url":"https://a.example/x?secret=1","elicitationId":"theirs"}"#;
const SAMPLE: &str = r#"{"messages":[],"maxTokens":1}"#;

#[test]
fn s_life_05_what_was_not_declared_or_is_not_allowed_does_not_exist() {
    let questions = [("roots/list", "{}"), ("sampling/createMessage", SAMPLE), ("elicitation/create", FORM)];
    let nothing = Asker { roots: false, sampling: false, elicitation: false, ..asker() };
    for (method, params) in questions {
        assert_eq!(code(&ask(V25C, "{}", method, params)), -32601, "{method}");
        assert_eq!(code(&ask_as(&nothing, V25C, EVERYTHING, method, params)), -32601, "{method}");
        put(ask(V25C, EVERYTHING, method, params));
    }
    for revision in [V24, V25A] {
        assert_eq!(code(&ask(revision, EVERYTHING, "elicitation/create", FORM)), -32601, "{revision}");
    }
    assert_eq!(code(&ask(V25C, EVERYTHING, "tasks/list", "{}")), -32601);
}

#[test]
fn s_elic_01_a_mode_that_was_not_declared_is_refused() {
    let rows = [
        (r#"{"elicitation":{}}"#, FORM, true),
        (r#"{"elicitation":{}}"#, PAGE, false),
        (r#"{"elicitation":{"form":{}}}"#, FORM, true),
        (r#"{"elicitation":{"form":{}}}"#, PAGE, false),
        (r#"{"elicitation":{"url":{}}}"#, FORM, false),
        (r#"{"elicitation":{"url":{}}}"#, PAGE, true),
        (EVERYTHING, r#"{"mode":"voice","message":"m"}"#, false),
        (EVERYTHING, r#"{"mode":7,"message":"m"}"#, false),
        (EVERYTHING, r#"{"mode":"form","message":"m"}"#, false),
        (EVERYTHING, r#"{"requestedSchema":{"type":"object","properties":{}}}"#, false),
    ];
    for (capabilities, params, is_put) in rows {
        let asked = ask(V25C, capabilities, "elicitation/create", params);
        match is_put {
            true => drop(put(asked)),
            false => assert_eq!(code(&asked), -32602, "{capabilities} {params}"),
        }
    }
    assert_eq!(code(&ask(V25B, EVERYTHING, "elicitation/create", PAGE)), -32602);
}

#[test]
fn s_samp_02_tools_are_for_clients_that_declared_them() {
    for member in [r#""tools":[]"#, r#""toolChoice":{"mode":"none"}"#] {
        let params = format!(r#"{{"messages":[],"maxTokens":1,{member}}}"#);
        let method = "sampling/createMessage";
        assert_eq!(code(&ask(V25C, r#"{"sampling":{}}"#, method, &params)), -32602, "{member}");
        assert_eq!(code(&ask(V25B, r#"{"sampling":{"tools":{}}}"#, method, &params)), -32602, "{member}");
        assert!(put(ask(V25C, r#"{"sampling":{"tools":{}}}"#, method, &params)).contains(member));
    }
}

#[test]
fn s_samp_03_context_needs_the_client_and_the_operator() {
    let params = r#"{"messages":[],"includeContext":"allServers","maxTokens":1}"#;
    let without = Asker { context: false, ..asker() };
    let method = "sampling/createMessage";
    let none = r#""includeContext":"none""#;
    assert!(put(ask(V25C, EVERYTHING, method, params)).contains(r#""includeContext":"allServers""#));
    assert!(put(ask_as(&without, V25C, EVERYTHING, method, params)).contains(none));
    assert!(put(ask(V25C, r#"{"sampling":{}}"#, method, params)).contains(none));
    assert!(!put(ask(V25C, r#"{"sampling":{}}"#, method, SAMPLE)).contains("includeContext"));
}

#[test]
fn s_samp_06_a_question_without_its_limit_is_refused() {
    for params in [r#"{"messages":[]}"#, r#"{"messages":[],"maxTokens":"9"}"#, r#"{"maxTokens":1}"#] {
        assert_eq!(code(&ask(V25C, EVERYTHING, "sampling/createMessage", params)), -32602, "{params}");
    }
}

#[test]
fn s_samp_05_older_clients_get_one_block_per_message_or_nothing() {
    let text = r#"{"type":"text","text":"a"}"#;
    let image = r#"{"type":"image","data":"AA==","mimeType":"image/png"}"#;
    let audio = r#"{"type":"audio","data":"AA==","mimeType":"audio/wav"}"#;
    let tool = r#"{"type":"tool_use","id":"1","name":"n","input":{}}"#;
    let message = |content: &str| format!(r#"[{{"role":"user","content":{content}}}]"#);
    let joined = r#"{"type":"text","text":"a\na"}"#;
    let older = [V24, V25A, V25B];
    let rows: [(String, &str, &[Revision]); 7] = [
        (text.into(), text, &older),
        (image.into(), image, &older),
        (format!("[{image}]"), image, &older),
        (format!("[{text},{text}]"), joined, &older),
        (audio.into(), audio, &[V25A, V25B]),
        (tool.into(), tool, &[]),
        (format!("[{text},{image}]"), "", &[]),
    ];
    for (content, expected, fitting) in rows {
        for revision in older {
            let asked = sample(revision, &message(&content));
            if fitting.contains(&revision) {
                assert!(put(asked).contains(&message(expected)), "{revision} {content}");
            } else {
                assert_eq!(code(&asked), -32602, "{revision} {content}");
            }
        }
        assert!(put(sample(V25C, &message(&content))).contains(&message(&content)), "{content}");
    }
    assert_eq!(code(&sample(V25B, &message("[]"))), -32602);
    assert_eq!(code(&sample(V25B, "[7]")), -32602);
}

#[test]
fn s_elic_05_a_form_in_the_words_of_2025_06_18() {
    let rows = [
        (
            r#"{"a":{"type":"string","pattern":"x","default":"y","minLength":1}}"#,
            r#"{"a":{"type":"string","minLength":1}}"#,
        ),
        (
            r#"{"a":{"type":"integer","default":1},"b":{"type":"number","default":1.50}}"#,
            r#"{"a":{"type":"integer"},"b":{"type":"number"}}"#,
        ),
        (r#"{"a":{ "type":"boolean", "default":true }}"#, r#"{"a":{ "type":"boolean", "default":true }}"#),
        (
            r#"{"a":{"type":"string","enum":["x"],"enumNames":["X"]}}"#,
            r#"{"a":{"type":"string","enum":["x"],"enumNames":["X"]}}"#,
        ),
        (r#"{"a":{"type":"string","enum":["x"],"default":"x"}}"#, r#"{"a":{"type":"string","enum":["x"]}}"#),
        (
            r#"{"a":{"type":"string","oneOf":[{"const":"x","title":"X"},{"const":"y","title":"\"Y\""}],"default":"x"}, "b":{"type":"string"}}"#,
            r#"{"a":{"type":"string","enum":["x","y"],"enumNames":["X","\"Y\""]},"b":{"type":"string"}}"#,
        ),
    ];
    for (properties, expected) in rows {
        let older = put(form(V25B, properties));
        assert!(older.contains(&format!(r#""properties":{expected},"required""#)), "{older}");
        assert!(!older.contains("mode"), "{older}");
        let newest = put(form(V25C, properties));
        assert!(newest.contains(&format!(r#""properties":{properties},"required""#)), "{newest}");
        assert!(newest.contains(r#""mode":"form""#), "{newest}");
    }
    for beyond in [
        r#"{"a":{"type":"array","items":{"type":"string","enum":["x"]}}}"#,
        r#"{"a":{"type":"array","items":{"anyOf":[{"const":"x","title":"X"}]}}}"#,
        r#"{"a":{"type":"string","oneOf":[{"title":"X"}]}}"#,
    ] {
        assert_eq!(form(V25B, beyond), Asked::Answered(br#"{"action":"cancel"}"#), "{beyond}");
        put(form(V25C, beyond));
    }
}

#[test]
fn s_elic_10_who_asks_is_said_by_the_gateway() {
    let forged = r#"{"message":"m\"","requestedSchema":{"type":"object","properties":{}},"_meta":{"switchyard/server":"Bank","v/x":1}}"#;
    assert_eq!(
        put(ask(V25C, EVERYTHING, "elicitation/create", forged)),
        r#"{"message":"[Files] m\"","requestedSchema":{"type":"object","properties":{}},"_meta":{"switchyard/server":"Files","v/x":1}}"#
    );
    let plain = Asker { title_in_message: false, ..asker() };
    assert_eq!(
        put(ask_as(&plain, V25C, EVERYTHING, "elicitation/create", FORM)),
        r#"{"message":"m","requestedSchema":{"type":"object","properties":{}},"_meta":{"switchyard/server":"Files"}}"#
    );
    assert_eq!(
        put(ask(V24, EVERYTHING, "sampling/createMessage", SAMPLE)),
        r#"{"messages":[],"maxTokens":1,"_meta":{"switchyard/server":"Files"}}"#
    );
}

#[test]
fn s_elic_07_a_page_has_an_identifier_of_the_gateway_and_an_address_of_the_web() {
    let text = put(ask(V25C, EVERYTHING, "elicitation/create", PAGE));
    assert!(text.contains(r#""elicitationId":"minted-for-theirs""#), "{text}");
    assert!(text.contains(r#""url":"https://a.example/x?secret=1""#), "{text}");
    for bad in [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "vscode://open",
        "https://a b",
        "a",
        "",
    ] {
        let params = format!(r#"{{"mode":"url","message":"m","url":"{bad}","elicitationId":"i"}}"#);
        assert_eq!(code(&ask(V25C, EVERYTHING, "elicitation/create", &params)), -32602, "{bad}");
    }
    let unnamed = r#"{"mode":"url","message":"m","url":"https://a"}"#;
    assert_eq!(code(&ask(V25C, EVERYTHING, "elicitation/create", unnamed)), -32602);
    let stray = r#"{"message":"m","elicitationId":"theirs","requestedSchema":{}}"#;
    assert!(!put(ask(V25C, EVERYTHING, "elicitation/create", stray)).contains("theirs"));
}

#[test]
fn s_prog_07_tokens_and_tasks_stay_on_their_hop() {
    let with = |meta: &str| format!(r#"{{"_meta":{meta},"task":{{"ttl":1}}}}"#);
    let put = |meta: &str| put(ask(V25C, EVERYTHING, "roots/list", &with(meta)));
    assert_eq!(put(r#"{"progressToken":"theirs","a/b":1}"#), r#"{"_meta":{"progressToken":7,"a/b":1}}"#);
    assert_eq!(put(r#"{"progressToken":{},"a/b":1}"#), r#"{"_meta":{"a/b":1}}"#);
    assert_eq!(put(r#"{"io.modelcontextprotocol/related-task":{"taskId":"t"}}"#), "{}");
}

#[test]
fn s_base_17_a_question_that_needs_no_change_keeps_its_bytes() {
    let params = r#"{ "v" : 1.50, "_meta":{ "x/y":1e2 } }"#;
    assert_eq!(put(ask(V25C, EVERYTHING, "roots/list", params)), params);
}

fn answered(expecting: Expecting, revision: Revision, result: &str) -> Result<String, i64> {
    let answer = answer(expecting, revision, &object(result));
    answer.map(|text| String::from_utf8(text).expect("UTF-8")).map_err(|(code, _)| code)
}

#[test]
fn s_samp_05_an_older_server_gets_one_block_or_an_error() {
    let result = |content: &str| format!(r#"{{"role":"assistant","model":"m","content":{content}}}"#);
    let text = r#"{"type":"text","text":"a"}"#;
    let tool = r#"[{"type":"tool_use","id":"1","name":"n","input":{}}]"#;
    let both = result(&format!("[{text},{text}]"));
    assert_eq!(answered(Expecting::Message, V25C, &both), Ok(both.clone()));
    assert_eq!(answered(Expecting::Message, V25B, &both), Ok(result(r#"{"type":"text","text":"a\na"}"#)));
    assert_eq!(answered(Expecting::Message, V24, &result(text)), Ok(result(text)));
    assert_eq!(answered(Expecting::Message, V25B, &result(tool)), Err(-32603));
}

#[test]
fn s_elic_06_content_comes_with_accepted_forms_alone() {
    let accepted = r#"{"action":"accept","content":{"a":["x"],"n":1.50}}"#;
    assert_eq!(answered(Expecting::Form, V25C, accepted), Ok(accepted.into()));
    assert_eq!(answered(Expecting::Visit, V25C, accepted), Ok(r#"{"action":"accept"}"#.into()));
    for action in ["decline", "cancel"] {
        let result = format!(r#"{{"action":"{action}","content":{{"a":1}}}}"#);
        let plain = format!(r#"{{"action":"{action}"}}"#);
        assert_eq!(answered(Expecting::Form, V25C, &result), Ok(plain));
    }
    let rows = [
        ("roots/list", "{}", Expecting::Roots),
        ("sampling/createMessage", "{}", Expecting::Message),
        ("elicitation/create", PAGE, Expecting::Visit),
        ("elicitation/create", FORM, Expecting::Form),
    ];
    for (method, params, expecting) in rows {
        assert_eq!(Expecting::of(method, &object(params)), expecting);
    }
}

#[test]
fn s_root_03_only_files_are_roots() {
    let mixed = r#"{"roots":[{"uri":"file:///a","name":"A"},{"uri":"https://b"},{"name":"c"},7,{"uri":"FILE:///d"}],"x":1}"#;
    assert_eq!(
        answered(Expecting::Roots, V25C, mixed),
        Ok(r#"{"roots":[{"uri":"file:///a","name":"A"},{"uri":"FILE:///d"}],"x":1}"#.into())
    );
    for odd in ["{}", r#"{"roots":"file:///a"}"#, r#"{"roots":null}"#] {
        assert_eq!(answered(Expecting::Roots, V25C, odd), Err(-32603), "{odd}");
    }
    let good = r#"{ "roots" : [ {"uri":"file:///a"} ] }"#;
    assert_eq!(answered(Expecting::Roots, V25C, good), Ok(good.into()));
}

#[test]
fn s_elic_09_the_error_names_pages_by_identifiers_of_the_gateway() {
    let page = |url: &str| format!(r#"{{"mode":"url","elicitationId":"e1","url":"{url}","message":"m"}}"#);
    let error = |pages: &str| {
        format!(r#"{{"code":-32042,"message":"first","data":{{"elicitations":[{pages}],"x":1.0}}}}"#)
    };
    let mut mint = |original: &str| Some(format!("minted-for-{original}"));
    let mut relay = |text: &str| url_required(&asker(), &object(text), &mut mint);
    let relayed = relay(&error(&page("https://a"))).expect("it can be relayed");
    assert_eq!(
        String::from_utf8(relayed).expect("UTF-8"),
        concat!(
            r#"{"code":-32042,"message":"first","data":{"elicitations":[{"mode":"url","elicitationId":"minted-for-e1","#,
            r#""url":"https://a","message":"[Files] m","_meta":{"switchyard/server":"Files"}}],"x":1.0}}"#
        )
    );
    for bad in [error(""), error(&page("file:///a")), error("7"), r#"{"code":-32042,"message":"m"}"#.into()] {
        assert_eq!(relay(&bad), None, "{bad}");
    }
    let linked = r#"{"mode":"url","elicitationId":"e2","url":"https://a","message":"go to https://a"}"#;
    let needed = urls_needed(&object(&error(&format!("{},{linked}", page("https://a")))));
    assert_eq!(needed.messages, ["m"]);
}

#[test]
fn s_mrtr_02_a_question_to_a_stateless_client_names_no_identifier_of_another_hop() {
    const V26: Revision = Revision::V2026_07_28;
    let page = put(ask(V26, EVERYTHING, "elicitation/create", PAGE));
    assert!(!page.contains("elicitationId") && page.contains(r#""mode":"url""#), "{page}");
    let unnamed = r#"{"mode":"url","message":"m","url":"https://a"}"#;
    put(ask(V26, EVERYTHING, "elicitation/create", unnamed));
    let unsafe_page = r#"{"mode":"url","message":"m","url":"javascript:alert(1)","elicitationId":"i"}"#;
    assert_eq!(code(&ask(V26, EVERYTHING, "elicitation/create", unsafe_page)), -32602);
    let with = r#"{"_meta":{"progressToken":"theirs","a/b":1},"task":{"ttl":1}}"#;
    assert_eq!(put(ask(V26, EVERYTHING, "roots/list", with)), r#"{"_meta":{"a/b":1}}"#);
    let form = put(ask(V26, EVERYTHING, "elicitation/create", FORM));
    assert!(form.contains(r#""switchyard/server":"Files""#), "{form}");
    assert_eq!(code(&ask(V26, r#"{"elicitation":{}}"#, "elicitation/create", PAGE)), -32602);
    assert_eq!(code(&ask(V26, r#"{"sampling":{}}"#, "elicitation/create", FORM)), -32601);
}

#[test]
fn s_mrtr_09_an_answer_has_the_shape_of_its_question() {
    let rows = [
        (Expecting::Form, r#"{"action":"accept","content":{"a":1}}"#, true),
        (Expecting::Form, r#"{"action":"decline"}"#, true),
        (Expecting::Form, r#"{"action":"maybe"}"#, false),
        (Expecting::Form, r#"{"action":"accept","content":[1]}"#, false),
        (Expecting::Form, r#"{"content":{}}"#, false),
        (Expecting::Visit, r#"{"action":"cancel"}"#, true),
        (Expecting::Visit, "null", false),
        (
            Expecting::Message,
            r#"{"role":"assistant","model":"m","content":{"type":"text","text":"t"}}"#,
            true,
        ),
        (Expecting::Message, r#"{"role":"assistant","model":"m","content":[]}"#, true),
        (Expecting::Message, r#"{"role":"assistant","content":{"type":"text","text":"t"}}"#, false),
        (Expecting::Message, r#"{"action":"accept"}"#, false),
        (Expecting::Roots, r#"{"roots":[]}"#, true),
        (Expecting::Roots, r#"{"roots":[{"uri":"file:///a"}]}"#, true),
        (Expecting::Roots, r#"{"roots":[7]}"#, false),
        (Expecting::Roots, r#"{"roots":null}"#, false),
        (Expecting::Roots, "12345", false),
        (Expecting::Roots, "[]", false),
    ];
    for (expecting, text, fits) in rows {
        assert_eq!(is_answer(expecting, &Bytes::from_static(text.as_bytes())), fits, "{expecting:?} {text}");
    }
}

#[test]
fn s_elic_09_pages_for_a_stateless_client_keep_their_identifiers_behind() {
    let error = |pages: &str| {
        object(&format!(r#"{{"code":-32042,"message":"m","data":{{"elicitations":[{pages}]}}}}"#))
    };
    let good = r#"{"mode":"url","elicitationId":"e1","url":"https://a","message":"m"}"#;
    let pages = pages_required(&asker(), &error(good)).expect("it can be shown");
    assert_eq!(pages[0].id, "e1");
    assert_eq!(
        String::from_utf8(pages[0].params.clone()).expect("UTF-8"),
        r#"{"mode":"url","url":"https://a","message":"[Files] m","_meta":{"switchyard/server":"Files"}}"#
    );
    for bad in ["", "7", &good.replace("https://a", "file:///a"), &good.replace("\"url\",", "\"form\",")] {
        assert_eq!(pages_required(&asker(), &error(bad)), None, "{bad}");
    }
}
