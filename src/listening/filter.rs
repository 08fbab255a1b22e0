//! What a client wants to be told.

use crate::protocol::json::{Limits, Object, elements, string};

/// Resources that one listening may name; more are not honoured.
const MOST_RESOURCES: usize = 1_000;
/// Tasks that one listening may name; more are not honoured.
const MOST_TASKS: usize = 256;
/// The member that names them, in the words of the tasks extension.
const TASK_IDS: &str = "taskIds";

/// Kinds of lists, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lists(u8);

/// One kind of list, its member of a filter, and its notification.
pub(super) struct Kind {
    pub(super) bit: Lists,
    pub(super) member: &'static str,
    pub(super) method: &'static str,
}

pub(super) const KINDS: [Kind; 3] = [
    Kind { bit: Lists::TOOLS, member: "toolsListChanged", method: "notifications/tools/list_changed" },
    Kind { bit: Lists::PROMPTS, member: "promptsListChanged", method: "notifications/prompts/list_changed" },
    Kind {
        bit: Lists::RESOURCES,
        member: "resourcesListChanged",
        method: "notifications/resources/list_changed",
    },
];

impl Lists {
    /// `notifications/tools/list_changed`
    pub const TOOLS: Lists = Lists(1);
    /// `notifications/prompts/list_changed`
    pub const PROMPTS: Lists = Lists(2);
    /// `notifications/resources/list_changed`, of resources and templates
    pub const RESOURCES: Lists = Lists(4);

    /// Those of `all` for which the first is true.
    pub fn of(all: impl IntoIterator<Item = (bool, Lists)>) -> Lists {
        Lists(all.into_iter().filter(|(is_in, _)| *is_in).fold(0, |set, (_, list)| set | list.0))
    }

    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn both(self, other: Lists) -> Lists {
        Lists(self.0 & other.0)
    }

    pub(super) fn add(&mut self, other: Lists) {
        self.0 |= other.0;
    }

    /// Takes the first kind out.
    pub(super) fn take_first(&mut self) -> Option<&'static Kind> {
        let first = KINDS.iter().find(|kind| self.0 & kind.bit.0 != 0)?;
        self.0 &= !first.bit.0;
        Some(first)
    }
}

/// The `notifications` member of a `subscriptions/listen` request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Lists whose changes are wanted.
    pub lists: Lists,
    /// Public URIs whose updates are wanted, each once; at most 1,000.
    pub uris: Vec<String>,
    /// Ids of the tasks whose states are wanted (S-TX-10), each once; at most 256.
    pub tasks: Vec<String>,
}

impl Filter {
    /// Reads it from the request's parameters; the error is for the client. Members that this gateway does not know are
    /// left out of what is honoured, as the specification has it (S-SUB-02).
    pub fn of(params: &Object) -> Result<Filter, &'static str> {
        let asked = params.object("notifications").ok_or("notifications must be an object")?;
        let mut wanted = [(false, Lists::default()); KINDS.len()];
        for (kind, wanted) in KINDS.iter().zip(&mut wanted) {
            *wanted = match asked.get(kind.member) {
                None | Some(b"false") => (false, kind.bit),
                Some(b"true") => (true, kind.bit),
                Some(_) => return Err("members of notifications that end in Changed must be true or false"),
            };
        }
        const URIS: &str = "notifications.resourceSubscriptions must be an array of strings";
        const TASKS: &str = "notifications.taskIds must be an array of strings";
        Ok(Filter {
            lists: Lists::of(wanted),
            uris: strings(&asked, "resourceSubscriptions", MOST_RESOURCES).ok_or(URIS)?,
            tasks: strings(&asked, TASK_IDS, MOST_TASKS).ok_or(TASKS)?,
        })
    }

    /// Whether such a request asks for states of tasks, whichever: what has to be known before one of them is looked at
    /// (S-TX-08).
    pub fn asks_for_tasks(params: &Object) -> bool {
        params.object("notifications").is_some_and(|asked| asked.get(TASK_IDS).is_some())
    }
}

/// The first `most` strings of that member, each once; `None` if it is there and is no array of strings.
fn strings(asked: &Object, member: &str, most: usize) -> Option<Vec<String>> {
    let Some(raw) = asked.share(member) else { return Some(Vec::new()) };
    if !raw.starts_with(b"[") {
        return None;
    }
    let mut all: Vec<String> = Vec::new();
    for element in elements(&raw, Limits::NONE).ok()? {
        let text = Some(&element).filter(|raw| raw.starts_with(b"\"")).and_then(|raw| string(raw))?;
        if all.len() < most {
            all.push(text.into_owned());
        }
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(notifications: &str) -> Result<Filter, &'static str> {
        let params = format!(r#"{{"notifications":{notifications}}}"#);
        Filter::of(&Object::parse(Bytes::from(params), Limits::default()).expect("valid"))
    }

    #[test]
    fn s_sub_01_a_filter_is_read_whole_or_refused() {
        assert_eq!(read("{}"), Ok(Filter::default()));
        let all = r#"{"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true,
            "resourceSubscriptions":["x:2","x:1","x:2"],"taskIds":["t2","t1","t1"],"more":7}"#;
        let expected = Filter {
            lists: Lists::of([(true, Lists::TOOLS), (true, Lists::RESOURCES)]),
            uris: vec!["x:1".to_owned(), "x:2".to_owned()],
            tasks: vec!["t1".to_owned(), "t2".to_owned()],
        };
        assert_eq!(read(all), Ok(expected));
        for wrong in [
            "7",
            "[]",
            "null",
            r#"{"toolsListChanged":"yes"}"#,
            r#"{"promptsListChanged":1}"#,
            r#"{"resourcesListChanged":null}"#,
            r#"{"resourceSubscriptions":"x:1"}"#,
            r#"{"resourceSubscriptions":[1]}"#,
            r#"{"taskIds":"t"}"#,
            r#"{"taskIds":[null]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(Filter::of(&Object::empty()).is_err(), "it is required");
    }

    #[test]
    fn s_sub_01_a_filter_names_a_bounded_number_of_resources() {
        let uris: Vec<String> = (0..2 * MOST_RESOURCES).map(|n| format!("\"x:{n}\"")).collect();
        let filter = read(&format!(r#"{{"resourceSubscriptions":[{}]}}"#, uris.join(","))).expect("read");
        assert_eq!(filter.uris.len(), MOST_RESOURCES);
        let filter = read(&format!(r#"{{"taskIds":[{}]}}"#, uris.join(","))).expect("read");
        assert_eq!(filter.tasks.len(), MOST_TASKS);
    }

    #[test]
    fn s_tx_08_whether_tasks_are_asked_for_is_known_before_any_is_looked_at() {
        for (params, asks) in [
            (r#"{"notifications":{"taskIds":["t"]}}"#, true),
            (r#"{"notifications":{"taskIds":7}}"#, true),
            (r#"{"notifications":{"toolsListChanged":true}}"#, false),
            (r#"{"notifications":7,"taskIds":[]}"#, false),
        ] {
            let params = Object::parse(Bytes::from_static(params.as_bytes()), Limits::NONE).expect("valid");
            assert_eq!(Filter::asks_for_tasks(&params), asks);
        }
    }
}
