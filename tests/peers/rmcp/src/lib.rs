//! What both generations of the Rust SDK do here: a server with two tools, and a client that calls them.
//!
//! The tools have the names of the gateway's own demo server, so that the client's story can be told to either. Types of the
//! protocol are made from JSON, because their Rust names differ between the generations; the wire is all that matters.

pub mod jobs;

use serde_json::{Value, json};

/// The tools of the server: one that answers, one that asks the caller's user.
#[must_use]
pub fn tools() -> Value {
    let text = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    let nothing = json!({"type": "object", "properties": {}});
    json!({"tools": [
        {"name": "echo", "description": "Gives the text back", "inputSchema": text},
        {"name": "ask", "description": "Asks for a name", "inputSchema": nothing},
    ]})
}

/// The form that `ask` puts to the user.
#[must_use]
pub fn form() -> Value {
    let name = json!({"type": "string", "title": "Name"});
    json!({"message": "Who is there?", "requestedSchema": {"type": "object", "properties": {"name": name}}})
}

/// A result of one text.
#[must_use]
pub fn said(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false})
}

/// One row for `tests/run`.
pub fn tell(name: &str, outcome: Result<(), String>) {
    let detail = outcome.as_ref().err().cloned().unwrap_or_default();
    println!("{}", json!({"name": name, "ok": outcome.is_ok(), "detail": detail}));
}

/// `Server` and `Visitor` in terms of one generation of the SDK; its names are given.
#[macro_export]
macro_rules! peers {
    ($sdk:ident, $call:ident, $page:ident, $question:ident) => {
        use serde_json::{Value, from_value, json, to_value};
        use $sdk::model::{CallToolResult, CreateElicitationResult, ListToolsResult, ServerInfo};
        use $sdk::service::{RequestContext, RunningService};
        use $sdk::{ClientHandler, ErrorData, RoleClient, RoleServer, ServerHandler};

        #[derive(Clone)]
        struct Server;

        impl ServerHandler for Server {
            fn get_info(&self) -> ServerInfo {
                let about = json!({"name": "rmcp-peer", "version": "1.0.0"});
                from_value(json!({"protocolVersion": REVISION, "capabilities": {"tools": {}}, "serverInfo": about}))
                    .expect("it has every member")
            }

            async fn list_tools(
                &self,
                _: Option<$sdk::model::$page>,
                _: RequestContext<RoleServer>,
            ) -> Result<ListToolsResult, ErrorData> {
                Ok(from_value($crate::tools()).expect("the tools are well formed"))
            }

            async fn call_tool(
                &self,
                call: $sdk::model::$call,
                context: RequestContext<RoleServer>,
            ) -> Result<CallToolResult, ErrorData> {
                let text = match call.name.as_ref() {
                    "echo" => to_value(call.arguments).expect("JSON")["text"].as_str().unwrap_or("nothing").to_owned(),
                    "ask" => {
                        let question = from_value($crate::form()).expect("the form is well formed");
                        match context.peer.create_elicitation(question).await {
                            Ok(answer) => to_value(answer).expect("JSON")["content"]["name"].to_string(),
                            Err(error) => format!("no answer: {error}"),
                        }
                    }
                    other => return Err(ErrorData::invalid_params(format!("unknown tool {other}"), None)),
                };
                Ok(from_value($crate::said(&text)).expect("a text is a result"))
            }
        }

        /// Answers every form with one name.
        struct Visitor;

        impl ClientHandler for Visitor {
            fn get_info(&self) -> $sdk::model::ClientInfo {
                let about = json!({"name": "rmcp-visitor", "version": "1.0.0"});
                from_value(json!({"protocolVersion": REVISION, "capabilities": {"elicitation": {}}, "clientInfo": about}))
                    .expect("it has every member")
            }

            async fn create_elicitation(
                &self,
                _: $sdk::model::$question,
                _: RequestContext<RoleClient>,
            ) -> Result<CreateElicitationResult, ErrorData> {
                Ok(from_value(json!({"action": "accept", "content": {"name": "Ada of the peers"}})).expect("an answer"))
            }
        }

        type Guest = RunningService<RoleClient, Visitor>;

        async fn call(guest: &Guest, name: &str, arguments: Value) -> Result<String, String> {
            let call = from_value(json!({"name": name, "arguments": arguments})).expect("a call");
            let result = guest.call_tool(call).await.map_err(|error| error.to_string())?;
            Ok(to_value(result).expect("JSON")["content"][0]["text"].as_str().unwrap_or_default().to_owned())
        }

        async fn names(guest: &Guest) -> Result<Vec<String>, String> {
            let tools = guest.list_all_tools().await.map_err(|error| error.to_string())?;
            Ok(tools.into_iter().map(|tool| tool.name.into_owned()).collect())
        }

        /// What the client does through the gateway, a row for each.
        async fn story(who: &str, guest: Guest, prefix: &str) {
            let (echo, ask) = (format!("{prefix}echo"), format!("{prefix}ask"));
            let listed = names(&guest).await.and_then(|names| {
                if names.contains(&echo) { Ok(()) } else { Err(format!("{echo} is not among {names:?}")) }
            });
            $crate::tell(&format!("{who}/lists the tools"), listed);
            let echoed = call(&guest, &echo, json!({"text": "grüße"})).await;
            $crate::tell(&format!("{who}/calls a tool"), holds(echoed, "grüße"));
            let greeted = call(&guest, &ask, json!({})).await;
            $crate::tell(&format!("{who}/answers a form of a server"), holds(greeted, "Ada of the peers"));
            let unknown = call(&guest, &format!("{prefix}no-such-tool"), json!({})).await;
            let refused = unknown.map_or(Ok(()), |text| Err(format!("no error but {text:?}")));
            $crate::tell(&format!("{who}/an unknown tool is an error"), refused);
            let ended = guest.cancel().await.map(|_| ()).map_err(|error| error.to_string());
            $crate::tell(&format!("{who}/ends"), ended);
        }

        fn holds(text: Result<String, String>, part: &str) -> Result<(), String> {
            let text = text?;
            if text.contains(part) { Ok(()) } else { Err(format!("{part:?} is not in {text:?}")) }
        }
    };
}
