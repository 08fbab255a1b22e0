//! The demo set's tools that ask the client something.

use serde_json::{Value, json};

use super::define::{says, structured};
use crate::demo::call::{Call, Stop};
use crate::demo::input::{Input, sampled_text};

pub(super) async fn call_tool(call: &Call, name: &str) -> Result<Value, Stop> {
    match name {
        "ask" => ask(call).await,
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

async fn ask_url(call: &Call) -> Result<Value, Stop> {
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).map_err(|_| Stop::Failed("no randomness for an id".to_owned()))?;
    let id = format!("{:032x}", u128::from_be_bytes(random));
    let page = format!("https://example.com/confirm?request={id}");
    let answer = call.ask("page", Input::url("Please confirm on this page", &page, &id)).await?;
    Ok(says(format!("The page was answered with {}", answer["action"].as_str().unwrap_or("nothing"))))
}
