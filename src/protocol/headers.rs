//! Values of `Mcp-Name` and `Mcp-Param-*`: carried as they are where a header can, in the Base64 sentinel where it
//! cannot (S-HDR-02, S-HDR-03).
//!
//! Always: what `encode` gives is visible ASCII and inner spaces, so no value can end a header line (S-HDR-10), and
//! decodes to what it was made from. Not here: which headers a request needs.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// How a header fails against the body: `-32020`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The body has a value that the header should repeat.
    #[error("header is missing")]
    Missing,
    /// The same header more than once: two readers could see two values.
    #[error("header is given more than once")]
    Repeated,
    /// Bytes that no header has, or a sentinel around something that is not Base64 of UTF-8.
    #[error("header value is malformed")]
    Malformed,
    /// Another value than the body's, or a value where the body has none.
    #[error("header value does not match the body")]
    Differs,
}

/// The text as a header carries it.
pub fn encode(text: &str) -> Cow<'_, str> {
    let visible = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let ambiguous = text.starts_with(PREFIX) && text.ends_with(SUFFIX);
    if visible && !padded && !ambiguous {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(text)))
}

/// The text as a header value.
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(&encode(text)).expect("encoded text is visible ASCII and spaces")
}

/// The text that a header carries. Space around it does not count; without the exact sentinel it is literal.
pub fn decode(raw: &[u8]) -> Result<Cow<'_, str>, HeaderFault> {
    let text = trimmed(raw)?;
    let Some(encoded) = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Ok(Cow::Borrowed(text));
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| HeaderFault::Malformed)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| HeaderFault::Malformed)
}

/// A header that carries its value literally (`Mcp-Method`), without the space around it.
pub fn trimmed(raw: &[u8]) -> Result<&str, HeaderFault> {
    let raw = raw.trim_ascii();
    if !raw.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(HeaderFault::Malformed);
    }
    std::str::from_utf8(raw).map_err(|_| HeaderFault::Malformed)
}

/// The only value of a header that may be there once, if it is there.
pub fn single<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, HeaderFault> {
    let first = values.next();
    if values.next().is_some() {
        return Err(HeaderFault::Repeated);
    }
    Ok(first)
}

/// Holds the header against the body's text; both must be there and say the same.
pub fn compare<'a>(values: impl Iterator<Item = &'a [u8]>, body: &str) -> Result<(), HeaderFault> {
    let raw = single(values)?.ok_or(HeaderFault::Missing)?;
    if decode(raw)? == body { Ok(()) } else { Err(HeaderFault::Differs) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn s_hdr_03_the_examples_of_the_specification() {
        for (text, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", ""),
            ("us west 1", "us west 1"),
            ("\tindented", "=?base64?CWluZGVudGVk?="),
            ("=?base64?SGVsbG8=", "=?base64?SGVsbG8="),
        ] {
            assert_eq!(encode(text), header);
            assert_eq!(decode(header.as_bytes()).expect("valid"), text);
        }
    }

    #[test]
    fn s_hdr_03_what_is_malformed_is_refused_and_what_is_not_a_sentinel_is_literal() {
        for malformed in [
            "=?base64?SGVsbG8?=",
            "=?base64?SGVs!!!bG8=?=",
            "=?base64?SGVsbG8==?=",
            "=?base64?SGVsbG9=?=",
            "=?base64?_w==?=",
            "=?base64?/w==?=",
            "=?base64?SGVs bG8=?=",
        ] {
            assert_eq!(decode(malformed.as_bytes()), Err(HeaderFault::Malformed), "{malformed}");
        }
        for bytes in [&b"caf\xc3\xa9"[..], b"a\x00b", b"a\x7fb", b"a\nb"] {
            assert_eq!(decode(bytes), Err(HeaderFault::Malformed));
        }
        for literal in ["SGVsbG8=", "=?base64?SGVsbG8=", "SGVsbG8=?=", "=?BASE64?SGVsbG8=?=", "=?base64?="] {
            assert_eq!(decode(literal.as_bytes()).expect("literal"), literal);
        }
        assert_eq!(decode(b"=?base64??=").expect("empty"), "");
    }

    #[test]
    fn s_hdr_02_space_around_a_value_does_not_count_and_case_does() {
        let check = |values: &[&str], body| compare(values.iter().map(|value| value.as_bytes()), body);
        assert_eq!(check(&["  echo\t"], "echo"), Ok(()));
        assert_eq!(check(&[" =?base64?ZWNobw==?= "], "echo"), Ok(()));
        assert_eq!(check(&["Echo"], "echo"), Err(HeaderFault::Differs));
        assert_eq!(check(&[], "echo"), Err(HeaderFault::Missing));
        assert_eq!(check(&["echo", "echo"], "echo"), Err(HeaderFault::Repeated));
        assert_eq!(check(&["=?base64?ZWNobw?="], "echo"), Err(HeaderFault::Malformed));
    }

    proptest! {
        #[test]
        fn s_hdr_10_any_text_is_one_header_value_and_comes_back(text in any::<String>()) {
            let header = value(&text);
            prop_assert!(header.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert_eq!(decode(header.as_bytes()).expect("valid"), text);
        }

        #[test]
        fn noise_never_panics(raw in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&raw);
            let _ = decode(&[&b"=?base64?"[..], &raw, b"?="].concat());
        }
    }
}
