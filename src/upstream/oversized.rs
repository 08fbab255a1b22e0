//! Whom a message concerns that is too large to be read, from the little that was kept of its beginning (F37).
//!
//! Always: only what is plain is believed; a message that keeps its id to its end names nobody. Not here: what becomes of
//! the call (`incoming`, `http_streams`, `stateless`).

/// What the beginning of a message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Oversized {
    /// It answers this call.
    AnswerTo(u64),
    /// It is a request or a notification, so nobody's answer.
    NoAnswer,
    /// It does not tell.
    Unknown,
}

impl Oversized {
    /// Reads the members at the top of a message as far as they are simple ones.
    pub(super) fn of(start: &[u8]) -> Oversized {
        let mut id = None;
        let Some(mut rest) = start.trim_ascii_start().strip_prefix(b"{") else { return Oversized::Unknown };
        while let Some((key, after)) = member(rest) {
            match key {
                b"method" | b"params" => return Oversized::NoAnswer,
                b"result" | b"error" => return id.map_or(Oversized::Unknown, Oversized::AnswerTo),
                _ => {}
            }
            let Some((value, after)) = scalar(after) else { break };
            if key == b"id" {
                id = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            }
            let Some(next) = after.trim_ascii_start().strip_prefix(b",") else { break };
            rest = next;
        }
        Oversized::Unknown
    }
}

/// A key, and what stands behind its colon.
fn member(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, after) = string(text.trim_ascii_start())?;
    Some((key, after.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start()))
}

/// A value that is neither array nor object, as it is written, and what follows it.
fn scalar(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.first() == Some(&b'"') {
        let (_, after) = string(text)?;
        return Some((&text[..text.len() - after.len()], after));
    }
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte))?;
    (end > 0).then(|| text.split_at(end))
}

/// What stands between quotes, as it is written, and what follows.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some((&text[..at], &text[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f37_the_beginning_of_a_message_tells_whom_it_answers_where_it_does() {
        use Oversized::{AnswerTo, NoAnswer, Unknown};
        for (start, expected) in [
            (r#"{"jsonrpc":"2.0","id":17,"result":{"content":[{"type"#, AnswerTo(17)),
            (r#" { "id" : 3 , "jsonrpc" : "2.0" , "error" : {"#, AnswerTo(3)),
            (r#"{"id":3,"x\"":"\\","result":""#, AnswerTo(3)),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params""#, NoAnswer),
            (r#"{"id":3,"jsonrpc":"2.0","method":"sampling/createMessage""#, NoAnswer),
            (r#"{"params":{"data":""#, NoAnswer),
            (r#"{"jsonrpc":"2.0","result":{"content":["#, Unknown),
            (r#"{"jsonrpc":"2.0","id":"3","result":{"#, Unknown),
            (r#"{"jsonrpc":"2.0","id":-3,"result":{"#, Unknown),
            (r#"{"jsonrpc":"2.0","id":3"#, Unknown),
            (r#"{"jsonrpc":"2.0","id":3,"res"#, Unknown),
            (r#"{"_meta":{},"id":3,"result":1"#, Unknown),
            (r#"[{"id":3,"result":1"#, Unknown),
            (r#"{"\"#, Unknown),
            ("", Unknown),
            ("xxxxxxxx", Unknown),
        ] {
            assert_eq!(Oversized::of(start.as_bytes()), expected, "{start}");
        }
    }
}
