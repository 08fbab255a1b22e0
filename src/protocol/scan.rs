//! One validating pass over JSON text that remembers where things are.
//!
//! Always: text that passed is valid UTF-8 and valid JSON (RFC 8259) without lone surrogates, nested and keyed within the
//! limits. The scanner is iterative, so no nesting exhausts the stack. Not here: views of what was found (`json`).

use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::json::string;

/// How much structure one text may have. Sizes are the reader's business.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Deepest nesting of arrays and objects.
    pub depth: usize,
    /// Most keys in one object.
    pub keys: usize,
    /// Whether the ids of requests are bounded (`frame`).
    pub short_ids: bool,
}

impl Limits {
    /// For text that was validated before.
    pub const NONE: Limits = Limits { depth: usize::MAX, keys: usize::MAX, short_ids: false };
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 128, keys: 10_000, short_ids: false }
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
pub(super) struct Member {
    /// Decoded key when it was written with escapes.
    pub(super) decoded: Option<Box<str>>,
    /// The key between its quotes.
    pub(super) key: Span,
    /// The value.
    pub value: Span,
}

impl Member {
    /// From the key's opening quote to the end of the value.
    pub(super) fn span(&self) -> Span {
        Span { start: self.key.start - 1, end: self.value.end }
    }

    fn key_bytes<'t>(&'t self, text: &'t [u8]) -> &'t [u8] {
        match &self.decoded {
            Some(decoded) => decoded.as_bytes(),
            None => self.key.of(text),
        }
    }

    pub(super) fn is(&self, text: &[u8], key: &str) -> bool {
        self.key_bytes(text) == key.as_bytes()
    }
}

pub(super) type Members = SmallVec<[Member; 6]>;

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

    pub(super) fn whole_object(mut self) -> Result<Scanned, Fault> {
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

    /// An array whose elements' places are told to `found`, until that has seen enough; what it said last.
    pub(super) fn array(
        &mut self,
        mut found: impl FnMut(Span) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        self.space();
        if self.peek() != Some(b'[') {
            return Err(Fault::NotAnArray);
        }
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(ControlFlow::Continue(()));
        }
        loop {
            self.space();
            if found(self.value(1)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.space();
            if self.take(b']') {
                return Ok(ControlFlow::Continue(()));
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
