//! What a call tells before it is answered, as the client's revision and wishes want it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::bounds::Bounds;
use crate::names::UpstreamName;
use crate::protocol::era::Revision;
use crate::protocol::json::Object;
use crate::protocol::log_level::{LogLevel, is_severe_enough, log_params};
use crate::protocol::message::notification;
use crate::protocol::splice::Edit;
use crate::session::stream::Weight;
use crate::upstream::events::{CallEvent, SessionMessage};
use crate::upstream::rate::{LogGate, Rate};

/// A message for the client, on one line, and how much it matters.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) message: SessionMessage,
    pub(super) weight: Weight,
}

impl Told {
    fn passing(text: Bytes) -> Self {
        Told { message: SessionMessage::new(text), weight: Weight::Passing }
    }
}

/// The least severe log level that the client wants.
#[derive(Debug)]
pub(super) enum LevelWanted {
    /// Said with the request; `None` wants no logs.
    ByRequest(Option<LogLevel>),
    /// Its session's, which may change while the call is under way (S-LOG-01).
    BySession(Arc<LogGate>),
}

impl LevelWanted {
    fn now(&self) -> Option<LogLevel> {
        match self {
            LevelWanted::ByRequest(level) => *level,
            LevelWanted::BySession(gate) => Some(gate.level()),
        }
    }
}

/// Turns events of one call into messages for its client.
#[derive(Debug)]
pub(super) struct EventWriter {
    revision: Revision,
    /// The client's progress token, raw, with its JSON type (S-PROG-01).
    progress_token: Option<Bytes>,
    log_level: LevelWanted,
    last_progress: f64,
    /// Progress that came too fast; what comes next takes its place.
    held: Option<Bytes>,
    progress_rate: Rate,
    log_rate: Rate,
}

impl EventWriter {
    pub(super) fn new(
        revision: Revision,
        progress_token: Option<Bytes>,
        log_level: LevelWanted,
        bounds: &Bounds,
    ) -> Self {
        EventWriter {
            revision,
            progress_token,
            log_level,
            last_progress: f64::NEG_INFINITY,
            held: None,
            progress_rate: Rate::per_second(bounds.event_rate),
            log_rate: Rate::per_second(bounds.event_rate),
        }
    }

    /// The message on one line; `None` when the client is not to see it, or not yet.
    pub(super) fn write(&mut self, event: CallEvent) -> Option<Told> {
        match event {
            CallEvent::Message(message) => Some(Told { message, weight: Weight::Lasting }),
            CallEvent::Log(upstream, params) => {
                // In this order: what is not wanted takes nothing of the rate, and what is beyond it is not looked into.
                let wanted = self.log_level.now().is_some_and(|level| is_severe_enough(&params, level));
                (wanted && self.log_rate.take(Instant::now())).then_some(())?;
                let params = log_params(upstream.as_ref().map(UpstreamName::as_str), &params);
                Some(Told::passing(notification("notifications/message", &params).into()))
            }
            CallEvent::Progress(params) => {
                let text = self.progress(&params)?;
                if self.progress_rate.take(Instant::now()) {
                    self.held = None;
                    return Some(Told::passing(text));
                }
                self.held = Some(text);
                None
            }
        }
    }

    /// When progress that is held back may go.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().and_then(|_| self.progress_rate.next())
    }

    /// Progress that was held back: the last word on it always arrives (S-PROG-06).
    pub(super) fn release(&mut self) -> Option<Told> {
        let text = self.held.take()?;
        self.progress_rate.take(Instant::now());
        Some(Told::passing(text))
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
    use crate::protocol::json::Limits;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::default()).expect("valid")
    }

    fn progress(text: &str) -> CallEvent {
        CallEvent::Progress(Box::new(object(text)))
    }

    fn writer(revision: Revision, level: Option<LogLevel>) -> EventWriter {
        let level = LevelWanted::ByRequest(level);
        EventWriter::new(revision, Some(Bytes::from_static(b"\"t\"")), level, &Bounds::default())
    }

    #[test]
    fn s_prog_02_progress_only_grows_and_keeps_the_clients_token() {
        let mut writer = writer(Revision::V2024_11_05, None);
        let mut write = |text: &str| {
            let written = writer.write(progress(text));
            written.map(|told| String::from_utf8(told.message.text.to_vec()).expect("UTF-8"))
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

    #[tokio::test]
    async fn s_prog_06_a_flood_of_progress_is_told_at_a_bounded_rate_and_the_last_is_told() {
        let mut writer = writer(Revision::V2025_11_25, None);
        let mut told = Vec::new();
        for value in 0..10_000 {
            told.extend(writer.write(progress(&format!(r#"{{"progress":{value}}}"#))));
        }
        let rate = Bounds::default().event_rate;
        assert!((rate..2 * rate).contains(&told.len()), "{} were told at once", told.len());
        let due = writer.due().expect("one is held back");
        tokio::time::sleep_until(due).await;
        let last = writer.release().expect("it was held back").message.text.clone();
        assert!(last.ends_with(br#""progress":9999,"progressToken":"t"}}"#), "{last:?}");
        assert!(writer.due().is_none() && writer.release().is_none());
    }

    #[test]
    fn s_log_03_no_level_means_no_logs() {
        let log = || {
            CallEvent::Log(Some(UpstreamName::new("up")), Box::new(object(r#"{"level":"error","data":1}"#)))
        };
        let written = |level| writer(Revision::V2026_07_28, level).write(log());
        assert!(written(None).is_none());
        assert!(written(Some(LogLevel::Critical)).is_none());
        assert!(written(Some(LogLevel::Error)).is_some());
    }

    #[tokio::test]
    async fn s_log_05_small_talk_takes_no_error_s_place() {
        let mut writer = writer(Revision::V2025_11_25, Some(LogLevel::Warning));
        let log = |level: &str| {
            let params = object(&format!(r#"{{"level":"{level}","data":1}}"#));
            CallEvent::Log(None, Box::new(params))
        };
        assert!((0..10_000).all(|_| writer.write(log("debug")).is_none()));
        assert!(writer.write(log("error")).is_some());
    }
}
