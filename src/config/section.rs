//! Sections of the file, and words out of a set.
//!
//! Always: a section's keys are declared once, with [`section!`], which gives the struct, its reader and its schema; so
//! that a key cannot be in one and not in the other. Unknown keys are told with the key that was probably meant.

use super::node::{Node, Value};
use super::problem::{Place, ProblemKind, Problems};
use super::written::{At, entries, wrong_type};

/// What a section says about keys it does not read.
pub(super) struct SectionKeys {
    /// Keys it reads.
    pub(super) known: &'static [&'static str],
    /// Keys of the format that a later release serves.
    pub(super) not_served: &'static [&'static str],
    /// Keys of other programs, and what to write here.
    pub(super) hints: &'static [(&'static str, &'static str)],
}

/// The entries of a section that it reads and that hold something; other keys are told.
pub(super) fn section_entries<'n>(
    node: &'n Node,
    place: &Place,
    keys: &SectionKeys,
    problems: &mut Problems,
) -> Option<Vec<(At<String>, &'n Node)>> {
    let mut entries = entries(node, place, problems)?;
    entries.retain(|(key, value)| {
        let known = keys.known.contains(&key.value.as_str());
        if !known {
            tell_unknown(key, keys, problems);
        }
        known && !matches!(value.value, Value::Null)
    });
    Some(entries)
}

fn tell_unknown(key: &At<String>, keys: &SectionKeys, problems: &mut Problems) {
    let At { value: name, place } = key;
    if keys.not_served.contains(&name.as_str()) {
        return problems.error(
            ProblemKind::NotServed,
            place,
            format!("`{name}` is not served by this release"),
        );
    }
    if name.starts_with("//") || name.starts_with("/*") {
        let message = "not a key: comments begin with `#` here, not with `//` or `/*`";
        return problems.error(ProblemKind::UnknownKey, place, message);
    }
    let advice = match keys.hints.iter().find(|(other, _)| other == name) {
        Some((_, hint)) => format!(": {hint}"),
        None => match nearest(name, keys.known.iter().copied()) {
            Some(near) => format!(", did you mean `{near}`?"),
            None if keys.known.len() > 12 => "; `switchyard schema` lists the keys".to_owned(),
            None => format!("; known here: {}", keys.known.join(", ")),
        },
    };
    problems.error(ProblemKind::UnknownKey, place, format!("unknown key `{name}`{advice}"));
}

/// The word that was probably meant.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let word = plain(word);
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// Reads one word out of a set.
pub(super) fn read_choice<T: Clone>(
    node: &Node,
    place: &Place,
    choices: &[(&str, T)],
    not_served: &[(&str, &str)],
    problems: &mut Problems,
) -> Option<T> {
    let words = || choices.iter().map(|(word, _)| *word);
    let listed = || words().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let Value::Text(text) = &node.value else {
        return wrong_type(node, place, &format!("one of {}", listed()), problems);
    };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| word == text) {
        return Some(choice.clone());
    }
    if let Some((word, advice)) = not_served.iter().find(|(word, _)| word == text) {
        let message = format!("`{word}` is not served by this release; {advice}");
        problems.error(ProblemKind::NotServed, place, message);
        return None;
    }
    let meant = nearest(text, words()).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
    problems.error(ProblemKind::WrongType, place, format!("expected one of {}{meant}", listed()));
    None
}

/// Declares a section once: its keys give the struct, its reader and its schema.
macro_rules! section {
    (
        $(#[$section_attribute:meta])*
        struct $name:ident {
            $( $(#[$attribute:meta])* $key:literal $field:ident: $kind:ty, )*
        }
        $( not served: $($later:literal),+; )?
        $( elsewhere: $($other:literal => $hint:literal),+; )?
    ) => {
        $(#[$section_attribute])*
        #[derive(Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            $( $(#[$attribute])* #[schemars(rename = $key)] pub(in crate::config) $field: $crate::config::written::Key<$kind>, )*
        }

        impl $crate::config::written::Written for $name {
            fn read(
                node: &$crate::config::node::Node,
                place: &$crate::config::problem::Place,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                let keys = $crate::config::section::SectionKeys {
                    known: &[$($key),*],
                    not_served: &[$($($later),+)?],
                    hints: &[$($(($other, $hint)),+)?],
                };
                let entries = $crate::config::section::section_entries(node, place, &keys, problems)?;
                let mut section = $name::default();
                for (key, value) in entries {
                    let place = $crate::config::problem::Place { line: value.line, column: value.column, ..key.place };
                    match key.value.as_str() {
                        $( $key => section.$field = Some($crate::config::written::read_at(value, place, problems)), )*
                        // `section_entries` gives known keys only.
                        _ => {}
                    }
                }
                Some(section)
            }
        }
    };
}
pub(super) use section;

/// Declares a set of words and what each stands for.
macro_rules! choice {
    (
        $(#[$attribute:meta])*
        struct $name:ident($checked:ty) {
            $( $word:literal => $value:expr, )+
        }
        $( not served: $($later:literal => $advice:literal),+; )?
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy)]
        pub(in crate::config) struct $name(pub(in crate::config) $checked);

        impl $crate::config::written::Written for $name {
            fn read(
                node: &$crate::config::node::Node,
                place: &$crate::config::problem::Place,
                problems: &mut $crate::config::problem::Problems,
            ) -> Option<Self> {
                let later: &[(&str, &str)] = &[$($(($later, $advice)),+)?];
                $crate::config::section::read_choice(node, place, &[$(($word, $value)),+], later, problems).map($name)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}
pub(super) use choice;
