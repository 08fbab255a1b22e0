//! What a client may see in answer to one call.
//!
//! Always: pure; whatever is not exactly this call's own is named.

use serde_json::Value;

/// What belongs to the call.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Its id, which is its progress token, too.
    pub(crate) id: u64,
    /// What only this call carries.
    pub(crate) marker: String,
    /// The server that has to answer.
    pub(crate) upstream: &'static str,
    /// It was cancelled, so the answer may be missing or an error.
    pub(crate) cancelled: bool,
}

/// What came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The right answer was there.
    pub(crate) answered: bool,
    /// Notifications of its own progress.
    pub(crate) progress: u64,
}

/// Looks at everything that came on the call's stream, in order.
pub(crate) fn judge(expected: &Expected, messages: &[&[u8]]) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut ended = false;
    let mut last_progress = f64::NEG_INFINITY;
    for message in messages.iter().filter(|message| !message.is_empty()) {
        let text = String::from_utf8_lossy(message);
        let message: Value = serde_json::from_slice(message).map_err(|error| format!("{error} in {text}"))?;
        if message.get("method").is_some() {
            let progress = own_progress(expected, &message).ok_or(format!("foreign progress: {text}"))?;
            if ended || progress <= last_progress {
                return Err(format!("progress late or not increasing: {text}"));
            }
            last_progress = progress;
            seen.progress += 1;
            continue;
        }
        if ended {
            return Err(format!("answered twice: {text}"));
        }
        ended = true;
        if message["id"] != expected.id {
            return Err(format!("foreign id: {text}"));
        }
        let wanted = format!("{} {}", expected.upstream, expected.marker);
        seen.answered = message["result"]["content"][0]["text"] == wanted.as_str();
        let excused = expected.cancelled && is_failure(&message);
        if !seen.answered && !excused {
            return Err(format!("foreign answer: {text}"));
        }
    }
    if ended || expected.cancelled { Ok(seen) } else { Err("no answer".to_owned()) }
}

fn own_progress(expected: &Expected, message: &Value) -> Option<f64> {
    let params = &message["params"];
    let own = message["method"] == "notifications/progress"
        && params["progressToken"] == expected.id
        && params["message"] == expected.marker.as_str();
    if own { params["progress"].as_f64() } else { None }
}

fn is_failure(message: &Value) -> bool {
    message.get("error").is_some() || message["result"]["isError"] == true
}
