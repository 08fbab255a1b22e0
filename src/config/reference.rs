//! `${env:NAME}`, `${file:path}` and `${exe}` in strings.
//!
//! Always: references are resolved after parsing, so what they bring never changes the file's structure, and once: what
//! they bring is not searched for further references. Messages name references, never what they bring.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Where references lead; the process's own surroundings, or a test's.
pub trait Environment {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// The content of a file.
    fn file(&self, path: &Path) -> io::Result<String>;

    /// The gateway's own program.
    fn executable(&self) -> io::Result<PathBuf>;

    /// The path from the root, links in it left as they are.
    fn absolute(&self, path: &Path) -> PathBuf;

    /// The file that a path leads to, so that two paths to it are equal.
    fn real(&self, path: &Path) -> PathBuf;
}

/// The surroundings of this process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

/// More than any secret needs, less than hurts.
const FILE_LIMIT: u64 = 1024 * 1024;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        read_bounded(path, FILE_LIMIT)
    }

    fn executable(&self) -> io::Result<PathBuf> {
        std::env::current_exe()
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
    }

    fn real(&self, path: &Path) -> PathBuf {
        std::fs::canonicalize(path).unwrap_or_else(|_| self.absolute(path))
    }
}

/// Reads a text file of at most `limit` bytes. Blocks: for configuration, before the runtime serves.
pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if read as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(text)
}

/// Whether text has anything to resolve.
pub(super) fn has_reference(text: &str) -> bool {
    text.replace("$${", "").contains("${")
}

/// Resolves all references; the errors are messages, each complete.
pub(super) fn resolve(
    text: &str,
    folder: &Path,
    environment: &dyn Environment,
) -> Result<String, Vec<String>> {
    let mut resolved = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        // `$${` is the text `${` itself.
        if let Some(before) = before.strip_suffix('$') {
            resolved.push_str(before);
            resolved.push_str("${");
            rest = &after[2..];
            continue;
        }
        resolved.push_str(before);
        let Some(end) = after.find('}') else {
            problems.push("`${` is not closed with `}`; for the text itself write `$${`".to_owned());
            break;
        };
        match look_up(&after[2..end], folder, environment) {
            Ok(value) => resolved.push_str(&value),
            Err(problem) => problems.push(problem),
        }
        rest = &after[end + 1..];
    }
    resolved.push_str(rest);
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// What stands between `${` and `}`.
fn look_up(reference: &str, folder: &Path, environment: &dyn Environment) -> Result<String, String> {
    match reference.split_once(':') {
        Some(("env", name)) if is_variable_name(name) => {
            match environment.variable(name).map(OsString::into_string) {
                Some(Ok(value)) => Ok(value),
                Some(Err(_)) => Err(format!("environment variable `{name}` is not UTF-8")),
                None => Err(format!("environment variable `{name}` is not set")),
            }
        }
        Some(("file", path)) if !path.is_empty() => {
            let path = folder.join(path);
            let text = environment.file(&path);
            text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("`${{{reference}}}`: {error}"))
        }
        None if reference == "exe" => match environment.executable().map(PathBuf::into_os_string) {
            Ok(path) => {
                path.into_string().map_err(|_| "the path that `${exe}` stands for is not UTF-8".to_owned())
            }
            Err(error) => Err(format!("`${{exe}}`: {error}")),
        },
        _ => Err(unknown(reference)),
    }
}

fn is_variable_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// References as other programs write them, and their spelling here.
fn unknown(reference: &str) -> String {
    let meant = match reference {
        name if is_variable_name(name) && !name.chars().any(|c| c.is_ascii_lowercase()) => {
            format!("${{env:{name}}}")
        }
        "userHome" => "${env:HOME}".to_owned(),
        _ => match reference.split_once([':', '-']) {
            Some((name, _)) if is_variable_name(name) && !name.chars().any(|c| c.is_ascii_lowercase()) => {
                return format!(
                    "`${{{reference}}}` has a default value, which is not supported: write `${{env:{name}}}`"
                );
            }
            _ => {
                return format!(
                    "`${{{reference}}}` is not known; there are `${{env:NAME}}`, `${{file:path}}` and `${{exe}}`, \
                     and `$${{` for the text `${{` itself"
                );
            }
        },
    };
    format!("`${{{reference}}}` is not known: write `{meant}`, or `$${{{reference}}}` for the text itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Surroundings;

    impl Environment for Surroundings {
        fn variable(&self, name: &str) -> Option<OsString> {
            (name == "TOKEN").then(|| "a: [${env:TOKEN}".into())
        }

        fn file(&self, path: &Path) -> io::Result<String> {
            if path == Path::new("/etc/gateway/key") {
                Ok("k\r\n".into())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        }

        fn executable(&self) -> io::Result<PathBuf> {
            Ok("/usr/bin/switchyard".into())
        }

        fn absolute(&self, path: &Path) -> PathBuf {
            Path::new("/etc/gateway").join(path)
        }

        fn real(&self, path: &Path) -> PathBuf {
            self.absolute(path)
        }
    }

    fn check(text: &str, expected: &str) {
        let resolved = resolve(text, Path::new("/etc/gateway"), &Surroundings);
        assert_eq!(resolved.unwrap_or_else(|problems| problems.join("; ")), expected, "{text}");
    }

    #[test]
    fn references_are_resolved_once() {
        check("plain $x {y}", "plain $x {y}");
        check("Bearer ${env:TOKEN}.", "Bearer a: [${env:TOKEN}.");
        check("${exe} ${file:key} ${file:/etc/gateway/key}", "/usr/bin/switchyard k k");
        check("$${env:TOKEN} $$${env:TOKEN} $$", "${env:TOKEN} $${env:TOKEN} $$");
    }

    #[test]
    fn what_leads_nowhere_is_told_with_the_right_spelling() {
        check(
            "${env:NONE}${env:ALSO_NONE}",
            "environment variable `NONE` is not set; environment variable `ALSO_NONE` is not set",
        );
        check("${file:none}", "`${file:none}`: entity not found");
        check(
            "${TOKEN}",
            "`${TOKEN}` is not known: write `${env:TOKEN}`, or `$${TOKEN}` for the text itself",
        );
        check(
            "${TOKEN:-x}",
            "`${TOKEN:-x}` has a default value, which is not supported: write `${env:TOKEN}`",
        );
        check("a ${env:TOKEN", "`${` is not closed with `}`; for the text itself write `$${`");
    }
}
