//! What a connection declares of the client behind it: what that client can do, less what the server may not ask.

use bytes::Bytes;

use crate::config::servers::AskSettings;
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::json::{Limits, Object};
use crate::protocol::splice::Edit;

/// Capabilities for `initialize`; two clients whose sets mean the same have the same text (S-LIFE-07).
pub(super) fn declared(capabilities: &ClientCapabilities, ask: AskSettings) -> Bytes {
    let whole = capabilities.to_upstream();
    let Ok(set) = Object::parse(whole.clone(), Limits::NONE) else { return whole };
    let mut narrowed = Edit::of(&set);
    for (capability, may) in
        [("roots", ask.roots), ("sampling", ask.sampling), ("elicitation", ask.elicitation)]
    {
        if !may {
            narrowed.remove(capability);
        }
    }
    if let Some(sampling) = set.object("sampling").filter(|_| ask.sampling && !ask.context) {
        let mut without = Edit::of(&sampling);
        without.remove("context");
        narrowed.set("sampling", written(&without));
    }
    written(&narrowed).into()
}

fn written(edit: &Edit<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    edit.write(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
