//! What is kept of a task, and how it is written: a small record, and its ending beside it.
//!
//! Always: what this release wrote, it reads; what a newer one wrote, it refuses ([`NotReadable`]); no text of an upstream
//! is kept beyond its bound. Not here: when something is written (`state`), where (`keeping`).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::auth::principal::Principal;
use crate::dispatch::TaskLink;
use crate::names::{ProfileName, UpstreamName};
use crate::protocol::capability::ClientCapabilities;
use crate::protocol::code::INTERNAL_ERROR;
use crate::protocol::era::Revision;
use crate::protocol::failure::{FailureRecord, Ran, Reason};
use crate::protocol::frame::{Answer, ErrorObject};
use crate::protocol::json::{Limits, Object, quote};
use crate::protocol::task::{Dialect, Status, TaskFacts};

/// Bytes of an upstream's words on the state of its task; the rest is cut.
pub(super) const MESSAGE_LIMIT: usize = 1024;
/// Bytes of progress that is kept; longer progress is not.
const PROGRESS_LIMIT: usize = 1024;
/// The form in which records are written.
const FORM: u8 = 1;

/// Where a task is kept: the time of its creation and 128 random bits, so that keys are in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey([u8; 24]);

impl TaskKey {
    /// A key nobody can guess; fails only when the system has no randomness to give.
    pub fn random(created_ms: u64) -> Result<Self, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(TaskKey::of(created_ms, u128::from_be_bytes(bits)))
    }

    /// The key of these parts.
    pub(super) fn of(created_ms: u64, handle: u128) -> Self {
        let mut key = [0; 24];
        key[..8].copy_from_slice(&created_ms.to_be_bytes());
        key[8..].copy_from_slice(&handle.to_be_bytes());
        TaskKey(key)
    }

    /// As it stands in the store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What [`TaskKey::as_bytes`] gave.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(TaskKey)
    }

    /// For operators: hexadecimal digits.
    pub fn text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What [`TaskKey::text`] wrote.
    pub fn of_text(text: &str) -> Option<Self> {
        let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digits).collect();
        TaskKey::of_bytes(&bytes?)
    }
}

/// Whether the call may have been sent (I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// Not one byte of it was.
    NotDispatched,
    /// It was about to be, or more.
    Dispatched,
}

/// What is kept of a task. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// By which its client knows it; always the same text.
    pub id: String,
    /// [`Principal::key`] of whose it is.
    pub principal: String,
    /// The endpoint it was made at; `None` is `/mcp`.
    pub endpoint: Option<String>,
    /// What its client spoke, [`Revision::text`].
    pub revision: String,
    /// What its client can be asked, as it is declared to upstreams.
    pub capabilities: String,
    /// Whose tool.
    pub upstream: String,
    /// The public name of the tool.
    pub tool: String,
    /// The trace that its call belongs to.
    pub trace_id: Option<String>,
    /// When it was made.
    pub created_ms: u64,
    /// When it last changed.
    pub updated_ms: u64,
    /// How long it is kept, from its creation.
    pub ttl_ms: u64,
    /// How often it is worth looking.
    pub poll_ms: Option<u64>,
    /// Its state, in the words of the extension: a tool's own error is a result like any other.
    pub status: Status,
    /// Whether that result is an error of the tool's.
    pub is_tool_error: bool,
    /// Words for people.
    pub message: Option<String>,
    /// Whether the call may have been sent.
    pub intent: Intent,
    /// The upstream's task behind it.
    pub link: Option<TaskLink>,
    /// The newest progress, raw.
    pub progress: Option<String>,
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReadable {
    /// A newer release wrote it.
    #[error("a record of a task has form {0}, which this release does not know")]
    Newer(u8),
    /// It is none.
    #[error("a record of a task is none: {0}")]
    Malformed(String),
}

impl Record {
    /// When it is gone.
    pub fn expires_ms(&self) -> u64 {
        self.created_ms.saturating_add(self.ttl_ms)
    }

    /// Below whom it is listed.
    pub fn owner(&self) -> String {
        owner(&self.principal, self.endpoint.as_deref())
    }

    /// Whose it is; `None` for a kind of principal that this release does not have.
    pub fn principal(&self) -> Option<Principal> {
        Principal::of_key(&self.principal)
    }

    /// The endpoint it was made at.
    pub fn profile(&self) -> Option<ProfileName> {
        self.endpoint.as_deref().map(ProfileName::new)
    }

    /// What its client spoke.
    pub fn revision(&self) -> Option<Revision> {
        Revision::parse(&self.revision)
    }

    /// What its client can be asked.
    pub fn capabilities(&self) -> ClientCapabilities {
        let raw = Object::parse(Bytes::copy_from_slice(self.capabilities.as_bytes()), Limits::NONE);
        match (raw, self.revision()) {
            (Ok(raw), Some(revision)) => ClientCapabilities::of(&raw, revision),
            _ => ClientCapabilities::none(),
        }
    }

    /// Takes words for people over, as far as they are kept; says whether they are new.
    pub fn say(&mut self, message: Option<&str>) -> bool {
        let cut = message.filter(|text| !text.is_empty()).map(|text| bounded(text).to_owned());
        let is_new = cut.is_some() && cut != self.message;
        if is_new {
            self.message = cut;
        }
        is_new
    }

    /// Takes progress over, as far as it is kept.
    pub fn progressed(&mut self, params: &[u8]) {
        if params.len() <= PROGRESS_LIMIT {
            self.progress = Some(String::from_utf8_lossy(params).into_owned());
        }
    }

    /// As it is written.
    pub fn encode(&self) -> Bytes {
        let mut text = vec![FORM];
        serde_json::to_writer(&mut text, self).expect("texts and numbers always serialise");
        text.into()
    }

    /// Reads what [`Record::encode`] wrote. Members that this release does not know are ignored.
    pub fn decode(value: &[u8]) -> Result<Record, NotReadable> {
        match value.split_first() {
            Some((&FORM, text)) => {
                serde_json::from_slice(text).map_err(|fault| NotReadable::Malformed(fault.to_string()))
            }
            Some((&form, _)) => Err(NotReadable::Newer(form)),
            None => Err(NotReadable::Malformed("it is empty".to_owned())),
        }
    }

    /// What is said of it in that dialect, in this state.
    pub fn facts(&self, dialect: Dialect, status: Status) -> TaskFacts {
        let is_failed = dialect == Dialect::Core && status == Status::Completed && self.is_tool_error;
        TaskFacts {
            id: self.id.clone(),
            // S-TASK-12: in the core dialect a tool's own error is a failure.
            status: if is_failed { Status::Failed } else { status },
            message: self.message.clone(),
            created_at: Some(iso_8601(self.created_ms)),
            updated_at: Some(iso_8601(self.updated_ms)),
            ttl_ms: Some(self.ttl_ms),
            poll_ms: self.poll_ms,
        }
    }
}

/// Below whom tasks are listed.
pub(super) fn owner(principal: &str, endpoint: Option<&str>) -> String {
    format!("{principal} {}", endpoint.unwrap_or_default())
}

/// As much of a text as is kept.
fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_LIMIT)]
}

/// How a task ended, other than by being cancelled: exactly what its call would have been answered (S-TASK-11).
#[derive(Debug, Clone)]
pub struct Ending {
    /// Result or error; an upstream's as it wrote it, with its own URIs.
    pub answer: Answer,
    /// Whose words these are; `None`: the gateway's own.
    pub upstream: Option<UpstreamName>,
}

impl Ending {
    /// The gateway's own failure, with its record as data.
    pub fn failure(text: &str, record: &FailureRecord<'_>) -> Ending {
        let object =
            format!(r#"{{"code":{INTERNAL_ERROR},"message":{},"data":{}}}"#, quote(text), record.json());
        let object = Object::parse(object.into(), Limits::NONE).unwrap_or_else(|_| Object::empty());
        Ending { answer: Answer::Error(ErrorObject { code: INTERNAL_ERROR, object }), upstream: None }
    }

    /// The gateway ended while the call was under way (F45).
    pub fn gateway_restarted(upstream: &UpstreamName, intent: Intent) -> Ending {
        let (outcome, text) = match intent {
            Intent::NotDispatched => (Ran::NotSent, "the gateway restarted before the call was sent"),
            Intent::Dispatched => (Ran::Unknown, "the gateway restarted while the call was under way"),
        };
        let retryable = intent == Intent::NotDispatched;
        let (reason, upstream) = (Reason::GatewayRestarted, Some(upstream));
        let record = FailureRecord { reason, upstream, retryable, retry_after_ms: None, outcome };
        Ending::failure(text, &record)
    }

    /// Whether it is an error of the tool's.
    pub fn is_tool_error(&self) -> bool {
        matches!(&self.answer, Answer::Result(result) if result.get("isError") == Some(b"true"))
    }

    /// The state of a task that ended so.
    pub fn status(&self) -> Status {
        match &self.answer {
            Answer::Result(_) => Status::Completed,
            Answer::Error(_) => Status::Failed,
        }
    }

    /// As it is written: form, kind, length of the upstream's name, that name, the object.
    pub fn encode(&self) -> Bytes {
        let (kind, object) = match &self.answer {
            Answer::Result(result) => (b'r', result.as_bytes()),
            Answer::Error(error) => (b'e', error.object.as_bytes()),
        };
        let upstream = self.upstream.as_ref().map_or("", UpstreamName::as_str);
        // Names of servers have at most 32 bytes.
        let length = u8::try_from(upstream.len()).unwrap_or(0);
        let upstream = if length == 0 { "" } else { upstream };
        [&[FORM, kind, length], upstream.as_bytes(), object].concat().into()
    }

    /// Reads what [`Ending::encode`] wrote.
    pub fn decode(value: &Bytes) -> Result<Ending, NotReadable> {
        let malformed = |why: &str| NotReadable::Malformed(why.to_owned());
        let (kind, length) = match value.get(..3) {
            Some(&[FORM, kind, length]) => (kind, usize::from(length)),
            Some(&[form, ..]) => return Err(NotReadable::Newer(form)),
            _ => return Err(malformed("its ending is cut")),
        };
        if value.len() < 3 + length {
            return Err(malformed("its ending is cut"));
        }
        let upstream = std::str::from_utf8(&value[3..3 + length]).map_err(|_| malformed("no name"))?;
        let object = Object::parse(value.slice(3 + length..), Limits::NONE)
            .map_err(|fault| NotReadable::Malformed(fault.to_string()))?;
        let answer = match kind {
            b'r' => Answer::Result(object),
            b'e' => {
                let code = object.get("code").and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok());
                Answer::Error(ErrorObject { code: code.unwrap_or(INTERNAL_ERROR), object })
            }
            _ => return Err(malformed("its ending is of no kind")),
        };
        Ok(Ending { answer, upstream: (length > 0).then(|| UpstreamName::new(upstream)) })
    }
}

/// A time as both dialects write it (S-TASK-08).
pub fn iso_8601(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hours, minutes) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (seconds, millis) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z")
}

/// Year, month and day of so many days after 1970-01-01, by eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record as it is made.
    pub(in crate::tasks) fn record(created_ms: u64) -> Record {
        Record {
            id: "public".to_owned(),
            principal: "local".to_owned(),
            endpoint: None,
            revision: Revision::V2026_07_28.text().to_owned(),
            capabilities: r#"{"roots":{}}"#.to_owned(),
            upstream: "one".to_owned(),
            tool: "one_slow".to_owned(),
            trace_id: None,
            created_ms,
            updated_ms: created_ms,
            ttl_ms: 60_000,
            poll_ms: Some(500),
            status: Status::Working,
            is_tool_error: false,
            message: None,
            intent: Intent::NotDispatched,
            link: None,
            progress: None,
        }
    }

    pub(in crate::tasks) fn result(text: &'static str) -> Ending {
        let object = Object::parse(Bytes::from_static(text.as_bytes()), Limits::NONE).expect("valid");
        Ending { answer: Answer::Result(object), upstream: Some(UpstreamName::new("one")) }
    }

    #[test]
    fn s_task_08_times_are_written_as_iso_8601() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (1_764_066_600_500, "2025-11-25T10:30:00.500Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ];
        for (ms, expected) in rows {
            assert_eq!(iso_8601(ms), expected);
        }
    }

    #[test]
    fn s_task_21_what_is_kept_is_read_again_and_a_newer_form_is_refused() {
        let record = record(7);
        let kept = record.encode();
        assert_eq!(Record::decode(&kept).expect("readable"), record);
        let mut newer = kept.to_vec();
        newer[0] = 2;
        assert_eq!(Record::decode(&newer), Err(NotReadable::Newer(2)));
        for broken in [&kept[..1], &kept[..20], b""] {
            assert!(matches!(Record::decode(broken), Err(NotReadable::Malformed(_))));
        }
        // What a later release adds does not make it unreadable.
        let added = String::from_utf8(kept.to_vec()).expect("UTF-8").replacen('{', r#"{"later":1,"#, 1);
        assert_eq!(Record::decode(added.as_bytes()).expect("readable"), record);
    }

    #[test]
    fn s_task_11_an_ending_is_kept_to_the_byte() {
        let text = r#"{"content":[ ],"n":1.50,"isError":true}"#;
        let ending = result(text);
        let again = Ending::decode(&ending.encode()).expect("readable");
        assert!(matches!(&again.answer, Answer::Result(object) if object.as_bytes() == text.as_bytes()));
        assert_eq!(again.upstream, ending.upstream);
        assert!(again.is_tool_error());
        assert_eq!(again.status(), Status::Completed);
        let restarted = Ending::gateway_restarted(&UpstreamName::new("one"), Intent::NotDispatched);
        let again = Ending::decode(&restarted.encode()).expect("readable");
        let Answer::Error(error) = &again.answer else { panic!("an error") };
        assert_eq!((error.code, again.status(), again.upstream), (INTERNAL_ERROR, Status::Failed, None));
        let data = error.object.object("data").expect("the record");
        assert_eq!(data.text("reason").as_deref(), Some("gateway_restarted"));
        assert_eq!(data.text("outcome").as_deref(), Some("not_sent"));
        for broken in [&b""[..], b"\x01r", b"\x01r\x05on", b"\x01x\0{}", b"\x02r\0{}", b"\x01r\0{"] {
            assert!(Ending::decode(&Bytes::copy_from_slice(broken)).is_err());
        }
    }

    #[test]
    fn s_task_20_words_of_an_upstream_are_bounded_and_cut_between_characters() {
        let mut record = record(0);
        assert!(record.say(Some(&"é".repeat(MESSAGE_LIMIT))));
        let kept = record.message.clone().expect("kept");
        assert_eq!(kept.len(), MESSAGE_LIMIT);
        assert!(!record.say(Some(&kept)) && !record.say(None) && !record.say(Some("")));
        record.progressed(&[b' '; PROGRESS_LIMIT + 1]);
        assert_eq!(record.progress, None);
    }

    #[test]
    fn s_task_12_a_tools_own_error_is_a_failure_in_the_core_dialect_alone() {
        let mut record = record(0);
        record.is_tool_error = true;
        assert_eq!(record.facts(Dialect::Core, Status::Completed).status, Status::Failed);
        assert_eq!(record.facts(Dialect::Extension, Status::Completed).status, Status::Completed);
        assert_eq!(record.facts(Dialect::Core, Status::Cancelled).status, Status::Cancelled);
    }

    #[test]
    fn keys_are_in_the_order_of_creation_and_go_through_text() {
        let (first, second) = (TaskKey::of(1, u128::MAX), TaskKey::of(2, 0));
        assert!(first.as_bytes() < second.as_bytes());
        assert_eq!(TaskKey::of_text(&first.text()), Some(first));
        for broken in ["", "0", "zz", "00ff", "é0"] {
            assert_eq!(TaskKey::of_text(broken), None, "{broken}");
        }
    }
}
