//! A configured value that may hold a secret: shown nowhere, compared nowhere, exposed on purpose only.

use std::fmt;

/// A string that came from `gateway.yaml`, possibly through `${env:…}` or `${file:…}`. `Debug` redacts it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether a variable or header of this name usually holds a secret.
pub(super) fn names_secret(name: &str) -> bool {
    const WORDS: [&str; 9] = [
        "token",
        "secret",
        "password",
        "passwd",
        "apikey",
        "credential",
        "authorization",
        "cookie",
        "privatekey",
    ];
    let name = name.to_ascii_lowercase().replace(['_', '-'], "");
    WORDS.iter().any(|word| name.contains(word))
}

/// Whether a text has the form of a well-known kind of secret.
pub(super) fn looks_secret(text: &str) -> bool {
    const PREFIXES: [&str; 13] = [
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "sk-",
        "sk_live_",
        "xoxb-",
        "xoxp-",
        "AKIA",
        "AIza",
        "eyJ",
        "-----BEGIN",
    ];
    let bare = text.strip_prefix("Bearer ").unwrap_or(text);
    bare.len() >= 16 && PREFIXES.iter().any(|prefix| bare.starts_with(prefix))
}
