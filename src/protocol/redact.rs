//! Secrets in what servers write: log messages for clients, and last words on stderr (S-LOG-05, I8).
//!
//! Always: what is no secret keeps its bytes, and JSON text stays JSON. It finds what looks like a secret, by form or by
//! the name beside it; a server that logs one in disguise is not caught.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex};

/// What stands in the place of a secret.
const REDACTED: &[u8] = b"[redacted]";

/// No class matches a quote, a backslash or a control character: a match within a JSON string ends within it. What stands
/// before the secret is captured and stays.
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    let forms = [
        // Schemes of the Authorization header.
        r"(?P<scheme>\b(?i:bearer|basic|dpop)\s+)[A-Za-z0-9._~+/=-]{8,}",
        // JSON web tokens.
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        // Tokens that name their kind.
        r"\b(?:sk-|pk-|rk_|gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|npm_|hf_|pypi-|ya29\.|AKIA|ASIA|AIza)[A-Za-z0-9_-]{12,}",
        // A member of a JSON object.
        r#"(?P<member>"[^"\\]*(?i:passw(?:or)?d|secret|api_?-?key|access_?key|credential|authorization|[a-z_-]token|^token)[^"\\]*"\s*:\s*")(?:[^"\\]|\\.)+"#,
        // An assignment in a text, or a parameter of an address.
        r#"(?P<name>\b[A-Za-z0-9_-]*(?i:passw(?:or)?d|secret|api_?-?key|access_?key|token|credential)\s*[=:]\s*)[^\s"\\&,;]{4,}"#,
        // The user part of an address.
        r#"(?P<user>[a-z]://[^\s"\\/@:]*:)[^\s"\\/@]+@"#,
    ];
    // Without `u`: every class here is of ASCII, and the tables of Unicode are built in only where some test needs them.
    Regex::new(&format!("(?-u){}", forms.join("|"))).expect("written above")
});

/// The text without its secrets.
pub fn redacted(text: &[u8]) -> Cow<'_, [u8]> {
    SECRETS.replace_all(text, |found: &Captures<'_>| {
        let kept = ["scheme", "member", "name", "user"].into_iter().find_map(|group| found.name(group));
        let mut replaced = kept.map(|kept| kept.as_bytes().to_vec()).unwrap_or_default();
        replaced.extend_from_slice(REDACTED);
        if found.name("user").is_some() {
            replaced.push(b'@');
        }
        replaced
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> String {
        String::from_utf8(redacted(text.as_bytes()).into_owned()).expect("UTF-8")
    }

    #[test]
    fn s_log_05_what_looks_like_a_secret_is_not_passed_on() {
        let made_up = "abcdefghijklmnopqrst0123";
        for (text, expected) in [
            (format!("Authorization: Bearer {made_up}"), "Authorization: Bearer [redacted]".to_owned()),
            (format!("got eyJ{made_up}.{made_up}.x-y from it"), "got [redacted] from it".to_owned()),
            (format!(r#"{{"note":"ghp_{made_up}","n":1}}"#), r#"{"note":"[redacted]","n":1}"#.to_owned()),
            (
                format!(r#"{{"client_secret": "{made_up}\"x"}}"#),
                r#"{"client_secret": "[redacted]"}"#.to_owned(),
            ),
            (format!("GET /x?access_token={made_up}&y=1"), "GET /x?access_token=[redacted]&y=1".to_owned()),
            (
                "db at postgres://me:hunter22@host/x".to_owned(),
                "db at postgres://me:[redacted]@host/x".to_owned(),
            ),
        ] {
            assert_eq!(after(&text), expected);
        }
    }

    #[test]
    fn s_log_05_what_is_no_secret_keeps_its_bytes() {
        for text in [
            r#"{"tokens": 12345678, "max_tokens":7}"#,
            r#""the bearer of this letter, basically""#,
            r#"{"a":"https://example.com/path?x=1","t":"12:30:45"}"#,
            "no secrets: here",
        ] {
            assert!(matches!(redacted(text.as_bytes()), Cow::Borrowed(_)), "{text} became {}", after(text));
        }
    }
}
