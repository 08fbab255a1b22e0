//! What an upstream of the stateless era asks within a result, and what it is answered when it is called again (S-MRTR).
//!
//! Always: its keys and its state are its own and pass byte for byte. Not here: who is asked, and what clients hold in place
//! of the state (`dispatch`).

use bytes::Bytes;

use super::task::CreatedTask;
use crate::protocol::frame::Answer;
use crate::protocol::json::{Limits, Object};

/// What a client answers to what an upstream of the stateless era asked instead of answering (S-MRTR-04).
#[derive(Debug)]
pub struct Input {
    /// `inputResponses`, an object of objects, as the client wrote it.
    pub responses: Option<Bytes>,
    /// The upstream's own `requestState`, byte for byte.
    pub state: Option<String>,
}

/// How a call that was looked at comes back.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one, and a box would be an allocation per call"
)]
pub enum Reply {
    /// Answered for good.
    Final(Answer),
    /// Only an upstream of the stateless era, which keeps nothing of the call: it asks something, and is to be called again
    /// with [`Input`] (S-MRTR-01).
    NeedsInput(Box<InputRequired>),
    /// It became a task, as the caller had wished; only where one had ([`super::task::TaskWish`]).
    Task(Box<CreatedTask>),
}

/// What an upstream asks instead of answering.
#[derive(Debug, Clone)]
pub struct InputRequired {
    /// Its whole result.
    pub result: Object,
    /// `inputRequests`: an object of its own keys; may be empty.
    pub requests: Object,
    /// `requestState`, if it has one; without requests it has.
    pub state: Option<String>,
}

impl InputRequired {
    /// Reads a result whose type is `input_required`; an error says what it lacks.
    pub fn of(result: Object) -> Result<InputRequired, &'static str> {
        let requests = match result.get("inputRequests") {
            None => Object::empty(),
            // What stands twice in it would be read differently by others.
            Some(raw) => Object::parse(Bytes::copy_from_slice(raw), Limits::default())
                .map_err(|_| "inputRequests is no object, or has a key twice")?,
        };
        let state = match result.get("requestState") {
            None => None,
            Some(_) => Some(result.text("requestState").ok_or("requestState is no string")?.into_owned()),
        };
        if requests.is_empty() && state.is_none() {
            return Err("it asks for input and does not say for what");
        }
        Ok(InputRequired { result, requests, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_mrtr_01_a_result_that_asks_has_something_to_ask_or_to_remember() {
        let of = |text: &'static str| {
            InputRequired::of(
                Object::parse(Bytes::from_static(text.as_bytes()), Limits::NONE).expect("valid"),
            )
        };
        let both = of(r#"{"inputRequests":{"a":{}},"requestState":"\u0073"}"#).expect("both");
        assert_eq!((both.requests.as_bytes(), both.state.as_deref()), (&br#"{"a":{}}"#[..], Some("s")));
        assert!(of(r#"{"requestState":""}"#).is_ok() && of(r#"{"inputRequests":{"a":{}}}"#).is_ok());
        for nothing in [
            "{}",
            r#"{"inputRequests":{}}"#,
            r#"{"inputRequests":[],"requestState":"s"}"#,
            r#"{"inputRequests":{"a":{},"\u0061":{}}}"#,
            r#"{"inputRequests":{"a":{}},"requestState":7}"#,
        ] {
            assert!(of(nothing).is_err(), "{nothing}");
        }
    }
}
