//! The JSON-RPC envelope: which kind of message a text is, under which id, with which raw payload.
//!
//! Always: a [`Frame`] is a valid JSON-RPC 2.0 message whose id is a string or an integer and whose payload is an
//! object (S-BASE-01, S-BASE-02). Not here: what methods mean, who may send them, in which era.

use std::fmt;

use bytes::Bytes;

use super::json::{Fault, Limits, Object, Span, string};
use super::scan::{Scanned, Scanner};

/// A request id exactly as its sender wrote it: `1`, `"1"` and `1.0` are three ids.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Bytes);

impl RequestId {
    /// An id of the gateway's own.
    pub fn number(number: u64) -> Self {
        RequestId(Bytes::from(number.to_string()))
    }

    /// An id of the gateway's own, as text.
    pub fn text(text: &str) -> Self {
        RequestId(Bytes::from(super::json::quote(text)))
    }

    /// The raw token.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads a raw token: a string or an integer, else `None`.
    pub fn from_raw(raw: Bytes) -> Option<Self> {
        let valid = match raw.first()? {
            b'"' => true,
            b'-' | b'0'..=b'9' => is_integer(&raw),
            _ => false,
        };
        // The token may be a slice of a large body that an in-flight table must not keep alive.
        valid.then(|| RequestId(Bytes::copy_from_slice(&raw)))
    }

    /// The number, when it is one of the gateway's own.
    pub fn as_number(&self) -> Option<u64> {
        std::str::from_utf8(&self.0).ok()?.parse().ok()
    }
}

/// `7`, `-7` and `7.0` are integers, `7.5` and `7e-1` are not; exponents are refused rather than computed.
fn is_integer(raw: &[u8]) -> bool {
    let (whole, fraction) = match memchr::memchr(b'.', raw) {
        Some(point) => (&raw[..point], &raw[point + 1..]),
        None => (raw, &b""[..]),
    };
    let digits = whole.strip_prefix(b"-").unwrap_or(whole);
    digits.iter().all(u8::is_ascii_digit) && fraction.iter().all(|digit| *digit == b'0')
}

/// Bytes of a string that is the id of a client's request.
const LONGEST_TEXT: usize = 256;
/// Digits of a number that is one.
const LONGEST_NUMBER: usize = 64;

/// Ids are kept and repeated for as long as their requests run.
fn is_long(raw_id: &[u8]) -> bool {
    match raw_id {
        [b'"', text @ .., b'"'] => text.len() > LONGEST_TEXT,
        number => number.iter().filter(|byte| byte.is_ascii_digit()).count() > LONGEST_NUMBER,
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// One message, its payload still raw.
#[derive(Debug, Clone)]
pub enum Frame {
    /// `method` and `id`.
    Request(Request),
    /// `method` without `id`.
    Notification(Notification),
    /// `id` with `result` or `error`.
    Response(Response),
}

/// A call that wants one answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// The sender's id.
    pub id: RequestId,
    /// Method name, decoded.
    pub method: Box<str>,
    /// Parameters; `{}` when there were none.
    pub params: Object,
}

/// A message that wants none.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Method name, decoded.
    pub method: Box<str>,
    /// Parameters; `{}` when there were none.
    pub params: Object,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    /// The request's id; `None` where an error could not name it (`"id": null`).
    pub id: Option<RequestId>,
    /// How it ended.
    pub answer: Answer,
}

/// What a peer answered: a result or a JSON-RPC error, raw.
#[derive(Debug, Clone)]
pub enum Answer {
    /// `result`.
    Result(Object),
    /// `error`, with integer `code` and string `message`.
    Error(ErrorObject),
}

/// The error member of a response.
#[derive(Debug, Clone)]
pub struct ErrorObject {
    /// JSON-RPC code.
    pub code: i64,
    /// The whole object as written: `code`, `message`, `data`, and whatever else.
    pub object: Object,
}

impl ErrorObject {
    /// One of the gateway's own.
    pub fn own(code: i64, message: &str) -> Self {
        let text = format!(r#"{{"code":{code},"message":{}}}"#, super::json::quote(message));
        let object = Object::parse(Bytes::from(text), Limits::NONE).unwrap_or_else(|_| Object::empty());
        ErrorObject { code, object }
    }

    /// The peer's message.
    pub fn message(&self) -> String {
        self.object.text("message").map(|text| text.into_owned()).unwrap_or_default()
    }
}

/// Why a text is not a message, with the id it could still be answered under (S-ERR-04).
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct FrameFault {
    /// The id, if it could be read.
    pub id: Option<RequestId>,
    /// Whether it was meant to be an answer: nothing better will come for the request of that id, and an error response
    /// under it would be taken for the answer to another request.
    pub answers: bool,
    /// Whether it was meant to be a request or a notification: its id, if it has one, is its sender's own.
    pub asks: bool,
    /// What is wrong.
    pub reason: FrameFaultReason,
}

const NO_ID: &str = "id must be a string or an integer";

/// The two kinds of failure that JSON-RPC tells apart, and the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFaultReason {
    /// Not JSON: `-32700`.
    #[error("parse error: {0}")]
    Parse(Fault),
    /// JSON, but beyond a limit or ambiguous: `-32600`.
    #[error("invalid request: {0}")]
    Limit(Fault),
    /// JSON, but not a message: `-32600`.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
}

#[derive(Default)]
struct Parts {
    version: Option<Span>,
    id: Option<Span>,
    method: Option<Span>,
    params: Option<Payload>,
    result: Option<Payload>,
    error: Option<Payload>,
}

#[expect(clippy::large_enum_variant, reason = "lives on the stack of one parse")]
enum Payload {
    Object(Scanned),
    Other,
}

impl Frame {
    /// Reads one message in one pass over `text`.
    pub fn parse(text: Bytes, limits: Limits) -> Result<Frame, FrameFault> {
        let mut scanner = Scanner::over(&text, limits).map_err(parse_fault)?;
        scanner.space();
        if scanner.peek() != Some(b'{') {
            scanner.value(0).and_then(|_| scanner.end()).map_err(parse_fault)?;
            return Err(FrameFault::of_text(FrameFaultReason::Invalid("a message is one object")));
        }
        let mut parts = Parts::default();
        scanner.object(0, |scanner, key| parts.read(scanner, key)).map_err(parse_fault)?;
        scanner.end().map_err(parse_fault)?;
        let verdict = scanner.verdict();
        parts.into_frame(text, verdict, limits)
    }
}

impl FrameFault {
    /// Of a text that nobody can say more of.
    pub(super) fn of_text(reason: FrameFaultReason) -> Self {
        FrameFault { id: None, answers: false, asks: false, reason }
    }
}

impl Parts {
    fn read(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<Span, Fault> {
        let payload = match key {
            "params" => &mut self.params,
            "result" => &mut self.result,
            "error" => &mut self.error,
            _ => {
                let span = scanner.value(1)?;
                match key {
                    "jsonrpc" => self.version = Some(span),
                    "id" => self.id = Some(span),
                    "method" => self.method = Some(span),
                    _ => {}
                }
                return Ok(span);
            }
        };
        if scanner.peek() == Some(b'{') {
            let scanned = scanner.object_with_meta(1)?;
            let span = scanned.span;
            *payload = Some(Payload::Object(scanned));
            return Ok(span);
        }
        // Writers that name every member write null for the one that may be absent.
        let is_absent = key == "params" && scanner.peek() == Some(b'n');
        if !is_absent {
            *payload = Some(Payload::Other);
        }
        scanner.value(1)
    }

    fn into_frame(
        self,
        text: Bytes,
        verdict: Result<(), Fault>,
        limits: Limits,
    ) -> Result<Frame, FrameFault> {
        let raw_id = self.id.map(|span| text.slice(span.start..span.end));
        if limits.short_ids && self.method.is_some() && raw_id.as_deref().is_some_and(is_long) {
            let reason = FrameFaultReason::Invalid("id is too long");
            return Err(FrameFault { id: None, answers: false, asks: true, reason });
        }
        let null_id = raw_id.as_deref() == Some(b"null");
        let id = raw_id.clone().and_then(RequestId::from_raw);
        let asks = self.method.is_some();
        let answers = !asks && (self.result.is_some() || self.error.is_some());
        let fault = |id, reason| Err(FrameFault { id, answers, asks, reason });
        let invalid = |id, why| fault(id, FrameFaultReason::Invalid(why));
        let refuse = |why| invalid(id.clone(), why);
        if let Err(limit) = verdict {
            return fault(id, FrameFaultReason::Limit(limit));
        }
        if self.version.map(|span| span.of(&text)) != Some(b"\"2.0\"") {
            return refuse("jsonrpc must be \"2.0\"");
        }
        if let Some(method) = self.method {
            let Some(method) = string(method.of(&text)).map(|name| name.into_owned().into_boxed_str()) else {
                return refuse("method must be a string");
            };
            if self.result.is_some() || self.error.is_some() {
                return refuse("a request has neither result nor error");
            }
            let params = match self.params {
                None => Object::empty(),
                Some(Payload::Object(scanned)) => Object::new(text, scanned),
                Some(Payload::Other) => return refuse("params must be an object"),
            };
            return match (raw_id, id) {
                (None, _) => Ok(Frame::Notification(Notification { method, params })),
                (Some(_), Some(id)) => Ok(Frame::Request(Request { id, method, params })),
                (Some(_), None) => invalid(None, NO_ID),
            };
        }
        if raw_id.is_none() {
            return refuse("a message has a method or an id");
        }
        let answer = match (self.result, self.error) {
            (Some(Payload::Object(scanned)), None) => Answer::Result(Object::new(text, scanned)),
            (None, Some(Payload::Object(scanned))) => match error_object(Object::new(text, scanned)) {
                Some(error) => Answer::Error(error),
                None => return refuse("error must have an integer code and a string message"),
            },
            (Some(Payload::Other), None) => return refuse("result must be an object"),
            (None, Some(Payload::Other)) => return refuse("error must be an object"),
            _ => return refuse("a response has either result or error"),
        };
        match (id, null_id, &answer) {
            (Some(id), _, _) => Ok(Frame::Response(Response { id: Some(id), answer })),
            (None, true, Answer::Error(_)) => Ok(Frame::Response(Response { id: None, answer })),
            _ => invalid(None, NO_ID),
        }
    }
}

fn error_object(object: Object) -> Option<ErrorObject> {
    object.text("message")?;
    let code = std::str::from_utf8(object.get("code")?).ok()?.parse().ok()?;
    Some(ErrorObject { code, object })
}

pub(super) fn parse_fault(fault: Fault) -> FrameFault {
    FrameFault::of_text(FrameFaultReason::Parse(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Frame, FrameFault> {
        Frame::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default())
    }

    #[test]
    fn s_base_02_ids_keep_their_spelling() {
        for id in ["\"7\"", "7", "9007199254740993", "-1", "\"\"", "1.0", "18446744073709551615"] {
            let Ok(Frame::Request(request)) =
                parse(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#))
            else {
                panic!("{id} is a valid id");
            };
            assert_eq!(request.id.as_bytes(), id.as_bytes());
        }
        for id in ["null", "1.5", "1e3", "true", "[]", "{}"] {
            let fault =
                parse(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)).expect_err("not an id");
            assert!(matches!(fault.reason, FrameFaultReason::Invalid(_)), "{id}");
        }
    }

    #[test]
    fn s_base_02_ids_of_clients_are_bounded_and_those_of_upstreams_are_not() {
        let text = |length| format!("\"{}\"", "i".repeat(length));
        let number = "1".repeat(LONGEST_NUMBER);
        for (id, fits) in [
            (text(LONGEST_TEXT), true),
            (text(LONGEST_TEXT + 1), false),
            (number.clone(), true),
            (format!("-{number}"), true),
            (format!("{number}1"), false),
            (format!("1.{number}"), false),
        ] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
            let limits = Limits { short_ids: true, ..Limits::default() };
            match Frame::parse(Bytes::from(message.clone()), limits) {
                Ok(Frame::Request(_)) => assert!(fits, "{id}"),
                Err(fault) => assert!(!fits && fault.id.is_none() && !fault.answers, "{id}: {fault:?}"),
                other => panic!("{other:?}"),
            }
            let unbounded = parse(&message);
            assert_eq!(unbounded.is_ok(), !id.starts_with("1."), "{id}: {unbounded:?}");
        }
    }

    #[test]
    fn s_base_01_what_is_not_a_message_says_which_kind_of_wrong_it_is() {
        let reason = |text: &str| parse(text).expect_err("not a message").reason;
        assert!(matches!(reason("{"), FrameFaultReason::Parse(_)));
        assert!(matches!(reason("\"text\""), FrameFaultReason::Invalid(_)));
        assert!(matches!(reason("[]"), FrameFaultReason::Invalid(_)));
        assert!(matches!(reason(r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#), FrameFaultReason::Invalid(_)));
        assert!(matches!(
            reason(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#),
            FrameFaultReason::Invalid(_)
        ));
        assert!(matches!(
            reason(r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#),
            FrameFaultReason::Invalid(_)
        ));
        assert!(matches!(
            reason(r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#),
            FrameFaultReason::Limit(Fault::DuplicateKey)
        ));
    }

    #[test]
    fn f33_a_body_beyond_the_limits_is_still_answered_under_its_id() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let fault = parse(&format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"a":{deep}}},"id":"x"}}"#));
        let fault = fault.expect_err("too deep");
        assert_eq!(fault.reason, FrameFaultReason::Limit(Fault::TooDeep));
        assert_eq!(fault.id.expect("readable").as_bytes(), b"\"x\"");
    }

    #[test]
    fn s_err_04_a_broken_answer_is_told_from_a_broken_request() {
        for (broken, id, answers) in [
            (r#""id":1,"result":[]"#, Some("1"), true),
            (r#""id":1,"result":{"a":1,"a":2}"#, Some("1"), true),
            (r#""id":1,"error":{"code":"x"}"#, Some("1"), true),
            (r#""id":1,"result":{},"error":{}"#, Some("1"), true),
            (r#""id":1.5,"result":{}"#, None, true),
            (r#""id":1"#, Some("1"), false),
            (r#""id":1,"method":"m","result":{}"#, Some("1"), false),
        ] {
            let fault = parse(&format!(r#"{{"jsonrpc":"2.0",{broken}}}"#)).expect_err("broken");
            let read = fault.id.as_ref().map(|id| String::from_utf8_lossy(id.as_bytes()));
            assert_eq!((read.as_deref(), fault.answers), (id, answers), "{broken}");
        }
    }

    #[test]
    fn s_trust_03_what_was_to_be_a_request_is_told_from_an_answer() {
        for (broken, id, asks) in [
            (r#""id":1,"method":"m","params":[]"#, Some("1"), true),
            (r#""id":1,"method":"m","params":{"a":1,"a":2}"#, Some("1"), true),
            (r#""id":"1","method":"m","result":{}"#, Some("\"1\""), true),
            (r#""id":1.5,"method":"m""#, None, true),
            (r#""method":7"#, None, true),
            (r#""id":1,"result":[]"#, Some("1"), false),
            (r#""id":1"#, Some("1"), false),
        ] {
            let fault = parse(&format!(r#"{{"jsonrpc":"2.0",{broken}}}"#)).expect_err("broken");
            let read = fault.id.as_ref().map(|id| String::from_utf8_lossy(id.as_bytes()));
            assert_eq!((read.as_deref(), fault.asks), (id, asks), "{broken}");
        }
    }

    #[test]
    fn s_base_01_parameters_that_are_null_are_none() {
        let Ok(Frame::Request(request)) = parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params": null }"#)
        else {
            panic!("a request");
        };
        assert!(request.params.is_empty());
        assert!(parse(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":nul}"#).is_err());
        assert!(parse(r#"{"jsonrpc":"2.0","id":1,"result":null}"#).is_err());
    }

    #[test]
    fn an_error_without_an_id_is_still_a_response() {
        let Ok(Frame::Response(response)) =
            parse(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}"#)
        else {
            panic!("a response");
        };
        assert!(response.id.is_none());
    }
}
