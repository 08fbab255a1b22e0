//! YAML (and so JSON) as a tree whose every key and value knows its line and column.
//!
//! Always: order and repeated keys are kept as the file has them. Not here: what keys mean (`written` and the sections).
//! The only module that knows the YAML crate.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::problem::{Place, ProblemKind, Problems};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: u64,
    pub(super) column: u64,
}

/// What YAML can say, as far as a configuration needs it.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A whole number from 0.
    Count(u64),
    /// Any other number.
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(Node, Node)>),
}

impl Value {
    /// The kind of value, for people; never the value itself.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Count(_) | Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a mapping",
        }
    }
}

/// Options under which `off` is text, repeated keys reach us, and errors quote nothing of the file.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        emit_comments: false,
    }
}

/// Reads a whole file; `None` when it is not YAML, which is then told in `problems`.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    match serde_saphyr::from_str_with_options(text, options()) {
        Ok(node) => Some(node),
        Err(error) => {
            let place = error.location().map_or_else(Place::default, |location| Place {
                path: String::new(),
                line: location.line(),
                column: location.column(),
            });
            problems.error(
                ProblemKind::Unreadable,
                &place,
                format!("not readable as YAML: {}{}", cause(&error), hint(text)),
            );
            None
        }
    }
}

/// What is meant to be JSON may have comments that YAML takes for text.
fn hint(text: &str) -> &'static str {
    let is_json = text.trim_start().starts_with(['{', '/']);
    let comment = |line: &str| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("/*") || line.contains(" //") || line.contains(" /*")
    };
    if is_json && text.lines().any(comment) {
        "; comments begin with `#` here, not with `//` or `/*`"
    } else {
        ""
    }
}

/// The error's first line without its position, which the place already tells.
fn cause(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    if let serde_saphyr::Error::MultipleDocuments { .. } = error.without_snippet() {
        return "more than one document (`---`)".to_owned();
    }
    match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, message)) => message.to_owned(),
        None => line.split(" at line ").next().unwrap_or(line).to_owned(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { value, line: referenced.line(), column: referenced.column() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Count(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Number(value as f64), Value::Count))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Node {
        let mut problems = Problems::of("file");
        parse(text, &mut problems).unwrap_or_else(|| panic!("{problems}"))
    }

    fn outline(node: &Node) -> String {
        let text = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Count(value) => value.to_string(),
            Value::Number(value) => format!("{value:?}"),
            Value::Text(value) => format!("{value:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(outline).collect::<Vec<_>>().join(" ")),
            Value::Table(entries) => {
                let each = entries.iter().map(|(key, value)| format!("{}={}", outline(key), outline(value)));
                format!("{{{}}}", each.collect::<Vec<_>>().join(" "))
            }
        };
        format!("{text}@{}:{}", node.line, node.column)
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(outline(&read(text)), expected, "{text}");
    }

    #[test]
    fn keys_and_values_know_their_place() {
        check(
            "a: 1\nb:\n  c: [x, -2]\n",
            r#"{"a"@1:1=1@1:4 "b"@2:1={"c"@3:3=["x"@3:7 -2.0@3:10]@3:6}@3:3}@1:1"#,
        );
    }

    #[test]
    fn off_and_dates_are_text_and_repeated_keys_stay() {
        check("a: off\na: 2025-11-25\n", r#"{"a"@1:1="off"@1:4 "a"@2:1="2025-11-25"@2:4}@1:1"#);
    }

    #[test]
    fn json_is_yaml_even_with_tabs_and_surrogates() {
        check(
            "{\n\t\"a\": \"\\ud83d\\ude00\\/\",\n\t\"b\": null\n}\n",
            "{\"a\"@2:2=\"\u{1f600}/\"@2:7 \"b\"@3:2=null@3:7}@1:1",
        );
    }

    #[test]
    fn aliases_stand_where_they_are_used() {
        check("a: &x [1]\nb: *x\n", r#"{"a"@1:1=[1@1:8]@1:7 "b"@2:1=[1@2:4]@2:4}@1:1"#);
    }

    #[test]
    fn errors_name_the_place_and_quote_nothing() {
        let mut problems = Problems::of("file");
        assert!(parse("a: [\"hidden\"\nb: hidden: hidden\n", &mut problems).is_none());
        let text = problems.to_string();
        assert!(text.starts_with("file:") && !text.contains("hidden"), "{text}");
    }
}
