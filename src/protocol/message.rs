//! Messages written down: envelopes around raw payloads, each on one line.

use super::frame::RequestId;
use super::json::quote;

/// A notification; empty `params` are left out.
pub fn notification(method: &str, params: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(params.len() + 64);
    text.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    text.extend_from_slice(quote(method).as_bytes());
    if !params.is_empty() {
        text.extend_from_slice(br#","params":"#);
        text.extend_from_slice(params);
    }
    text.push(b'}');
    one_line(&mut text);
    text
}

/// A request under a number of the gateway's own.
pub fn request(id: u64, method: &str, params: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(params.len() + 96);
    text.extend_from_slice(
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{},"params":"#, quote(method)).as_bytes(),
    );
    text.extend_from_slice(params);
    text.push(b'}');
    one_line(&mut text);
    text
}

/// The response to `id` with this raw result object.
pub fn result(id: &RequestId, object: &[u8]) -> Vec<u8> {
    response(id, b"result", object)
}

/// The response to `id` with this raw error object.
pub fn error(id: &RequestId, object: &[u8]) -> Vec<u8> {
    response(id, b"error", object)
}

fn response(id: &RequestId, kind: &[u8], object: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(object.len() + 64);
    text.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    text.extend_from_slice(id.as_bytes());
    text.extend_from_slice(b",\"");
    text.extend_from_slice(kind);
    text.extend_from_slice(b"\":");
    text.extend_from_slice(object);
    text.push(b'}');
    one_line(&mut text);
    text
}

/// Line breaks may stand between the tokens of valid JSON, and nowhere else: spaces mean the same.
pub fn one_line(text: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', &text[from..]) {
        text[from + at] = b' ';
        from += at + 1;
    }
}
