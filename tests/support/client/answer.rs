//! A final response and what preceded it.
//!
//! Owns the questions that stories ask of answers; each fails with the answer's text. Not here: reading it.

use serde_json::{Value, json};

use super::endpoint::Connection;
use super::exchange::Message;
use crate::support::http::Headers;

/// A final response and everything that came before it on its stream.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The HTTP header fields.
    pub(crate) headers: Headers,
    /// The response as it stood on the wire.
    pub(crate) raw: String,
    /// The same, parsed.
    pub(crate) json: Value,
    /// Notifications and requests that preceded it.
    pub(crate) before: Vec<Message>,
    /// Whether it came on an event stream.
    pub(crate) streamed: bool,
    pub(super) idle: Option<Connection>,
}

impl Answer {
    /// The result, or fail with the error that came instead.
    pub(crate) fn result(&self) -> &Value {
        self.json.get("result").unwrap_or_else(|| panic!("HTTP {}: no result but {}", self.status, self.raw))
    }

    /// The exact text of a member below `result`.
    pub(crate) fn raw_result(&self, path: &[&str]) -> &str {
        let path: Vec<&str> = std::iter::once("result").chain(path.iter().copied()).collect();
        crate::support::json::raw_at(&self.raw, &path)
            .unwrap_or_else(|| panic!("no {path:?} in {}", self.raw))
    }

    /// The error, or fail with the result that came instead.
    pub(crate) fn error(&self) -> &Value {
        self.json.get("error").unwrap_or_else(|| panic!("HTTP {}: no error but {}", self.status, self.raw))
    }

    /// The code of the error.
    pub(crate) fn error_code(&self) -> i64 {
        self.error()["code"].as_i64().unwrap_or_else(|| panic!("no code: {}", self.raw))
    }

    /// Fail unless this is an error with this HTTP status and code.
    pub(crate) fn expect_error(&self, status: u16, code: i64) -> &Answer {
        assert_eq!((self.status, self.error_code()), (status, code), "{}", self.raw);
        self
    }

    /// The text of the first content block of a tool result.
    pub(crate) fn text(&self) -> &str {
        self.result()["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {}", self.raw))
    }

    /// The failure object that the gateway attaches to what it could not do: from an error's `data`, or from the
    /// `_meta` of an `isError` result.
    pub(crate) fn failure(&self) -> &Value {
        if let Some(error) = self.json.get("error") {
            return &error["data"];
        }
        let result = self.result();
        assert_eq!(result["isError"], true, "expected a failure: {}", self.raw);
        assert!(!self.text().is_empty(), "a failed call tells the model why: {}", self.raw);
        &result["_meta"]["switchyard/failure"]
    }

    /// Fail unless the gateway reports this reason and outcome.
    pub(crate) fn expect_failure(&self, reason: &str, outcome: &str) -> &Answer {
        let failure = self.failure();
        assert_eq!(
            (&failure["reason"], &failure["outcome"]),
            (&json!(reason), &json!(outcome)),
            "{}",
            self.raw
        );
        assert!(failure["retryable"].is_boolean(), "{}", self.raw);
        self
    }

    /// The names of the listed tools, prompts, resources or templates, in order.
    pub(crate) fn names(&self, list: &str) -> Vec<String> {
        let items = self.result()[list].as_array().unwrap_or_else(|| panic!("no {list}: {}", self.raw));
        items.iter().map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Values of the progress notifications that preceded the response.
    pub(crate) fn progress(&self) -> Vec<f64> {
        let progress = self.before.iter().filter(|message| message.method() == "notifications/progress");
        progress.map(|message| message.params()["progress"].as_f64().expect("progress is a number")).collect()
    }
}
