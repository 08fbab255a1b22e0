//! The written side: typed readers over the tree, and the JSON Schema of the same types.
//!
//! Always: a reader reports every problem it meets and goes on. Not here: sections and words (`section`), numbers with
//! units (`quantity`), whether values make sense together (each section's check).

use schemars::{JsonSchema, json_schema};

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

/// Tells that another type was expected.
pub(super) fn wrong_type<T>(
    node: &Node,
    place: &Place,
    expected: &str,
    problems: &mut Problems,
) -> Option<T> {
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
pub(super) fn entries<'n>(
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

/// Gives types the schema of what the file writes for them.
macro_rules! inline_schema {
    ($( [$($generic:tt)*] $type:ty, |$generator:ident| $schema:expr; )+) => {$(
        impl<$($generic)*> schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    )+};
}

inline_schema! {
    [] Text, |_generator| json_schema!({ "type": "string" });
    [] Ignored, |_generator| json_schema!(true);
    [T: JsonSchema] Given<T>, |generator| generator.subschema_for::<T>();
    [T: JsonSchema] Table<T>, |generator| {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    };
}
pub(super) use inline_schema;
