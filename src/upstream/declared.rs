//! What a connection declares of the client behind it: what that client can do, less what the server may not ask.

use bytes::Bytes;

use crate::config::servers::AskSettings;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::era::Revision;

/// Capabilities for `initialize`; two clients whose sets mean the same have the same text (S-LIFE-07). Tasks of a client's
/// own are for a connection that it shares with nobody.
pub(super) fn declared(capabilities: &ClientCapabilities, ask: AskSettings) -> Bytes {
    capabilities.narrowed(ask.kinds()).without_tasks().to_upstream()
}

/// The same for a connection of that client alone, which offers that revision: of another one, tasks mean nothing
/// (S-TASK-02).
pub(super) fn declared_alone(
    capabilities: &ClientCapabilities,
    ask: AskSettings,
    offered: Revision,
) -> Bytes {
    match offered {
        Revision::V2025_11_25 => capabilities.narrowed(ask.kinds()).to_upstream(),
        _ => declared(capabilities, ask),
    }
}

/// The same text for all sets that mean the same to this server, however their clients wrote them (S-LIFE-07).
pub(super) fn meaning(capabilities: &ClientCapabilities, ask: AskSettings) -> Bytes {
    capabilities.narrowed(ask.kinds()).without_tasks().meaning()
}

/// Capabilities for the `_meta` of one request (S-META-06).
pub(super) fn declared_per_request(capabilities: &ClientCapabilities, ask: AskSettings) -> Bytes {
    if capabilities.is_none() {
        return Bytes::from_static(b"{}");
    }
    capabilities.narrowed(ask.kinds()).without_tasks().per_request()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::{Limits, Object};

    const ALL: AskSettings = AskSettings { roots: true, sampling: true, elicitation: true, context: true };

    fn shown(client: &'static str, ask: AskSettings) -> String {
        let raw = Object::parse(Bytes::from_static(client.as_bytes()), Limits::NONE).expect("valid");
        String::from_utf8(declared(&ClientCapabilities::new(raw), ask).to_vec()).expect("UTF-8")
    }

    #[test]
    fn s_root_05_what_a_server_may_not_ask_is_not_declared_to_it() {
        const CLIENT: &str =
            r#"{"elicitation":{},"sampling":{"context":{},"tools":{}},"roots":{"listChanged":true}}"#;
        let rows = [
            (ALL, r#"{"roots":{"listChanged":true},"sampling":{"tools":{},"context":{}},"elicitation":{}}"#),
            (
                AskSettings { roots: false, ..ALL },
                r#"{"sampling":{"tools":{},"context":{}},"elicitation":{}}"#,
            ),
            (
                AskSettings { context: false, elicitation: false, ..ALL },
                r#"{"roots":{"listChanged":true},"sampling":{"tools":{}}}"#,
            ),
            (AskSettings { sampling: false, roots: false, elicitation: false, context: true }, "{}"),
        ];
        for (ask, expected) in rows {
            assert_eq!(shown(CLIENT, ask), expected, "{ask:?}");
        }
        assert_eq!(shown("{}", ALL), "{}", "nothing is declared that the client cannot do");
        let sampling = AskSettings { context: false, ..ALL };
        assert_eq!(shown(r#"{"sampling":{"context":{}}}"#, sampling), r#"{"sampling":{}}"#);
    }

    #[test]
    fn s_meta_06_a_request_declares_its_own_client_and_no_changes_of_roots() {
        let raw = |text: &'static str| {
            let raw = Object::parse(Bytes::from_static(text.as_bytes()), Limits::NONE).expect("valid");
            declared_per_request(&ClientCapabilities::new(raw), ALL)
        };
        assert_eq!(raw("{}"), "{}");
        assert_eq!(
            raw(r#"{"roots":{"listChanged":true},"elicitation":{}}"#),
            r#"{"roots":{},"elicitation":{}}"#
        );
    }
}
