//! `names`: how public tool and prompt names are formed (design: Names).

use super::check::{Check, is_name_text};
use super::section::section;
use super::written::{Key, Text, given};

const DEFAULT_SEPARATOR: &str = "__";
const DEFAULT_MAX_LENGTH: u64 = 64;

/// Checked: the shape of public names.
#[derive(Debug, Clone)]
pub struct NameSettings {
    /// Between prefix and original; characters of `[A-Za-z0-9_-]` only.
    pub separator: String,
    /// Longest public name, 16 to 64 characters.
    pub max_length: usize,
}

impl Default for NameSettings {
    fn default() -> Self {
        NameSettings { separator: DEFAULT_SEPARATOR.to_owned(), max_length: DEFAULT_MAX_LENGTH as usize }
    }
}

section! {
    /// How public tool and prompt names are formed: prefix, separator, original name.
    struct WrittenNames {
        /// Between prefix and original name: one to eight of `A-Z a-z 0-9 _ -`.
        #[schemars(extend("default" = DEFAULT_SEPARATOR))]
        "separator" separator: Text,
        /// Longest public name, 16 to 64 characters; a longer one is shortened with a hash.
        #[schemars(extend("default" = DEFAULT_MAX_LENGTH))]
        "max_length" max_length: u64,
    }
}

impl NameSettings {
    /// Checks the section.
    pub(super) fn check(written: &Key<WrittenNames>, check: &mut Check<'_>) -> Self {
        let mut names = NameSettings::default();
        let Some(written) = given(written) else { return names };
        if let Some(separator) = given(&written.value.separator) {
            names.separator = check.resolve(separator).unwrap_or(names.separator);
            if !(1..=8).contains(&names.separator.len()) || !is_name_text(&names.separator) {
                check
                    .bad::<()>(&separator.place, "expected one to eight of the characters `A-Z a-z 0-9 _ -`");
            }
        }
        if let Some(max_length) = given(&written.value.max_length) {
            names.max_length = usize::try_from(max_length.value).unwrap_or(usize::MAX);
            if !(16..=64).contains(&names.max_length) {
                check.bad::<()>(
                    &max_length.place,
                    "expected 16 to 64 characters: model APIs accept no longer names",
                );
            }
        }
        names
    }
}
