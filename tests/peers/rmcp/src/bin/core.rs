//! The Rust SDK 1.8: the core tasks of 2025-11-25 over streamable HTTP, as its own `task_handler` makes them.
//!
//!     core server                              # prints `endpoint URL`, ends with SIGTERM
//!     core client URL PREFIX WHO [WITHOUT...]  # prints rows, but for the checks named
//!
//! As a server it strays, which is worth meeting: its ids are those of the requests, a result can be fetched once, a tool that
//! fails completes, a cancelled task shows as failed, an unknown one is -32002, and nothing names its task.

// What its macros write speaks of the crate by this name.
extern crate streamable as rmcp;

use std::env::args;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientRequest, CreateElicitationRequestParams,
    CreateElicitationResult, ListToolsResult, PaginatedRequestParams, ServerInfo, Tool,
};
use rmcp::service::{RequestContext, RunningService};
use rmcp::task_manager::OperationProcessor;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ClientHandler, ErrorData as McpError, RoleClient, RoleServer, ServerHandler, ServiceExt, task_handler,
};
use serde_json::{Value, from_value, json, to_value};
use switchyard_peers_rmcp::{jobs, tell};
use tokio::sync::Mutex;

const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let words: Vec<String> = args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => serve().await,
        ["client", url, prefix, who, ref without @ ..] => visit(url, prefix, who, without).await,
        _ => panic!("usage: core server | core client URL PREFIX WHO [WITHOUT...]"),
    }
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let sessions = Arc::new(LocalSessionManager::default());
    let service =
        StreamableHttpService::new(|| Ok(Jobs::new()), sessions, StreamableHttpServerConfig::default());
    println!("endpoint http://{address}/mcp");
    let router = axum::Router::new().nest_service("/mcp", service);
    axum::serve(listener, router).await.expect("it serves until it is stopped");
}

#[derive(Clone)]
struct Jobs {
    processor: Arc<Mutex<OperationProcessor>>,
}

impl Jobs {
    fn new() -> Jobs {
        Jobs { processor: Arc::new(Mutex::new(OperationProcessor::new())) }
    }
}

fn tools() -> ListToolsResult {
    from_value(jobs::tools(Some("optional"))).expect("the tools are well formed")
}

#[task_handler]
impl ServerHandler for Jobs {
    fn get_info(&self) -> ServerInfo {
        let about = json!({"name": "rmcp-jobs", "version": "1.0.0"});
        let tasks = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
        let capabilities = json!({"tools": {}, "tasks": tasks});
        from_value(
            json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": about}),
        )
        .expect("it has every member")
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools().tools.into_iter().find(|tool| tool.name == name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, McpError> {
        Ok(tools())
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, McpError> {
        let arguments = to_value(call.arguments).expect("JSON");
        tokio::time::sleep(jobs::seconds(&arguments)).await;
        let result = match call.name.as_ref() {
            "job_failing" => jobs::result("the job failed", true),
            "job_crashing" => return Err(McpError::internal_error("the job crashed", None)),
            "job_asking" => {
                let question = from_value(jobs::form()).expect("the form is well formed");
                match context.peer.create_elicitation(question).await {
                    Ok(answer) => {
                        let answer = to_value(answer).expect("JSON");
                        jobs::result(
                            &format!("Done for {}", answer["content"]["name"].as_str().unwrap_or("nobody")),
                            false,
                        )
                    }
                    Err(error) => jobs::result(&format!("no answer: {error}"), true),
                }
            }
            _ => jobs::result("Done", false),
        };
        Ok(from_value(result).expect("a text is a result"))
    }
}

/// Answers every form with one name.
struct Visitor;

impl ClientHandler for Visitor {
    fn get_info(&self) -> rmcp::model::ClientInfo {
        let about = json!({"name": "rmcp-tasks", "version": "1.0.0"});
        from_value(json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": about}))
            .expect("it has every member")
    }

    async fn create_elicitation(
        &self,
        _: CreateElicitationRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateElicitationResult, McpError> {
        Ok(from_value(jobs::answer()).expect("an answer"))
    }
}

type Guest = RunningService<RoleClient, Visitor>;

async fn visit(url: &str, prefix: &str, who: &str, without: &[&str]) {
    match Visitor.serve(StreamableHttpClientTransport::from_uri(url)).await {
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
        if !without.contains(&name.split(' ').next().unwrap_or_default()) {
            jobs::found(&format!("{who}/{name}"), outcome, expected);
        }
    };
    let done = follow(guest, prefix, "job", 0.5).await;
    let shown = done.map(|(id, states, result)| {
        json!([states.last(), text(&result)[..4], result["_meta"][RELATED_TASK]["taskId"] == id])
    });
    row("S-TASK-11 follows a task to its result", shown, &json!(["completed", "Done", true]));
    let failed = follow(guest, prefix, "job_failing", 0.1).await;
    let shown = failed.map(|(_, states, result)| json!([states.last(), text(&result), result["isError"]]));
    row("fail S-TASK-12 sees a tool that fails", shown, &json!(["failed", "the job failed", true]));
    let crashed =
        follow(guest, prefix, "job_crashing", 0.1).await.map_or_else(|error| json!(error), |(_, _, it)| it);
    let shown =
        crashed.as_str().is_some_and(|error| error.contains("-32603") && error.contains("the job crashed"));
    row("crash S-TASK-12 sees a request that fails", Ok(json!(shown)), &json!(true));
    let asked = follow(guest, prefix, "job_asking", 0.1).await;
    // Where the question came on another stream of the session, it is answered before anyone looks.
    let shown = asked.map(|(_, states, result)| {
        let seen = [Some(&json!("input_required")), Some(&json!("completed"))].contains(&states.last());
        json!([seen, text(&result)])
    });
    row("ask S-TASK-17 answers what a task asks", shown, &json!([true, "Done for Ada of the peers"]));
    row("list S-TASK-13 finds its task in the list", listed(guest, prefix).await, &json!(true));
    let stopped = cancelled(guest, prefix).await;
    row("cancel S-TASK-15 cancels a task", stopped, &json!(["cancelled", "cancelled"]));
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

async fn ask(guest: &Guest, method: &str, params: Value) -> Result<Value, String> {
    let request: ClientRequest = from_value(json!({"method": method, "params": params})).expect("a request");
    let answer = guest.send_request(request).await.map_err(|error| format!("{error:?}"))?;
    Ok(to_value(answer).expect("JSON"))
}

async fn begin(guest: &Guest, prefix: &str, tool: &str, seconds: f64) -> Result<String, String> {
    let arguments = json!({"seconds": seconds});
    let begun = ask(
        guest,
        "tools/call",
        json!({"name": format!("{prefix}{tool}"), "arguments": arguments, "task": {}}),
    )
    .await?;
    begun["task"]["taskId"].as_str().map(str::to_owned).ok_or_else(|| format!("no task but {begun}"))
}

/// Sees a task through to its end or its question, then fetches the result: its id, its states, the result.
async fn follow(
    guest: &Guest,
    prefix: &str,
    tool: &str,
    seconds: f64,
) -> Result<(String, Vec<Value>, Value), String> {
    let id = begin(guest, prefix, tool, seconds).await?;
    let mut states = Vec::new();
    for _ in 0..200 {
        let task = ask(guest, "tasks/get", json!({"taskId": id})).await?;
        states.push(task["status"].clone());
        if task["status"] != "working" {
            let result = ask(guest, "tasks/result", json!({"taskId": id})).await?;
            return Ok((id, states, result));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the task does not end".to_owned())
}

async fn listed(guest: &Guest, prefix: &str) -> Result<Value, String> {
    let id = begin(guest, prefix, "job", 2.0).await?;
    let found = ask(guest, "tasks/list", json!({})).await?;
    Ok(json!(found["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(|task| task["taskId"] == id))))
}

async fn cancelled(guest: &Guest, prefix: &str) -> Result<Value, String> {
    let id = begin(guest, prefix, "job", 600.0).await?;
    let answer = ask(guest, "tasks/cancel", json!({"taskId": id})).await?;
    let after = ask(guest, "tasks/get", json!({"taskId": id})).await?;
    Ok(json!([answer["status"], after["status"]]))
}
