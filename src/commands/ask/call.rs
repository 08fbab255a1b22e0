//! `call`: one tool call, in a session of its own.
//!
//! The handshake era needs no knowledge of the tool's schema, which parameter headers of the stateless one would.

use std::process::ExitCode;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::Client;
use super::{EndpointAddress, block_on};
use crate::commands::{fail, say_foreign, say_json};
use crate::protocol::json::{Limits, Object};

#[derive(Debug, Args)]
pub(in crate::commands) struct Arguments {
    /// The tool's public name
    name: String,
    /// Its arguments, a JSON object
    #[arg(default_value = "{}")]
    arguments: String,
    #[command(flatten)]
    address: EndpointAddress,
    /// Print the whole result as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments are passed on as they are written, so that no number is read and written again.
#[derive(Serialize)]
struct ToolCall<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

pub(in crate::commands) fn run(arguments: &Arguments) -> ExitCode {
    match call_tool(arguments) {
        Ok(result) => show_result(&result, arguments.json),
        Err(why) => fail(&format!("{why:#}")),
    }
}

fn call_tool(arguments: &Arguments) -> anyhow::Result<Value> {
    let text = arguments.arguments.trim();
    Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default())
        .context("the arguments must be a JSON object")?;
    let call = ToolCall { name: &arguments.name, arguments: serde_json::from_str(text)? };
    let url = arguments.address.url()?;
    let result = block_on(async {
        let mut client = Client::open(url).await?;
        let result = client.request("tools/call", &call).await;
        client.close().await;
        result
    });
    Ok(serde_json::from_str(result?.get())?)
}

/// Prints what a tool gave.
pub(super) fn show_result(result: &Value, json: bool) -> ExitCode {
    if json {
        say_json(result);
    } else {
        for block in result["content"].as_array().into_iter().flatten() {
            match block["text"].as_str() {
                Some(text) => say_foreign(text),
                None => say_json(block),
            };
        }
    }
    ExitCode::from(u8::from(result["isError"].as_bool().unwrap_or(false)))
}
