//! What a client wants to be told.

use crate::protocol::json::{Limits, Object, elements, string};

/// Resources that one listening may name; more are not honoured.
const MOST_RESOURCES: usize = 1_000;

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
        Ok(Filter { lists: Lists::of(wanted), uris: uris(&asked)? })
    }
}

fn uris(asked: &Object) -> Result<Vec<String>, &'static str> {
    const WRONG: &str = "notifications.resourceSubscriptions must be an array of strings";
    let Some(raw) = asked.share("resourceSubscriptions") else { return Ok(Vec::new()) };
    if !raw.starts_with(b"[") {
        return Err(WRONG);
    }
    let mut uris: Vec<String> = Vec::new();
    for element in elements(&raw, Limits::NONE).map_err(|_| WRONG)? {
        let uri =
            Some(&element).filter(|raw| raw.starts_with(b"\"")).and_then(|raw| string(raw)).ok_or(WRONG)?;
        if uris.len() < MOST_RESOURCES {
            uris.push(uri.into_owned());
        }
    }
    uris.sort_unstable();
    uris.dedup();
    Ok(uris)
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
            "resourceSubscriptions":["x:2","x:1","x:2"],"taskIds":["t"],"more":7}"#;
        let expected = Filter {
            lists: Lists::of([(true, Lists::TOOLS), (true, Lists::RESOURCES)]),
            uris: vec!["x:1".to_owned(), "x:2".to_owned()],
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
    }
}
