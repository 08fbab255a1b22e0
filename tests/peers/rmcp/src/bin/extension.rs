//! The Rust SDK 3.11: the tasks extension of 2026-07-28 over streamable HTTP.
//!
//!     extension server                              # prints `endpoint URL`, ends with SIGTERM
//!     extension client URL PREFIX WHO [WITHOUT...]  # prints rows, but for the checks named

use std::borrow::Cow;
use std::env::args;
use std::sync::Arc;
use std::time::Duration;

use extension::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CreateTaskResult, GetTaskParams,
    GetTaskResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerConfig, UpdateTaskParams,
};
use extension::service::{RequestContext, RunningService};
use extension::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use extension::transport::StreamableHttpClientTransport;
use extension::transport::streamable_http_server::session::local::LocalSessionManager;
use extension::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use extension::{
    ClientHandler, ClientLifecycleMode, ClientServiceExt, ErrorData, RoleClient, RoleServer, ServerHandler,
};
use serde_json::{Value, from_value, json, to_value};
use switchyard_peers_rmcp::{jobs, tell};

const EXTENSION: &str = "io.modelcontextprotocol/tasks";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => serve().await,
        ["client", url, prefix, who, ref without @ ..] => visit(url, prefix, who, without).await,
        _ => panic!("usage: extension server | extension client URL PREFIX WHO [WITHOUT...]"),
    }
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let jobs = Jobs { tasks: TaskManager::new() };
    let sessions = Arc::new(LocalSessionManager::default());
    let service =
        StreamableHttpService::new(move || Ok(jobs.clone()), sessions, StreamableHttpServerConfig::default());
    println!("endpoint http://{address}/mcp");
    let router = axum::Router::new().nest_service("/mcp", service);
    axum::serve(listener, router).await.expect("it serves until it is stopped");
}

#[derive(Clone)]
struct Jobs {
    tasks: TaskManager,
}

impl ServerHandler for Jobs {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({"tools": {}, "extensions": {EXTENSION: {}}});
        ServerConfig::new(from_value(capabilities).expect("capabilities"))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&[ProtocolVersion::V_2026_07_28])
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = jobs::tools(None)["tools"].take();
        Ok(ListToolsResult::with_all_items(from_value(tools).expect("the tools are well formed")))
    }

    /// Every job is a task and nothing else.
    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !context.client_capabilities().is_some_and(|declared| declared.supports_tasks()) {
            let needed = json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}});
            let code = extension::model::ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY;
            return Err(ErrorData::new(code, "this needs a client that can do tasks", Some(needed)));
        }
        let options = TaskOptions::new().with_poll_interval_ms(100).with_status_message("at work");
        let (name, arguments) = (call.name.into_owned(), to_value(call.arguments).expect("JSON"));
        let task = self.tasks.spawn(options, move |context| {
            Box::pin(async move {
                tokio::select! {
                    () = context.cancelled() => Err(TaskExit::Cancelled),
                    ended = work(&context, &name, &arguments) => {
                        ended.map(|result| from_value(result).expect("a text is a result"))
                    }
                }
            })
        });
        Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
    }

    async fn get_task(
        &self,
        asked: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(self.tasks.get_task(&asked.task_id)?))
    }

    async fn update_task(
        &self,
        given: UpdateTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.update_task(&given.task_id, given.input_responses)
    }

    async fn cancel_task(
        &self,
        asked: CancelTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&asked.task_id)
    }
}

async fn work(context: &TaskContext, name: &str, arguments: &Value) -> Result<Value, TaskExit> {
    tokio::time::sleep(jobs::seconds(arguments)).await;
    match name {
        "job_failing" => Ok(jobs::result("the job failed", true)),
        "job_crashing" => Err(ErrorData::internal_error("the job crashed", None).into()),
        "job_asking" => {
            let question = json!({"method": "elicitation/create", "params": jobs::form()});
            let answer = context.request_input("name", from_value(question).expect("a question")).await?;
            let name = answer["content"]["name"].as_str().unwrap_or("nobody");
            Ok(jobs::result(&format!("Done for {name}"), false))
        }
        _ => Ok(jobs::result("Done", false)),
    }
}

/// Declares the extension; questions of tasks come by `tasks/get`, so nothing else is asked of it.
struct Visitor;

impl ClientHandler for Visitor {
    fn get_info(&self) -> extension::model::ClientConfig {
        let capabilities = json!({"elicitation": {"form": {}}, "extensions": {EXTENSION: {}}});
        let about = json!({"name": "rmcp-tasks", "version": "1.0.0"});
        extension::model::ClientConfig::new(
            from_value(capabilities).expect("capabilities"),
            from_value(about).expect("a name"),
        )
    }
}

type Guest = RunningService<RoleClient, Visitor>;

async fn visit(url: &str, prefix: &str, who: &str, without: &[&str]) {
    let lifecycle = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    match Visitor.serve_with_lifecycle(StreamableHttpClientTransport::from_uri(url), lifecycle).await {
        Ok(guest) => {
            tell(&format!("{who}/connects"), Ok(()));
            story(who, &guest, prefix, without).await;
            let ended = guest.cancel().await.map(|_| ()).map_err(|error| error.to_string());
            tell(&format!("{who}/ends"), ended);
        }
        Err(error) => tell(&format!("{who}/connects"), Err(error.to_string())),
    }
}

async fn story(who: &str, guest: &Guest, prefix: &str, without: &[&str]) {
    let row = |name: &str, outcome: Result<Value, String>, expected: &Value| {
        jobs::found(&format!("{who}/{name}"), outcome, expected);
    };
    let done = follow(guest, prefix, "job", 0.5).await;
    let shown = done.map(|task| {
        json!([task["status"], text(&task["result"]).get(..4), task["result"]["isError"] == true])
    });
    row("S-TX-05 follows a task to its result", shown, &json!(["completed", "Done", false]));
    let failed = follow(guest, prefix, "job_failing", 0.1).await;
    let shown = failed.map(|task| json!([task["status"], text(&task["result"]), task["result"]["isError"]]));
    row("S-TX-05 sees a tool that fails", shown, &json!(["completed", "the job failed", true]));
    if !without.contains(&"crash") {
        let crashed = follow(guest, prefix, "job_crashing", 0.1).await;
        let shown = crashed.map(|task| {
            // A server may say more around it.
            let said =
                task["error"]["message"].as_str().is_some_and(|said| said.ends_with("the job crashed"));
            json!([task["status"], task["error"]["code"], said])
        });
        row("S-TX-05 sees a request that fails", shown, &json!(["failed", -32603, true]));
    }
    let asked = follow(guest, prefix, "job_asking", 0.1).await;
    let shown = asked.map(|task| json!([task["status"], text(&task["result"])]));
    row("S-TX-06 answers what a task asks", shown, &json!(["completed", "Done for Ada of the peers"]));
    row("S-TX-07 cancels a task", cancelled(guest, prefix).await, &json!("cancelled"));
    let unknown = guest.get_task(GetTaskParams::new("no-such-task")).await;
    let code = match unknown {
        Err(extension::ServiceError::McpError(error)) => Ok(json!(error.code.0)),
        other => Err(format!("{other:?}")),
    };
    row("S-TX-05 an unknown task is an error", code, &json!(-32602));
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

/// Begins a task: its id.
async fn begin(guest: &Guest, prefix: &str, tool: &str, seconds: f64) -> Result<String, String> {
    let call = json!({"name": format!("{prefix}{tool}"), "arguments": {"seconds": seconds}});
    match guest.call_tool_once(from_value(call).expect("a call")).await {
        Ok(CallToolResponse::Task(begun)) => Ok(begun.task.task_id),
        Ok(other) => Err(format!("no task but {other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn look(guest: &Guest, id: &str) -> Result<Value, String> {
    let found = guest.get_task(GetTaskParams::new(id)).await.map_err(|error| error.to_string())?;
    Ok(to_value(found).expect("JSON"))
}

/// Sees a task through to its end, answers included.
async fn follow(guest: &Guest, prefix: &str, tool: &str, seconds: f64) -> Result<Value, String> {
    let id = begin(guest, prefix, tool, seconds).await?;
    let mut answered = false;
    for _ in 0..200 {
        let task = look(guest, &id).await?;
        match task["status"].as_str() {
            Some("working") => {}
            Some("input_required") if answered => {}
            Some("input_required") => {
                answered = true;
                let keys = task["inputRequests"].as_object().ok_or("no inputRequests")?.keys();
                let answers: serde_json::Map<_, _> = keys.map(|key| (key.clone(), jobs::answer())).collect();
                let given = json!({"taskId": id, "inputResponses": answers});
                let given: UpdateTaskParams = from_value(given).expect("an update");
                guest.update_task(given).await.map_err(|error| error.to_string())?;
            }
            _ => return Ok(task),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the task does not end".to_owned())
}

async fn cancelled(guest: &Guest, prefix: &str) -> Result<Value, String> {
    let id = begin(guest, prefix, "job", 600.0).await?;
    guest.cancel_task(CancelTaskParams::new(id.clone())).await.map_err(|error| error.to_string())?;
    for _ in 0..100 {
        let task = look(guest, &id).await?;
        if task["status"] != "working" {
            return Ok(task["status"].clone());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the task goes on".to_owned())
}
