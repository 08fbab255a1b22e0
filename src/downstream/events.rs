//! What a call tells before it is answered, as the client's revision and wishes want it.

use bytes::Bytes;

use crate::protocol::era::Revision;
use crate::protocol::json::Object;
use crate::protocol::log_level::{LogLevel, log_params};
use crate::protocol::message::notification;
use crate::protocol::splice::Edit;
use crate::upstream::call::CallEvent;

/// Turns events of one call into messages for its client.
#[derive(Debug)]
pub(super) struct EventWriter {
    pub(super) revision: Revision,
    /// The client's progress token, raw, with its JSON type (S-PROG-01).
    pub(super) progress_token: Option<Bytes>,
    /// The least severe level the client wants; `None` wants no logs.
    pub(super) log_level: Option<LogLevel>,
    pub(super) last_progress: f64,
}

impl EventWriter {
    pub(super) fn new(
        revision: Revision,
        progress_token: Option<Bytes>,
        log_level: Option<LogLevel>,
    ) -> Self {
        EventWriter { revision, progress_token, log_level, last_progress: f64::NEG_INFINITY }
    }

    /// The message on one line; `None` when the client is not to see it.
    pub(super) fn write(&mut self, event: CallEvent) -> Option<Bytes> {
        match event {
            CallEvent::Message(text) => Some(text),
            CallEvent::Log(upstream, params) => {
                let params = log_params(upstream.as_str(), &params, self.log_level?)?;
                Some(notification("notifications/message", &params).into())
            }
            CallEvent::Progress(params) => self.progress(&params),
        }
    }

    /// Values only ever grow (S-PROG-02); `message` exists since 2025-03-26.
    fn progress(&mut self, params: &Object) -> Option<Bytes> {
        let token = self.progress_token.clone()?;
        let value: f64 = std::str::from_utf8(params.get("progress")?).ok()?.parse().ok()?;
        if value <= self.last_progress {
            return None;
        }
        self.last_progress = value;
        let mut edit = Edit::of(params);
        edit.set("progressToken", token.to_vec());
        if self.revision < Revision::V2025_03_26 {
            edit.remove("message");
        }
        let mut text = Vec::with_capacity(params.as_bytes().len() + 32);
        edit.write(&mut text);
        Some(notification("notifications/progress", &text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::UpstreamName;
    use crate::protocol::json::Limits;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
    }

    #[test]
    fn s_prog_02_progress_only_grows_and_keeps_the_clients_token() {
        let mut writer = EventWriter::new(Revision::V2024_11_05, Some(Bytes::from_static(b"\"t\"")), None);
        let mut write = |text: &str| {
            let written = writer.write(CallEvent::Progress(Box::new(object(text))));
            written.map(|text| String::from_utf8(text.to_vec()).expect("UTF-8"))
        };
        assert_eq!(
            write(r#"{"progressToken":9,"progress":0.5,"total":1.0,"message":"m"}"#).as_deref(),
            Some(concat!(
                r#"{"jsonrpc":"2.0","method":"notifications/progress","#,
                r#""params":{"progressToken":"t","progress":0.5,"total":1.0}}"#
            ))
        );
        assert_eq!(write(r#"{"progressToken":9,"progress":0.5}"#), None);
        assert_eq!(write(r#"{"progressToken":9,"progress":0.25}"#), None);
        assert!(write(r#"{"progressToken":9,"progress":2}"#).is_some());
    }

    #[test]
    fn s_log_03_no_level_means_no_logs() {
        let log =
            || CallEvent::Log(UpstreamName::new("up"), Box::new(object(r#"{"level":"error","data":1}"#)));
        assert!(EventWriter::new(Revision::V2026_07_28, None, None).write(log()).is_none());
        assert!(
            EventWriter::new(Revision::V2026_07_28, None, Some(LogLevel::Critical)).write(log()).is_none()
        );
        assert!(EventWriter::new(Revision::V2026_07_28, None, Some(LogLevel::Error)).write(log()).is_some());
    }
}
