//! What every section's check needs: the place to tell problems, and the way references are resolved.

use std::path::Path;

use super::problem::{Place, ProblemKind, Problems, Severity};
use super::reference::{self, Environment};
use super::written::{At, Text};

/// The state of one check.
pub(super) struct Check<'a> {
    pub(super) problems: Problems,
    pub(super) environment: &'a dyn Environment,
    /// The configuration file.
    pub(super) file: &'a Path,
    /// Folder of the configuration file: relative paths start here.
    pub(super) folder: &'a Path,
    missing_references: Severity,
}

impl<'a> Check<'a> {
    pub(super) fn new(problems: Problems, file: &'a Path, environment: &'a dyn Environment) -> Self {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        Check { problems, environment, file, folder, missing_references: Severity::Error }
    }

    /// Runs part of a check on something that is switched off: its references need not lead anywhere.
    pub(super) fn switched_off<T>(&mut self, off: bool, check: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.missing_references;
        self.missing_references = if off { Severity::Warning } else { before };
        let result = check(self);
        self.missing_references = before;
        result
    }

    /// The text with its references resolved.
    pub(super) fn resolve(&mut self, text: &At<Text>) -> Option<String> {
        self.resolve_at(&text.value.0, &text.place)
    }

    /// As [`Check::resolve`], for text that is read as something else.
    pub(super) fn resolve_at(&mut self, written: &str, place: &Place) -> Option<String> {
        match reference::resolve(written, self.folder, self.environment) {
            Ok(resolved) => Some(resolved),
            Err(messages) => {
                for message in messages {
                    self.problems.add(self.missing_references, ProblemKind::Reference, place, message);
                }
                (self.missing_references == Severity::Warning).then(|| written.to_owned())
            }
        }
    }

    /// Tells that a value cannot be used.
    pub(super) fn bad<T>(&mut self, place: &Place, message: impl Into<String>) -> Option<T> {
        self.problems.error(ProblemKind::BadValue, place, message);
        None
    }

    /// Tells that settings contradict each other.
    pub(super) fn conflict<T>(&mut self, place: &Place, message: impl Into<String>) -> Option<T> {
        self.problems.error(ProblemKind::Conflict, place, message);
        None
    }
}

/// [`is_key`] for the schema.
pub(super) const KEY_PATTERN: &str = "^[A-Za-z0-9_-]{1,32}$";

/// Whether text can be the key of a server or profile.
pub(super) fn is_key(text: &str) -> bool {
    (1..=32).contains(&text.len()) && is_name_text(text)
}

/// Whether text has only characters that public names may have.
pub(super) fn is_name_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// A key like this one that would be valid.
pub(super) fn valid_key_like(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    let joined = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-");
    let short: String = joined.chars().take(32).collect();
    if short.is_empty() { "server".to_owned() } else { short.to_ascii_lowercase() }
}
