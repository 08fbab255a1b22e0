//! Tasks as values: what both dialects say of one, and how each says it (era-bridge §7.1).
//!
//! Always: what is read from one dialect can be written in the other; a state that is final stays what it is
//! ([`Status::may_become`]). Pure. Not here: whose task it is, where it is kept (`tasks`), how it is asked for
//! (`upstream`).

use bytes::Bytes;

use super::json::{Limits, Object, quote};
use super::splice::Edit;

/// The extension of the stateless era that tasks belong to (SEP-2663).
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The `_meta` key that ties messages of the core dialect to their task (S-TASK-16).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// The `_meta` key of words for the model while a task runs (S-TASK-23).
pub const IMMEDIATE_RESPONSE: &str = "io.modelcontextprotocol/model-immediate-response";

/// Longest id of a peer's task, in bytes.
const LONGEST_ID: usize = 4096;
/// Longest words about a task, in characters.
const LONGEST_MESSAGE: usize = 1024;
/// Longest text of a time, in bytes.
const LONGEST_TIME: usize = 64;

/// How a peer speaks of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Dialect {
    /// The core feature of 2025-11-25.
    Core,
    /// The extension of 2026-07-28.
    Extension,
}

/// The state of a task, in the words of both dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Under way.
    Working,
    /// It waits for its requestor.
    InputRequired,
    /// Over, with a result.
    Completed,
    /// Over; in the core dialect also with a result that is an error of the tool (S-TASK-12), in the extension only with a
    /// JSON-RPC error (S-TX-05).
    Failed,
    /// Over, because somebody wished so.
    Cancelled,
}

impl Status {
    /// Every state.
    pub const ALL: [Status; 5] =
        [Status::Working, Status::InputRequired, Status::Completed, Status::Failed, Status::Cancelled];

    /// Its name on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            Status::Working => "working",
            Status::InputRequired => "input_required",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn of_text(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.text() == text)
    }

    /// Whether nothing follows it (S-TASK-06).
    pub const fn is_terminal(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }

    /// Whether a task in this state may be in `next` afterwards (S-TASK-06).
    pub fn may_become(self, next: Status) -> bool {
        self == next || !self.is_terminal()
    }
}

/// Whether calls of a tool become tasks (S-TASK-03).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum TaskSupport {
    /// Never; also where nothing is said.
    #[default]
    Forbidden,
    /// As the caller wishes.
    Optional,
    /// Always.
    Required,
}

impl TaskSupport {
    /// What the definition of a tool says.
    pub fn of_tool(tool: &Object) -> TaskSupport {
        let said = tool.object("execution");
        match said.as_ref().and_then(|execution| execution.text("taskSupport")).as_deref() {
            Some("optional") => TaskSupport::Optional,
            Some("required") => TaskSupport::Required,
            _ => TaskSupport::Forbidden,
        }
    }

    /// Its name on the wire.
    pub const fn text(self) -> &'static str {
        match self {
            TaskSupport::Forbidden => "forbidden",
            TaskSupport::Optional => "optional",
            TaskSupport::Required => "required",
        }
    }
}

/// What is said of a task, by whoever keeps it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskFacts {
    /// Its id on that hop.
    pub id: String,
    /// Its state.
    pub status: Status,
    /// Words for people.
    pub message: Option<String>,
    /// ISO 8601; `None` when the peer did not say.
    pub created_at: Option<String>,
    /// ISO 8601.
    pub updated_at: Option<String>,
    /// From creation, in milliseconds; `None` is without end.
    pub ttl_ms: Option<u64>,
    /// Pause between two looks, in milliseconds, where the peer names one.
    pub poll_ms: Option<u64>,
}

/// What a task object lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its task is none: {0}")]
pub struct NoTask(&'static str);

impl TaskFacts {
    /// Reads a task object: `CreateTaskResult.task` or the result of `tasks/get` in the core dialect, a flat result in the
    /// extension. Times beyond what a number holds are cut; a ttl of no use is one without end; words are cut, and what is too
    /// long for a time is none, because all of it is kept (S-TASK-20).
    pub fn of(dialect: Dialect, task: &Object) -> Result<TaskFacts, NoTask> {
        let (ttl, poll) = match dialect {
            Dialect::Core => ("ttl", "pollInterval"),
            Dialect::Extension => ("ttlMs", "pollIntervalMs"),
        };
        let text = |key: &str| task.text(key).map(|text| text.into_owned());
        let time = |key: &str| text(key).filter(|time| time.len() <= LONGEST_TIME);
        let id = text("taskId").filter(|id| !id.is_empty()).ok_or(NoTask("it has no taskId"))?;
        if id.len() > LONGEST_ID {
            return Err(NoTask("its taskId is too long"));
        }
        let status = text("status").ok_or(NoTask("it has no status"))?;
        Ok(TaskFacts {
            id,
            status: Status::of_text(&status).ok_or(NoTask("its status is unknown"))?,
            message: text("statusMessage").map(|text| text.chars().take(LONGEST_MESSAGE).collect()),
            created_at: time("createdAt"),
            updated_at: time("lastUpdatedAt"),
            ttl_ms: task.get(ttl).and_then(whole_milliseconds),
            poll_ms: task.get(poll).and_then(whole_milliseconds),
        })
    }

    /// The members of a task object, without braces (S-TASK-05, S-TX-03).
    pub fn members(&self, dialect: Dialect) -> String {
        let (ttl, poll) = match dialect {
            Dialect::Core => ("ttl", "pollInterval"),
            Dialect::Extension => ("ttlMs", "pollIntervalMs"),
        };
        let text = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(r#","{key}":{}"#, quote(value))).unwrap_or_default()
        };
        format!(
            r#""taskId":{},"status":"{}"{}{}{},"{ttl}":{}{}"#,
            quote(&self.id),
            self.status.text(),
            text("statusMessage", &self.message),
            text("createdAt", &self.created_at),
            text("lastUpdatedAt", &self.updated_at),
            self.ttl_ms.map_or_else(|| "null".to_owned(), |ttl| ttl.to_string()),
            self.poll_ms.map(|poll_ms| format!(r#","{poll}":{poll_ms}"#)).unwrap_or_default(),
        )
    }
}

/// A number of milliseconds as a peer wrote it, rounded up, at least 0; `None` for what is no number, `null` among it.
pub fn whole_milliseconds(raw: &[u8]) -> Option<u64> {
    let number: f64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
    if number.is_nan() {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from a number cuts at the ends, which is what is wanted"
    )]
    Some(number.ceil() as u64)
}

/// The value of [`RELATED_TASK`] in `_meta`.
pub fn related(id: &str) -> String {
    format!(r#"{{"taskId":{}}}"#, quote(id))
}

/// The task that a message belongs to by its `_meta`, in the words of its own hop.
pub fn related_id(params: &Object) -> Option<String> {
    let raw = params.meta(RELATED_TASK)?;
    let related = Object::parse(Bytes::copy_from_slice(raw), Limits::NONE).ok()?;
    related.text("taskId").map(|id| id.into_owned())
}

/// The same parameters, without the task of another hop.
pub fn without_related(params: Object) -> Object {
    if params.meta(RELATED_TASK).is_none() {
        return params;
    }
    let mut edit = Edit::of(&params);
    edit.remove_meta(RELATED_TASK);
    written(&edit, &params)
}

/// The same parameters, which wish for no task.
pub fn without_task(params: &Object) -> Object {
    let mut edit = Edit::of(params);
    edit.remove("task");
    written(&edit, params)
}

/// The same object, which belongs to this task (S-TASK-16).
pub fn with_related(object: &Object, id: &str) -> Object {
    let mut edit = Edit::of(object);
    edit.set_meta(RELATED_TASK, related(id).into_bytes());
    written(&edit, object)
}

fn written(edit: &Edit<'_>, before: &Object) -> Object {
    let mut text = Vec::with_capacity(before.as_bytes().len() + 96);
    edit.write(&mut text);
    // What is written of an object is one.
    Object::parse(text.into(), Limits::NONE).unwrap_or_else(|_| before.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        Object::parse(Bytes::copy_from_slice(text.as_bytes()), Limits::NONE).expect("valid")
    }

    #[test]
    fn s_task_08_what_one_dialect_says_the_other_can_say() {
        let core = r#"{"taskId":"t","status":"input_required","statusMessage":"one\ntwo","createdAt":"2025-11-25T10:30:00Z","lastUpdatedAt":"2025-11-25T10:30:01Z","ttl":60000,"pollInterval":500}"#;
        let facts = TaskFacts::of(Dialect::Core, &object(core)).expect("a task");
        assert_eq!(format!("{{{}}}", facts.members(Dialect::Core)), core);
        let extension = format!("{{{}}}", facts.members(Dialect::Extension));
        assert!(extension.contains(r#""ttlMs":60000,"pollIntervalMs":500"#), "{extension}");
        assert_eq!(TaskFacts::of(Dialect::Extension, &object(&extension)), Ok(facts));
    }

    #[test]
    fn s_tx_03_milliseconds_become_whole_and_no_end_stays_none() {
        let ttl = |raw: &str| {
            let task = format!(r#"{{"taskId":"t","status":"working","ttl":{raw}}}"#);
            TaskFacts::of(Dialect::Core, &object(&task)).expect("a task").ttl_ms
        };
        let rows = [
            ("0.2", Some(1)),
            ("1e3", Some(1000)),
            ("null", None),
            ("-5", Some(0)),
            ("1e300", Some(u64::MAX)),
        ];
        for (raw, expected) in rows {
            assert_eq!(ttl(raw), expected, "{raw}");
        }
        let facts = TaskFacts::of(Dialect::Core, &object(r#"{"taskId":"t","status":"working"}"#));
        assert!(facts.expect("a task").members(Dialect::Extension).ends_with(r#""ttlMs":null"#));
    }

    #[test]
    fn s_task_06_what_is_over_stays_as_it_is() {
        for from in Status::ALL {
            for to in Status::ALL {
                let allowed = !from.is_terminal() || from == to;
                assert_eq!(from.may_become(to), allowed, "{from:?} to {to:?}");
            }
            assert_eq!(Status::of_text(from.text()), Some(from));
        }
    }

    #[test]
    fn s_task_20_what_a_peer_says_of_a_task_is_bounded() {
        let long = "x".repeat(100_000);
        let task = |id: &str| {
            object(&format!(
                r#"{{"taskId":"{id}","status":"working","statusMessage":"{long}","createdAt":"{long}"}}"#
            ))
        };
        let facts = TaskFacts::of(Dialect::Core, &task("t")).expect("a task");
        assert_eq!((facts.message.map(|text| text.len()), facts.created_at), (Some(1024), None));
        assert!(TaskFacts::of(Dialect::Core, &task(&long)).is_err(), "an id cannot be cut");
    }

    #[test]
    fn what_is_no_task_is_told_apart() {
        for broken in ["{}", r#"{"taskId":""}"#, r#"{"taskId":"t"}"#, r#"{"taskId":"t","status":"done"}"#] {
            assert!(TaskFacts::of(Dialect::Core, &object(broken)).is_err(), "{broken}");
        }
    }

    #[test]
    fn s_task_16_a_message_names_its_task() {
        let params = object(&format!(r#"{{"_meta":{{"{RELATED_TASK}":{}}}}}"#, related("a\"b")));
        assert_eq!(related_id(&params).as_deref(), Some("a\"b"));
        assert_eq!(related_id(&object("{}")), None);
    }
}
