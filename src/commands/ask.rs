//! `servers`, `tools`, `call`: ask a running gateway, over the same listeners that everybody uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::table::table;
use super::{fail, load, say};
use crate::protocol::era::NEWEST_STATELESS;
use crate::protocol::headers;
use crate::upstream::http::{self as client, AnswerBody, HttpLimits, HttpTarget};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    gateway: Gateway,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Gateway {
    /// The configuration that the gateway runs with: it names the addresses
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// The gateway's endpoint, for example http://127.0.0.1:8080/mcp; no configuration is read then
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The gateway's admin address, for example http://127.0.0.1:9090
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CallArguments {
    /// The tool's public name
    name: String,
    /// Its arguments, a JSON object
    #[arg(default_value = "{}")]
    arguments: String,
    #[command(flatten)]
    gateway: Gateway,
    /// Print the whole result as JSON
    #[arg(long)]
    json: bool,
}

const LIMITS: HttpLimits = HttpLimits { result: 64 * 1024 * 1024, connect: Duration::from_secs(5) };

impl Gateway {
    fn endpoint(&self) -> Result<String, String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let settings = load(&self.config).ok_or("the configuration cannot be read")?;
        Ok(format!("http://{}/mcp", reachable(settings.listen.data)))
    }

    fn admin(&self) -> Result<String, String> {
        if let Some(url) = &self.admin {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let settings = load(&self.config).ok_or("the configuration cannot be read")?;
        let admin = settings.listen.admin.ok_or("the configuration has `admin: off`")?;
        Ok(format!("http://{}", reachable(admin)))
    }
}

/// An address that means "all" is reached at loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

pub(super) fn servers(arguments: &Arguments) -> ExitCode {
    let columns = ["NAME", "STATE", "TRANSPORT", "REVISION", "TOOLS", "PROMPTS", "RESOURCES", "WHY"];
    let keys = ["name", "state", "transport", "revision", "tools", "prompts", "resources", "why"];
    show(arguments, "/api/v1/servers", &columns, &keys)
}

pub(super) fn tools(arguments: &Arguments) -> ExitCode {
    let columns = ["NAME", "SERVER", "ORIGINAL", "DESCRIPTION"];
    show(arguments, "/api/v1/tools", &columns, &["name", "server", "original", "description"])
}

fn show(arguments: &Arguments, path: &str, columns: &[&str], keys: &[&str]) -> ExitCode {
    let rows = match arguments.gateway.admin().and_then(|admin| fetch(&format!("{admin}{path}"))) {
        Ok(rows) => rows,
        Err(why) => return fail(&why),
    };
    if arguments.json {
        return say(&format!("{rows:#}"));
    }
    let cell = |row: &Value, key: &str| match &row[key] {
        Value::Null => String::new(),
        Value::String(text) => text.lines().next().unwrap_or_default().to_owned(),
        other => other.to_string(),
    };
    let cells = rows.as_array().into_iter().flatten();
    say(&table(columns, cells.map(|row| keys.iter().map(|key| cell(row, key)).collect())))
}

fn fetch(url: &str) -> Result<Value, String> {
    let uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
    let target = HttpTarget::new(&uri, HeaderMap::new()).map_err(|fault| fault.to_string())?;
    let answer = block_on(client::get(&target, &[], LIMITS)).map_err(|failure| no_gateway(url, &failure))?;
    match answer.body {
        AnswerBody::Json(body) if answer.status.is_success() => {
            serde_json::from_slice(&body).map_err(|error| error.to_string())
        }
        _ => Err(format!("{url} answered {}", answer.status)),
    }
}

fn no_gateway(url: &str, failure: &client::HttpFailure) -> String {
    format!("no gateway answers at {url}: {failure}")
}

/// Runs one exchange on a runtime of its own.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(work)
}

pub(super) fn call(arguments: &CallArguments) -> ExitCode {
    match call_tool(arguments) {
        Ok(result) => show_result(arguments, &result),
        Err(why) => fail(&why),
    }
}

fn call_tool(arguments: &CallArguments) -> Result<Value, String> {
    let tool_arguments: Value = serde_json::from_str(&arguments.arguments)
        .map_err(|error| format!("the arguments are not JSON: {error}"))?;
    if !tool_arguments.is_object() {
        return Err("the arguments must be a JSON object".into());
    }
    let url = arguments.gateway.endpoint()?;
    let uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
    let target = HttpTarget::new(&uri, HeaderMap::new()).map_err(|fault| fault.to_string())?;
    let revision = NEWEST_STATELESS.text();
    let request = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": arguments.name, "arguments": tool_arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": revision,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "switchyard-call", "version": env!("CARGO_PKG_VERSION") },
            },
        },
    });
    let header = |name: &'static str, value: HeaderValue| (HeaderName::from_static(name), value);
    let extra = [
        header("mcp-protocol-version", HeaderValue::from_static(revision)),
        header("mcp-method", HeaderValue::from_static("tools/call")),
        header("mcp-name", headers::value(&arguments.name)),
    ];
    let body = Bytes::from(request.to_string());
    let answer = block_on(async {
        let answer = client::post(&target, &extra, body, LIMITS)
            .await
            .map_err(|failure| no_gateway(&url, &failure))?;
        read_answer(answer.body).await
    })?;
    if let Some(error) = answer.get("error") {
        return Err(format!("{} ({})", error["message"].as_str().unwrap_or("error"), error["code"]));
    }
    Ok(answer["result"].clone())
}

async fn read_answer(body: AnswerBody) -> Result<Value, String> {
    match body {
        AnswerBody::Json(body) => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        AnswerBody::Events(mut events) => {
            while let Some(event) = events.next().await {
                let event = event.map_err(|failure| failure.to_string())?;
                let message: Value = serde_json::from_slice(&event.data).unwrap_or_default();
                if message.get("id").is_some() && message.get("method").is_none() {
                    return Ok(message);
                }
            }
            Err("the stream ended before the answer".into())
        }
        AnswerBody::Empty | AnswerBody::Other(_) => Err("the answer is not MCP".into()),
    }
}

fn show_result(arguments: &CallArguments, result: &Value) -> ExitCode {
    let is_error = result["isError"].as_bool().unwrap_or(false);
    if arguments.json {
        say(&format!("{result:#}"));
    } else {
        for block in result["content"].as_array().into_iter().flatten() {
            match block["text"].as_str() {
                Some(text) => say(text),
                None => say(&block.to_string()),
            };
        }
    }
    ExitCode::from(u8::from(is_error))
}
