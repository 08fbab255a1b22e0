//! The client against raw TCP servers that do one thing wrong at a time.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap};
use http::{StatusCode, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;

const LIMITS: HttpLimits = HttpLimits { result: 1024, connect: Duration::from_secs(5) };
const DEADLINE: Duration = Duration::from_secs(10);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// What a server does on one connection, in order; then it closes.
#[derive(Clone)]
enum Step {
    /// Reads one whole request.
    Request,
    Write(Vec<u8>),
    /// Writes byte by byte.
    Drip(Vec<u8>),
    /// Closes with RST instead of FIN.
    Reset,
    /// Waits until the client closes.
    UntilClosed,
    /// Waits until the test says so.
    UntilTold,
}

use Step::{Drip, Request as AwaitRequest, Reset, UntilClosed, UntilTold, Write};

fn answer(bytes: impl AsRef<[u8]>) -> Vec<Step> {
    vec![AwaitRequest, Write(bytes.as_ref().to_vec())]
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    closed_by_client: AtomicUsize,
    requests: Mutex<Vec<String>>,
    go: Notify,
}

impl Seen {
    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

/// Serves the n-th connection by the n-th script, and further ones by the last.
async fn server(scripts: Vec<Vec<Step>>) -> (HttpTarget, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Seen::default());
    let (at_server, target) = (seen.clone(), target(&format!("http://{address}/mcp")));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = at_server.connections.fetch_add(1, Ordering::SeqCst);
            let script = scripts.get(number).or(scripts.last()).expect("a script").clone();
            tokio::spawn(play(stream, script, at_server.clone()));
        }
    });
    (target, seen)
}

async fn play(mut stream: TcpStream, script: Vec<Step>, seen: Arc<Seen>) -> Option<()> {
    let mut buffer = Vec::new();
    for step in script {
        match step {
            AwaitRequest => {
                let request = read_request(&mut stream, &mut buffer).await?;
                seen.requests.lock().expect("not poisoned").push(request);
            }
            Write(bytes) => stream.write_all(&bytes).await.ok()?,
            Drip(bytes) => {
                for byte in bytes {
                    stream.write_all(&[byte]).await.ok()?;
                    tokio::task::yield_now().await;
                }
            }
            Reset => stream.set_zero_linger().ok()?,
            UntilTold => seen.go.notified().await,
            UntilClosed => {
                while matches!(stream.read_buf(&mut buffer).await, Ok(read) if read > 0) {}
                seen.closed_by_client.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    Some(())
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                buffer.drain(..head.len() + 4 + length);
                return Some(format!("{head}\r\n\r\n{}", &body[..length]));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn target(uri: &str) -> HttpTarget {
    HttpTarget::new(&uri.parse::<Uri>().expect("valid"), HeaderMap::new()).expect("a target")
}

async fn post_to(target: &HttpTarget) -> Result<HttpAnswer, HttpFailure> {
    within(post(target, &[], Bytes::from_static(b"{\"a\":1}"), LIMITS)).await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(holds(), "{what}");
}

fn json(answer: Result<HttpAnswer, HttpFailure>) -> Bytes {
    match answer.expect("an answer").body {
        AnswerBody::Json(json) => json,
        other => panic!("JSON, not {other:?}"),
    }
}

#[tokio::test]
async fn f05_no_connection_means_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let refused = target(&format!("http://{}/", listener.local_addr().expect("bound")));
    drop(listener);
    let nameless = target(&format!("http://{}.invalid/", "x".repeat(70)));
    for target in [refused, nameless] {
        let failure = post_to(&target).await.expect_err("nobody there");
        assert!(matches!(failure, HttpFailure::Connect(_)), "{failure}");
        assert_eq!(failure.sent(), Sent::NotSent);
    }
}

#[tokio::test]
async fn f05_a_failed_or_silent_tls_handshake_means_nothing_was_sent() {
    let (garbage, _) = server(vec![vec![Write(b"this is not TLS, not at all".to_vec()), UntilClosed]]).await;
    let (silent, _) = server(vec![vec![UntilClosed]]).await;
    let over_tls = |plain: &HttpTarget| {
        let uri: Uri = plain.origin().to_string().replace("http:", "https:").parse().expect("valid");
        HttpTarget::new(&uri, HeaderMap::new())
    };
    let (garbage, silent) = match (over_tls(&garbage), over_tls(&silent)) {
        (Ok(garbage), Ok(silent)) => (garbage, silent),
        (fault, _) => {
            eprintln!("skipped: needs the system's certificate authorities ({fault:?})");
            return;
        }
    };
    let failure = post_to(&garbage).await.expect_err("no TLS");
    assert!(matches!(failure, HttpFailure::Connect(_)), "{failure}");
    let short = HttpLimits { connect: Duration::from_millis(50), ..LIMITS };
    let failure = within(post(&silent, &[], Bytes::new(), short)).await.expect_err("no TLS");
    assert!(matches!(failure, HttpFailure::ConnectTimeout), "{failure}");
    assert_eq!(failure.sent(), Sent::NotSent);
}

#[tokio::test]
async fn f01_a_connection_that_ends_too_early_may_have_carried_the_request() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\n{{\"a");
    let scripts = [
        ("before the head", vec![AwaitRequest]),
        ("inside the head", answer(head)),
        ("inside a body of known length", answer(format!("{head}content-length: 20\r\n\r\n{{\"a\""))),
        ("inside a chunk", answer(chunked)),
        ("reset", vec![AwaitRequest, Reset]),
        (
            "reset inside the body",
            [answer(format!("{head}content-length: 20\r\n\r\n{{")), vec![Reset]].concat(),
        ),
    ];
    for (what, script) in scripts {
        let (target, seen) = server(vec![script]).await;
        let failure = post_to(&target).await.expect_err(what);
        assert!(matches!(failure, HttpFailure::Lost(_)), "{what}: {failure}");
        assert_eq!(failure.sent(), Sent::MaybeSent, "{what}");
        assert_eq!(seen.requests().len(), 1, "{what}: not sent again");
        assert_eq!(pool::idle_count(target.id()), 0, "{what}");
    }
}

#[tokio::test]
async fn f08_what_is_not_http_is_a_protocol_failure() {
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let scripts = [
        ("garbage", answer("SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        ("an old protocol", answer("HTTP/3.0 200 OK\r\n\r\n")),
        ("two lengths", answer(format!("{json}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"))),
        ("a head without end", answer(format!("{json}x: {}\r\n", "y".repeat(100_000)))),
        ("compressed", answer(format!("{json}content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{{}}"))),
        (
            "another protocol",
            answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        ),
    ];
    for (what, script) in scripts {
        let (target, _) = server(vec![[script, vec![UntilClosed]].concat()]).await;
        let failure = post_to(&target).await.expect_err(what);
        assert!(matches!(failure, HttpFailure::Protocol(_)), "{what}: {failure}");
        assert_eq!(failure.sent(), Sent::MaybeSent, "{what}");
    }
}

#[tokio::test]
async fn whatever_way_a_json_body_comes_it_is_read_whole_and_the_connection_kept() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\n";
    let known = format!("{head}content-length: 7\r\n\r\n{{\"a\":1}}");
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\ntrailer: x\r\n\r\n3\r\n{{\"a\r\n4\r\n\":1}}\r\n0\r\nx: y\r\n\r\n"
    );
    let early = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{known}");
    for (what, bytes) in
        [("known length", &known), ("chunked, with trailers", &chunked), ("after 1xx", &early)]
    {
        let slow = vec![AwaitRequest, Drip(bytes.clone().into_bytes()), UntilClosed];
        for script in [[answer(bytes), vec![UntilClosed]].concat(), slow] {
            let (target, _) = server(vec![script]).await;
            assert_eq!(&json(post_to(&target).await)[..], b"{\"a\":1}", "{what}");
            assert_eq!(pool::idle_count(target.id()), 1, "{what}");
        }
    }
    let (target, _) = server(vec![answer(format!("{head}\r\n{{\"a\":1}}"))]).await;
    assert_eq!(&json(post_to(&target).await)[..], b"{\"a\":1}", "ended by closing");
    assert_eq!(pool::idle_count(target.id()), 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_its_connection_closed() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let declared = format!("{head}content-length: 1025\r\n\r\n");
    let chunks = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{}",
        "80\r\n".to_owned() + &"x".repeat(128) + "\r\n"
    );
    let endless =
        [answer(&chunks), vec![Write(chunks.split_once("\r\n\r\n").expect("a head").1.repeat(20).into())]];
    for script in [answer(declared), endless.concat()] {
        let (target, seen) = server(vec![[script, vec![UntilClosed]].concat()]).await;
        let failure = post_to(&target).await.expect_err("too large");
        assert!(matches!(failure, HttpFailure::TooLarge { limit: 1024 }), "{failure}");
        until("closed", || seen.closed_by_client.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn status_and_the_headers_that_matter_are_told_whatever_the_body() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer a\r\nwww-authenticate: Basic\r\n\
                        retry-after: 7\r\nmcp-session-id: secret\r\ncontent-type: text/html\r\n\
                        content-length: 5\r\n\r\nhello";
    let accepted = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let script = [answer(redirect), answer(unauthorized), answer(accepted), answer(OK)].concat();
    let (target, seen) = server(vec![script]).await;

    let answer = post_to(&target).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::FOUND);
    assert!(matches!(answer.body, AnswerBody::Empty));

    let answer = post_to(&target).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.www_authenticate, ["Bearer a", "Basic"]);
    assert_eq!(answer.retry_after.as_ref().expect("told"), "7");
    assert_eq!(answer.session.as_ref().expect("told"), "secret");
    assert!(!format!("{answer:?}").contains("secret"));
    assert!(matches!(&answer.body, AnswerBody::Other(kind) if &**kind == "text/html"));

    assert!(matches!(post_to(&target).await.expect("an answer").body, AnswerBody::Empty));
    json(post_to(&target).await);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "one connection served all four");
}

#[tokio::test]
async fn a_page_that_goes_on_and_on_is_left_alone() {
    let head = "HTTP/1.1 500 Oops\r\ncontent-type: text/html\r\n\r\n";
    let endless =
        vec![AwaitRequest, Write((head.to_owned() + &"x".repeat(200_000)).into_bytes()), UntilClosed];
    let stuck = vec![AwaitRequest, Write(head.into()), UntilClosed];
    for script in [endless, stuck] {
        let (target, seen) = server(vec![script]).await;
        let answer = post_to(&target).await.expect("an answer");
        assert!(matches!(answer.body, AnswerBody::Other(_)));
        until("closed", || seen.closed_by_client.load(Ordering::SeqCst) == 1).await;
    }
}

#[tokio::test]
async fn requests_carry_what_was_prepared_and_nothing_that_was_not() {
    let (plain, seen) = server(vec![[answer(OK), answer(OK), answer(OK)].concat()]).await;
    let mut fixed = HeaderMap::new();
    fixed.insert(AUTHORIZATION, HeaderValue::from_static("Bearer fixed"));
    let uri: Uri = format!("{}mcp?key=1", plain.origin()).parse().expect("valid");
    let target = HttpTarget::new(&uri, fixed).expect("a target");
    assert!(!format!("{target:?}").contains("key"));

    let extra = [(AUTHORIZATION, HeaderValue::from_static("Bearer extra"))];
    json(within(post(&target, &extra, Bytes::from_static(b"{\"a\":1}"), LIMITS)).await);
    json(within(get(&target, &[], LIMITS)).await);
    json(within(delete(&target, &[], LIMITS)).await);

    let requests = seen.requests();
    let host = format!("host: {}", uri.authority().expect("one"));
    assert!(requests.iter().all(|request| request.contains(&host) && !request.contains("accept-encoding")));
    assert!(
        requests[0].starts_with("POST /mcp?key=1 HTTP/1.1\r\n") && requests[0].ends_with("\r\n\r\n{\"a\":1}")
    );
    assert!(requests[0].contains("authorization: Bearer extra\r\n") && !requests[0].contains("fixed"));
    assert!(requests[0].contains("accept: application/json, text/event-stream\r\n"));
    assert!(requests[0].contains("content-type: application/json\r\n"));
    assert!(requests[1].starts_with("GET ") && requests[1].contains("accept: text/event-stream\r\n"));
    assert!(requests[2].starts_with("DELETE ") && requests[2].contains("Bearer fixed"));
    assert!(!requests[1].contains("content-type") && !requests[2].contains("content-length"));
}

#[tokio::test]
async fn s_httpc_08_events_are_read_as_they_come_and_the_connection_is_used_again() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let script = vec![
        AwaitRequest,
        Write(format!("{head}19\r\nid: 1\ndata: one\n\ndata: tw\r\n").into_bytes()),
        UntilTold,
        Write(b"3\r\no\n\n\r\n0\r\n\r\n".to_vec()),
        AwaitRequest,
        Write(OK.to_vec()),
    ];
    let (target, seen) = server(vec![script]).await;
    let AnswerBody::Events(mut events) = post_to(&target).await.expect("an answer").body else {
        panic!("events");
    };
    let first = within(events.next()).await.expect("an event").expect("valid");
    assert_eq!((first.id.as_deref(), &first.data[..]), (Some("1"), &b"one"[..]));
    // Nothing is lost when somebody stops waiting.
    assert!(tokio::time::timeout(Duration::from_millis(5), events.next()).await.is_err());
    seen.go.notify_one();
    assert_eq!(&within(events.next()).await.expect("an event").expect("valid").data[..], b"two");
    assert!(within(events.next()).await.is_none());
    assert!(within(events.next()).await.is_none());
    json(post_to(&target).await);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn f07_f37_a_stream_that_breaks_ends_with_its_failure_and_one_large_event_is_passed_over() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let broken = answer(format!("{head}9\r\ndata: a\n\n\r\n9\r\ndat"));
    let large = format!("data: a\n\ndata: {}\n\ndata: b\n\n", "x".repeat(2000));
    let large =
        [answer(format!("{head}{:x}\r\n{large}\r\n0\r\n\r\n", large.len())), vec![UntilClosed]].concat();
    for (script, is_lost) in [(broken, true), (large, false)] {
        let (target, _) = server(vec![script]).await;
        let AnswerBody::Events(mut events) = post_to(&target).await.expect("an answer").body else {
            panic!("events");
        };
        assert_eq!(&within(events.next()).await.expect("an event").expect("valid").data[..], b"a");
        let failure = within(events.next()).await.expect("a failure").expect_err("a failure");
        assert_eq!(matches!(failure, HttpFailure::Lost(_)), is_lost, "{failure}");
        assert_eq!(matches!(failure, HttpFailure::EventTooLarge { .. }), !is_lost, "{failure}");
        if !is_lost {
            assert_eq!(&within(events.next()).await.expect("an event").expect("valid").data[..], b"b");
        }
        assert!(within(events.next()).await.is_none());
        assert_eq!(pool::idle_count(target.id()), usize::from(!is_lost));
    }
}

#[tokio::test]
async fn s_httpc_13_who_stops_listening_closes_the_connection() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: a\n\n";
    let (target, seen) =
        server(vec![[answer(head), vec![UntilClosed]].concat(), vec![AwaitRequest, UntilClosed]]).await;
    let AnswerBody::Events(mut events) = post_to(&target).await.expect("an answer").body else {
        panic!("events");
    };
    within(events.next()).await.expect("an event").expect("valid");
    drop(events);
    until("the stream's connection closed", || seen.closed_by_client.load(Ordering::SeqCst) == 1).await;

    tokio::select! {
        answer = post_to(&target) => panic!("nobody answered, yet {answer:?}"),
        () = until("the second request arrived", || seen.requests().len() == 2) => {}
    }
    until("the call's connection closed", || seen.closed_by_client.load(Ordering::SeqCst) == 2).await;
    assert_eq!(pool::idle_count(target.id()), 0);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_before_anything_is_sent() {
    let (target, seen) = server(vec![answer(OK)]).await;
    for round in 1..=3 {
        json(post_to(&target).await);
        assert_eq!(seen.requests().len(), round);
        assert_eq!(seen.connections.load(Ordering::SeqCst), round);
        until("the close arrived", || !pool::any_alive(target.id())).await;
    }
    let late =
        [answer(OK), vec![Write(b"HTTP/1.1 408 Request Timeout\r\n\r\n".to_vec()), UntilClosed]].concat();
    let (target, seen) = server(vec![late, answer(OK)]).await;
    json(post_to(&target).await);
    until("the unasked answer arrived", || !pool::any_alive(target.id())).await;
    json(post_to(&target).await);
    assert_eq!(seen.requests().len(), 2, "an unasked answer is nobody's");
}

#[tokio::test]
async fn a_server_that_closes_at_any_moment_never_gets_a_request_twice() {
    let at_once = vec![];
    let scripts =
        vec![answer(OK), at_once, answer(OK), vec![AwaitRequest], [answer(OK), answer(OK)].concat()];
    let scripts: Vec<_> = scripts.into_iter().cycle().take(1000).collect();
    let (target, seen) = server(scripts).await;
    let (mut answered, mut unsent) = (Vec::new(), Vec::new());
    for number in 0..500 {
        let body = format!("{{\"number\":{number}}}");
        match within(post(&target, &[], Bytes::from(body.clone()), LIMITS)).await {
            Ok(_) => answered.push(body),
            Err(failure) if failure.sent() == Sent::NotSent => unsent.push(body),
            Err(_) => {}
        }
    }
    let requests = seen.requests();
    let times = |body: &String| requests.iter().filter(|request| request.ends_with(body.as_str())).count();
    assert!(answered.len() > 100, "{}", answered.len());
    assert!(answered.iter().all(|body| times(body) == 1));
    assert!(unsent.iter().all(|body| times(body) == 0));
    assert!((0..500).all(|number| times(&format!("{{\"number\":{number}}}")) <= 1));
}

#[tokio::test]
async fn many_at_once_share_as_many_connections_as_are_in_use() {
    let (target, seen) = server(vec![std::iter::repeat_n(answer(OK), 50).flatten().collect()]).await;
    for _ in 0..3 {
        let calls = (0..32).map(|_| post_to(&target));
        for answer in futures_util::future::join_all(calls).await {
            json(answer);
        }
    }
    assert_eq!(seen.requests().len(), 96);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 32);
    assert_eq!(pool::idle_count(target.id()), 32);
    let other = target_like(&target);
    json(post_to(&other).await);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 33, "another target has its own connections");
}

#[tokio::test]
async fn s_sse_04_another_path_of_an_origin_has_its_headers_and_its_connections() {
    let (base, seen) = server(vec![std::iter::repeat_n(answer(OK), 3).flatten().collect()]).await;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, "Bearer x".parse().expect("valid"));
    let url: Uri = base.url().to_string().replace("/mcp", "/sse?key=1").parse().expect("valid");
    let base = HttpTarget::new(&url, headers).expect("a target");
    assert_eq!(base.url(), url);
    let messages = base.at("/messages?sessionId=1".parse().expect("a path"));
    json(post_to(&base).await);
    json(post_to(&messages).await);
    let requests = seen.requests();
    assert!(
        requests[0].starts_with("POST /sse?key=1 ") && requests[1].starts_with("POST /messages?sessionId=1 ")
    );
    assert!(requests.iter().all(|request| request.contains("authorization: Bearer x")));
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
}

fn target_like(target: &HttpTarget) -> HttpTarget {
    HttpTarget::new(target.origin(), HeaderMap::new()).expect("a target")
}

#[tokio::test]
async fn a_stream_that_is_left_gives_its_connection_back_if_it_ends_soon() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let (event, end) = ("9\r\ndata: a\n\n\r\n", "0\r\n\r\n");
    let with_the_answer = [answer(format!("{head}{event}{end}")), vec![UntilClosed]].concat();
    let afterwards =
        [answer(format!("{head}{event}")), vec![UntilTold, Write(end.into()), UntilClosed]].concat();
    let never = [answer(format!("{head}{event}")), vec![UntilClosed]].concat();
    let local = tokio::task::LocalSet::new();
    let story = local.run_until(async {
        for (script, is_kept) in [(with_the_answer, true), (afterwards, true), (never, false)] {
            let (target, seen) = server(vec![script]).await;
            let AnswerBody::Events(mut events) = post_to(&target).await.expect("an answer").body else {
                panic!("events");
            };
            assert_eq!(&within(events.next()).await.expect("an event").expect("valid").data[..], b"a");
            events.leave();
            seen.go.notify_one();
            match is_kept {
                true => until("kept", || pool::idle_count(target.id()) == 1).await,
                false => until("closed", || seen.closed_by_client.load(Ordering::SeqCst) == 1).await,
            }
        }
    });
    story.await;
}
