//! What a request asks for, as one short value: equal for parameters that mean the same, however they are written.
//!
//! Always: order of keys, spacing and escapes make no difference; everything else does, the spelling of numbers too, because
//! what two spellings mean is for the upstream to say. Not here: which parameters matter (`dispatch::request_state`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::json::string;

/// Takes parts one after the other.
#[derive(Debug, Default)]
pub struct Digest(Sha256);

/// Of one value.
type Hash = [u8; 32];

impl Digest {
    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        part(&mut self.0, b's', text.as_bytes());
        self
    }

    /// Adds a JSON value that was validated before; `None` is another value than `null`.
    pub fn json(&mut self, raw: Option<Bytes>) -> &mut Self {
        match raw {
            None => part(&mut self.0, b'-', b""),
            Some(raw) => {
                let hash = Reader { text: &raw, at: 0 }.value();
                part(&mut self.0, b'j', &hash);
            }
        }
        self
    }

    /// The value, as text.
    pub fn finish(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.finalize())
    }
}

/// Kind and length stand before each part, so that no two sequences of parts are alike.
fn part(hash: &mut Sha256, kind: u8, bytes: &[u8]) {
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// Reads valid JSON once from its beginning to its end, however deep it is; every value is hashed where it ends. Its depth
/// was bounded when it was validated. What is not valid is hashed as it stands.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self) -> Hash {
        self.space();
        match self.text.get(self.at) {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            _ => self.scalar(),
        }
    }

    fn object(&mut self) -> Hash {
        self.at += 1;
        let mut members: Vec<(Hash, Hash)> = Vec::new();
        while self.goes_on(b'}') {
            let key = self.string();
            // The colon.
            self.space();
            self.at += 1;
            members.push((key, self.value()));
        }
        members.sort_unstable();
        let mut hash = Sha256::new();
        part(&mut hash, b'o', &members.len().to_be_bytes());
        for (key, value) in members {
            hash.update(key);
            hash.update(value);
        }
        hash.finalize().into()
    }

    fn array(&mut self) -> Hash {
        self.at += 1;
        let mut hash = Sha256::new();
        hash.update(b"a");
        while self.goes_on(b']') {
            hash.update(self.value());
        }
        hash.finalize().into()
    }

    fn string(&mut self) -> Hash {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        let mut hash = Sha256::new();
        match string(raw) {
            Some(text) => part(&mut hash, b's', text.as_bytes()),
            None => part(&mut hash, b'?', raw),
        }
        hash.finalize().into()
    }

    fn scalar(&mut self) -> Hash {
        let rest = &self.text[self.at.min(self.text.len())..];
        let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        // What is not valid is passed over, so that every text ends.
        self.at += length.max(1);
        let mut hash = Sha256::new();
        part(&mut hash, b'n', &rest[..length]);
        hash.finalize().into()
    }

    /// Goes to the next member or element; `false` behind the last.
    fn goes_on(&mut self, end: u8) -> bool {
        self.space();
        if self.text.get(self.at) == Some(&b',') {
            self.at += 1;
            self.space();
        }
        match self.text.get(self.at) {
            None => false,
            Some(byte) if *byte == end => {
                self.at += 1;
                false
            }
            Some(_) => true,
        }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        let mut digest = Digest::default();
        digest.json(Some(Bytes::copy_from_slice(json.as_bytes())));
        digest.finish()
    }

    #[test]
    fn s_mrtr_06_arguments_that_mean_the_same_have_one_digest() {
        let one = of(r#"{"a":1,"b":[true,{"x":"é","y":null}]}"#);
        assert_eq!(one, of(r#"{ "b" : [ true , {"y":null, "x":"\u00e9"} ] , "a":1 }"#));
        let others = [
            r#"{"a":1.0,"b":[true,{"x":"é","y":null}]}"#,
            r#"{"a":1,"b":[{"x":"é","y":null},true]}"#,
            r#"{"a":1,"b":[true,{"x":"é"}]}"#,
            r#"{"a":1,"b":[true,{"x":"é","y":"null"}]}"#,
            r#"{"a":1,"b":[true],"c":{"x":"é","y":null}}"#,
            r#"{"a":"1","b":[true,{"x":"é","y":null}]}"#,
            "null",
        ];
        for other in others {
            assert_ne!(one, of(other), "{other}");
        }
        let mut absent = Digest::default();
        absent.json(None);
        assert_ne!(absent.finish(), of("null"));
    }

    #[test]
    fn s_base_18_a_digest_costs_its_text_once_however_deep_it_is() {
        let nested = |depth: usize| {
            let filler = "1,".repeat(200_000 / depth);
            let text = format!("{}1{}", format!("[{filler}").repeat(depth), "]".repeat(depth));
            let started = tokio::time::Instant::now();
            for _ in 0..3 {
                of(&text);
            }
            started.elapsed()
        };
        let (flat, deep) = (nested(1), nested(100));
        assert!(deep < flat * 20, "{flat:?} and {deep:?}");
    }

    #[test]
    fn what_is_no_json_has_a_digest_all_the_same() {
        for text in ["{", "[", "\"", "{\"a\"", "{\"a\":", "[1,", "\"\\", "}", "", ",,,", "[}", "{]"] {
            assert!(!of(text).is_empty());
        }
    }
}
