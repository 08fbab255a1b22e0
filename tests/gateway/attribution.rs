//! No prompt ever reaches the wrong user, and no answer the wrong question (S-ELIC-11, S-TRUST, S-CANC, S-PROG-07).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify, mpsc};

use crate::support::client::{Client, question};
use crate::support::upstream::UpstreamPlan;
use crate::support::{HANDSHAKE, STATELESS, TRANSPORTS, Transport, gateway, http_upstream, upstream, within};

const ELICIT: &str = "elicitation/create";
const SAMPLE: &str = "sampling/createMessage";
const A_WHILE: Duration = Duration::from_millis(400);

fn able() -> Value {
    json!({ "elicitation": {}, "sampling": {}, "roots": {} })
}

fn form(message: &str) -> Value {
    json!({ "message": message, "requestedSchema": { "type": "object", "properties": { "me": { "type": "string" } } } })
}

fn i_am(who: &str) -> Value {
    json!({ "action": "accept", "content": { "me": who } })
}

fn prompt(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": text } }], "maxTokens": 5 })
}

/// A server whose tool asks its caller who they are. All callers wait for each other first, if there is a `meeting`.
fn curious(name: &str, transport: Transport, meeting: Option<Arc<Barrier>>) -> UpstreamPlan {
    upstream(name, HANDSHAKE, transport).on("tools/call", move |mut call| {
        let meeting = meeting.clone();
        async move {
            if let Some(meeting) = meeting {
                meeting.wait().await;
            }
            let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
            let answer = call.ask(ELICIT, form(&format!("Are you {who}?"))).await;
            call.pause(5).await;
            let said = answer["result"]["content"]["me"].as_str().unwrap_or("nobody").to_owned();
            call.text(&format!("{who} is {said}")).await;
        }
    })
}

/// Ten sessions call at once; gives how many were asked and answered. Fails if anybody saw what was not theirs.
async fn ten_at_once(transport: Transport, share: &str, meeting: Option<Arc<Barrier>>) -> usize {
    let upstream = curious("one", transport, meeting).start().await;
    let gateway = gateway()
        .with_more("one", &upstream, json!({ "share": share }))
        .config("bounds: { input_timeout: 10s }")
        .start()
        .await;
    let mut running = Vec::new();
    for n in 0..10 {
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        running.push(tokio::spawn(async move {
            let who = format!("caller-{n}.");
            let asked = client.asked("one__echo", json!({ "who": who }), &i_am(&who)).await;
            for question in &asked.questions {
                let shown = question.params()["message"].as_str().unwrap_or_default();
                assert!(shown.contains(&who), "{who} was shown another's question: {}", question.raw);
            }
            assert!(asked.questions.len() <= 1, "{who} was asked again and again: {:?}", asked.questions);
            stream.never(ELICIT, A_WHILE).await;
            let text = asked.answer.result()["content"][0]["text"].as_str().unwrap_or_default().to_owned();
            match asked.questions.is_empty() {
                true => assert!(!text.contains(&format!("is {who}")), "answered by nobody, yet: {text}"),
                false => assert_eq!(text, format!("{who} is {who}"), "asked and answered"),
            }
            usize::from(!asked.questions.is_empty())
        }));
    }
    let mut answered = 0;
    for caller in running {
        answered += caller.await.expect("no caller saw anything of another");
    }
    answered
}

#[tokio::test]
async fn s_elic_11_ten_sessions_at_once_each_with_a_connection_of_its_own() {
    for transport in TRANSPORTS {
        let all_here = Some(Arc::new(Barrier::new(10)));
        assert_eq!(
            ten_at_once(transport, "session", all_here).await,
            10,
            "{transport:?}: everybody is asked"
        );
    }
}

#[tokio::test]
async fn s_elic_11_ten_sessions_at_once_on_what_their_principal_shares() {
    for transport in TRANSPORTS {
        let answered = ten_at_once(transport, "principal", None).await;
        println!("   {answered} of 10 were asked over {transport:?}, the others refused");
    }
}

#[tokio::test]
async fn s_elic_11_ten_sessions_at_once_on_what_everybody_shares() {
    for transport in TRANSPORTS {
        assert_eq!(
            ten_at_once(transport, "all", None).await,
            0,
            "what all share asks nobody ({transport:?})"
        );
    }
}

#[tokio::test]
async fn s_elic_11_on_a_shared_server_whoever_calls_alone_is_asked() {
    for transport in TRANSPORTS {
        let upstream = curious("one", transport, None).start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
        let clients = [
            gateway.handshake_with(HANDSHAKE, able()).await,
            gateway.handshake_with(HANDSHAKE, able()).await,
        ];
        clients[0].until_tools(&["one__echo"]).await;
        for (who, client) in [("ada", &clients[0]), ("bob", &clients[1]), ("ada", &clients[0])] {
            let asked = client.asked("one__echo", json!({ "who": who }), &i_am(who)).await;
            asked.question();
            assert_eq!(asked.answer.text(), format!("{who} is {who}"), "{transport:?}");
        }
        let ways: HashSet<_> = upstream
            .received("tools/call")
            .iter()
            .map(|call| call.session().map_or_else(|| call.connection.to_string(), str::to_owned))
            .collect();
        assert_eq!(ways.len(), 1, "one connection for the principal: {ways:?}");
    }
}

#[tokio::test]
async fn s_elic_11_on_a_shared_child_a_late_question_of_a_call_that_was_given_up_is_put_to_nobody() {
    let (tell, mut told) = mpsc::channel(8);
    let steps = [(); 3].map(|()| Arc::new(Notify::new()));
    let [ask_late, ask, end] = steps.clone();
    let upstream = upstream("one", HANDSHAKE, Transport::Stdio)
        .on("tools/call", move |mut call| {
            let (ask_late, ask, end, tell) =
                (Arc::clone(&ask_late), Arc::clone(&ask), Arc::clone(&end), tell.clone());
            async move {
                let who = call.params()["arguments"]["who"].as_str().unwrap_or_default().to_owned();
                let is_given_up = call.params()["arguments"]["late"] == true;
                if is_given_up {
                    ask_late.notified().await
                } else {
                    ask.notified().await
                }
                let answer = call.ask(ELICIT, form(&format!("Are you {who}?"))).await["result"].clone();
                if is_given_up {
                    tell.try_send(answer["action"].to_string()).expect("the story goes on");
                    end.notified().await;
                }
                call.text(&format!("{who} is {}", answer["content"]["me"])).await;
                if is_given_up {
                    tell.try_send("ended".to_owned()).expect("the story goes on");
                }
            }
        })
        .start()
        .await;
    let [ask_late, ask, end] = steps;
    let gateway = gateway().with_more("one", &upstream, json!({ "share": "principal" })).start().await;
    let ada = gateway.handshake_with(HANDSHAKE, able()).await;
    let bob = gateway.handshake_with(HANDSHAKE, able()).await;
    ada.until_tools(&["one__echo"]).await;
    let late = ada.open_call("one__echo", json!({ "who": "ada", "late": true })).await;
    upstream.until_received("tools/call", 1).await;
    ada.notify("notifications/cancelled", json!({ "requestId": late.id() })).await;
    upstream.until_received("notifications/cancelled", 1).await;

    let mut of_bob = bob.open_call("one__echo", json!({ "who": "bob" })).await;
    upstream.until_received("tools/call", 2).await;
    ask_late.notify_one();
    let answer = within(Duration::from_secs(5), "the late question to be answered", told.recv()).await;
    assert_eq!(answer.as_deref(), Some("\"cancel\""), "it was ada's");
    of_bob.expect_quiet(A_WHILE).await;
    ask.notify_one();
    assert_eq!(of_bob.answer().await.text(), "bob is null", "this one might be ada's as well");
    ask.notify_one();
    let own = ada.asked("one__echo", json!({ "who": "ada" }), &i_am("ada")).await;
    assert_eq!(own.answer.text(), "ada is \"ada\"", "whichever call it is for, it is hers");

    end.notify_one();
    assert_eq!(told.recv().await.as_deref(), Some("ended"), "an answer that nobody waits for");
    ask.notify_one();
    let asked = bob.asked("one__echo", json!({ "who": "bob" }), &i_am("bob")).await;
    assert_eq!(asked.answer.text(), "bob is \"bob\"", "now there is no doubt");
}

#[tokio::test]
async fn s_elic_11_s_httpc_06_a_question_beside_all_calls_of_a_shared_session_is_put_to_nobody() {
    for (share, is_asked) in [("principal", false), ("session", true)] {
        let let_go = Arc::new(Notify::new());
        let upstream = asking_and_slow(Transport::Http, &let_go).start().await;
        let gateway = gateway().with_more("one", &upstream, json!({ "share": share })).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__slow"]).await;
        let mut stream = client.standalone_stream().await;
        let mut running = client.open_call("one__slow", json!({})).await;
        let call = upstream.until_received("tools/call", 1).await;
        upstream.until_standing_for(&call).await;
        let listening = async {
            let beside = answer_if_asked(&client, &mut stream, ELICIT).await;
            answer_if_asked(&client, &mut running, ELICIT).await || beside
        };
        let (answer, was_asked) = tokio::join!(upstream.ask_by(&call, ELICIT, form("anybody?")), listening);
        assert_eq!(was_asked, is_asked, "{share}: {answer}");
        if !is_asked {
            assert_eq!(answer["result"], json!({ "action": "cancel" }));
        }
        let_go.notify_one();
        assert_eq!(running.answer().await.text(), "slow and sure");
    }
}

#[tokio::test]
async fn s_elic_11_what_everybody_shares_is_offered_no_questions() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let more = json!({ "share": "all", "ask": { "roots": true, "elicitation": true, "sampling": true } });
        let gateway = gateway().with_more("one", &upstream, more).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        for (method, params) in [(ELICIT, form("?")), (SAMPLE, prompt("?")), ("roots/list", json!({}))] {
            client.asked("one__echo", question(method, &params), &i_am("x")).await.expect_refused(-32601);
        }
        let declared = upstream.declared();
        for capability in ["elicitation", "sampling", "roots"] {
            assert!(declared.get(capability).is_none(), "{transport:?}: {declared}");
        }
    }
}

#[tokio::test]
async fn s_elic_11_s_trust_01_answers_of_other_sessions_change_nothing() {
    for transport in TRANSPORTS {
        let upstream = curious("one", transport, None).start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let ada = gateway.handshake_with(HANDSHAKE, able()).await;
        let bob = gateway.handshake_with(HANDSHAKE, able()).await;
        ada.until_tools(&["one__echo"]).await;
        let mut of_ada = ada.open_call("one__echo", json!({ "who": "ada" })).await;
        let to_ada = of_ada.until_method(ELICIT).await.json["id"].clone();
        for stranger in [&bob, &gateway.stateless()] {
            let status = stranger.respond(&to_ada, i_am("mallory")).await;
            assert!(matches!(status, 202 | 400 | 404), "{status}");
            let status = stranger.refuse(&to_ada, -1, "mallory says no").await;
            assert!(matches!(status, 202 | 400 | 404), "{status}");
        }
        // Bob's own question may carry the same number; each number counts in its own session.
        let mut of_bob = bob.open_call("one__echo", json!({ "who": "bob" })).await;
        let to_bob = of_bob.until_method(ELICIT).await.json["id"].clone();
        assert_eq!(bob.respond(&to_bob, i_am("bob")).await, 202);
        assert_eq!(of_bob.answer().await.text(), "bob is bob");
        of_ada.expect_quiet(A_WHILE).await;
        for odd in [json!(to_ada.to_string()), json!(-1), json!("x")] {
            let status = ada.respond(&odd, i_am("nobody asked")).await;
            assert!(matches!(status, 202 | 400), "{status}");
        }
        assert_eq!(ada.respond(&to_ada, i_am("ada")).await, 202);
        let again = ada.respond(&to_ada, i_am("ada, again")).await;
        assert!(matches!(again, 202 | 400), "{again}");
        assert_eq!(of_ada.answer().await.text(), "ada is ada", "{transport:?}");
        let late = ada.respond(&to_ada, i_am("ada, late")).await;
        assert!(matches!(late, 202 | 400), "{late}");
        assert_eq!(upstream.answers().len(), 2, "one answer to each question");
    }
}

#[tokio::test]
async fn s_canc_07_an_answer_that_comes_twice_counts_once() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport)
            .on("tools/call", |mut call| async move {
                let id = call.id().to_owned();
                for said in ["first", "second", "third"] {
                    let result = json!({ "content": [{ "type": "text", "text": said }] });
                    call.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).await;
                }
                call.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-5,"message":"m"}}}}"#))
                    .await;
                call.finish().await;
            })
            .start()
            .await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        let other = gateway.stateless();
        client.until_tools(&["one__echo"]).await;
        for _ in 0..3 {
            assert_eq!(client.call("one__echo", json!({})).await.text(), "first", "{transport:?}");
            assert_eq!(other.call("one__echo", json!({})).await.text(), "first", "{transport:?}");
        }
    }
}

#[tokio::test]
async fn s_elic_11_questions_without_any_call_reach_nobody_by_guess() {
    for transport in TRANSPORTS {
        for share in ["session", "principal", "all"] {
            let upstream = upstream("one", HANDSHAKE, transport).start().await;
            let gateway = gateway()
                .with_more("one", &upstream, json!({ "share": share }))
                .config("bounds: { input_timeout: 2s }")
                .start()
                .await;
            let ada = gateway.handshake_with(HANDSHAKE, able()).await;
            let bob = gateway.handshake_with(HANDSHAKE, able()).await;
            ada.until_tools(&["one__echo"]).await;
            let (mut to_ada, mut to_bob) = (ada.standalone_stream().await, bob.standalone_stream().await);
            ada.call("one__echo", json!({})).await.result();
            let call = upstream.until_received("tools/call", 1).await;
            bob.call("one__echo", json!({})).await.result();
            upstream.until_standing_for(&call).await;
            for (method, params) in [(ELICIT, form("anybody there?")), (SAMPLE, prompt("anybody?"))] {
                let asking = upstream.ask_by(&call, method, params);
                let listening = answer_if_asked(&ada, &mut to_ada, method);
                let (answer, was_asked) = tokio::join!(asking, listening);
                // A connection that serves one session alone may ask that session; any other must not guess.
                assert!(share == "session" || !was_asked, "{share} over {transport:?}: someone was guessed");
                if !was_asked {
                    let refused = answer.get("error").is_some() || answer["result"]["action"] == "cancel";
                    assert!(refused, "{share} over {transport:?}: {answer}");
                }
                to_bob.never(method, Duration::from_millis(50)).await;
            }
        }
    }
}

/// Listen for a while and answer what comes; gives whether anything did.
async fn answer_if_asked(
    client: &Client,
    stream: &mut crate::support::client::Exchange,
    method: &str,
) -> bool {
    let asked: Vec<_> = stream
        .messages_within(Duration::from_millis(800))
        .await
        .into_iter()
        .filter(|message| message.method() == method)
        .collect();
    for question in &asked {
        let answer = match method {
            SAMPLE => {
                json!({ "role": "assistant", "content": { "type": "text", "text": "here" }, "model": "m" })
            }
            _ => i_am("here"),
        };
        client.respond(&question.json["id"], answer).await;
    }
    !asked.is_empty()
}

#[tokio::test]
async fn s_prog_07_a_client_may_tell_how_far_its_answer_is() {
    for transport in TRANSPORTS {
        for token in [json!("marker-token"), json!(77_001)] {
            let own = token.clone();
            let upstream = upstream("one", HANDSHAKE, transport)
                .on("tools/call", move |mut call| {
                    let mut params = prompt("think");
                    if call.params()["arguments"]["with"] == true {
                        params["_meta"] = json!({ "progressToken": own });
                    }
                    async move {
                        call.ask(SAMPLE, params).await;
                        call.text("thought").await;
                    }
                })
                .start()
                .await;
            let gateway = gateway().with("one", &upstream).start().await;
            let client = gateway.handshake_with(HANDSHAKE, able()).await;
            let stranger = gateway.handshake_with(HANDSHAKE, able()).await;
            client.until_tools(&["one__echo"]).await;
            let answer =
                json!({ "role": "assistant", "content": { "type": "text", "text": "!" }, "model": "m" });
            let report = |token: &Value, progress: f64| json!({ "progressToken": token, "progress": progress, "total": 2.5, "message": "thinking" });

            let mut running = client.open_call("one__echo", json!({ "with": true })).await;
            let asked = running.until_method(SAMPLE).await;
            let given = asked.params()["_meta"]["progressToken"].clone();
            assert!(given.is_string() || given.is_number(), "a token to report under: {}", asked.raw);
            assert_ne!(given, token, "the upstream's token stays on its hop: {}", asked.raw);
            stranger.notify("notifications/progress", report(&given, 0.25)).await;
            client.notify("notifications/progress", report(&json!("made up"), 0.25)).await;
            client.notify("notifications/progress", report(&token, 0.25)).await;
            client.notify("notifications/progress", report(&given, 0.5)).await;
            // The newest replaces what has not left yet.
            upstream.until_received("notifications/progress", 1).await;
            client.notify("notifications/progress", report(&given, 1.5)).await;
            upstream.until_received("notifications/progress", 2).await;
            assert_eq!(client.respond(&asked.json["id"], answer.clone()).await, 202);
            running.answer().await.text();
            client.notify("notifications/progress", report(&given, 2.0)).await;

            let mut running = client.open_call("one__echo", json!({ "with": false })).await;
            let asked = running.until_method(SAMPLE).await;
            assert!(asked.params()["_meta"].get("progressToken").is_none(), "nobody asked: {}", asked.raw);
            assert_eq!(client.respond(&asked.json["id"], answer.clone()).await, 202);
            running.answer().await.text();
            let told: Vec<Value> = upstream
                .received("notifications/progress")
                .iter()
                .map(|told| told.params().clone())
                .collect();
            assert_eq!(told, [report(&token, 0.5), report(&token, 1.5)], "{transport:?}");
        }
    }
}

#[tokio::test]
async fn s_canc_06_cancelling_a_call_withdraws_the_question_it_asked() {
    for transport in TRANSPORTS {
        let upstream = upstream("one", HANDSHAKE, transport).asking().start().await;
        let gateway = gateway().with("one", &upstream).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo"]).await;
        let mut stream = client.standalone_stream().await;
        for (nth, method, params) in [(1, ELICIT, form("?")), (2, SAMPLE, prompt("?"))] {
            let mut running = client.open_call("one__echo", question(method, &params)).await;
            let asked = running.until_method(method).await;
            let answered_before = upstream.answers().len();
            client.notify("notifications/cancelled", json!({ "requestId": running.id() })).await;
            upstream.until_received("notifications/cancelled", nth).await;
            let mut told = Vec::new();
            while let Some(message) = running.next().await {
                assert!(
                    message.json.get("method").is_some(),
                    "no response to a cancelled call: {}",
                    message.raw
                );
                told.push(message);
            }
            told.extend(stream.messages_within(A_WHILE).await);
            let withdrawn = told.iter().filter(|message| {
                message.method() == "notifications/cancelled"
                    && message.params()["requestId"] == asked.json["id"]
            });
            assert_eq!(withdrawn.count(), 1, "{method} over {transport:?}: the prompt stays open: {told:?}");
            let late = client.respond(&asked.json["id"], i_am("too late")).await;
            assert!(matches!(late, 202 | 400), "{late}");
            client.call("one__echo", question("ping", &json!({}))).await.result();
            let results = upstream.answers().split_off(answered_before);
            assert!(
                !results.iter().any(|answer| answer.raw.contains("too late")),
                "what was withdrawn is not answered: {results:?}"
            );
        }
    }
}

#[tokio::test]
async fn s_canc_04_a_server_withdraws_its_own_question_and_no_other_s() {
    for transport in TRANSPORTS {
        let ask_again = Arc::new(Notify::new());
        let go_on = Arc::clone(&ask_again);
        let upstream_one = upstream("one", HANDSHAKE, transport)
            .on("tools/call", move |mut call| {
                let go_on = Arc::clone(&go_on);
                async move {
                    let (id, _unused) = call.begin_to_ask(SAMPLE, prompt("?")).await;
                    go_on.notified().await;
                    let params = json!({ "requestId": id, "reason": "marker never mind" });
                    call.notify("notifications/cancelled", params).await;
                    let answer = call.ask(ELICIT, form("instead?")).await;
                    call.text(&answer["result"]["action"].to_string()).await;
                }
            })
            .start()
            .await;
        let hostile = http_upstream("two").asking().start().await;
        let gateway = gateway().with("one", &upstream_one).with("two", &hostile).start().await;
        let client = gateway.handshake_with(HANDSHAKE, able()).await;
        client.until_tools(&["one__echo", "two__echo"]).await;
        let mut running = client.open_call("one__echo", json!({})).await;
        let asked = running.until_method(SAMPLE).await;

        client.call("two__echo", question("ping", &json!({}))).await.result();
        let foothold = hostile.until_received("tools/call", 1).await;
        hostile.until_standing_for(&foothold).await;
        for guess in [asked.json["id"].clone(), json!("one-asks-1"), json!("one-asks-2"), json!(1), json!(2)]
        {
            hostile.tell(&foothold, "notifications/cancelled", json!({ "requestId": guess })).await;
        }
        running.expect_quiet(A_WHILE).await;

        ask_again.notify_one();
        let withdrawn = running.until_method("notifications/cancelled").await;
        assert_eq!(withdrawn.params()["requestId"], asked.json["id"], "{transport:?}");
        let instead = client.answer_next(&mut running, ELICIT, i_am("x")).await;
        assert_ne!(instead.json["id"], asked.json["id"], "ids are not used again");
        assert_eq!(running.answer().await.text(), "\"accept\"");
    }
}

#[tokio::test]
async fn s_elic_11_a_stateless_neighbour_is_never_shown_a_session_s_question() {
    let upstream = curious("one", Transport::Http, None).start().await;
    let gateway = gateway().with("one", &upstream).config("bounds: { input_timeout: 1s }").start().await;
    let client = gateway.handshake_with(HANDSHAKE, able()).await;
    let neighbour = Client::stateless(&gateway.endpoint, able());
    assert_eq!(neighbour.revision, STATELESS);
    client.until_tools(&["one__echo"]).await;
    let mut running = client.open_call("one__echo", json!({ "who": "ada" })).await;
    let asked = running.until_method(ELICIT).await;
    // The schema judges that no request comes on a stateless stream.
    let other = neighbour.call("one__echo", json!({ "who": "bob" })).await;
    assert!(!other.raw.contains("ada"), "{}", other.raw);
    client.respond(&asked.json["id"], i_am("ada")).await;
    assert_eq!(running.answer().await.text(), "ada is ada");
}

/// A server with a tool that asks (`echo`), and one that waits until it is let go (`slow`).
fn asking_and_slow(transport: Transport, let_go: &Arc<Notify>) -> UpstreamPlan {
    let let_go = Arc::clone(let_go);
    upstream("one", HANDSHAKE, transport).tool("slow").on("tools/call", move |mut call| {
        let let_go = Arc::clone(&let_go);
        async move {
            if call.name() == "slow" {
                let_go.notified().await;
                return call.text("slow and sure").await;
            }
            let answer = call.ask(ELICIT, form("who?")).await;
            call.text(&answer["result"]["content"]["me"].to_string()).await;
        }
    })
}

#[tokio::test]
async fn s_sess_03_s_stdio_08_who_leaves_a_shared_server_takes_nobody_along() {
    for transport in TRANSPORTS {
        for share in ["principal", "all"] {
            let let_go = Arc::new(Notify::new());
            let upstream = asking_and_slow(transport, &let_go).start().await;
            let gateway = gateway().with_more("one", &upstream, json!({ "share": share })).start().await;
            let leaver = gateway.handshake_with(HANDSHAKE, able()).await;
            let stayer = gateway.handshake_with(HANDSHAKE, able()).await;
            leaver.until_tools(&["one__echo", "one__slow"]).await;
            // The same number on purpose: it counts in each session for itself.
            let slow = json!({ "name": "one__slow", "arguments": {} });
            let of_leaver = leaver.open_as(json!(99), "tools/call", slow.clone()).await;
            let of_stayer = stayer.open_as(json!(99), "tools/call", slow).await;
            upstream.until_received("tools/call", 2).await;
            assert!((200..300).contains(&leaver.delete().await));
            let told = upstream.until_received("notifications/cancelled", 1).await;
            let calls = upstream.received("tools/call");
            assert!(
                calls.iter().any(|call| call.json["id"] == told.params()["requestId"]),
                "{share} over {transport:?}: cancelled what is not under way: {}",
                told.raw
            );
            drop(of_leaver);
            let_go.notify_waiters();
            let_go.notify_one();
            assert_eq!(of_stayer.answer().await.text(), "slow and sure", "{share} over {transport:?}");
            assert_eq!(upstream.received("notifications/cancelled").len(), 1, "{share} over {transport:?}");
            assert!(upstream.received("").iter().all(|received| received.verb != "DELETE"), "still in use");
            if share == "principal" {
                let asked = stayer.asked("one__echo", json!({}), &i_am("stayer")).await;
                asked.question();
                assert_eq!(asked.answer.text(), "\"stayer\"", "{transport:?}");
            }
        }
    }
}

#[tokio::test]
async fn s_canc_01_s_stdio_08_on_a_shared_server_a_cancel_ends_the_caller_s_own_call() {
    for transport in TRANSPORTS {
        for share in ["principal", "all"] {
            let let_go = Arc::new(Notify::new());
            let upstream = asking_and_slow(transport, &let_go).start().await;
            let gateway = gateway().with_more("one", &upstream, json!({ "share": share })).start().await;
            let (hasty, patient) = (gateway.handshake(HANDSHAKE).await, gateway.handshake(HANDSHAKE).await);
            hasty.until_tools(&["one__slow"]).await;
            let slow = |who: &str| json!({ "name": "one__slow", "arguments": { "who": who } });
            let of_patient = patient.open_as(json!(7), "tools/call", slow("patient")).await;
            upstream.until_received("tools/call", 1).await;
            let of_hasty = hasty.open_as(json!(7), "tools/call", slow("hasty")).await;
            upstream.until_received("tools/call", 2).await;
            assert_eq!(hasty.notify("notifications/cancelled", json!({ "requestId": 7 })).await, 202);
            let told = upstream.until_received("notifications/cancelled", 1).await;
            let meant: Vec<Value> = upstream
                .received("tools/call")
                .iter()
                .filter(|call| {
                    call.json["id"] == told.params()["requestId"] && call.session() == told.session()
                })
                .map(|call| call.params()["arguments"]["who"].clone())
                .collect();
            assert_eq!(meant, ["hasty"], "{share} over {transport:?}");
            assert!(of_hasty.ends_without_response().await);
            let_go.notify_waiters();
            assert_eq!(of_patient.answer().await.text(), "slow and sure", "{share} over {transport:?}");
        }
    }
}
