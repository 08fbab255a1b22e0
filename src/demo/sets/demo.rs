//! The demo set's tools as they are listed, and which of them does what.

use serde_json::{Value, json};

use super::define::{Effect, nothing, properties, tool};
use super::{demo_asking, demo_tasks, demo_tools};
use crate::demo::call::{Call, Stop};
use crate::demo::wire::Object;

pub(super) fn tools() -> Vec<Value> {
    let mut tools = content_tools();
    tools.extend(running_tools());
    tools.extend(asking_tools());
    tools.extend(observing_tools());
    tools.extend(changing_tools());
    tools.extend(demo_tasks::tools());
    tools.push(tool("extra", "Extra", "Is there only sometimes: see change_tools", Effect::Reads, nothing()));
    tools
}

pub(super) async fn call_tool(call: &Call, name: &str, arguments: &Object) -> Result<Value, Stop> {
    match name {
        "ask" | "ask_both" | "ask_later" | "interview" | "ask_url" | "visit_first" | "not_yet" | "sample"
        | "roots" => demo_asking::call_tool(call, name, arguments).await,
        _ if demo_tasks::has(name) => demo_tasks::call_tool(call, name, arguments).await,
        _ => demo_tools::call_tool(call, name, arguments).await,
    }
}

fn content_tools() -> Vec<Value> {
    let text = |is: &str| json!({ "text": { "type": "string", "description": is } });
    let numbers = json!({
        "a": { "type": "number", "description": "First number" },
        "b": { "type": "number", "description": "Second number" },
    });
    let mut add = tool("add", "Add", "Adds two numbers", Effect::Reads, properties(numbers, &["a", "b"]));
    add["outputSchema"] = properties(json!({ "sum": { "type": "number" } }), &["sum"]);
    let size = json!({
        "size": { "type": "integer", "minimum": 0, "maximum": demo_tools::MOST_BYTES, "description": "Bytes of text" },
    });
    vec![
        tool(
            "echo",
            "Echo",
            "Gives the text back",
            Effect::Reads,
            properties(text("What to say"), &["text"]),
        ),
        add,
        tool("image", "Image", "Returns a picture of one red dot", Effect::Reads, nothing()),
        tool("audio", "Audio", "Returns a very short sound", Effect::Reads, nothing()),
        tool("link", "Link", "Returns a link to the resource demo://text", Effect::Reads, nothing()),
        tool("embed", "Embed", "Returns the resource demo://text itself", Effect::Reads, nothing()),
        tool("big", "Big", "Returns a text of that many bytes", Effect::Reads, properties(size, &["size"])),
    ]
}

fn running_tools() -> Vec<Value> {
    let seconds = json!({
        "seconds": { "type": "number", "minimum": 0, "maximum": 3600, "description": "How long to take (default 1)" },
        "steps": { "type": "integer", "minimum": 1, "maximum": 1000, "description": "Progress reports (default 10)" },
    });
    let log = json!({
        "level": {
            "type": "string", "enum": crate::demo::caller::LOG_LEVELS, "description": "Severity (default info)",
        },
        "text": { "type": "string", "description": "What to log" },
    });
    let fail = json!({ "text": { "type": "string", "description": "The reason to give" } });
    let crash = json!({
        "code": { "type": "integer", "description": "JSON-RPC error code (default -32603)" },
        "text": { "type": "string", "description": "The error message" },
    });
    vec![
        tool(
            "slow",
            "Slow",
            "Takes its time and reports progress; can be cancelled, which counters then show",
            Effect::Reads,
            properties(seconds, &[]),
        ),
        tool("log", "Log", "Sends a log message to the client", Effect::Reads, properties(log, &["text"])),
        tool(
            "fail",
            "Fail",
            "Fails as tools fail: a result that says so",
            Effect::Reads,
            properties(fail, &[]),
        ),
        tool(
            "crash",
            "Crash",
            "Fails as requests fail: a JSON-RPC error",
            Effect::Reads,
            properties(crash, &[]),
        ),
    ]
}

fn asking_tools() -> Vec<Value> {
    let seconds = json!({
        "seconds": { "type": "number", "minimum": 0, "maximum": 3600, "description": "Work after the last answer (default 0)" },
    });
    vec![
        tool("ask", "Ask", "Asks you for your name with a form, and greets you", Effect::Asks, nothing()),
        tool("ask_both", "Ask both", "Asks you two things at the same time", Effect::Asks, nothing()),
        tool(
            "ask_later",
            "Ask later",
            "Asks you for your name and lets you take your time: the question is a task of your client",
            Effect::Asks,
            nothing(),
        ),
        tool(
            "interview",
            "Interview",
            "Asks you three things, one after the other, with progress",
            Effect::Asks,
            properties(seconds, &[]),
        ),
        tool("ask_url", "Ask by URL", "Asks you to visit a page", Effect::Asks, nothing()),
        tool(
            "visit_first",
            "Visit first",
            "Is refused until you have visited a page, which happens by itself soon after",
            Effect::Asks,
            nothing(),
        ),
        tool(
            "not_yet",
            "Not yet",
            "Wants to be called again twice, with state and without question",
            Effect::Reads,
            nothing(),
        ),
        tool("sample", "Sample", "Asks the client's model for a haiku", Effect::Asks, nothing()),
        tool("roots", "Roots", "Asks the client for its root directories", Effect::Asks, nothing()),
    ]
}

fn observing_tools() -> Vec<Value> {
    vec![
        tool("whoami", "Who am I", "Tells what the server knows of this caller", Effect::Reads, nothing()),
        tool(
            "environment",
            "Environment",
            "Names the server's environment variables, without values",
            Effect::Reads,
            nothing(),
        ),
        tool(
            "counters",
            "Counters",
            "Counts calls, cancellations, what runs now and open sessions",
            Effect::Reads,
            nothing(),
        ),
    ]
}

fn changing_tools() -> Vec<Value> {
    let uri = json!({
        "uri": { "type": "string", "description": "The resource that changes (default demo://counter), or a part of one" },
    });
    vec![
        tool(
            "change_tools",
            "Change tools",
            "Adds the tool extra, or removes it, and tells everyone",
            Effect::Changes,
            nothing(),
        ),
        tool(
            "touch",
            "Touch",
            "Changes a resource and tells its subscribers",
            Effect::Changes,
            properties(uri, &[]),
        ),
    ]
}
