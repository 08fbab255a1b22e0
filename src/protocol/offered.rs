//! What the gateway says it offers, in the words of each revision: `initialize` and `server/discover` alike.
//!
//! Always: only what some upstream offers or may offer is declared (S-LIFE-06); of tasks each era hears in its own form alone
//! (S-TX-14), and of other extensions only of those that may pass from one hop to the other (S-EXT-03). Not here: which upstream offers what (`dispatch::introduce`).

use bytes::Bytes;

use super::era::{Era, Revision};
use super::json::{Limits, Object, elements};
use super::task;

/// The extension of user interfaces, which servers and clients agree on through the gateway.
pub use super::capability::PASSING_EXTENSION as UI;

/// The union of what upstreams offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offered {
    /// `tools`
    pub tools: bool,
    /// `prompts`
    pub prompts: bool,
    /// `resources`
    pub resources: bool,
    /// `resources.subscribe`
    pub updates: bool,
    /// `completions`
    pub completions: bool,
    /// `logging`
    pub logging: bool,
    /// Tasks made of tool calls.
    pub tasks: bool,
    /// Settings of [`UI`], where an upstream has declared it.
    pub ui: Option<Bytes>,
}

/// What clients of an era are told of without asking.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// `listChanged`: that a list changed.
    lists: bool,
    /// `subscribe`: that a resource changed.
    updates: bool,
}

impl Told {
    /// On the streams of their session.
    const IN_SESSIONS: Told = Told { lists: true, updates: true };
    /// On the streams of `subscriptions/listen`.
    const BY_LISTENING: Told = Told { lists: true, updates: true };
}

/// Whatever upstreams can do with theirs: what a client sees are the gateway's own (S-TASK-01).
const CORE_TASKS: &str = r#""tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#;

impl Offered {
    /// The `capabilities` object for a client of that revision.
    pub fn text(&self, revision: Revision) -> String {
        let told = match revision.era() {
            Era::Handshake => Told::IN_SESSIONS,
            Era::Stateless => Told::BY_LISTENING,
        };
        let lists = if told.lists { r#""listChanged":true"# } else { "" };
        let updates = match (told.updates && self.updates, told.lists) {
            (false, _) => "",
            (true, false) => r#""subscribe":true"#,
            (true, true) => r#","subscribe":true"#,
        };
        let mut members = Vec::new();
        if self.completions && revision >= Revision::V2025_03_26 {
            members.push(r#""completions":{}"#.to_owned());
        }
        if let Some(extensions) = self.extensions(revision) {
            members.push(extensions);
        }
        if self.logging {
            members.push(r#""logging":{}"#.to_owned());
        }
        if self.prompts {
            members.push(format!(r#""prompts":{{{lists}}}"#));
        }
        if self.resources {
            members.push(format!(r#""resources":{{{lists}{updates}}}"#));
        }
        if self.tasks && revision == Revision::V2025_11_25 {
            members.push(CORE_TASKS.to_owned());
        }
        if self.tools {
            members.push(format!(r#""tools":{{{lists}}}"#));
        }
        format!("{{{}}}", members.join(","))
    }

    fn extensions(&self, revision: Revision) -> Option<String> {
        let mut all = Vec::new();
        // By convention, clients of the last handshake revision agree on it already.
        if let Some(ui) = self.ui.as_ref().filter(|_| revision >= Revision::V2025_11_25) {
            all.push(format!(r#""{UI}":{}"#, String::from_utf8_lossy(ui)));
        }
        if self.tasks && revision.era() == Era::Stateless {
            all.push(format!(r#""{}":{{}}"#, task::EXTENSION));
        }
        (!all.is_empty()).then(|| format!(r#""extensions":{{{}}}"#, all.join(",")))
    }

    /// Takes in an upstream's settings of [`UI`]: what any of them can do, some of them can.
    pub fn add_ui(&mut self, settings: Bytes) {
        self.ui = Some(match self.ui.take() {
            None => settings,
            Some(known) if known == settings => known,
            Some(known) => both(&known, &settings),
        });
    }
}

/// The one setting that the extension has is a list; what differs otherwise is left out.
fn both(one: &Bytes, other: &Bytes) -> Bytes {
    let types = |settings: &Bytes| {
        let settings = Object::parse(settings.clone(), Limits::NONE).ok()?;
        elements(&settings.share("mimeTypes")?, Limits::NONE).ok()
    };
    let mut all: Vec<Bytes> = Vec::new();
    for kind in [one, other].into_iter().filter_map(types).flatten() {
        if !all.contains(&kind) {
            all.push(kind);
        }
    }
    match all.is_empty() {
        true => Bytes::from_static(b"{}"),
        false => [&br#"{"mimeTypes":["#[..], &all.join(&b","[..]), b"]}"].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Offered {
        Offered {
            tools: true,
            prompts: true,
            resources: true,
            updates: true,
            completions: true,
            logging: true,
            tasks: false,
            ui: Some(Bytes::from_static(b"{}")),
        }
    }

    #[test]
    fn s_life_06_each_revision_is_told_of_the_union_in_its_own_words() {
        let old = everything().text(Revision::V2024_11_05);
        assert_eq!(
            old,
            r#"{"logging":{},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"tools":{"listChanged":true}}"#
        );
        assert!(everything().text(Revision::V2025_03_26).starts_with(r#"{"completions":{},"logging""#));
        let newest = everything().text(Revision::V2025_11_25);
        assert!(newest.contains(r#""extensions":{"io.modelcontextprotocol/ui":{}}"#), "{newest}");
        let stateless = everything().text(Revision::V2026_07_28);
        assert!(stateless.contains(r#""completions":{}"#) && !stateless.contains("tasks"), "{stateless}");
    }

    #[test]
    fn s_task_01_s_tx_01_14_each_era_is_told_of_tasks_in_its_own_form() {
        let all = Offered { tasks: true, ..everything() };
        let core = all.text(Revision::V2025_11_25);
        assert!(core.contains(CORE_TASKS) && !core.contains(task::EXTENSION), "{core}");
        let stateless = all.text(Revision::V2026_07_28);
        let both = r#""extensions":{"io.modelcontextprotocol/ui":{},"io.modelcontextprotocol/tasks":{}}"#;
        assert!(stateless.contains(both) && !stateless.contains(r#""tasks":{"list""#), "{stateless}");
        for older in [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18] {
            assert!(!all.text(older).contains("tasks"), "{older}");
        }
        let tasks = Offered { tasks: true, ..Offered::default() };
        assert_eq!(
            tasks.text(Revision::V2026_07_28),
            r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#
        );
    }

    #[test]
    fn s_disc_02_what_no_upstream_offers_is_not_declared() {
        let tools = Offered { tools: true, ..Offered::default() };
        assert_eq!(tools.text(Revision::V2025_11_25), r#"{"tools":{"listChanged":true}}"#);
        assert!(tools.text(Revision::V2026_07_28).starts_with(r#"{"tools":{"#));
        let resources = Offered { resources: true, ..Offered::default() };
        assert_eq!(resources.text(Revision::V2025_06_18), r#"{"resources":{"listChanged":true}}"#);
        assert_eq!(Offered::default().text(Revision::V2026_07_28), "{}");
    }

    #[test]
    fn s_ext_03_what_servers_can_do_with_interfaces_is_told_as_a_union() {
        let shown = |all: &[&'static str]| {
            let mut offered = Offered::default();
            all.iter().for_each(|settings| offered.add_ui(Bytes::from_static(settings.as_bytes())));
            String::from_utf8(offered.ui.expect("some").to_vec()).expect("UTF-8")
        };
        assert_eq!(shown(&[r#"{"a":1}"#]), r#"{"a":1}"#);
        assert_eq!(shown(&[r#"{"a":1}"#, r#"{"a":1}"#]), r#"{"a":1}"#);
        assert_eq!(shown(&[r#"{"a":1}"#, r#"{"a":2}"#]), "{}");
        assert_eq!(
            shown(&[r#"{"mimeTypes":["x","y"]}"#, r#"{"mimeTypes":["y","z"]}"#]),
            r#"{"mimeTypes":["x","y","z"]}"#
        );
    }
}
