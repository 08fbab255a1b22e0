//! Looking into JSON text without changing a byte of it.
//!
//! Owns raw access by path. Not here: judging what is found.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The exact text of the member at `path`, or `None` when there is none.
pub(crate) fn raw_at<'text>(text: &'text str, path: &[&str]) -> Option<&'text str> {
    let Some((name, rest)) = path.split_first() else { return Some(text.trim()) };
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    raw_at(members.get(*name)?.get(), rest)
}

/// A value of any lawful JSON text. What a program cannot hold (numbers beyond all floats, halves of characters) becomes
/// null; `None` when the text is no JSON at all.
pub(crate) fn parse(text: &str) -> Option<serde_json::Value> {
    use serde_json::Value;
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        let member = |(name, value): (String, &RawValue)| (name, parse(value.get()).unwrap_or_default());
        return Some(Value::Object(members.into_iter().map(member).collect()));
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        return Some(Value::Array(items.iter().map(|item| parse(item.get()).unwrap_or_default()).collect()));
    }
    serde_json::from_str::<&RawValue>(text).is_ok().then_some(Value::Null)
}

/// The member names of an object, in their order in the text.
pub(crate) fn names_in_order(text: &str) -> Vec<String> {
    struct Names;
    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = Vec<String>;
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let mut names = Vec::new();
            while let Some((name, _)) = map.next_entry::<String, &RawValue>()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    serde::Deserializer::deserialize_map(&mut reader, Names).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// Every string anywhere in `value`, member names included.
pub(crate) fn every_string(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => found.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| every_string(item, found)),
        serde_json::Value::Object(members) => members.iter().for_each(|(name, member)| {
            found.push(name.clone());
            every_string(member, found);
        }),
        _ => {}
    }
}
