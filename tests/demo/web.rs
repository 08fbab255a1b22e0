//! A plain HTTP client that sends what it is told and reads answers event by event.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use crate::pipe::PATIENCE;

/// Headers every POST needs.
pub(crate) const POST: [(&str, &str); 2] =
    [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

/// An answer whose body may still be arriving.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
    json: bool,
}

/// One server-sent event.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) retry: Option<String>,
    pub(crate) data: String,
}

pub(crate) async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    // A client of its own for each request: dropping the answer then closes the connection.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let answer = timeout(PATIENCE, client.request(request)).await.expect("no answer").unwrap();
    let (head, body) = answer.into_parts();
    let json = head.headers.get("content-type").is_some_and(|it| it == "application/json");
    Answer { status: head.status, headers: head.headers, body, buffer: Vec::new(), json }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    async fn more(&mut self) -> bool {
        loop {
            match timeout(PATIENCE, self.body.frame()).await.expect("the stream is silent") {
                None => return false,
                Some(frame) => {
                    if let Ok(data) = frame.unwrap().into_data() {
                        self.buffer.extend_from_slice(&data);
                        return true;
                    }
                }
            }
        }
    }

    pub(crate) async fn text(mut self) -> String {
        while self.more().await {}
        String::from_utf8(self.buffer).unwrap()
    }

    pub(crate) async fn value(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text:?}"))
    }

    /// The next event of a stream; comments are passed over.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let event = read_event(std::str::from_utf8(&block).unwrap());
                if event.is_some() {
                    return event;
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next message, whether the answer is one JSON object or a stream.
    pub(crate) async fn message(&mut self) -> Option<Value> {
        if self.json {
            while self.more().await {}
            let body = std::mem::take(&mut self.buffer);
            return (!body.is_empty()).then(|| serde_json::from_slice(&body).unwrap());
        }
        loop {
            let event = self.event().await?;
            if !event.data.is_empty() {
                return Some(serde_json::from_str(&event.data).unwrap());
            }
        }
    }
}

fn read_event(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut any = false;
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("odd line {line:?}"));
        any = true;
        match field {
            "id" => event.id = Some(value.to_owned()),
            "retry" => event.retry = Some(value.to_owned()),
            "data" => event.data.push_str(value),
            other => panic!("unexpected field {other}"),
        }
    }
    any.then_some(event)
}
