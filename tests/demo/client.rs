//! A client of any revision over either transport, which answers what it is asked and checks every message it gets.

use http::Method;
use serde_json::{Value, json};
use switchyard::protocol::era::{Era, Revision};

use crate::pipe::{self, Running};
use crate::schema;
use crate::web::{self, Answer};

/// Metadata key that names the task a message is about.
pub(crate) const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

pub(crate) struct Client {
    pub(crate) revision: Revision,
    pub(crate) server: Running,
    /// Notifications in the order they came.
    pub(crate) noticed: Vec<Value>,
    /// Questions the server asked.
    pub(crate) asked: Vec<Value>,
    pub(crate) capabilities: Value,
    pub(crate) log_level: Option<&'static str>,
    /// What the server said of itself.
    pub(crate) met: Value,
    url: Option<String>,
    session: Option<String>,
    next_id: i64,
}

pub(crate) fn capabilities(revision: Revision) -> Value {
    match revision {
        Revision::V2024_11_05 | Revision::V2025_03_26 => json!({"roots": {}, "sampling": {}}),
        Revision::V2025_06_18 => json!({"roots": {}, "sampling": {}, "elicitation": {}}),
        _ => json!({"roots": {}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}),
    }
}

impl Client {
    /// A client in conversation, with a server of its own.
    pub(crate) async fn meet(revision: Revision, over_http: bool, arguments: &[&str]) -> Client {
        let (server, url) = if over_http {
            let (server, url) = pipe::start_http(arguments).await;
            (server, Some(url))
        } else {
            (pipe::start(arguments), None)
        };
        let mut client = Client {
            revision,
            server,
            noticed: Vec::new(),
            asked: Vec::new(),
            capabilities: capabilities(revision),
            log_level: None,
            met: Value::Null,
            url,
            session: None,
            next_id: 0,
        };
        client.open().await;
        client
    }

    async fn open(&mut self) {
        if self.revision.era() == Era::Stateless {
            let found = self.request("server/discover", json!({})).await.unwrap();
            assert!(found["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
            self.met = found;
            return;
        }
        let params = json!({
            "protocolVersion": self.revision.text(), "capabilities": self.capabilities,
            "clientInfo": {"name": "test", "version": "1"},
        });
        let agreed = self.request("initialize", params).await.unwrap();
        assert_eq!(agreed["protocolVersion"], self.revision.text());
        self.met = agreed;
        self.notify("notifications/initialized", json!({})).await;
    }

    /// Begins anew, with the capabilities of now: another session, or another server over stdio.
    pub(crate) async fn reopen(&mut self) {
        if self.url.is_none() {
            self.server = pipe::start(&[]);
        }
        self.session = None;
        self.open().await;
    }

    /// Goes on in another session of the same server; gives back the one before.
    pub(crate) async fn change_session(&mut self, to: Option<String>) -> Option<String> {
        let before = std::mem::replace(&mut self.session, to);
        if self.session.is_none() {
            self.open().await;
        }
        before
    }

    pub(crate) fn url(&self) -> &str {
        self.url.as_deref().unwrap()
    }

    pub(crate) fn session(&self) -> &str {
        self.session.as_deref().unwrap()
    }

    /// What goes with every POST for this method and these parameters.
    pub(crate) fn headers(&self, method: &str, params: &Value) -> Vec<(&'static str, String)> {
        let mut headers: Vec<_> = web::POST.map(|(name, value)| (name, value.to_owned())).to_vec();
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id", session.clone()));
        }
        if self.revision >= Revision::V2025_06_18 && method != "initialize" {
            headers.push(("mcp-protocol-version", self.revision.text().to_owned()));
        }
        if self.revision.era() == Era::Stateless {
            headers.push(("mcp-method", method.to_owned()));
            if let Some(name) = ["name", "uri", "taskId"].iter().find_map(|key| params[key].as_str()) {
                headers.push(("mcp-name", name.to_owned()));
            }
        }
        headers
    }

    /// The parameters with what the revision wants in every request.
    pub(crate) fn complete(&self, mut params: Value) -> Value {
        if self.revision.era() == Era::Stateless {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = json!(self.revision.text());
            meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
            if let Some(level) = self.log_level {
                meta["io.modelcontextprotocol/logLevel"] = json!(level);
            }
        }
        params
    }

    pub(crate) async fn post(&self, message: &Value) -> Answer {
        let headers = self.headers(message["method"].as_str().unwrap_or_default(), &message["params"]);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        web::send(Method::POST, self.url(), &headers, &message.to_string()).await
    }

    pub(crate) async fn notify(&mut self, method: &str, params: Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.tell(&message).await;
    }

    /// Sends a message that has no answer.
    async fn tell(&mut self, message: &Value) {
        if self.url.is_none() {
            return self.server.write(&message.to_string()).await;
        }
        let answer = self.post(message).await;
        assert_eq!(answer.status, 202, "{message}");
        assert_eq!(answer.text().await, "");
    }

    /// A request of the client, with a new id.
    pub(crate) fn compose(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": self.complete(params)})
    }

    /// Sends a request and sees it through, questions included. The error, where it fails, is the JSON-RPC error.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let mut params = params;
        loop {
            let message = self.compose(method, params.clone());
            let response = self.round(method, &message).await;
            if let Some(error) = response.get("error") {
                return Err(error.clone());
            }
            let result = response["result"].clone();
            if result["resultType"] != "input_required" {
                return Ok(result);
            }
            let mut answers = json!({});
            for (key, question) in result["inputRequests"].as_object().into_iter().flatten() {
                self.asked.push(question.clone());
                answers[key] = answer_to(question);
            }
            params["inputResponses"] = answers;
            if let Some(state) = result.get("requestState") {
                params["requestState"] = state.clone();
            }
        }
    }

    async fn round(&mut self, method: &str, message: &Value) -> Value {
        if self.url.is_none() {
            self.server.write(&message.to_string()).await;
            loop {
                let came = self.server.message().await;
                if let Some(response) = self.take(method, message, came).await {
                    return response;
                }
            }
        }
        let mut answer = self.post(message).await;
        if let Some(session) = answer.header("mcp-session-id") {
            assert_ne!(self.revision.era(), Era::Stateless, "no sessions here");
            self.session = Some(session.to_owned());
        }
        loop {
            let came = answer.message().await.unwrap_or_else(|| panic!("no response to {message}"));
            if let Some(response) = self.take(method, message, came).await {
                assert!(answer.message().await.is_none(), "nothing follows a response");
                return response;
            }
        }
    }

    /// Checks what came; gives it back if it is the response.
    async fn take(&mut self, method: &str, sent: &Value, came: Value) -> Option<Value> {
        schema::check(self.revision, &came, Some(method));
        if came.get("method").is_none() {
            assert_eq!(came["id"], sent["id"]);
            return Some(came);
        }
        if came.get("id").is_some() {
            let mut answer = json!({"jsonrpc": "2.0", "id": came["id"], "result": answer_to(&came)});
            if let Some(task) = came["params"]["_meta"].get(RELATED_TASK) {
                answer["result"]["_meta"] = json!({RELATED_TASK: task});
            }
            self.asked.push(came);
            // Boxed, because telling over HTTP is as large as asking.
            Box::pin(self.tell(&answer)).await;
        } else {
            self.noticed.push(came);
        }
        None
    }

    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.request("tools/call", json!({"name": tool, "arguments": arguments})).await;
        result.unwrap_or_else(|error| panic!("{tool} failed: {error}"))
    }
}

/// Answers at once; a question that shall be a task with a task that is over when it is looked at.
fn answer_to(question: &Value) -> Value {
    let moment = "2026-01-01T00:00:00Z";
    let mut task = json!({
        "taskId": "mine", "status": "working", "ttl": null, "createdAt": moment, "lastUpdatedAt": moment, "pollInterval": 1,
    });
    match question["method"].as_str().unwrap() {
        _ if question["params"]["task"].is_object() => json!({"task": task}),
        "tasks/get" => {
            assert_eq!(question["params"]["taskId"], "mine");
            task["status"] = json!("completed");
            task
        }
        "tasks/result" => json!({
            "action": "accept", "content": {"name": "Ada"}, "_meta": {RELATED_TASK: {"taskId": "mine"}},
        }),
        "elicitation/create" if question["params"]["mode"] == "url" => json!({"action": "accept"}),
        "elicitation/create" => json!({"action": "accept", "content": {"name": "Ada"}}),
        "sampling/createMessage" => json!({
            "role": "assistant", "model": "none", "content": {"type": "text", "text": "Trains pass in the night"},
        }),
        "roots/list" => json!({"roots": [{"uri": "file:///work", "name": "work"}]}),
        other => panic!("unexpected question {other}"),
    }
}

/// The text of a tool's result.
pub(crate) fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text in {result}"))
}
