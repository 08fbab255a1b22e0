//! One client of the benchmark: a keep-alive connection that opens sessions, calls, and checks every answer.
//!
//! Always: an answer counts only if its status, id and echoed text are those of the request.
//! Not here: how many callers there are and for how long (`drive`).

use std::borrow::Cow;
use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::{self, Connection, Head};
use crate::{HANDSHAKE, STATELESS};

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Address of the proxy, or of the upstream itself.
    pub(crate) address: SocketAddr,
    /// Path of the endpoint.
    pub(crate) path: String,
}

/// How the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2025-11-25: sessions.
    Handshake,
    /// 2026-07-28: metadata on every request.
    Stateless,
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CallResult<'a> {
    #[serde(borrow)]
    content: Vec<Content<'a>>,
    #[serde(default, rename = "isError")]
    is_error: bool,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ToolList<'a> {
    #[serde(borrow)]
    tools: Vec<Named<'a>>,
    #[serde(borrow, rename = "nextCursor")]
    next_cursor: Option<Cow<'a, str>>,
}

/// A client that is away while its sessions live on.
pub(crate) struct Absent {
    target: Target,
    era: Era,
    sessions: Vec<String>,
    next_id: u64,
}

impl Absent {
    /// Comes back on a new connection.
    pub(crate) async fn reconnect(self) -> Result<Caller> {
        let mut caller = Caller::open(&self.target, self.era, 0).await?;
        caller.sessions = self.sessions;
        caller.next_id = self.next_id;
        Ok(caller)
    }
}

/// A client.
pub(crate) struct Caller {
    target: Target,
    era: Era,
    connection: Connection,
    sessions: Vec<String>,
    next_id: u64,
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Caller {
    /// Connects, and opens `sessions` sessions if the era has them.
    pub(crate) async fn open(target: &Target, era: Era, sessions: usize) -> Result<Self> {
        let connection = Connection::open(target.address).await.context("connecting")?;
        let (request, body) = (Vec::new(), Vec::new());
        let mut caller = Caller {
            target: target.clone(),
            era,
            connection,
            sessions: Vec::new(),
            next_id: 0,
            request,
            body,
        };
        if era == Era::Handshake {
            for _ in 0..sessions {
                caller.open_session().await.context("opening a session")?;
            }
        }
        Ok(caller)
    }

    /// Opens one session more; later calls rotate over all of them.
    pub(crate) async fn open_session(&mut self) -> Result<()> {
        let params = format!(
            r#"{{"protocolVersion":"{HANDSHAKE}","capabilities":{{}},"clientInfo":{{"name":"bench","version":"1"}}}}"#
        );
        let id = self.take_id();
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{params}}}"#);
        self.write("POST", None, "", &body);
        let head = self.exchange().await?;
        ensure!(head.status() == 200, "initialize: {}", head.first_line);
        self.result_of(&head, id)?;
        let session = head.session.context("initialize gave no session id")?;
        let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.write("POST", Some(&session), "", body);
        let head = self.exchange().await?;
        ensure!(head.status() == 202, "initialized: {}", head.first_line);
        self.sessions.push(session);
        Ok(())
    }

    /// Ends one session.
    pub(crate) async fn close_session(&mut self) -> Result<()> {
        let Some(session) = self.sessions.pop() else { return Ok(()) };
        self.write("DELETE", Some(&session), "", "");
        let head = self.exchange().await?;
        ensure!((200..300).contains(&head.status()), "closing a session: {}", head.first_line);
        Ok(())
    }

    /// Ends all sessions.
    pub(crate) async fn close(mut self) -> Result<()> {
        while !self.sessions.is_empty() {
            self.close_session().await?;
        }
        Ok(())
    }

    /// Leaves the connection but keeps the sessions.
    pub(crate) fn disconnect(self) -> Absent {
        Absent { target: self.target, era: self.era, sessions: self.sessions, next_id: self.next_id }
    }

    /// Opens the session's GET stream on a connection of its own, which stays open as long as it is kept.
    pub(crate) async fn open_stream(&self) -> Result<Connection> {
        let session = self.sessions.last().context("no session")?;
        let mut connection = Connection::open(self.target.address).await?;
        let (path, address) = (&self.target.path, self.target.address);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
             MCP-Protocol-Version: {HANDSHAKE}\r\nMcp-Session-Id: {session}\r\n\r\n"
        );
        connection.send(request.as_bytes()).await?;
        let head = connection.head().await?.context("closed before the stream began")?;
        ensure!(head.status() == 200 && head.event_stream, "GET stream: {}", head.first_line);
        Ok(connection)
    }

    /// Calls an echoing tool and checks that its own text comes back.
    pub(crate) async fn echo(&mut self, tool: &str, text: &str) -> Result<()> {
        let (id, head) = self.call(tool, &format!(r#"{{"text":"{text}"}}"#)).await?;
        let result = self.call_result(&head, id)?;
        ensure!(!result.is_error, "the tool failed: {}", first_text(&result));
        ensure!(first_text(&result) == text, "foreign answer: sent {text}, got {}", first_text(&result));
        Ok(())
    }

    /// Calls the tool that answers with `size` bytes, and checks the size.
    pub(crate) async fn blob(&mut self, tool: &str, size: usize) -> Result<()> {
        let (id, head) = self.call(tool, &format!(r#"{{"size":{size}}}"#)).await?;
        let result = self.call_result(&head, id)?;
        ensure!(first_text(&result).len() == size, "got {} bytes of {size}", first_text(&result).len());
        Ok(())
    }

    /// Lists all tools with full checks: names in order, and the bytes of the answer's body.
    pub(crate) async fn list(&mut self) -> Result<(Vec<String>, usize)> {
        let (id, head) = self.request("tools/list", None, "").await?;
        let list: ToolList = serde_json::from_str(self.result_of(&head, id)?)?;
        ensure!(list.next_cursor.is_none(), "the list came in pages");
        Ok((list.tools.into_iter().map(|tool| tool.name.into_owned()).collect(), self.body.len()))
    }

    /// Lists all tools and checks status and size alone, so that reading the answer does not outweigh making it.
    pub(crate) async fn list_unread(&mut self, size: usize) -> Result<()> {
        let (_, head) = self.request("tools/list", None, "").await?;
        // Ids grow by a digit now and then.
        ensure!(head.status() == 200 && self.body.len().abs_diff(size) < 16, "list of {}", self.body.len());
        Ok(())
    }

    /// Fetches a plain file of the given size.
    pub(crate) async fn fetch(&mut self, size: usize) -> Result<()> {
        self.request.clear();
        let (path, address) = (&self.target.path, self.target.address);
        write!(self.request, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let head = self.exchange().await?;
        ensure!(head.status() == 200 && self.body.len() == size, "{}: {}", head.first_line, self.body.len());
        Ok(())
    }

    async fn call(&mut self, tool: &str, arguments: &str) -> Result<(u64, Head)> {
        let params = format!(r#""name":"{tool}","arguments":{arguments}"#);
        self.request("tools/call", Some(tool), &params).await
    }

    async fn request(&mut self, method: &str, name: Option<&str>, params: &str) -> Result<(u64, Head)> {
        let id = self.take_id();
        let name = name.map(|name| format!("Mcp-Name: {name}\r\n")).unwrap_or_default();
        let (headers, meta) = match self.era {
            Era::Handshake => (String::new(), ""),
            Era::Stateless => (
                format!("Mcp-Method: {method}\r\n{name}"),
                r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#,
            ),
        };
        let comma = if params.is_empty() || meta.is_empty() { "" } else { "," };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{comma}{meta}}}}}"#
        );
        let turn = usize::try_from(id).unwrap_or(0) % self.sessions.len().max(1);
        let session = self.sessions.get(turn).cloned();
        self.write("POST", session.as_deref(), &headers, &body);
        Ok((id, self.exchange().await?))
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn write(&mut self, verb: &str, session: Option<&str>, headers: &str, body: &str) {
        self.request.clear();
        let (path, address) = (&self.target.path, self.target.address);
        let revision = match self.era {
            Era::Handshake => HANDSHAKE,
            Era::Stateless => STATELESS,
        };
        let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
        // Writing to a vector cannot fail.
        let _ = write!(
            self.request,
            "{verb} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {revision}\r\n\
             {session}{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }

    async fn exchange(&mut self) -> Result<Head> {
        self.connection.send(&self.request).await?;
        let head = self.connection.head().await?.context("closed instead of answering")?;
        self.connection.body(&head, &mut self.body).await?;
        Ok(head)
    }

    fn result_of(&self, head: &Head, id: u64) -> Result<&str> {
        for message in wire::messages(head, &self.body) {
            let answer: Answer = serde_json::from_slice(message)
                .with_context(|| format!("{}: {}", head.first_line, String::from_utf8_lossy(message)))?;
            match (answer.id, answer.result, answer.error) {
                (Some(answered), Some(result), None) if answered == id => return Ok(result.get()),
                (None, None, None) => {} // a notification
                (_, _, error) => bail!(
                    "{}: not the answer to {id}: {}",
                    head.first_line,
                    error.map_or_else(|| String::from_utf8_lossy(message), |error| error.get().into())
                ),
            }
        }
        bail!("{}: no answer to {id}", head.first_line)
    }

    fn call_result(&self, head: &Head, id: u64) -> Result<CallResult<'_>> {
        Ok(serde_json::from_str(self.result_of(head, id)?)?)
    }
}

fn first_text<'a>(result: &'a CallResult) -> &'a str {
    result.content.first().map_or("", |content| &content.text)
}
