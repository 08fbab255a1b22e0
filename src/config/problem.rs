//! What is wrong with a configuration file, told so that a person can mend it at once.
//!
//! Always: every problem names its place and what would be right. Never: a line of the file, or a value that may be a
//! secret. Problems are printed to terminals and logs, so they quote keys, and values of public settings only.

use std::fmt;

use serde::Serialize;

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used; somebody should look.
    Warning,
}

/// What sort of mistake it is, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The file cannot be read, or is not YAML.
    Unreadable,
    /// A key that the format does not have.
    UnknownKey,
    /// A key of the format that this release does not serve.
    NotServed,
    /// The same key twice in one mapping.
    DuplicateKey,
    /// A list where a string belongs, and the like.
    WrongType,
    /// The right type, but a value that cannot be used.
    BadValue,
    /// A `${…}` that leads nowhere.
    Reference,
    /// Settings that are fine alone and contradict each other.
    Conflict,
    /// Usable, yet probably not what was meant.
    Lint,
}

/// A place in the file: where it stands, and which setting it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// For example `servers.github.timeout`; empty for the whole file.
    pub path: String,
    /// From 1; 0 when unknown.
    pub line: u64,
    /// From 1, in characters; 0 when unknown.
    pub column: u64,
}

impl Place {
    /// The path of an entry below this one.
    pub(super) fn key(&self, key: &str, line: u64, column: u64) -> Place {
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-$".contains(c));
        let key = if plain { key.to_owned() } else { format!("{key:?}") };
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Place { path, line, column }
    }

    /// The path of an item of this list.
    pub(super) fn item(&self, index: usize, line: u64, column: u64) -> Place {
        Place { path: format!("{}[{index}]", self.path), line, column }
    }
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// What sort of mistake.
    pub kind: ProblemKind,
    /// The file, as it was named.
    pub file: String,
    /// From 1; 0 when the problem belongs to no line.
    pub line: u64,
    /// From 1, in characters; 0 when unknown.
    pub column: u64,
    /// For example `servers.github.timeout`; empty for the whole file.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    /// `file:line:column: severity: path: message`, the form that editors make clickable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(match self.severity {
            Severity::Error => ": error: ",
            Severity::Warning => ": warning: ",
        })?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything there is to say about one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct Problems {
    list: Vec<Problem>,
    #[serde(skip)]
    file: String,
}

impl Problems {
    /// No problems yet, of this file.
    pub(super) fn of(file: impl Into<String>) -> Self {
        Problems { list: Vec::new(), file: file.into() }
    }

    /// Adds an error.
    pub(super) fn error(&mut self, kind: ProblemKind, place: &Place, message: impl Into<String>) {
        self.add(Severity::Error, kind, place, message.into());
    }

    /// Adds a lint.
    pub(super) fn lint(&mut self, place: &Place, message: impl Into<String>) {
        self.add(Severity::Warning, ProblemKind::Lint, place, message.into());
    }

    /// Adds a problem of chosen severity.
    pub(super) fn add(&mut self, severity: Severity, kind: ProblemKind, place: &Place, message: String) {
        let Place { path, line, column } = place.clone();
        self.list.push(Problem { severity, kind, file: self.file.clone(), line, column, path, message });
    }

    /// Orders them as the file is read.
    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|problem| (problem.line, problem.column));
    }

    /// Whether something below this place is misspelt.
    pub(super) fn has_unknown_key_below(&self, place: &Place) -> bool {
        let below = |problem: &Problem| {
            problem.path.strip_prefix(&place.path).is_some_and(|rest| rest.starts_with('.'))
        };
        self.list.iter().any(|problem| problem.kind == ProblemKind::UnknownKey && below(problem))
    }

    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

impl fmt::Display for Problems {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
