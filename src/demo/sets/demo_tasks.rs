//! The demo set's tools that can be tasks: jobs that take their time, ask, fail either way, or do not stop.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::define::{Effect, number, properties, says, tool};
use crate::demo::call::{Call, Stop};
use crate::demo::input::Input;
use crate::demo::wire::{Fault, INTERNAL_ERROR, Object};

/// Name, title, description, how it stands to tasks.
const JOBS: [(&str, &str, &str, &str); 7] = [
    ("job", "Job", "Works for some seconds and tells how far it is; as a task if you want", "optional"),
    ("job_only", "Job only", "The same, as a task and not otherwise", "required"),
    ("job_never", "Job never", "The same, but never as a task", "forbidden"),
    ("job_stubborn", "Stubborn job", "The same, but its work goes on when its task is cancelled", "optional"),
    ("job_failing", "Failing job", "Works, then fails as tools fail", "optional"),
    ("job_crashing", "Crashing job", "Works, then fails as requests fail", "optional"),
    ("job_asking", "Asking job", "Works, then asks for your name, then works again", "optional"),
];

pub(super) fn tools() -> Vec<Value> {
    let seconds = json!({
        "seconds": { "type": "number", "minimum": 0, "maximum": 3600, "description": "How long to work (default 1)" },
        "steps": { "type": "integer", "minimum": 1, "maximum": 1000, "description": "Reports on the way (default 4)" },
    });
    let input = properties(seconds, &[]);
    let job = |&(name, title, does, support): &(&str, &str, &str, &str)| {
        let effect = if name == "job_asking" { Effect::Asks } else { Effect::Reads };
        let mut tool = tool(name, title, does, effect, input.clone());
        tool["execution"] = json!({ "taskSupport": support });
        tool
    };
    JOBS.iter().map(job).collect()
}

/// Whether the tool is one of these.
pub(super) fn has(name: &str) -> bool {
    JOBS.iter().any(|(known, ..)| *known == name)
}

/// Whether its work goes on though its task was cancelled.
pub(super) fn ignores_cancel(name: &str) -> bool {
    name == "job_stubborn"
}

/// Whether there is so little to do that the server makes no task of it, where that is for the server to decide.
pub(super) fn answers_at_once(name: &str, arguments: &Object) -> bool {
    name == "job" && arguments.get("seconds").and_then(Value::as_f64) == Some(0.0)
}

pub(super) async fn call_tool(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    let seconds = work(call, arguments).await?;
    match name {
        "job_failing" => Err(Stop::Failed("the job failed".to_owned())),
        "job_crashing" => {
            Err(Fault::new(INTERNAL_ERROR, "the job crashed").with_data(json!({ "job": name })).into())
        }
        "job_asking" => {
            let answer = call.ask("name", Input::text_field("What is your name?", "name")).await?;
            let name = answer["content"]["name"].as_str().or(answer["action"].as_str()).unwrap_or("nobody");
            work(call, arguments).await?;
            Ok(says(format!("Done for {name}")))
        }
        _ => Ok(says(format!("Done after {seconds} s"))),
    }
}

async fn work(call: &Call, arguments: &Object) -> Result<f64, Stop> {
    let seconds = number(arguments, "seconds", Some(1.0), 3600.0)?.max(0.0);
    let steps = number(arguments, "steps", Some(4.0), 1000.0)?.floor().max(1.0);
    let mut done = 0.0;
    while done < steps {
        sleep(Duration::from_secs_f64(seconds / steps)).await;
        done += 1.0;
        call.progress(done, steps, &format!("step {done} of {steps}")).await;
    }
    Ok(seconds)
}
