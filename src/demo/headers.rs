//! Headers of a stateless HTTP request, and whether they agree with the body.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::server::Server;
use super::wire::{Fault, HEADER_MISMATCH, Object};

const ENCODED_PREFIX: &str = "=?base64?";
const ENCODED_SUFFIX: &str = "?=";
/// Keyword in a tool's schema that names the header of a parameter.
const ANNOTATION: &str = "x-mcp-header";

/// The headers of one request: lower-case names, values without surrounding whitespace.
#[derive(Debug, Clone)]
pub(crate) struct HeaderValues {
    values: Arc<[(String, String)]>,
}

impl HeaderValues {
    pub(crate) fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        HeaderValues { values: values.into_iter().collect() }
    }

    pub(crate) fn all(&self) -> Arc<[(String, String)]> {
        Arc::clone(&self.values)
    }

    /// The value of a header that may be there once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Fault> {
        let mut found =
            self.values.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = found.next();
        if found.any(|other| Some(other) != value) {
            return Err(mismatch(format!("the header {name} is there more than once")));
        }
        Ok(value)
    }

    fn decoded(&self, name: &str) -> Result<Option<String>, Fault> {
        self.one(name)?.map(|value| decode(name, value)).transpose()
    }

    /// `Mcp-Method` for every request, `Mcp-Name` for those that name something.
    pub(crate) fn check_method_and_name(&self, method: &str, params: &Object) -> Result<(), Fault> {
        match self.one("mcp-method")? {
            Some(header) if header == method => {}
            Some(_) => return Err(mismatch("Mcp-Method does not agree with the body's method")),
            None => return Err(mismatch("the header Mcp-Method is missing")),
        }
        let source = match method {
            "tools/call" | "prompts/get" => "name",
            "resources/read" => "uri",
            "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
            _ => return Ok(()),
        };
        // A body without a name is refused for that, not for its header.
        let Some(name) = params.get(source).and_then(Value::as_str) else { return Ok(()) };
        match self.decoded("mcp-name")? {
            Some(header) if header == name => Ok(()),
            Some(_) => Err(mismatch(format!("Mcp-Name does not agree with the body's {source}"))),
            None => Err(mismatch("the header Mcp-Name is missing")),
        }
    }

    /// `Mcp-Param-…` for every parameter that the tool's schema mirrors.
    pub(crate) fn check_parameters(&self, server: &Server, params: &Object) -> Result<(), Fault> {
        let Some(name) = params.get("name").and_then(Value::as_str) else { return Ok(()) };
        let Some(tool) = server.tools().iter().find(|tool| tool["name"] == name) else { return Ok(()) };
        let nothing = Value::Object(Object::new());
        let arguments = params.get("arguments").unwrap_or(&nothing);
        self.check_properties(&tool["inputSchema"], arguments)
    }

    fn check_properties(&self, schema: &Value, arguments: &Value) -> Result<(), Fault> {
        for (property, schema) in schema["properties"].as_object().into_iter().flatten() {
            let value = &arguments[property];
            if let Some(annotation) = schema[ANNOTATION].as_str() {
                self.check_parameter(annotation, value)?;
            }
            self.check_properties(schema, value)?;
        }
        Ok(())
    }

    fn check_parameter(&self, annotation: &str, value: &Value) -> Result<(), Fault> {
        let name = format!("mcp-param-{}", annotation.to_ascii_lowercase());
        match (self.decoded(&name)?, value) {
            (None, Value::Null) => Ok(()),
            (None, _) => Err(mismatch(format!("the header {name} is missing"))),
            (Some(header), value) if agrees(&header, value) => Ok(()),
            (Some(_), _) => Err(mismatch(format!("{name} does not agree with the body"))),
        }
    }
}

fn agrees(header: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text == header,
        Value::Bool(truth) => header == if *truth { "true" } else { "false" },
        Value::Number(number) => match (number.as_i64(), header.parse::<i64>()) {
            (Some(body), Ok(header)) => body == header,
            _ => header.parse::<f64>().is_ok_and(|header| number.as_f64() == Some(header)),
        },
        _ => false,
    }
}

/// A header's value, decoded if it is written as Base64 between the sentinels.
fn decode(name: &str, value: &str) -> Result<String, Fault> {
    let visible = value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    if !visible {
        return Err(mismatch(format!("{name} holds characters that a header must not hold")));
    }
    let encoded = value.strip_prefix(ENCODED_PREFIX).and_then(|rest| rest.strip_suffix(ENCODED_SUFFIX));
    let Some(encoded) = encoded else { return Ok(value.to_owned()) };
    let bytes = STANDARD.decode(encoded).map_err(|_| mismatch(format!("{name} is not valid Base64")))?;
    String::from_utf8(bytes).map_err(|_| mismatch(format!("{name} is not UTF-8")))
}

fn mismatch(message: impl Into<String>) -> Fault {
    Fault::new(HEADER_MISMATCH, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_specification_decode() {
        let table = [
            ("us-west1", "us-west1"),
            ("=?base64?SGVsbG8sIOS4lueVjA==?=", "Hello, 世界"),
            ("=?base64?IHBhZGRlZCA=?=", " padded "),
            ("=?base64?bGluZTEKbGluZTI=?=", "line1\nline2"),
            ("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", "=?base64?literal?="),
            ("=?base64?half", "=?base64?half"),
        ];
        for (written, meant) in table {
            assert_eq!(decode("mcp-name", written).unwrap(), meant);
        }
    }

    #[test]
    fn damaged_encodings_and_raw_bytes_are_refused() {
        for written in ["=?base64?SGVsbG8?=", "=?base64?!!!!?=", "=?base64?/w==?=", "caf\u{e9}"] {
            assert_eq!(decode("mcp-name", written).unwrap_err().code, HEADER_MISMATCH, "{written}");
        }
    }

    #[test]
    fn integers_agree_as_numbers_and_truth_as_words() {
        assert!(agrees("42.0", &json!(42)) && agrees("-7", &json!(-7)) && agrees("false", &json!(false)));
        assert!(!agrees("43", &json!(42)) && !agrees("True", &json!(true)) && !agrees("x", &json!(["x"])));
    }
}
