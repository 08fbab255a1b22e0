//! Numbers with their unit: lengths of time and sizes.

use std::time::Duration;

use schemars::json_schema;

use super::node::{Node, Value};
use super::problem::{Place, ProblemKind, Problems};
use super::written::{Written, inline_schema, wrong_type};

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

inline_schema! {
    [] TimeSpan, |_generator| json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" });
    [] ByteSize, |_generator| json_schema!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" });
}
