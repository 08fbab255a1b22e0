//! What a request asks for, as one short value: equal for parameters that mean the same, however they are written.
//!
//! Always: order of keys, spacing and escapes make no difference; everything else does, the spelling of numbers too, because
//! what two spellings mean is for the upstream to say. Not here: which parameters matter (`dispatch::request_state`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::json::{Limits, Object, elements, string};

/// Takes parts one after the other.
#[derive(Debug, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.part(b's', text.as_bytes())
    }

    /// Adds a JSON value that was validated before; `None` is another value than `null`.
    pub fn json(&mut self, raw: Option<Bytes>) -> &mut Self {
        match raw {
            None => self.part(b'-', b""),
            Some(raw) => self.value(&raw),
        }
    }

    /// The value, as text.
    pub fn finish(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.finalize())
    }

    fn value(&mut self, raw: &Bytes) -> &mut Self {
        match raw.first() {
            Some(b'{') => match Object::parse(raw.clone(), Limits::NONE) {
                Ok(object) => self.object(raw, &object),
                Err(_) => self.part(b'?', raw),
            },
            Some(b'[') => match elements(raw, Limits::NONE) {
                Ok(all) => {
                    self.part(b'a', &all.len().to_be_bytes());
                    for element in &all {
                        self.value(element);
                    }
                    self
                }
                Err(_) => self.part(b'?', raw),
            },
            Some(b'"') => match string(raw) {
                Some(text) => self.part(b's', text.as_bytes()),
                None => self.part(b'?', raw),
            },
            _ => self.part(b'n', raw),
        }
    }

    fn object(&mut self, raw: &Bytes, object: &Object) -> &mut Self {
        let mut members: Vec<_> = object.iter().collect();
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.part(b'o', &members.len().to_be_bytes());
        for (key, value) in members {
            self.part(b'k', key.as_bytes()).value(&raw.slice_ref(value));
        }
        self
    }

    /// Kind and length stand before each part, so that no two sequences of parts are alike.
    fn part(&mut self, kind: u8, bytes: &[u8]) -> &mut Self {
        self.0.update([kind]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
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
}
