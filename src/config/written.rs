//! The written side: typed readers over the tree, and the JSON Schema of the same types.
//!
//! Always: a section's keys are declared once, with [`section!`], and give both its reader and its schema; a reader
//! reports every problem it meets and goes on. Not here: whether values make sense together (each section's check).

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::node::{Node, Value};
use super::problem::{Place, ProblemKind, Problems};

/// A value that was read, and its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A key that the file has.
#[derive(Debug, Clone)]
pub(super) enum Given<T> {
    Read(At<T>),
    /// It could not be read, and that has been told.
    Reported,
}

impl<T> Given<T> {
    /// What was read.
    pub(super) fn read(&self) -> Option<&At<T>> {
        match self {
            Given::Read(at) => Some(at),
            Given::Reported => None,
        }
    }
}

/// A key that the file may have.
pub(super) type Key<T> = Option<Given<T>>;

/// What was read of a key that the file may have.
pub(super) fn given<T>(key: &Key<T>) -> Option<&At<T>> {
    key.as_ref().and_then(Given::read)
}

/// A type as the file writes it.
pub(super) trait Written: Sized {
    /// Reads it, or tells why not.
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self>;
}

/// Reads one value.
pub(super) fn read_at<T: Written>(node: &Node, place: Place, problems: &mut Problems) -> Given<T> {
    match T::read(node, &place, problems) {
        Some(value) => Given::Read(At { value, place }),
        None => Given::Reported,
    }
}

fn wrong_type<T>(node: &Node, place: &Place, expected: &str, problems: &mut Problems) -> Option<T> {
    let found = node.value.kind();
    problems.error(ProblemKind::WrongType, place, format!("expected {expected}, found {found}"));
    None
}

/// Text that may hold `${…}` references; resolved by the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl Written for Text {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Text(text.clone())),
            Value::Bool(_) | Value::Count(_) | Value::Number(_) => {
                wrong_type(node, place, "a string (put it in quotes)", problems)
            }
            _ => wrong_type(node, place, "a string", problems),
        }
    }
}

impl Written for bool {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => wrong_type(node, place, "`true` or `false`", problems),
        }
    }
}

impl Written for u64 {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Count(value) => Some(*value),
            _ => wrong_type(node, place, "a whole number from 0", problems),
        }
    }
}

impl Written for f64 {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        match &node.value {
            Value::Number(value) => Some(*value),
            Value::Count(value) => Some(*value as f64),
            _ => wrong_type(node, place, "a number", problems),
        }
    }
}

/// A key that clients' files have and the gateway has no use for.
#[derive(Debug)]
pub(super) struct Ignored;

impl Written for Ignored {
    fn read(_: &Node, _: &Place, _: &mut Problems) -> Option<Self> {
        Some(Ignored)
    }
}

/// A length of time: `500ms`, `2s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeSpan(pub(super) Duration);

impl Written for TimeSpan {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        const WANTED: &str = "a time with its unit, such as `500ms`, `2s`, `5m` or `1h`";
        let (number, unit) = match &node.value {
            Value::Text(text) => quantity(text, place, WANTED, problems)?,
            _ => return wrong_type(node, place, WANTED, problems),
        };
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return not_a_quantity(place, WANTED, problems),
        };
        let whole = number.checked_mul(milliseconds).or_else(|| not_a_quantity(place, WANTED, problems))?;
        Some(TimeSpan(Duration::from_millis(whole)))
    }
}

/// A number of bytes: `512KiB`, `16MiB`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByteSize(pub(super) u64);

impl Written for ByteSize {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        const WANTED: &str = "a size with its unit, such as `512KiB`, `16MiB` or `2GiB`";
        let (number, unit) = match &node.value {
            Value::Text(text) => quantity(text, place, WANTED, problems)?,
            _ => return wrong_type(node, place, WANTED, problems),
        };
        let bytes = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return not_a_quantity(place, WANTED, problems),
        };
        number.checked_mul(bytes).or_else(|| not_a_quantity(place, WANTED, problems)).map(ByteSize)
    }
}

/// Splits `16MiB` into number and unit.
fn quantity<'t>(
    text: &'t str,
    place: &Place,
    wanted: &str,
    problems: &mut Problems,
) -> Option<(u64, &'t str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    match number.parse() {
        Ok(number) => Some((number, unit)),
        Err(_) => not_a_quantity(place, wanted, problems),
    }
}

fn not_a_quantity<T>(place: &Place, wanted: &str, problems: &mut Problems) -> Option<T> {
    problems.error(ProblemKind::WrongType, place, format!("expected {wanted}"));
    None
}

impl<T: Written> Written for Vec<Given<T>> {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return wrong_type(node, place, "a list", problems);
        };
        let numbered = items.iter().enumerate();
        Some(
            numbered
                .map(|(i, item)| read_at(item, place.item(i, item.line, item.column), problems))
                .collect(),
        )
    }
}

/// A mapping whose keys the person chose, in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Table<T>(pub(super) Vec<(At<String>, Given<T>)>);

impl<T: Written> Written for Table<T> {
    fn read(node: &Node, place: &Place, problems: &mut Problems) -> Option<Self> {
        let entries = entries(node, place, problems)?;
        let read = |(key, value): (At<String>, &Node)| {
            let place = Place { line: value.line, column: value.column, ..key.place.clone() };
            let value = read_at(value, place, problems);
            (key, value)
        };
        Some(Table(entries.into_iter().map(read).collect()))
    }
}

/// The entries of a mapping; keys that are no strings, or repeated, are told and left out.
fn entries<'n>(
    node: &'n Node,
    place: &Place,
    problems: &mut Problems,
) -> Option<Vec<(At<String>, &'n Node)>> {
    let Value::Table(table) = &node.value else {
        return wrong_type(node, place, "a mapping", problems);
    };
    let mut entries: Vec<(At<String>, &Node)> = Vec::new();
    for (key, value) in table {
        let Value::Text(name) = &key.value else {
            let place = Place { line: key.line, column: key.column, ..place.clone() };
            let found = key.value.kind();
            let message = format!("a key must be a string, found {found} (put it in quotes)");
            problems.error(ProblemKind::WrongType, &place, message);
            continue;
        };
        let place = place.key(name, key.line, key.column);
        if let Some((first, _)) = entries.iter().find(|(seen, _)| seen.value == *name) {
            let message = format!("`{name}` is given twice, first in line {}", first.place.line);
            problems.error(ProblemKind::DuplicateKey, &place, message);
            continue;
        }
        entries.push((At { value: name.clone(), place }, value));
    }
    Some(entries)
}

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
                let keys = $crate::config::written::SectionKeys {
                    known: &[$($key),*],
                    not_served: &[$($($later),+)?],
                    hints: &[$($(($other, $hint)),+)?],
                };
                let entries = $crate::config::written::section_entries(node, place, &keys, problems)?;
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
                $crate::config::written::read_choice(node, place, &[$(($word, $value)),+], later, problems).map($name)
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

/// Schemas of the types above: each as the file writes it.
macro_rules! inline_schema {
    ($( [$($generic:tt)*] $type:ty, |$generator:ident| $schema:expr; )+) => {$(
        impl<$($generic)*> JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

inline_schema! {
    [] Text, |_generator| json_schema!({ "type": "string" });
    [] Ignored, |_generator| json_schema!(true);
    [] TimeSpan, |_generator| json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" });
    [] ByteSize, |_generator| json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" });
    [T: JsonSchema] Given<T>, |generator| generator.subschema_for::<T>();
    [T: JsonSchema] Table<T>, |generator| {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    };
}
