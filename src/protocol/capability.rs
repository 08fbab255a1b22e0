//! What a client can be asked, and what of it may be shown to an upstream (S-LIFE-07, era-neutral).

use bytes::Bytes;

use super::json::{Limits, Object};

/// Capabilities a client declared, as it wrote them.
#[derive(Debug, Clone)]
pub struct ClientCapabilities {
    raw: Object,
}

impl ClientCapabilities {
    /// None at all.
    pub fn none() -> Self {
        ClientCapabilities { raw: Object::empty() }
    }

    /// Reads the `capabilities` member of a request.
    pub fn new(raw: Object) -> Self {
        ClientCapabilities { raw }
    }

    /// Whether the client answers `sampling/createMessage`.
    pub fn sampling(&self) -> bool {
        self.declares("sampling")
    }

    /// Whether the client answers `roots/list`.
    pub fn roots(&self) -> bool {
        self.declares("roots")
    }

    /// Whether the client tells when its roots change.
    pub fn roots_list_changed(&self) -> bool {
        self.raw.object("roots").is_some_and(|roots| roots.get("listChanged") == Some(b"true"))
    }

    /// Whether the client answers form elicitation: `{}` means form alone (S-ELIC-01).
    pub fn elicitation_form(&self) -> bool {
        self.raw
            .object("elicitation")
            .is_some_and(|modes| modes.get("form").is_some() || modes.get("url").is_none())
    }

    fn declares(&self, key: &str) -> bool {
        self.raw.get(key).is_some_and(|value| value.starts_with(b"{"))
    }

    /// The set that this release can carry back to the client, as an `initialize` towards an upstream declares it:
    /// roots, sampling and form elicitation. URL elicitation, tasks, experimental ones and extensions are left out
    /// until the gateway maps their identifiers, because an upstream must not ask for what would be lost.
    pub fn to_upstream(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        out.push(b'{');
        let mut member = |key: &str, value: &[u8]| {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(format!("\"{key}\":").as_bytes());
            out.extend_from_slice(value);
        };
        if self.roots() {
            let roots: &[u8] = if self.roots_list_changed() { br#"{"listChanged":true}"# } else { b"{}" };
            member("roots", roots);
        }
        if self.sampling() {
            let sampling = self.raw.object("sampling");
            let kept = ["tools", "context"]
                .into_iter()
                .filter(|key| sampling.as_ref().is_some_and(|sampling| sampling.get(key).is_some()))
                .map(|key| format!("\"{key}\":{{}}"))
                .collect::<Vec<_>>();
            member("sampling", format!("{{{}}}", kept.join(",")).as_bytes());
        }
        if self.elicitation_form() {
            let modes = self.raw.object("elicitation");
            let explicit = modes.is_some_and(|modes| modes.get("form").is_some());
            member("elicitation", if explicit { br#"{"form":{}}"# } else { b"{}" });
        }
        out.push(b'}');
        out.into()
    }
}

/// What a server said it offers; raw, with the questions the gateway has.
#[derive(Debug, Clone)]
pub struct ServerCapabilities {
    raw: Object,
}

impl ServerCapabilities {
    /// Reads the `capabilities` member of an `initialize` or `server/discover` result.
    pub fn new(raw: Object) -> Self {
        ServerCapabilities { raw }
    }

    /// Whether `feature` (`tools`, `prompts`, `resources`, `logging`, `completions`) was declared.
    pub fn offers(&self, feature: &str) -> bool {
        self.raw.get(feature).is_some_and(|value| value.starts_with(b"{"))
    }

    /// Whether `feature` was declared with `flag: true`, for example `resources`, `subscribe`.
    pub fn flag(&self, feature: &str, flag: &str) -> bool {
        self.raw.object(feature).is_some_and(|feature| feature.get(flag) == Some(b"true"))
    }

    /// Reads text that was validated before; anything but an object offers nothing.
    pub fn from_raw(raw: Option<Bytes>) -> Self {
        let raw = raw.and_then(|raw| Object::parse(raw, Limits::NONE).ok());
        ServerCapabilities { raw: raw.unwrap_or_else(Object::empty) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(declared: &'static str) -> String {
        let raw = Object::parse(Bytes::from_static(declared.as_bytes()), Limits::default()).expect("valid");
        String::from_utf8(ClientCapabilities::new(raw).to_upstream().to_vec()).expect("UTF-8")
    }

    #[test]
    fn s_life_07_an_upstream_sees_only_what_can_be_carried_back() {
        assert_eq!(shown("{}"), "{}");
        assert_eq!(
            shown(r#"{"roots":{"listChanged":true},"sampling":{"tools":{},"x":1},"elicitation":{}}"#),
            r#"{"roots":{"listChanged":true},"sampling":{"tools":{}},"elicitation":{}}"#
        );
        assert_eq!(
            shown(r#"{"elicitation":{"form":{},"url":{}},"tasks":{}}"#),
            r#"{"elicitation":{"form":{}}}"#
        );
        assert_eq!(shown(r#"{"elicitation":{"url":{}}}"#), "{}");
        assert_eq!(shown(r#"{"sampling":true}"#), "{}");
    }
}
