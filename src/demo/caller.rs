//! What the server knows of whoever sent a request.
//!
//! Always: in the stateless era all of it comes from the request itself; in the handshake era from the session.

use std::sync::Arc;

use serde_json::{Value, json};

use super::session::Session;
use super::wire::Object;
use crate::protocol::era::{Era, Revision};

/// Severities of log messages, least severe first.
pub(crate) const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// Rank of a severity, if it is one.
pub(crate) fn log_rank(level: &str) -> Option<usize> {
    LOG_LEVELS.iter().position(|known| *known == level)
}

/// The sender of one request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) revision: Revision,
    pub(crate) client: Option<Value>,
    pub(crate) capabilities: Value,
    /// Least severe log message to send, as a rank; none for no log messages at all.
    pub(crate) log_threshold: Option<usize>,
    /// The connection or session by which a handshake-era client can be asked something.
    pub(crate) session: Option<Arc<Session>>,
    /// Names and values of the HTTP request's headers.
    pub(crate) headers: Arc<[(String, String)]>,
}

impl Caller {
    pub(crate) fn is_stateless(&self) -> bool {
        self.revision.era() == Era::Stateless
    }

    /// Whether the request came over HTTP, where every request has headers.
    pub(crate) fn over_http(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Whether everything in `needed`, an object of capabilities, was declared.
    pub(crate) fn declares(&self, needed: &Value) -> bool {
        let declared = self.capabilities.as_object();
        needed.as_object().is_none_or(|needed| {
            needed.iter().all(|(name, parts)| {
                let Some(have) = declared.and_then(|declared| declared.get(name)) else { return false };
                declares_parts(name, have, parts)
            })
        })
    }
}

fn declares_parts(name: &str, have: &Value, parts: &Value) -> bool {
    let nothing_named = have.as_object().is_none_or(Object::is_empty);
    parts.as_object().is_none_or(|parts| {
        parts.keys().all(|part| {
            // An empty elicitation capability means forms.
            let implied = name == "elicitation" && part == "form" && nothing_named;
            implied || have.get(part).is_some()
        })
    })
}

/// Capabilities as a map even where the client sent something else.
pub(crate) fn capabilities_of(params: &Object, key: &str) -> Value {
    params.get(key).filter(|value| value.is_object()).cloned().unwrap_or_else(|| json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(capabilities: Value) -> Caller {
        Caller {
            revision: Revision::V2026_07_28,
            client: None,
            capabilities,
            log_threshold: None,
            session: None,
            headers: Arc::from([]),
        }
    }

    #[test]
    fn an_empty_elicitation_capability_means_forms_but_not_urls() {
        let plain = caller(json!({"elicitation": {}}));
        assert!(plain.declares(&json!({"elicitation": {"form": {}}})));
        assert!(!plain.declares(&json!({"elicitation": {"url": {}}})));
        let url_only = caller(json!({"elicitation": {"url": {}}}));
        assert!(!url_only.declares(&json!({"elicitation": {"form": {}}})));
        assert!(!plain.declares(&json!({"sampling": {}})));
    }
}
