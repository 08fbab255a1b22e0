//! JSON as text: objects whose members stay raw, and the few values that are decoded.
//!
//! Owns [`Object`], the view of one object. Always: text behind a view has passed the scanner (`scan`), so every span of
//! it is valid JSON by itself. Not here: what the members mean (`frame`), how they are changed (`splice`).

use std::borrow::Cow;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::scan::{Member, Members, Scanned, Scanner};

pub use super::scan::{Fault, Limits, Span};

/// One object of a text: its members in order, every value still raw.
#[derive(Debug, Clone)]
pub struct Object {
    text: Bytes,
    span: Span,
    members: Members,
    meta: Option<Box<(Span, Members)>>,
}

impl Object {
    pub(super) fn new(text: Bytes, scanned: Scanned) -> Self {
        Object { text, span: scanned.span, members: scanned.members, meta: scanned.meta }
    }

    /// Validates `text` as one object and remembers its members and those of its `_meta`.
    pub fn parse(text: Bytes, limits: Limits) -> Result<Object, Fault> {
        let scanned = Scanner::over(&text, limits)?.whole_object()?;
        Ok(Object::new(text, scanned))
    }

    /// `{}`.
    pub fn empty() -> Object {
        let text = Bytes::from_static(b"{}");
        Object { text, span: Span { start: 0, end: 2 }, members: Members::new(), meta: None }
    }

    /// The object as it was written.
    pub fn as_bytes(&self) -> &[u8] {
        self.span.of(&self.text)
    }

    /// The object as it was written, sharing the text's memory.
    pub fn to_bytes(&self) -> Bytes {
        self.text.slice(self.span.start..self.span.end)
    }

    /// Raw value of `key`.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.member(key).map(|member| member.value.of(&self.text))
    }

    /// Raw value of `key`, sharing the text's memory.
    pub fn share(&self, key: &str) -> Option<Bytes> {
        self.member(key).map(|member| self.text.slice(member.value.start..member.value.end))
    }

    /// Value of `key` when it is a string.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).and_then(string)
    }

    /// Value of `key` when it is an object, with its members.
    pub fn object(&self, key: &str) -> Option<Object> {
        let raw = self.share(key)?;
        Object::parse(raw, Limits::NONE).ok()
    }

    /// Raw value of `key` inside `_meta`.
    pub fn meta(&self, key: &str) -> Option<&[u8]> {
        let (_, members) = &**self.meta.as_ref()?;
        members.iter().find(|member| member.is(&self.text, key)).map(|member| member.value.of(&self.text))
    }

    /// Value of `key` inside `_meta` when it is a string.
    pub fn meta_text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.meta(key).and_then(string)
    }

    /// Whether there is a `_meta` object.
    pub fn has_meta(&self) -> bool {
        self.meta.is_some()
    }

    /// Keys and raw values in order.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, &[u8])> {
        self.members.iter().map(|member| (self.key_of(member), member.value.of(&self.text)))
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn raw_text(&self) -> &Bytes {
        &self.text
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn meta_members(&self) -> Option<&[Member]> {
        self.meta.as_ref().map(|meta| &*meta.1)
    }

    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.is(&self.text, key))
    }

    pub(super) fn key_of<'a>(&'a self, member: &'a Member) -> Cow<'a, str> {
        match &member.decoded {
            Some(decoded) => Cow::Borrowed(decoded),
            None => String::from_utf8_lossy(member.key.of(&self.text)),
        }
    }
}

/// Decodes a raw JSON string; `None` when it is another kind of value.
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inside).is_none() {
        return std::str::from_utf8(inside).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(raw).ok().map(Cow::Owned)
}

/// Writes `text` as a JSON string.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

/// Elements of a raw JSON array, each sharing the text's memory.
pub fn elements(array: &Bytes, limits: Limits) -> Result<Vec<Bytes>, Fault> {
    let mut scanner = Scanner::over(array, limits)?;
    let mut found = Vec::new();
    let _ = scanner.array(|span| {
        found.push(array.slice(span.start..span.end));
        ControlFlow::Continue(())
    })?;
    scanner.end()?;
    scanner.verdict()?;
    Ok(found)
}

/// Validates `text` as one JSON value of any kind.
pub fn validate(text: &[u8], limits: Limits) -> Result<(), Fault> {
    let mut scanner = Scanner::over(text, limits)?;
    scanner.space();
    scanner.value(0)?;
    scanner.end()?;
    scanner.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8], expected: Result<(), Fault>) {
        assert_eq!(validate(text, Limits::default()), expected, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn f34_text_that_no_reader_should_accept_is_refused() {
        check(b"\xff", Err(Fault::NotUtf8));
        check(b"\xef\xbb\xbf{}", Err(Fault::Syntax { at: 0 }));
        check(br#""\ud800""#, Err(Fault::LoneSurrogate { at: 1 }));
        check(br#""\udc00\ud800""#, Err(Fault::LoneSurrogate { at: 1 }));
        check(br#""\ud83d\u0041""#, Err(Fault::LoneSurrogate { at: 1 }));
        check(br#""\ud83d\ude00""#, Ok(()));
        check(b"\"a\0b\"", Err(Fault::Syntax { at: 2 }));
        check(b"\"12345678\x1f\"", Err(Fault::Syntax { at: 9 }));
        check(b"01", Err(Fault::Syntax { at: 1 }));
        check(b"[1,]", Err(Fault::Syntax { at: 3 }));
        check(b"{\"a\":1,}", Err(Fault::Syntax { at: 7 }));
        check(b"1 2", Err(Fault::Syntax { at: 2 }));
        check(b"", Err(Fault::Syntax { at: 0 }));
    }

    #[test]
    fn f33_depth_and_keys_have_limits_and_no_recursion() {
        let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
        check(&nested(128), Ok(()));
        check(&nested(129), Err(Fault::TooDeep));
        check(&nested(1_000_000), Err(Fault::TooDeep));
        let keys = (0..10_001).map(|key| format!("\"{key}\":0")).collect::<Vec<_>>().join(",");
        check(format!("[{{{keys}}}]").as_bytes(), Err(Fault::TooManyKeys));
    }

    #[test]
    fn members_are_found_by_their_meaning_and_kept_as_written() {
        let text = Bytes::from_static(br#" {"\u006eame" : 1.50 , "_meta":{"x/y":"z"},"b":[1, 2]} "#);
        let object = Object::parse(text, Limits::default()).expect("valid");
        assert_eq!(object.get("name"), Some(&b"1.50"[..]));
        assert_eq!(object.get("b"), Some(&b"[1, 2]"[..]));
        assert_eq!(object.meta_text("x/y").as_deref(), Some("z"));
        assert_eq!(object.get("missing"), None);
    }

    #[test]
    fn a_key_written_twice_in_two_spellings_is_a_duplicate() {
        let text = Bytes::from_static(br#"{"name":1,"n\u0061me":2}"#);
        assert_eq!(Object::parse(text, Limits::default()).err(), Some(Fault::DuplicateKey));
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(|number| serde_json::json!(number)),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_serde_writes_is_accepted(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            prop_assert_eq!(validate(&text.expect("serialises"), Limits::default()), Ok(()));
        }

        #[test]
        fn one_changed_byte_is_judged_as_serde_judges_it(value in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = serde_json::to_vec(&value).expect("serialises");
            let at = at.index(text.len());
            text[at] = byte;
            let ours = validate(&text, Limits::default()).is_ok();
            let theirs = serde_json::from_slice::<serde_json::Value>(&text);
            // serde refuses numbers beyond f64 by their value, before it sees what follows them.
            prop_assume!(!theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range")));
            prop_assert_eq!(ours, theirs.is_ok());
        }

        #[test]
        fn noise_never_panics(text in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = validate(&text, Limits::default());
            let _ = Object::parse(text.into(), Limits::default());
        }
    }
}
