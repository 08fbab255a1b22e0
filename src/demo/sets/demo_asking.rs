//! The demo set's tools that ask the client something.

use std::time::Duration;

use serde_json::{Value, json};

use super::define::{number, says, structured};
use crate::demo::call::{Call, Stop};
use crate::demo::input::{Input, sampled_text};
use crate::demo::wire::{self, Fault, Object, URL_REQUIRED};
use crate::protocol::era::Revision;

/// From refusing a call until the page that it names counts as visited; nobody looks, so time stands in for the visit.
const VISIT: Duration = Duration::from_millis(100);
const QUESTIONS: [(&str, &str); 3] =
    [("name", "What is your name?"), ("quest", "What is your quest?"), ("colour", "What is your colour?")];

pub(super) async fn call_tool(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    match name {
        "ask" => ask(call).await,
        "ask_both" => ask_both(call).await,
        "ask_later" => ask_later(call).await,
        "interview" => interview(call, arguments).await,
        "visit_first" => visit_first(call).await,
        "not_yet" => not_yet(call),
        "ask_url" => ask_url(call).await,
        "sample" => {
            let answer = call.ask("haiku", Input::sampling("Write a haiku about a gateway.", 200)).await?;
            Ok(says(sampled_text(&answer)))
        }
        _ => {
            let answer = call.ask("roots", Input::roots()).await?;
            Ok(structured(json!({ "roots": answer["roots"] })))
        }
    }
}

async fn ask(call: &Call) -> Result<Value, Stop> {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "title": "Name", "description": "How to greet you", "minLength": 1 },
        },
        "required": ["name"],
    });
    let answer = call.ask("name", Input::form("What is your name?", schema)).await?;
    match (answer["action"].as_str(), answer["content"]["name"].as_str()) {
        (Some("accept"), Some(name)) => Ok(says(format!("Hello, {name}!"))),
        (Some("accept"), None) => Err(Stop::Failed("the form came back without a name".to_owned())),
        (action, _) => {
            Ok(says(format!("No name then: the form was answered with {}", action.unwrap_or("nothing"))))
        }
    }
}

/// Two forms that wait at the same time.
async fn ask_both(call: &Call) -> Result<Value, Stop> {
    let [name, quest, _] = QUESTIONS;
    let forms = [name, quest].map(|(key, question)| (key, Input::text_field(question, key)));
    let answers = call.ask_all(&forms, true).await?;
    Ok(says(format!("{}, who wants {}", heard(&answers["name"], "name"), heard(&answers["quest"], "quest"))))
}

/// A form that is a task of the client, with time to answer.
async fn ask_later(call: &Call) -> Result<Value, Stop> {
    let (answer, seen) = call.ask_as_task(&Input::text_field("What is your name?", "name")).await?;
    Ok(says(format!("{}, after {}", heard(&answer, "name"), seen.join(", "))))
}

/// One form after another, and some work after the last. Stateless: whatever comes before a question is done anew in
/// every round, its progress too.
async fn interview(call: &Call, arguments: &Object) -> Result<Value, Stop> {
    let seconds = number(arguments, "seconds", Some(0.0), 3600.0)?.max(0.0);
    let mut heard_so_far = Vec::new();
    for (done, (key, question)) in (1u8..).zip(QUESTIONS) {
        call.progress(f64::from(done), 5.0, question).await;
        let answer = call.ask(key, Input::text_field(question, key)).await?;
        heard_so_far.push(heard(&answer, key));
    }
    call.progress(4.0, 5.0, "thinking").await;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    call.progress(5.0, 5.0, "done").await;
    Ok(says(heard_so_far.join(", ")))
}

/// What a form's field came back with, or how it was answered instead.
fn heard(answer: &Value, field: &str) -> String {
    let text = answer["content"][field].as_str().or(answer["action"].as_str());
    text.unwrap_or("nothing").to_owned()
}

async fn ask_url(call: &Call) -> Result<Value, Stop> {
    let (page, id) = page_to_visit()?;
    let answer = call.ask("page", Input::url("Please confirm on this page", &page, &id)).await?;
    Ok(says(format!("The page was answered with {}", answer["action"].as_str().unwrap_or("nothing"))))
}

fn page_to_visit() -> Result<(String, String), Stop> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| Stop::Failed("no randomness for an id".to_owned()))?;
    let id = format!("{:032x}", u128::from_be_bytes(random));
    Ok((format!("https://example.com/confirm?request={id}"), id))
}

/// 2025-11-25: refuses the call until a page was visited, and tells when it was. Stateless: asks as any other tool.
async fn visit_first(call: &Call) -> Result<Value, Stop> {
    let session = match &call.caller.session {
        Some(session) if !call.caller.is_stateless() => session,
        _ => return ask_url(call).await,
    };
    if session.take_visit() {
        return Ok(says("The page was visited"));
    }
    if call.caller.revision < Revision::V2025_11_25 {
        return Err(Stop::Failed("this tool needs revision 2025-11-25 or later".to_owned()));
    }
    let (page, id) = page_to_visit()?;
    let told = json!({ "elicitationId": id });
    let page =
        json!({ "mode": "url", "message": "Please visit this page first", "url": page, "elicitationId": id });
    let session = std::sync::Arc::clone(session);
    tokio::spawn(async move {
        tokio::time::sleep(VISIT).await;
        session.visited();
        session.standing.send(wire::notification("notifications/elicitation/complete", told)).await;
    });
    let refusal = Fault::new(URL_REQUIRED, "a page must be visited first");
    Err(refusal.with_data(json!({ "elicitations": [page] })).into())
}

/// Stateless: tells the client twice to come again, without a question. Handshake era: has nothing to wait for.
fn not_yet(call: &Call) -> Result<Value, Stop> {
    call.come_again(2)?;
    Ok(says("Now it is done"))
}

/// A prompt that wants to know whom it is for.
pub(super) async fn greet_you(call: &Call) -> Result<Value, Stop> {
    let answer = call.ask("name", Input::text_field("Whom shall I greet?", "name")).await?;
    Ok(super::demo_prompts::greeting(&heard(&answer, "name")))
}
