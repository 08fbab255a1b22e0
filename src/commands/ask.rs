//! `servers`, `tools`, `call`: ask a running gateway, over the same listeners that everybody uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::table::table;
use super::{fail, load, say};
use crate::protocol::era::NEWEST_HANDSHAKE;
use crate::protocol::json::{Limits, Object, quote};
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

/// Calls in a session of its own: the handshake era needs no knowledge of the tool's schema, which parameter headers of
/// the stateless one would.
fn call_tool(arguments: &CallArguments) -> Result<Value, String> {
    // Spliced as they are written, so that no number is read and written again.
    let raw = Bytes::copy_from_slice(arguments.arguments.as_bytes());
    let tool_arguments = Object::parse(raw, Limits::default())
        .map_err(|fault| format!("the arguments must be a JSON object: {fault}"))?;
    let url = arguments.gateway.endpoint()?;
    let uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
    let target = HttpTarget::new(&uri, HeaderMap::new()).map_err(|fault| fault.to_string())?;
    let params = format!(
        r#"{{"name":{},"arguments":{}}}"#,
        quote(&arguments.name),
        String::from_utf8_lossy(tool_arguments.as_bytes())
    );
    let answer = block_on(async {
        let (session, _) = post(&target, &url, None, 1, "initialize", &initialize_params()).await?;
        let answered = post(&target, &url, session.as_ref(), 2, "tools/call", &params).await;
        if let Some(session) = session {
            // The answer is what matters; a session that is not ended expires.
            let _ = client::delete(&target, &[(SESSION, session)], LIMITS).await;
        }
        answered
    });
    let (_, answer) = answer?;
    if let Some(error) = answer.get("error") {
        return Err(format!("{} ({})", error["message"].as_str().unwrap_or("error"), error["code"]));
    }
    Ok(answer["result"].clone())
}

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

fn initialize_params() -> String {
    format!(
        concat!(
            r#"{{"protocolVersion":"{}","capabilities":{{}},"#,
            r#""clientInfo":{{"name":"switchyard-call","version":"{}"}}}}"#
        ),
        NEWEST_HANDSHAKE,
        env!("CARGO_PKG_VERSION")
    )
}

/// One request and its answer, with the session that it opened.
async fn post(
    target: &HttpTarget,
    url: &str,
    session: Option<&HeaderValue>,
    id: u64,
    method: &str,
    params: &str,
) -> Result<(Option<HeaderValue>, Value), String> {
    let extra: Vec<_> = session.map(|session| (SESSION, session.clone())).into_iter().collect();
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
    let answer = client::post(target, &extra, body.into(), LIMITS).await;
    let answer = answer.map_err(|failure| no_gateway(url, &failure))?;
    Ok((answer.session, read_answer(answer.body).await?))
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
