//! `x-mcp-header`: parameters of a tool that its requests repeat as `Mcp-Param-*` headers (S-HDR-04, -05, -09).
//!
//! Always: a [`ParamHeaders`] came from a schema whose annotations are all valid. Not here: which tools are listed,
//! which clients and upstreams want the headers.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::headers::{self, HeaderFault};
use super::json::{Limits, Object, string};

const ANNOTATION: &str = "x-mcp-header";
/// 2^53 - 1: beyond it readers that compute with doubles disagree about an integer.
const SAFE: f64 = 9_007_199_254_740_991.0;

/// What a tool's annotations ask for; nothing for most tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders(Box<[ParamHeader]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct ParamHeader {
    header: HeaderName,
    /// Keys from the arguments down to the value.
    path: Box<[Box<str>]>,
}

/// Why a tool's annotations, and so its definition, are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationFault {
    /// The schema itself cannot be read.
    #[error("the input schema is not an object")]
    Schema,
    /// Not a string, empty, or with characters that no header name has.
    #[error("{ANNOTATION} of {at} is not a header name")]
    Name {
        /// Where it stands.
        at: String,
    },
    /// Two parameters under one name, upper and lower case being the same.
    #[error("{ANNOTATION} {name} is used twice")]
    Duplicate {
        /// The name, lower case.
        name: String,
    },
    /// On something that is not a string, an integer or a boolean.
    #[error("{ANNOTATION} of {at} is not on a string, integer or boolean")]
    NotPrimitive {
        /// Where it stands.
        at: String,
    },
    /// Not on a property that `properties` alone lead to.
    #[error("{ANNOTATION} at {at} is not on a statically reachable property")]
    Unreachable {
        /// Where it stands.
        at: String,
    },
}

/// Which inbound header does not agree with the arguments: `-32020`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{header}: {fault}")]
pub struct ParamFault {
    /// The header, lower case.
    pub header: HeaderName,
    /// What is wrong with it.
    pub fault: HeaderFault,
}

impl ParamHeaders {
    /// Reads and checks the annotations of a tool's raw `inputSchema`.
    pub fn of_schema(schema: &[u8]) -> Result<ParamHeaders, AnnotationFault> {
        let plain = memchr::memmem::find(schema, ANNOTATION.as_bytes()).is_some();
        // A key may be spelled with escapes.
        if !plain && memchr::memmem::find(schema, b"\\u").is_none() {
            return Ok(ParamHeaders::default());
        }
        // One tree, because views of nested objects would read deep schemas many times over.
        let Ok(Value::Object(schema)) = serde_json::from_slice(schema) else {
            return Err(AnnotationFault::Schema);
        };
        let mut reader = Reader { found: Vec::new(), path: Vec::new() };
        reader.schema(&schema, true)?;
        Ok(ParamHeaders(reader.found.into()))
    }

    /// Whether nothing is to be repeated.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The headers for these arguments, as an upstream wants them.
    pub fn derive(&self, arguments: &Object) -> Vec<(HeaderName, HeaderValue)> {
        let header = |param: &ParamHeader| {
            let raw = param.find(arguments)?;
            Some((param.header.clone(), headers::value(&mirrored(&raw)?)))
        };
        self.0.iter().filter_map(header).collect()
    }

    /// Holds inbound headers against the arguments. `values` gives every value of a header by its lower-case name.
    pub fn check<'h, I>(
        &self,
        arguments: &Object,
        values: impl Fn(&HeaderName) -> I,
    ) -> Result<(), ParamFault>
    where
        I: Iterator<Item = &'h [u8]>,
    {
        for param in &self.0 {
            let checked = headers::single(values(&param.header))
                .and_then(|header| agree(header, param.find(arguments).as_deref()));
            checked.map_err(|fault| ParamFault { header: param.header.clone(), fault })?;
        }
        Ok(())
    }
}

impl ParamHeader {
    /// The raw value, unless it is absent or null.
    fn find<'a>(&self, arguments: &'a Object) -> Option<Cow<'a, [u8]>> {
        let (last, way) = self.path.split_last()?;
        let raw = match way.split_first() {
            None => Cow::Borrowed(arguments.get(last)?),
            Some((first, way)) => {
                let mut object = arguments.object(first)?;
                for key in way {
                    object = object.object(key)?;
                }
                Cow::Owned(object.get(last)?.to_vec())
            }
        };
        (*raw != *b"null").then_some(raw)
    }
}

/// What a header says for a raw value: `None` for what is never mirrored.
fn mirrored(raw: &[u8]) -> Option<Cow<'_, str>> {
    match raw.first()? {
        b'"' => string(raw),
        b't' => Some(Cow::Borrowed("true")),
        b'f' => Some(Cow::Borrowed("false")),
        b'-' | b'0'..=b'9' => {
            let text = std::str::from_utf8(raw).ok()?;
            if !text.contains(['.', 'e', 'E']) {
                return Some(Cow::Borrowed(text));
            }
            let number: f64 = text.parse().ok()?;
            (number.fract() == 0.0 && number.abs() <= SAFE).then(|| Cow::Owned(format!("{number:.0}")))
        }
        _ => None,
    }
}

fn agree(header: Option<&[u8]>, raw: Option<&[u8]>) -> Result<(), HeaderFault> {
    let expected = raw.and_then(mirrored);
    let (header, expected) = match (header, expected) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err(HeaderFault::Missing),
        (Some(header), None) => {
            headers::decode(header)?;
            return Err(HeaderFault::Differs);
        }
        (Some(header), Some(expected)) => (headers::decode(header)?, expected),
    };
    let is_number = raw.and_then(|raw| raw.first()).is_some_and(|first| matches!(first, b'-' | b'0'..=b'9'));
    if header == expected || (is_number && same_number(&header, &expected)) {
        return Ok(());
    }
    Err(HeaderFault::Differs)
}

/// `42.0` is 42.
fn same_number(header: &str, expected: &str) -> bool {
    // Only JSON's numbers: no sign before a positive one, no names, no hexadecimal.
    if !super::json::validate(header.as_bytes(), Limits::NONE).is_ok_and(|()| !header.starts_with('"')) {
        return false;
    }
    match (header.parse::<i128>(), expected.parse::<i128>()) {
        (Ok(header), Ok(expected)) => header == expected,
        _ => match (header.parse::<f64>(), expected.parse::<f64>()) {
            (Ok(header), Ok(expected)) => header == expected && expected.abs() <= SAFE,
            _ => false,
        },
    }
}

/// Walks a schema; `path` is where it stands, as far as it leads through `properties` alone.
struct Reader {
    found: Vec<ParamHeader>,
    path: Vec<Box<str>>,
}

impl Reader {
    fn schema(&mut self, schema: &Map<String, Value>, reachable: bool) -> Result<(), AnnotationFault> {
        for (keyword, value) in schema {
            match (keyword.as_str(), value) {
                (ANNOTATION, value) => self.annotation(schema, value, reachable)?,
                ("properties", Value::Object(properties)) => {
                    for (name, property) in properties {
                        if let Value::Object(property) = property {
                            self.path.push(name.as_str().into());
                            self.schema(property, reachable)?;
                            self.path.pop();
                        }
                    }
                }
                // Data, in which the word means nothing.
                ("const" | "default" | "enum" | "examples" | "example" | "required", _) => {}
                // Maps from names to schemas, where the word may be a name.
                (
                    "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                    Value::Object(named),
                ) => {
                    named.values().try_for_each(|schema| self.elsewhere(schema))?;
                }
                (_, other) => self.elsewhere(other)?,
            }
        }
        Ok(())
    }

    /// Schemas that `properties` alone do not lead to: nothing may be annotated there.
    fn elsewhere(&mut self, value: &Value) -> Result<(), AnnotationFault> {
        match value {
            Value::Object(schema) => self.schema(schema, false),
            Value::Array(schemas) => schemas.iter().try_for_each(|schema| self.elsewhere(schema)),
            _ => Ok(()),
        }
    }

    fn annotation(
        &mut self,
        schema: &Map<String, Value>,
        annotation: &Value,
        reachable: bool,
    ) -> Result<(), AnnotationFault> {
        let at = self.path.join(".");
        if !reachable || self.path.is_empty() {
            return Err(AnnotationFault::Unreachable { at });
        }
        let name = annotation.as_str().filter(|name| !name.is_empty() && name.bytes().all(is_token));
        let header = name.and_then(|name| HeaderName::try_from(format!("mcp-param-{name}")).ok());
        let Some(header) = header else {
            return Err(AnnotationFault::Name { at });
        };
        if !schema.get("type").is_some_and(is_primitive) {
            return Err(AnnotationFault::NotPrimitive { at });
        }
        if self.found.iter().any(|param| param.header == header) {
            return Err(AnnotationFault::Duplicate { name: header.as_str()["mcp-param-".len()..].into() });
        }
        self.found.push(ParamHeader { header, path: self.path.as_slice().into() });
        Ok(())
    }
}

/// One of the three, or one of them and null, which is never mirrored.
fn is_primitive(kind: &Value) -> bool {
    let primitive = |kind: &Value| matches!(kind.as_str(), Some("string" | "integer" | "boolean"));
    match kind {
        Value::Array(kinds) => {
            let mut kinds = kinds.iter().filter(|kind| kind.as_str() != Some("null"));
            kinds.next().is_some_and(primitive) && kinds.next().is_none()
        }
        kind => primitive(kind),
    }
}

/// RFC 9110 `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
#[path = "param_headers_tests.rs"]
mod tests;
