//! Changing an object without touching what is not changed: replaced values are written, everything else is copied.
//!
//! Always: members that are not named in an edit keep their bytes and their order; new members come last. An edit that
//! changes nothing writes the object exactly as it was.

use std::borrow::Cow;

use super::json::{Object, quote};
use super::scan::Member;

type Value<'a> = Option<Cow<'a, [u8]>>;

/// A set of changes to one [`Object`] and to its `_meta`.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    object: &'a Object,
    changes: Changes<'a>,
    meta: Changes<'a>,
}

/// Key and new value; `None` removes the member.
#[derive(Debug, Clone, Default)]
struct Changes<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Changes<'a> {
    fn put(&mut self, key: Cow<'a, str>, value: Value<'a>) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.0.push((key, value)),
        }
    }

    fn of(&self, key: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Edit<'a> {
    /// No changes yet.
    pub fn of(object: &'a Object) -> Self {
        Edit { object, changes: Changes::default(), meta: Changes::default() }
    }

    /// Gives `key` this raw JSON value, in its place or at the end.
    pub fn set(&mut self, key: &'a str, raw: impl Into<Cow<'a, [u8]>>) -> &mut Self {
        self.changes.put(Cow::Borrowed(key), Some(raw.into()));
        self
    }

    /// Gives `key` this text.
    pub fn set_text(&mut self, key: &'a str, text: &str) -> &mut Self {
        self.set(key, quote(text).into_bytes())
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &'a str) -> &mut Self {
        if self.object.member(key).is_some() {
            self.changes.put(Cow::Borrowed(key), None);
        }
        self
    }

    /// Gives `key` inside `_meta` this raw JSON value; `_meta` comes into being when there was none.
    pub fn set_meta(&mut self, key: &'a str, raw: impl Into<Cow<'a, [u8]>>) -> &mut Self {
        self.meta.put(Cow::Borrowed(key), Some(raw.into()));
        self
    }

    /// Takes `key` out of `_meta`; a `_meta` that becomes empty goes too.
    pub fn remove_meta(&mut self, key: &'a str) -> &mut Self {
        if self.object.meta(key).is_some() {
            self.meta.put(Cow::Borrowed(key), None);
        }
        self
    }

    /// Appends the changed object to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.changes.is_empty() && self.meta.is_empty() {
            out.extend_from_slice(self.object.as_bytes());
            return;
        }
        out.reserve(self.object.as_bytes().len() + 256);
        let text = self.object.raw_text();
        let mut list = MemberList::open(out);
        for member in self.object.members() {
            let key = self.object.key_of(member);
            if key == "_meta" && !self.meta.is_empty() {
                self.write_meta(&mut list);
                continue;
            }
            list.changed(text, member, self.changes.of(&key));
        }
        for (key, value) in &self.changes.0 {
            if let (Some(value), None) = (value, self.object.member(key)) {
                list.new_member(key, value);
            }
        }
        if self.object.member("_meta").is_none() && !self.meta.is_empty() {
            self.write_meta(&mut list);
        }
        list.close();
    }

    fn write_meta(&self, list: &mut MemberList<'_>) {
        let mut out = Vec::with_capacity(128);
        let mut inner = MemberList::open(&mut out);
        let known = self.object.meta_members().unwrap_or_default();
        for member in known {
            inner.changed(self.object.raw_text(), member, self.meta.of(&self.object.key_of(member)));
        }
        for (key, value) in &self.meta.0 {
            if let (Some(value), None) = (value, self.object.meta(key)) {
                inner.new_member(key, value);
            }
        }
        let empty = inner.is_empty();
        inner.close();
        if !empty {
            list.new_member("_meta", &out);
        }
    }
}

/// Writes `{"k":v,…}` member by member.
struct MemberList<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> MemberList<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        MemberList { out, empty: true }
    }

    fn is_empty(&self) -> bool {
        self.empty
    }

    fn comma(&mut self) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
    }

    /// Copies a member, or writes its new value under its old key, or leaves it out.
    fn changed(&mut self, text: &[u8], member: &Member, change: Option<&Value<'_>>) {
        match change {
            None => {
                self.comma();
                self.out.extend_from_slice(member.span().of(text));
            }
            Some(Some(value)) => {
                self.comma();
                let up_to_value = super::json::Span { start: member.span().start, end: member.value.start };
                self.out.extend_from_slice(up_to_value.of(text));
                self.out.extend_from_slice(value);
            }
            Some(None) => {}
        }
    }

    fn new_member(&mut self, key: &str, value: &[u8]) {
        self.comma();
        self.out.push(b'"');
        // Keys the gateway adds are plain; `quote` would allocate for each.
        if key.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.out.extend_from_slice(key.as_bytes());
            self.out.push(b'"');
        } else {
            self.out.pop();
            self.out.extend_from_slice(quote(key).as_bytes());
        }
        self.out.push(b':');
        self.out.extend_from_slice(value);
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::json::Limits;
    use super::*;

    fn edited(text: &str, change: impl for<'a> FnOnce(&mut Edit<'a>)) -> String {
        let object =
            Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid");
        let mut edit = Edit::of(&object);
        change(&mut edit);
        let mut out = Vec::new();
        edit.write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn s_base_17_what_is_not_named_keeps_its_bytes() {
        let text = r#"{ "name" : "a", "arguments": {"n":12345678901234567890, "f":1.0,"z":null}, "x":1e2 }"#;
        assert_eq!(edited(text, |_| {}), text);
        assert_eq!(
            edited(text, |edit| {
                edit.set_text("name", "b\"");
            }),
            r#"{"name" : "b\"","arguments": {"n":12345678901234567890, "f":1.0,"z":null},"x":1e2}"#
        );
    }

    #[test]
    fn members_of_meta_come_and_go_one_by_one() {
        let token = |edit: &mut Edit<'_>| {
            edit.set_meta("progressToken", &b"7"[..]);
        };
        assert_eq!(edited("{}", token), r#"{"_meta":{"progressToken":7}}"#);
        assert_eq!(
            edited(r#"{"_meta":{"progressToken":"t","v/x":[1]},"a":1}"#, token),
            r#"{"_meta":{"progressToken":7,"v/x":[1]},"a":1}"#
        );
        let without = |edit: &mut Edit<'_>| {
            edit.remove_meta("progressToken").remove_meta("absent");
        };
        assert_eq!(edited(r#"{"_meta":{"progressToken":"t"},"a":1}"#, without), r#"{"a":1}"#);
        assert_eq!(edited(r#"{"a":1}"#, without), r#"{"a":1}"#);
    }

    proptest! {
        #[test]
        fn an_edit_equals_the_same_edit_of_the_tree(
            keys in prop::collection::btree_map("[a-d\\\\\"é]{1,3}", any::<i64>(), 0..6),
            key in "[a-d]{1,2}", value in any::<i64>(), remove in any::<bool>(),
        ) {
            let mut tree: serde_json::Map<_, _> = keys.into_iter().map(|(key, value)| (key, value.into())).collect();
            let text = serde_json::to_string(&tree).expect("serialises");
            let out = edited(&text, |edit| {
                if remove { edit.remove(Box::leak(key.clone().into_boxed_str())); }
                else { edit.set(Box::leak(key.clone().into_boxed_str()), value.to_string().into_bytes()); }
            });
            if remove { tree.remove(&key); } else { tree.insert(key, value.into()); }
            let ours: serde_json::Value = serde_json::from_str(&out).expect("valid");
            prop_assert_eq!(ours, serde_json::Value::Object(tree));
        }
    }
}
