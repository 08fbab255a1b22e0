//! What a client can be asked, and what of it may be shown to an upstream (S-LIFE-07, era-neutral).

use bytes::Bytes;

use super::digest::Digest;
use super::era::{Era, NEWEST_HANDSHAKE, NEWEST_STATELESS, Revision};
use super::json::{Limits, Object, quote};
use super::message::one_line;

/// Capabilities a client declared, as far as its revision has them and the gateway can carry what they lead to. Experimental
/// ones and extensions that are not known to be safe to pass are left out: an upstream must not rely on what
/// would be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCapabilities {
    roots: Option<Roots>,
    sampling: Option<Sampling>,
    elicitation: Option<Elicitation>,
    /// Settings of [`PASSING_EXTENSION`], raw.
    extension: Option<Bytes>,
    tasks: Option<HostedTasks>,
}

/// The extension whose settings pass between clients and upstreams: what it adds travels inside tools, results and
/// resources, which pass as they are (S-EXT-03).
pub const PASSING_EXTENSION: &str = "io.modelcontextprotocol/ui";

/// Kinds of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    /// `roots/list`
    pub roots: bool,
    /// `sampling/createMessage`
    pub sampling: bool,
    /// That with the client's context.
    pub context: bool,
    /// `elicitation/create`
    pub elicitation: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Roots {
    list_changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sampling {
    tools: bool,
    context: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Elicitation {
    /// Declared by its name, not by an empty object.
    named_form: bool,
    form: bool,
    url: bool,
}

/// Which questions the client answers by tasks of its own, and what can be asked about those (S-TASK-24).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HostedTasks {
    list: bool,
    cancel: bool,
    sampling: bool,
    elicitation: bool,
}

impl HostedTasks {
    fn of(raw: &Object) -> Option<Self> {
        let has = |object: &Object, key: &str| object.get(key).is_some_and(|value| value.starts_with(b"{"));
        let requests = raw.object("requests")?;
        let part = |kind: &str, request: &str| requests.object(kind).is_some_and(|kind| has(&kind, request));
        let tasks = HostedTasks {
            list: has(raw, "list"),
            cancel: has(raw, "cancel"),
            sampling: part("sampling", "createMessage"),
            elicitation: part("elicitation", "create"),
        };
        tasks.some()
    }

    /// Without any question there is nothing to them.
    fn some(self) -> Option<Self> {
        (self.sampling || self.elicitation).then_some(self)
    }

    fn member(self) -> String {
        let named = |there: bool, text: &'static str| there.then_some(text);
        let requests = [
            named(self.sampling, r#""sampling":{"createMessage":{}}"#),
            named(self.elicitation, r#""elicitation":{"create":{}}"#),
        ];
        let requests: Vec<_> = requests.into_iter().flatten().collect();
        let requests = format!(r#""requests":{{{}}}"#, requests.join(","));
        let parts =
            [named(self.list, r#""list":{}"#), named(self.cancel, r#""cancel":{}"#), Some(&*requests)];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        format!(r#""tasks":{{{}}}"#, parts.join(","))
    }
}

impl ClientCapabilities {
    /// None at all.
    pub fn none() -> Self {
        ClientCapabilities { roots: None, sampling: None, elicitation: None, extension: None, tasks: None }
    }

    /// Reads the `capabilities` member of a request of the newest handshake revision.
    pub fn new(raw: Object) -> Self {
        Self::of(&raw, NEWEST_HANDSHAKE)
    }

    /// Reads what a stateless request declares.
    pub fn new_stateless(raw: &Object) -> Self {
        Self::of(raw, NEWEST_STATELESS)
    }

    /// Reads the `capabilities` member of a client that speaks `revision`: what that revision does not have, the client
    /// cannot mean (S-ELIC-01, S-SAMP-02).
    pub fn of(raw: &Object, revision: Revision) -> Self {
        let has = |object: &Object, key: &str| object.get(key).is_some_and(|value| value.starts_with(b"{"));
        let parts = revision >= Revision::V2025_11_25;
        let roots = raw.object("roots");
        let sampling = raw.object("sampling");
        let elicitation = raw.object("elicitation").filter(|_| revision >= Revision::V2025_06_18);
        ClientCapabilities {
            roots: roots.map(|roots| Roots {
                // Without a session there is no later, in which they could change.
                list_changed: revision.era() == Era::Handshake && roots.get("listChanged") == Some(b"true"),
            }),
            sampling: sampling.map(|sampling| Sampling {
                tools: parts && has(&sampling, "tools"),
                context: parts && has(&sampling, "context"),
            }),
            elicitation: elicitation.map(|modes| {
                let (named_form, url) = (parts && has(&modes, "form"), parts && has(&modes, "url"));
                // `{}` means form alone.
                Elicitation { named_form, form: named_form || !url, url }
            }),
            // By convention since 2025-11-25, and in the schema of what followed.
            extension: raw
                .object("extensions")
                .filter(|_| parts)
                .and_then(|all| all.share(PASSING_EXTENSION))
                .filter(|settings| settings.starts_with(b"{"))
                .map(|settings| {
                    let mut settings = settings.to_vec();
                    one_line(&mut settings);
                    settings.into()
                }),
            // Those of other revisions mean something else, or nothing (S-TX-14).
            tasks: raw
                .object("tasks")
                .filter(|_| revision == Revision::V2025_11_25)
                .and_then(|tasks| HostedTasks::of(&tasks)),
        }
    }

    /// Whether the client answers this by a task of its own where that is wished for.
    pub fn hosts_tasks_of(&self, method: &str) -> bool {
        self.tasks.is_some_and(|tasks| match method {
            "sampling/createMessage" => tasks.sampling && self.sampling(),
            "elicitation/create" => tasks.elicitation && self.elicitation(),
            _ => false,
        })
    }

    /// Whether the client answers this method, which is about tasks of its own.
    pub fn answers_about_tasks(&self, method: &str) -> bool {
        self.tasks.is_some_and(|tasks| match method {
            "tasks/get" | "tasks/result" => true,
            "tasks/cancel" => tasks.cancel,
            "tasks/list" => tasks.list,
            _ => false,
        })
    }

    /// The same without tasks of the client's own.
    pub fn without_tasks(self) -> Self {
        ClientCapabilities { tasks: None, ..self }
    }

    /// Whether nothing was declared.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Whether it can be asked anything.
    pub fn can_be_asked(&self) -> bool {
        self.roots.is_some() || self.sampling.is_some() || self.elicitation.is_some()
    }

    /// Whether the client answers `sampling/createMessage`.
    pub fn sampling(&self) -> bool {
        self.sampling.is_some()
    }

    /// Whether its model may be offered tools.
    pub fn sampling_tools(&self) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| sampling.tools)
    }

    /// Whether it adds what its conversation holds when a server wishes it.
    pub fn sampling_context(&self) -> bool {
        self.sampling.as_ref().is_some_and(|sampling| sampling.context)
    }

    /// Whether the client answers `roots/list`.
    pub fn roots(&self) -> bool {
        self.roots.is_some()
    }

    /// Whether the client tells when its roots change.
    pub fn roots_list_changed(&self) -> bool {
        self.roots.as_ref().is_some_and(|roots| roots.list_changed)
    }

    /// Whether the client answers `elicitation/create` in any mode.
    pub fn elicitation(&self) -> bool {
        self.elicitation.is_some()
    }

    /// Whether the client shows forms.
    pub fn elicitation_form(&self) -> bool {
        self.elicitation.as_ref().is_some_and(|modes| modes.form)
    }

    /// Whether the client opens URLs.
    pub fn elicitation_url(&self) -> bool {
        self.elicitation.as_ref().is_some_and(|modes| modes.url)
    }

    /// What of it a server may use.
    pub fn narrowed(&self, to: Kinds) -> ClientCapabilities {
        ClientCapabilities {
            roots: self.roots.clone().filter(|_| to.roots),
            sampling: self
                .sampling
                .clone()
                .filter(|_| to.sampling)
                .map(|sampling| Sampling { context: sampling.context && to.context, ..sampling }),
            elicitation: self.elicitation.clone().filter(|_| to.elicitation),
            extension: self.extension.clone(),
            tasks: self.tasks.and_then(|tasks| {
                let sampling = tasks.sampling && to.sampling;
                HostedTasks { sampling, elicitation: tasks.elicitation && to.elicitation, ..tasks }.some()
            }),
        }
    }

    /// The set as a stateless request declares it (S-META-06): there is nobody who could be told of changes.
    pub fn per_request(mut self) -> Bytes {
        if let Some(roots) = &mut self.roots {
            roots.list_changed = false;
        }
        self.to_upstream()
    }

    /// The set as an `initialize` towards an upstream declares it (S-LIFE-07).
    pub fn to_upstream(&self) -> Bytes {
        let mut members = Vec::new();
        if let Some(roots) = &self.roots {
            let list_changed = if roots.list_changed { r#""listChanged":true"# } else { "" };
            members.push(format!(r#""roots":{{{list_changed}}}"#));
        }
        if let Some(sampling) = &self.sampling {
            let parts = named([("tools", sampling.tools), ("context", sampling.context)]);
            members.push(format!(r#""sampling":{parts}"#));
        }
        if let Some(modes) = &self.elicitation {
            let form = modes.named_form || (modes.form && modes.url);
            members.push(format!(r#""elicitation":{}"#, named([("form", form), ("url", modes.url)])));
        }
        if let Some(settings) = &self.extension {
            let settings = String::from_utf8_lossy(settings);
            members.push(format!(r#""extensions":{{"{PASSING_EXTENSION}":{settings}}}"#));
        }
        members.extend(self.tasks.map(HostedTasks::member));
        format!("{{{}}}", members.join(",")).into()
    }

    /// A text that is the same for sets that mean the same: whether forms are named makes no difference, nor how the
    /// settings of an extension are written, which are the client's to choose. `{}` when nothing was declared.
    pub fn meaning(&self) -> Bytes {
        let mut plain = self.clone();
        if let Some(modes) = &mut plain.elicitation {
            modes.named_form = modes.form;
        }
        if let Some(settings) = plain.extension.take() {
            let mut digest = Digest::default();
            digest.json(Some(settings));
            plain.extension = Some(quote(&digest.finish()).into());
        }
        plain.to_upstream()
    }
}

/// Whether everything that `required` names was declared: the members of both are capabilities, and parts of them.
pub fn includes(declared: &Object, required: &Object) -> bool {
    required.iter().all(|(name, _)| {
        let (Some(has), Some(needs)) = (declared.object(&name), required.object(&name)) else { return false };
        // `elicitation: {}` means forms.
        let means_forms = name == "elicitation" && has.is_empty();
        needs.iter().all(|(part, _)| has.get(&part).is_some() || (means_forms && part == "form"))
    })
}

/// `{"a":{},…}` of those that are there.
fn named(parts: [(&str, bool); 2]) -> String {
    let there = parts.into_iter().filter(|(_, there)| *there);
    format!("{{{}}}", there.map(|(name, _)| format!("\"{name}\":{{}}")).collect::<Vec<_>>().join(","))
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

    /// What was declared of `feature`.
    pub fn object(&self, feature: &str) -> Option<Object> {
        self.raw.object(feature)
    }

    /// Its settings of an extension, raw, if it declared that one.
    pub fn extension(&self, identifier: &str) -> Option<Bytes> {
        let settings = self.raw.object("extensions")?.share(identifier)?;
        settings.starts_with(b"{").then_some(settings)
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

    fn shown(declared: &'static str, revision: Revision) -> String {
        let raw = Object::parse(Bytes::from_static(declared.as_bytes()), Limits::default()).expect("valid");
        String::from_utf8(ClientCapabilities::of(&raw, revision).to_upstream().to_vec()).expect("UTF-8")
    }

    #[test]
    fn s_life_07_an_upstream_sees_what_the_client_can_do_and_no_more() {
        let rows = [
            ("{}", "{}"),
            (
                r#"{"roots":{"listChanged":true},"sampling":{"tools":{},"x":1},"elicitation":{}}"#,
                r#"{"roots":{"listChanged":true},"sampling":{"tools":{}},"elicitation":{}}"#,
            ),
            (r#"{"elicitation":{"url":{},"form":{}},"tasks":{}}"#, r#"{"elicitation":{"form":{},"url":{}}}"#),
            (r#"{"elicitation":{"form":{}},"experimental":{"x":{}}}"#, r#"{"elicitation":{"form":{}}}"#),
            (r#"{"elicitation":{"url":{}},"roots":{}}"#, r#"{"roots":{},"elicitation":{"url":{}}}"#),
            (r#"{"sampling":{"context":{},"tools":{}}}"#, r#"{"sampling":{"tools":{},"context":{}}}"#),
            (r#"{"sampling":true}"#, "{}"),
            (
                "{\"extensions\":{\"com.example/x\":{},\"io.modelcontextprotocol/ui\":{\n\"mimeTypes\":[\"a/b\"]}}}",
                r#"{"extensions":{"io.modelcontextprotocol/ui":{ "mimeTypes":["a/b"]}}}"#,
            ),
            (r#"{"extensions":{"io.modelcontextprotocol/ui":true}}"#, "{}"),
            (
                r#"{"elicitation":{},"tasks":{"x":1,"cancel":{},"requests":{"elicitation":{"create":{}},"tools":{"call":{}}}}}"#,
                r#"{"elicitation":{},"tasks":{"cancel":{},"requests":{"elicitation":{"create":{}}}}}"#,
            ),
            (r#"{"tasks":{"list":{},"cancel":{}}}"#, "{}"),
        ];
        for (declared, expected) in rows {
            assert_eq!(shown(declared, NEWEST_HANDSHAKE), expected, "{declared}");
        }
    }

    #[test]
    fn s_life_07_sets_that_mean_the_same_are_the_same() {
        let meaning = |text: &'static str| {
            let raw = Object::parse(Bytes::from_static(text.as_bytes()), Limits::default()).expect("valid");
            ClientCapabilities::new_stateless(&raw).meaning()
        };
        assert_eq!(meaning(r#"{"elicitation":{}}"#), meaning(r#"{"elicitation":{"form":{}}}"#));
        assert_ne!(meaning(r#"{"elicitation":{}}"#), meaning(r#"{"elicitation":{"form":{},"url":{}}}"#));
        let [one, same, other] = [
            r#"{"extensions":{"io.modelcontextprotocol/ui":{"a":1,"b":["x"]}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{ "b": ["\u0078"], "a": 1 }}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{"a":2,"b":["x"]}}}"#,
        ]
        .map(meaning);
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(meaning("{}"), "{}");
    }

    #[test]
    fn s_tx_14_tasks_of_clients_are_of_one_revision_alone() {
        const TASKS: &str = r#"{"sampling":{},"tasks":{"requests":{"sampling":{"createMessage":{}}}}}"#;
        for revision in crate::protocol::era::REVISIONS {
            let is_told = shown(TASKS, revision).contains("tasks");
            assert_eq!(is_told, revision == Revision::V2025_11_25, "{revision}");
        }
        let raw = Object::parse(Bytes::from_static(TASKS.as_bytes()), Limits::default()).expect("valid");
        let declared = ClientCapabilities::new(raw);
        assert!(
            declared.hosts_tasks_of("sampling/createMessage") && declared.answers_about_tasks("tasks/get")
        );
        assert!(
            !declared.hosts_tasks_of("elicitation/create") && !declared.answers_about_tasks("tasks/list")
        );
        let without = Kinds { roots: true, sampling: false, context: true, elicitation: true };
        assert!(declared.narrowed(without).tasks.is_none(), "what may not be asked cannot be answered later");
    }

    #[test]
    fn s_elic_01_a_client_can_mean_only_what_its_revision_has() {
        const ALL: &str = r#"{"sampling":{"tools":{},"context":{}},"elicitation":{"url":{}},"roots":{}}"#;
        let rows = [
            (Revision::V2024_11_05, r#"{"roots":{},"sampling":{}}"#),
            (Revision::V2025_03_26, r#"{"roots":{},"sampling":{}}"#),
            (Revision::V2025_06_18, r#"{"roots":{},"sampling":{},"elicitation":{}}"#),
            (
                Revision::V2025_11_25,
                r#"{"roots":{},"sampling":{"tools":{},"context":{}},"elicitation":{"url":{}}}"#,
            ),
        ];
        for (revision, expected) in rows {
            assert_eq!(shown(ALL, revision), expected, "{revision}");
        }
    }
}
