//! Upstreams of the HTTP+SSE transport of 2024-11-05: the gateway as their client (S-SSE-04, S-SSE-05).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::gateway::Plan;
use crate::support::http::{Framing, Headers, chunk, read_head};
use crate::support::{Gateway, HANDSHAKE, STATELESS, eventually, gateway, within};

const QUICK: &str =
    "bounds: { backoff_first: 100ms, backoff_longest: 500ms, probe_deadline: 1s, start_deadline: 3s }";

/// One request as it came.
#[derive(Debug, Clone)]
struct Seen {
    start: String,
    headers: Headers,
    json: Value,
}

impl Seen {
    fn method(&self) -> &str {
        self.json["method"].as_str().unwrap_or_default()
    }

    /// The session that its path names.
    fn session(&self) -> &str {
        self.start.split("sessionId=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default()
    }
}

/// How a server of that time behaves.
#[derive(Debug, Clone)]
struct Manner {
    /// The first event, with `{port}` and `{session}` to fill in; nothing at all when `None`.
    opening: Option<String>,
    /// The whole answer to GET, instead of a stream.
    instead: Option<String>,
    /// The answer to a POST where the stream is.
    refusal: String,
    /// The status that takes a message.
    taken: u16,
    /// Answers on the stream before it takes the message.
    is_hasty: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            opening: Some("event: endpoint\ndata: /messages?sessionId={session}\n\n".to_owned()),
            instead: None,
            refusal: "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n".to_owned(),
            taken: 202,
            is_hasty: false,
        }
    }
}

/// An event for a stream; `None` ends it.
type Stream = mpsc::Sender<Option<String>>;

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    manner: Manner,
    seen: Mutex<Vec<Seen>>,
    streams: Mutex<HashMap<String, Stream>>,
    /// Calls that are not answered yet.
    waiting: Mutex<Vec<Seen>>,
}

/// Such a server. It serves until the story ends.
#[derive(Debug, Clone)]
struct OldServer(Arc<Inner>);

impl OldServer {
    async fn start(manner: Manner) -> OldServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("bound above");
        let server = OldServer(Arc::new(Inner {
            address,
            manner,
            seen: Mutex::default(),
            streams: Mutex::default(),
            waiting: Mutex::default(),
        }));
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://{}/sse", self.0.address)
    }

    fn plan(&self, more: Value) -> Plan {
        let mut settings = json!({ "url": self.url() });
        for (key, value) in more.as_object().expect("more keys are an object") {
            settings[key] = value.clone();
        }
        gateway().with_server("one", settings).config(QUICK)
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.seen.lock().expect("nobody panics while holding it").clone()
    }

    /// Requests with this start line, such as `GET /sse`.
    fn asked(&self, start: &str) -> usize {
        self.seen().iter().filter(|seen| seen.start.starts_with(start)).count()
    }

    fn received(&self, method: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method() == method).collect()
    }

    fn sessions(&self) -> Vec<String> {
        self.0.streams.lock().expect("nobody panics while holding it").keys().cloned().collect()
    }

    fn say(&self, session: &str, message: Option<&Value>) {
        let event = message.map(|message| format!("event: message\ndata: {message}\n\n"));
        if let Some(stream) = self.0.streams.lock().expect("nobody panics while holding it").get(session) {
            // Few events and a place for each; a stream that has ended takes none.
            stream.try_send(event).ok();
        }
    }

    /// Say a message of exactly this text.
    fn say_text(&self, session: &str, message: &str) {
        if let Some(stream) = self.0.streams.lock().expect("nobody panics while holding it").get(session) {
            stream.try_send(Some(format!("data: {message}\n\n"))).ok();
        }
    }

    /// Answer the calls that wait for it.
    fn release(&self) {
        for seen in self.0.waiting.lock().expect("nobody panics while holding it").drain(..) {
            let result = json!({ "content": [{ "type": "text", "text": "at last" }] });
            let answer = json!({ "jsonrpc": "2.0", "id": seen.json["id"], "result": result });
            self.say(seen.session(), Some(&answer));
        }
    }

    async fn serve(self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        while let Ok(Some(head)) = read_head(&mut stream).await {
            let body = Framing::of_request(&head.headers).all(&mut stream).await.ok()?;
            let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
            println!("   [old] <= {} {json}", head.start);
            let seen = Seen { start: head.start, headers: head.headers, json };
            self.0.seen.lock().expect("nobody panics while holding it").push(seen.clone());
            match seen.start.split(' ').next() {
                Some("GET") => match &self.0.manner.instead {
                    Some(instead) => stream.get_mut().write_all(instead.as_bytes()).await.ok()?,
                    None => return self.stand(stream).await,
                },
                Some("POST") if seen.start.contains("sessionId=") => self.take(&seen, &mut stream).await?,
                _ => stream.get_mut().write_all(self.0.manner.refusal.as_bytes()).await.ok()?,
            }
        }
        Some(())
    }

    /// The stream of one session, to its end from whichever side.
    async fn stand(&self, mut stream: BufReader<TcpStream>) -> Option<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.get_mut().write_all(head.as_bytes()).await.ok()?;
        let (out, mut events) = mpsc::channel(64);
        let session = {
            let mut streams = self.0.streams.lock().expect("nobody panics while holding it");
            let gets = self.asked("GET ");
            let session = (0..).map(|n| format!("session-{gets}-{n}")).find(|id| !streams.contains_key(id));
            let session = session.expect("there are enough numbers");
            streams.insert(session.clone(), out);
            session
        };
        if let Some(opening) = &self.0.manner.opening {
            let port = self.0.address.port().to_string();
            let opening = opening.replace("{port}", &port).replace("{session}", &session);
            stream.get_mut().write_all(&chunk(opening.as_bytes())).await.ok()?;
        }
        let (mut read, mut write) = stream.into_inner().into_split();
        let mut byte = [0];
        loop {
            tokio::select! {
                event = events.recv() => match event.flatten() {
                    Some(event) => {
                        println!("   [old] => {event}");
                        write.write_all(&chunk(event.as_bytes())).await.ok();
                    }
                    None => {
                        write.write_all(&chunk(b"")).await.ok();
                        break;
                    }
                },
                read = read.read(&mut byte) => if matches!(read, Ok(0) | Err(_)) { break },
            }
        }
        self.0.streams.lock().expect("nobody panics while holding it").remove(&session);
        Some(())
    }

    async fn take(&self, seen: &Seen, stream: &mut BufReader<TcpStream>) -> Option<()> {
        let is_known = self.sessions().iter().any(|session| session == seen.session());
        if self.0.manner.is_hasty && is_known {
            self.answer(seen);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let status = if is_known { self.0.manner.taken } else { 404 };
        let body = if matches!(status, 204) { "" } else { "Accepted" };
        let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let head = if status == 204 { "HTTP/1.1 204 No Content\r\n\r\n".to_owned() } else { head };
        stream.get_mut().write_all(head.as_bytes()).await.ok()?;
        if !self.0.manner.is_hasty && is_known {
            self.answer(seen);
        }
        Some(())
    }

    fn answer(&self, seen: &Seen) {
        let id = &seen.json["id"];
        if id.is_null() || seen.method().is_empty() {
            return;
        }
        let text = |text: String| json!({ "content": [{ "type": "text", "text": text }] });
        let params = &seen.json["params"];
        let tool = |name: &str| json!({ "name": name, "inputSchema": { "type": "object" } });
        let result = match (seen.method(), params["name"].as_str().unwrap_or_default()) {
            ("initialize", _) => json!({
                "protocolVersion": "2024-11-05",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "old", "version": "1" },
            }),
            ("ping", _) => json!({}),
            ("tools/list", _) => {
                json!({ "tools": [tool("echo"), tool("work"), tool("leave"), tool("ask"), tool("huge"), tool("vague"), tool("wait")] })
            }
            ("tools/call", "echo") => text(format!("old echoes {}", params["arguments"])),
            ("tools/call", "work") => {
                let token = &params["_meta"]["progressToken"];
                let params = json!({ "progressToken": token, "progress": 1, "total": 1 });
                let progress =
                    json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
                self.say(seen.session(), Some(&progress));
                text("worked".to_owned())
            }
            ("tools/call", "huge") => {
                let huge = "x".repeat(300_000);
                let huge = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"x":"{huge}"}}}}"#);
                return self.say_text(seen.session(), &huge);
            }
            ("tools/call", "vague") => {
                let huge = "x".repeat(300_000);
                let huge = format!(r#"{{"result":{{"content":[],"x":"{huge}"}},"jsonrpc":"2.0","id":{id}}}"#);
                return self.say_text(seen.session(), &huge);
            }
            ("tools/call", "wait") => {
                self.0.waiting.lock().expect("nobody panics while holding it").push(seen.clone());
                return;
            }
            ("tools/call", "leave") => return self.say(seen.session(), None),
            ("tools/call", "ask") => {
                let ping = json!({ "jsonrpc": "2.0", "id": "are you there", "method": "ping" });
                self.say(seen.session(), Some(&ping));
                text("asked".to_owned())
            }
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                let refusal = json!({ "jsonrpc": "2.0", "id": id, "error": error });
                return self.say(seen.session(), Some(&refusal));
            }
        };
        self.say(seen.session(), Some(&json!({ "jsonrpc": "2.0", "id": id, "result": result })));
    }
}

async fn status(gateway: &Gateway) -> Value {
    let servers = gateway.admin_get("/api/v1/servers").await.json();
    let list = servers.as_array().or_else(|| servers["servers"].as_array()).expect("a list").clone();
    list.into_iter().find(|server| server["name"] == "one").expect("it is configured")
}

async fn until_down(gateway: &Gateway) -> String {
    eventually("the upstream to be down", || async {
        let status = status(gateway).await;
        (status["state"] == "down").then(|| status["why"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

#[tokio::test]
async fn s_sse_05_an_upstream_with_nothing_newer_is_found_out_once_and_remembered() {
    let json_rpc = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no session"}}"#;
    let refusals = [
        "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nnot found".to_owned(),
        format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json_rpc}",
            json_rpc.len()
        ),
    ];
    for refusal in refusals {
        println!("=== POST is answered with {refusal}");
        let server = OldServer::start(Manner { refusal, ..Manner::default() }).await;
        let gateway = server.plan(json!({})).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        let probes = server.asked("POST /sse");
        assert!(probes >= 2, "the newer transports were tried first");
        assert_eq!(client.call("one__echo", json!({ "n": 1 })).await.text(), r#"old echoes {"n":1}"#);
        let other = gateway.handshake("2024-11-05").await;
        assert_eq!(other.call("one__echo", json!({})).await.text(), "old echoes {}");
        assert_eq!(gateway.stateless().call("one__echo", json!({})).await.text(), "old echoes {}");
        assert_eq!(server.asked("POST /sse"), probes, "what was found is not looked for again");
        assert_eq!(server.asked("GET /sse"), 3, "one stream for each session and one of the gateway's own");
        let status = status(&gateway).await;
        assert_eq!((&status["transport"], &status["revision"]), (&json!("sse"), &json!("2024-11-05")));
    }
}

#[tokio::test]
async fn s_sse_05_the_configuration_can_pin_it() {
    for pinned in [
        json!({ "type": "sse" }),
        json!({ "protocol": "sse" }),
        json!({ "type": "sse", "protocol": "2024-11-05" }),
    ] {
        let server = OldServer::start(Manner::default()).await;
        let gateway = server.plan(pinned).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo"]).await;
        client.call("one__echo", json!({})).await.text();
        assert_eq!(server.asked("POST /sse"), 0, "nothing else is tried");
        assert_eq!(status(&gateway).await["transport"], "sse");
    }
}

#[tokio::test]
async fn s_sse_04_messages_go_where_the_endpoint_event_says_and_answers_come_on_the_stream() {
    let openings = [
        "event: endpoint\ndata: /messages?sessionId={session}\n\n",
        ": hello\n\nevent: endpoint\r\ndata: messages/?sessionId={session}\r\n\r\n",
        "event: endpoint\ndata: http://127.0.0.1:{port}/deep/er?sessionId={session}\n\n",
        "id: 1\nevent: greeting\ndata: hello\n\nevent: endpoint\ndata: ?sessionId={session}\n\n",
    ];
    for (number, opening) in openings.into_iter().enumerate() {
        let (taken, is_hasty) = ([202, 200, 204, 202][number], number % 2 == 1);
        println!("=== {opening:?}, taken with {taken}, hasty {is_hasty}");
        let manner = Manner { opening: Some(opening.to_owned()), taken, is_hasty, ..Manner::default() };
        let server = OldServer::start(manner).await;
        let more = json!({ "type": "sse", "headers": { "X-Fixed": "from-the-configuration" } });
        let gateway = server.plan(more).start().await;
        let client = gateway.handshake(HANDSHAKE).await;
        client.until_tools(&["one__echo", "one__work"]).await;
        let mut running = Vec::new();
        for n in 0..8 {
            running.push((n, client.open_call("one__echo", json!({ "n": n })).await));
        }
        for (n, call) in running {
            assert_eq!(call.answer().await.text(), format!(r#"old echoes {{"n":{n}}}"#));
        }
        let worked = client.open_call_with_progress("one__work", json!("mine")).await.answer().await;
        assert_eq!((worked.text(), worked.progress()), ("worked", vec![1.0]));
        client.call("one__ask", json!({})).await.text();
        eventually("the upstream's ping to be answered", || async {
            server.seen().iter().any(|seen| seen.json["id"] == "are you there").then_some(())
        })
        .await;
        for seen in server.seen() {
            assert_eq!(seen.headers.get("x-fixed"), Some("from-the-configuration"), "{}", seen.start);
            assert_eq!(seen.headers.get("mcp-session-id"), None, "a later transport's header");
            if seen.start.starts_with("GET") {
                assert_eq!(seen.headers.get("accept"), Some("text/event-stream"));
            } else {
                assert_eq!(seen.headers.get("content-type"), Some("application/json"));
            }
        }
        let answer = client.call("one__echo", json!({})).await;
        assert!(!answer.raw.contains("session-"), "the upstream's session stays on its hop");
        assert!(!gateway.stderr().contains("sessionId"), "{}", gateway.stderr());
    }
}

#[tokio::test]
async fn s_sse_04_a_hostile_endpoint_event_sends_nothing_anywhere() {
    let elsewhere = OldServer::start(Manner::default()).await;
    let port = elsewhere.0.address.port();
    for said in [
        format!("http://127.0.0.1:{port}/messages?sessionId={{session}}"),
        format!("//127.0.0.1:{port}/messages?sessionId={{session}}"),
        "http://localhost:{port}/messages?sessionId={session}".to_owned(),
        "https://127.0.0.1:{port}/messages?sessionId={session}".to_owned(),
        format!("http://127.0.0.1:{{port}}@127.0.0.1:{port}/messages?sessionId={{session}}"),
        format!("/\\127.0.0.1:{port}/messages?sessionId={{session}}"),
        "javascript:alert(1)".to_owned(),
        String::new(),
    ] {
        for pinned in [json!({ "type": "sse" }), json!({})] {
            println!("=== {said:?} {pinned}");
            let opening = format!("event: endpoint\ndata: {said}\n\n");
            let server = OldServer::start(Manner { opening: Some(opening), ..Manner::default() }).await;
            let mut more = pinned;
            more["headers"] = json!({ "Authorization": "Bearer canary-token" });
            let gateway = server.plan(more).start().await;
            let why = until_down(&gateway).await;
            assert!(why.contains("its endpoint event names"), "{why}");
            assert!(!why.contains("canary") && !gateway.stderr().contains("canary"));
            let client = gateway.handshake(HANDSHAKE).await;
            assert_eq!(client.request("ping", json!({})).await.status, 200);
            assert_eq!(server.asked("POST /messages"), 0);
        }
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[tokio::test]
async fn s_sse_04_the_wait_for_the_endpoint_event_has_an_end() {
    let flood = "event: message\ndata: {}\n\n".repeat(1_000);
    let mut attempts = Vec::new();
    for (opening, reason) in [
        (None, "no endpoint event within"),
        (Some(": nothing but comments\n\n".repeat(50)), "no endpoint event within"),
        (Some("event: endpoint\ndata: /never/finished".to_owned()), "no endpoint event within"),
        (Some(flood), "does not begin with an endpoint event"),
    ] {
        for pinned in [json!({ "type": "sse" }), json!({})] {
            let server = OldServer::start(Manner { opening: opening.clone(), ..Manner::default() }).await;
            attempts.push(async move {
                let gateway = server.plan(pinned).start().await;
                let why = within(Duration::from_secs(10), "the attempt to end", until_down(&gateway)).await;
                assert!(why.contains(reason), "{why}");
                eventually("the stream of no use to be closed", || async {
                    // Attempts go on, so one may be open; all of them may not.
                    (server.sessions().len() <= 1).then_some(())
                })
                .await;
            });
        }
    }
    futures_util::future::join_all(attempts).await;
}

#[tokio::test]
async fn s_sse_04_what_is_no_event_stream_and_what_leads_elsewhere_is_not_followed() {
    let elsewhere = OldServer::start(Manner::default()).await;
    let location = elsewhere.url();
    for (instead, reason) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>!".to_owned(),
            "no event stream",
        ),
        ("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".to_owned(), "405"),
        (format!("HTTP/1.1 307 There\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"), "307"),
        (format!("HTTP/1.1 301 There\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"), "301"),
    ] {
        for pinned in [json!({ "type": "sse" }), json!({})] {
            let refusal = match pinned.get("type") {
                Some(_) => Manner::default().refusal,
                None => "HTTP/1.1 404 Not Here\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let manner = Manner { instead: Some(instead.clone()), refusal, ..Manner::default() };
            let server = OldServer::start(manner).await;
            let mut more = pinned;
            more["headers"] = json!({ "Authorization": "Bearer canary-token" });
            let gateway = server.plan(more).start().await;
            let why = until_down(&gateway).await;
            assert!(why.contains(reason), "{why}");
        }
    }
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[tokio::test]
async fn s_sse_04_the_stream_is_the_session() {
    let server = OldServer::start(Manner::default()).await;
    let gateway = server.plan(json!({})).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo", "one__leave"]).await;
    client.call("one__echo", json!({})).await.text();
    let first = server.received("tools/call")[0].session().to_owned();

    println!("--- its end ends what is under way, and the next call has a new one");
    client.call("one__leave", json!({})).await.expect_failure("upstream_lost", "unknown");
    eventually("calls to be served again", || async {
        client.call("one__echo", json!({})).await.raw.contains("old echoes").then_some(())
    })
    .await;
    let second = server.received("tools/call").last().expect("just now").session().to_owned();
    assert_ne!(first, second);
    let resumed = server.seen().iter().any(|seen| seen.headers.get("last-event-id").is_some());
    assert!(!resumed, "this transport resumes nothing");

    println!("--- and it ends with the client's");
    assert!((200..300).contains(&client.delete().await));
    eventually("the stream of that session to be closed", || async {
        (!server.sessions().contains(&second)).then_some(())
    })
    .await;
    let modern = gateway.client(STATELESS).await;
    assert_eq!(modern.call("one__echo", json!({})).await.text(), "old echoes {}");
}

#[tokio::test]
async fn s_sse_04_a_session_that_the_server_forgot_is_opened_anew_and_the_call_made_once_more() {
    let server = OldServer::start(Manner::default()).await;
    let gateway = server.plan(json!({})).start().await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__echo"]).await;
    client.call("one__echo", json!({})).await.text();
    let session = server.received("tools/call")[0].session().to_owned();
    let (stream, before) = (
        server.0.streams.lock().expect("nobody panics while holding it").remove(&session),
        server.received("initialize").len(),
    );
    assert_eq!(client.call("one__echo", json!({ "n": 9 })).await.text(), r#"old echoes {"n":9}"#);
    assert_eq!(server.received("initialize").len(), before + 1);
    drop(stream);
}

#[tokio::test]
async fn f37_i10_one_result_beyond_the_bound_fails_its_own_call_and_no_other_on_the_stream() {
    let server = OldServer::start(Manner::default()).await;
    let gateway = gateway()
        .with_server("one", json!({ "url": server.url(), "type": "sse" }))
        .config("bounds: { upstream_result: 64KiB }")
        .start()
        .await;
    let client = gateway.handshake(HANDSHAKE).await;
    client.until_tools(&["one__huge", "one__vague", "one__wait"]).await;
    let waiting = client.open_call("one__wait", json!({})).await;
    eventually("the call to wait", || async { (server.received("tools/call").len() == 1).then_some(()) })
        .await;
    for _ in 0..3 {
        client.call("one__huge", json!({})).await.expect_failure("result_too_large", "executed");
        assert_eq!(client.call("one__echo", json!({})).await.text(), "old echoes {}");
    }
    server.release();
    assert_eq!(waiting.answer().await.text(), "at last", "it was there all the time");
    // One that does not tell whose it is can only be that of the only call.
    client.call("one__vague", json!({})).await.expect_failure("result_too_large", "executed");
    assert_eq!(client.call("one__echo", json!({})).await.text(), "old echoes {}");
    assert_eq!(server.asked("GET /sse"), 2, "over the same stream all the time");
}
