//! JSON-RPC messages as this server reads and writes them.
//!
//! Always: an id is a string or an integer and is echoed with its JSON type. Not here: what methods mean, and how messages travel.

use serde_json::{Map, Value, json};

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// The object that the value is; an empty one if it is none.
pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const INTERNAL_ERROR: i64 = -32603;
/// Handshake era: a resource that does not exist.
pub(crate) const RESOURCE_NOT_FOUND: i64 = -32002;
/// Handshake era, 2025-11-25: a page must be visited before the request can succeed.
pub(crate) const URL_REQUIRED: i64 = -32042;
/// Stateless era: a header is missing or says something else than the body.
pub(crate) const HEADER_MISMATCH: i64 = -32020;
/// Stateless era: the request needs a capability which it did not declare.
pub(crate) const MISSING_CAPABILITY: i64 = -32021;
/// Stateless era: the revision named is not served.
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// A JSON-RPC error to be.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

impl Fault {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Fault { code, message: message.into(), data: None }
    }

    pub(crate) fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Fault::new(INVALID_PARAMS, message)
    }

    /// The error as a response carries it.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            body["data"] = data.clone();
        }
        body
    }

    pub(crate) fn unknown_method(method: &str) -> Self {
        Fault::new(METHOD_NOT_FOUND, format!("unknown method {method:?}"))
    }
}

/// A message from the client.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request { id: Value, method: String, params: Object },
    Notification { method: String, params: Object },
    Response { id: Value, outcome: Result<Value, Fault> },
}

/// A message that is JSON but not a valid message, with its id where one could be read.
#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) id: Option<Value>,
    pub(crate) fault: Fault,
}

impl Incoming {
    pub(crate) fn read(value: Value) -> Result<Incoming, Malformed> {
        let Value::Object(mut object) = value else {
            return Err(malformed(None, "a message is a JSON object"));
        };
        let id = object.remove("id");
        let usable_id = id.clone().filter(is_id);
        if object.get("jsonrpc") != Some(&json!("2.0")) {
            return Err(malformed(usable_id, "jsonrpc must be \"2.0\""));
        }
        if id.is_some() && usable_id.is_none() {
            return Err(malformed(None, "id must be a string or an integer"));
        }
        match (object.remove("method"), usable_id) {
            (Some(Value::String(method)), id) => {
                let params = match object.remove("params") {
                    None => Object::new(),
                    Some(Value::Object(params)) => params,
                    Some(_) => return Err(malformed(id, "params must be an object")),
                };
                Ok(match id {
                    Some(id) => Incoming::Request { id, method, params },
                    None => Incoming::Notification { method, params },
                })
            }
            (Some(_), id) => Err(malformed(id, "method must be a string")),
            (None, Some(id)) => read_response(id, object),
            (None, None) => Err(malformed(None, "neither a request, a notification nor a response")),
        }
    }
}

fn read_response(id: Value, mut object: Object) -> Result<Incoming, Malformed> {
    match (object.remove("result"), object.remove("error")) {
        (Some(result), None) => Ok(Incoming::Response { id, outcome: Ok(result) }),
        (None, Some(Value::Object(error))) => {
            let code = error.get("code").and_then(Value::as_i64).unwrap_or(INTERNAL_ERROR);
            let message = error.get("message").and_then(Value::as_str).unwrap_or("unnamed error");
            Ok(Incoming::Response { id, outcome: Err(Fault::new(code, message)) })
        }
        _ => Err(malformed(Some(id), "a response has either a result or an error")),
    }
}

fn malformed(id: Option<Value>, message: &str) -> Malformed {
    Malformed { id, fault: Fault::new(INVALID_REQUEST, message) }
}

fn is_id(value: &Value) -> bool {
    value.is_string() || value.is_i64() || value.is_u64()
}

pub(crate) fn result(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An error response. Where the id could not be read it is left out, as the newest schemas have it.
pub(crate) fn error(id: Option<&Value>, fault: &Fault) -> Value {
    let mut message = json!({ "jsonrpc": "2.0", "error": fault.body() });
    if let Some(id) = id {
        message["id"] = id.clone();
    }
    message
}

pub(crate) fn notification(method: &str, params: Value) -> Value {
    let mut message = json!({ "jsonrpc": "2.0", "method": method });
    if params.as_object().is_some_and(|params| !params.is_empty()) {
        message["params"] = params;
    }
    message
}

pub(crate) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Malformed {
        Incoming::read(serde_json::from_str(text).unwrap()).expect_err("must be refused")
    }

    #[test]
    fn ids_are_strings_or_integers_and_never_null() {
        assert!(refused(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#).id.is_none());
        assert!(refused(r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#).id.is_none());
        let read = Incoming::read(json!({"jsonrpc": "2.0", "id": "7", "method": "ping"})).unwrap();
        assert!(matches!(read, Incoming::Request { id, .. } if id == json!("7")));
    }

    #[test]
    fn what_is_wrong_with_a_message_is_answered_under_its_id() {
        assert_eq!(refused(r#"{"jsonrpc":"1.0","id":4,"method":"ping"}"#).id, Some(json!(4)));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":4,"method":"ping","params":[1]}"#).id, Some(json!(4)));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":4,"result":{},"error":{}}"#).id, Some(json!(4)));
    }
}
