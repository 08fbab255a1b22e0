//! The upstream that is fast enough not to count: a minimal MCP server of both eras on raw TCP, one thread.
//!
//! Always: answers follow the revision that the request speaks; requests that break its rules are refused, so a proxy
//! cannot look fast by sending less than it must.
//! Not here: event streams of its own (GET is answered 405, as the specification allows).
//!
//! The path chooses the shape: `/{tools}/{server}/mcp` is a server of its own with that many tools.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::HashSet;
use std::io::{self, Write as _};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use crate::wire::{Connection, Head};
use crate::{HANDSHAKE, STATELESS};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    size: Option<usize>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    revision: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'a RawValue>,
}

/// What all connections share.
#[derive(Default)]
struct Server {
    sessions: std::cell::RefCell<HashSet<String>>,
    opened: std::cell::Cell<u64>,
    tool_lists: std::cell::RefCell<HashMap<usize, Rc<str>>>,
}

/// Serves until the process is ended or its standard input closes; prints `upstream ADDRESS` when ready.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("upstream {}", listener.local_addr()?);
    io::stdout().flush()?;
    let server = Rc::new(Server::default());
    let accept = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let connection = Connection::over(stream)?;
            let server = server.clone();
            tokio::task::spawn_local(async move {
                // A broken connection ends alone; the caller sees it as an error of its own.
                let _ = server.serve_connection(connection).await;
            });
        }
    };
    let mut silence = [0_u8; 1];
    let mut parent = tokio::io::stdin();
    tokio::select! {
        ended = accept => ended,
        // The parent holds the other end: when it is gone, so are we.
        _ = tokio::io::AsyncReadExt::read(&mut parent, &mut silence) => Ok(()),
    }
}

impl Server {
    async fn serve_connection(&self, mut connection: Connection) -> io::Result<()> {
        let mut body = Vec::new();
        let mut answer = Vec::new();
        while let Some(head) = connection.head().await? {
            connection.body(&head, &mut body).await?;
            answer.clear();
            self.answer(&head, &body, &mut answer);
            connection.send(&answer).await?;
        }
        Ok(())
    }

    fn answer(&self, head: &Head, body: &[u8], out: &mut Vec<u8>) {
        let mut words = head.first_line.split(' ');
        let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match verb {
            "POST" => {}
            "DELETE" => {
                let known = head.session.as_ref().is_some_and(|id| self.sessions.borrow_mut().remove(id));
                return write_http(out, if known { "200 OK" } else { "404 Not Found" }, None, "");
            }
            _ => return write_http(out, "405 Method Not Allowed", None, ""),
        }
        match serde_json::from_slice::<Request>(body) {
            Ok(request) if is_stateless(head, &request) => self.stateless(head, path, &request, out),
            Ok(request) => self.handshake(head, path, &request, out),
            Err(error) => refuse(out, "400 Bad Request", "null", -32700, &error.to_string()),
        }
    }

    fn handshake(&self, head: &Head, path: &str, request: &Request, out: &mut Vec<u8>) {
        let opening = request.method == "initialize";
        if !opening {
            let Some(session) = &head.session else {
                return refuse(out, "400 Bad Request", "null", -32600, "no session");
            };
            if !self.sessions.borrow().contains(session) {
                return refuse(out, "404 Not Found", "null", -32600, "unknown session");
            }
        }
        let Some(id) = request.id else {
            return write_http(out, "202 Accepted", None, "");
        };
        let result = match request.method.as_ref() {
            "initialize" => format!(
                r#"{{"protocolVersion":"{HANDSHAKE}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bench","version":"1"}}}}"#
            ),
            "ping" => "{}".to_owned(),
            "tools/list" => format!(r#"{{"tools":{}}}"#, self.tools(path)),
            "tools/call" => match call(request) {
                Ok(content) => format!(r#"{{"content":{content}}}"#),
                Err(why) => return refuse(out, "200 OK", id.get(), -32602, why),
            },
            _ => return refuse(out, "200 OK", id.get(), -32601, "unknown method"),
        };
        let session = opening.then(|| self.open_session());
        write_http(out, "200 OK", session.as_deref(), &result_message(id, &result));
    }

    fn stateless(&self, head: &Head, path: &str, request: &Request, out: &mut Vec<u8>) {
        let Some(id) = request.id else {
            return write_http(out, "202 Accepted", None, "");
        };
        if let Err((code, why)) = check_stateless(head, request) {
            return refuse(out, "400 Bad Request", id.get(), code, why);
        }
        let result = match request.method.as_ref() {
            "server/discover" => format!(
                r#"{{"resultType":"complete","supportedVersions":["{STATELESS}"],"capabilities":{{"tools":{{}}}},"ttlMs":60000,"cacheScope":"public"}}"#
            ),
            "tools/list" => format!(
                r#"{{"resultType":"complete","ttlMs":60000,"cacheScope":"public","tools":{}}}"#,
                self.tools(path)
            ),
            "tools/call" => match call(request) {
                Ok(content) => format!(r#"{{"resultType":"complete","content":{content}}}"#),
                Err(why) => return refuse(out, "200 OK", id.get(), -32602, why),
            },
            _ => return refuse(out, "404 Not Found", id.get(), -32601, "unknown method"),
        };
        write_http(out, "200 OK", None, &result_message(id, &result));
    }

    fn open_session(&self) -> String {
        self.opened.set(self.opened.get() + 1);
        let id = format!("bench-{}-{}", std::process::id(), self.opened.get());
        self.sessions.borrow_mut().insert(id.clone());
        id
    }

    fn tools(&self, path: &str) -> Rc<str> {
        let count = path.split('/').nth(1).and_then(|count| count.parse().ok()).unwrap_or(1);
        let mut lists = self.tool_lists.borrow_mut();
        lists.entry(count).or_insert_with(|| tool_list(count).into()).clone()
    }
}

fn is_stateless(head: &Head, request: &Request) -> bool {
    let in_meta = request
        .params
        .as_ref()
        .and_then(|params| params.meta.as_ref())
        .and_then(|meta| meta.revision.as_ref());
    in_meta.is_some() || head.revision.as_deref() == Some(STATELESS)
}

/// The checks that 2026-07-28 demands of a server: metadata whole, headers equal to the body.
fn check_stateless(head: &Head, request: &Request) -> Result<(), (i32, &'static str)> {
    let params = request.params.as_ref().ok_or((-32602, "no params"))?;
    let meta = params.meta.as_ref().ok_or((-32602, "no _meta"))?;
    let revision = meta.revision.as_deref().ok_or((-32602, "no protocol version"))?;
    meta.capabilities.ok_or((-32602, "no client capabilities"))?;
    if head.revision.as_deref() != Some(revision) {
        return Err((-32020, "version header differs"));
    }
    if revision != STATELESS {
        return Err((-32022, "version not served"));
    }
    if head.method.as_deref() != Some(request.method.as_ref()) {
        return Err((-32020, "method header differs"));
    }
    if request.method == "tools/call" && head.name.as_deref() != params.name.as_deref() {
        return Err((-32020, "name header differs"));
    }
    Ok(())
}

fn call(request: &Request) -> Result<String, &'static str> {
    let params = request.params.as_ref().ok_or("no params")?;
    let arguments = params.arguments.as_ref().ok_or("no arguments")?;
    match params.name.as_deref() {
        Some("echo") => {
            let text = arguments.text.ok_or("no text")?.get();
            Ok(format!(r#"[{{"type":"text","text":{text}}}]"#))
        }
        Some("blob") => {
            let text = "x".repeat(arguments.size.ok_or("no size")?);
            Ok(format!(r#"[{{"type":"text","text":"{text}"}}]"#))
        }
        _ => Err("unknown tool"),
    }
}

/// `echo`, `blob` and as many more as it takes, each about as large as the tools of real servers.
fn tool_list(count: usize) -> String {
    let tool = |number: usize| {
        let name = match number {
            0 => "echo".to_owned(),
            1 => "blob".to_owned(),
            more => format!("tool_{more:04}"),
        };
        let property = |name: &str, kind: &str| {
            format!(r#""{name}":{{"type":"{kind}","description":"What the tool takes as its {name}."}}"#)
        };
        format!(
            r#"{{"name":"{name}","title":"Tool {number}","description":"Tool number {number} of a server that answers quickly. {}","inputSchema":{{"type":"object","properties":{{{},{},{}}},"additionalProperties":false}}}}"#,
            "It says at some length what it is good for.",
            property("text", "string"),
            property("size", "integer"),
            property("strict", "boolean"),
        )
    };
    format!("[{}]", (0..count).map(tool).collect::<Vec<_>>().join(","))
}

fn result_message(id: &RawValue, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn refuse(out: &mut Vec<u8>, status: &str, id: &str, code: i32, why: &str) {
    let why = serde_json::to_string(why).unwrap_or_default();
    let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{why}}}}}"#);
    write_http(out, status, None, &message);
}

fn write_http(out: &mut Vec<u8>, status: &str, session: Option<&str>, body: &str) {
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    // Writing to a vector cannot fail.
    let _ = write!(out, "HTTP/1.1 {status}\r\n{kind}{session}Content-Length: {}\r\n\r\n{body}", body.len());
}

/// An upstream in its own process, so that its processor time is not the caller's.
pub(crate) struct Upstream {
    child: tokio::process::Child,
    /// Where it listens.
    pub(crate) address: std::net::SocketAddr,
}

impl Upstream {
    /// Runs this program again in the role of the upstream.
    pub(crate) async fn start() -> Result<Self> {
        use tokio::io::AsyncBufReadExt as _;
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .args(["--role", "upstream"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout was piped")?;
        let mut line = String::new();
        tokio::io::BufReader::new(stdout).read_line(&mut line).await?;
        let address = line.trim().strip_prefix("upstream ").context("the upstream did not start")?.parse()?;
        Ok(Upstream { child, address })
    }

    /// Its process.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.id()
    }
}
