//! Elicitation by form: modes, schemas, conversions, who asks, and how often (S-ELIC-01 to -06, -10, -14).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::question;
use crate::support::json::raw_at;
use crate::support::{HANDSHAKE, TRANSPORTS, Transport, gateway, http_upstream, upstream, within};

const METHOD: &str = "elicitation/create";

fn form() -> Value {
    form_of(json!({ "name": { "type": "string" } }))
}

fn form_of(properties: Value) -> Value {
    json!({ "message": "Who?", "requestedSchema": { "type": "object", "properties": properties } })
}

fn url() -> Value {
    json!({ "mode": "url", "message": "Sign in", "url": "https://example.com/in?secret=1", "elicitationId": "e-1" })
}

fn accept() -> Value {
    json!({ "action": "accept", "content": { "name": "Ada" } })
}

#[tokio::test]
async fn s_elic_01_an_upstream_is_offered_exactly_the_modes_of_the_client() {
    let (neither, form_only) = (json!({}), json!({ "form": {} }));
    let (url_only, both) = (json!({ "url": {} }), json!({ "form": {}, "url": {} }));
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for (modes, takes_form, takes_url) in [
            (&neither, true, false),
            (&form_only, true, false),
            (&url_only, false, true),
            (&both, true, true),
        ] {
            let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": modes })).await;
            client.until_tools(&["one__echo"]).await;
            for (params, takes, answer) in
                [(form(), takes_form, accept()), (url(), takes_url, json!({ "action": "accept" }))]
            {
                let asked = client.asked("one__echo", question(METHOD, &params), &answer).await;
                match takes {
                    true => {
                        asked.question();
                        assert_eq!(asked.told[0]["result"], answer, "{modes}: {params}");
                    }
                    false => asked.expect_refused(-32602),
                }
            }
            let declared = upstream.declared()["elicitation"].clone();
            let declares_form = declared.get("form").is_some() || declared == json!({});
            assert!(declared.is_object(), "{modes} was declared as {declared}");
            assert_eq!(declares_form, takes_form, "{modes} was declared as {declared}");
            assert_eq!(declared.get("url").is_some(), takes_url, "{modes} was declared as {declared}");
        }
    }
}

#[tokio::test]
async fn s_elic_01_clients_that_cannot_elicit_are_never_asked() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    for (revision, capabilities) in [
        ("2024-11-05", json!({ "elicitation": {}, "sampling": {} })),
        ("2025-03-26", json!({ "elicitation": { "form": {}, "url": {} } })),
        ("2025-06-18", json!({ "sampling": {} })),
        (HANDSHAKE, json!({ "roots": {} })),
    ] {
        let client = gateway.handshake_with(revision, capabilities).await;
        client.until_tools(&["one__echo"]).await;
        for params in [form(), url()] {
            client.asked("one__echo", question(METHOD, &params), &accept()).await.expect_refused(-32601);
        }
        assert!(upstream.declared().get("elicitation").is_none(), "{revision}: {}", upstream.declared());
    }
}

#[tokio::test]
async fn s_elic_02_a_client_of_the_first_elicitations_hears_nothing_of_modes() {
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    // What a client of that revision declares beside `elicitation` means nothing there.
    for capabilities in [json!({ "elicitation": {} }), json!({ "elicitation": { "url": {}, "form": {} } })] {
        let client = gateway.handshake_with("2025-06-18", capabilities).await;
        client.until_tools(&["one__echo"]).await;
        for mode in [None, Some("form")] {
            let mut params = form();
            if let Some(mode) = mode {
                params["mode"] = json!(mode);
            }
            let asked = client.asked("one__echo", question(METHOD, &params), &accept()).await;
            let reached = asked.question().params();
            assert!(reached.get("mode").is_none() && reached.get("elicitationId").is_none(), "{reached}");
            assert_eq!(reached["requestedSchema"], form()["requestedSchema"]);
            assert_eq!(asked.told[0]["result"], accept());
        }
        client.asked("one__echo", question(METHOD, &url()), &accept()).await.expect_refused(-32602);
        assert!(upstream.declared()["elicitation"].get("url").is_none());
    }
}

/// Every way to ask, with every default, numbers and order to be kept (SEP-1034, SEP-1330).
const EVERYTHING: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":{"text":{"type":"string","title":"T","description":"d","minLength":1,"maxLength":50,"format":"email","pattern":"^a\u002b$","default":"a@b.c"},"whole":{"type":"integer","minimum":1,"maximum":10,"default":3},"broken":{"type":"number","minimum":0.50,"default":1.0},"yes":{"type":"boolean","default":true},"untitled":{"type":"string","enum":["b","a"],"default":"a"},"titled":{"type":"string","title":"Titled","oneOf":[{"const":"x","title":"The X"},{"const":"w","title":"The W"}],"default":"w"},"many":{"type":"array","minItems":1,"maxItems":2,"items":{"type":"string","enum":["p","o"]},"default":["o"]},"many_titled":{"type":"array","items":{"anyOf":[{"const":"m","title":"The M"}]},"default":["m"]},"legacy":{"type":"string","enum":["r","q"],"enumNames":["The R","The Q"],"default":"q"}},"required":["yes","text"]}"#;

/// Not what was asked for; judging it is the asker's business.
const ODD_CONTENT: &str =
    r#"{"action":"accept","content":{"whole":11,"text":"","many":["o","o","zz"],"unasked":"u","yes":false}}"#;

#[tokio::test]
async fn s_elic_03_04_forms_with_all_enums_and_defaults_pass_byte_for_byte_and_so_do_answers() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
        client.until_tools(&["one__echo"]).await;
        for answer in [
            ODD_CONTENT,
            r#"{"action":"accept","content":{}}"#,
            r#"{"action":"accept","content":{"text":"\u0041"}}"#,
        ] {
            let arguments = format!(
                r#"{{"method":"{METHOD}","params":{{"message":"All","requestedSchema":{EVERYTHING}}}}}"#
            );
            let mut running = client.open_raw_call("one__echo", &arguments).await;
            let asked = running.until_method(METHOD).await;
            assert_eq!(raw_at(&asked.raw, &["params", "requestedSchema"]), Some(EVERYTHING), "{transport:?}");
            assert_eq!(client.respond_raw(&asked.json["id"], answer).await, 202);
            running.answer().await.result();
            let told = upstream.answers().pop().expect("it was answered");
            assert_eq!(raw_at(&told.raw, &["result", "action"]), Some(r#""accept""#));
            assert_eq!(
                raw_at(&told.raw, &["result", "content"]),
                raw_at(answer, &["content"]),
                "{transport:?}"
            );
        }
    }
}

#[tokio::test]
async fn s_elic_05_older_clients_are_asked_in_the_words_of_their_revision() {
    let table = [
        // What the upstream asks, what the client is shown.
        (
            json!({ "type": "string", "title": "T", "description": "d", "default": "x" }),
            json!({ "type": "string", "title": "T", "description": "d" }),
        ),
        (
            json!({ "type": "string", "minLength": 1, "maxLength": 9, "format": "date", "pattern": "^a" }),
            json!({ "type": "string", "minLength": 1, "maxLength": 9, "format": "date" }),
        ),
        (
            json!({ "type": "integer", "minimum": 1, "maximum": 5, "default": 3 }),
            json!({ "type": "integer", "minimum": 1, "maximum": 5 }),
        ),
        (json!({ "type": "number", "default": 2 }), json!({ "type": "number" })),
        (json!({ "type": "boolean", "default": true }), json!({ "type": "boolean", "default": true })),
        (
            json!({ "type": "boolean", "title": "B", "default": false }),
            json!({ "type": "boolean", "title": "B", "default": false }),
        ),
        (
            json!({ "type": "string", "enum": ["b", "a"], "default": "a" }),
            json!({ "type": "string", "enum": ["b", "a"] }),
        ),
        (
            json!({ "type": "string", "title": "T", "description": "d", "default": "x",
                "oneOf": [{ "const": "y", "title": "The Y" }, { "const": "x", "title": "The X" }] }),
            json!({ "type": "string", "title": "T", "description": "d", "enum": ["y", "x"], "enumNames": ["The Y", "The X"] }),
        ),
        (
            json!({ "type": "string", "enum": ["r", "q"], "enumNames": ["R", "Q"], "default": "q" }),
            json!({ "type": "string", "enum": ["r", "q"], "enumNames": ["R", "Q"] }),
        ),
    ];
    let upstream = upstream("one", HANDSHAKE, Transport::Http).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with("2025-06-18", json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    for (asks, shown) in table {
        let answer = json!({ "action": "accept", "content": { "it": "x" } });
        let ask = question(METHOD, &form_of(json!({ "it": asks })));
        let asked = client.asked("one__echo", ask, &answer).await;
        assert_eq!(asked.question().params()["requestedSchema"]["properties"]["it"], shown, "for {asks}");
        assert_eq!(asked.told[0]["result"], answer);
    }
    let mut whole = form_of(json!({ "b": { "type": "boolean" }, "a": { "type": "string", "default": "x" } }));
    whole["requestedSchema"]["required"] = json!(["a"]);
    let asked = client.asked("one__echo", question(METHOD, &whole), &accept()).await;
    assert_eq!(
        asked.question().params()["requestedSchema"]["required"],
        json!(["a"]),
        "what is required stays"
    );
}

#[tokio::test]
async fn s_elic_05_what_an_older_client_cannot_choose_is_cancelled_without_asking() {
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio).asking().start().await;
    let gateway = gateway().with("one", &upstream).start().await;
    let client = gateway.handshake_with("2025-06-18", json!({ "elicitation": {} })).await;
    client.until_tools(&["one__echo"]).await;
    for many in [
        json!({ "type": "array", "items": { "type": "string", "enum": ["p", "o"] } }),
        json!({ "type": "array", "items": { "anyOf": [{ "const": "m", "title": "The M" }] } }),
    ] {
        let ask = form_of(json!({ "fine": { "type": "string" }, "many": many }));
        let asked = client.asked("one__echo", question(METHOD, &ask), &accept()).await;
        assert!(asked.questions.is_empty(), "{:?}", asked.questions);
        assert_eq!(asked.told, json!([{ "result": { "action": "cancel" } }]));
    }
}

#[tokio::test]
async fn s_elic_06_each_action_arrives_as_the_user_chose_it() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        for revision in ["2025-06-18", HANDSHAKE] {
            let modes = json!({ "elicitation": { "form": {}, "url": {} } });
            let client = gateway.handshake_with(revision, modes).await;
            client.until_tools(&["one__echo"]).await;
            for answer in [accept(), json!({ "action": "decline" }), json!({ "action": "cancel" })] {
                let asked = client.asked("one__echo", question(METHOD, &form()), &answer).await;
                assert_eq!(asked.told[0]["result"], answer, "{revision} {transport:?}");
            }
            if revision == HANDSHAKE {
                for action in ["accept", "decline", "cancel"] {
                    let answer = json!({ "action": action });
                    let asked = client.asked("one__echo", question(METHOD, &url()), &answer).await;
                    assert_eq!(asked.told[0]["result"], answer, "by URL over {transport:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn s_elic_10_the_user_sees_who_asks() {
    let [plain, titled, bare] = ["plain", "titled", "bare"].map(|name| http_upstream(name).asking());
    let (plain, titled, bare) = (plain.start().await, titled.start().await, bare.start().await);
    let gateway = gateway()
        .with("plain", &plain)
        .with_more("titled", &titled, json!({ "title": "Bank of \"Ada\"" }))
        .with_more("bare", &bare, json!({ "prefix": "", "title": "The bare one" }))
        .start()
        .await;
    let capabilities = json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {} });
    let client = gateway.handshake_with(HANDSHAKE, capabilities).await;
    client.until_tools(&["plain__echo", "titled__echo", "echo"]).await;
    for (tool, title, prefix) in [
        ("plain__echo", "plain", "[plain] "),
        ("titled__echo", "Bank of \"Ada\"", "[Bank of \"Ada\"] "),
        ("echo", "The bare one", ""),
    ] {
        for (params, message) in [(form(), "Who?"), (url(), "Sign in")] {
            let mut params = params;
            params["_meta"] = json!({ "com.example/mark": 1, "switchyard/server": "somebody else" });
            let answer = json!({ "action": "decline" });
            let asked = client.asked(tool, question(METHOD, &params), &answer).await;
            let reached = asked.question().params();
            assert_eq!(reached["message"], format!("{prefix}{message}"));
            assert_eq!(
                reached["_meta"]["switchyard/server"], title,
                "no server speaks as another: {reached}"
            );
            assert_eq!(reached["_meta"]["com.example/mark"], 1, "foreign metadata passes: {reached}");
        }
        let sampling = json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": "?" } }], "maxTokens": 1 });
        let model = json!({ "role": "assistant", "content": { "type": "text", "text": "!" }, "model": "m" });
        let asked = client.asked(tool, question("sampling/createMessage", &sampling), &model).await;
        assert_eq!(asked.question().params()["_meta"]["switchyard/server"], title);
        assert_eq!(
            asked.question().params()["messages"],
            sampling["messages"],
            "what the model reads is untouched"
        );
    }
}

#[tokio::test]
async fn s_elic_14_a_question_nobody_answers_is_cancelled_in_both_modes() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway =
            gateway().with("one", &upstream).config("bounds: { input_timeout: 400ms }").start().await;
        let modes = json!({ "elicitation": { "form": {}, "url": {} } });
        let client = gateway.handshake_with(HANDSHAKE, modes).await;
        client.until_tools(&["one__echo"]).await;
        for params in [form(), url()] {
            let mut running = client.open_call("one__echo", question(METHOD, &params)).await;
            let asked = running.until_method(METHOD).await;
            let told: Value = serde_json::from_str(running.answer().await.text()).expect("JSON");
            assert_eq!(told, json!([{ "result": { "action": "cancel" } }]), "{transport:?}");
            // The user comes back too late; nobody is harmed.
            let late = client.respond(&asked.json["id"], accept()).await;
            assert!(matches!(late, 202 | 400), "{late}");
        }
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}

#[tokio::test]
async fn s_elic_14_a_flood_of_questions_reaches_the_user_as_a_few() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let mut answers = Vec::new();
                for _ in 0..50 {
                    answers.push(call.begin_to_ask(METHOD, form()).await.1);
                }
                let mut told = Vec::new();
                for answer in answers {
                    told.push(within(Duration::from_secs(15), "every question to be answered", answer).await);
                }
                let accepted =
                    told.iter().flatten().filter(|told| told["result"]["action"] == "accept").count();
                call.text(&accepted.to_string()).await;
            })
            .start()
            .await;
        let gateway = gateway()
            .with("one", &upstream)
            .config("bounds: { question_rate: 6, call_questions: 64 }")
            .start()
            .await;
        let client = gateway.handshake_with(HANDSHAKE, json!({ "elicitation": {} })).await;
        client.until_tools(&["one__echo"]).await;
        let asked = client.asked("one__echo", json!({}), &accept()).await;
        let shown = asked.questions.len();
        assert!((1..=8).contains(&shown), "about six a minute, but {shown} came over {transport:?}");
        assert_eq!(asked.answer.text(), shown.to_string(), "the rest was refused or cancelled");
        assert_eq!(client.request("ping", json!({})).await.status, 200);
    }
}
