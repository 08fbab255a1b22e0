//! Which era does this upstream speak? The judgement alone; asking is `connect`'s business (S-HTTPC-11, S-STDIO-05).

use std::time::Duration;

use tokio::time::Instant;

use super::identity::{MARK_KEY, is_own};
use crate::protocol::caching::Hints;
use crate::protocol::capability::ServerCapabilities;
use crate::protocol::code::{HEADER_MISMATCH, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION};
use crate::protocol::era::{Era, Revision};
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object, elements, string};

/// What an upstream said of itself when it was opened.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The revision in force on this connection.
    pub revision: Revision,
    /// What it offers.
    pub capabilities: ServerCapabilities,
    /// Its words for the model.
    pub instructions: Option<String>,
    /// Its `serverInfo` as it wrote it, for people.
    pub server: Option<String>,
    /// How long this is good, where its era has words for that.
    pub lasting: Option<Lasting>,
}

/// What an upstream says of how long its introduction is good, and since when.
#[derive(Debug, Clone, Copy)]
pub struct Lasting {
    /// When it came.
    pub received: Instant,
    /// What it said.
    pub hints: Hints,
}

impl Lasting {
    /// How long it is still good; `None` if nothing was said.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let ttl = self.hints.ttl?;
        Some(ttl.saturating_sub(now.saturating_duration_since(self.received)))
    }
}

/// What the answer to `server/discover` means.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once per connection")]
pub(super) enum Verdict {
    /// A stateless server, ready.
    Stateless(Facts),
    /// A stateless server that wants this revision named instead.
    Retry(Revision),
    /// A stateless server of revisions that the gateway does not speak.
    NoCommonRevision,
    /// A server of the handshake era.
    Handshake,
    /// The gateway that asked.
    Itself,
}

/// Judges an answer; `http_status` is `None` on a pipe.
pub(super) fn judge(answer: &Answer, http_status: Option<u16>, asked: Revision) -> Verdict {
    match answer {
        Answer::Result(result) => discovered(result, asked),
        Answer::Error(error) => refused(error, http_status, asked),
    }
}

fn discovered(result: &Object, asked: Revision) -> Verdict {
    let Some(supported) = result.share("supportedVersions").and_then(|raw| elements(&raw, Limits::NONE).ok())
    else {
        // Some handshake servers answer 200 with an empty object to anything.
        return Verdict::Handshake;
    };
    let names: Vec<_> = supported.iter().filter_map(|raw| string(raw)).collect();
    let Some(revision) = best_stateless(names.iter().map(AsRef::as_ref)) else {
        return if names.is_empty() { Verdict::Handshake } else { handshake_or_nothing(&names) };
    };
    let revision = if names.iter().any(|name| *name == asked.text()) { asked } else { revision };
    // Before its publication the revision had `serverInfo` in the body (S-DISC-03).
    let server = result.meta("io.modelcontextprotocol/serverInfo").or_else(|| result.get("serverInfo"));
    Verdict::Stateless(Facts {
        revision,
        capabilities: ServerCapabilities::from_raw(result.share("capabilities")),
        instructions: result.text("instructions").map(|text| text.into_owned()),
        server: server.map(|raw| String::from_utf8_lossy(raw).into_owned()),
        lasting: Some(Lasting { received: Instant::now(), hints: Hints::of(result) }),
    })
}

fn refused(error: &ErrorObject, http_status: Option<u16>, asked: Revision) -> Verdict {
    match error.code {
        _ if is_itself(error) => Verdict::Itself,
        UNSUPPORTED_VERSION => {
            let supported = error.object.object("data").and_then(|data| data.share("supported"));
            let supported = supported.and_then(|raw| elements(&raw, Limits::NONE).ok()).unwrap_or_default();
            let names: Vec<_> = supported.iter().filter_map(|raw| string(raw)).collect();
            match best_stateless(names.iter().map(AsRef::as_ref)) {
                Some(revision) => Verdict::Retry(revision),
                None => handshake_or_nothing(&names),
            }
        }
        HEADER_MISMATCH | MISSING_CAPABILITY => Verdict::Retry(asked),
        // A stateless server without discovery: unusual, but not a reason to fall back.
        METHOD_NOT_FOUND if http_status == Some(404) => Verdict::Stateless(Facts {
            revision: asked,
            capabilities: everything(),
            instructions: None,
            server: None,
            lasting: None,
        }),
        _ => Verdict::Handshake,
    }
}

/// Whether the gateway refuses itself: it gives back the mark that it knew.
pub(super) fn is_itself(error: &ErrorObject) -> bool {
    let data = error.object.object("data");
    data.and_then(|data| data.text(MARK_KEY).map(|mark| is_own(&mark))).unwrap_or(false)
}

fn everything() -> ServerCapabilities {
    ServerCapabilities::from_raw(Some(bytes::Bytes::from_static(
        br#"{"tools":{},"prompts":{},"resources":{},"completions":{}}"#,
    )))
}

fn handshake_or_nothing(names: &[std::borrow::Cow<'_, str>]) -> Verdict {
    let handshake =
        names.iter().filter_map(|name| Revision::parse(name)).any(|known| known.era() == Era::Handshake);
    if handshake { Verdict::Handshake } else { Verdict::NoCommonRevision }
}

fn best_stateless<'a>(names: impl Iterator<Item = &'a str>) -> Option<Revision> {
    names.filter_map(Revision::parse).filter(|revision| revision.era() == Era::Stateless).max()
}

/// Reads the result of `initialize` (S-LIFE-02).
pub(super) fn initialized(result: &Object) -> Result<Facts, String> {
    let version = result.text("protocolVersion").unwrap_or_default();
    let revision = Revision::parse(&version)
        .filter(|revision| revision.era() == Era::Handshake)
        .ok_or_else(|| format!("it answered initialize with protocol version {version:?}"))?;
    Ok(Facts {
        revision,
        capabilities: ServerCapabilities::from_raw(result.share("capabilities")),
        instructions: result.text("instructions").map(|text| text.into_owned()),
        server: result.get("serverInfo").map(|raw| String::from_utf8_lossy(raw).into_owned()),
        lasting: None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::era::NEWEST_STATELESS;
    use crate::protocol::frame::Frame;

    fn verdict(payload: &str, status: Option<u16>) -> String {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,{payload}}}"#);
        let Ok(Frame::Response(response)) = Frame::parse(Bytes::from(text), Limits::default()) else {
            panic!("a response");
        };
        match judge(&response.answer, status, NEWEST_STATELESS) {
            Verdict::Stateless(facts) => format!("stateless {}", facts.revision),
            Verdict::Retry(revision) => format!("retry {revision}"),
            Verdict::NoCommonRevision => "nothing in common".into(),
            Verdict::Handshake => "handshake".into(),
            Verdict::Itself => "itself".into(),
        }
    }

    #[test]
    fn s_httpc_11_each_answer_to_the_probe_has_one_meaning() {
        let rows = [
            (
                r#""result":{"supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{}}"#,
                None,
                "stateless 2026-07-28",
            ),
            (r#""result":{}"#, Some(200), "handshake"),
            (r#""result":{"supportedVersions":["2031-01-01"]}"#, None, "nothing in common"),
            (r#""result":{"supportedVersions":["2025-11-25"]}"#, None, "handshake"),
            (
                r#""error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}"#,
                Some(400),
                "retry 2026-07-28",
            ),
            (
                r#""error":{"code":-32022,"message":"","data":{"supported":["2030-01-01"]}}"#,
                Some(400),
                "nothing in common",
            ),
            (r#""error":{"code":-32020,"message":""}"#, Some(400), "retry 2026-07-28"),
            (r#""error":{"code":-32601,"message":""}"#, Some(404), "stateless 2026-07-28"),
            (r#""error":{"code":-32601,"message":""}"#, Some(200), "handshake"),
            (r#""error":{"code":-32601,"message":""}"#, None, "handshake"),
            (r#""error":{"code":-32000,"message":"not initialized"}"#, Some(400), "handshake"),
            (r#""error":{"code":-32001,"message":"session not found"}"#, Some(404), "handshake"),
        ];
        for (payload, status, expected) in rows {
            assert_eq!(verdict(payload, status), expected, "{payload}");
        }
    }
}
