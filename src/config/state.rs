//! `state`: where the gateway keeps what must outlive it.

use std::path::PathBuf;

use super::check::Check;
use super::written::{Key, Text, given};

/// `state` when the file says nothing: beside the file.
pub(super) const DEFAULT_STATE: &str = "./state";
/// The word for keeping nothing.
const MEMORY: &str = "memory";

/// Checked: where state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateSettings {
    /// In this directory, by its absolute path. It is made when there is something to keep.
    Directory(PathBuf),
    /// Nowhere: it ends with the process.
    Memory,
}

impl StateSettings {
    /// Checks the key.
    pub(super) fn check(written: &Key<Text>, check: &mut Check<'_>) -> Self {
        let resolved = match given(written) {
            None => DEFAULT_STATE.to_owned(),
            Some(written) => match check.resolve(written) {
                Some(text) if text == MEMORY => return StateSettings::Memory,
                Some(text) if text.starts_with('~') => {
                    check.bad::<()>(&written.place, "`~` is not expanded; write `${env:HOME}`");
                    text
                }
                Some(text) if text.is_empty() => {
                    check.bad::<()>(&written.place, "expected a directory, or `memory` to keep nothing");
                    text
                }
                resolved => resolved.unwrap_or_default(),
            },
        };
        let folder = check.environment.absolute(check.folder);
        StateSettings::Directory(check.environment.absolute(&folder.join(resolved)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;
    use crate::config::reference::ProcessEnvironment;

    fn check(state: &str, expected: StateSettings) {
        let text = format!("{state}\nservers: {{ a: {{ command: a }} }}");
        let settings = parse(&text, Path::new("/etc/gateway/gateway.yaml"), &ProcessEnvironment);
        assert_eq!(settings.expect("good").state, expected, "{state}");
    }

    #[test]
    fn state_is_a_directory_beside_the_file_or_nothing() {
        let directory = |path: &str| StateSettings::Directory(path.into());
        check("", directory("/etc/gateway/state"));
        check("state: ./state", directory("/etc/gateway/state"));
        check("state: /var/lib/gateway", directory("/var/lib/gateway"));
        check("state: memory", StateSettings::Memory);
        check("state: ./memory", directory("/etc/gateway/memory"));
    }
}
