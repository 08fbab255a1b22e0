//! JSON as text: one validating pass that remembers where things are, and nothing that changes them.
//!
//! Owns the scanner, the limits it enforces and [`Object`], the view of one object whose members stay raw text.
//! Always: text that passed is valid UTF-8 and valid JSON (RFC 8259) without lone surrogates, so every span in a view
//! is valid JSON by itself. Not here: what the members mean (`frame`), how they are changed (`splice`).

use std::borrow::Cow;

use bytes::Bytes;
use smallvec::SmallVec;

/// How much structure one text may have. Sizes are the reader's business.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deepest nesting of arrays and objects.
    pub depth: usize,
    /// Most keys in one object.
    pub keys: usize,
}

impl Limits {
    /// For text that was validated before.
    pub const NONE: Limits = Limits { depth: usize::MAX, keys: usize::MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 128, keys: 10_000 }
    }
}

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not JSON, at this byte.
    #[error("not JSON at byte {at}")]
    Syntax {
        /// Offset of the first byte that does not fit.
        at: usize,
    },
    /// `\ud800` without its partner: no Unicode text can hold it.
    #[error("lone surrogate at byte {at}")]
    LoneSurrogate {
        /// Offset of the escape.
        at: usize,
    },
    /// Nested deeper than the limit.
    #[error("nested too deeply")]
    TooDeep,
    /// More keys in one object than the limit.
    #[error("too many keys in one object")]
    TooManyKeys,
    /// The same key twice where the gateway reads it: two readers could see two values.
    #[error("duplicate key")]
    DuplicateKey,
    /// An object was needed.
    #[error("not an object")]
    NotAnObject,
    /// An array was needed.
    #[error("not an array")]
    NotAnArray,
}

/// A range of bytes in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes it covers in the text it was made for.
    pub fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start..self.end]
    }
}

/// One `"key": value` of an object.
#[derive(Debug, Clone)]
pub struct Member {
    /// Decoded key when it was written with escapes.
    decoded: Option<Box<str>>,
    /// The key between its quotes.
    key: Span,
    /// The value.
    pub value: Span,
}

impl Member {
    /// From the key's opening quote to the end of the value.
    pub fn span(&self) -> Span {
        Span { start: self.key.start - 1, end: self.value.end }
    }

    fn key_bytes<'t>(&'t self, text: &'t [u8]) -> &'t [u8] {
        match &self.decoded {
            Some(decoded) => decoded.as_bytes(),
            None => self.key.of(text),
        }
    }

    fn is(&self, text: &[u8], key: &str) -> bool {
        self.key_bytes(text) == key.as_bytes()
    }
}

pub(super) type Members = SmallVec<[Member; 6]>;

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
    scanner.array(|span| found.push(array.slice(span.start..span.end)))?;
    scanner.end()?;
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

/// What one pass over an object found.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) span: Span,
    pub(super) members: Members,
    pub(super) meta: Option<Box<(Span, Members)>>,
}

/// A cursor over text. Limits that are passed are noted and the scan goes on, so that the caller still finds the id to
/// answer under; only text that is not JSON ends it early.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    limits: Limits,
    noted: Option<Fault>,
}

impl<'a> Scanner<'a> {
    pub(super) fn over(text: &'a [u8], limits: Limits) -> Result<Self, Fault> {
        std::str::from_utf8(text).map_err(|_| Fault::NotUtf8)?;
        Ok(Scanner { text, at: 0, limits, noted: None })
    }

    /// The first limit that was passed, if any.
    pub(super) fn verdict(&self) -> Result<(), Fault> {
        self.noted.map_or(Ok(()), Err)
    }

    fn whole_object(mut self) -> Result<Scanned, Fault> {
        self.space();
        if self.peek() != Some(b'{') {
            return Err(Fault::NotAnObject);
        }
        let scanned = self.object_with_meta(0)?;
        self.end()?;
        self.verdict()?;
        Ok(scanned)
    }

    /// An object whose `_meta` is looked into as well.
    pub(super) fn object_with_meta(&mut self, depth: usize) -> Result<Scanned, Fault> {
        let mut meta = None;
        let (span, members) = self.object(depth, |scanner, key| {
            if key == "_meta" && scanner.peek() == Some(b'{') {
                let (span, members) = scanner.object(depth + 1, |scanner, _| scanner.value(depth + 2))?;
                meta = Some(Box::new((span, members)));
                return Ok(span);
            }
            scanner.value(depth + 1)
        })?;
        Ok(Scanned { span, members, meta })
    }

    /// An object whose members are remembered; `read` consumes each value and says where it was.
    pub(super) fn object(
        &mut self,
        depth: usize,
        mut read: impl FnMut(&mut Self, &str) -> Result<Span, Fault>,
    ) -> Result<(Span, Members), Fault> {
        let start = self.at;
        self.expect(b'{')?;
        self.note_depth(depth + 1);
        let mut members = Members::new();
        self.space();
        if self.take(b'}') {
            return Ok((Span { start, end: self.at }, members));
        }
        loop {
            self.space();
            let key = self.string_span()?;
            let decoded = self.decoded_key(key);
            self.space();
            self.expect(b':')?;
            self.space();
            let value = match &decoded {
                Some(decoded) => read(self, decoded)?,
                None => read(self, plain(key.of(self.text)))?,
            };
            let member = Member { decoded, key, value };
            self.note_duplicate(&members, &member);
            members.push(member);
            self.space();
            if self.take(b'}') {
                return Ok((Span { start, end: self.at }, members));
            }
            self.expect(b',')?;
        }
    }

    /// An array whose elements' places are told to `found`.
    fn array(&mut self, mut found: impl FnMut(Span)) -> Result<(), Fault> {
        self.space();
        if self.peek() != Some(b'[') {
            return Err(Fault::NotAnArray);
        }
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.space();
            found(self.value(1)?);
            self.space();
            if self.take(b']') {
                return self.verdict();
            }
            self.expect(b',')?;
        }
    }

    /// Any value, validated without remembering its inside and without recursion.
    pub(super) fn value(&mut self, depth: usize) -> Result<Span, Fault> {
        let start = self.at;
        // One entry per open array or object: keys seen so far in an object, `ARRAY` for an array.
        const ARRAY: u32 = u32::MAX;
        let mut open: SmallVec<[u32; 32]> = SmallVec::new();
        loop {
            // A value begins here.
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.note_depth(depth + open.len() + 1);
                    self.space();
                    if !self.take(b'}') {
                        self.key()?;
                        open.push(1);
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.note_depth(depth + open.len() + 1);
                    self.space();
                    if !self.take(b']') {
                        open.push(ARRAY);
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string_span()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.syntax()),
            }
            // A value ended here: close what it closes, or go on to the next one.
            loop {
                let Some(innermost) = open.last_mut() else {
                    return Ok(Span { start, end: self.at });
                };
                while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
                    self.at += 1;
                }
                let (close, is_array) = if *innermost == ARRAY { (b']', true) } else { (b'}', false) };
                match self.text.get(self.at) {
                    Some(b',') => {
                        self.at += 1;
                        if !is_array {
                            *innermost += 1;
                            if *innermost as usize > self.limits.keys {
                                self.noted.get_or_insert(Fault::TooManyKeys);
                            }
                            self.space();
                            self.key()?;
                        } else {
                            self.space();
                        }
                        break;
                    }
                    Some(byte) if *byte == close => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(self.syntax()),
                }
            }
        }
    }

    /// Only white space may be left.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.syntax()) }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn key(&mut self) -> Result<(), Fault> {
        self.string_span()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(())
    }

    /// A string; the span is what stands between its quotes.
    fn string_span(&mut self) -> Result<Span, Fault> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.at += plain_run(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    let span = Span { start, end: self.at };
                    self.at += 1;
                    return Ok(span);
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let at = self.at;
        match self.text.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = self.hex(at + 2)?;
                self.at += 6;
                if (0xDC00..0xE000).contains(&unit) {
                    return Err(Fault::LoneSurrogate { at });
                }
                if (0xD800..0xDC00).contains(&unit) {
                    let partner = self.text.get(self.at..self.at + 2) == Some(b"\\u");
                    if !partner || !(0xDC00..0xE000).contains(&self.hex(self.at + 2)?) {
                        return Err(Fault::LoneSurrogate { at });
                    }
                    self.at += 6;
                }
            }
            _ => return Err(self.syntax()),
        }
        Ok(())
    }

    fn hex(&self, at: usize) -> Result<u32, Fault> {
        let digits = self.text.get(at..at + 4).ok_or(Fault::Syntax { at })?;
        digits.iter().try_fold(0, |unit, digit| {
            let value = (*digit as char).to_digit(16).ok_or(Fault::Syntax { at })?;
            Ok(unit * 16 + value)
        })
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.take(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.syntax()),
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let run = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if run == 0 {
            return Err(self.syntax());
        }
        self.at += run;
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.syntax())
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.take(byte) { Ok(()) } else { Err(self.syntax()) }
    }

    fn syntax(&self) -> Fault {
        Fault::Syntax { at: self.at }
    }

    fn decoded_key(&self, key: Span) -> Option<Box<str>> {
        memchr::memchr(b'\\', key.of(self.text))?;
        string(&self.text[key.start - 1..key.end + 1]).map(|decoded| decoded.into_owned().into_boxed_str())
    }

    fn note_depth(&mut self, depth: usize) {
        if depth > self.limits.depth {
            self.noted.get_or_insert(Fault::TooDeep);
        }
    }

    fn note_duplicate(&mut self, members: &[Member], new: &Member) {
        // Every key is compared with every other one, so objects that are looked into have a smaller limit than
        // others; text that was validated before is read without limits and not compared again.
        const COMPARED: usize = 1024;
        if self.limits.keys == usize::MAX {
            return;
        }
        if members.len() >= self.limits.keys.min(COMPARED) {
            self.noted.get_or_insert(Fault::TooManyKeys);
            return;
        }
        let key = new.key_bytes(self.text);
        if members.iter().any(|member| member.key_bytes(self.text) == key) {
            self.noted.get_or_insert(Fault::DuplicateKey);
        }
    }
}

fn plain(key: &[u8]) -> &str {
    std::str::from_utf8(key).unwrap_or_default()
}

/// How many leading bytes need no look inside a string: everything but quotes, backslashes and control characters.
/// Eight bytes are judged at a time.
fn plain_run(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes were asked for"));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special =
            control | has_zero(word ^ (ONES * b'"' as u64)) | has_zero(word ^ (ONES * b'\\' as u64));
        if special != 0 {
            // Borrows only disturb bytes above the lowest hit, so the lowest one is exact.
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest =
        text[at..].iter().take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\').count();
    at + rest
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
